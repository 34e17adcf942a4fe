"""H3: the grid of hexagons (and twelve pentagons) over the faces of an icosahedron, in 16 resolutions.

A cell is a whole number of 64 bits: resolution, coarsest cell, and a digit from 0 to 6 for each finer resolution. A
place on a face is a pair (a, b) of steps along its axes i and j; a step along k is (-1, -1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from watchfloor.kql.geometry.icosahedron import (
    AXES,
    CENTRES,
    FACE_CELLS,
    FACE_TURNS,
    HOMES,
    NEIGHBOURS,
    PENTAGONS,
    SIDES,
    TURNS,
)
from watchfloor.kql.geometry.sphere import Point, add, cross, dot, times, unit

FINEST: Final = 15

Place = tuple[int, int]

_STEPS: Final[tuple[Place, ...]] = ((0, 0), (-1, -1), (0, 1), (-1, 0), (1, 0), (0, -1), (1, 1))
"""What each digit means: none, k, j, jk, i, ik, ij."""
_DIGITS: Final = {step: digit for digit, step in enumerate(_STEPS)}
_LEFT: Final = (0, 5, 3, 1, 6, 4, 2)
"""Each digit turned a sixth of a circle counter-clockwise."""
_RIGHT: Final = (0, 3, 6, 2, 5, 1, 4)
_K, _J, _JK, _I, _IK, _IJ = 1, 2, 3, 4, 5, 6
_AROUND: Final = (_J, _JK, _K, _IK, _I, _IJ)
"""The directions in which a ring is walked, once entered in direction i."""
_POLAR: Final = (4, 117)
_SCALE: Final = 0.38196601125010500003
"""The length of a step of resolution 0 on the plane that touches a face's centre."""
_TILT: Final = 0.333473172251832115336090755351601070065900389
"""How far each second resolution is turned against the others."""
_ROOT_7: Final = math.sqrt(7)
_ROOT_3_HALVES: Final = math.sqrt(3) / 2


def _frame(face: int) -> tuple[Point, Point, Point]:
    """A face's centre, and the directions there of its i axis and of what is to the left of it."""
    centre = CENTRES[face]
    east = unit((-centre[1], centre[0], 0.0))
    north = cross(centre, east)
    ahead = add(times(north, math.cos(AXES[face])), times(east, math.sin(AXES[face])))
    return centre, ahead, cross(centre, ahead)


_FRAMES: Final = tuple(_frame(face) for face in range(20))


# -- places -----------------------------------------------------------------------------------------------------------


def _plus(x: Place, y: Place) -> Place:
    return x[0] + y[0], x[1] + y[1]


def _left(place: Place, times_: int = 1) -> Place:
    a, b = place
    for _ in range(times_):
        a, b = a - b, a
    return a, b


def _is_tilted(resolution: int) -> bool:
    return resolution % 2 == 1


def _down(place: Place, resolution: int) -> Place:
    """A place in steps of ``resolution``, which is one finer."""
    a, b = place
    return (2 * a + b, 3 * b - a) if _is_tilted(resolution) else (3 * a - b, a + 2 * b)


def _up(place: Place, resolution: int) -> Place:
    """The nearest place in steps that are one coarser than ``resolution``."""
    a, b = place
    x, y = (3 * a - b, a + 2 * b) if _is_tilted(resolution) else (2 * a + b, 3 * b - a)
    return (2 * x + 7) // 14, (2 * y + 7) // 14


def _axes(place: Place) -> tuple[int, int, int]:
    """A place as steps along i, j and k, none of them negative and one of them zero."""
    a, b = place
    least = min(a, b, 0)
    return a - least, b - least, -least


def _on_plane(place: Place) -> tuple[float, float]:
    a, b = place
    return a - b / 2, b * _ROOT_3_HALVES


def _nearest(x: float, y: float) -> Place:
    """The place nearest to a point of the plane."""
    b = y / _ROOT_3_HALVES
    a = x + b / 2
    c = b - a
    near_a, near_b, near_c = round(a), round(b), round(c)
    off_a, off_b, off_c = abs(near_a - a), abs(near_b - b), abs(near_c - c)
    if off_a > off_b and off_a > off_c:
        near_a = near_b - near_c
    elif off_b > off_c:
        near_b = near_a + near_c
    return near_a, near_b


_UNTURNED: Final = ((0, -2), (2, 2), (-2, 0))
_TURNED: Final = ((2, 2), (0, -2), (-2, 0))


def _settle(face: int, place: Place, resolution: int, scale: int, leads_with_i: bool) -> tuple[int, Place, int]:
    """The same place on the face on which it lies: face, place, and 0 (no change), 1 (on the side of the face) or 2
    (another face). ``resolution`` is even; steps are ``scale`` times finer than its own."""
    unit_length: int = 7 ** (resolution // 2) * scale
    reach = 2 * unit_length
    i, j, k = _axes(place)
    total = i + j + k
    if scale > 1 and total == reach:
        return face, place, 1
    if total <= reach:
        return face, place, 0
    is_cap = face < 5 or face >= 15
    if k > 0 and j > 0:
        way, turns = 2, 3
    elif k > 0:
        way, turns = 1, 5 if is_cap else 3
        if leads_with_i:
            a, b = place[0] - reach, place[1]
            place = (b + reach, b - a)
    else:
        way, turns = 0, 1 if is_cap else 3
    shift = (_UNTURNED if is_cap else _TURNED)[way]
    place = _plus(_left(place, turns), (shift[0] * unit_length, shift[1] * unit_length))
    state = 1 if scale > 1 and sum(_axes(place)) == reach else 2
    return SIDES[face][way], place, state


def _to_sphere(face: int, x: float, y: float, resolution: int, scale: int) -> Point:
    """A point of a face's plane, in steps of ``resolution`` divided by ``scale``, on the sphere."""
    if _is_tilted(resolution):
        x, y = x * math.cos(_TILT) - y * math.sin(_TILT), x * math.sin(_TILT) + y * math.cos(_TILT)
    size = _SCALE / (_ROOT_7**resolution * scale)
    centre, ahead, left = _FRAMES[face]
    return unit(add(centre, add(times(ahead, x * size), times(left, y * size))))


# -- cells ------------------------------------------------------------------------------------------------------------


def resolution_of(cell: int) -> int:
    return cell >> 52 & 15


def _base_of(cell: int) -> int:
    return cell >> 45 & 127


def _digit(cell: int, resolution: int) -> int:
    return cell >> 3 * (FINEST - resolution) & 7


def _with_digit(cell: int, resolution: int, digit: int) -> int:
    shift = 3 * (FINEST - resolution)
    return cell & ~(7 << shift) | digit << shift


def _with_base(cell: int, base: int) -> int:
    return cell & ~(127 << 45) | base << 45


def _leading(cell: int) -> int:
    """The first digit that is not zero."""
    for resolution in range(1, resolution_of(cell) + 1):
        if digit := _digit(cell, resolution):
            return digit
    return 0


def _turned(cell: int, table: tuple[int, ...]) -> int:
    for resolution in range(1, resolution_of(cell) + 1):
        cell = _with_digit(cell, resolution, table[_digit(cell, resolution)])
    return cell


def _turned_pentagon(cell: int) -> int:
    """Turned a sixth counter-clockwise, over the direction that a pentagon lacks."""
    turned = _turned(cell, _LEFT)
    return _turned(turned, _LEFT) if _leading(turned) == _K else turned


def is_pentagon(cell: int) -> bool:
    return _base_of(cell) in PENTAGONS and _leading(cell) == 0


def parse(token: str) -> int | None:
    """A cell from its hexadecimal digits; None if there is no such cell."""
    if not 1 <= len(token) <= 16 or not all(letter in "0123456789abcdefABCDEF" for letter in token):
        return None
    cell = int(token, 16)
    if cell >> 59 != 1 or cell >> 56 & 7 or _base_of(cell) >= 122:
        return None
    resolution = resolution_of(cell)
    for level in range(1, FINEST + 1):
        if (_digit(cell, level) == 7) != (level > resolution):
            return None
    if _base_of(cell) in PENTAGONS and _leading(cell) == _K:
        return None
    return cell


def text(cell: int) -> str:
    """A cell as hexadecimal digits."""
    return f"{cell:x}"


def cell_at(point: Point, resolution: int) -> int:
    """The cell in which a point lies."""
    face = max(range(20), key=lambda number: dot(point, CENTRES[number]))
    centre, ahead, left = _FRAMES[face]
    size = dot(point, centre) * _SCALE / _ROOT_7**resolution
    x, y = dot(point, ahead) / size, dot(point, left) / size
    if _is_tilted(resolution):
        x, y = x * math.cos(_TILT) + y * math.sin(_TILT), y * math.cos(_TILT) - x * math.sin(_TILT)
    return _cell_of(face, _nearest(x, y), resolution)


def _cell_of(face: int, place: Place, resolution: int) -> int:
    cell = 1 << 59 | resolution << 52 | (1 << 45) - 1
    for level in range(resolution, 0, -1):
        coarser = _up(place, level)
        a, b = _down(coarser, level)
        cell = _with_digit(cell, level, _DIGITS[place[0] - a, place[1] - b])
        place = coarser
    i, j, k = _axes(place)
    base = FACE_CELLS[face][9 * i + 3 * j + k]
    turns = FACE_TURNS[face][9 * i + 3 * j + k]
    cell = _with_base(cell, base)
    if base not in PENTAGONS:
        for _ in range(turns):
            cell = _turned(cell, _LEFT)
        return cell
    if _leading(cell) == _K:
        cell = _turned(cell, _RIGHT if face in PENTAGONS[base] else _LEFT)
    for _ in range(turns):
        cell = _turned_pentagon(cell)
    return cell


def _face_place(cell: int) -> tuple[int, Place]:
    """The face on which a cell's centre lies, and its place there."""
    base, resolution = _base_of(cell), resolution_of(cell)
    is_distorted = base in PENTAGONS
    if is_distorted and _leading(cell) == _IK:
        cell = _turned(cell, _RIGHT)
    face, i, j, k = HOMES[base]
    place = (i - k, j - k)
    may_leave = is_distorted or (resolution > 0 and place != (0, 0))
    for level in range(1, resolution + 1):
        place = _plus(_down(place, level), _STEPS[_digit(cell, level)])
    if not may_leave:
        return face, place
    level, inner = resolution, place
    if _is_tilted(resolution):
        level, inner = resolution + 1, _down(place, resolution + 1)
    found, inner, state = _settle(face, inner, level, 1, is_distorted and _leading(cell) == _I)
    if not state:
        return face, place
    while is_distorted and state:
        found, inner, state = _settle(found, inner, level, 1, False)
    return found, _up(inner, level) if level != resolution else inner


def centre_of(cell: int) -> Point:
    face, place = _face_place(cell)
    return _to_sphere(face, *_on_plane(place), resolution_of(cell), 1)


_CORNERS: Final = ((2, 1, 0), (1, 2, 0), (0, 2, 1), (0, 1, 2), (1, 0, 2), (2, 0, 1))
_TILTED_CORNERS: Final = ((5, 4, 0), (1, 5, 0), (0, 5, 4), (0, 1, 5), (4, 0, 5), (5, 0, 1))


def outline(cell: int) -> list[Point]:
    """The corners of a cell, counter-clockwise, and where its sides pass from one face to another."""
    face, place = _face_place(cell)
    resolution = resolution_of(cell)
    a, b = place
    a, b = a + b, 2 * b - a
    place = (2 * a - b, a + b)
    corners = _TILTED_CORNERS if _is_tilted(resolution) else _CORNERS
    level = resolution
    if _is_tilted(resolution):
        level = resolution + 1
        place = _down(place, level)
    corner_places = [_plus(place, (i - k, j - k)) for i, j, k in corners]
    if is_pentagon(cell):
        return _pentagon(face, corner_places[:5], resolution, level)
    return _hexagon(face, corner_places, resolution, level)


def _hexagon(face: int, places: list[Place], resolution: int, level: int) -> list[Point]:
    found: list[Point] = []
    last_face, last_state = -1, 0
    for number in range(7):
        corner = number % 6
        new_face, place, state = _settle(face, places[corner], level, 3, False)
        if _is_tilted(resolution) and number and new_face != last_face and last_state != 1:
            before, after = _on_plane(places[corner - 1]), _on_plane(places[corner])
            other = new_face if last_face == face else last_face
            meeting = _meeting(before, after, SIDES[face].index(other), level)
            if not (_is_same(meeting, before) or _is_same(meeting, after)):
                found.append(_to_sphere(face, *meeting, level, 3))
        if number < 6:
            found.append(_to_sphere(new_face, *_on_plane(place), level, 3))
        last_face, last_state = new_face, state
    return found


def _pentagon(face: int, places: list[Place], resolution: int, level: int) -> list[Point]:
    found: list[Point] = []
    last: tuple[int, Place] = (face, (0, 0))
    for number in range(6):
        new_face, place, state = _settle(face, places[number % 5], level, 3, False)
        while state == 2:
            new_face, place, state = _settle(new_face, place, level, 3, False)
        if _is_tilted(resolution) and number:
            other_face, before = last
            way = SIDES[new_face].index(other_face)
            is_cap = new_face < 5 or new_face >= 15
            turns = (1 if way == 0 else 5) if is_cap and way < 2 else 3
            shift = (_UNTURNED if is_cap else _TURNED)[way]
            length = 7 ** (level // 2) * 3
            after = _plus(_left(place, turns), (shift[0] * length, shift[1] * length))
            meeting = _meeting(_on_plane(before), _on_plane(after), SIDES[other_face].index(new_face), level)
            found.append(_to_sphere(other_face, *meeting, level, 3))
        if number < 5:
            found.append(_to_sphere(new_face, *_on_plane(place), level, 3))
        last = (new_face, place)
    return found


def _meeting(start: tuple[float, float], end: tuple[float, float], way: int, level: int) -> tuple[float, float]:
    """Where a side of a cell crosses a side of a face, on the face's plane."""
    reach = 2 * 7 ** (level // 2)
    tips = (
        (3.0 * reach, 0.0),
        (-1.5 * reach, 3 * _ROOT_3_HALVES * reach),
        (-1.5 * reach, -3 * _ROOT_3_HALVES * reach),
    )
    first, second = ((tips[0], tips[1]), (tips[2], tips[0]), (tips[1], tips[2]))[way]
    dx, dy = end[0] - start[0], end[1] - start[1]
    ex, ey = second[0] - first[0], second[1] - first[1]
    share = (ex * (start[1] - first[1]) - ey * (start[0] - first[0])) / (ey * dx - ex * dy)
    return start[0] + share * dx, start[1] + share * dy


def _is_same(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return abs(a[0] - b[0]) < 1.2e-7 and abs(a[1] - b[1]) < 1.2e-7


# -- family -----------------------------------------------------------------------------------------------------------


def parent(cell: int, resolution: int) -> int:
    """The cell of a coarser resolution to which a cell belongs."""
    for level in range(resolution + 1, resolution_of(cell) + 1):
        cell = _with_digit(cell, level, 7)
    return cell & ~(15 << 52) | resolution << 52


def children(cell: int, resolution: int) -> Iterator[int]:
    """The cells of a finer resolution that belong to a cell, in order."""
    level = resolution_of(cell)
    if level == resolution:
        yield cell
        return
    lacks_k = is_pentagon(cell)
    finer = cell & ~(15 << 52) | level + 1 << 52
    for digit in range(7):
        if not (lacks_k and digit == _K):
            yield from children(_with_digit(finer, level + 1, digit), resolution)


# -- neighbours -------------------------------------------------------------------------------------------------------


def _step(cell: int, direction: int, turns: int) -> tuple[int, int] | None:
    """The neighbour in a direction that counts from ``turns`` sixths on, and the turns from there on; None where a
    pentagon has none."""
    for _ in range(turns):
        direction = _LEFT[direction]
    old_base, old_leading = _base_of(cell), _leading(cell)
    new_turns = 0
    for level in range(resolution_of(cell), -1, -1):
        if level == 0:
            base, new_turns = NEIGHBOURS[old_base][direction], TURNS[old_base][direction]
            if base == 127:
                base, new_turns = NEIGHBOURS[old_base][_IK], TURNS[old_base][_IK]
                cell = _turned(cell, _LEFT)
                turns += 1
            cell = _with_base(cell, base)
            break
        place = _plus(_STEPS[_digit(cell, level)], _STEPS[direction])
        coarser = _up(place, level)
        a, b = _down(coarser, level)
        cell = _with_digit(cell, level, _DIGITS[place[0] - a, place[1] - b])
        direction = _DIGITS[coarser]
        if direction == 0:
            break
    base = _base_of(cell)
    if base not in PENTAGONS:
        for _ in range(new_turns):
            cell = _turned(cell, _LEFT)
        return cell, (turns + new_turns) % 6
    is_adjusted = False
    if _leading(cell) == _K:
        if old_base != base:
            cell = _turned(cell, _RIGHT if HOMES[old_base][0] in PENTAGONS[base] else _LEFT)
            is_adjusted = True
        elif old_leading == _JK:
            cell = _turned(cell, _LEFT)
            turns += 1
        elif old_leading == _IK:
            cell = _turned(cell, _RIGHT)
            turns += 5
        else:
            return None
    for _ in range(new_turns):
        cell = _turned_pentagon(cell)
    if old_base != base:
        if base in _POLAR:
            if old_base not in (118, 8) and _leading(cell) != _JK:
                turns += 1
        elif _leading(cell) == _IK and not is_adjusted:
            turns += 1
    return cell, (turns + new_turns) % 6


def rings(cell: int, distance: int) -> list[list[int]]:
    """The cells by their distance from a cell, from 0 up to ``distance``, each ring in the order of walking around."""
    return _walked_rings(cell, distance) or _spread_rings(cell, distance)


def _walked_rings(cell: int, distance: int) -> list[list[int]] | None:
    found = [[cell]]
    if is_pentagon(cell):
        return None
    turns = 0
    for ring in range(1, distance + 1):
        step = _step(cell, _I, turns)
        if step is None or is_pentagon(step[0]):
            return None
        cell, turns = step
        row = []
        for direction in _AROUND:
            for _ in range(ring):
                step = _step(cell, direction, turns)
                if step is None or is_pentagon(step[0]):
                    return None
                cell, turns = step
                row.append(cell)
        found.append(row)
    return found


def _spread_rings(cell: int, distance: int) -> list[list[int]]:
    """By spreading from neighbour to neighbour, where a pentagon is near."""
    found = [[cell]]
    seen = {cell}
    for _ in range(distance):
        row = []
        for inner in found[-1]:
            for direction in _AROUND:
                step = _step(inner, direction, 0)
                if step is not None and step[0] not in seen:
                    seen.add(step[0])
                    row.append(step[0])
        found.append(row)
    return found
