"""The tabular operators that bring tables together: join, lookup, union.

``JOINING`` says for each of these operators how it is bound. Groups of partition and mv-apply (``Rel.within``) are kept
apart here, too, or the operator is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.projection import Names, as_column, compute
from watchfloor.kql.bind.scope import Env, Rel
from watchfloor.kql.bind.tools import (
    Handler,
    empty,
    has_input,
    is_true,
    no_within,
    options,
    other_table,
    source,
    unordered,
    word,
)
from watchfloor.kql.errors import KqlError, Span, nearest, unsupported

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder

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


JOINING: Final[dict[type[Any], Handler]] = {
    ast.Join: join,
    ast.Union: union,
}
"""How each of these operators is bound."""
