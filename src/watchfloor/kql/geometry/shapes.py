"""GeoJSON read into points, lines and polygons on the sphere, and written again.

Reading gives None for what is no valid shape: coordinates out of range, a line of fewer than two points, a ring that is
not closed, has a vertex twice, or crosses itself or another ring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from watchfloor.kql.geometry.sphere import (
    Point,
    add,
    crosses,
    curvature,
    distance,
    dot,
    from_degrees,
    has_origin,
    nearest_on_arc,
    ring_has,
    to_degrees,
    unit,
)

Line = list[Point]


@dataclass(slots=True)
class Ring:
    """A closed way around the smaller of the two parts of the sphere, which lies to its left.

    ``is_hole``: what lies around it, and not inside, belongs to its polygon.
    """

    vertices: list[Point]
    is_hole: bool = False
    contains_origin: bool = field(init=False)

    def __post_init__(self) -> None:
        self.contains_origin = has_origin(self.vertices)

    def has(self, point: Point) -> bool:
        """Whether ``point`` lies inside."""
        return ring_has(self.vertices, point, self.contains_origin)

    @property
    def boundary(self) -> list[Point]:
        """The vertices, with the polygon to the left."""
        return self.vertices[::-1] if self.is_hole else self.vertices

    def edges(self) -> list[tuple[Point, Point]]:
        """The edges of the boundary, in order."""
        boundary = self.boundary
        return list(pairwise([*boundary, boundary[0]]))

    def holds(self, other: Ring) -> bool:
        """Whether it has another ring inside, for rings that do not cross."""
        shared = set(self.vertices)
        vertex = next((point for point in other.vertices if point not in shared), None)
        if vertex is not None:
            return self.has(vertex)
        a, b, c = other.vertices[:3]
        return self.has(unit(add(add(a, b), c)))


@dataclass(slots=True)
class Polygon:
    """What an odd number of rings have inside: a shell and its holes, as they come."""

    rings: list[Ring]

    def has(self, point: Point) -> bool:
        """Whether ``point`` lies inside; of the points of a boundary, each belongs to one side."""
        return sum(ring.has(point) for ring in self.rings) % 2 == 1

    def edges(self) -> list[tuple[Point, Point]]:
        """The edges of all rings."""
        return [edge for ring in self.rings for edge in ring.edges()]

    @property
    def size(self) -> int:
        """How many vertices it has."""
        return sum(len(ring.vertices) for ring in self.rings)


# -- reading ----------------------------------------------------------------------------------------------------------


def is_place(longitude: float, latitude: float) -> bool:
    """Whether these are coordinates in degrees."""
    return -180 <= longitude <= 180 and -90 <= latitude <= 90


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_places(value: Any) -> list[tuple[float, float]] | None:
    """An array of [longitude, latitude]."""
    if not isinstance(value, list):
        return None
    found = []
    for place in value:
        if not (isinstance(place, list) and len(place) >= 2 and _number(place[0]) and _number(place[1])):
            return None
        if not is_place(place[0], place[1]):
            return None
        found.append((float(place[0]), float(place[1])))
    return found


def read_lines(shape: Any) -> list[Line] | None:
    """The lines of a LineString or a MultiLineString."""
    return lines_of(coordinates_of_lines(shape))


def coordinates_of_lines(shape: Any) -> list[list[tuple[float, float]]] | None:
    """The same, in degrees; not yet checked for more than coordinates."""
    if not isinstance(shape, dict):
        return None
    coordinates = shape.get("coordinates")
    if shape.get("type") == "LineString":
        coordinates = [coordinates]
    elif shape.get("type") != "MultiLineString" or not isinstance(coordinates, list) or not coordinates:
        return None
    lines = [read_places(line) for line in coordinates]
    return [line for line in lines if line is not None] if all(line is not None for line in lines) else None


def lines_of(places: list[list[tuple[float, float]]] | None) -> list[Line] | None:
    """Lines from their coordinates, each of two points or more, no point twice in succession."""
    if places is None:
        return None
    lines = []
    for line in places:
        points = [from_degrees(*place) for place in line]
        if len(points) < 2 or any(_is_no_edge(a, b) for a, b in pairwise(points)):
            return None
        lines.append(points)
    return lines


def _is_no_edge(a: Point, b: Point) -> bool:
    """The same point, or opposite points, which have no shortest way."""
    return a == b or (dot(a, b) < 0 and distance(a, b) > math.pi - 1e-15)


def read_polygons(shape: Any) -> list[Polygon] | None:
    """The polygons of a Polygon or a MultiPolygon."""
    return polygons_of(coordinates_of_polygons(shape))


def coordinates_of_polygons(shape: Any) -> list[list[list[tuple[float, float]]]] | None:
    """The same, in degrees: rings with their first place again at the end; not yet checked for more than that."""
    if not isinstance(shape, dict):
        return None
    coordinates = shape.get("coordinates")
    if shape.get("type") == "Polygon":
        coordinates = [coordinates]
    elif shape.get("type") != "MultiPolygon":
        return None
    if not isinstance(coordinates, list) or not coordinates:
        return None
    polygons = []
    for polygon in coordinates:
        if not isinstance(polygon, list) or not polygon:
            return None
        rings = []
        for ring in polygon:
            places = read_places(ring)
            if places is None or len(places) < 4 or places[0] != places[-1]:
                return None
            rings.append(places)
        polygons.append(rings)
    return polygons


def polygons_of(places: list[list[list[tuple[float, float]]]] | None) -> list[Polygon] | None:
    """Polygons from their coordinates, each ring turned so that its smaller part lies to its left."""
    if places is None:
        return None
    polygons = []
    for rings in places:
        found = []
        for ring in rings:
            vertices = [from_degrees(*place) for place in ring[:-1]]
            if len(set(vertices)) != len(vertices):
                return None
            if any(_is_no_edge(vertices[index - 1], vertex) for index, vertex in enumerate(vertices)):
                return None
            found.append(vertices)
        if not _are_apart(found):
            return None
        polygons.append(polygon_of(found))
    return polygons


def polygon_of(rings: Sequence[Sequence[Point]]) -> Polygon:
    """A polygon from its shell and its holes, whichever way round they go."""
    shell, *others = (Ring(normalised(list(vertices))) for vertices in rings)
    for ring in others:
        ring.is_hole = shell.holds(ring)
    return Polygon([shell, *others])


def normalised(vertices: list[Point]) -> list[Point]:
    """A ring with the smaller part of the sphere to its left."""
    return vertices[::-1] if curvature(vertices) < -1e-14 else vertices


def _are_apart(rings: Sequence[Sequence[Point]]) -> bool:
    """Whether no two edges of these rings cross or are the same."""
    edges = [(ring[index - 1], vertex) for ring in rings for index, vertex in enumerate(ring)]
    ways = {frozenset(edge) for edge in edges}
    return len(ways) == len(edges) and not has_crossing(edges)


def has_crossing(edges: Sequence[tuple[Point, Point]]) -> bool:
    """Whether any two of these edges cross inside both."""
    return next(crossings(edges), None) is not None


def crossings(edges: Sequence[tuple[Point, Point]]) -> Any:
    """The pairs of numbers of edges that cross inside both."""
    boxes = sorted((box(a, b), number) for number, (a, b) in enumerate(edges))
    open_boxes: list[tuple[tuple[float, ...], int]] = []
    for bounds, number in boxes:
        open_boxes = [entry for entry in open_boxes if entry[0][1] >= bounds[0]]
        a, b = edges[number]
        for other_bounds, other in open_boxes:
            if (
                other_bounds[2] <= bounds[3]
                and bounds[2] <= other_bounds[3]
                and other_bounds[4] <= bounds[5]
                and bounds[4] <= other_bounds[5]
                and crosses(a, b, *edges[other]) > 0
            ):
                yield (number, other) if number < other else (other, number)
        open_boxes.append((bounds, number))


def box(a: Point, b: Point) -> tuple[float, float, float, float, float, float]:
    """Bounds of an arc in space: least and greatest x, y, z."""
    apart = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2
    slack = apart / 4 + 1e-15 if apart < 2 else 2.0
    return (
        min(a[0], b[0]) - slack,
        max(a[0], b[0]) + slack,
        min(a[1], b[1]) - slack,
        max(a[1], b[1]) + slack,
        min(a[2], b[2]) - slack,
        max(a[2], b[2]) + slack,
    )


# -- measuring --------------------------------------------------------------------------------------------------------


def nearest_on_edges(point: Point, edges: Sequence[tuple[Point, Point]]) -> Point:
    """The point of these edges that is nearest."""
    best, least = point, math.inf
    for a, b in edges:
        found = nearest_on_arc(point, a, b)
        apart = (found[0] - point[0]) ** 2 + (found[1] - point[1]) ** 2 + (found[2] - point[2]) ** 2
        if apart < least:
            best, least = found, apart
    return best


def edges_of(lines: Sequence[Line]) -> list[tuple[Point, Point]]:
    """The edges of lines."""
    return [edge for line in lines for edge in pairwise(line)]


def any_has(polygons: Sequence[Polygon], point: Point) -> bool:
    """Whether a point lies in one of these polygons."""
    return any(polygon.has(point) for polygon in polygons)


# -- writing ----------------------------------------------------------------------------------------------------------


def point_shape(point: Point) -> dict[str, Any]:
    """A point as GeoJSON."""
    return place_shape(*to_degrees(point))


def place_shape(longitude: float, latitude: float) -> dict[str, Any]:
    """Coordinates as GeoJSON."""
    return {"type": "Point", "coordinates": [longitude, latitude]}


def lines_shape(lines: Sequence[Line]) -> dict[str, Any]:
    """Lines as GeoJSON: one as a LineString, several as a MultiLineString."""
    coordinates = [[list(to_degrees(point)) for point in line] for line in lines]
    if len(coordinates) == 1:
        return {"type": "LineString", "coordinates": coordinates[0]}
    return {"type": "MultiLineString", "coordinates": coordinates}


def ring_coordinates(vertices: Sequence[Point]) -> list[list[float]]:
    """A ring as coordinates, the first again at the end."""
    coordinates = [list(to_degrees(vertex)) for vertex in vertices]
    return [*coordinates, coordinates[0][:]]


def polygons_shape(polygons: Sequence[Sequence[Sequence[Point]]]) -> dict[str, Any]:
    """Polygons (shell and holes) as GeoJSON: one as a Polygon, several as a MultiPolygon."""
    coordinates = [[ring_coordinates(ring) for ring in polygon] for polygon in polygons]
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}
