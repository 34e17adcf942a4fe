"""What lies within a distance of a point, a line or a polygon, with arcs drawn as chains of edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from watchfloor.kql.geometry.overlay import enclosed
from watchfloor.kql.geometry.shapes import Line, Polygon
from watchfloor.kql.geometry.sphere import (
    EARTH_RADIUS,
    Point,
    angle,
    cross,
    distance,
    normal,
    orthogonal,
    side,
    times,
    towards,
    unit,
)

_FEWEST: Final = 1e-6
"""The least share of the radius by which an edge may be too near."""
_SMALLEST: Final = 2 * 2.0**-53


class Buffer:
    """Draws the outline at ``radius`` metres, nowhere nearer than by ``tolerance`` metres."""

    def __init__(self, radius: float, tolerance: float) -> None:
        self.radius = radius / EARTH_RADIUS
        share = min(tolerance / radius, 1 - 1e-12)
        error = max(_SMALLEST, share * self.radius)
        self.turn_step = _span(self.radius, error)
        self.point_step = 2 * math.pi / math.ceil(2 * math.pi / self.turn_step) + 1e-15
        self.edge_step = _span(math.pi / 2 - self.radius, error)
        self.path: list[Point] = []

    # -- shapes

    def point(self, point: Point) -> list[Point]:
        """The outline around a point."""
        start, turned = orthogonal(point), 0.0
        found = []
        for _ in range(4):
            ahead = unit(cross(point, start))
            while turned < math.pi / 2:
                found.append(towards(point, towards(start, ahead, turned), self.radius))
                turned += self.point_step
            turned -= math.pi / 2
            start = ahead
        return found

    def line(self, line: Line) -> list[Point]:
        """The outline around a line, with round ends."""
        self.path = []
        axis = normal(line[1], line[0])
        self._turn(line[0], times(axis, -1), axis)
        for a, b, c in zip(line, line[1:], line[2:], strict=False):
            self._edge_and_corner(a, b, c)
        self._edge(line[-2], line[-1])
        axis = normal(line[-1], line[-2])
        self._turn(line[-1], axis, times(axis, -1))
        back = line[::-1]
        for a, b, c in zip(back, back[1:], back[2:], strict=False):
            self._edge_and_corner(a, b, c)
        self._edge(line[1], line[0])
        return self.path

    def ring(self, ring: Sequence[Point]) -> list[Point]:
        """The way beside a ring, to its right."""
        self.path = []
        around = [*ring, ring[0], ring[1]]
        for a, b, c in zip(around, around[1:], around[2:], strict=False):
            self._edge_and_corner(a, b, c)
        return self.path

    # -- pieces

    def _turn(self, corner: Point, start: Point, end: Point) -> None:
        ahead = unit(cross(corner, start))
        whole, turned = angle(start, end), 0.0
        while True:
            self.path.append(towards(corner, towards(start, ahead, turned), self.radius))
            turned += self.turn_step
            if turned >= whole:
                return

    def _edge(self, a: Point, b: Point) -> None:
        axis = normal(b, a)
        ahead = unit(cross(a, axis))
        whole, gone = distance(a, b), 0.0
        while True:
            self.path.append(towards(towards(a, ahead, gone), axis, self.radius))
            gone += self.edge_step
            if gone >= whole:
                return

    def _edge_and_corner(self, a: Point, b: Point, c: Point) -> None:
        self._edge(a, b)
        if side(a, b, c) >= 0:
            self._turn(b, normal(b, a), normal(c, b))
        else:
            self.path += [towards(b, normal(b, a), self.radius), b]


def _span(radius: float, error: float) -> float:
    """The longest arc of a circle that an edge may stand for."""
    step = 2 * math.pi / 3 + 1e-15
    least = radius - error
    if radius < math.pi / 2:
        step = min(step, 2 * math.acos(min(1.0, max(-1.0, math.tan(least) / math.tan(radius)))))
    return step


def is_drawable(radius: float, tolerance: float) -> bool:
    """Whether a buffer of this radius can be drawn to this tolerance."""
    return 0 < radius <= EARTH_RADIUS and tolerance > 0 and tolerance >= _FEWEST * radius and math.isfinite(tolerance)


def around_point(point: Point, radius: float, tolerance: float) -> list[list[list[Point]]]:
    """What lies within ``radius`` metres of a point."""
    return enclosed([Buffer(radius, tolerance).point(point)])


def around_lines(lines: Sequence[Line], radius: float, tolerance: float) -> list[list[list[Point]]]:
    """What lies within ``radius`` metres of lines."""
    buffer = Buffer(radius, tolerance)
    return enclosed([buffer.line(line) for line in lines])


def around_polygons(polygons: Sequence[Polygon], radius: float, tolerance: float) -> list[list[list[Point]]]:
    """What lies within ``radius`` metres of polygons, and they themselves."""
    buffer = Buffer(radius, tolerance)
    return enclosed([buffer.ring(ring.boundary) for polygon in polygons for ring in polygon.rings])
