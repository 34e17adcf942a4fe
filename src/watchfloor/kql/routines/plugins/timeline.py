"""Plugins over a timeline of appearances: how many ids are active, new, lost, in sessions.

Each takes the places of the id, the time and the dimensions in a row; combinations of dimensions are apart. Rows
without a time appear nowhere. Results come in order of time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import nan
from typing import Any

from watchfloor.kql.functions.aggregates import nearest_rank
from watchfloor.kql.routines.common import (
    MOST_ELEMENTS,
    Budget,
    Cells,
    Refused,
    Spec,
    Table,
    keys,
    routine,
)


@dataclass(slots=True)
class Slice:
    """The appearances of one combination of dimensions: (time, id)."""

    dimensions: Cells
    appearances: list[tuple[Any, Any]]


def _slices(spec: Spec, rows: Table) -> list[Slice]:
    found: dict[tuple[Any, ...], Slice] = {}
    for cells in rows:
        time = cells[spec["time"]]
        if time is None or time != time:
            continue
        place = keys(cells, spec["dimensions"])
        if place not in found:
            found[place] = Slice([cells[dimension] for dimension in spec["dimensions"]], [])
        found[place].appearances.append((time, cells[spec["id"]]))
    return list(found.values())


def _bin(time: Any, start: Any, size: Any) -> Any:
    """The number of the bin that ``time`` is in."""
    return int((time - start) // size)


def _in_order(found: list[tuple[int, Cells]], at: Any) -> Iterator[Cells]:
    """Rows by the number of their bin; each is a time (``at`` the bin), dimensions and figures."""
    for number, cells in sorted(found, key=lambda pair: pair[0]):
        yield [at(number), *cells]


def _ids_by_bin(spec: Spec, each: Slice, size: Any) -> dict[int, list[Any]]:
    """The ids of all appearances in each bin of the period that is asked about."""
    start, end = spec["start"], spec["end"]
    found: dict[int, list[Any]] = defaultdict(list)
    for time, who in each.appearances:
        if start <= time and start + _bin(time, start, size) * size <= end:
            found[_bin(time, start, size)].append(who)
    return found


def _different(ids: list[Any]) -> set[Any]:
    return {who for who in ids if who is not None}


@routine("active_users_count")
def active_users_count(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """Ids of each bin with an appearance behind which, in the lookback window, there are enough active periods."""
    start, end, size, period, lookback = (spec[name] for name in ("start", "end", "bin", "period", "lookback"))
    found: list[tuple[int, Cells]] = []
    for each in _slices(spec, tables[0]):
        active: dict[int, set[Any]] = defaultdict(set)
        times_of: dict[Any, list[Any]] = defaultdict(list)
        for time, who in each.appearances:
            times_of[who].append(time)
        for who, times in times_of.items():
            if who is None:
                continue
            times.sort()
            periods: Counter[int] = Counter()
            oldest = newest = 0
            for time in times:
                budget.check()
                while newest < len(times) and times[newest] <= time:
                    periods[_bin(times[newest], start, period)] += 1
                    newest += 1
                while times[oldest] <= time - lookback:
                    _take_out(periods, _bin(times[oldest], start, period))
                    oldest += 1
                if start <= time <= end and len(periods) >= spec["active_periods"]:
                    active[_bin(time, start, size)].add(who)
        found += [(number, [*each.dimensions, len(ids)]) for number, ids in active.items()]
    yield from _in_order(found, lambda number: start + number * size)


def _take_out(counts: Counter[Any], item: Any) -> None:
    counts[item] -= 1
    if not counts[item]:
        del counts[item]


@routine("sliding_window_counts")
def sliding_window_counts(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """For each bin the appearances and the different ids in the window that ends with it."""
    start, end, size = spec["start"], spec["end"], spec["bin"]
    width, last = max(1, int(spec["lookback"] // size)), _bin(end, start, size)
    if last > MOST_ELEMENTS:
        raise Refused(f"sliding_window_counts looks at {MOST_ELEMENTS} bins at most.")
    found: list[tuple[int, Cells]] = []
    for each in _slices(spec, tables[0]):
        by_bin: dict[int, list[Any]] = defaultdict(list)
        for time, who in each.appearances:
            by_bin[_bin(time, start, size)].append(who)
        ids: Counter[Any] = Counter()
        count = 0
        for number in range(1 - width, last + 1):
            budget.check()
            entering, leaving = by_bin.get(number, ()), by_bin.get(number - width, ()) if number > 0 else ()
            count += len(entering) - len(leaving)
            ids.update(entering)
            for who in leaving:
                _take_out(ids, who)
            if number >= 0 and count:
                found.append((number, [*each.dimensions, count, len(ids) - (None in ids)]))
    yield from _in_order(found, lambda number: start + number * size)


@routine("activity_counts_metrics")
def activity_counts_metrics(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """For each bin: appearances, different ids, ids never seen in an earlier bin, ids seen so far."""
    start, size = spec["start"], spec["step"]
    found: list[tuple[int, Cells]] = []
    for each in _slices(spec, tables[0]):
        seen: set[Any] = set()
        for number, ids in sorted(_ids_by_bin(spec, each, size).items()):
            budget.check()
            now = _different(ids)
            new = len(now - seen)
            seen |= now
            found.append((number, [*each.dimensions, len(ids), len(now), new, len(seen)]))
    yield from _in_order(found, lambda number: start + number * size)


@routine("activity_metrics")
def activity_metrics(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """For each bin: different ids, those that the bin before does not have, and which shares of the ids of the bin
    before came back and were lost."""
    start, size = spec["start"], spec["step"]
    found: list[tuple[int, Cells]] = []
    for each in _slices(spec, tables[0]):
        by_bin = {number: _different(ids) for number, ids in _ids_by_bin(spec, each, size).items()}
        for number, now in by_bin.items():
            budget.check()
            before = by_bin.get(number - 1, set())
            back = len(now & before) / len(before) if before else nan
            lost = len(before - now) / len(before) if before else nan
            found.append((number, [*each.dimensions, len(now), len(now - before), back, lost]))
    yield from _in_order(found, lambda number: start + number * size)


@routine("session_count")
def session_count(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """For each bin the sessions that begin in it: appearances of ids that did not appear in the lookback window before.
    What appears at the very start of the period continues a session. Bins are those of bin()."""
    start, end, size, lookback = spec["start"], spec["end"], spec["bin"], spec["lookback"]
    found: list[tuple[int, Cells]] = []
    for each in _slices(spec, tables[0]):
        counts: Counter[int] = Counter()
        last: dict[Any, Any] = {}
        for time, who in sorted(each.appearances, key=lambda pair: pair[0]):
            budget.check()
            before = last.get(who)
            last[who] = time
            if start < time <= end and (before is None or time - before > lookback):
                counts[int(time // size)] += 1
        found += [(number, [*each.dimensions, count]) for number, count in counts.items()]
    yield from _in_order(found, lambda number: number * size)


@routine("rolling_percentile")
def rolling_percentile(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """For each bin that has rows the percentile of the values in it and the bins directly before it."""
    size, bins = spec["bin"], spec["bins"]
    found: list[tuple[int, Cells]] = []
    for each in _slices({**spec, "time": spec["index"], "id": spec["value"]}, tables[0]):
        points = sorted((int(t // size), v) for t, v in each.appearances if v is not None and v == v)
        numbers = [number for number, _ in points]
        for number in sorted({int(time // size) for time, _ in each.appearances}):
            budget.check()
            window = points[bisect_left(numbers, number - bins + 1) : bisect_right(numbers, number)]
            values = sorted(value for _, value in window)
            found.append((number, [*each.dimensions, nearest_rank(values, [1] * len(values), spec["percentile"])]))
    yield from _in_order(found, lambda number: number * size)
