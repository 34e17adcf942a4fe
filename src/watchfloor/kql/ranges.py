"""The time range of a request (``Timespan``), as ISO 8601 writes it: what of the tables a query gets to see.

Forms: a duration (``P30D``: so long until now), a start (until now), start/end, start/duration, duration/end. Source:
Graph's runHuntingQuery.
"""

from __future__ import annotations

import re
from typing import Final

from watchfloor.kql.values import MAX_DATETIME, TICKS_PER_DAY, TICKS_PER_SECOND, parse_datetime

_DURATION: Final = re.compile(
    r"P(?:(?P<w>\d+)W|(?=.)(?:(?P<d>\d+(?:\.\d+)?)D)?(?:T(?=\d)(?:(?P<h>\d+(?:\.\d+)?)H)?(?:(?P<m>\d+(?:\.\d+)?)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?)",
    re.ASCII,
)
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ][0-9:.,+-]+Z?|Z)?", re.ASCII)


def parse_range(text: str, now: int) -> tuple[int, int | None]:
    """``text`` as (since, until) in ticks; until None: no end. Raises ``ValueError`` that says what is wrong."""
    first, slash, second = text.strip().partition("/")
    if not slash:
        duration = _duration(first)
        return (max(now - duration, 0), None) if duration is not None else (_instant(first), None)
    start, end = _duration(first), _duration(second)
    if start is not None and end is not None:
        raise ValueError(f"'{text}' has two durations and no time")
    if start is not None:
        until = _instant(second)
        return max(until - start, 0), until
    since = _instant(first)
    until = min(since + end, MAX_DATETIME) if end is not None else _instant(second)
    if until < since:
        raise ValueError(f"'{text}' ends before it begins")
    return since, until


def _duration(text: str) -> int | None:
    match = _DURATION.fullmatch(text.strip().upper())
    if match is None or match.group() in ("P", "PT"):
        return None
    parts = {name: float(value or 0) for name, value in match.groupdict().items()}
    seconds = parts["h"] * 3600 + parts["m"] * 60 + parts["s"]
    ticks = (parts["w"] * 7 + parts["d"]) * TICKS_PER_DAY + seconds * TICKS_PER_SECOND
    if ticks > MAX_DATETIME:
        raise ValueError(f"'{text}' is longer than time goes back")
    return int(ticks)


def _instant(text: str) -> int:
    found = parse_datetime(text.strip()) if _INSTANT.fullmatch(text.strip()) else None
    if found is None:
        raise ValueError(f"'{text}' is neither a time such as 2026-01-31T08:00:00Z nor a duration such as P7D")
    return found
