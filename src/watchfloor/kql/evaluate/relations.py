"""Relations over rows in memory: every node of ``ir`` as a plain Python function from rows to rows.

A row is a dict from column number to value; a step may leave columns in it that the relation no longer has. Rows keep
the order in which they come wherever the language leaves it open. A plan is compiled once and runs over as many sets of
tables as wanted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from watchfloor.kql import ir
from watchfloor.kql.evaluate.scalars import Value, compile_scalar, key_of
from watchfloor.kql.evaluate.windows import window_values
from watchfloor.kql.functions.convert import convert_element, json_text
from watchfloor.kql.routines import Budget, registry
from watchfloor.kql.routines.common import Refused

Row = dict[int, Any]
Tables = Mapping[str, Iterable[Mapping[str, Any]]]

MOST_ROWS: Final = 5_000_000
"""As many rows as a step may give."""


@dataclass
class Run:
    """One execution of a plan."""

    tables: Tables
    budget: Budget
    shared: dict[int, list[Row]] = field(default_factory=dict)


Step = Callable[[Run], list[Row]]
Shape = Callable[[Run, list[Row]], list[Row]]


def rows(plan: ir.Plan, tables: Tables, budget: Budget | None = None) -> list[tuple[Any, ...]]:
    """The result of ``plan`` over ``tables``: rows by column name, values as in ``values.py``."""
    return compile_plan(plan)(tables, budget)


def compile_plan(plan: ir.Plan) -> Callable[[Tables, Budget | None], list[tuple[Any, ...]]]:
    """``plan`` as a function of the tables and a budget. Raises ``OutOfTime`` when the budget
    is used up, ``Refused`` where there are too many rows."""
    step = _Compiler().relation(plan.relation)
    numbers = [column.number for _, column in plan.columns]

    def run(tables: Tables, budget: Budget | None = None) -> list[tuple[Any, ...]]:
        found = step(Run(tables, budget or Budget()))
        return [tuple(row[number] for number in numbers) for row in found]

    return run


def _empty(column: ir.BoundColumn) -> Any:
    return "" if column.type == "string" else None


def _columns(relation: ir.Relation) -> tuple[ir.BoundColumn, ...]:
    """The columns of ``relation``, hidden ones too."""
    match relation:
        case ir.Scan():
            return tuple(column for column, _ in relation.columns)
        case ir.Values() | ir.Union() | ir.Routine():
            return relation.columns
        case ir.Numbers():
            return (relation.column,)
        case ir.Compute():
            return (*_columns(relation.input), *(column for column, _ in relation.columns))
        case ir.Group():
            extremes = (column for _, _, pairs in relation.arg_extremes for column, _ in pairs)
            return (*relation.keys, *(column for column, _ in relation.aggregates), *extremes)
        case ir.Join():
            sides = [] if relation.kind in _RIGHT_ONLY else [relation.left]
            sides += [] if relation.kind in _LEFT_ONLY else [relation.right]
            return (*(c for side in sides for c in _columns(side)), *(new for new, _ in relation.filled))
        case ir.Expand():
            index = () if relation.index is None else (relation.index,)
            return (*_columns(relation.input), *(column for column, _ in relation.items), *index)
        case ir.Numbered():
            return (*_columns(relation.input), relation.column)
        case ir.Use():
            return tuple(new for new, _ in relation.columns)
    return _columns(relation.input)


_LEFT_ONLY: Final = frozenset({"leftsemi", "leftanti"})
_RIGHT_ONLY: Final = frozenset({"rightsemi", "rightanti"})
_NO_ROW: Final[Row] = {}


class _Compiler:
    """Makes steps out of relations. Numbers below zero are columns of its own: what extras of scalars need."""

    def __init__(self) -> None:
        self._next = 0
        self._shared: dict[int, Step] = {}

    def relation(self, relation: ir.Relation) -> Step:
        """``relation`` as a function of a run."""
        match relation:
            case ir.Scan():
                return self._scan(relation)
            case ir.Values():
                return self._values(relation)
            case ir.Numbers():
                return self._numbers(relation)
            case ir.Join():
                return self._join(relation)
            case ir.Union():
                return self._union(relation)
            case ir.Use():
                return self._use(relation)
            case ir.Routine():
                return self._routine(relation)
        before, shape = self.relation(relation.input), self._shape(relation)
        return lambda run: shape(run, before(run))

    def _shape(self, relation: ir.Relation) -> Shape:
        match relation:
            case ir.Filter():
                return self._filter((relation.condition,))
            case ir.Compute():
                return self._compute(relation)
            case ir.Group():
                return self._group(relation)
            case ir.Order():
                keys = relation.keys
                return lambda run, rows: in_order(rows, keys)
            case ir.Limit():
                return _limit(relation)
            case ir.Sample():
                most = relation.rows
                return lambda run, rows: random.sample(rows, min(most, len(rows)))
            case ir.Expand():
                return self._expand(relation)
            case ir.Numbered():
                number = relation.column.number
                return lambda run, rows: [{**row, number: place} for place, row in enumerate(rows)]
        return lambda run, rows: rows

    # -- scalars ------------------------------------------------------------------------------------------------------

    def _scalars(self, scalars: Sequence[ir.Scalar]) -> tuple[list[Value], Shape]:
        """``scalars`` compiled, and what has to be done to rows before they can be used."""
        extras: dict[int, int] = {}
        shapes: list[Shape] = []
        for node in _needy(scalars):
            self._next -= 1
            shapes.append(self._extra(node, self._next, extras))
            extras[id(node)] = self._next

        def prepare(run: Run, rows: list[Row]) -> list[Row]:
            for shape in shapes:
                rows = shape(run, rows)
            return rows

        return [compile_scalar(scalar, extras) for scalar in scalars], prepare

    def _extra(self, node: ir.Scalar, number: int, extras: Mapping[int, int]) -> Shape:
        """The shape that puts the value of ``node`` into each row as ``number``."""
        if isinstance(node, ir.Window):
            return _window(node, number, extras)
        assert isinstance(node, ir.InRelation | ir.FirstOf)
        step, column = self.relation(node.relation), node.column.number
        key = str.lower if isinstance(node, ir.InRelation) and node.is_folded else key_of(node.column.type)

        def extra(run: Run, rows: list[Row]) -> list[Row]:
            found = step(run)
            value: Any
            if isinstance(node, ir.InRelation):
                value = frozenset(key(row[column]) for row in found if row[column] is not None)
            else:
                value = found[0][column] if found else _empty(node.column)
            return [{**row, number: value} for row in rows]

        return extra

    # -- sources ------------------------------------------------------------------------------------------------------

    def _scan(self, scan: ir.Scan) -> Step:
        name = scan.table.name
        columns = [(column.number, source, _empty(column)) for column, source in scan.columns]
        keep = self._filter(scan.filters)

        def step(run: Run) -> list[Row]:
            found: list[Row] = []
            for given in run.tables[name]:
                run.budget.check()
                row: Row = {}
                for number, source, empty in columns:
                    value = given.get(source)
                    row[number] = empty if value is None else value
                found.append(row)
            return keep(run, found)

        return step

    def _values(self, values: ir.Values) -> Step:
        numbers = [column.number for column in values.columns]
        return lambda run: [dict(zip(numbers, row, strict=True)) for row in values.rows]

    def _numbers(self, numbers: ir.Numbers) -> Step:
        (start, stop, by), prepare = self._scalars((numbers.start, numbers.stop, numbers.step))
        number = numbers.column.number

        def step(run: Run) -> list[Row]:
            (row,) = prepare(run, [_NO_ROW])
            value, last, distance = start(row), stop(row), by(row)
            found: list[Row] = []
            if value is None or last is None or not distance:
                return found
            first = value
            while value <= last if distance > 0 else value >= last:
                _check(run, found)
                found.append({number: value})
                value = first + len(found) * distance
            return found

        return step

    def _use(self, use: ir.Use) -> Step:
        key, numbers = use.shared.key, [(new.number, old.number) for new, old in use.columns]
        if key not in self._shared:
            self._shared[key] = self.relation(use.shared.relation)
        source = self._shared[key]

        def step(run: Run) -> list[Row]:
            if key not in run.shared:
                run.shared[key] = source(run)
            return [{new: row[old] for new, old in numbers} for row in run.shared[key]]

        return step

    def _routine(self, routine: ir.Routine) -> Step:
        inputs = [self.relation(relation) for relation in routine.inputs]
        takes = [[column.number for column in columns] for columns in routine.takes]
        gives = [column.number for column in routine.columns]

        def step(run: Run) -> list[Row]:
            tables = [source(run) for source in inputs]
            if routine.order:
                tables[0] = in_order(tables[0], routine.order)
            cells = [
                [[row[number] for number in numbers] for row in rows]
                for numbers, rows in zip(takes, tables, strict=True)
            ]
            found = registry()[routine.name](routine.spec, cells, run.budget)
            return [dict(zip(gives, row, strict=True)) for row in found]

        return step

    # -- shapes -------------------------------------------------------------------------------------------------------

    def _filter(self, conditions: Sequence[ir.Scalar]) -> Shape:
        tests, prepare = self._scalars(conditions)

        def shape(run: Run, rows: list[Row]) -> list[Row]:
            kept = prepare(run, rows)
            for holds in tests:
                kept = [row for row in kept if holds(row)]
            run.budget.check()
            return kept

        return shape

    def _compute(self, compute: ir.Compute) -> Shape:
        values, prepare = self._scalars([scalar for _, scalar in compute.columns])
        columns = list(zip((column.number for column, _ in compute.columns), values, strict=True))

        def shape(run: Run, rows: list[Row]) -> list[Row]:
            found: list[Row] = []
            for row in prepare(run, rows):
                run.budget.check()
                new = dict(row)
                for number, value in columns:
                    new[number] = value(row)
                found.append(new)
            return found

        return shape

    def _group(self, group: ir.Group) -> Shape:
        scalars = [s for _, call in group.aggregates for s in _scalars_of(call)]
        scalars += [s for _, by, pairs in group.arg_extremes for s in (by, *(source for _, source in pairs))]
        values, prepare = self._scalars(scalars)
        compiled = iter(values)
        calls = [_aggregated(column, call, compiled) for column, call in group.aggregates]
        extremes = [_extreme(is_max, pairs, compiled) for is_max, _, pairs in group.arg_extremes]
        keys = [column.number for column in group.keys]

        def shape(run: Run, rows: list[Row]) -> list[Row]:
            groups = grouped(prepare(run, rows), group.keys)
            if not keys and not groups:
                groups = [[]]
            found: list[Row] = []
            for members in groups:
                run.budget.check()
                row = {number: members[0][number] for number in keys}
                for fill in (*calls, *extremes):
                    fill(row, members)
                found.append(row)
            return found

        return shape

    def _join(self, join: ir.Join) -> Step:
        left, right = self.relation(join.left), self.relation(join.right)
        left_keys, prepare_left = self._scalars([scalar for scalar, _ in join.on])
        right_keys, prepare_right = self._scalars([scalar for _, scalar in join.on])
        left_key, right_key = (
            _joined_key(keys, [pair[side].type for pair in join.on])
            for side, keys in enumerate((left_keys, right_keys))
        )
        joined = _JOINS[join.kind]
        no_left = {column.number: _empty(column) for column in _columns(join.left)}
        no_right = {column.number: _empty(column) for column in _columns(join.right)}
        filled = [(new.number, old.number, _empty(new)) for new, old in join.filled]

        def step(run: Run) -> list[Row]:
            left_rows = [(left_key(row), row) for row in prepare_left(run, left(run))]
            right_rows = [(right_key(row), row) for row in prepare_right(run, right(run))]
            found: list[Row] = []
            for row in joined(left_rows, right_rows, no_left, no_right):
                _check(run, found)
                for new, old, empty in filled:
                    row[new] = empty if row[old] is None else row[old]
                found.append(row)
            return found

        return step

    def _union(self, union: ir.Union) -> Step:
        branches = [
            (self.relation(relation), *self._scalars(values))
            for relation, values in zip(union.inputs, union.values, strict=True)
        ]
        numbers = [column.number for column in union.columns]

        def step(run: Run) -> list[Row]:
            found: list[Row] = []
            for source, values, prepare in branches:
                for row in prepare(run, source(run)):
                    _check(run, found)
                    found.append({number: value(row) for number, value in zip(numbers, values, strict=True)})
            return found

        return step

    def _expand(self, expand: ir.Expand) -> Shape:
        sources, prepare = self._scalars([scalar for _, scalar in expand.items])
        items = [(column, source) for (column, _), source in zip(expand.items, sources, strict=True)]
        index = None if expand.index is None else expand.index.number

        def shape(run: Run, rows: list[Row]) -> list[Row]:
            found: list[Row] = []
            for row in prepare(run, rows):
                lists = [elements(source(row), expand.bag_as_array) for _, source in items]
                longest = max(len(each) for each in lists)
                for place in range(longest if expand.limit is None else min(longest, expand.limit)):
                    _check(run, found)
                    new = dict(row)
                    for (column, _), each in zip(items, lists, strict=True):
                        new[column.number] = _element(each[place] if place < len(each) else None, column)
                    if index is not None:
                        new[index] = place
                    found.append(new)
            return found

        return shape


def _check(run: Run, found: list[Row]) -> None:
    run.budget.check()
    if len(found) >= MOST_ROWS:
        raise Refused(f"A step of the query gives more than {MOST_ROWS} rows.")


def _needy(scalars: Iterable[ir.Scalar]) -> list[ir.Scalar]:
    """The parts of ``scalars`` that need more than a row, inner ones first."""
    found: dict[int, ir.Scalar] = {}
    seen: set[int] = set()

    def visit(node: ir.Scalar) -> None:
        if id(node) in seen:
            return
        seen.add(id(node))
        for operand in ir.operands(node):
            visit(operand)
        if isinstance(node, ir.Window | ir.InRelation | ir.FirstOf):
            found[id(node)] = node

    for scalar in scalars:
        visit(scalar)
    return list(found.values())


def _window(node: ir.Window, number: int, extras: Mapping[int, int]) -> Shape:
    arguments = [compile_scalar(argument, extras) for argument in node.arguments]
    restart = None if node.restart is None else compile_scalar(node.restart, extras)
    empty = "" if node.type == "string" else None

    def shape(run: Run, rows: list[Row]) -> list[Row]:
        run.budget.check()
        found = [dict(row) for row in rows]
        for members in grouped(found, node.within):
            values = window_values(node.function, members, arguments, restart, empty)
            for row, value in zip(members, values, strict=True):
                row[number] = value
        return found

    return shape


# -- groups and orders ------------------------------------------------------------------------------------------------


def grouped(rows: Iterable[Row], keys: Sequence[ir.BoundColumn]) -> list[list[Row]]:
    """The rows by their values of ``keys``, groups in the order of their first rows. No rows: no groups."""
    makers = [(column.number, key_of(column.type)) for column in keys]
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(make(row[number]) for number, make in makers), []).append(row)
    return list(found.values())


def in_order(rows: list[Row], keys: Sequence[ir.SortKey]) -> list[Row]:
    """The rows sorted, stably. NaN stands with the nulls, on their inner side."""
    for key in reversed(keys):
        number = key.column.number
        nulls: list[Row] = []
        nans: list[Row] = []
        others: list[Row] = []
        for row in rows:
            value = row[number]
            (nulls if value is None else nans if value != value else others).append(row)
        if key.column.type == "dynamic":
            others.sort(key=lambda row: json_text(row[number]), reverse=key.is_descending)
        else:
            others.sort(key=lambda row: row[number], reverse=key.is_descending)
        rows = [*nulls, *nans, *others] if key.nulls_first else [*others, *nans, *nulls]
    return rows


def _limit(limit: ir.Limit) -> Shape:
    most = limit.rows

    def shape(run: Run, rows: list[Row]) -> list[Row]:
        if not limit.within:
            return rows[:most]
        return [row for members in grouped(rows, limit.within) for row in members[:most]]

    return shape


# -- aggregates -------------------------------------------------------------------------------------------------------

Fill = Callable[[Row, list[Row]], None]


def _scalars_of(call: ir.Call) -> list[ir.Scalar]:
    return [*call.arguments, *(() if call.condition is None else (call.condition,))]


def _aggregated(column: ir.BoundColumn, call: ir.Call, compiled: Iterator[Value]) -> Fill:
    """``compiled`` goes on with the scalars of ``call``."""
    arguments = [next(compiled) for _ in call.arguments]
    condition = None if call.condition is None else next(compiled)
    aggregate, number, empty = call.aggregate, column.number, _empty(column)

    def fill(row: Row, members: list[Row]) -> None:
        chosen = members if condition is None else [member for member in members if condition(member)]
        values = [tuple(argument(member) for argument in arguments) for member in chosen]
        found = aggregate.python(values) if values else aggregate.over_nothing
        row[number] = empty if found is None else found

    return fill


def _extreme(is_max: bool, pairs: Sequence[tuple[ir.BoundColumn, ir.Scalar]], compiled: Iterator[Value]) -> Fill:
    by = next(compiled)
    sources = [(column, next(compiled)) for column, _ in pairs]

    def fill(row: Row, members: list[Row]) -> None:
        best: Row | None = None
        most: Any = None
        for member in members:
            value = by(member)
            is_better = value is not None and (most is None or (value > most if is_max else value < most))
            if best is None or is_better:
                best, most = member, value
        for column, source in sources:
            row[column.number] = _empty(column) if best is None else source(best)

    return fill


# -- joins ------------------------------------------------------------------------------------------------------------

Keyed = list[tuple[Any, Row]]


def _joined_key(keys: Sequence[Value], types: Sequence[str]) -> Callable[[Row], tuple[Any, ...]]:
    makers = [(value, key_of(type_)) for value, type_ in zip(keys, types, strict=True)]
    return lambda row: tuple(make(value(row)) for value, make in makers)


def _by_key(keyed: Keyed) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = {}
    for key, row in keyed:
        found.setdefault(key, []).append(row)
    return found


def _inner(left: Keyed, right: Keyed, no_left: Row, no_right: Row) -> Iterable[Row]:
    others = _by_key(right)
    for key, row in left:
        for other in others.get(key, ()):
            yield {**row, **other}


def _innerunique(left: Keyed, right: Keyed, no_left: Row, no_right: Row) -> Iterable[Row]:
    first: dict[Any, Row] = {}
    for key, row in left:
        first.setdefault(key, row)
    return _inner(list(first.items()), right, no_left, no_right)


def _leftouter(left: Keyed, right: Keyed, no_left: Row, no_right: Row) -> Iterable[Row]:
    others = _by_key(right)
    for key, row in left:
        for other in others.get(key, (no_right,)):
            yield {**row, **other}


def _rightouter(left: Keyed, right: Keyed, no_left: Row, no_right: Row) -> Iterable[Row]:
    return _leftouter(right, left, no_right, no_left)


def _fullouter(left: Keyed, right: Keyed, no_left: Row, no_right: Row) -> Iterable[Row]:
    yield from _leftouter(left, right, no_left, no_right)
    known = {key for key, _ in left}
    for key, row in right:
        if key not in known:
            yield {**no_left, **row}


def _semi(is_left: bool, wanted: bool) -> Callable[[Keyed, Keyed, Row, Row], Iterable[Row]]:
    def semi(left: Keyed, right: Keyed, no_left: Row, no_right: Row) -> Iterable[Row]:
        side, other = (left, right) if is_left else (right, left)
        known = {key for key, _ in other}
        return [dict(row) for key, row in side if (key in known) is wanted]

    return semi


_JOINS: Final[Mapping[str, Callable[[Keyed, Keyed, Row, Row], Iterable[Row]]]] = {
    "inner": _inner,
    "innerunique": _innerunique,
    "leftouter": _leftouter,
    "rightouter": _rightouter,
    "fullouter": _fullouter,
    "leftsemi": _semi(True, True),
    "leftanti": _semi(True, False),
    "rightsemi": _semi(False, True),
    "rightanti": _semi(False, False),
    "cross": _inner,
}

# -- elements ---------------------------------------------------------------------------------------------------------


def elements(value: Any, bag_as_array: bool) -> list[Any]:
    """What mv-expand makes of a dynamic value: the elements of an array, the properties of a bag, else the value."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [[key, item] if bag_as_array else {key: item} for key, item in value.items()]
    return [value]


def _element(value: Any, column: ir.BoundColumn) -> Any:
    if column.type == "dynamic":
        return value
    found = convert_element(value, column.type)
    return _empty(column) if found is None else found
