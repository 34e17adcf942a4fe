"""Sub-queries that run apart on each group of rows, and several results: mv-apply, partition, fork, facet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.joining import united
from watchfloor.kql.bind.scope import Env, Rel
from watchfloor.kql.bind.shaping import expanded
from watchfloor.kql.bind.tools import (
    after,
    column_of,
    group,
    no_within,
    not_dynamic,
    options,
    plain_aggregate,
    rows_wanted,
    source,
    unordered,
    word,
)
from watchfloor.kql.errors import KqlError, Span, unsupported

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder

CARRYING: Final = (
    ast.Where,
    ast.Extend,
    ast.Project,
    ast.ProjectAway,
    ast.ProjectRename,
    ast.ProjectReorder,
    ast.ProjectByNames,
    ast.Sort,
    ast.Take,
    ast.Top,
    ast.MvExpand,
    ast.Parse,
    ast.ParseKv,
    ast.Serialize,
    ast.Render,
)
"""Operators that leave columns which they do not show in the rows."""

ORDERED: Final = (ast.Take, ast.Serialize, ast.Summarize, ast.Scan)
"""Operators whose result depends on the order of the elements."""

MAX_PARTITIONS: Final = 64
"""Values of the key that partition takes where it runs its query once for each (as Kusto does)."""


def within_body(
    binder: Binder, rel: Rel, inner: tuple[ir.BoundColumn, ...], body: ast.Pipe, env: Env
) -> tuple[Rel, dict[int, ir.BoundColumn]]:
    """``body`` over ``rel`` apart for each group of ``inner``: the rows, and where the groups' columns are now."""
    before = (*rel.within, *inner)
    found = binder.pipeline(rel.with_(within=before, name=""), body.operators, env)
    if len(found.within) != len(before):
        raise unsupported("This query is not supported inside partition and mv-apply.", body.span)
    moved = {old.number: new for old, new in zip(before, found.within, strict=True)}
    return unordered(found, found.relation, found.columns).with_(within=found.within[: len(rel.within)]), moved


def mv_apply(binder: Binder, rel: Rel, operator: ast.MvApply, env: Env) -> Rel:
    """A query over the elements of each row; what it gives stands beside the row's other columns."""
    given = options(operator.options, {"with_itemindex": None}, "mv-apply")
    limit = None if operator.limit is None else rows_wanted(binder, operator.limit, env, "mv-apply")
    row = binder.new("long", is_nullable=False)
    numbered = rel.with_(relation=ir.Numbered(rel.relation, row), is_serial=False, order=())
    elements, names = expanded(binder, numbered, operator.items, env, word(given.get("with_itemindex")), limit, False)
    if any(isinstance(step, ORDERED) for step in operator.body.operators):
        elements = _in_order(binder, elements, row)
    outer = {name: column for name, column in rel.columns.items() if name not in names}
    carries = all(isinstance(step, CARRYING) for step in operator.body.operators)
    inner = (row,) if carries else tuple(dict.fromkeys((row, *outer.values())))
    found, moved = within_body(binder, elements, inner, operator.body, env)
    columns = {name: moved.get(column.number, column) for name, column in outer.items()}
    return after(found, found.relation, columns | dict(found.columns))


def _in_order(binder: Binder, elements: Rel, row: ir.BoundColumn) -> Rel:
    """``elements`` in the order that they had in their list."""
    expand = elements.relation
    assert isinstance(expand, ir.Expand)
    index = expand.index or binder.new("long", is_nullable=False)
    indexed = ir.Expand(expand.input, expand.items, index, expand.limit, expand.bag_as_array)
    key = ir.SortKey(index, is_descending=False, nulls_first=True)
    return elements.with_(relation=ir.Order(indexed, (key,), (*elements.within, row)), order=(key,))


def partition(binder: Binder, rel: Rel, operator: ast.Partition, env: Env) -> Rel:
    """A query for each value of a column; all results together."""
    strategies = [word(o, "legacy") for o in operator.options if o.name == "hint.strategy"]
    strategy = strategies[0] if strategies else "legacy"
    if strategy not in ("legacy", "native", "shuffle"):
        raise KqlError("hint.strategy must be legacy, native or shuffle.", operator.span)
    name, key = column_of(binder, rel, operator.by, "What partition goes by")
    not_dynamic(binder, ir.Ref(key), operator.by.span, "What partition goes by")
    is_implicit = isinstance(operator.body.source, ast.Missing)
    if is_implicit and (strategy != "legacy" or not _needs_keys(operator.body)):
        return within_body(binder, rel, (key,), operator.body, env)[0]
    no_within(rel, "partition with the legacy strategy", operator.span)
    return _by_key(binder, rel, operator, name, env, is_implicit)


def _needs_keys(body: ast.Pipe) -> bool:
    """Whether a sub-query must be run once for each key: it reads other tables, or gives rows where it has none."""
    may_be_empty = False
    for step in body.operators:
        if isinstance(step, ast.Count) or (isinstance(step, ast.Summarize) and not step.by):
            if may_be_empty:
                return True
        elif not isinstance(step, CARRYING) and not isinstance(
            step, ast.Summarize | ast.Distinct | ast.Sample | ast.MvApply | ast.TopHitters | ast.Scan | ast.MakeSeries
        ):
            return True
        may_be_empty |= isinstance(step, ast.Where | ast.MvExpand | ast.MvApply | ast.Parse | ast.Scan)
    return _mentions_tables(body)


def _mentions_tables(tree: Any) -> bool:
    """Whether there is a table inside an expression of ``tree``."""
    waiting: list[Any] = list(tree.operators)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Pipe) or (isinstance(node, ast.Call) and node.name in ("toscalar", "table")):
            return True
        if isinstance(node, tuple):
            waiting.extend(node)
        elif is_dataclass(node) and not isinstance(node, Span | ast.MvApply):
            waiting.extend(getattr(node, field.name) for field in fields(node))
    return False


def _by_key(binder: Binder, rel: Rel, operator: ast.Partition, name: str, env: Env, is_implicit: bool) -> Rel:
    keys = binder.fresh(rel)
    column = keys.columns[name]
    distinct = ir.Limit(ir.Group(keys.relation, (column,)), MAX_PARTITIONS + 1)
    rows = binder.ask(f"partition by {name}", source(distinct, {name: column}))
    if len(rows) > MAX_PARTITIONS:
        raise KqlError(
            f"{name} has more than {MAX_PARTITIONS} values.",
            operator.span,
            remedy="Use hint.strategy=native, or make-series or summarize.",
            kind="limit",
        )
    legs: list[Rel] = []
    for (value,) in rows or [(None,)]:
        leg = binder.fresh(rel)
        constant = ir.Const(value, leg.columns[name].type)
        kept = after(leg, ir.Filter(leg.relation, is_value(binder, leg.columns[name], constant)), leg.columns)
        if is_implicit:
            legs.append(binder.pipeline(kept, operator.body.operators, env))
        else:
            legs.append(binder.table(operator.body, env.with_names({name: constant})))
    if not rows:
        return unordered(legs[0], ir.Limit(legs[0].relation, 0), legs[0].columns)
    return united(binder, legs, is_inner=False, source_name="", span=operator.span)


def is_value(binder: Binder, column: ir.BoundColumn, value: ir.Const) -> ir.Scalar:
    """Whether ``column`` has ``value``, null included."""
    if value.value is None:
        return binder.apply("isnull", [ir.Ref(column)], Span(0, 0))
    return ir.Compare("==", ir.Ref(column), value, column.is_nullable)


def fork(binder: Binder, rel: Rel, operator: ast.Fork, env: Env) -> Rel:
    """Several queries over the same rows, a result each."""
    no_within(rel, "fork", operator.span)
    results: list[tuple[str, Rel]] = []
    for name, body in operator.branches:
        found = binder.pipeline(binder.fresh(rel).with_(name=""), body.operators, env)
        results.append((name.name if name else found.name or "GenericResult", found))
    return _several(results)


def facet(binder: Binder, rel: Rel, operator: ast.Facet, env: Env) -> Rel:
    """How often each value of each column occurs, a result each; first the rows themselves where there is a body."""
    no_within(rel, "facet", operator.span)
    results: list[tuple[str, Rel]] = []
    if operator.body is not None:
        results.append(("Facet_with", binder.pipeline(binder.fresh(rel), operator.body.operators, env)))
    for place, item in enumerate(operator.columns):
        leg = binder.fresh(rel)
        name, column = column_of(binder, leg, item, "What facet goes by")
        not_dynamic(binder, ir.Ref(column), item.span, "What facet goes by")
        number = binder.new("long", is_nullable=False)
        grouped = group(leg, [column], [(number, plain_aggregate("count"))])
        found = unordered(leg, grouped, {name: column, f"count_{name}": number})
        results.append(("Facet" if not place else f"Facet_{place + 1}", found))
    return _several(results)


def _several(results: Sequence[tuple[str, Rel]]) -> Rel:
    """The first result, with the rest as its others."""
    others = [*results[0][1].others]
    for name, rel in results[1:]:
        others += [(name, rel.with_(others=())), *rel.others]
    return results[0][1].with_(others=tuple(others), name=results[0][0])
