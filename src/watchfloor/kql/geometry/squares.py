"""S2 cells: the six faces of a cube, each halved thirty times in both directions.

A cell is a whole number of 64 bits: the face, then two bits a level along a Hilbert curve, then a 1 that marks the end.
Its token is the number in hexadecimal without zeros at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from watchfloor.kql.geometry.sphere import Point, distance, nearest_on_arc, unit

FINEST: Final = 30
_SIZE: Final = 1 << FINEST
_PLACE_OF: Final = ((0, 1, 3, 2), (0, 3, 1, 2), (2, 3, 1, 0), (2, 1, 3, 0))
"""For each orientation of the curve, the place along it of the quarter 2 i + j."""
_QUARTER_AT: Final = ((0, 1, 3, 2), (0, 2, 3, 1), (3, 2, 0, 1), (3, 1, 0, 2))
_TURN_AT: Final = (1, 0, 0, 3)


# -- coordinates ------------------------------------------------------------------------------------------------------


def _face_of(point: Point) -> int:
    x, y, z = (abs(part) for part in point)
    axis = (0 if x > z else 2) if x > y else (1 if y > z else 2)
    return axis if point[axis] >= 0 else axis + 3


def face_coordinates(face: int, point: Point) -> Point:
    """A point as seen by a face: two coordinates on it and the depth, which is positive before it."""
    x, y, z = point
    match face:
        case 0:
            return y, z, x
        case 1:
            return -x, z, y
        case 2:
            return -x, -y, z
        case 3:
            return -z, -y, -x
        case 4:
            return -z, x, -y
        case _:
            return y, x, -z


def _from_face(face: int, u: float, v: float) -> Point:
    match face:
        case 0:
            return 1.0, u, v
        case 1:
            return -u, 1.0, v
        case 2:
            return -u, -v, 1.0
        case 3:
            return -1.0, -v, -u
        case 4:
            return v, -1.0, -u
        case _:
            return v, u, -1.0


def _curved(u: float) -> float:
    """From the plane to shares of the face, so that cells are of about the same size everywhere."""
    return 0.5 * math.sqrt(1 + 3 * u) if u >= 0 else 1 - 0.5 * math.sqrt(1 - 3 * u)


def _flat(share: float) -> float:
    return (1 / 3) * (4 * share * share - 1) if share >= 0.5 else (1 / 3) * (1 - 4 * (1 - share) * (1 - share))


def _step(share: float) -> int:
    return max(0, min(_SIZE - 1, math.floor(_SIZE * share)))


# -- cells ------------------------------------------------------------------------------------------------------------


def _leaf(face: int, i: int, j: int) -> int:
    turn, number = face & 1, face
    for level in range(FINEST - 1, -1, -1):
        place = _PLACE_OF[turn][(i >> level & 1) << 1 | j >> level & 1]
        number = number << 2 | place
        turn ^= _TURN_AT[place]
    return number << 1 | 1


def leaf_at(point: Point) -> int:
    """The smallest cell in which a point lies."""
    face = _face_of(point)
    u, v, depth = face_coordinates(face, point)
    return _leaf(face, _step(_curved(u / depth)), _step(_curved(v / depth)))


def cell_at(point: Point, level: int) -> int:
    """The cell of a level in which a point lies."""
    return _at_level(leaf_at(point), level)


def _at_level(cell: int, level: int) -> int:
    mark = 1 << 2 * (FINEST - level)
    return cell & -mark | mark


def level_of(cell: int) -> int:
    return FINEST - ((cell & -cell).bit_length() - 1) // 2


def text(cell: int) -> str:
    """A cell's token."""
    return f"{cell:016x}".rstrip("0")


def parse(token: str) -> int | None:
    """A cell from its token; None if there is no such cell."""
    if not 1 <= len(token) <= 16 or not all(letter in "0123456789abcdefABCDEF" for letter in token):
        return None
    cell = int(token.ljust(16, "0"), 16)
    return cell if cell >> 61 < 6 and (cell & -cell) & 0x1555555555555555 else None


def _corner(cell: int) -> tuple[int, int, int, int]:
    """Face, least i and j, and size of a cell, in the smallest steps."""
    face, level = cell >> 61, level_of(cell)
    turn, i, j = face & 1, 0, 0
    for step in range(1, level + 1):
        place = cell >> 61 - 2 * step & 3
        quarter = _QUARTER_AT[turn][place]
        i, j = i << 1 | quarter >> 1, j << 1 | quarter & 1
        turn ^= _TURN_AT[place]
    rest = FINEST - level
    return face, i << rest, j << rest, 1 << rest


def _bounds(cell: int) -> tuple[int, float, float, float, float]:
    """Face, and least and greatest coordinates on it."""
    face, i, j, size = _corner(cell)
    return face, _flat(i / _SIZE), _flat((i + size) / _SIZE), _flat(j / _SIZE), _flat((j + size) / _SIZE)


def centre_of(cell: int) -> Point:
    """The centre of a cell, by shares of its face."""
    face, i, j, size = _corner(cell)
    return unit(_from_face(face, _flat((2 * i + size) / (2 * _SIZE)), _flat((2 * j + size) / (2 * _SIZE))))


def outline(cell: int) -> list[Point]:
    """The four corners of a cell, counter-clockwise."""
    face, low_u, high_u, low_v, high_v = _bounds(cell)
    corners = ((low_u, low_v), (high_u, low_v), (high_u, high_v), (low_u, high_v))
    return [unit(_from_face(face, u, v)) for u, v in corners]


def children(cell: int) -> Iterator[int]:
    """The four cells of the next level, in order."""
    mark = cell & -cell
    for place in range(4):
        yield cell - mark + (2 * place + 1) * (mark >> 2)


def neighbours(cell: int) -> list[int]:
    """The cells around a cell, at its sides and its corners."""
    level = level_of(cell)
    face, i, j, size = _corner(cell)
    found = []
    for offset in (-size, 0, size):
        if offset == 0:
            found += [_around(face, i, j - size, level), _around(face, i, j + size, level)]
        found += [_around(face, i - size, j + offset, level), _around(face, i + size, j + offset, level)]
    return list(dict.fromkeys(found))


def _around(face: int, i: int, j: int, level: int) -> int:
    """The cell at a place that may lie beyond the edge of the face."""
    if 0 <= i < _SIZE and 0 <= j < _SIZE:
        return _at_level(_leaf(face, i, j), level)
    i, j = max(-1, min(_SIZE, i)), max(-1, min(_SIZE, j))
    reach = 1 + 2**-52
    u = max(-reach, min(reach, (2 * (i - _SIZE // 2) + 1) / _SIZE))
    v = max(-reach, min(reach, (2 * (j - _SIZE // 2) + 1) / _SIZE))
    point = _from_face(face, u, v)
    face = _face_of(point)
    u, v, depth = face_coordinates(face, point)
    return _at_level(_leaf(face, _step(0.5 * (u / depth + 1)), _step(0.5 * (v / depth + 1))), level)


# -- coverings --------------------------------------------------------------------------------------------------------

_SLACK: Final = 1e-15


def _touches(start: Point, end: Point, bounds: tuple[float, float, float, float]) -> bool:
    """Whether an edge, as seen by a face, passes through a rectangle on it."""
    low_u, high_u, low_v, high_v = bounds
    first, last = 0.0, 1.0
    for a, b in (
        (start[0] - low_u * start[2], end[0] - low_u * end[2]),
        (high_u * start[2] - start[0], high_u * end[2] - end[0]),
        (start[1] - low_v * start[2], end[1] - low_v * end[2]),
        (high_v * start[2] - start[1], high_v * end[2] - end[1]),
    ):
        if a < 0 and b < 0:
            if max(a, b) < -_SLACK:
                return False
        elif a < 0:
            first = max(first, a / (a - b))
        elif b < 0:
            last = min(last, a / (a - b))
    return first <= last + _SLACK


class TooManyCells(Exception):
    """A covering would have more cells than it may have."""


class Region(Protocol):
    """What lies inside something."""

    def has(self, point: Point) -> bool:
        """Whether a point lies inside."""


def covering(
    edges: Sequence[tuple[Point, Point]], regions: Sequence[Region], level: int, most: int, reach: float = 0.0
) -> list[int]:
    """The cells of a level that these edges touch or that lie inside a region or at most ``reach`` away, in order.

    Raises TooManyCells where there would be more than ``most``.
    """
    found: list[int] = []
    for face in range(6):
        cell = (face << 61) + (1 << 60)
        if reach > 0:
            _cover_near(cell, list(edges), regions, level, most, reach, found)
        else:
            seen = [(face_coordinates(face, a), face_coordinates(face, b)) for a, b in edges]
            _cover(cell, seen, regions, level, most, found)
    return found


def _take(cell: int, level: int, most: int, found: list[int]) -> None:
    if len(found) + 4 ** (level - level_of(cell)) > most:
        raise TooManyCells
    found += _descendants(cell, level)


def _cover(
    cell: int, edges: list[tuple[Point, Point]], regions: Sequence[Region], level: int, most: int, found: list[int]
) -> None:
    bounds = _bounds(cell)[1:]
    near = [edge for edge in edges if _touches(*edge, bounds)]
    if not near:
        if any(region.has(centre_of(cell)) for region in regions):
            _take(cell, level, most, found)
    elif level_of(cell) == level:
        _take(cell, level, most, found)
    else:
        for child in children(cell):
            _cover(child, near, regions, level, most, found)


def _cover_near(
    cell: int,
    edges: list[tuple[Point, Point]],
    regions: Sequence[Region],
    level: int,
    most: int,
    reach: float,
    found: list[int],
) -> None:
    """As ``_cover``, with what lies at most ``reach`` away."""
    centre, corners = centre_of(cell), outline(cell)
    width = max(distance(centre, corner) for corner in corners)
    near = [edge for edge in edges if distance(centre, nearest_on_arc(centre, *edge)) <= width + reach + 1e-14]
    if not near:
        if any(region.has(centre) for region in regions):
            _take(cell, level, most, found)
    elif level_of(cell) < level:
        for child in children(cell):
            _cover_near(child, near, regions, level, most, reach, found)
    elif _is_near(cell, corners, near, regions, reach):
        _take(cell, level, most, found)


def _is_near(
    cell: int, corners: list[Point], edges: list[tuple[Point, Point]], regions: Sequence[Region], reach: float
) -> bool:
    """Whether a cell touches the edges or a region, or is at most ``reach`` away."""
    face, *bounds = _bounds(cell)
    low_u, high_u, low_v, high_v = bounds
    if any(region.has(corners[0]) for region in regions):
        return True
    for a, b in edges:
        if _touches(face_coordinates(face, a), face_coordinates(face, b), (low_u, high_u, low_v, high_v)):
            return True
        for index, corner in enumerate(corners):
            other = corners[index - 1]
            if distance(corner, nearest_on_arc(corner, a, b)) <= reach:
                return True
            if min(distance(end, nearest_on_arc(end, other, corner)) for end in (a, b)) <= reach:
                return True
    return False


def _descendants(cell: int, level: int) -> list[int]:
    cells = [cell]
    for _ in range(level - level_of(cell)):
        cells = [child for one in cells for child in children(one)]
    return cells
