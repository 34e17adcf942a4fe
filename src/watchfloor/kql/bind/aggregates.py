"""Aggregate expressions: aggregates, arithmetic over them, and the aggregates that give several columns.

What stands outside the aggregates sees no column of the rows; what stands inside sees them all and no other aggregate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from watchfloor.kql import ast, ir
from watchfloor.kql.bind.calls import EXTREMES, Calls, is_aggregate
from watchfloor.kql.bind.combine import WIDTHS, const, is_known
from watchfloor.kql.bind.core import UNKNOWN, Abandoned
from watchfloor.kql.bind.names import AGGREGATE_PREFIXES, number_fragment, result_name
from watchfloor.kql.bind.overloads import choose, result_type
from watchfloor.kql.bind.scalars import NO_ROW
from watchfloor.kql.bind.scope import Aggregated, Env, Function, Rel
from watchfloor.kql.errors import KqlError
from watchfloor.kql.functions import AGGREGATES, CONDITIONAL

PERCENTILES: Final = {"percentile": 1, "percentiles": 1, "percentilew": 2, "percentilesw": 2}
"""Aggregates with a result for each percentage, and how many arguments come before the percentages."""

ANY: Final = frozenset({"take_any", "any"})
COVARIANCES: Final = frozenset({"covariance", "covariancep", "covarianceif", "covariancepif"})

COUNTS: Final = frozenset(
    {"count", "cnt", "countif", "dcount", "dcountif", "count_distinct", "count_distinctif", "make_list", "make_set"}
)
"""Aggregates that never give null."""

Extreme = tuple[bool, ir.Scalar, tuple[tuple[ir.BoundColumn, ir.Scalar], ...]]


@dataclass
class Collector:
    """The aggregates found in one expression, over the columns of ``row``."""

    row: Rel
    by: Collection[str]
    calls: list[tuple[ir.BoundColumn, ir.Call]] = field(default_factory=list)
    extremes: list[Extreme] = field(default_factory=list)

    def take(self, value: ir.Scalar) -> Aggregated:
        """``value`` with all that was found so far, which is then forgotten."""
        found = Aggregated(tuple(self.calls), value, tuple(self.extremes))
        self.calls, self.extremes = [], []
        return found


class Aggregates(Calls):
    """Binds aggregate expressions."""

    _collector: Collector | None = None

    def aggregate(
        self, expression: ast.Expr, row: Rel, env: Env, by: Collection[str] = ()
    ) -> list[tuple[str, Aggregated]]:
        """An aggregate expression of summarize: each result column with its default name, "" where it has none.

        ``by``: names of columns that the rows are grouped by, which ``*`` leaves out.
        """
        if isinstance(expression, ast.Named):
            first, *others = self.aggregate(expression.value, row, env, by)
            return [(expression.name.name, first[1]), *others]
        collector = Collector(row, by)
        with self._collecting(collector):
            try:
                columns = self._columns_of(expression, collector, env)
            except (KqlError, Abandoned) as error:
                name = result_name(expression, aggregates=True) or ""
                return [(name, Aggregated((), self.report(error) if isinstance(error, KqlError) else UNKNOWN))]
            return [(name, collector.take(value)) for name, value in columns]

    @contextmanager
    def _collecting(self, collector: Collector | None) -> Iterator[None]:
        before, self._collector = self._collector, collector
        try:
            yield
        finally:
            self._collector = before

    def inside_aggregates(self) -> bool:
        """Whether what is bound now is an aggregate expression."""
        return self._collector is not None

    def _columns_of(self, expression: ast.Expr, collector: Collector, env: Env) -> list[tuple[str, ir.Scalar]]:
        if isinstance(expression, ast.Call) and not isinstance(env.find(expression.name), Function):
            if expression.name in EXTREMES:
                return self._extremes(expression, collector, env)
            if expression.name in ANY:
                return self._any(expression, collector, env)
            if expression.name in PERCENTILES:
                return self._percentiles(expression, collector, env)
            if not is_aggregate(expression.name):
                results = self.spread(expression, NO_ROW, env)
                if results is not None:
                    return results
        value = self.scalar(expression, NO_ROW, env)
        return [(aggregate_name(expression) or "", value)]

    # -- inside an expression -----------------------------------------------------------------------------------------

    def call(self, call: ast.Call, row: Rel, env: Env) -> ir.Scalar:
        """``call`` as a scalar; an aggregate where aggregates may stand."""
        collector = self._collector
        if collector is None or not is_aggregate(call.name) or isinstance(env.find(call.name), Function):
            return super().call(call, row, env)
        if call.name in EXTREMES:
            return self._extremes(call, collector, env)[0][1]
        if call.name in ANY:
            return self._any(call, collector, env)[0][1]
        if call.name in PERCENTILES:
            return self._percentiles(call, collector, env)[0][1]
        return self._plain(call, collector, env)

    def unknown_name(self, name: ast.Name, row: Rel, env: Env) -> KqlError:
        """The error for a name that means nothing here."""
        if self._collector is not None and name.name in self._collector.row.columns:
            return KqlError(
                f"The column {name.name} stands outside every aggregate.", name.span, remedy="Aggregate it: max(...)."
            )
        return super().unknown_name(name, row, env)

    def _inner(self, expression: ast.Expr, collector: Collector, env: Env) -> ir.Scalar:
        """An argument of an aggregate: over the rows, without aggregates."""
        with self._collecting(None):
            return self.scalar(expression, collector.row, env)

    def _plain(self, call: ast.Call, collector: Collector, env: Env) -> ir.Scalar:
        """An aggregate with one result."""
        plain = CONDITIONAL.get(call.name, call.name)
        arguments = list(call.arguments)
        condition: ir.Scalar | None = None
        if call.name in CONDITIONAL:
            place = sum(not p.is_optional for p in AGGREGATES[plain][0].takes)
            if len(arguments) <= place:
                raise KqlError(f"{call.name}() takes a condition as argument {place + 1}.", call.span)
            with self._collecting(None):
                condition = self.condition(arguments.pop(place), collector.row, env)
        if any(isinstance(a, ast.Star) for a in arguments):
            if plain != "count":
                raise KqlError(f"{call.name}() does not take *.", call.span)
            arguments = []
        values = [self._inner(a, collector, env) for a in arguments]
        if not all(is_known(v) for v in values) or (condition is not None and not is_known(condition)):
            return UNKNOWN
        return self._called(call, plain, values, condition, collector)

    def _called(
        self, call: ast.Call, plain: str, values: Sequence[ir.Scalar], condition: ir.Scalar | None, collector: Collector
    ) -> ir.Scalar:
        if plain not in AGGREGATES:
            raise KqlError(f"{call.name}() is not supported.", call.name_span, kind="unsupported")
        chosen = choose(AGGREGATES[plain], [v.type for v in values])
        if chosen is None:
            raise self.misfit(call.name, AGGREGATES[plain], values, call.span)
        aggregate, takes = chosen
        values = [self.fit(call.name, n, v, p, call.span) for n, (v, p) in enumerate(zip(values, takes, strict=True))]
        type_ = result_type(aggregate.gives, values)
        column = self.new(type_, plain not in COUNTS)
        collector.calls.append((column, ir.Call(aggregate, tuple(values), condition)))
        return ir.Ref(column)

    # -- several columns ----------------------------------------------------------------------------------------------

    def _percentiles(self, call: ast.Call, collector: Collector, env: Env) -> list[tuple[str, ir.Scalar]]:
        before = PERCENTILES[call.name]
        if len(call.arguments) <= before:
            raise KqlError(f"{call.name}() takes {before} arguments and percentages.", call.span)
        measured = [self._inner(a, collector, env) for a in call.arguments[:before]]
        measured = [
            self.convert(v, {"int": "long", "decimal": "real"}[v.type]) if v.type in ("int", "decimal") else v
            for v in measured
        ]
        name = result_name(call.arguments[0]) or ""
        plain = "percentile" if before == 1 else "percentilew"
        columns: list[tuple[str, ir.Scalar]] = []
        for argument in call.arguments[before:]:
            percentage = self.settle(self._inner(argument, collector, env), argument.span)
            if percentage.type not in (*WIDTHS, "unknown"):
                raise KqlError("A percentage must be a number.", argument.span)
            if not isinstance(percentage, ir.Const):
                raise KqlError("A percentage must be a constant.", argument.span)
            if not all(is_known(v) for v in (*measured, percentage)):
                columns.append((f"percentile_{name}_", UNKNOWN))
                continue
            value = self._called(call, plain, [*measured, percentage], None, collector)
            columns.append((f"percentile_{name}_{number_fragment(percentage.value)}", value))
        return columns

    def _extremes(self, call: ast.Call, collector: Collector, env: Env) -> list[tuple[str, ir.Scalar]]:
        """arg_max and arg_min: the extreme and other values of its row."""
        if not call.arguments or isinstance(call.arguments[0], ast.Star):
            raise KqlError(f"{call.name}() takes what is compared, and what is returned.", call.span)
        kind = "max" if call.name.endswith("max") else "min"
        is_legacy = call.name.startswith("argm")
        first = call.arguments[0]
        by = self._inner(first.value if isinstance(first, ast.Named) else first, collector, env)
        if by.type == "dynamic":
            raise KqlError(f"{call.name}() does not order dynamic values.", first.span, remedy="Convert them first.")
        first_name = result_name(first)
        wanted = [(first_name or f"{kind}_", by)]
        for name, value in self._returned(call, collector, env, skipped=first):
            wanted.append((name or f"{kind}_{first_name or ''}_arg{len(wanted)}", value))
        if is_legacy:
            stem = f"{kind}_{first_name or ''}"
            wanted = [(stem, by), *((f"{stem}_{name}", value) for name, value in wanted[1:])]
        return self._one_row(kind == "max", by, wanted, collector)

    def _one_row(
        self, is_max: bool, by: ir.Scalar, wanted: Sequence[tuple[str, ir.Scalar]], collector: Collector
    ) -> list[tuple[str, ir.Scalar]]:
        if not is_known(by) or not all(is_known(v) for _, v in wanted):
            return [(name, UNKNOWN) for name, _ in wanted]
        sources = tuple((self.new(value.type, True), value) for _, value in wanted)
        collector.extremes.append((is_max, by, sources))
        return [(name, ir.Ref(column)) for (name, _), (column, _) in zip(wanted, sources, strict=True)]

    def _returned(
        self, call: ast.Call, collector: Collector, env: Env, skipped: ast.Expr | None
    ) -> list[tuple[str | None, ir.Scalar]]:
        """The values that arg_max or take_any return beside the extreme; ``*`` is every other column."""
        found: list[tuple[str | None, ir.Scalar]] = []
        arguments = call.arguments if skipped is None else call.arguments[1:]
        has_star = any(isinstance(a, ast.Star) for a in arguments)
        seen = set(collector.by) if has_star else set()
        if has_star and isinstance(skipped, ast.Name):
            seen.add(skipped.name)
        for argument in arguments:
            if isinstance(argument, ast.Star):
                for name, column in collector.row.columns.items():
                    if name not in seen:
                        seen.add(name)
                        found.append((name, ir.Ref(column)))
                continue
            inner = argument.value if isinstance(argument, ast.Named) else argument
            is_column = isinstance(inner, ast.Name) and inner.name in collector.row.columns
            if is_column and isinstance(inner, ast.Name):
                if inner.name in seen:
                    continue
                if has_star:
                    seen.add(inner.name)
            found.append((result_name(argument), self._inner(inner, collector, env)))
        return found

    def _any(self, call: ast.Call, collector: Collector, env: Env) -> list[tuple[str, ir.Scalar]]:
        """take_any and any: one column prefers a value that is there, several come from one row."""
        if not call.arguments:
            raise KqlError(f"{call.name}() takes what is returned.", call.span)
        returned = self._returned(call, collector, env, None)
        if call.name == "any":
            several = len(returned) > 1
            wanted = [(f"any_{name or (f'arg{n}' if several else '')}", v) for n, (name, v) in enumerate(returned)]
        else:
            wanted = [(name or f"any_arg{n}", v) for n, (name, v) in enumerate(returned)]
        if len(wanted) == 1 and is_known(wanted[0][1]):
            return [(wanted[0][0], self._called(call, "take_any", [wanted[0][1]], None, collector))]
        return self._one_row(True, const(1, "long"), wanted, collector)


def aggregate_name(expression: ast.Expr) -> str | None:
    """The default name of an aggregate expression's column."""
    if isinstance(expression, ast.Call) and expression.name in COVARIANCES and len(expression.arguments) > 1:
        names = [result_name(a) or "" for a in expression.arguments[:2]]
        return "_".join([AGGREGATE_PREFIXES.get(expression.name, expression.name), *names])
    return result_name(expression, aggregates=True)
