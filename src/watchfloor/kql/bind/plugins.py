"""The plugins of evaluate: ``PLUGINS`` says for each how it is bound, ``REFUSED`` why others are not.

What SQL can say is put together here; the rest goes to routines. Where the columns of the result follow from the data
(bag_unpack, pivot), they are asked for first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from watchfloor.kql import ast, codec, ir
from watchfloor.kql.bind.grouping import aggregates
from watchfloor.kql.bind.projection import Names, Projection, as_column, compute
from watchfloor.kql.bind.scope import Env, Rel
from watchfloor.kql.bind.shaping import DATA_TYPES
from watchfloor.kql.bind.tools import (
    INTEGERS,
    NUMBERS,
    Handler,
    after,
    aggregate_of,
    column_of,
    empty,
    has_input,
    no_within,
    other_table,
    plain_aggregate,
    source,
    unordered,
)
from watchfloor.kql.errors import KqlError, Span, nearest, unsupported
from watchfloor.kql.functions import FUNCTIONS

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder

MAX_COLUMNS: Final = 1_000
"""Columns that a plugin may find in the data."""

Plugin = Callable[["Binder", Rel, ast.Evaluate, Env], Rel]


def evaluate(binder: Binder, rel: Rel, operator: ast.Evaluate, env: Env) -> Rel:
    """Apply a plugin."""
    name = operator.call.name
    if name in REACHES_OUT:
        raise unsupported(
            f"{name} is not supported: queries reach nothing outside.", operator.span, remedy=REACHES_OUT[name]
        )
    if name in REFUSED:
        raise unsupported(f"{name} is not supported: {REFUSED[name]}", operator.span)
    plugin = PLUGINS.get(name)
    if plugin is None:
        known = [*PLUGINS, *REFUSED, *REACHES_OUT]
        raise KqlError(f"There is no plugin {name}.", operator.call.name_span, remedy=nearest(name, known))
    if not has_input(rel):
        raise KqlError(f"{name} needs rows.", operator.span, remedy="Write a table and | before evaluate.")
    no_within(rel, "evaluate", operator.span)
    found = plugin(binder, rel, operator, env)
    if operator.schema is not None and name not in DATA_DRIVEN:
        found = _declared(binder, found, operator.schema)
    return found.with_(is_serial=False, order=(), name="")


def _declared(binder: Binder, rel: Rel, schema: ast.RowSchema) -> Rel:
    """The rows must have the declared columns, and give only them."""
    columns = dict(rel.columns) if schema.star_at is not None else {}
    for wanted in schema.columns:
        name, column = column_of(binder, rel, wanted.name, "What is declared")
        if column.type != wanted.type:
            raise KqlError(f"{name} is a {column.type}, not a {wanted.type}.", wanted.span)
        columns[name] = column
    return rel.with_(columns=columns)


class Arguments:
    """The arguments of a plugin, by place and by name."""

    def __init__(self, binder: Binder, operator: ast.Evaluate, env: Env) -> None:
        self.call, self.span = operator.call, operator.call.span
        self._binder, self._env = binder, env
        self.plain = [a for a in self.call.arguments if not isinstance(a, ast.Named)]
        self.named = {a.name.name: a.value for a in self.call.arguments if isinstance(a, ast.Named)}

    def expect(self, least: int, most: int | None = None, names: Sequence[str] = ()) -> None:
        """Refuse too few or too many, or other names."""
        if len(self.plain) < least or (most is not None and len(self.plain) > most):
            raise KqlError(f"{self.call.name} does not take {len(self.plain)} arguments.", self.span)
        for name, value in self.named.items():
            if name not in names:
                raise KqlError(f"{self.call.name} has no option {name}.", value.span, remedy=nearest(name, names))

    def column(self, place: int, rel: Rel) -> tuple[str, ir.BoundColumn]:
        """The column that an argument names."""
        return column_of(self._binder, rel, self.plain[place], f"Argument {place + 1} of {self.call.name}")

    def constant(self, place: int) -> ir.Const:
        """An argument that is a constant."""
        what = f"Argument {place + 1} of {self.call.name}"
        found = self._binder.constant(self.plain[place], self._env, what)
        if found.value is None:
            raise KqlError(f"{what} is null.", self.plain[place].span)
        return found

    def whole(self, place: int) -> int:
        """An argument that is a whole number."""
        found = self.constant(place)
        if found.type not in INTEGERS:
            raise KqlError("This must be a whole number.", self.plain[place].span)
        return int(found.value)

    def flag(self, name: str, place: int) -> bool:
        """An option that is on or off: by name, or as the argument at ``place``."""
        value = self.named.get(name, self.plain[place] if place < len(self.plain) else None)
        if value is None:
            return False
        found = self._binder.constant(value, self._env, name)
        if found.type != "bool":
            raise KqlError(f"{name} must be true or false.", value.span)
        return bool(found.value)

    def option(self, name: str) -> Any:
        """The value of a named constant, None where it is not given."""
        value = self.named.get(name)
        return None if value is None else self._binder.constant(value, self._env, name).value


def _routine(
    name: str,
    spec: dict[str, Any],
    rels: Sequence[Rel],
    takes: Sequence[Sequence[ir.BoundColumn]],
    columns: dict[str, ir.BoundColumn],
    relations: Sequence[ir.Relation] = (),
    order: tuple[ir.SortKey, ...] = (),
) -> Rel:
    """Rows that a routine makes."""
    spec = {"columns": [[column.number for column in taken] for taken in takes], **spec}
    routine = ir.Routine(
        name,
        spec,
        tuple(relations) or tuple(rel.relation for rel in rels),
        tuple(tuple(taken) for taken in takes),
        tuple(columns.values()),
        order,
    )
    return source(routine, columns)


# -- columns that follow from the data --------------------------------------------------------------------------------


def bag_unpack(binder: Binder, rel: Rel, operator: ast.Evaluate, env: Env) -> Rel:
    """The properties of a bag as columns."""
    given = Arguments(binder, operator, env)
    given.expect(1, 4, ("columnsConflict", "ignoredProperties", "OutputColumnPrefix", "column_prefix"))
    bag_name, bag = given.column(0, rel)
    if bag.type not in ("dynamic", "unknown"):
        raise KqlError(f"bag_unpack takes a dynamic column, {bag_name} is a {bag.type}.", given.plain[0].span)
    texts = [given.constant(place).value for place in range(1, len(given.plain))]
    prefix = given.option("OutputColumnPrefix") or given.option("column_prefix") or (texts[0] if texts else "")
    conflict = given.option("columnsConflict") or (texts[1] if len(texts) > 1 else "error")
    ignored = set(given.option("ignoredProperties") or (texts[2] if len(texts) > 2 else []))
    if conflict not in ("error", "replace_source", "keep_source"):
        raise KqlError("columnsConflict must be error, replace_source or keep_source.", operator.span)
    kept = {name: column for name, column in rel.columns.items() if name != bag_name}
    if operator.schema is not None:
        return _unpacked_as(binder, rel, operator.schema, bag, kept, prefix, ignored)
    found: dict[str, set[str]] = {}
    for key, type_ in _properties(binder, rel, bag_name, operator.span):
        if key not in ignored:
            found.setdefault(key, set()).add(type_)
    found = {key: types - {"null"} for key, types in found.items() if types - {"null"}}
    if len(found) > MAX_COLUMNS:
        raise KqlError(f"{bag_name} has more than {MAX_COLUMNS} properties.", operator.span, kind="limit")
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    for key in sorted(found):
        name = f"{prefix}{key}"
        if name in kept:
            if conflict == "error":
                remedy = "Add columnsConflict='replace_source' or 'keep_source', or a prefix."
                raise KqlError(f"There is a column {name} already.", operator.span, remedy=remedy)
            if conflict == "keep_source":
                continue
        types = found[key]
        type_ = _COLUMN_TYPES.get(next(iter(types)), "dynamic") if len(types) == 1 else "dynamic"
        kept[name] = as_column(binder, binder.convert(ir.Path(ir.Ref(bag), (key,)), type_), new)
    return unordered(rel, compute(rel.relation, new), kept)


_COLUMN_TYPES: Final = {
    "bool": "bool",
    "double": "real",
    "int": "long",
    "long": "long",
    "real": "real",
    "string": "string",
}


def _properties(binder: Binder, rel: Rel, name: str, span: Span) -> list[tuple[str, str]]:
    """The properties that the bags of a column have, each with the types of its values."""
    leg = binder.fresh(rel)
    pair, key, type_ = binder.new("dynamic"), binder.new("string"), binder.new("string")
    is_bag = ir.Compare(
        "==", binder.apply("gettype", [ir.Ref(leg.columns[name])], span), ir.Const("dictionary", "string"), False
    )
    pairs = ir.Expand(ir.Filter(leg.relation, is_bag), ((pair, ir.Ref(leg.columns[name])),), None, None, True)
    kind = binder.apply("gettype", [ir.Path(ir.Ref(pair), (1,))], span)
    named = ir.Compute(pairs, ((key, binder.convert(ir.Path(ir.Ref(pair), (0,)), "string")), (type_, kind)))
    distinct = ir.Limit(ir.Group(named, (key, type_)), 8 * MAX_COLUMNS)
    rows = binder.ask(f"properties of {name}", source(distinct, {"key": key, "type": type_}))
    return [(str(found), str(of)) for found, of in rows]


def _unpacked_as(
    binder: Binder,
    rel: Rel,
    schema: ast.RowSchema,
    bag: ir.BoundColumn,
    kept: dict[str, ir.BoundColumn],
    prefix: str,
    ignored: set[str],
) -> Rel:
    columns = dict(kept) if schema.star_at is not None else {}
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    for wanted in schema.columns:
        name = wanted.name.name
        value: ir.Scalar = empty(wanted.type)
        if schema.star_at is None and name in kept:
            value = binder.convert(ir.Ref(kept[name]), wanted.type)
        elif name.startswith(prefix) and name[len(prefix) :] not in ignored:
            value = binder.convert(ir.Path(ir.Ref(bag), (name[len(prefix) :],)), wanted.type)
        columns[name] = as_column(binder, value, new) if isinstance(value, ir.Ref) else binder.new(wanted.type)
        if not isinstance(value, ir.Ref):
            new.append((columns[name], value))
    return unordered(rel, compute(rel.relation, new), columns)


def pivot(binder: Binder, rel: Rel, operator: ast.Evaluate, env: Env) -> Rel:
    """The values of one column as columns of aggregates."""
    given = Arguments(binder, operator, env)
    given.expect(1)
    pivot_name, column = given.column(0, rel)
    if column.type == "dynamic":
        raise KqlError("The column of pivot cannot be dynamic.", given.plain[0].span, remedy="Use tostring( ... ).")
    aggregate = given.plain[1] if len(given.plain) > 1 else ast.Call("count", (), operator.span, operator.span)
    if not isinstance(aggregate, ast.Call):
        raise KqlError("The second argument of pivot is an aggregate.", aggregate.span)
    names = [given.column(place, rel)[0] for place in range(2, len(given.plain))]
    if not names:
        used = {argument.name for argument in aggregate.arguments if isinstance(argument, ast.Name)}
        names = [name for name in rel.columns if name != pivot_name and name not in used]
    keys = {name: rel.columns[name] for name in names}
    for name, key in keys.items():
        if key.type == "dynamic":
            raise KqlError(f"{name} is dynamic, pivot cannot tell its values apart.", operator.span)
    wanted: list[tuple[str, ir.Const]] = []
    if operator.schema is not None:
        for declared in operator.schema.columns:
            if declared.name.name not in keys:
                text = binder.convert(ir.Const(declared.name.name, "string"), column.type)
                wanted.append((declared.name.name, text if isinstance(text, ir.Const) else empty(column.type)))
    else:
        for value in _values(binder, rel, pivot_name):
            constant = ir.Const(value, column.type)
            text = binder.convert(constant, "string")
            wanted.append((text.value if isinstance(text, ir.Const) else "", constant))
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    calls: list[tuple[ir.BoundColumn, ir.Call]] = []
    values: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    columns = dict(keys)
    taken = Names(list(columns))
    for title, constant in wanted:
        result = Projection(binder)
        found, computed = aggregates(binder, rel, [aggregate], env, result, [])
        if len(result.columns) != 1 or found.extremes:
            raise unsupported("This aggregate is not supported by pivot.", aggregate.span)
        test = binder.new("bool", is_nullable=False)
        new.append((test, ir.OneOf(ir.Ref(column), (constant,), is_negated=False)))
        if constant.value is None:
            new[-1] = (test, binder.apply("isnull", [ir.Ref(column)], operator.span))
        for made, call in found.calls:
            both: ir.Scalar = ir.Ref(test)
            if call.condition is not None:
                both = ir.Junction("and", (both, call.condition), is_nullable=call.condition.is_nullable)
            calls.append((made, ir.Call(call.aggregate, call.arguments, both)))
        values += computed
        columns[taken.add(title or "Column1")] = next(iter(result.columns.values()))
    grouped = ir.Group(compute(rel.relation, new), tuple(dict.fromkeys(keys.values())), tuple(calls))
    if not keys:
        some = binder.new("long", is_nullable=False)
        counted = ir.Group(grouped.input, (), (*grouped.aggregates, (some, plain_aggregate("count"))))
        filtered = ir.Filter(counted, ir.Compare(">", ir.Ref(some), ir.Const(0, "long"), False))
        return unordered(rel, compute(filtered, values), columns)
    pivoted = unordered(rel, compute(grouped, values), columns)
    return pivoted if operator.schema is None else _ordered_as(pivoted, operator.schema)


def _ordered_as(rel: Rel, schema: ast.RowSchema) -> Rel:
    declared = {wanted.name.name: wanted for wanted in schema.columns}
    names = [*(n for n in rel.columns if n not in declared and schema.star_at is not None), *declared]
    for name in names:
        if name in declared and name in rel.columns and rel.columns[name].type != declared[name].type:
            raise KqlError(f"{name} is a {rel.columns[name].type} here.", declared[name].span)
    return rel.with_(columns={name: rel.columns[name] for name in names if name in rel.columns})


def _values(binder: Binder, rel: Rel, name: str) -> list[Any]:
    """The different values of a column, in the order in which they first occur."""
    leg = binder.fresh(rel)
    number, first = binder.new("long", is_nullable=False), binder.new("long")
    place = ir.Window("row_number", (ir.Const(1, "long"),), None, "long")
    numbered = ir.Compute(ir.Serial(leg.relation), ((number, place),))
    column = leg.columns[name]
    grouped = ir.Group(numbered, (column,), ((first, aggregate_of("min", ir.Ref(number))),))
    ordered = ir.Limit(ir.Order(grouped, (ir.SortKey(first, False, True),)), MAX_COLUMNS + 1)
    rows = binder.ask(f"values of {name}", source(ordered, {name: column}))
    if len(rows) > MAX_COLUMNS:
        raise KqlError(f"{name} has more than {MAX_COLUMNS} values.", Span(0, 0), kind="limit")
    return [value for (value,) in rows]


# -- small ones -------------------------------------------------------------------------------------------------------


def narrow(binder: Binder, rel: Rel, operator: ast.Evaluate, env: Env) -> Rel:
    """A row for each cell."""
    Arguments(binder, operator, env).expect(0, 0)
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    takes = [as_column(binder, binder.convert(ir.Ref(c), "string"), new) for c in rel.columns.values()]
    types = {"Row": "long", "Column": "string", "Value": "string"}
    columns = {name: binder.new(type_, is_nullable=False) for name, type_ in types.items()}
    spec = {"names": list(rel.columns)}
    return _routine("narrow", spec, [rel], [takes], columns, [compute(rel.relation, new)])


def rows_near(binder: Binder, rel: Rel, operator: ast.Evaluate, env: Env) -> Rel:
    """The rows around those for which something holds."""
    given = Arguments(binder, operator, env)
    given.expect(2, 3)
    if not rel.is_serial:
        raise KqlError("rows_near needs rows in an order.", operator.span, remedy="Add sort by ... before it.")
    condition = binder.condition(given.plain[0], rel, env)
    before = given.whole(1)
    after_ = given.whole(2) if len(given.plain) > 2 else before
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    test = binder.new("bool", condition.is_nullable)
    new.append((test, condition))
    kept = list(dict.fromkeys(rel.columns.values()))
    spec = {"condition": len(kept), "before": before, "after": after_}
    columns = {str(column.number): column for column in kept}
    found = _routine("rows_near", spec, [rel], [[*kept, test]], columns, [compute(rel.relation, new)], rel.order)
    return found.with_(columns=dict(rel.columns))


def preview(binder: Binder, rel: Rel, operator: ast.Evaluate, env: Env) -> Rel:
    """Some rows, and as a second result how many there are."""
    given = Arguments(binder, operator, env)
    given.expect(1, 1)
    rows = given.whole(0)
    first, second = binder.fresh(rel), binder.fresh(rel)
    number = binder.new("long", is_nullable=False)
    count = source(ir.Group(second.relation, (), ((number, plain_aggregate("count")),)), {"Count": number})
    return after(first, ir.Limit(first.relation, rows), first.columns, others=(("Count", count),))


def identity(binder: Binder, rel: Rel, operator: ast.Evaluate, env: Env) -> Rel:
    """The rows as they are."""
    Arguments(binder, operator, env).expect(0, 0)
    return rel


def dcount_intersect(binder: Binder, rel: Rel, operator: ast.Evaluate, env: Env) -> Rel:
    """How many values the first, the first two, the first three, ... sets of hll values have in common."""
    given = Arguments(binder, operator, env)
    given.expect(2, 6)
    sets = [binder.scalar(argument, rel, env) for argument in given.plain]
    for value, argument in zip(sets, given.plain, strict=True):
        if value.type not in ("dynamic", "unknown"):
            raise KqlError("dcount_intersect takes hll values.", argument.span)
    projection = Projection(binder, rel.columns)
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    for size in range(1, len(sets) + 1):
        total: ir.Scalar | None = None
        for chosen in range(1, size + 1):
            for part in combinations(sets[:size], chosen):
                union = part[0] if chosen == 1 else binder.apply("hll_merge", list(part), operator.span)
                counted = binder.apply("dcount_hll", [union], operator.span)
                if total is None:
                    total = counted
                else:
                    total = binder.apply("+" if chosen % 2 else "-", [total, counted], operator.span)
        assert total is not None
        column = binder.new(total.type)
        new.append((column, total))
        projection.imply(f"s{size - 1}", column)
    return unordered(rel, compute(rel.relation, new), projection.columns)


def schema_merge(binder: Binder, rel: Rel, operator: ast.Evaluate, env: Env) -> Rel:
    """Several results of getschema as one."""
    given = Arguments(binder, operator, env)
    given.expect(0, 1, ("PreserveOrder",))
    keeps = given.option("PreserveOrder")
    if keeps is None:
        keeps = given.constant(0).value if given.plain else True
    types = {"ColumnName": "string", "ColumnOrdinal": "long", "DataType": "string", "ColumnType": "string"}
    for name, type_ in types.items():
        if name not in rel.columns or rel.columns[name].type != type_:
            raise KqlError("schema_merge takes what getschema gives.", operator.span)
    columns = {name: binder.new(type_, is_nullable=False) for name, type_ in types.items()}
    spec = {"preserve_order": bool(keeps), "data_types": dict(DATA_TYPES)}
    return _routine("schema_merge", spec, [rel], [[rel.columns[name] for name in types]], columns)


# -- look-ups ---------------------------------------------------------------------------------------------------------


def _lookup(
    binder: Binder, rel: Rel, table: Rel, without: Sequence[str], is_unmatched: bool, is_table_first: bool = False
) -> tuple[dict[str, ir.BoundColumn], dict[str, Any], list[ir.BoundColumn], list[ir.BoundColumn]]:
    """Columns of a look-up's result, what the routine must know of them, and the columns that it takes of each side."""
    left = list(dict.fromkeys(rel.columns.values()))
    right = list(dict.fromkeys(table.columns.values()))
    of_left = [(name, column, left.index(column)) for name, column in rel.columns.items()]
    of_right = [(name, column, right.index(column)) for name, column in table.columns.items() if name not in without]
    columns: dict[str, ir.BoundColumn] = {}
    made: dict[str, ir.BoundColumn] = {}
    names = Names()
    for name, column, _ in [*of_right, *of_left] if is_table_first else [*of_left, *of_right]:
        made[names.add(name)] = binder.new(column.type, True)
    places = list(made.values())
    split = len(of_right) if is_table_first else len(of_left)
    first, second = places[:split], places[split:]
    in_routine = [*second, *first] if is_table_first else places
    columns = dict(made)
    spec = {
        "unmatched": is_unmatched,
        "left": [place for _, _, place in of_left],
        "right": [place for _, _, place in of_right],
        "right_types": [column.type for _, column, _ in of_right],
    }
    spec["made"] = [column.number for column in in_routine]
    return columns, spec, left, right


def _looked_up(
    name: str,
    rel: Rel,
    table: Rel,
    columns: dict[str, ir.BoundColumn],
    spec: dict[str, Any],
    takes: Sequence[Sequence[ir.BoundColumn]],
) -> Rel:
    by_number = {column.number: column for column in columns.values()}
    made = {str(number): by_number[number] for number in spec.pop("made")}
    return _routine(name, spec, [rel, table], takes, made).with_(columns=columns)


def _ip_lookup(version: int) -> Plugin:
    def lookup(binder: Binder, rel: Rel, operator: ast.Evaluate, env: Env) -> Rel:
        given = Arguments(binder, operator, env)
        given.expect(3, None, ("return_unmatched",))
        table = other_table(binder, given.plain[0], env)
        _, address = given.column(1, rel)
        _, network = given.column(2, table)
        rest = list(given.plain[3:])
        last = rest.pop() if rest and isinstance(rest[-1], ast.Literal) else None
        is_unmatched = given.flag("return_unmatched", given.plain.index(last) if last is not None else 99)
        if rest and version == 6:
            raise KqlError("ipv6_lookup takes no further keys.", operator.span)
        equal: list[tuple[str, ir.BoundColumn, ir.BoundColumn]] = []
        for expression in rest:
            name, mine = column_of(binder, rel, expression, "A further key")
            _, theirs = column_of(binder, table, expression, "A further key")
            if mine.type != theirs.type:
                raise KqlError(f"{name} is a {mine.type} here and a {theirs.type} in the table.", expression.span)
            equal.append((name, mine, theirs))
        for column, argument in ((address, given.plain[1]), (network, given.plain[2])):
            if column.type not in ("string", "unknown"):
                raise KqlError("Addresses must be strings.", argument.span)
        columns, spec, left, right = _lookup(
            binder, rel, table, [name for name, _, _ in equal], is_unmatched, is_table_first=version == 6
        )
        spec |= {
            "version": version,
            "source": left.index(address),
            "network": right.index(network),
            "equal": [[left.index(mine), right.index(theirs)] for _, mine, theirs in equal],
        }
        return _looked_up("ip_lookup", rel, table, columns, spec, [left, right])

    return lookup


_GEO_FUNCTIONS: Final = frozenset(
    {"geo_point_in_polygon", "geo_distance_point_to_polygon", "geo_distance_point_to_line"}
)


def _geo_lookup(kind: str) -> Plugin:
    def lookup(binder: Binder, rel: Rel, operator: ast.Evaluate, env: Env) -> Rel:
        if not FUNCTIONS.keys() >= _GEO_FUNCTIONS:
            raise unsupported(f"geo_{kind}_lookup is not supported.", operator.span)
        given = Arguments(binder, operator, env)
        given.expect(4, 8, ("radius", "return_unmatched", "lookup_area_radius", "return_lookup_key"))
        table = other_table(binder, given.plain[0], env)
        key_name, key = given.column(1, table)
        _, longitude = given.column(2, rel)
        _, latitude = given.column(3, rel)
        radius = given.option("radius")
        if radius is None and len(given.plain) > 4:
            radius = given.constant(4).value
        if radius is None and kind == "line":
            raise KqlError("geo_line_lookup needs a radius.", operator.span)
        returns_key = given.flag("return_lookup_key", 7)
        columns, spec, left, right = _lookup(
            binder, rel, table, [] if returns_key else [key_name], given.flag("return_unmatched", 5)
        )
        new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
        spots = [as_column(binder, binder.convert(ir.Ref(c), "real"), new) for c in (longitude, latitude)]
        takes = list(dict.fromkeys([*left, *spots]))
        spec |= {
            "kind": kind,
            "key": right.index(key),
            "longitude": takes.index(spots[0]),
            "latitude": takes.index(spots[1]),
            "radius": None if radius is None else float(radius),
        }
        computed = rel.with_(relation=compute(rel.relation, new))
        return _looked_up("geo_lookup", computed, table, columns, spec, [takes, right])

    return lookup


# -- along a timeline -------------------------------------------------------------------------------------------------


class Timeline:
    """The id, the time and the dimensions that a plugin goes by."""

    def __init__(self, given: Arguments, rel: Rel, dimensions_at: int) -> None:
        self.id_name, self.id = given.column(0, rel)
        self.time_name, self.time = given.column(1, rel)
        self.dimensions = [given.column(place, rel) for place in range(dimensions_at, len(given.plain))]
        self.takes = list(dict.fromkeys([self.id, self.time, *(column for _, column in self.dimensions)]))
        if self.time.type not in ("datetime", "timespan", *NUMBERS):
            raise KqlError(f"{self.time_name} is no time.", given.plain[1].span)

    def spec(self) -> dict[str, Any]:
        """What every routine of this kind must know."""
        return {
            "id": self.takes.index(self.id),
            "time": self.takes.index(self.time),
            "dimensions": [self.takes.index(column) for _, column in self.dimensions],
            "time_type": self.time.type,
        }

    def columns(self, binder: Binder, figures: dict[str, str]) -> dict[str, ir.BoundColumn]:
        """The columns of the result: the time, the dimensions, the figures."""
        names = Names()
        made = {names.add(self.time_name): binder.new(self.time.type)}
        made |= {names.add(name): binder.new(column.type) for name, column in self.dimensions}
        return made | {names.add(name): binder.new(type_, is_nullable=False) for name, type_ in figures.items()}


def _point(binder: Binder, given: Arguments, place: int, type_: str) -> Any:
    """An argument as a value of the timeline's type, for JSON."""
    found = given.constant(place)
    if found.type == "string":
        raise unsupported("Steps by week, month and year are not supported.", given.plain[place].span)
    if found.type != type_ and not (found.type in NUMBERS and type_ in NUMBERS):
        raise KqlError(f"This must be a {type_}, it is a {found.type}.", given.plain[place].span)
    converted = binder.convert(found, type_)
    if not isinstance(converted, ir.Const) or converted.value is None:
        raise KqlError(f"This is no {type_}.", given.plain[place].span)
    return codec.encode_value(converted.value, type_)


def _along(name: str, bounds: Sequence[str], figures: dict[str, str], numbers: Sequence[str] = ()) -> Plugin:
    """A plugin (id, time, bounds..., dimensions...): ``start`` and ``end`` are points, the other bounds distances."""

    def plugin(binder: Binder, rel: Rel, operator: ast.Evaluate, env: Env) -> Rel:
        given = Arguments(binder, operator, env)
        given.expect(2 + len(bounds))
        line = Timeline(given, rel, 2 + len(bounds))
        distance = "timespan" if line.time.type == "datetime" else line.time.type
        spec = line.spec()
        for place, bound in enumerate(bounds, 2):
            if bound in numbers:
                spec[bound] = given.whole(place)
                continue
            spec[bound] = _point(binder, given, place, line.time.type if bound in ("start", "end") else distance)
            if bound not in ("start", "end") and spec[bound] <= 0:
                raise KqlError("This must be greater than 0.", given.plain[place].span)
        return _routine(name, spec, [rel], [line.takes], line.columns(binder, figures))

    return plugin


def rolling_percentile(binder: Binder, rel: Rel, operator: ast.Evaluate, env: Env) -> Rel:
    """A percentile over a window of bins, for each bin."""
    given = Arguments(binder, operator, env)
    given.expect(5)
    value_name, value = given.column(0, rel)
    percentile = given.constant(1)
    index_name, index = given.column(2, rel)
    dimensions = [given.column(place, rel) for place in range(5, len(given.plain))]
    if percentile.type not in NUMBERS or not 0 <= percentile.value <= 100:
        raise KqlError("A percentile is a number from 0 to 100.", given.plain[1].span)
    if index.type not in ("datetime", "timespan", *NUMBERS):
        raise KqlError(f"{index_name} has no bins.", given.plain[2].span)
    size = _point(binder, given, 3, "timespan" if index.type == "datetime" else index.type)
    bins = given.whole(4)
    if size <= 0 or bins <= 0:
        raise KqlError("Bins and windows must be greater than 0.", operator.span)
    takes = list(dict.fromkeys([value, index, *(column for _, column in dimensions)]))
    spec = {
        "value": takes.index(value),
        "index": takes.index(index),
        "dimensions": [takes.index(column) for _, column in dimensions],
        "percentile": float(percentile.value),
        "bin": size,
        "bins": bins,
        "index_type": index.type,
        "value_type": value.type,
    }
    names = Names()
    columns = {names.add(index_name): binder.new(index.type)}
    columns |= {names.add(name): binder.new(column.type) for name, column in dimensions}
    shown = int(percentile.value) if percentile.value == int(percentile.value) else percentile.value
    columns[names.add(f"rolling_{bins}_percentile_{value_name}_{shown}")] = binder.new(value.type)
    return _routine("rolling_percentile", spec, [rel], [takes], columns)


PLUGINS: Final[dict[str, Plugin]] = {
    "active_users_count": _along(
        "active_users_count",
        ("start", "end", "lookback", "period", "active_periods", "bin"),
        {"dcount": "long"},
        ("active_periods",),
    ),
    "activity_counts_metrics": _along(
        "activity_counts_metrics",
        ("start", "end", "step"),
        {"count": "long", "dcount": "long", "new_dcount": "long", "aggregated_dcount": "long"},
    ),
    "activity_metrics": _along(
        "activity_metrics",
        ("start", "end", "step"),
        {"dcount_values": "long", "dcount_newvalues": "long", "retention_rate": "real", "churn_rate": "real"},
    ),
    "bag_unpack": bag_unpack,
    "dcount_intersect": dcount_intersect,
    "geo_line_lookup": _geo_lookup("line"),
    "geo_polygon_lookup": _geo_lookup("polygon"),
    "identity": identity,
    "ipv4_lookup": _ip_lookup(4),
    "ipv6_lookup": _ip_lookup(6),
    "narrow": narrow,
    "pivot": pivot,
    "preview": preview,
    "rolling_percentile": rolling_percentile,
    "rows_near": rows_near,
    "schema_merge": schema_merge,
    "session_count": _along("session_count", ("start", "end", "bin", "lookback"), {"count_sessions": "long"}),
    "sliding_window_counts": _along(
        "sliding_window_counts", ("start", "end", "lookback", "bin"), {"Count": "long", "Dcount": "long"}
    ),
}
"""How each plugin is bound."""

DATA_DRIVEN: Final = frozenset({"bag_unpack", "pivot"})
"""Plugins that see to the declared columns of their result themselves."""

REFUSED: Final = {
    "activity_engagement": "which windows it counts is not documented exactly.",
    "autocluster": "its algorithm is not published.",
    "basket": "its algorithm is not published.",
    "diffpatterns": "its algorithm is not published.",
    "diffpatterns_text": "its algorithm is not published.",
    "estimate_rows_count": "use count.",
    "funnel_sequence": "which events it pairs is not documented exactly.",
    "funnel_sequence_completion": "which events it pairs is not documented exactly.",
    "new_activity_metrics": "which windows it counts is not documented exactly.",
    "sequence_detect": "which events it pairs is not documented exactly. Use scan.",
}
"""Plugins that are not answered, and why."""

_LISTS: Final = "Bring the data in as a named list and use _GetWatchlist( ... )."
_CODE: Final = "Write it in KQL."
REACHES_OUT: Final = {
    "ai_chat_completion": _CODE,
    "ai_chat_completion_prompt": _CODE,
    "ai_embed_text": _CODE,
    "ai_embeddings": _CODE,
    "azure_digital_twins_query_request": _LISTS,
    "cosmosdb_sql_request": _LISTS,
    "csharp": _CODE,
    "dax_request": _LISTS,
    "execute_query": _LISTS,
    "execute_show_command": _LISTS,
    "external_datatable": _LISTS,
    "http_request": _LISTS,
    "http_request_post": _LISTS,
    "infer_storage_schema": _LISTS,
    "infer_storage_schema_with_suggestions": _LISTS,
    "mysql_request": _LISTS,
    "postgresql_request": _LISTS,
    "python": _CODE,
    "r": _CODE,
    "sql_request": _LISTS,
}
"""Plugins that run other code or read from elsewhere, and what to do instead."""

EVALUATE: Final[dict[type[Any], Handler]] = {ast.Evaluate: evaluate}
