"""Where rows come from: tables, values that are written out, ranges of numbers, relations that are used again."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from watchfloor.kql import ir
from watchfloor.kql.errors import KqlError, Span
from watchfloor.kql.sql.pipes import Pipes
from watchfloor.kql.sql.scalars import Piece, name_of
from watchfloor.kql.sql.steps import Arm, Key, Rows, Step

MAX_NUMBERS: Final = 100_000_000
"""A range of more numbers is refused."""

MAX_CELLS: Final = 64
"""Rows with more cells than this are handed over as one list a column."""

_RESERVED: Final = re.compile(r"[cowx]\d+", re.IGNORECASE)


class Sources(Pipes):
    """Prints the relations that a query begins with."""

    def _scan(self, scan: ir.Scan) -> Rows:
        self.tables.add(scan.table.name)
        arm = Arm((self.dialect.quoted(scan.table.name),), {})
        for column, name in scan.columns:
            arm.add(name_of(column), _stored(self.dialect.quoted(name)))
        rows = Rows(arm, is_stored=True)
        if any(_RESERVED.fullmatch(name) for _, name in scan.columns):
            rows = self._closed(rows)
        for condition in scan.filters:
            rows = self._filter(rows, ir.Filter(scan, condition))
        return rows

    def _values(self, values: ir.Values) -> Rows:
        columns, rows = values.columns, values.rows
        if len(rows) == 1:
            arm = Arm((), {})
            for column, value in zip(columns, rows[0], strict=True):
                arm.add(name_of(column), Piece(self.scalars.constant(value, column.type), frozenset(), "constant"))
            return Rows(arm, is_total=True)
        names = [name_of(c) for c in columns]
        order = self._fresh("o")
        if not rows:
            arm = Arm((), {}, where=["false"])
            for column, name in zip(columns, names, strict=True):
                arm.add(name, Piece(self.scalars.constant(None, column.type), frozenset(), "constant"))
            return Rows(arm, is_total=True)
        if len(rows) * len(columns) > MAX_CELLS:
            cells = [self._column_of(c, [row[n] for row in rows]) for n, c in enumerate(columns)]
            items = [*cells, f"{self._say('places', str(len(rows)))} AS {order}"]
            origin = f"(SELECT {', '.join(items)}) AS v"
        else:
            lines = (
                "("
                + ", ".join([*(self.scalars.constant(v, c.type) for v, c in zip(row, columns, strict=True)), str(n)])
                + ")"
                for n, row in enumerate(rows)
            )
            origin = f"(VALUES {', '.join(lines)}) AS v({', '.join([*names, order])})"
        arm = Arm((origin,), dict.fromkeys([*names, order]))
        for name in arm.names:
            arm.columns[name] = Piece(name, frozenset(), "column")
        return Rows(arm, arrival=(Key(order),), is_total=True)

    def _column_of(self, column: ir.BoundColumn, cells: list[Any]) -> str:
        """One column of many rows, unnested from a parameter."""
        kind = column.type
        if kind in ("real", "decimal"):
            cells = [None if c is None else repr(c) if kind == "real" else f"{c:f}" for c in cells]
        elif kind not in ("bool", "int", "long", "timespan"):
            values = (self.scalars.value(c, kind) for c in cells)
            cells = list(values)
        unnested = self._say("unnest", self.scalars.parameter(cells))
        return f"{self._say('cast', unnested, self.dialect.type(kind))} AS {name_of(column)}"

    def _numbers_of(self, numbers: ir.Numbers) -> Rows:
        kind, name = numbers.column.type, name_of(numbers.column)
        order = self._fresh("o")
        bounds = (numbers.start, numbers.stop, numbers.step)
        arm = Arm((), {})
        if all(isinstance(b, ir.Const) for b in bounds):
            start, stop, step = (b.value for b in bounds if isinstance(b, ir.Const))
            size = _size(start, stop, step)
            if size > MAX_NUMBERS:
                raise KqlError(f"This range has {size} rows; there can be {MAX_NUMBERS}.", Span(0, 0), kind="limit")
            if kind == "long" and step > 0 and size:
                arm.origin = (self._say("numbers_between", str(start), str(start + size * step), str(step), "v", name),)
                arm.columns[name] = Piece(name, frozenset(), "column")
                arm.names[name] = None
                return Rows(arm, arrival=(Key(name),), is_total=True)
            length = str(size)
            first, gap = (self.scalars.piece(b, arm).text for b in (numbers.start, numbers.step))
        else:
            first, last, gap = (self._number_text(b, arm) for b in bounds)
            length = self._length(first, last, gap, kind)
        arm.origin = (self._say("numbers", length, "v", order),)
        arm.columns[order] = Piece(order, frozenset(), "column")
        arm.names[order] = None
        if kind == "datetime" and first.startswith("$"):
            first = self._say("ticks_of_instant", first)
        text = f"{first} + {order} * {gap}"
        if kind == "datetime":
            text = self._say("instant_of_ticks", text)
        elif kind != "long":
            text = self._say("cast", text, self.dialect.type(kind))
        arm.add(name, Piece(text, frozenset()))
        return Rows(arm, arrival=(Key(order),), is_total=True)

    def _number_text(self, bound: ir.Scalar, arm: Arm) -> str:
        text = f"({self.scalars.piece(bound, arm).text})"
        return self._say("ticks_of_instant", text) if bound.type == "datetime" else text

    def _length(self, first: str, last: str, gap: str, kind: str) -> str:
        """How many numbers there are from ``first`` to ``last``; an error if they are too many."""
        division = "/" if kind in ("real", "decimal") else "//"
        size = f"CAST(floor(({last} - {first}) {division} nullif({gap}, 0)) + 1 AS BIGINT)"
        size = f"CASE WHEN sign({last} - {first}) = -sign({gap}) THEN 0 ELSE {size} END"
        refusal = self._say("too_many", f"'A range has more than {MAX_NUMBERS} rows.'")
        return f"coalesce(CASE WHEN {size} > {MAX_NUMBERS} THEN {refusal} ELSE {size} END, 0)"

    def _use(self, use: ir.Use) -> Rows:
        shared = use.shared
        known = self._shared.get(shared.key)
        if known is None:
            known = self._closed(self.rows(shared.relation))
            origin = known.arm.origin[0]
            assert isinstance(origin, Step)
            if shared.is_materialized and not origin.mode:
                origin.mode = self.dialect.forms.get("once", "")
            self._shared[shared.key] = known
        source = known.arm.origin[0]
        assert isinstance(source, Step)
        arm = Arm((source,), {})
        renamed: dict[str, str] = {}
        for new, old in use.columns:
            arm.add(name_of(new), Piece(name_of(old), frozenset((name_of(old),)), "column"))
            renamed.setdefault(name_of(old), name_of(new))

        def key(found: Key) -> Key:
            if found.name not in renamed:
                name = renamed[found.name] = self._fresh("o")
                arm.add(name, Piece(found.name, frozenset((found.name,)), "column"))
            return replace(found, name=renamed[found.name])

        return replace(known, arm=arm, keys=tuple(map(key, known.keys)), arrival=tuple(map(key, known.arrival)))


def _size(start: Any, stop: Any, step: Any) -> int:
    """How many numbers there are from ``start`` to ``stop`` by ``step``."""
    if start is None or stop is None or not step:
        return 0
    steps = (
        (stop - start) / step
        if isinstance(step, float | Decimal) or isinstance(start, float)
        else (stop - start) // step
    )
    return max(0, math.floor(steps) + 1) if not isinstance(steps, float) or math.isfinite(steps) else 0


@lru_cache(maxsize=4096)
def _stored(quoted: str) -> Piece:
    """A column of a table."""
    return Piece(quoted, frozenset(), "column")
