"""Geohashes: longitude and latitude halved in turn, five bits a letter."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 18
_LETTERS: Final = "0123456789bcdefghjkmnpqrstuvwxyz"
_VALUES: Final = {letter: value for value, letter in enumerate(_LETTERS)}

Box = tuple[float, float, float, float]
"""West, south, east, north."""


def of_place(longitude: float, latitude: float, length: int) -> str:
    """The geohash of so many letters in which a place lies."""
    west, east, south, north = -180.0, 180.0, -90.0, 90.0
    letters = []
    is_east_west = True
    for _ in range(length):
        value = 0
        for _ in range(5):
            if is_east_west:
                middle = (west + east) / 2
                is_upper = longitude >= middle
                west, east = (middle, east) if is_upper else (west, middle)
            else:
                middle = (south + north) / 2
                is_upper = latitude >= middle
                south, north = (middle, north) if is_upper else (south, middle)
            value = value << 1 | is_upper
            is_east_west = not is_east_west
        letters.append(_LETTERS[value])
    return "".join(letters)


def box_of(geohash: str) -> Box | None:
    """The box of a geohash; None if it is none."""
    if not 1 <= len(geohash) <= LONGEST:
        return None
    west, east, south, north = -180.0, 180.0, -90.0, 90.0
    is_east_west = True
    for letter in geohash:
        value = _VALUES.get(letter)
        if value is None:
            return None
        for bit in (16, 8, 4, 2, 1):
            if is_east_west:
                middle = (west + east) / 2
                west, east = (middle, east) if value & bit else (west, middle)
            else:
                middle = (south + north) / 2
                south, north = (middle, north) if value & bit else (south, middle)
            is_east_west = not is_east_west
    return west, south, east, north


def neighbours(geohash: str) -> list[str] | None:
    """The geohashes around one, clockwise from the north-west; None if it is none. There are none beyond the poles."""
    box = box_of(geohash)
    if box is None:
        return None
    west, south, east, north = box
    longitude, latitude = (west + east) / 2, (south + north) / 2
    width, height = east - west, north - south
    found = []
    for right, up in ((-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0)):
        x, y = longitude + right * width, latitude + up * height
        if -90 < y < 90:
            x = x + 360 if x < -180 else x - 360 if x > 180 else x
            found.append(of_place(x, y, len(geohash)))
    return list(dict.fromkeys(one for one in found if one != geohash))
