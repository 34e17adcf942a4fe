"""Well-known text read as GeoJSON."""

from __future__ import annotations

import re
from typing import Any, Final

_TOKEN: Final = re.compile(r"\s*(?:[A-Za-z]+|[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[(),])")
_DEPTHS: Final = {
    "POINT": ("Point", 0),
    "LINESTRING": ("LineString", 1),
    "POLYGON": ("Polygon", 2),
    "MULTIPOINT": ("MultiPoint", 1),
    "MULTILINESTRING": ("MultiLineString", 2),
    "MULTIPOLYGON": ("MultiPolygon", 3),
}
_DEEPEST: Final = 16


class _Unreadable(Exception):
    """The text is no shape."""


class _Reader:
    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        place = 0
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is None:
                raise _Unreadable
            self.tokens.append(match.group().strip())
            place = match.end()
        self.place = 0

    def next(self) -> str:
        if self.place == len(self.tokens):
            raise _Unreadable
        self.place += 1
        return self.tokens[self.place - 1]

    def peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def expect(self, token: str) -> None:
        if self.next() != token:
            raise _Unreadable

    def shape(self, depth: int = 0) -> dict[str, Any]:
        word = self.next().upper()
        if word == "GEOMETRYCOLLECTION" and depth < _DEEPEST:
            self.expect("(")
            shapes = [self.shape(depth + 1)]
            while self.peek() == ",":
                self.next()
                shapes.append(self.shape(depth + 1))
            self.expect(")")
            return {"type": "GeometryCollection", "geometries": shapes}
        if word not in _DEPTHS:
            raise _Unreadable
        kind, levels = _DEPTHS[word]
        if levels == 0:
            self.expect("(")
            place = self.pair()
            self.expect(")")
            return {"type": kind, "coordinates": place}
        return {"type": kind, "coordinates": self.nested(levels, kind == "MultiPoint")}

    def nested(self, levels: int, may_wrap: bool) -> list[Any]:
        self.expect("(")
        items: list[Any] = []
        while True:
            if levels > 1:
                items.append(self.nested(levels - 1, may_wrap))
            elif may_wrap and self.peek() == "(":
                self.next()
                items.append(self.pair())
                self.expect(")")
            else:
                items.append(self.pair())
            if self.next() == ")":
                return items
            if self.tokens[self.place - 1] != ",":
                raise _Unreadable

    def pair(self) -> list[float]:
        try:
            return [float(self.next()), float(self.next())]
        except ValueError:
            raise _Unreadable from None


def read(text: str) -> dict[str, Any] | None:
    """The shape that ``text`` describes, as GeoJSON; None if it describes none."""
    try:
        reader = _Reader(text)
        shape = reader.shape()
    except _Unreadable:
        return None
    return shape if reader.place == len(reader.tokens) else None
