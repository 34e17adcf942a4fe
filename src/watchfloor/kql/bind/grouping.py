"""The tabular operators that make one row of many: count, distinct, summarize.

``GROUPING`` says for each of these operators how it is bound; aggregates and the columns of ``by`` are bound here for
others, too (make-series, top-nested, plug-ins).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.projection import Projection, as_column, bind_items, compute, too_many
from watchfloor.kql.bind.scope import Aggregated, Env, Rel
from watchfloor.kql.bind.tools import (
    Handler,
    group,
    not_dynamic,
    options,
    plain_aggregate,
    unordered,
)
from watchfloor.kql.errors import KqlError, Span

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder


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


GROUPING: Final[dict[type[Any], Handler]] = {
    ast.Count: count,
    ast.Distinct: distinct,
    ast.Summarize: summarize,
}
"""How each of these operators is bound."""
