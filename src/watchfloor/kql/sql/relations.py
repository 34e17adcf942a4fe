"""Relations of the ``ir`` to SQL: a chain of common table expressions, each a SELECT over those before it.

Relations are read from the inside out. Each becomes an ``Arm``, a SELECT in the making, and steps that fit into one
SELECT share it: filters, columns, a group or an order. An arm that takes no more is closed into a ``Step``, a common
table expression. In the end the steps are walked backwards once, to leave out what nobody reads, and printed.

The order of rows is kept beside them, not in them: the keys of the last sort, and ``arrival``, columns that tell which
row came first where the source has an order. It is printed where it counts: at limits, windows, lists and the end.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count
from typing import Any, Final, TypeGuard

from watchfloor.kql import ir
from watchfloor.kql.errors import KqlError, Span
from watchfloor.kql.routines import RoutineRef
from watchfloor.kql.sql.dialect import Dialect, is_atom, template
from watchfloor.kql.sql.scalars import Piece, Scalars, name_of

MAX_NUMBERS: Final = 100_000_000
"""A range of more numbers is refused."""

EXACT_ROWS: Final = 250_000
"""dcount is exact over at most so many rows of a table,"""

EXACT_VALUES: Final = 24
"""and wherever about so many different values were found at most."""

SAMPLE: Final = 8_192
ROWS_OF_GROUP: Final = 16
MAX_ESTIMATES: Final = 100_000
"""Groups of fewer rows than that on average are many, told by a sample where it can be; and so many are many anyway."""

MAX_CELLS: Final = 64
"""Rows with more cells than this are handed over as one list a column."""

_DEAR: Final = (
    (4, re.compile(r"\bkql_\w+\(")),
    (3, re.compile(r"\bregexp_|\bjson|\bfrom_json|\bSELECT\b|\brandom\(")),
    (2, re.compile(r"\bI?LIKE\b|\blower\(|\bcontains\(|\bCASE\b")),
    (1, re.compile("")),
)
"""Signs of a condition that costs much, the worst first."""

MAX_PUSHED: Final = 64
"""An engine that moves a filter towards the tables writes, for each column in it, what computes that column, and so on:
text that doubles at every step. A filter that would become larger than this stays where it is."""

_FENCE: Final = f"LIMIT {2**63 - 1}"
"""No filter is moved through this."""

_COLUMN: Final = re.compile(r"\b[cowx]\d+\b")
_RESERVED: Final = re.compile(r"[cowx]\d+", re.IGNORECASE)


@dataclass(eq=False, slots=True)
class Step:
    """A common table expression: its arms, joined by UNION ALL, all with the columns ``names``."""

    arms: list[Arm]
    names: dict[str, None]
    mode: str = ""
    needed: dict[str, None] = field(default_factory=dict)
    name: str = ""
    weights: dict[str, int] | None = None


@dataclass(eq=False, slots=True)
class Arm:
    """A SELECT in the making. ``origin``: the parts of its FROM; ``columns``: what it computes or renames; any other of
    its ``names`` is that column of a source. ``forced``: columns that decide how many rows there are."""

    origin: tuple[str | Step, ...]
    names: dict[str, None]
    columns: dict[str, Piece] = field(default_factory=dict)
    where: list[str] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)
    prefix: str = ""
    tail: str = ""
    order: str = ""
    forced: tuple[str, ...] = ()
    is_closed: bool = False

    def lookup(self, name: str) -> Piece:
        """The SQL of a column of this SELECT, for use in it."""
        return self.columns.get(name) or Piece(name, frozenset((name,)), "column")

    def add(self, name: str, piece: Piece) -> None:
        """One more column."""
        self.columns[name] = piece
        self.names[name] = None

    @property
    def is_plain(self) -> bool:
        """Whether this is all of one step and nothing else."""
        return (
            len(self.origin) == 1
            and isinstance(self.origin[0], Step)
            and not (self.columns or self.where or self.tail or self.order or self.prefix)
        )


@dataclass(frozen=True, slots=True)
class Key:
    """A column to order by."""

    name: str
    is_descending: bool = False
    nulls_first: bool = False
    is_real: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows so far. ``keys``: the sort in force; ``arrival``: columns by which rows that it does not tell apart came,
    all of them if ``is_total``. ``is_stored``: rows of a table, filtered and added to at most."""

    arm: Arm
    keys: tuple[Key, ...] = ()
    arrival: tuple[Key, ...] = ()
    is_total: bool = False
    is_stored: bool = False

    @property
    def order(self) -> tuple[Key, ...]:
        """All that is known about the order."""
        return (*self.keys, *(k for k in self.arrival if k not in self.keys))


class Relations:
    """Prints the relations of one query."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.scalars = Scalars(dialect, self)
        self.tables: set[str] = set()
        self._steps: list[Step] = []
        self._shared: dict[int, Rows] = {}
        self._inner: dict[int, tuple[ir.Relation, Rows]] = {}
        self._numbered: set[str] = set()
        self._numbers = count(1)
        self._subqueries: list[tuple[Step, str]] = []
        self._handlers: dict[type, Callable[[Rows, Any], Rows]] = {
            ir.Filter: self._filter,
            ir.Compute: self._compute,
            ir.Group: self._group,
            ir.Order: self._order,
            ir.Serial: self._serial,
            ir.Limit: self._limit,
            ir.Sample: self._sample,
            ir.Expand: self._expand,
            ir.Numbered: self._number,
        }
        self._sources: dict[type, Callable[[Any], Rows]] = {
            ir.Scan: self._scan,
            ir.Values: self._values,
            ir.Numbers: self._numbers_of,
            ir.Join: self._join,
            ir.Union: self._union,
            ir.Use: self._use,
            ir.Routine: self._routine,
        }

    # -- the whole ------------------------------------------------------------------------------------------------

    def query(self, relation: ir.Relation, columns: Sequence[ir.BoundColumn]) -> str:
        """The SQL of a result with ``columns``, in the order of the rows."""
        rows = self.rows(relation)
        keys = rows.keys
        arm = rows.arm
        names = [name_of(c) for c in columns]
        if arm.order and keys and arm.order.startswith(self._ordering(rows, arm)):
            keys = ()
        elif keys and (arm.is_closed or arm.tail or not self._is_ready(rows, [k.name for k in keys])):
            rows = self._closed(rows)
            arm = rows.arm
        if len(set(names)) < len(names) or (arm.order and keys) or not names:
            arm = self._over(self._close(arm))
        outputs: list[tuple[str, str]] = []
        for number, name in enumerate(names):
            outputs.append((name, name if name not in names[:number] else f"x{next(self._numbers)}"))
        if keys:
            arm.order = self._ordering(replace(rows, arm=arm), arm)
        return self._printed(arm, outputs)

    def _printed(self, final: Arm, outputs: list[tuple[str, str]]) -> str:
        last = Step([final], {})
        last.needed = {name: None for name, _ in outputs}
        used = self._prune(last)
        prefix = self._prefix()
        for number, step in enumerate(used, 1):
            step.name = f"{prefix}{number}"
        chain = ", ".join(f"{step.name} AS {self._mode(step)}({self._select_all(step)})" for step in used)
        text = f"WITH {chain} " if chain else ""
        text += self._select(final, [(alias, final.lookup(name).text) for name, alias in outputs] or [("x0", "1")])
        for step, token in self._subqueries:
            text = text.replace(token, step.name)
        return text + self.dialect.forms.get("settings", "")

    def _prefix(self) -> str:
        """What steps are called, so that no table is."""
        prefix = "s"
        while any(re.fullmatch(rf"{prefix}\d+", table, re.IGNORECASE) for table in self.tables):
            prefix += "s"
        return prefix

    def _prune(self, last: Step) -> list[Step]:
        """The steps that ``last`` needs, in order, each with the columns that are read from it."""
        needed: set[int] = {id(last)}
        for step, _ in self._subqueries:
            needed.add(id(step))
        used: list[Step] = []
        for step in [last, *reversed(self._steps)]:
            if id(step) not in needed:
                continue
            if step is not last:
                used.append(step)
            for arm in step.arms:
                reads = set(arm.reads)
                for name in (*step.needed, *arm.forced):
                    reads |= arm.lookup(name).reads
                for source in arm.origin:
                    if isinstance(source, Step):
                        needed.add(id(source))
                        source.needed.update((name, None) for name in source.names if name in reads)
        used.reverse()
        return used

    def _mode(self, step: Step) -> str:
        return f"{step.mode} " if step.mode else ""

    def _select_all(self, step: Step) -> str:
        found = []
        for arm in step.arms:
            names = [name for name in step.names if name in step.needed or name in arm.forced] or [""]
            found.append(self._select(arm, [(name, arm.lookup(name).text if name else "1") for name in names]))
        return " UNION ALL ".join(found)

    @staticmethod
    def _select(arm: Arm, outputs: Iterable[tuple[str, str]]) -> str:
        items = [text if text == alias else f"{text} AS {alias or 'x0'}" for alias, text in outputs]
        parts = ["SELECT", arm.prefix, ", ".join(items)] if arm.prefix else ["SELECT", ", ".join(items)]
        if arm.origin:
            parts += ["FROM", "".join(o.name if isinstance(o, Step) else o for o in arm.origin)]
        if arm.where:
            parts += ["WHERE", " AND ".join(sorted(arm.where, key=_price))]
        if arm.tail and not arm.tail.startswith("LIMIT"):
            parts.append(arm.tail)
        if arm.order:
            parts.append(f"ORDER BY {arm.order}")
        if arm.tail.startswith("LIMIT"):
            parts.append(arm.tail)
        return " ".join(parts)

    # -- arms and steps -------------------------------------------------------------------------------------------

    def _over(self, step: Step) -> Arm:
        return Arm((step,), dict(step.names))

    def _close(self, arm: Arm) -> Step:
        if arm.is_plain:
            source = arm.origin[0]
            assert isinstance(source, Step)
            return source
        step = Step([arm], dict(arm.names))
        self._steps.append(step)
        self._weights(step)
        return step

    def _closed(self, rows: Rows) -> Rows:
        return replace(rows, arm=self._over(self._close(rows.arm)))

    def _fresh(self, letter: str) -> str:
        return f"{letter}{next(self._numbers)}"

    def _is_ready(self, rows: Rows, names: Iterable[str]) -> bool:
        """Whether ``names`` may be mentioned in the arm: none is computed there."""
        return all(rows.arm.lookup(name).kind == "column" for name in names)

    def _ready(self, rows: Rows, scalars: Iterable[ir.Scalar] = (), names: Iterable[str] = ()) -> Rows:
        """``rows`` in an arm that takes more, where ``scalars`` can be printed and ``names`` be mentioned."""
        arm = rows.arm
        if arm.is_closed or arm.tail or not self._is_ready(rows, names):
            return self._closed(rows)
        for scalar in scalars:
            for column in ir.refs(scalar):
                if arm.lookup(name_of(column)).kind == "other":
                    return self._closed(rows)
        return rows

    def _ordering(self, rows: Rows, arm: Arm, *, is_total: bool = False) -> str:
        """The ORDER BY list of the keys (and of the arrival), read in ``arm``."""
        keys = rows.order if is_total else rows.keys
        found = []
        for key in keys:
            piece = arm.lookup(key.name)
            arm.reads |= piece.reads
            words = " DESC" if key.is_descending else ""
            nulls = " NULLS FIRST" if key.nulls_first else "" if key.name[0] == "o" else " NULLS LAST"
            if key.is_real:  # NaN stands beside the nulls, whichever the direction
                found.append(f"{self._say('is_nan', piece.text)}{' DESC' if key.nulls_first else ''}{nulls}")
            found.append(f"{piece.text}{words}{nulls}")
        return ", ".join(found)

    def _say(self, form: str, *arguments: str) -> str:
        return self.dialect.say(form, *arguments)

    # -- reading a tree --------------------------------------------------------------------------------------------

    def rows(self, relation: ir.Relation) -> Rows:
        """The rows of ``relation``."""
        above: list[ir.Relation] = []
        while type(relation) in self._handlers:
            above.append(relation)
            (relation,) = ir.inputs(relation)
        source = self._sources.get(type(relation))
        if source is None:
            raise self.dialect.lacks(type(relation).__name__)
        rows = source(relation)
        for step in reversed(above):
            rows = self._handlers[type(step)](rows, step)
        return rows

    def step(self, relation: ir.Relation) -> Step:
        """The rows of ``relation`` as a step."""
        return self._close(self.rows(relation).arm)

    def _scan(self, scan: ir.Scan) -> Rows:
        self.tables.add(scan.table.name)
        arm = Arm((self.dialect.quoted(scan.table.name),), {})
        for column, name in scan.columns:
            arm.add(name_of(column), Piece(self.dialect.quoted(name), frozenset(), "column"))
        rows = Rows(arm, is_stored=True)
        if any(_RESERVED.fullmatch(name) for _, name in scan.columns):
            rows = self._closed(rows)
        for condition in scan.filters:
            rows = self._filter(rows, ir.Filter(scan, condition))
        return rows

    def _values(self, values: ir.Values) -> Rows:
        columns, rows = values.columns, values.rows
        if len(rows) == 1:
            arm = Arm((), {})
            for column, value in zip(columns, rows[0], strict=True):
                arm.add(name_of(column), Piece(self.scalars.constant(value, column.type), frozenset(), "constant"))
            return Rows(arm, is_total=True)
        names = [name_of(c) for c in columns]
        order = self._fresh("o")
        if not rows:
            arm = Arm((), {}, where=["false"])
            for column, name in zip(columns, names, strict=True):
                arm.add(name, Piece(self.scalars.constant(None, column.type), frozenset(), "constant"))
            return Rows(arm, is_total=True)
        if len(rows) * len(columns) > MAX_CELLS:
            cells = [self._column_of(c, [row[n] for row in rows]) for n, c in enumerate(columns)]
            items = [*cells, f"{self._say('places', str(len(rows)))} AS {order}"]
            origin = f"(SELECT {', '.join(items)}) AS v"
        else:
            lines = (
                "("
                + ", ".join([*(self.scalars.constant(v, c.type) for v, c in zip(row, columns, strict=True)), str(n)])
                + ")"
                for n, row in enumerate(rows)
            )
            origin = f"(VALUES {', '.join(lines)}) AS v({', '.join([*names, order])})"
        arm = Arm((origin,), dict.fromkeys([*names, order]))
        for name in arm.names:
            arm.columns[name] = Piece(name, frozenset(), "column")
        return Rows(arm, arrival=(Key(order),), is_total=True)

    def _column_of(self, column: ir.BoundColumn, cells: list[Any]) -> str:
        """One column of many rows, unnested from a parameter."""
        kind = column.type
        if kind in ("real", "decimal"):
            cells = [None if c is None else repr(c) if kind == "real" else f"{c:f}" for c in cells]
        elif kind not in ("bool", "int", "long", "timespan"):
            values = (self.scalars.value(c, kind) for c in cells)
            cells = list(values)
        unnested = self._say("unnest", self.scalars.parameter(cells))
        return f"{self._say('cast', unnested, self.dialect.type(kind))} AS {name_of(column)}"

    def _numbers_of(self, numbers: ir.Numbers) -> Rows:
        kind, name = numbers.column.type, name_of(numbers.column)
        order = self._fresh("o")
        bounds = (numbers.start, numbers.stop, numbers.step)
        arm = Arm((), {})
        if all(isinstance(b, ir.Const) for b in bounds):
            start, stop, step = (b.value for b in bounds if isinstance(b, ir.Const))
            size = _size(start, stop, step)
            if size > MAX_NUMBERS:
                raise KqlError(f"This range has {size} rows; there can be {MAX_NUMBERS}.", Span(0, 0), kind="limit")
            if kind == "long" and step > 0 and size:
                arm.origin = (self._say("numbers_between", str(start), str(start + size * step), str(step), "v", name),)
                arm.columns[name] = Piece(name, frozenset(), "column")
                arm.names[name] = None
                return Rows(arm, arrival=(Key(name),), is_total=True)
            length = str(size)
            first, gap = (self.scalars.piece(b, arm).text for b in (numbers.start, numbers.step))
        else:
            first, last, gap = (self._number_text(b, arm) for b in bounds)
            length = self._length(first, last, gap, kind)
        arm.origin = (self._say("numbers", length, "v", order),)
        arm.columns[order] = Piece(order, frozenset(), "column")
        arm.names[order] = None
        if kind == "datetime" and first.startswith("$"):
            first = self._say("ticks_of_instant", first)
        text = f"{first} + {order} * {gap}"
        if kind == "datetime":
            text = self._say("instant_of_ticks", text)
        elif kind != "long":
            text = self._say("cast", text, self.dialect.type(kind))
        arm.add(name, Piece(text, frozenset()))
        return Rows(arm, arrival=(Key(order),), is_total=True)

    def _number_text(self, bound: ir.Scalar, arm: Arm) -> str:
        text = f"({self.scalars.piece(bound, arm).text})"
        return self._say("ticks_of_instant", text) if bound.type == "datetime" else text

    def _length(self, first: str, last: str, gap: str, kind: str) -> str:
        """How many numbers there are from ``first`` to ``last``; an error if they are too many."""
        division = "/" if kind in ("real", "decimal") else "//"
        size = f"CAST(floor(({last} - {first}) {division} nullif({gap}, 0)) + 1 AS BIGINT)"
        size = f"CASE WHEN sign({last} - {first}) = -sign({gap}) THEN 0 ELSE {size} END"
        refusal = self._say("too_many", f"'A range has more than {MAX_NUMBERS} rows.'")
        return f"coalesce(CASE WHEN {size} > {MAX_NUMBERS} THEN {refusal} ELSE {size} END, 0)"

    def _use(self, use: ir.Use) -> Rows:
        shared = use.shared
        known = self._shared.get(shared.key)
        if known is None:
            known = self._closed(self.rows(shared.relation))
            origin = known.arm.origin[0]
            assert isinstance(origin, Step)
            if shared.is_materialized and not origin.mode:
                origin.mode = self.dialect.forms.get("once", "")
            self._shared[shared.key] = known
        source = known.arm.origin[0]
        assert isinstance(source, Step)
        arm = Arm((source,), {})
        renamed: dict[str, str] = {}
        for new, old in use.columns:
            arm.add(name_of(new), Piece(name_of(old), frozenset((name_of(old),)), "column"))
            renamed.setdefault(name_of(old), name_of(new))

        def key(found: Key) -> Key:
            if found.name not in renamed:
                name = renamed[found.name] = self._fresh("o")
                arm.add(name, Piece(found.name, frozenset((found.name,)), "column"))
            return replace(found, name=renamed[found.name])

        return replace(known, arm=arm, keys=tuple(map(key, known.keys)), arrival=tuple(map(key, known.arrival)))

    # -- filters and columns ----------------------------------------------------------------------------------------

    def _filter(self, rows: Rows, step: ir.Filter) -> Rows:
        conditions = step.condition.operands if _is_and(step.condition) else (step.condition,)
        for condition in conditions:
            if isinstance(condition, ir.Const) and condition.value is True:
                continue
            rows, (condition,) = self._lifted(rows, (condition,))
            rows = self._ready(rows, (condition,))
            piece = self.scalars.piece(condition, rows.arm, as_condition=True)
            if self._weight(rows.arm, piece) > MAX_PUSHED:
                rows = self._fenced(rows)
                piece = self.scalars.piece(condition, rows.arm, as_condition=True)
            is_loose = isinstance(condition, ir.Junction) and condition.operator == "or"
            rows.arm.where.append(f"({piece.text})" if is_loose else piece.text)
            rows.arm.reads |= piece.reads
        return rows

    def _fenced(self, rows: Rows) -> Rows:
        if rows.arm.is_closed or rows.arm.tail:
            rows = self._closed(rows)
        rows.arm.tail = _FENCE
        return self._closed(rows)

    def _weight(self, arm: Arm, piece: Piece) -> int:
        """How many columns of tables ``piece`` mentions once all that computes its columns is written out."""
        found = 0
        for name in _COLUMN.findall(piece.text):
            if name in piece.reads:
                found += max((self._weights(o).get(name, 1) for o in arm.origin if isinstance(o, Step)), default=1)
        return min(found, 10**9)

    def _weights(self, step: Step) -> dict[str, int]:
        if step.weights is None:
            is_fenced = bool(step.mode) or any(arm.tail.startswith("LIMIT") for arm in step.arms)
            step.weights = (
                dict.fromkeys(step.names, 1)
                if is_fenced
                else {n: max(self._weight(arm, arm.lookup(n)) for arm in step.arms) or 1 for n in step.names}
            )
        return step.weights

    def _compute(self, rows: Rows, step: ir.Compute) -> Rows:
        columns: Sequence[tuple[ir.BoundColumn, ir.Scalar]] = step.columns
        rows, lifted = self._lifted(rows, [value for _, value in columns])
        columns = [(column, value) for (column, _), value in zip(columns, lifted, strict=True)]
        if any(_has_window(value) for _, value in columns):
            rows, columns = self._windows(rows, columns)
        rows = self._ready(rows, (value for _, value in columns))
        pieces = [(column, self.scalars.piece(value, rows.arm)) for column, value in columns]
        for (column, value), (_, piece) in zip(columns, pieces, strict=True):
            rows.arm.add(name_of(column), piece)
            if isinstance(value, ir.Apply) and value.function.name == "parse_json" and _is_ref(value.arguments[0]):
                self.scalars.parsed[name_of(column)] = value
        return rows

    def _lifted(self, rows: Rows, scalars: Sequence[ir.Scalar]) -> tuple[Rows, Sequence[ir.Scalar]]:
        """``scalars`` with columns for queries that stand inside a function: SQL does not take them everywhere."""
        made: list[tuple[ir.BoundColumn, ir.Scalar]] = []

        def lifted(scalar: ir.Scalar, is_inside: bool) -> ir.Scalar:
            if isinstance(scalar, ir.FirstOf | ir.InRelation) and is_inside:
                made.append((ir.BoundColumn(-next(self._numbers), scalar.type, scalar.is_nullable), scalar))
                return ir.Ref(made[-1][0])
            is_inside = is_inside or isinstance(scalar, ir.Apply | ir.Convert | ir.Path | ir.Window)
            return _with_operands(scalar, [lifted(part, is_inside) for part in ir.operands(scalar)])

        if not any(_has_query(scalar) for scalar in scalars):
            return rows, scalars
        changed = [lifted(scalar, False) for scalar in scalars]
        if made:
            rows = self._ready(rows, (value for _, value in made))
            pieces = [(name_of(column), self.scalars.piece(value, rows.arm)) for column, value in made]
            for name, piece in pieces:
                rows.arm.add(name, piece)
            rows = self._closed(rows)
        return rows, changed

    def _without_queries(self, rows: Rows, scalars: Sequence[ir.Scalar]) -> tuple[Rows, list[ir.Scalar]]:
        """``scalars`` with columns for those that hold a query anywhere."""
        if not any(_has_query(scalar) for scalar in scalars):
            return rows, list(scalars)
        made: list[tuple[ir.BoundColumn, ir.Scalar]] = []
        changed: list[ir.Scalar] = []
        for scalar in scalars:
            if _has_query(scalar):
                made.append((ir.BoundColumn(-next(self._numbers), scalar.type, scalar.is_nullable), scalar))
                scalar = ir.Ref(made[-1][0])
            changed.append(scalar)
        return self._closed(self._compute(rows, ir.Compute(ir.Values((), ()), tuple(made)))), changed

    def _serial(self, rows: Rows, _: ir.Serial) -> Rows:
        return rows

    def _order(self, rows: Rows, step: ir.Order) -> Rows:
        keys = tuple(Key(name_of(k.column), k.is_descending, k.nulls_first, k.column.type == "real") for k in step.keys)
        # Rows that the new keys do not tell apart stay as they were.
        arrival = tuple(k for k in rows.order if k.name not in {key.name for key in keys})
        return replace(rows, keys=keys, arrival=arrival)

    def _limit(self, rows: Rows, step: ir.Limit) -> Rows:
        # Numbers and rows that are written out come in their order anyway: sorting them would read them all.
        is_given = not rows.keys and any(isinstance(origin, str) for origin in rows.arm.origin)
        is_total = rows.is_total and bool(rows.order) and not is_given
        names = [k.name for k in (rows.order if is_total else rows.keys)]
        if step.within:
            within = [name_of(c) for c in step.within]
            rows = self._ready(rows, names=[*names, *within])
            over = self._window(rows, rows.arm, within)
            rows.arm.tail = f"{self._say('keep')} row_number() {over} <= {step.rows}"
            return rows
        rows = self._ready(rows, names=names)
        rows.arm.order = self._ordering(rows, rows.arm, is_total=is_total)
        rows.arm.tail = f"LIMIT {step.rows}"
        return rows

    def _sample(self, rows: Rows, step: ir.Sample) -> Rows:
        rows = self._ready(rows)
        rows.arm.order = self._say("random")
        rows.arm.tail = f"LIMIT {step.rows}"
        return replace(self._closed(rows), keys=(), arrival=(), is_total=False, is_stored=False)

    def _number(self, rows: Rows, step: ir.Numbered) -> Rows:
        self._must_number("rows in order of their coming")
        rows = self._ready(rows, names=[k.name for k in rows.order])
        name = name_of(step.column)
        over = self._window(rows, rows.arm, ()) if rows.is_total else "OVER ()"
        arm = rows.arm
        arm.add(name, Piece(f"row_number() {over}", frozenset(arm.reads)))
        arm.is_closed = True
        self._numbered.add(name)
        closed = self._closed(rows)
        self._keep_once(closed)
        return replace(closed, arrival=(Key(name),), is_total=True, is_stored=False)

    def _keep_once(self, rows: Rows) -> None:
        """Numbers given by chance must be the same wherever they are read."""
        source = rows.arm.origin[0]
        if isinstance(source, Step) and not source.mode:
            source.mode = self.dialect.forms.get("once", "")

    # -- windows ----------------------------------------------------------------------------------------------------

    def _window(
        self,
        rows: Rows,
        arm: Arm,
        within: Sequence[str],
        *,
        first: Sequence[tuple[str, bool]] = (),
        frame: str = "",
    ) -> str:
        """The OVER of a window function in the order of ``rows``, or by ``first`` and then so."""
        parts = []
        if within:
            pieces = [arm.lookup(name) for name in within]
            for piece in pieces:
                arm.reads |= piece.reads
            parts.append(f"PARTITION BY {', '.join(p.text for p in pieces)}")
        keyed = replace(rows, keys=(*(Key(name, down) for name, down in first), *rows.keys))
        if order := self._ordering(keyed, arm, is_total=True):
            parts.append(f"ORDER BY {order}")
        if frame:
            parts.append(frame)
        return f"OVER ({' '.join(parts)})"

    def _must_number(self, what: str) -> None:
        if not self.dialect.has_windows:
            raise self.dialect.lacks(what)

    def _totally_ordered(self, rows: Rows) -> Rows:
        """``rows`` in an order that leaves nothing open: what is by chance is decided once."""
        if rows.is_total and rows.order:
            return rows
        rows = self._ready(rows, names=[k.name for k in rows.order])
        name = self._fresh("o")
        over = self._window(rows, rows.arm, ())
        rows.arm.add(name, Piece(f"row_number() {over}", frozenset(rows.arm.reads)))
        rows.arm.is_closed = True
        closed = self._closed(rows)
        self._keep_once(closed)
        return replace(closed, keys=(Key(name),), arrival=(), is_total=True, is_stored=False)

    def _windows(
        self, rows: Rows, columns: Sequence[tuple[ir.BoundColumn, ir.Scalar]]
    ) -> tuple[Rows, Sequence[tuple[ir.BoundColumn, ir.Scalar]]]:
        """``rows`` with every window of ``columns`` as a column, and ``columns`` that refer to those."""
        self._must_number("functions over the rows before or behind")
        rows = self._totally_ordered(rows)
        layers = _Layers(self._numbers)
        plain = [(column, layers.lowered(value)[0]) for column, value in columns]
        for layer in layers.layers:
            rows = self._ready(rows, (s for cell in layer for s in cell.arguments), [k.name for k in rows.order])
            sessions = []
            pieces = []
            for cell, column in layer.items():
                if cell.function == "session":
                    sessions.append((cell, column))
                else:
                    pieces.append((name_of(column), self._cell(rows, cell)))
            for name, piece in pieces:
                rows.arm.add(name, piece)
            rows.arm.is_closed = rows.arm.is_closed or bool(pieces)
            for cell, column in sessions:
                rows = self._session(rows, cell, column)
        return rows, plain

    def _cell(self, rows: Rows, cell: _Cell) -> Piece:
        arm = rows.arm
        arguments = [self.scalars.piece(a, arm, as_condition=cell.function == "restarts") for a in cell.arguments]
        reads = frozenset().union(*(a.reads for a in arguments))
        texts = [_atom(a.text) for a in arguments]
        within = [(name, False) for name in cell.within]
        if cell.function == "position":
            return Piece(f"row_number() {self._window(rows, arm, (), first=within)}", reads)
        over = self._window(rows, arm, cell.within)
        running = self._window(rows, arm, cell.within, frame="ROWS UNBOUNDED PRECEDING")
        if cell.function == "row_number":
            start = cell.arguments[0]
            text = f"row_number() {over}"
            if not (isinstance(start, ir.Const) and start.value == 1):
                text += f" + {texts[0]} - 1"
        elif cell.function in ("prev", "next", "before"):
            text = f"{'lag' if cell.function != 'next' else 'lead'}({', '.join(texts)}) {over}"
            if cell.type == "string":
                text = f"coalesce({text}, '')"
        elif cell.function == "row_cumsum":
            text = self._say("cast", f"sum({texts[0]}) {running}", self.dialect.type(cell.type))
        else:
            text = self.dialect.form(f"running_{cell.function}").fill(
                lambda name: running if name == "over" else texts[ord(name) - 97]
            )
        return Piece(text, reads)

    def _session(self, rows: Rows, cell: _Cell, column: ir.BoundColumn) -> Rows:
        """The first time of the session of each row: a routine over the list of all, and each row's place in it."""
        rows = self._closed(rows)
        source = rows.arm.origin[0]
        assert isinstance(source, Step)
        self._keep_once(rows)
        arm = self._over(source)
        time, whole, between, restart, place = cell.arguments
        at = self.scalars.piece(place, arm)
        lists = []
        for kind, value in ((time.type, time), ("bool", restart)):
            piece = self.scalars.piece(value, arm, as_condition=kind == "bool")
            arm.reads |= piece.reads | at.reads
            handed = self.scalars.handed(kind, _atom(piece.text))
            lists.append(self._list(handed, f"ORDER BY {at.text}", ""))
        steps = [self.scalars.handed(s.type, _atom(self.scalars.piece(s, arm).text)) for s in (whole, between)]
        routine = RoutineRef("session", "session", 0, (time.type, whole.type), (time.type,))
        name = self._fresh("x")
        arm = Arm(arm.origin, {}, reads=arm.reads, is_closed=True)
        arm.add(name, Piece(self.scalars.call(routine, *lists, *steps), frozenset(arm.reads)))
        found = f"(SELECT {name} FROM {self._mention(self._close(arm), name)})"
        text = self.scalars.received(time.type, self._say("at", found, at.text))
        rows.arm.add(name_of(column), Piece(text, at.reads))
        return rows

    # -- groups ---------------------------------------------------------------------------------------------------

    def _group(self, rows: Rows, step: ir.Group) -> Rows:
        keys = [name_of(k) for k in step.keys]
        rows, step = self._plain_group(rows, step)
        rows, calls = self._ordered_constants(rows, step.aggregates)
        step = replace(step, aggregates=calls)
        scalars = [s for _, c in calls for s in (*c.arguments, *((c.condition,) if c.condition is not None else ()))]
        scalars += [s for _, by, pairs in step.arg_extremes for s in (by, *(value for _, value in pairs))]
        order = [k.name for k in rows.order]
        if len(step.arg_extremes) == 1 and not calls and keys:
            return self._extreme_rows(self._ready(rows, scalars, [*keys, *order]), keys, step.arg_extremes[0])
        about = [(column, call) for column, call in calls if self._may_estimate(rows, call)]
        if about:
            return self._estimated(rows, step, about)
        rows = self._ready(rows, scalars, [*keys, *order])
        arm = rows.arm
        made: list[tuple[str, Piece]] = [(key, arm.lookup(key)) for key in keys]
        made += [(name_of(column), self._aggregate(rows, call, column, keys)) for column, call in calls]
        for is_max, by, pairs in step.arg_extremes:
            made += self._extremes(arm, is_max, by, pairs)
        return self._grouped(arm, keys, made)

    def _plain_group(self, rows: Rows, step: ir.Group) -> tuple[Rows, ir.Group]:
        """``step`` without queries in its scalars."""
        scalars: list[ir.Scalar] = []
        for _, call in step.aggregates:
            scalars += [*call.arguments, *(() if call.condition is None else (call.condition,))]
        for _, by, pairs in step.arg_extremes:
            scalars += [by, *(value for _, value in pairs)]
        rows, plain = self._without_queries(rows, scalars)
        if plain == scalars:
            return rows, step
        rest = iter(plain)
        calls = tuple(
            (
                column,
                replace(
                    call,
                    arguments=tuple(next(rest) for _ in call.arguments),
                    condition=None if call.condition is None else next(rest),
                ),
            )
            for column, call in step.aggregates
        )
        extremes = tuple(
            (is_max, next(rest), tuple((column, next(rest)) for column, _ in pairs))
            for is_max, _, pairs in step.arg_extremes
        )
        return rows, replace(step, aggregates=calls, arg_extremes=extremes)

    def _ordered_constants(
        self, rows: Rows, calls: tuple[tuple[ir.BoundColumn, ir.Call], ...]
    ) -> tuple[Rows, tuple[tuple[ir.BoundColumn, ir.Call], ...]]:
        """``calls`` with columns for constants that their templates order by: SQL takes no constant there."""
        made: list[tuple[ir.BoundColumn, ir.Scalar]] = []
        named: list[str] = []

        def column(call: ir.Call, number: int, argument: ir.Scalar) -> ir.Scalar:
            text = call.aggregate.sql.get(self.dialect.name, "")
            if f"ORDER BY ${chr(97 + number)}" not in text:
                return argument
            if isinstance(argument, ir.Ref):
                named.append(name_of(argument.column))
            if not isinstance(argument, ir.Const):
                return argument
            made.append((ir.BoundColumn(-next(self._numbers), argument.type, argument.is_nullable), argument))
            return ir.Ref(made[-1][0])

        changed = tuple(
            (result, replace(call, arguments=tuple(column(call, n, a) for n, a in enumerate(call.arguments))))
            for result, call in calls
        )
        if not made:
            return (self._ready(rows, names=named) if named else rows), calls
        return self._closed(self._compute(rows, ir.Compute(ir.Values((), ()), tuple(made)))), changed

    def _grouped(self, arm: Arm, keys: Sequence[str], made: Iterable[tuple[str, Piece]]) -> Rows:
        """The rows of ``arm``, grouped."""
        pieces = [arm.lookup(key) for key in keys]
        reads = arm.reads.union(*(p.reads for p in pieces))
        tail = f"GROUP BY {', '.join(p.text for p in pieces)}" if keys else ""
        found = Arm(arm.origin, {}, where=arm.where, reads=reads, tail=tail, is_closed=True)
        for name, piece in made:
            found.add(name, piece)
        if not keys:  # without an aggregate it would be no group
            found.forced = (next(iter(found.names)),)
        return Rows(found, is_total=not keys)

    def _extreme_rows(
        self,
        rows: Rows,
        keys: Sequence[str],
        extreme: tuple[bool, ir.Scalar, tuple[tuple[ir.BoundColumn, ir.Scalar], ...]],
    ) -> Rows:
        """One whole row for each combination of ``keys``."""
        is_max, by, pairs = extreme
        arm = rows.arm
        made = [(key, arm.lookup(key)) for key in keys]
        made += [(name_of(column), self.scalars.piece(value, arm)) for column, value in pairs]
        ranked = self.scalars.piece(by, arm)
        order = [f"{ranked.text} {'DESC' if is_max else 'ASC'} NULLS LAST"] if ranked.kind != "constant" else []
        if rows.is_total and rows.order:
            order.append(self._ordering(rows, arm, is_total=True))
        by_order = f" ORDER BY {', '.join(order)}" if order else ""
        pieces = [arm.lookup(key) for key in keys]
        over = f"OVER (PARTITION BY {', '.join(p.text for p in pieces)}{by_order})"
        reads = arm.reads.union(ranked.reads, *(p.reads for p in pieces))
        tail = f"{self._say('keep')} row_number() {over} = 1"
        found = Arm(arm.origin, {}, where=arm.where, reads=reads, tail=tail, is_closed=True)
        for name, piece in made:
            found.add(name, piece)
        return Rows(found)

    def _extremes(
        self, arm: Arm, is_max: bool, by: ir.Scalar, pairs: tuple[tuple[ir.BoundColumn, ir.Scalar], ...]
    ) -> list[tuple[str, Piece]]:
        ranked = self.scalars.piece(by, arm)
        found = []
        for column, value in pairs:
            piece = self.scalars.piece(value, arm)
            text = self._say("of_greatest" if is_max else "of_least", piece.text, ranked.text)
            if by.is_nullable:
                text = f"CASE WHEN count({ranked.text}) > 0 THEN {text} ELSE {self._say('first', piece.text)} END"
            if column.type == "string":
                text = f"coalesce({text}, '')"
            found.append((name_of(column), Piece(text, piece.reads | ranked.reads)))
        return found

    def _aggregate(self, rows: Rows, call: ir.Call, column: ir.BoundColumn, keys: Sequence[str]) -> Piece:
        arm, aggregate = rows.arm, call.aggregate
        reads: frozenset[str] = frozenset()
        condition = ""
        if call.condition is not None:
            piece = self.scalars.piece(call.condition, arm, as_condition=True)
            reads, condition = piece.reads, f"FILTER (WHERE {piece.text})"
        order = ""
        # An order within each row only is worth its price only where the group is a row's.
        if rows.is_total or rows.keys or (rows.arrival and not self._numbered.isdisjoint(keys)):
            order = f"ORDER BY {self._ordering(rows, arm, is_total=True)}" if rows.order else ""
        text = aggregate.sql.get(self.dialect.name)
        if order and aggregate.needs_order:
            self._must_number(f"order of the rows in {aggregate.name}()")
        if text is None:
            made = self._aggregate_routine(arm, call, column, condition, order if aggregate.needs_order else "")
            return Piece(made.text, made.reads | reads)
        letters = {chr(97 + n): argument for n, argument in enumerate(call.arguments)}
        made = self.scalars.filled(
            _without(text, condition, order), arm, letters, {"filter": condition, "order": order}
        )
        result = made.text
        if aggregate.over_nothing is not None and not text.startswith("count("):
            result = f"coalesce({result}, {self.scalars.constant(aggregate.over_nothing, column.type)})"
        return Piece(result, made.reads | reads)

    def _aggregate_routine(self, arm: Arm, call: ir.Call, column: ir.BoundColumn, condition: str, order: str) -> Piece:
        self.dialect.must_call(f"aggregate {call.aggregate.name}() of such arguments")
        takes = tuple(a.type for a in call.arguments)
        routine = RoutineRef("aggregate", call.aggregate.name, call.aggregate.number, takes, (column.type,))
        pieces = [self.scalars.piece(a, arm) for a in call.arguments]
        handed = [self.scalars.handed(kind, _atom(p.text)) for kind, p in zip(takes, pieces, strict=True)]
        if len(handed) < 2:
            lists = [self._list(handed[0] if handed else "1", order, condition)]
        else:
            fields = ", ".join(f"'{chr(97 + n)}': {text}" for n, text in enumerate(handed))
            whole = self._list(f"{{{fields}}}", order, condition)
            lists = [self._say("field_of_rows", whole, chr(97 + n)) for n in range(len(handed))]
        text = self.scalars.received(column.type, self.scalars.call(routine, *lists))
        return Piece(text, frozenset().union(*(p.reads for p in pieces)))

    def _list(self, item: str, order: str, condition: str) -> str:
        text = template(_without(self.dialect.forms["list"], condition, order))
        return text.fill({"a": item, "order": order, "filter": condition}.__getitem__)

    def _may_estimate(self, rows: Rows, call: ir.Call) -> bool:
        """Whether a dcount need not be exact where it counts very many: over rows of a table, at usual accuracy."""
        if call.aggregate.name != "dcount" or not rows.is_stored or "distinct_about" not in self.dialect.forms:
            return False
        accuracy = call.arguments[1] if len(call.arguments) > 1 else None
        return accuracy is None or (isinstance(accuracy, ir.Const) and accuracy.value in (0, 1))

    def _estimated(self, rows: Rows, step: ir.Group, about: Sequence[tuple[ir.BoundColumn, ir.Call]]) -> Rows:
        """A group whose dcounts are estimated, and counted where few rows or few values make that cheap.

        An estimate that is off by one among ten is no answer; over many values it is what KQL itself gives.
        """
        rows = self._closed(rows)
        base = rows.arm.origin[0]
        assert isinstance(base, Step)
        if self._is_dear(base):
            base.mode = base.mode or self.dialect.forms.get("once", "")
        else:
            self._inline(base)
        keys = [name_of(k) for k in step.keys]
        few_groups, many_groups = self._gates(base, keys) if keys else (None, None)
        arm = self._behind(base, few_groups)
        made: list[tuple[str, Piece]] = [(key, arm.lookup(key)) for key in keys]
        guesses: dict[str, str] = {}
        for column, call in step.aggregates:
            if any(column is c for c, _ in about):
                name = guesses[name_of(column)] = self._fresh("x")
                made.append((name, self._count_distinct(arm, call, "distinct_about")))
            else:
                made.append((name_of(column), self._aggregate(replace(rows, arm=arm), call, column, keys)))
        for is_max, by, pairs in step.arg_extremes:
            made += self._extremes(arm, is_max, by, pairs)
        size = self._fresh("x")
        made.append((size, Piece("count(*)", frozenset())))
        guess = self._close(self._grouped(arm, keys, made).arm)
        guess.mode = self.dialect.forms.get("once", "")
        few = " OR ".join(f"{name} <= {EXACT_VALUES}" for name in guesses.values())
        total = f"(SELECT sum({size}) FROM {self._mention(guess, size)})"
        is_small = f"({few} OR {total} <= {EXACT_ROWS})"
        again = {key: self._fresh("x") for key in keys}
        chosen = Arm((guess,), {}, where=[is_small], reads={size, *guesses.values()}, is_closed=True)
        for key, name in again.items():
            chosen.add(name, Piece(key, frozenset((key,)), "column"))
        if not keys:
            chosen.add(self._fresh("x"), Piece("1", frozenset()))
        which = self._close(chosen)
        match = " AND ".join(self._say("same", key, name) for key, name in again.items())
        link: tuple[str | Step, ...] = (
            (base, f" {self._say('semi')} ", which, f" ON {match}") if keys else (base, " CROSS JOIN ", which)
        )
        exact = Arm(link, dict(base.names), reads={*again.values(), *keys})
        counted: list[tuple[str, Piece]] = [(self._fresh("x"), exact.lookup(key)) for key in keys]
        exact_keys = [name for name, _ in counted]
        exacts: dict[str, str] = {}
        for column, call in about:
            name = exacts[name_of(column)] = self._fresh("x")
            counted.append((name, self._count_distinct(exact, call, "distinct")))
        right = self._close(self._grouped(exact, keys, counted).arm)
        match = " AND ".join(self._say("same", key, name) for key, name in zip(keys, exact_keys, strict=True))
        names = [*keys, *(name_of(c) for c, _ in step.aggregates)]
        names += [name_of(c) for _, _, pairs in step.arg_extremes for c, _ in pairs]
        found = Arm((guess, " LEFT JOIN ", right, f" ON {match or 'true'}"), dict.fromkeys(names))
        found.reads = {*keys, *exact_keys}
        for name, guessed in guesses.items():
            is_counted = f"{size} > 0 AND {is_small}" if not keys else f"{exacts[name]} IS NOT NULL"
            text = f"CASE WHEN {is_counted} THEN {exacts[name]} ELSE {guessed} END"
            reads = frozenset((exacts[name], guessed, size, *guesses.values()))
            found.columns[name] = Piece(text, reads)
        found.is_closed = True
        if many_groups is None:
            return Rows(found, is_total=True)
        rows = replace(rows, arm=self._behind(base, many_groups))
        made = [(key, rows.arm.lookup(key)) for key in keys]
        for column, call in step.aggregates:
            is_about = any(column is c for c, _ in about)
            piece = self._count_distinct(rows.arm, call, "distinct") if is_about else None
            made.append((name_of(column), piece or self._aggregate(rows, call, column, keys)))
        for is_max, by, pairs in step.arg_extremes:
            made += self._extremes(rows.arm, is_max, by, pairs)
        both = Step([found, self._grouped(rows.arm, keys, made).arm], dict.fromkeys(names))
        self._steps.append(both)
        return Rows(self._over(both))

    def _behind(self, base: Step, gate: Step | None) -> Arm:
        """The rows of ``base`` if ``gate`` has one; it is not even read if there is none."""
        return self._over(base) if gate is None else Arm((base, " CROSS JOIN ", gate), dict(base.names))

    def _gates(self, base: Step, keys: Sequence[str]) -> tuple[Step, Step]:
        """Two steps: the first has a row if ``keys`` make few groups of ``base``, else the second has. An estimate for
        each of very many groups takes more time and memory than to count. Most often a few rows tell; all are looked at
        where those are no proof."""
        sample = self._over(base)
        sample.tail = f"LIMIT {SAMPLE}"
        size, groups, total = (self._fresh("x") for _ in range(3))
        arm = self._over(self._close(sample))
        arm = self._over(self._close(self._grouped(arm, keys, [(size, Piece("count(*)", frozenset()))]).arm))
        figures = [(groups, Piece("count(*)", frozenset())), (total, Piece(f"sum({size})", frozenset((size,))))]
        doubtful = self._gate(self._close(self._grouped(arm, (), figures).arm), groups, total, is_many=True)
        arm = self._behind(base, doubtful)
        groups, total = self._fresh("x"), self._fresh("x")
        found = template(_without(self.dialect.forms["distinct_about"], "", "")).fill(
            lambda _: self.dialect.form("combined").fill(lambda _: ", ".join(keys))
        )
        figures = [(groups, Piece(found, frozenset(keys))), (total, Piece("count(*)", frozenset()))]
        counted = self._close(self._grouped(arm, (), figures).arm)
        counted.mode = self.dialect.forms.get("once", "")
        return (self._gate(counted, groups, total, is_many=False), self._gate(counted, groups, total, is_many=True))

    def _gate(self, figures: Step, groups: str, total: str, *, is_many: bool) -> Step:
        test = f"({groups} * {ROWS_OF_GROUP} > {total} OR {groups} > {MAX_ESTIMATES})"
        arm = Arm((figures,), {}, where=[test if is_many else f"NOT {test}"], reads={groups, total}, is_closed=True)
        arm.add(self._fresh("x"), Piece("1", frozenset(), "constant"))
        return self._close(arm)

    @staticmethod
    def _is_dear(step: Step) -> bool:
        """Whether a filter of ``step`` costs so much, or goes so much by chance, that it must not run twice."""
        waiting = [step]
        while waiting:
            for arm in waiting.pop().arms:
                if any(_price(condition) > 1 for condition in arm.where):
                    return True
                waiting += [o for o in arm.origin if isinstance(o, Step)]
        return False

    def _inline(self, step: Step) -> None:
        """Let the engine read ``step``, and what it stands on, twice instead of storing it."""
        waiting = [step]
        while waiting:
            found = waiting.pop()
            if not found.mode:
                found.mode = self.dialect.forms.get("inline", "")
                waiting += [o for arm in found.arms for o in arm.origin if isinstance(o, Step)]

    def _count_distinct(self, arm: Arm, call: ir.Call, form: str) -> Piece:
        value = self.scalars.piece(call.arguments[0], arm)
        reads, condition = value.reads, ""
        if call.condition is not None:
            piece = self.scalars.piece(call.condition, arm, as_condition=True)
            reads, condition = reads | piece.reads, f"FILTER (WHERE {piece.text})"
        text = template(_without(self.dialect.forms[form], condition, ""))
        return Piece(text.fill({"a": value.text, "filter": condition}.__getitem__), reads)

    # -- joins and unions -------------------------------------------------------------------------------------------

    def _join(self, join: ir.Join) -> Rows:
        kind = join.kind
        left, lefts = self._without_queries(self.rows(join.left), [key for key, _ in join.on])
        right, rights = self._without_queries(self.rows(join.right), [key for _, key in join.on])
        if kind == "innerunique":
            left = self._one_each(left, lefts)
        first, second = self._close(left.arm), self._close(right.arm)
        if kind in ("rightsemi", "rightanti"):
            first, second = second, first
        words = {
            "inner": "JOIN",
            "innerunique": "JOIN",
            "leftouter": "LEFT JOIN",
            "rightouter": "RIGHT JOIN",
            "fullouter": "FULL JOIN",
        }.get(kind) or self._say("semi" if kind.endswith("semi") else "anti" if kind.endswith("anti") else "cross")
        both = Arm((first, second), {**first.names, **second.names})
        conditions = []
        for a, b in zip(lefts, rights, strict=True):
            pieces = [self.scalars.piece(s, both) for s in (a, b)]
            both.reads.update(*(p.reads for p in pieces))
            texts = [_atom(p.text) for p in pieces]
            may_both = a.is_nullable and b.is_nullable
            conditions.append(self._say("same", *texts) if may_both else f"{texts[0]} = {texts[1]}")
        if kind == "cross" or (not conditions and words == "JOIN"):
            origin: tuple[str | Step, ...] = (first, f" {self._say('cross')} ", second)
        else:
            origin = (first, f" {words} ", second, f" ON {' AND '.join(conditions) or 'true'}")
        arm = Arm(origin, both.names, reads=both.reads)
        if kind.endswith(("semi", "anti")):
            arm.names = dict(first.names)
        for new, old in join.filled:
            name = name_of(old)
            if new.type == "string":
                arm.add(name_of(new), Piece(f"coalesce({name}, '')", frozenset((name,))))
            else:
                arm.add(name_of(new), Piece(name, frozenset((name,)), "column"))
        return Rows(arm)

    def _one_each(self, rows: Rows, keys: Sequence[ir.Scalar]) -> Rows:
        """The first row for each combination of ``keys``: any, where the rows have no order."""
        order = [k.name for k in rows.order] if rows.is_total else []
        rows = self._ready(rows, keys, order)
        arm = rows.arm
        pieces = [self.scalars.piece(key, arm) for key in keys]
        if any(p.kind != "column" for p in pieces):
            rows = self._closed(rows)
            arm = rows.arm
            pieces = [self.scalars.piece(key, arm) for key in keys]
        arm.reads = arm.reads.union(*(p.reads for p in pieces))
        arm.prefix = self._say("one_each", ", ".join(p.text for p in pieces))
        if order:
            arm.order = self._ordering(rows, arm, is_total=True)
        arm.is_closed = True
        return replace(rows, is_stored=False)

    def _union(self, union: ir.Union) -> Rows:
        names = [name_of(c) for c in union.columns]
        arms = []
        for relation, values in zip(union.inputs, union.values, strict=True):
            rows, plain = self._without_queries(self.rows(relation), values)
            rows = self._ready(rows, plain)
            pieces = [self.scalars.piece(value, rows.arm) for value in plain]
            arm = Arm(rows.arm.origin, {}, where=rows.arm.where, reads=rows.arm.reads)
            for name, piece in zip(names, pieces, strict=True):
                arm.add(name, piece)
            arms.append(arm)
        if len(arms) == 1:
            return Rows(arms[0])
        step = Step(arms, dict.fromkeys(names))
        self._steps.append(step)
        return Rows(self._over(step))

    # -- lists and routines -------------------------------------------------------------------------------------------

    def _expand(self, rows: Rows, step: ir.Expand) -> Rows:
        rows, sources = self._without_queries(rows, [item for _, item in step.items])
        step = replace(step, items=tuple((c, item) for (c, _), item in zip(step.items, sources, strict=True)))
        texts = [self.scalars.parsed_text(item, rows.arm) for _, item in step.items]
        texts = [text if text is not None and _is_ref(text) else None for text in texts]
        computed = []
        items: list[ir.Scalar] = []
        for (_, item), text in zip(step.items, texts, strict=True):
            if text is not None and isinstance(item, ir.Ref):
                item = self.scalars.parsed.get(name_of(item.column), item)
            if not isinstance(item, ir.Ref):
                computed.append((ir.BoundColumn(-next(self._numbers), "dynamic"), item))
                item = ir.Ref(computed[-1][0])
            items.append(item)
        rows = self._ready(rows, [*(value for _, value in computed), *(t for t in texts if t is not None)])
        for column, value in computed:
            text = next((t for t, i in zip(texts, items, strict=True) if i == ir.Ref(column)), None)
            piece = self.scalars.piece(value, rows.arm)
            if text is not None:  # an array is read straight from the text
                raw = self.scalars.piece(text, rows.arm)
                piece = Piece(self._say("unless_array", _atom(piece.text), raw.text), piece.reads | raw.reads)
            rows.arm.add(name_of(column), piece)
        rows = self._ready(rows, items, [name_of(column) for item in items for column in ir.refs(item)])
        arm = rows.arm
        lists = []
        for (column, _), item, text in zip(step.items, items, texts, strict=True):
            piece = self.scalars.piece(item, arm)
            suffix = ("_string" if column.type == "string" else "") + ("_pairs" if step.bag_as_array else "")
            made, reads = self._say(f"expand{suffix}", piece.text), piece.reads
            if text is not None:
                raw = self.scalars.piece(text, arm)
                form = "expand_text_string" if column.type == "string" else "expand_text"
                made, reads = self._say(form, raw.text, made), reads | raw.reads
            if step.limit is not None:
                made = self._say("first_of_list", f"({made})", str(step.limit))
            lists.append(self._fresh("x"))
            arm.add(lists[-1], Piece(made, reads))
        rows = self._closed(rows)
        arm = rows.arm
        sizes = [self._say("length", name) for name in lists]
        size = sizes[0] if len(sizes) == 1 else self.dialect.form("longest").fill(lambda _: ", ".join(sizes))
        elements = [self._fresh("x") for _ in lists]
        place = self._fresh("o")
        if "zip" in self.dialect.forms:  # lists are unnested side by side only as one
            zipped = self._fresh("x")
            arm.add(zipped, Piece(self._say("zip", size, ", ".join(lists)), frozenset(lists)))
            arm.forced, arm.is_closed = (zipped,), True
            rows = self._closed(rows)
            for number, name in enumerate((place, *elements), 1):
                rows.arm.add(name, Piece(self._say("element", zipped, str(number)), frozenset((zipped,))))
            return self._elements(self._closed(rows), step, elements, place)
        for name, element in zip(lists, elements, strict=True):
            arm.add(element, Piece(self._say("unnest", name), frozenset((name,))))
        arm.add(place, Piece(self._say("places", size), frozenset(lists)))
        arm.forced = tuple(elements)
        arm.is_closed = True
        return self._elements(self._closed(rows), step, elements, place)

    def _elements(self, rows: Rows, step: ir.Expand, elements: Sequence[str], place: str) -> Rows:
        """``rows`` with the columns of ``step``, of the columns ``elements`` and ``place``."""
        arm = rows.arm
        for (column, _), name in zip(step.items, elements, strict=True):
            made = self.scalars.element(name, column.type)[0]
            arm.add(name_of(column), Piece(made, frozenset((name,)), "column" if made == name else "other"))
        if step.index is not None:
            made = place if step.index.type == "long" else self._say("cast", place, self.dialect.type(step.index.type))
            arm.add(name_of(step.index), Piece(made, frozenset((place,)), "column" if made == place else "other"))
        return replace(rows, arrival=(*rows.arrival, Key(place)), is_stored=False)

    def _routine(self, routine: ir.Routine) -> Rows:
        self.dialect.must_call(f"operator {routine.name}")
        steps: list[Step] = []
        lists: list[str] = []
        for number, (relation, takes) in enumerate(zip(routine.inputs, routine.takes, strict=True)):
            rows = self.rows(relation)
            if number == 0 and routine.order:
                rows = self._totally_ordered(self._order(rows, ir.Order(relation, routine.order)))
            names = [name_of(c) for c in takes]
            order = [k.name for k in rows.order] if rows.is_total else []
            rows = self._ready(rows, [ir.Ref(c) for c in takes], order)
            arm = rows.arm
            by = f"ORDER BY {self._ordering(rows, arm, is_total=True)}" if order else ""
            made = []
            for column, name in zip(takes, names, strict=True):
                piece = arm.lookup(name)
                text = self._list(self.scalars.handed(column.type, piece.text), by, "")
                made.append((self._fresh("x"), Piece(text, piece.reads)))
            if not made:
                made.append((self._fresh("x"), Piece(self._list("1", "", ""), frozenset())))
            lists += [name for name, _ in made]
            steps.append(self._close(self._grouped(arm, (), made).arm))
        reference = RoutineRef(
            "relation",
            routine.name,
            0,
            tuple(c.type for takes in routine.takes for c in takes),
            tuple(c.type for c in routine.columns),
            tuple(len(takes) for takes in routine.takes),
        )
        origin: list[str | Step] = []
        for step in steps:
            origin += [", ", step] if origin else [step]
        spec = self.scalars.parameter(json.dumps(routine.spec))
        name = self._fresh("x")
        arm = Arm(tuple(origin), {}, is_closed=True)
        arm.add(name, Piece(self.scalars.call(reference, "$budget", spec, *lists), frozenset(lists)))
        called = self._close(arm)
        called.mode = self.dialect.forms.get("once", "")
        arm = self._over(called)
        fields = []
        for number in range(len(routine.columns)):
            fields.append(self._fresh("x"))
            field_ = self._say("field", name, f"f{number}")
            arm.add(fields[-1], Piece(self._say("unnest", field_), frozenset((name,))))
        place = self._fresh("o")
        size = self._say("length", self._say("field", name, "f0"))
        arm.add(place, Piece(self._say("places", size), frozenset((name,))))
        arm.forced = (fields[0],)
        arm.is_closed = True
        arm = self._over(self._close(arm))
        for column, name in zip(routine.columns, fields, strict=True):
            text = self.scalars.received(column.type, name)
            arm.add(name_of(column), Piece(text, frozenset((name,)), "column" if text == name else "other"))
        return Rows(arm, arrival=(Key(place),), is_total=True)

    # -- subqueries -----------------------------------------------------------------------------------------------

    def members(self, relation: ir.Relation, column: ir.BoundColumn, *, is_folded: bool) -> str:
        """See ``Subqueries``."""
        name = name_of(column)
        source = self._queried(relation).arm.origin[0]
        assert isinstance(source, Step)
        token = self._mention(source, name)
        item = self._say("fold", name) if is_folded else name
        where = f" WHERE {name} IS NOT NULL" if column.is_nullable else ""
        return f"SELECT {item} FROM {token}{where}"

    def first(self, relation: ir.Relation, column: ir.BoundColumn) -> str:
        """See ``Subqueries``."""
        rows = self._queried(relation)
        rows = replace(rows, arm=replace(rows.arm, reads=set()))
        name = name_of(column)
        order = self._ordering(rows, rows.arm, is_total=rows.is_total)
        source = rows.arm.origin[0]
        assert isinstance(source, Step)
        token = self._mention(source, name, *rows.arm.reads)
        return f"SELECT {name} FROM {token}{' ORDER BY ' + order if order else ''} LIMIT 1"

    def _queried(self, relation: ir.Relation) -> Rows:
        """The rows of ``relation`` for a query inside an expression; the same rows wherever it is mentioned."""
        known = self._inner.get(id(relation))
        if known is None:
            known = self._inner[id(relation)] = (relation, self._closed(self.rows(relation)))
        return known[1]

    def _mention(self, step: Step, *names: str) -> str:
        """What stands for the name of ``step`` in a query inside an expression, until it has one."""
        token = f"\0{len(self._subqueries)}\0"
        self._subqueries.append((step, token))
        step.needed.update(dict.fromkeys(names))
        return token


@dataclass(frozen=True, slots=True)
class _Cell:
    """One window function of SQL: over the columns ``within``, without windows in its arguments."""

    function: str
    arguments: tuple[ir.Scalar, ...]
    within: tuple[str, ...]
    type: str


class _Layers:
    """Windows taken apart into those of SQL, in layers: each stands on columns of the layers before it."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self.layers: list[dict[_Cell, ir.BoundColumn]] = []
        self._numbers = numbers
        self._levels: dict[str, int] = {}

    def lowered(self, scalar: ir.Scalar) -> tuple[ir.Scalar, int]:
        """``scalar`` with columns for windows, and how many layers must be below it."""
        if isinstance(scalar, ir.Window):
            return self._window(scalar)
        parts = [self.lowered(part) for part in ir.operands(scalar)]
        level = max((n for _, n in parts), default=0)
        return (_with_operands(scalar, [part for part, _ in parts]), level) if level else (scalar, 0)

    def _window(self, window: ir.Window) -> tuple[ir.Scalar, int]:
        lowered = [self.lowered(a) for a in window.arguments]
        arguments = tuple(a for a, _ in lowered)
        level = max((n for _, n in lowered), default=0)
        within = tuple(name_of(c) for c in window.within)
        kind = window.function
        if kind == "row_window_session":
            return self._session(window, arguments, within, level)
        if window.restart is not None:
            restart, below = self.lowered(window.restart)
            group = self._add("restarts", (restart,), within, "long", below)
            within, level = (*within, name_of(group.column)), max(level, self._level(group))
        if kind == "row_number":
            found = self._add(kind, arguments or (ir.Const(1, "long"),), within, "long", level)
        elif kind in ("row_rank_dense", "row_rank_min"):
            number = self._add("row_number", (ir.Const(1, "long"),), within, "long", level)
            before = self._add("before", arguments[:1], within, arguments[0].type, level)
            found = self._add(kind, (number, arguments[0], before), within, "long", self._level(number))
        else:
            found = self._add(kind, arguments, within, window.type, level)
        return found, self._level(found)

    def _session(
        self, window: ir.Window, arguments: tuple[ir.Scalar, ...], within: tuple[str, ...], level: int
    ) -> tuple[ir.Scalar, int]:
        place = self._add("position", (), within, "long", 0)
        restart: ir.Scalar = ir.Const(False, "bool")
        below = 0
        if window.restart is not None:
            restart, below = self.lowered(window.restart)
        if within:
            number = self._add("row_number", (ir.Const(1, "long"),), within, "long", 0)
            is_first = ir.Compare("==", number, ir.Const(1, "long"), False)
            restart = ir.Junction("or", (restart, is_first), True)
        found = self._add("session", (*arguments, restart, place), (), window.type, max(level, below, 1))
        return found, self._level(found)

    def _add(
        self, function: str, arguments: tuple[ir.Scalar, ...], within: tuple[str, ...], kind: str, level: int
    ) -> ir.Ref:
        while len(self.layers) <= level:
            self.layers.append({})
        cell = _Cell(function, arguments, within, kind)
        if cell not in self.layers[level]:
            column = ir.BoundColumn(-next(self._numbers), kind, kind != "string")
            self.layers[level][cell] = column
            self._levels[name_of(column)] = level + 1
        return ir.Ref(self.layers[level][cell])

    def _level(self, ref: ir.Ref) -> int:
        return self._levels[name_of(ref.column)]


def _with_operands(scalar: ir.Scalar, parts: Sequence[ir.Scalar]) -> ir.Scalar:
    """``scalar`` over other operands, in the order of ``ir.operands``."""
    rest = iter(parts)
    if isinstance(scalar, ir.Apply):
        return replace(scalar, arguments=tuple(rest))
    if isinstance(scalar, ir.Path):
        base = next(rest)
        return replace(
            scalar, base=base, steps=tuple(s if isinstance(s, str | int) else next(rest) for s in scalar.steps)
        )
    if isinstance(scalar, ir.Convert):
        return replace(scalar, base=next(rest))
    if isinstance(scalar, ir.Compare):
        return replace(scalar, left=next(rest), right=next(rest))
    if isinstance(scalar, ir.OneOf):
        return replace(scalar, subject=next(rest), items=tuple(rest))
    if isinstance(scalar, ir.InRelation):
        return replace(scalar, subject=next(rest))
    if isinstance(scalar, ir.Junction):
        return replace(scalar, operands=tuple(rest))
    if isinstance(scalar, ir.Choice):
        pairs = tuple((next(rest), next(rest)) for _ in scalar.pairs)
        return replace(scalar, pairs=pairs, otherwise=next(rest))
    if isinstance(scalar, ir.Window):
        arguments = tuple(next(rest) for _ in scalar.arguments)
        return replace(scalar, arguments=arguments, restart=next(rest, None))
    return scalar


def _has_window(scalar: ir.Scalar) -> bool:
    return _holds(scalar, ir.Window)


def _has_query(scalar: ir.Scalar) -> bool:
    return _holds(scalar, ir.FirstOf | ir.InRelation)


def _holds(scalar: ir.Scalar, kind: Any) -> bool:
    waiting = [scalar]
    while waiting:
        node = waiting.pop()
        if isinstance(node, kind):
            return True
        waiting.extend(ir.operands(node))
    return False


def _is_ref(scalar: ir.Scalar) -> bool:
    return isinstance(scalar, ir.Ref)


def _is_and(scalar: ir.Scalar) -> TypeGuard[ir.Junction]:
    return isinstance(scalar, ir.Junction) and scalar.operator == "and"


def _price(condition: str) -> int:
    """A rank: what costs little is asked first. Engines learn a better order while they run, but from this one."""
    return next(rank for rank, signs in _DEAR if signs.search(condition))


def _atom(text: str) -> str:
    return text if is_atom(text) else f"({text})"


def _without(text: str, condition: str, order: str) -> str:
    """The template of an aggregate without the places for what there is none of."""
    text = text if condition else text.replace(" $filter", "")
    return text if order else text.replace(" $order", "")


def _size(start: Any, stop: Any, step: Any) -> int:
    """How many numbers there are from ``start`` to ``stop`` by ``step``."""
    if start is None or stop is None or not step:
        return 0
    steps = (
        (stop - start) / step
        if isinstance(step, float | Decimal) or isinstance(start, float)
        else (stop - start) // step
    )
    return max(0, math.floor(steps) + 1) if not isinstance(steps, float) or math.isfinite(steps) else 0
