"""The H3 cells whose centres lie in a polygon, as the H3 library finds and lists them.

Sides are straight lines of longitude and latitude here. The library keeps what it finds in a table with a place for
each cell that there might be, at the cell's number modulo the table's size, or the next free one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from watchfloor.kql.geometry.hexagons import cell_at, centre_of, outline, rings
from watchfloor.kql.geometry.sphere import Point, distance, from_degrees, to_degrees

_EARTH: Final = 6371.007180918475
"""The radius in kilometres that the library reckons with."""
_LEAST: Final = 2.0**-52

Places = Sequence[tuple[float, float]]


class TooManyHexagons(Exception):
    """A polygon has more cells inside than it may have."""


def cells_in(shell: Places, holes: Sequence[Places], resolution: int, most: int) -> list[int]:
    """The cells with their centre inside a shell and outside its holes (degrees; the first place not repeated)."""
    size = _table_size(shell, holes, resolution)
    if size > 64 * most:
        raise TooManyHexagons
    search: list[int] = []
    for ring in (shell, *holes):
        seen = set()
        for cell in _along(ring, resolution):
            if cell not in seen:
                seen.add(cell)
                search.append(cell)
    table: dict[int, int] = {}
    found: set[int] = set()
    while search:
        fresh: list[int] = []
        for cell in search:
            for near in (one for ring in rings(cell, 1) for one in ring):
                if near in found or not _is_inside(shell, holes, centre_of(near)):
                    continue
                place = near % size
                while place in table:
                    place = (place + 1) % size
                table[place] = near
                found.add(near)
                fresh.append(near)
                if len(found) > most:
                    raise TooManyHexagons
        search = fresh
    return [table[place] for place in sorted(table)]


def _pentagon_radius(resolution: int) -> float:
    pentagon = 1 << 59 | resolution << 52 | 4 << 45 | (1 << 3 * (15 - resolution)) - 1
    return _EARTH * distance(centre_of(pentagon), outline(pentagon)[0])


def _along(ring: Places, resolution: int) -> list[int]:
    """The cells on the way around a ring, at steps of a cell's width."""
    width = 2 * _pentagon_radius(resolution)
    found = []
    for index, start in enumerate(ring):
        end = ring[(index + 1) % len(ring)]
        steps = math.ceil(_EARTH * distance(from_degrees(*start), from_degrees(*end)) / width) or 1
        for step in range(steps):
            x = start[0] * (steps - step) / steps + end[0] * step / steps
            y = start[1] * (steps - step) / steps + end[1] * step / steps
            found.append(cell_at(from_degrees(x, y), resolution))
    return found


def _table_size(shell: Places, holes: Sequence[Places], resolution: int) -> int:
    """How many cells there might be."""
    west, east, south, north = _bounds(shell)
    area = 0.8 * 2.59807621135 * _pentagon_radius(resolution) ** 2
    across = _EARTH * distance(from_degrees(east, north), from_degrees(west, south))
    wide, high = math.radians(abs(east - west)), math.radians(abs(north - south))
    if not wide or not high:
        return max(len(shell), 1) + 12
    estimate = math.ceil(across * across / min(3.0, max(wide, high) / min(wide, high)) / area) or 1
    return max(estimate, len(shell) + sum(len(hole) for hole in holes)) + 12


def _is_across(ring: Places) -> bool:
    """Whether a ring crosses the antimeridian."""
    return any(abs(place[0] - ring[index - 1][0]) > 180 for index, place in enumerate(ring))


def _bounds(ring: Places) -> tuple[float, float, float, float]:
    if _is_across(ring):
        west = min((place[0] for place in ring if place[0] > 0), default=180.0)
        east = max((place[0] for place in ring if place[0] < 0), default=-180.0)
    else:
        west, east = min(place[0] for place in ring), max(place[0] for place in ring)
    return west, east, min(place[1] for place in ring), max(place[1] for place in ring)


def _is_inside(shell: Places, holes: Sequence[Places], point: Point) -> bool:
    x, y = to_degrees(point)
    return _ring_has(shell, x, y) and not any(_ring_has(hole, x, y) for hole in holes)


def _ring_has(ring: Places, x: float, y: float) -> bool:
    """Whether a ray to the east crosses a ring an odd number of times."""
    across = _is_across(ring)
    west, east, south, north = _bounds(ring)
    if not south <= y <= north or not ((x >= west or x <= east) if across else west <= x <= east):
        return False
    latitude, longitude = math.radians(y), _eastward(math.radians(x), across)
    odd = False
    for index, place in enumerate(ring):
        low, high = place, ring[(index + 1) % len(ring)]
        if low[1] > high[1]:
            low, high = high, low
        low_y, high_y = math.radians(low[1]), math.radians(high[1])
        if latitude in (low_y, high_y):
            latitude += _LEAST
        if not low_y <= latitude <= high_y:
            continue
        low_x, high_x = _eastward(math.radians(low[0]), across), _eastward(math.radians(high[0]), across)
        if longitude in (low_x, high_x):
            longitude -= _LEAST
        share = (latitude - low_y) / (high_y - low_y)
        if _eastward(low_x + (high_x - low_x) * share, across) > longitude:
            odd = not odd
    return odd


def _eastward(longitude: float, across: bool) -> float:
    return longitude + 2 * math.pi if across and longitude < 0 else longitude
