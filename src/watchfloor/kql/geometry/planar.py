"""Straight lines of longitude and latitude as chains of arcs that keep near them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from watchfloor.kql.geometry.sphere import EARTH_RADIUS, Point, between, dot, from_degrees, minus, unit

_SHARE: Final = 0.31215691082248312
"""Where along an edge the arc is farthest from the straight line, as good as everywhere."""
_CAUTION: Final = 0.83829992569888509
MOST_POINTS: Final = 10_485_760

Place = tuple[float, float]


def densified(places: Sequence[Place], tolerance: float) -> list[Point]:
    """The places with as many between them as it takes that arcs are within ``tolerance`` metres of straight lines."""
    limit = (2 * math.sin(min(_CAUTION * tolerance / EARTH_RADIUS, math.pi) / 2)) ** 2
    found = [from_degrees(*places[0])]
    for start, end in pairwise(places):
        _fill(start, from_degrees(*start), end, from_degrees(*end), limit, found)
    return found


def _fill(start: Place, a: Point, end: Place, b: Point, limit: float, found: list[Point]) -> None:
    if _apart(start, a, end, b) <= limit or len(found) >= MOST_POINTS:
        found.append(b)
        return
    middle = (0.5 * start[0] + 0.5 * end[0], 0.5 * start[1] + 0.5 * end[1])
    point = from_degrees(*middle)
    _fill(start, a, middle, point, limit, found)
    _fill(middle, point, end, b, limit, found)


def _apart(start: Place, a: Point, end: Place, b: Point) -> float:
    """How far the arc strays from the straight line, as the square of a chord."""
    if dot(a, b) < -1e-14:
        return math.inf
    farthest = 0.0
    for share in (_SHARE, 1 - _SHARE):
        place = ((1 - share) * start[0] + share * end[0], (1 - share) * start[1] + share * end[1])
        off = minus(unit(between(a, b, share)), from_degrees(*place))
        farthest = max(farthest, dot(off, off))
    return farthest
