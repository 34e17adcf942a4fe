"""The most frequent, flat and by levels: top-hitters, top-nested; and reduce, which is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.grouping import aggregates, by_columns
from watchfloor.kql.bind.joining import united
from watchfloor.kql.bind.projection import Projection, as_column, compute
from watchfloor.kql.bind.scope import Env, Rel
from watchfloor.kql.bind.tools import (
    NUMBERS,
    after,
    aggregate_of,
    group,
    no_within,
    not_dynamic,
    plain_aggregate,
    rows_wanted,
    unordered,
)
from watchfloor.kql.errors import KqlError, unsupported

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder


def top_hitters(binder: Binder, rel: Rel, operator: ast.TopHitters, env: Env) -> Rel:
    """The most frequent values, or those of the largest sum; exact here."""
    rows = rows_wanted(binder, operator.rows, env, "top-hitters")
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    projection = Projection(binder)
    by_columns(binder, rel, [operator.value], env, projection, new, "What top-hitters counts")
    (name, key), *_ = projection.columns.items()
    if operator.weight is None:
        weight, call = binder.new("long", is_nullable=False), plain_aggregate("count")
        title = f"approximate_count_{name}"
    else:
        value = binder.scalar(operator.weight, rel, env)
        if value.type not in (*NUMBERS, "unknown"):
            raise KqlError(f"What top-hitters adds must be a number, this is a {value.type}.", operator.weight.span)
        call = aggregate_of("sum", ir.Ref(as_column(binder, value, new)))
        weight = binder.new("real" if value.type == "real" else "decimal" if value.type == "decimal" else "long")
        title = f"approximate_sum_{binder.column_name(operator.weight, rel) or ''}"
    grouped = group(rel, [key], [(weight, call)], relation=compute(rel.relation, new))
    order = (ir.SortKey(weight, is_descending=True, nulls_first=False),)
    limited = ir.Limit(ir.Order(grouped, order, rel.within), rows, rel.within)
    projection.imply(title, weight)
    return after(rel, limited, projection.columns, order=order, is_serial=True)


def top_nested(binder: Binder, rel: Rel, operator: ast.TopNested, env: Env) -> Rel:
    """The top values, and the top values inside each of them, level by level."""
    no_within(rel, "top-nested", operator.span)
    projection = Projection(binder)
    levels: list[ir.BoundColumn] = []
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    for clause in operator.clauses:
        value = binder.scalar(_unnamed(clause.value), rel, env)
        not_dynamic(binder, value, clause.span, "What top-nested counts")
        levels.append(as_column(binder, value, new))
        if clause.others is not None and clause is not operator.clauses[-1]:
            raise unsupported("with others is supported in the last clause of top-nested only.", clause.span)
    hidden = {f"\0{place}": column for place, column in enumerate(levels)}
    base = rel.with_(relation=compute(rel.relation, new), columns={**rel.columns, **hidden}, order=(), name="")
    kept: Rel | None = None
    for place, clause in enumerate(operator.clauses):
        kept = _level(binder, base, kept, clause, place, env)
    assert kept is not None
    for place, clause in enumerate(operator.clauses):
        name = binder.column_name(_unnamed(clause.value), rel)
        value_name, aggregate_name = (
            part.name if isinstance(part, ast.Named) else None for part in (clause.value, clause.aggregate)
        )
        if value_name is None and name is None:
            raise KqlError("This value has no name.", clause.value.span, remedy="Write Name = ... before it.")
        taken = value_name.name if value_name else name or ""
        for prefix, declared in (("v", value_name), ("a", aggregate_name)):
            column = kept.columns[f"\0{prefix}{place}"]
            if declared is not None:
                projection.declare(declared.name, column, declared.span)
            else:
                projection.imply(taken if prefix == "v" else f"aggregated_{taken}", column)
    return unordered(rel, kept.relation, projection.columns)


def _unnamed(expression: ast.Expr) -> ast.Expr:
    return expression.value if isinstance(expression, ast.Named) else expression


def _level(binder: Binder, base: Rel, kept: Rel | None, clause: ast.TopNestedClause, place: int, env: Env) -> Rel:
    """The top values of one level inside those that the levels before kept."""
    found = _counted(binder, base, kept, clause, place, env)
    figure = found.columns[f"\0a{place}"]
    parents = tuple(column for name, column in found.columns.items() if name.startswith("\0v"))[:-1]
    relation = found.relation
    if clause.rows is not None:
        rows = rows_wanted(binder, clause.rows, env, "top-nested")
        key = ir.SortKey(figure, clause.is_descending, nulls_first=not clause.is_descending)
        relation = ir.Limit(ir.Order(relation, (key,), parents), rows, parents)
    best = found.with_(relation=relation)
    if clause.others is None or "unknown" in (found.columns[f"\0v{place}"].type, figure.type):
        return best  # of what has no type something has been said already
    others = binder.convert(
        binder.constant(clause.others, env, "The value of others"), found.columns[f"\0v{place}"].type
    )
    known, shown = binder.fresh(best), binder.fresh(best)
    rest = _counted(binder, base, kept, clause, place, env, known, others)
    return united(binder, [shown, rest], is_inner=False, source_name="", span=clause.span)


def _counted(
    binder: Binder,
    base: Rel,
    kept: Rel | None,
    clause: ast.TopNestedClause,
    place: int,
    env: Env,
    without: Rel | None = None,
    others: ir.Scalar | None = None,
) -> Rel:
    """Each value of a level with its aggregate; with ``without`` one row for all values that are not among those."""
    rows = binder.fresh(base)
    relation: ir.Relation = rows.relation
    columns: dict[str, ir.BoundColumn] = {}
    if kept is not None:
        kept = binder.fresh(kept)
        on = tuple((ir.Ref(kept.columns[f"\0v{n}"]), ir.Ref(rows.columns[f"\0{n}"])) for n in range(place))
        relation = ir.Join("inner", kept.relation, relation, on)
        columns = dict(kept.columns)
    if without is not None:
        pairs = [(ir.Ref(rows.columns[f"\0{n}"]), ir.Ref(without.columns[f"\0v{n}"])) for n in range(place + 1)]
        relation = ir.Join("leftanti", relation, without.relation, tuple(pairs))
    shown = {name: column for name, column in rows.columns.items() if not name.startswith("\0")}
    row = rows.with_(relation=relation, columns=shown)
    result = Projection(binder)
    found, values = aggregates(binder, row, [_unnamed(clause.aggregate)], env, result, [])
    if len(result.columns) != 1:
        raise KqlError("An aggregate of top-nested has one value.", clause.aggregate.span)
    figure = next(iter(result.columns.values()))
    value = rows.columns[f"\0{place}"]
    keys = [*columns.values()] if others is not None else [*columns.values(), value]
    grouped = ir.Group(relation, tuple(dict.fromkeys(keys)), found.calls, found.extremes)
    computed = compute(grouped, values)
    if others is not None:
        value = binder.new(others.type, others.is_nullable)
        computed = ir.Compute(computed, ((value, others),))
        if not keys:
            number = binder.new("long", is_nullable=False)
            counted = ir.Group(relation, (), ((number, plain_aggregate("count")), *found.calls), found.extremes)
            some = ir.Compare(">", ir.Ref(number), ir.Const(0, "long"), False)
            computed = ir.Compute(compute(ir.Filter(counted, some), values), ((value, others),))
    columns |= {f"\0v{place}": value, f"\0a{place}": figure}
    return row.with_(relation=computed, columns=columns)


def reduce_rows(binder: Binder, rel: Rel, operator: ast.Reduce, env: Env) -> Rel:
    """Refuse: its groups follow no published rule."""
    raise unsupported(
        "reduce is not supported: how it groups is not documented.",
        operator.span,
        remedy="Replace what varies with replace_regex( ... ) and summarize by the result.",
    )
