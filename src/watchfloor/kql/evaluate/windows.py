"""Window functions over rows in their order: what row_number, prev, row_cumsum and their kin give for each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from watchfloor.kql.evaluate.scalars import Row, Value

Rows = Sequence[Row]


def window_values(
    function: str, rows: Rows, arguments: Sequence[Value], restart: Value | None, empty: Any
) -> list[Any]:
    """The values of the window function over the rows of one group. ``empty`` is the null of its type."""
    return _WINDOWS[function](rows, arguments, restart, empty)


def _restarts(rows: Rows, restart: Value | None) -> list[bool]:
    if restart is None:
        return [False] * len(rows)
    return [restart(row) is True for row in rows]


def _row_number(rows: Rows, arguments: Sequence[Value], restart: Value | None, empty: Any) -> list[Any]:
    (start,) = arguments
    found: list[Any] = []
    for row, is_restart in zip(rows, _restarts(rows, restart), strict=True):
        found.append(start(row) if is_restart or not found or found[-1] is None else found[-1] + 1)
    return found


def _neighbour(direction: int) -> Callable[[Rows, Sequence[Value], Value | None, Any], list[Any]]:
    def neighbour(rows: Rows, arguments: Sequence[Value], restart: Value | None, empty: Any) -> list[Any]:
        value, offset, default = arguments
        values = [value(row) for row in rows]
        found = []
        for place, row in enumerate(rows):
            distance = offset(row)
            other = -1 if distance is None else place + direction * distance
            found.append(values[other] if 0 <= other < len(rows) else default(row))
        return [empty if value is None else value for value in found]

    return neighbour


def _row_cumsum(rows: Rows, arguments: Sequence[Value], restart: Value | None, empty: Any) -> list[Any]:
    """A null adds nothing."""
    (term,) = arguments
    found: list[Any] = []
    total = None
    for row, is_restart in zip(rows, _restarts(rows, restart), strict=True):
        value = term(row)
        if is_restart:
            total = None
        if value is not None:
            total = value if total is None else total + value
        found.append(total)
    return found


def _rank(is_dense: bool) -> Callable[[Rows, Sequence[Value], Value | None, Any], list[Any]]:
    def rank(rows: Rows, arguments: Sequence[Value], restart: Value | None, empty: Any) -> list[Any]:
        (term,) = arguments
        found: list[Any] = []
        before = None
        number = 0
        for row, is_restart in zip(rows, _restarts(rows, restart), strict=True):
            value = term(row)
            number = 1 if is_restart or not found else number + 1
            if number == 1:
                found.append(1)
            elif value == before:
                found.append(found[-1])
            else:
                found.append(found[-1] + 1 if is_dense else number)
            before = value
        return found

    return rank


def _row_window_session(rows: Rows, arguments: Sequence[Value], restart: Value | None, empty: Any) -> list[Any]:
    """A null is in no session, and the row after it begins one."""
    value, most_from_first, most_between = arguments
    found: list[Any] = []
    first = before = None
    for row, is_restart in zip(rows, _restarts(rows, restart), strict=True):
        now = value(row)
        if (
            now is None
            or first is None
            or is_restart
            or now - first > most_from_first(row)
            or now - before > most_between(row)
        ):
            first = now
        before = now
        found.append(first)
    return found


_WINDOWS: Final[Mapping[str, Callable[[Rows, Sequence[Value], Value | None, Any], list[Any]]]] = {
    "row_number": _row_number,
    "prev": _neighbour(-1),
    "next": _neighbour(1),
    "row_cumsum": _row_cumsum,
    "row_rank_dense": _rank(True),
    "row_rank_min": _rank(False),
    "row_window_session": _row_window_session,
}
