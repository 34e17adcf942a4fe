"""Tabular operators that are routines: make-series."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from watchfloor.kql.codec import decode_value
from watchfloor.kql.routines.common import (
    MOST_ELEMENTS,
    Budget,
    Cells,
    Refused,
    Spec,
    Table,
    as_json,
    keys,
    routine,
)  # fmt: skip


@routine("make_series")
def make_series(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """One row for each combination of keys: the keys, an array for each aggregate, and the axis."""
    width, axis_type, step = spec["keys"], spec["axis_type"], decode_value(spec["step"], spec["axis_type"])
    start, stop = (decode_value(spec[name], axis_type) for name in ("start", "stop"))
    groups: dict[tuple[Any, ...], Table] = {}
    for cells in tables[0]:
        groups.setdefault(keys(cells, range(width)), []).append(cells)
    if not groups and spec["is_nonempty"] and not width:
        groups[()] = []
    defaults = [
        as_json(decode_value(value, type_), type_) for value, type_ in zip(spec["defaults"], spec["types"], strict=True)
    ]
    for rows in groups.values():
        axis = _axis(rows, width, start, stop, step, spec["is_inclusive"])
        if axis is None:
            continue
        budget.check()
        first, length = axis
        series = [[default] * length for default in defaults]
        for cells in rows:
            place = _place(cells[width], first, step)
            if 0 <= place < length:
                for values, value, type_ in zip(series, cells[width + 1 :], spec["types"], strict=True):
                    values[place] = as_json(value, type_)
        times = [as_json(first + place * step, axis_type) for place in range(length)]
        yield [*(rows[0][:width] if rows else []), *series, times]


def _axis(rows: Table, width: int, start: Any, stop: Any, step: Any, is_inclusive: bool) -> tuple[Any, int] | None:
    """The first value of the axis and how many there are; None where nothing says."""
    known = [cells[width] for cells in rows]
    first = start if start is not None else min(known, default=None)
    if first is None or not step or (stop is None and not known):
        return None
    last = stop if stop is not None else max(known)
    whole = _place(last, first, step)
    value = first + whole * step
    reaches = value <= last if is_inclusive or stop is None else value < last
    length = max(0, whole + 1 if reaches else whole)
    if length > MOST_ELEMENTS:
        raise Refused(f"make-series makes arrays of at most {MOST_ELEMENTS} values, this would be {length}.")
    return first, length


def _place(value: Any, first: Any, step: Any) -> int:
    """How many whole steps ``value`` is behind ``first``; an inexact real counts as the step that it is meant to be."""
    if isinstance(value, float) or isinstance(first, float) or isinstance(step, float):
        exact = (value - first) / step
        return round(exact) if abs(exact - round(exact)) < 1e-9 else int(exact // 1)
    return int((value - first) // step)
