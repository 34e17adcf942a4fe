"""The tabular operators that shape, filter, order, group and join rows.

``SHAPING`` says for each of these operators how it is bound. Groups of partition and mv-apply (``Rel.within``) are kept
apart by every operator, or it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.projection import Names, Projection, as_column, bind_items, compute, too_many
from watchfloor.kql.bind.scalars import NO_ROW
from watchfloor.kql.bind.scope import Aggregated, Env, Function, Rel
from watchfloor.kql.bind.tools import (
    Handler,
    after,
    column_of,
    empty,
    group,
    has_input,
    has_window,
    is_true,
    listed,
    matches,
    no_within,
    not_dynamic,
    options,
    other_table,
    plain_aggregate,
    rows_wanted,
    source,
    unordered,
    word,
)
from watchfloor.kql.errors import KqlError, Span, nearest, unsupported

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder

LEGACY_LIMIT: Final = 128
"""How many rows mvexpand, the old spelling, makes of one."""

JOIN_KINDS: Final = {
    "inner": "inner",
    "innerunique": "innerunique",
    "leftouter": "leftouter",
    "rightouter": "rightouter",
    "fullouter": "fullouter",
    "leftsemi": "leftsemi",
    "rightsemi": "rightsemi",
    "leftanti": "leftanti",
    "leftantisemi": "leftanti",
    "anti": "leftanti",
    "rightanti": "rightanti",
    "rightantisemi": "rightanti",
}

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


# -- groups -----------------------------------------------------------------------------------------------------------


def count(binder: Binder, rel: Rel, operator: ast.Count, env: Env) -> Rel:
    """How many rows."""
    column = binder.new("long", is_nullable=False)
    name = operator.name.name if operator.name else "Count"
    return unordered(rel, group(rel, (), [(column, plain_aggregate("count"))]), {name: column})


def distinct(binder: Binder, rel: Rel, operator: ast.Distinct, env: Env) -> Rel:
    """The different combinations."""
    projection = Projection(binder)
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    by_columns(binder, rel, operator.items, env, projection, new, "What distinct compares")
    grouped = group(rel, list(projection.columns.values()), relation=compute(rel.relation, new))
    return unordered(rel, grouped, projection.columns)


def by_columns(
    binder: Binder,
    rel: Rel,
    items: Sequence[ast.Expr],
    env: Env,
    projection: Projection,
    new: list[tuple[ir.BoundColumn, ir.Scalar]],
    what: str,
    names_lets: bool = True,
) -> None:
    """Bind the items of ``by`` into ``projection``, what must be computed into ``new``."""
    new += bind_items(binder, rel, items, env, projection, replace=False, names_lets=names_lets)
    for column in projection.columns.values():
        if column.type == "dynamic":
            span = items[0].span.to(items[-1].span) if items else Span(0, 0)
            not_dynamic(binder, ir.Ref(column), span, what)


def summarize(binder: Binder, rel: Rel, operator: ast.Summarize, env: Env) -> Rel:
    """Aggregates for each combination."""
    options(operator.options, {}, "summarize")
    if not operator.aggregates and not operator.by:
        raise KqlError("summarize needs aggregates, or by and columns.", operator.span)
    projection = Projection(binder)
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    by_columns(binder, rel, operator.by, env, projection, new, "What rows are summarized by", names_lets=False)
    keys = list(projection.columns.values())
    plain = plain_names(rel, operator.by)
    calls, values = aggregates(binder, rel, operator.aggregates, env, projection, plain)
    grouped = group(rel, keys, calls.calls, calls.extremes, relation=compute(rel.relation, new))
    return unordered(rel, compute(grouped, values), projection.columns)


def plain_names(rel: Rel, by: Sequence[ast.Expr]) -> list[str]:
    """The columns that stand in ``by`` as they are, under their own name or another."""
    values = [item.value if isinstance(item, ast.Named) else item for item in by]
    return [value.name for value in values if isinstance(value, ast.Name) and value.name in rel.columns]


def aggregates(
    binder: Binder,
    rel: Rel,
    items: Sequence[ast.Expr],
    env: Env,
    projection: Projection,
    by: Sequence[str],
    *,
    constants: bool = False,
) -> tuple[Aggregated, list[tuple[ir.BoundColumn, ir.Scalar]]]:
    """Bind aggregates into ``projection``: all their calls, and what is computed from them afterwards. Where
    ``constants``, a value without an aggregate may stand among them."""
    calls: list[tuple[ir.BoundColumn, ir.Call]] = []
    extremes: list[tuple[bool, ir.Scalar, tuple[tuple[ir.BoundColumn, ir.Scalar], ...]]] = []
    values: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    for item in items:
        names: tuple[ast.Name, ...] = ()
        expression = item
        if isinstance(item, ast.Named):
            names, expression = (item.name,), item.value
        elif isinstance(item, ast.NameList):
            names, expression = item.names, item.value
        results = binder.aggregate(expression, rel, env, by)
        for place, (name, found) in enumerate(results):
            calls += found.calls
            extremes += found.extremes
            is_constant = not found.calls and not found.extremes and found.value.type != "unknown"
            if is_constant and not place and not constants:
                binder.report(KqlError("There is no aggregate in this.", expression.span))
            column = as_column(binder, found.value, values)
            if place < len(names):
                several = len(results) > 1
                projection.declare(names[place].name, column, names[place].span, replace=several)
            else:
                projection.imply(name or projection.unnamed(), column)
        too_many(binder, names[len(results) :])
    return Aggregated(tuple(calls), ir.Const(None, "long"), tuple(extremes)), values


# -- several tables ---------------------------------------------------------------------------------------------------


def join(binder: Binder, rel: Rel, operator: ast.Join, env: Env) -> Rel:
    """Rows of two tables that belong together."""
    if operator.is_lookup:
        given = options(operator.options, {"kind": ("leftouter", "inner")}, "lookup")
        kind = word(given.get("kind"), "leftouter")
    else:
        given = options(operator.options, {"kind": tuple(JOIN_KINDS)}, "join")
        kind = JOIN_KINDS[word(given.get("kind"), "innerunique")]
    right = binder.table(operator.right, env)
    if not operator.conditions:
        raise KqlError(
            "A join needs to know on what.", operator.span, remedy="Write on Column, or on $left.a == $right.b."
        )
    on, dropped = join_keys(binder, rel, right, operator.conditions)
    return joined(binder, rel, right, kind, on, dropped if operator.is_lookup else frozenset(), operator.span)


def join_keys(
    binder: Binder, left: Rel, right: Rel, conditions: Sequence[ast.Expr]
) -> tuple[list[tuple[ir.Scalar, ir.Scalar]], frozenset[str]]:
    """The pairs that must be equal, and which right columns they are."""
    pairs: list[tuple[ir.Scalar, ir.Scalar]] = []
    rights: set[str] = set()
    waiting = list(conditions)[::-1]
    while waiting:
        condition = waiting.pop()
        if isinstance(condition, ast.Logical) and condition.operator == "and":
            waiting += condition.operands[::-1]
            continue
        names = _two_sides(condition)
        columns = []
        for side, rel in (("$left", left), ("$right", right)):
            name = names[side]
            if name.name not in rel.columns:
                table = "left" if side == "$left" else "right"
                remedy = nearest(name.name, list(rel.columns))
                binder.report(KqlError(f"The {table} table has no column {name.name}.", name.span, remedy=remedy))
            else:
                columns.append(ir.Ref(rel.columns[name.name]))
        rights.add(names["$right"].name)
        if len(columns) == 2:
            pairs.append(_same_type(binder, columns[0], columns[1], condition.span))
    return pairs, frozenset(rights)


def _two_sides(condition: ast.Expr) -> dict[str, ast.Name]:
    if isinstance(condition, ast.Name):
        return {"$left": condition, "$right": condition}
    found: dict[str, ast.Name] = {}
    if isinstance(condition, ast.Binary) and condition.operator == "==":
        for part in (condition.left, condition.right):
            if isinstance(part, ast.Member) and isinstance(part.base, ast.Name):
                found[part.base.name] = ast.Name(part.name, part.span)
            elif (
                isinstance(part, ast.Index)
                and isinstance(part.base, ast.Name)
                and isinstance(part.index, ast.Literal)
                and part.index.type == "string"
            ):
                found[part.base.name] = ast.Name(part.index.value, part.span)
    if set(found) != {"$left", "$right"}:
        raise KqlError(
            "A join compares columns for equality only.",
            condition.span,
            remedy="Write a column of both tables, or $left.a == $right.b; filter further with where afterwards.",
        )
    return found


def _same_type(binder: Binder, left: ir.Scalar, right: ir.Scalar, span: Span) -> tuple[ir.Scalar, ir.Scalar]:
    types = {left.type, right.type}
    if "unknown" in types:
        return left, right
    if "dynamic" in types:
        raise KqlError("Keys of a join cannot be dynamic.", span, remedy="Add a column with tostring( ... ) before.")
    if len(types) > 1 and not types <= {"int", "long"}:
        raise KqlError(
            f"Keys of a join must have one type, these are {left.type} and {right.type}.",
            span,
            remedy="Convert one of them in a column before.",
        )
    first, second = binder.unify([left, right], span)
    return first, second


def joined(
    binder: Binder,
    left: Rel,
    right: Rel,
    kind: str,
    on: Sequence[tuple[ir.Scalar, ir.Scalar]],
    dropped: frozenset[str],
    span: Span,
) -> Rel:
    """``left`` and ``right`` joined; right columns that are called like left ones get a number."""
    if left.within and kind in ("rightouter", "fullouter", "rightsemi", "rightanti"):
        raise unsupported(f"A join of kind {kind} is not supported inside partition and mv-apply.", span)
    if len(right.within) > len(left.within):
        raise unsupported("Naming its own rows here is not supported inside partition and mv-apply.", span)
    # What is made of the rows of a group is joined with the rows of this group.
    groups = [(ir.Ref(one), ir.Ref(other)) for one, other in zip(left.within, right.within, strict=False)]
    on = [*(pair for pair in groups if pair[0].type != "dynamic"), *on]
    relation = left.relation
    if left.within and kind == "innerunique":
        new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
        keys = [as_column(binder, key, new) for key, _ in on]
        relation, kind = ir.Limit(compute(relation, new), 1, (*left.within, *keys)), "inner"
    outer = {"leftouter": (right,), "rightouter": (left,), "fullouter": (left, right)}.get(kind, ())
    replaced: dict[int, ir.BoundColumn] = {}
    filled = []
    for side in outer:
        for column in side.columns.values():
            if column.number not in replaced and (column.type == "string" or not column.is_nullable):
                replaced[column.number] = binder.new(column.type)
                filled.append((replaced[column.number], column))
    columns: dict[str, ir.BoundColumn] = {}
    if kind not in ("rightsemi", "rightanti"):
        columns |= {name: replaced.get(c.number, c) for name, c in left.columns.items()}
    if kind not in ("leftsemi", "leftanti"):
        names = Names([*columns, *(n for n in right.columns if n not in dropped)])
        for name, column in right.columns.items():
            if name not in dropped:
                taken = names.add(name) if name in columns else name
                columns[taken] = replaced.get(column.number, column)
    return unordered(left, ir.Join(kind, relation, right.relation, tuple(on), tuple(filled)), columns)


def union(binder: Binder, rel: Rel, operator: ast.Union, env: Env) -> Rel:
    """All rows of all tables."""
    known: dict[str, Sequence[str] | None] = {"kind": ("inner", "outer"), "withsource": None, "with_source": None}
    known |= {"isfuzzy": None, "best_effort": None}
    given = options(operator.options, known, "union")
    is_fuzzy = is_true(given.get("isfuzzy")) or is_true(given.get("best_effort"))
    legs: list[Rel] = []
    place = 0
    if has_input(rel):
        no_within(rel, "union", operator.span)
        legs.append(rel.with_(name=rel.name or "union_arg0"))
        place = 1
    for table in operator.tables:
        if is_fuzzy and not resolves(binder, table, env):
            continue
        if isinstance(table, ast.Star | ast.Wildcard):
            found = binder.tables(table, env)
            if not found:
                binder.report(KqlError("No table is called so.", table.span))
            legs += found
        else:
            leg = other_table(binder, table, env)
            legs.append(leg.with_(name=leg.name or f"union_arg{place}"))
        place += 1
    if not legs:
        raise KqlError("None of these tables is known.", operator.span)
    name = word(given.get("withsource") or given.get("with_source"))
    return united(binder, legs, is_inner=word(given.get("kind")) == "inner", source_name=name, span=operator.span)


def resolves(binder: Binder, table: ast.Expr, env: Env) -> bool:
    """Whether the table that ``table`` begins with is known."""
    head = table
    while isinstance(head, ast.Pipe) and not isinstance(head.source, ast.Missing):
        head = head.source
    if isinstance(head, ast.Wildcard):
        try:
            return bool(binder.tables(head, env))
        except KqlError:
            return False
    if isinstance(head, ast.Call) and head.name == "table" and len(head.arguments) == 1:
        argument = head.arguments[0]
        if isinstance(argument, ast.Literal) and isinstance(argument.value, str):
            head = ast.Name(argument.value, argument.span)
    if isinstance(head, ast.Name):
        return env.find(head.name) is not None or binder.may_see(head.name, env)
    return True


def united(binder: Binder, legs: Sequence[Rel], *, is_inner: bool, source_name: str, span: Span) -> Rel:
    """The rows of all ``legs``. Columns meet by name; where types differ each type has its own column."""
    types: dict[str, dict[str, None]] = {}
    for leg in legs:
        for name, column in leg.columns.items():
            types.setdefault(name, {})[column.type] = None
    if is_inner:
        types = {name: found for name, found in types.items() if all(name in leg.columns for leg in legs)}
        for name, found in types.items():
            if len(found) > 1:
                raise unsupported(f"{name} has different types in the tables of this union.", span)
    names = Names([name for name, found in types.items() if len(found) == 1])
    output: dict[str, tuple[str, str]] = {}
    for name, found in types.items():
        for type_ in found:
            output[name if len(found) == 1 else names.add(f"{name}_{type_}")] = (name, type_)
    if source_name and source_name in output:
        renamed = {Names(list(output)).add(n) if n == source_name else n: pair for n, pair in output.items()}
        output = renamed
    values: list[list[ir.Scalar]] = []
    for leg in legs:
        row: list[ir.Scalar] = [ir.Const(leg.name, "string")] if source_name else []
        for name, type_ in output.values():
            there = leg.columns.get(name)
            row.append(ir.Ref(there) if there is not None and there.type == type_ else empty(type_))
        values.append(row)
    columns = {source_name: binder.new("string")} if source_name else {}
    first = len(columns)
    for place, (name, (_, type_)) in enumerate(output.items()):
        columns[name] = binder.new(type_, any(row[first + place].is_nullable for row in values))
    relation = ir.Union(tuple(leg.relation for leg in legs), tuple(columns.values()), tuple(map(tuple, values)))
    return source(relation, columns)


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
    ast.Count: count,
    ast.Distinct: distinct,
    ast.Extend: extend,
    ast.Getschema: getschema,
    ast.Invoke: invoke,
    ast.Join: join,
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
    ast.Summarize: summarize,
    ast.Take: take,
    ast.Top: top,
    ast.Union: union,
    ast.UnsupportedOperator: not_supported,
    ast.Where: where,
}
"""How each of these operators is bound."""
