"""make-series: aggregates for each bin of an axis, laid out as arrays without gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from watchfloor.kql import ast, codec, ir
from watchfloor.kql.bind.grouping import aggregates, by_columns, plain_names
from watchfloor.kql.bind.projection import Projection, as_column, compute
from watchfloor.kql.bind.scope import Env, Rel
from watchfloor.kql.bind.tools import (
    NUMBERS,
    empty,
    options,
    unordered,
)
from watchfloor.kql.errors import KqlError, Span, unsupported

if TYPE_CHECKING:
    from watchfloor.kql.bind import Binder


def make_series(binder: Binder, rel: Rel, operator: ast.MakeSeries, env: Env) -> Rel:
    """Aggregates in arrays along an axis, gaps filled."""
    given = options(operator.options, {"kind": ("nonempty",)}, "make-series")
    old = operator.in_range
    axis_item = operator.axis
    axis_value = axis_item.value if isinstance(axis_item, ast.Named) else axis_item
    axis = binder.scalar(axis_value, rel, env)
    if axis.type == "unknown":
        raise KqlError("The axis of make-series is not known.", axis_value.span)
    if axis.type not in (*NUMBERS, "datetime", "timespan"):
        raise KqlError(f"The axis of make-series cannot be a {axis.type}.", axis_value.span)
    step_type = "timespan" if axis.type in ("datetime", "timespan") else axis.type
    start, stop = (
        None if bound is None else _bound(binder, bound, axis.type, env) for bound in (operator.start, operator.stop)
    )
    step = _bound(binder, operator.step, step_type, env)
    assert step is not None
    if step.value is None or step.value <= 0:
        raise KqlError("The step of make-series must be greater than 0.", operator.step.span)
    span = operator.span
    if start is not None and not old:
        binned = binder.apply("bin_at", [axis, step, start], span)
    else:
        binned = binder.apply("bin", [axis, step], span)
    if old and start is not None and _folded_bin(binder, start, step, span).value != start.value:
        raise unsupported(
            "in range( ... ) whose start is no multiple of the step is not supported.", span, remedy="Use from and to."
        )
    new: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    projection = Projection(binder)
    by_columns(binder, rel, operator.by, env, projection, new, "What a series is made for", names_lets=False)
    keys = list(dict.fromkeys((*rel.within, *projection.columns.values())))
    bin_column = as_column(binder, binder.convert(binned, axis.type), new)
    relation = compute(rel.relation, new)
    tests: list[ir.Scalar] = []
    if start is not None:
        tests.append(ir.Compare(">=", ir.Ref(bin_column), start, True))
    if stop is not None and old:
        tests.append(ir.Compare("<=", ir.Ref(bin_column), stop, True))
    elif stop is not None:
        tests.append(binder.compare("<", axis, stop, span))
    if not tests:
        tests.append(binder.apply("isnotnull", [ir.Ref(bin_column)], span))
    filtered: ir.Relation = relation
    for test in tests:
        filtered = ir.Filter(filtered, test)
    calls: list[tuple[ir.BoundColumn, ir.Call]] = []
    extremes: list[Any] = []
    values: list[tuple[ir.BoundColumn, ir.Scalar]] = []
    plain = plain_names(rel, operator.by)
    arrays: list[tuple[ir.BoundColumn, ir.Const]] = []
    for item in operator.items:
        before = set(projection.columns)
        found, computed = aggregates(binder, rel, [item.aggregate], env, projection, plain, constants=True)
        calls += found.calls
        extremes += found.extremes
        values += computed
        for name in [n for n in projection.columns if n not in before]:
            column = projection.columns[name]
            arrays.append((column, _default(binder, item, column.type, env)))
            projection.columns[name] = binder.new("dynamic")
    grouped = ir.Group(filtered, (*keys, bin_column), tuple(calls), tuple(extremes))
    axis_column = binder.new("dynamic")
    if isinstance(axis_item, ast.Named):
        projection.declare(axis_item.name.name, axis_column, axis_item.name.span)
    elif isinstance(axis_value, ast.Name):
        projection.declare(axis_value.name, axis_column, axis_value.span)
    else:
        projection.imply(binder.column_name(axis_value, rel) or projection.unnamed(), axis_column)
    takes = (*keys, bin_column, *(column for column, _ in arrays))
    made = [column for column in projection.columns.values() if column not in keys and column is not axis_column]
    spec = {
        "columns": [[column.number for column in takes]],
        "keys": len(keys),
        "axis_type": axis.type,
        "start": None if start is None else codec.encode_value(start.value, axis.type),
        "stop": None if stop is None else codec.encode_value(stop.value, axis.type),
        "step": codec.encode_value(step.value, step_type),
        "is_inclusive": old,
        "types": [column.type for column, _ in arrays],
        "defaults": [codec.encode_value(default.value, default.type) for _, default in arrays],
        "is_nonempty": "kind" in given,
    }
    routine = ir.Routine("make_series", spec, (compute(grouped, values),), (takes,), (*keys, *made, axis_column))
    return unordered(rel, routine, projection.columns)


def _bound(binder: Binder, expression: ast.Expr, type_: str, env: Env) -> ir.Const:
    found = binder.constant(expression, env, "A bound of make-series")
    same = found.type == type_ or (found.type in NUMBERS and type_ in NUMBERS) or found.type in ("unknown", "dynamic")
    converted = binder.convert(found, type_)
    if not same or not isinstance(converted, ir.Const):
        raise KqlError(f"This must be a {type_} as the axis needs it, it is a {found.type}.", expression.span)
    if converted.value is None:
        raise KqlError("A bound of make-series is null.", expression.span)
    return converted


def _folded_bin(binder: Binder, value: ir.Const, step: ir.Const, span: Span) -> ir.Const:
    found = binder.convert(binder.apply("bin", [value, step], span), value.type)
    return found if isinstance(found, ir.Const) else value


def _default(binder: Binder, item: ast.SeriesItem, type_: str, env: Env) -> ir.Const:
    if item.default is None:
        if type_ in (*NUMBERS, "timespan"):
            zero = binder.convert(ir.Const(0, "long"), type_) if type_ != "timespan" else ir.Const(0, "timespan")
            if isinstance(zero, ir.Const):
                return zero
        return empty(type_)
    found = binder.convert(binder.constant(item.default, env, "A default of make-series"), type_)
    return found if isinstance(found, ir.Const) else empty(type_)
