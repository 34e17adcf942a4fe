"""Relations that pass rows on one by one: filters, columns, orders, limits, numbers.

They share a SELECT as far as one can say them. Windows, and queries that stand where SQL takes none, are columns of a
step before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeGuard

from watchfloor.kql import ir
from watchfloor.kql.sql.scalars import Piece, name_of
from watchfloor.kql.sql.steps import Key, Rows
from watchfloor.kql.sql.trees import (
    has_query,
    has_window,
    holds,
    is_chance,
    is_particular,
    is_query,
    is_ref,
    with_operands,
)
from watchfloor.kql.sql.windows import Windows

MAX_PUSHED: Final = 64
"""An engine that moves a filter towards the tables writes, for each column in it, what computes that column, and so on:
text that doubles at every step. A filter that would become larger than this stays where it is."""

_FENCE: Final = f"LIMIT {2**63 - 1}"
"""No filter is moved through this."""


class Pipes(Windows):
    """Prints filters, columns, orders and limits."""

    # -- filters and columns ---------------------------------------------------------------------------------------

    def _filter(self, rows: Rows, step: ir.Filter) -> Rows:
        conditions = step.condition.operands if _is_and(step.condition) else (step.condition,)
        for condition in conditions:
            if isinstance(condition, ir.Const) and condition.value is True:
                continue
            if holds(condition, is_particular):
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

    def _compute(self, rows: Rows, step: ir.Compute) -> Rows:
        columns: Sequence[tuple[ir.BoundColumn, ir.Scalar]] = step.columns
        if any(holds(value, is_particular) for _, value in columns):
            rows, lifted = self._lifted(rows, [value for _, value in columns])
            columns = [(column, value) for (column, _), value in zip(columns, lifted, strict=True)]
            if any(has_window(value) for _, value in columns):
                rows, columns = self._windows(rows, columns)
        rows = self._ready(rows, (value for _, value in columns))
        pieces = [(column, self.scalars.piece(value, rows.arm)) for column, value in columns]
        for (column, value), (_, piece) in zip(columns, pieces, strict=True):
            rows.arm.add(name_of(column), piece)
            if isinstance(value, ir.Apply) and value.function.name == "parse_json" and is_ref(value.arguments[0]):
                self.scalars.parsed[name_of(column)] = value
        return rows

    def _lifted(self, rows: Rows, scalars: Sequence[ir.Scalar]) -> tuple[Rows, Sequence[ir.Scalar]]:
        """``scalars`` with columns for what must not stand inside a function: queries, which SQL does not take
        everywhere, and chance, which a function may mention twice."""
        for is_apart in (is_query, is_chance):
            if any(holds(scalar, is_apart) for scalar in scalars):
                rows, scalars = self._apart(rows, scalars, is_apart)
        return rows, scalars

    def _apart(
        self, rows: Rows, scalars: Sequence[ir.Scalar], is_apart: Callable[[ir.Scalar], bool]
    ) -> tuple[Rows, Sequence[ir.Scalar]]:
        made: list[tuple[ir.BoundColumn, ir.Scalar]] = []

        def lifted(scalar: ir.Scalar, is_inside: bool) -> ir.Scalar:
            if is_inside and is_apart(scalar):
                made.append((ir.BoundColumn(-next(self._numbers), scalar.type, scalar.is_nullable), scalar))
                return ir.Ref(made[-1][0])
            is_inside = is_inside or isinstance(scalar, ir.Apply | ir.Convert | ir.Path | ir.Window)
            return with_operands(scalar, [lifted(part, is_inside) for part in ir.operands(scalar)])

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
        if not any(has_query(scalar) for scalar in scalars):
            return rows, list(scalars)
        made: list[tuple[ir.BoundColumn, ir.Scalar]] = []
        changed: list[ir.Scalar] = []
        for scalar in scalars:
            if has_query(scalar):
                made.append((ir.BoundColumn(-next(self._numbers), scalar.type, scalar.is_nullable), scalar))
                scalar = ir.Ref(made[-1][0])
            changed.append(scalar)
        return self._closed(self._compute(rows, ir.Compute(ir.Values((), ()), tuple(made)))), changed

    # -- orders and limits -----------------------------------------------------------------------------------------

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


def _is_and(scalar: ir.Scalar) -> TypeGuard[ir.Junction]:
    return isinstance(scalar, ir.Junction) and scalar.operator == "and"
