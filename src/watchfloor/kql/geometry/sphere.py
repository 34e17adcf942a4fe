"""Points, arcs and rings on the unit sphere.

A point is a unit vector; a ring is its vertices in order, without the first again at the end, with its inside to the
left. Whether three points turn left is decided exactly, and is never "neither" for three different points, so that
every question of sides has one answer: on one great circle, an infinitely small shift of each point decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

Point = tuple[float, float, float]

EARTH_RADIUS: Final = 6_371_010.0
"""Metres."""

ORIGIN: Final[Point] = (-0.0099994664350250197, 0.0025924542609324121, 0.99994664350250195)
"""A place in the Arctic Ocean where hardly anything ever is: from there the edges on the way to a point are counted."""

_DEGREE: Final = 180.0 / math.pi
_SURE: Final = 3.0e-15
"""A determinant of unit vectors beyond this has a certain sign."""


# -- vectors ----------------------------------------------------------------------------------------------------------


def from_degrees(longitude: float, latitude: float) -> Point:
    theta, phi = math.radians(longitude), math.radians(latitude)
    cosine = math.cos(phi)
    return math.cos(theta) * cosine, math.sin(theta) * cosine, math.sin(phi)


def to_degrees(point: Point) -> tuple[float, float]:
    """Longitude and latitude."""
    x, y, z = point
    return math.atan2(y, x) * _DEGREE, math.atan2(z, math.sqrt(x * x + y * y)) * _DEGREE


def dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Point, b: Point) -> Point:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def add(a: Point, b: Point) -> Point:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def minus(a: Point, b: Point) -> Point:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def times(a: Point, factor: float) -> Point:
    return a[0] * factor, a[1] * factor, a[2] * factor


def norm(a: Point) -> float:
    return math.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2])


def unit(a: Point) -> Point:
    """``a`` at length 1; itself where it has no length."""
    length = norm(a)
    return times(a, 1 / length) if length else a


def normal(a: Point, b: Point) -> Point:
    """The unit vector at right angles to both, around which ``b`` is to the left of ``a``; accurate for near points."""
    found = cross(add(a, b), minus(b, a))
    length = norm(found)
    return times(found, 1 / length) if length > 1e-30 else orthogonal(a)


def orthogonal(a: Point) -> Point:
    """Some unit vector at right angles to ``a``."""
    x, y, z = (abs(part) for part in a)
    largest = (0 if x > z else 2) if x > y else (1 if y > z else 2)
    other = [0.012, 0.0053, 0.00457]
    other[(largest + 2) % 3] = 1.0
    return unit(cross(a, (other[0], other[1], other[2])))


def angle(a: Point, b: Point) -> float:
    """The angle between two vectors."""
    return math.atan2(norm(cross(a, b)), dot(a, b))


def distance(a: Point, b: Point) -> float:
    """The angle between two points, accurate for near ones too."""
    return 2 * math.atan2(norm(minus(a, b)), norm(add(a, b)))


def towards(a: Point, direction: Point, arc: float) -> Point:
    """The point at ``arc`` from ``a`` in a direction that is at right angles to it."""
    return unit(add(times(a, math.cos(arc)), times(direction, math.sin(arc))))


def along(a: Point, b: Point, arc: float) -> Point:
    """The point at ``arc`` from ``a`` on the way to ``b``."""
    return towards(a, unit(cross(normal(a, b), a)), arc)


def between(a: Point, b: Point, share: float) -> Point:
    """The point at a share of the way from ``a`` to ``b``."""
    if share == 0:
        return a
    if share == 1:
        return b
    return along(a, b, share * distance(a, b))


# -- sides ------------------------------------------------------------------------------------------------------------


def side(a: Point, b: Point, c: Point) -> int:
    """1 where ``a``, ``b``, ``c`` turn left, -1 where they turn right; 0 only where two of them are the same."""
    determinant = dot(cross(a, b), c)
    if determinant > _SURE:
        return 1
    if determinant < -_SURE:
        return -1
    if a in (b, c) or b == c:
        return 0
    return _exact_side(a, b, c)


def _exact_side(a: Point, b: Point, c: Point) -> int:
    """By exact arithmetic; three points of one great circle are shifted, the later in order the less."""
    order = sorted((a, b, c))
    swaps = (order != [a, b, c]) and order not in ([b, c, a], [c, a, b])
    flip = -1 if swaps else 1
    x, y, z = ([Fraction(part) for part in point] for point in order)
    y_z = (y[1] * z[2] - y[2] * z[1], y[2] * z[0] - y[0] * z[2], y[0] * z[1] - y[1] * z[0])
    for value in (
        x[0] * y_z[0] + x[1] * y_z[1] + x[2] * y_z[2],
        y_z[2],
        y_z[1],
        y_z[0],
        z[0] * x[1] - z[1] * x[0],
        z[0],
        -z[1],
        z[2] * x[0] - z[0] * x[2],
        z[2],
        x[0] * y[1] - x[1] * y[0],
        -y[0],
        y[1],
        x[0],
    ):
        if value:
            return flip if value > 0 else -flip
    return flip


def is_ordered(a: Point, b: Point, c: Point, around: Point) -> bool:
    """Whether ``b`` comes before or with ``c``, counter-clockwise around a point from ``a`` on."""
    return ((side(b, around, a) >= 0) + (side(c, around, b) >= 0) + (side(a, around, c) > 0)) >= 2


def crosses(a: Point, b: Point, c: Point, d: Point) -> int:
    """1 where the arcs ``ab`` and ``cd`` cross inside both, 0 where they share an end, else -1."""
    if a in (c, d) or b in (c, d):
        return 0
    left = side(a, b, c)
    if left == 0 or side(a, b, d) != -left:
        return -1
    if side(c, d, b) != left or side(c, d, a) != -left:
        return -1
    return 1


def crosses_at_end(a: Point, b: Point, c: Point, d: Point) -> bool:
    """For two arcs that share an end: whether the way ``ab`` is counted as crossing ``cd``."""
    if a == b or c == d:
        return False
    if a == c:
        return b == d or is_ordered(orthogonal(a), d, b, a)
    if b == d:
        return is_ordered(orthogonal(b), c, a, b)
    if a == d:
        return b == c or is_ordered(orthogonal(a), c, b, a)
    return is_ordered(orthogonal(b), d, a, b)


def crossing(a: Point, b: Point, c: Point, d: Point) -> Point:
    """Where two crossing arcs cross."""
    first, second = normal(a, b), normal(c, d)
    found = cross(first, second)
    if norm(found) < 1e-9:
        found = _exact_crossing(a, b, c, d)
    found = unit(found)
    return found if dot(found, add(add(a, b), add(c, d))) >= 0 else times(found, -1)


def _exact_crossing(a: Point, b: Point, c: Point, d: Point) -> Point:
    points = [[Fraction(part) for part in point] for point in (a, b, c, d)]

    def product(x: Sequence[Fraction], y: Sequence[Fraction]) -> list[Fraction]:
        return [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]]

    found = product(product(points[0], points[1]), product(points[2], points[3]))
    largest = max(abs(part) for part in found)
    if not largest:
        return add(a, b)
    x, y, z = (float(part / largest) for part in found)
    return x, y, z


# -- arcs -------------------------------------------------------------------------------------------------------------


def nearest_on_arc(point: Point, a: Point, b: Point) -> Point:
    """The point of the arc ``ab`` that is nearest."""
    if point in (a, b) or a == b:
        return point if point in (a, b) else a
    across = normal(a, b)
    foot = unit(cross(normal(across, point), across))
    ahead = cross(foot, across)
    if dot(ahead, a) > 0 > dot(ahead, b):
        return foot
    return a if dot(minus(point, a), minus(point, a)) <= dot(minus(point, b), minus(point, b)) else b


def arc_centroid(a: Point, b: Point) -> Point:
    """The middle of the arc as a vector, times its length."""
    apart, together = minus(a, b), add(a, b)
    size = dot(together, together)
    return times(together, math.sqrt(dot(apart, apart) / size)) if size else (0.0, 0.0, 0.0)


def heading(a: Point, b: Point) -> float:
    """The direction from ``a`` to ``b``: clockwise from north, from 0 to below two pi."""
    x, y, _ = a
    east = unit((-y, x, 0.0)) if x or y else (0.0, 1.0, 0.0)
    north = cross(a, east)
    apart = minus(b, a)
    return math.atan2(dot(apart, east), dot(apart, north)) % (2 * math.pi)


# -- rings ------------------------------------------------------------------------------------------------------------


def turn(a: Point, b: Point, c: Point) -> float:
    """How far to the left the way turns at ``b``."""
    size = angle(normal(a, b), normal(b, c))
    return size if side(a, b, c) > 0 else -size


def curvature(ring: Sequence[Point]) -> float:
    """All turns of a ring together: positive where it goes round less than half of the sphere."""
    return math.fsum(turn(ring[index - 2], ring[index - 1], ring[index]) for index in range(len(ring)))


def triangle_area(a: Point, b: Point, c: Point) -> float:
    """The area of a triangle, negative where it turns right."""
    volume = dot(cross(minus(a, c), minus(b, c)), c)
    return 2 * math.atan2(volume, 1 + dot(a, b) + dot(b, c) + dot(c, a))


def ring_area(ring: Sequence[Point]) -> float:
    """The area to the left of a ring."""
    area = math.fsum(triangle_area(ring[0], ring[index], ring[index + 1]) for index in range(1, len(ring) - 1))
    area = math.remainder(area, 4 * math.pi)
    if abs(area) < 1e-14 * len(ring) and (curvature(ring) < 0) != (area < 0):
        area = -area
    return area if area >= 0 else area + 4 * math.pi


def ring_moment(ring: Sequence[Point]) -> Point:
    """The centroid of what lies to the left of a ring, times its area."""
    parts = []
    for index, b in enumerate(ring):
        a = ring[index - 1]
        parts.append(times(normal(a, b), distance(a, b) / 2))
    x, y, z = (math.fsum(part[axis] for part in parts) for axis in range(3))
    return x, y, z


def ring_length(ring: Sequence[Point]) -> float:
    return math.fsum(distance(ring[index - 1], ring[index]) for index in range(len(ring)))


def has_vertex(a: Point, b: Point, c: Point) -> bool:
    """Whether the corner ``abc`` of a ring counts its vertex ``b`` as inside."""
    return not is_ordered(orthogonal(b), c, a, b)


def _passes(start: Point, end: Point, ring: Sequence[Point]) -> bool:
    """Whether the way from ``start`` to ``end`` crosses a ring an odd number of times."""
    odd = False
    c = ring[-1]
    c_side = side(start, end, c) if c not in (start, end) else 0
    for d in ring:
        d_side = side(start, end, d) if d not in (start, end) else 0
        if c_side == 0 or d_side == 0:
            if crosses(start, end, c, d) > 0 or (
                (start in (c, d) or end in (c, d)) and crosses_at_end(start, end, c, d)
            ):
                odd = not odd
        elif c_side != d_side and crosses(start, end, c, d) > 0:
            odd = not odd
        c, c_side = d, d_side
    return odd


def has_origin(ring: Sequence[Point]) -> bool:
    """Whether ORIGIN lies inside a ring."""
    return has_vertex(ring[0], ring[1], ring[2]) != _passes(ORIGIN, ring[1], ring)


def ring_has(ring: Sequence[Point], point: Point, contains_origin: bool) -> bool:
    """Whether a point lies inside a ring; of the points of the boundary, each belongs to one side."""
    return contains_origin != _passes(ORIGIN, point, ring)
