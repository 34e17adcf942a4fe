"""The tabular operators that keep, order and shape rows of one table.

``SHAPING`` says for each of these operators how it is bound. Groups of partition and mv-apply (``Rel.within``) are kept
apart by every operator, or it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.grouping import distinct
from watchfloor.kql.bind.projection import Projection, as_column, bind_items, compute
from watchfloor.kql.bind.scalars import NO_ROW
from watchfloor.kql.bind.scope import Env, Function, Rel
from watchfloor.kql.bind.tools import (
    Handler,
    after,
    column_of,
    has_window,
    listed,
    matches,
    no_within,
    not_dynamic,
    options,
    rows_wanted,
    source,
    unordered,
    word,
)
from watchfloor.kql.errors import KqlError, nearest, unsupported

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder

LEGACY_LIMIT: Final = 128
"""How many rows mvexpand, the old spelling, makes of one."""

DATA_TYPES: Final = {
    "bool": "System.SByte",
    "datetime": "System.DateTime",
    "decimal": "System.Data.SqlTypes.SqlDecimal",
    "dynamic": "System.Object",
    "guid": "System.Guid",
    "int": "System.Int32",
    "long": "System.Int64",
    "real": "System.Double",
    "string": "System.String",
    "timespan": "System.TimeSpan",
}
"""What getschema calls the types."""

# -- rows -------------------------------------------------------------------------------------------------------------


def where(binder: Binder, rel: Rel, operator: ast.Where, env: Env) -> Rel:
    """Keep the rows for which the condition holds."""
    return keep(rel, binder.condition(operator.condition, rel, env), binder)


def keep(rel: Rel, condition: ir.Scalar, binder: Binder) -> Rel:
    """The rows of ``rel`` for which ``condition`` is true."""
    if condition.type == "unknown" or (isinstance(condition, ir.Const) and condition.value is True):
        return rel.with_(name="")
    relation = rel.relation
    if has_window(condition):
        new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
        condition = ir.Ref(as_column(binder, condition, new))
        relation = compute(relation, new)
    if isinstance(relation, ir.Join) and relation.kind == "innerunique":
        return after(rel, _before_innerunique(relation, condition), rel.columns)
    return after(rel, ir.Filter(relation, condition), rel.columns)


def _before_innerunique(join: ir.Join, condition: ir.Scalar) -> ir.Relation:
    """A join that keeps any one left row of a key: what is asked of left columns is asked before one is chosen."""
    left = outputs(join.left)
    parts = condition.operands if isinstance(condition, ir.Junction) and condition.operator == "and" else (condition,)
    early = tuple(p for p in parts if {c.number for c in ir.refs(p)} <= left and not isinstance(p, ir.Const))
    late = tuple(p for p in parts if p not in early)
    relation: ir.Relation = join
    if early:
        relation = ir.Join(join.kind, ir.Filter(join.left, _all(early)), join.right, join.on, join.filled)
    return ir.Filter(relation, _all(late)) if late else relation


def _all(parts: tuple[ir.Scalar, ...]) -> ir.Scalar:
    return parts[0] if len(parts) == 1 else ir.Junction("and", parts, any(p.is_nullable for p in parts))


def outputs(relation: ir.Relation) -> set[int]:
    """The numbers of the columns that ``relation`` has."""
    match relation:
        case ir.Scan():
            return {column.number for column, _ in relation.columns}
        case ir.Values():
            return {column.number for column in relation.columns}
        case ir.Numbers():
            return {relation.column.number}
        case ir.Compute():
            return outputs(relation.input) | {column.number for column, _ in relation.columns}
        case ir.Group():
            kept = {column.number for column in relation.keys} | {column.number for column, _ in relation.aggregates}
            return kept | {column.number for _, _, pairs in relation.arg_extremes for column, _ in pairs}
        case ir.Join():
            sides = [relation.left] if relation.kind in ("leftsemi", "leftanti") else [relation.left, relation.right]
            sides = [relation.right] if relation.kind in ("rightsemi", "rightanti") else sides
            found = {number for side in sides for number in outputs(side)}
            replaced = {old.number for _, old in relation.filled}
            return (found - replaced) | {new.number for new, _ in relation.filled}
        case ir.Union() | ir.Routine():
            return {column.number for column in relation.columns}
        case ir.Expand():
            index = set() if relation.index is None else {relation.index.number}
            return outputs(relation.input) | {column.number for column, _ in relation.items} | index
        case ir.Numbered():
            return outputs(relation.input) | {relation.column.number}
        case ir.Use():
            return {column.number for column, _ in relation.columns}
    return outputs(relation.input)


def take(binder: Binder, rel: Rel, operator: ast.Take, env: Env) -> Rel:
    """Keep some rows: the first, where there is an order."""
    rows = rows_wanted(binder, operator.rows, env, "take")
    return after(rel, ir.Limit(rel.relation, rows, rel.within), rel.columns)


def sort_keys(
    binder: Binder, rel: Rel, keys: Sequence[ast.SortKey], env: Env
) -> tuple[ir.Relation, tuple[ir.SortKey, ...]]:
    """The rows with whatever must be computed to sort them, and by what to sort."""
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    found: list[ir.SortKey] = []
    for key in keys:
        expression = key.value.value if isinstance(key.value, ast.Named) else key.value
        value = binder.scalar(expression, rel, env)
        not_dynamic(binder, value, expression.span, "What rows are sorted by")
        if value.type == "unknown" or isinstance(value, ir.Const):
            continue
        found.append(ir.SortKey(as_column(binder, value, new), key.is_descending, key.nulls_first))
    return compute(rel.relation, new), tuple(found)


def sort(binder: Binder, rel: Rel, operator: ast.Sort, env: Env) -> Rel:
    """Order the rows."""
    relation, keys = sort_keys(binder, rel, operator.keys, env)
    ordered = ir.Order(relation, keys, rel.within) if keys else ir.Serial(relation)
    return after(rel, ordered, rel.columns, order=keys or rel.order, is_serial=True)


def top(binder: Binder, rel: Rel, operator: ast.Top, env: Env) -> Rel:
    """Keep the first rows by some order."""
    rows = rows_wanted(binder, operator.rows, env, "top")
    relation, keys = sort_keys(binder, rel, operator.keys, env)
    ordered = ir.Order(relation, keys, rel.within) if keys else ir.Serial(relation)
    limited = ir.Limit(ordered, rows, rel.within)
    return after(rel, limited, rel.columns, order=keys or rel.order, is_serial=True)


def sample(binder: Binder, rel: Rel, operator: ast.Sample, env: Env) -> Rel:
    """Keep any rows, or any different values."""
    if operator.of is None:
        rows = rows_wanted(binder, operator.rows, env, "sample")
        if rel.within:
            return unordered(rel, ir.Limit(rel.relation, rows, rel.within), rel.columns)
        return unordered(rel, ir.Sample(rel.relation, rows), rel.columns)
    rows = rows_wanted(binder, operator.rows, env, "sample-distinct")
    found = distinct(binder, rel, ast.Distinct((operator.of,), operator.span), env)
    return after(found, ir.Limit(found.relation, rows, found.within), found.columns)


def serialize(binder: Binder, rel: Rel, operator: ast.Serialize, env: Env) -> Rel:
    """The order of the rows counts from here on."""
    fixed = rel.with_(relation=rel.relation if rel.is_serial else ir.Serial(rel.relation), is_serial=True, name="")
    return extend(binder, fixed, ast.Extend(operator.items, operator.span), env) if operator.items else fixed


# -- columns ----------------------------------------------------------------------------------------------------------


def extend(binder: Binder, rel: Rel, operator: ast.Extend, env: Env) -> Rel:
    """Add columns, or replace them where they stand."""
    projection = Projection(binder, rel.columns)
    new = bind_items(binder, rel, operator.items, env, projection, replace=True)
    return after(rel, compute(rel.relation, new), projection.columns)


def project(binder: Binder, rel: Rel, operator: ast.Project, env: Env) -> Rel:
    """Exactly these columns."""
    projection = Projection(binder)
    new = bind_items(binder, rel, operator.items, env, projection, replace=False)
    return after(rel, compute(rel.relation, new), projection.columns)


def project_away(binder: Binder, rel: Rel, operator: ast.ProjectAway, env: Env) -> Rel:
    """Without, or only with, some columns; the order stays."""
    meant = set(listed(rel, operator.items, binder))
    kept = {name: column for name, column in rel.columns.items() if (name in meant) == operator.is_keep}
    return after(rel, rel.relation, kept)


def project_rename(binder: Binder, rel: Rel, operator: ast.ProjectRename, env: Env) -> Rel:
    """Other names in the same places."""
    renamed: dict[str, str] = {}
    for item in operator.items:
        if not isinstance(item, ast.Named) or not isinstance(item.value, ast.Name):
            binder.report(KqlError("Write newname = oldname here.", item.span))
            continue
        old, new = item.value.name, item.name.name
        if old not in rel.columns:
            column_of(binder, rel, item.value, "What is renamed")
        if old in renamed:
            binder.report(KqlError(f"{old} is renamed twice.", item.span))
        elif new != old and (new in rel.columns or new in renamed.values()):
            binder.report(
                KqlError(f"There is a column {new} already.", item.name.span, remedy="Use project to exchange names.")
            )
        else:
            renamed[old] = new
    return after(rel, rel.relation, {renamed.get(name, name): column for name, column in rel.columns.items()})


def project_reorder(binder: Binder, rel: Rel, operator: ast.ProjectReorder, env: Env) -> Rel:
    """Some columns to the front."""
    front: dict[str, None] = {}
    for item in operator.items:
        meant = listed(rel, [item.value], binder)
        if item.order:
            natural = item.order.startswith("granny")
            meant.sort(key=_granny if natural else _folded, reverse=item.order.endswith("desc"))
        front |= dict.fromkeys(meant)
    names = [*front, *(name for name in rel.columns if name not in front)]
    return after(rel, rel.relation, {name: rel.columns[name] for name in names})


def _folded(name: str) -> tuple[str, str]:
    return name.casefold(), name


def _granny(name: str) -> tuple[Any, ...]:
    """Runs of digits count as numbers: a2 comes before a10."""
    parts: list[tuple[int, int, str]] = []
    digits = ""
    for sign in f"{name.casefold()}\0":
        if sign.isdecimal():
            digits += sign
            continue
        if digits:
            parts.append((0, int(digits), ""))
            digits = ""
        parts.append((1, 0, sign))
    return (*parts, (2, 0, name))


def project_by_names(binder: Binder, rel: Rel, operator: ast.ProjectByNames, env: Env) -> Rel:
    """The columns whose names are values."""
    names: dict[str, None] = {}
    for item in operator.items:
        given = binder.constant(item, env, "A column name of project-by-names").value
        for text in given if isinstance(given, list) else [given]:
            if not isinstance(text, str):
                raise KqlError("A column name of project-by-names must be a string.", item.span)
            names |= dict.fromkeys(name for name in rel.columns if matches(text, name))
    return after(rel, rel.relation, {name: rel.columns[name] for name in names})


# -- lists ------------------------------------------------------------------------------------------------------------


def mv_expand(binder: Binder, rel: Rel, operator: ast.MvExpand, env: Env) -> Rel:
    """One row for each element."""
    kinds = ("bag", "array")
    given = options(operator.options, {"kind": kinds, "bagexpansion": kinds, "with_itemindex": None}, "mv-expand")
    as_array = word(given.get("kind") or given.get("bagexpansion")) == "array"
    limit = LEGACY_LIMIT if operator.is_legacy else None
    if operator.limit is not None:
        limit = rows_wanted(binder, operator.limit, env, "mv-expand")
    index = word(given.get("with_itemindex"))
    return expanded(binder, rel, operator.items, env, index, limit, as_array)[0]


def expanded(
    binder: Binder,
    rel: Rel,
    items: Sequence[ast.ExpandItem],
    env: Env,
    index_name: str,
    limit: int | None,
    as_array: bool,
) -> tuple[Rel, list[str]]:
    """``rel`` with a row for each element, and the names of the columns that are new or replaced."""
    projection = Projection(binder, rel.columns)
    found: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    names: list[str] = []
    for item in items:
        value = binder.scalar(item.value, rel, env)
        if value.type not in ("dynamic", "unknown"):
            remedy = "Make it one with parse_json() or split()."
            binder.report(
                KqlError(f"Only dynamic values expand, this is a {value.type}.", item.value.span, remedy=remedy)
            )
        column = binder.new(item.type or "dynamic")
        declared = item.name
        if declared is None and isinstance(item.value, ast.Name) and item.value.name in rel.columns:
            declared = item.value
        if declared is not None:
            projection.declare(declared.name, column, declared.span, replace=True)
            names.append(declared.name)
        else:
            name = binder.column_name(item.value, rel) or projection.unnamed()
            names.append(projection.imply(name, column, replace=True))
        found.append((column, value))
    index = None
    if index_name:
        index = binder.new("long", is_nullable=False)
        names.append(projection.imply(index_name, index))
    relation = ir.Expand(rel.relation, tuple(found), index, limit, as_array)
    return after(rel, relation, projection.columns, is_serial=False), names


# -- the rest ---------------------------------------------------------------------------------------------------------


def render(binder: Binder, rel: Rel, operator: ast.Render, env: Env) -> Rel:
    """How to draw the rows; they stay as they are."""
    properties: dict[str, Any] = {}
    for option in operator.options:
        value = option.value
        properties[option.name] = value.name if isinstance(value, ast.Name) else _literal(value)
    return rel.with_(visualization=ir.Visualization(operator.kind, properties))


def _literal(value: ast.Expr) -> Any:
    if isinstance(value, ast.Literal):
        return value.value
    raise KqlError("A property of a chart must be a word or a literal.", value.span)


def as_name(binder: Binder, rel: Rel, operator: ast.As, env: Env) -> Rel:
    """Give the rows so far a name; what follows finds them under it (``Statements.pipeline``)."""
    return rel.with_(name=operator.name.name)


def getschema(binder: Binder, rel: Rel, operator: ast.Getschema, env: Env) -> Rel:
    """The columns as rows."""
    no_within(rel, "getschema", operator.span)
    given = options(operator.options, {"kind": None}, "getschema")
    if "kind" in given:
        remedy = "getschema without it gives the columns as rows."
        raise unsupported(
            "The kind of getschema is not supported: it is not documented.", given["kind"].span, remedy=remedy
        )
    types = {"ColumnName": "string", "ColumnOrdinal": "long", "DataType": "string", "ColumnType": "string"}
    columns = {name: binder.new(type_, is_nullable=False) for name, type_ in types.items()}
    rows = tuple(
        (name, place, DATA_TYPES.get(column.type, ""), column.type)
        for place, (name, column) in enumerate(rel.columns.items())
    )
    return source(ir.Values(tuple(columns.values()), rows), columns, is_serial=True)


def invoke(binder: Binder, rel: Rel, operator: ast.Invoke, env: Env) -> Rel:
    """Call a function with the rows so far as its first argument."""
    call = operator.call
    function = env.find(call.name) if call.base is None else None
    if not isinstance(function, Function):
        known = [name for name in env.visible() if isinstance(env.find(name), Function)]
        raise KqlError(f"There is no function {call.name} here.", call.name_span, remedy=nearest(call.name, known))
    found = binder.invoke(function, call, NO_ROW, env, rel)
    if not isinstance(found, Rel):
        raise KqlError(f"{call.name}() gives a value, invoke needs a table.", call.span)
    return found.with_(name="")


def consume(binder: Binder, rel: Rel, operator: ast.Consume, env: Env) -> Rel:
    """No rows, no columns."""
    return source(ir.Limit(rel.relation, 0), {})


def assert_schema(binder: Binder, rel: Rel, operator: ast.AssertSchema, env: Env) -> Rel:
    """An error unless the rows have these columns."""
    for wanted in operator.schema.columns:
        name, column = column_of(binder, rel, wanted.name, "What is asserted")
        if column.type not in (wanted.type, "unknown"):
            raise KqlError(f"{name} is a {column.type}, not a {wanted.type}.", wanted.span)
    return rel


def not_supported(binder: Binder, rel: Rel, operator: ast.UnsupportedOperator, env: Env) -> Rel:
    """Refuse by name."""
    raise unsupported(f"{operator.name} is not supported.", operator.span)


SHAPING: Final[dict[type[Any], Handler]] = {
    ast.As: as_name,
    ast.AssertSchema: assert_schema,
    ast.Consume: consume,
    ast.Extend: extend,
    ast.Getschema: getschema,
    ast.Invoke: invoke,
    ast.MvExpand: mv_expand,
    ast.Project: project,
    ast.ProjectAway: project_away,
    ast.ProjectByNames: project_by_names,
    ast.ProjectRename: project_rename,
    ast.ProjectReorder: project_reorder,
    ast.Render: render,
    ast.Sample: sample,
    ast.Serialize: serialize,
    ast.Sort: sort,
    ast.Take: take,
    ast.Top: top,
    ast.UnsupportedOperator: not_supported,
    ast.Where: where,
}
"""How each of these operators is bound."""
