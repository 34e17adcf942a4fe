"""Functions of places, lines and polygons on the Earth, and of the grids over it.

Shapes are GeoJSON; what is no valid shape gives null. Edges are the shortest arcs of a sphere. A function that would
have to give what is not known for certain refuses, by raising ``ValueError``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

from watchfloor.kql.functions.spec import REFUSED, scalar
from watchfloor.kql.geometry import buffers, geohash, hexagons, hexfill, overlay, planar, shapes, spheroid, squares, wkt
from watchfloor.kql.geometry.ordering import listed
from watchfloor.kql.geometry.shapes import Line, Polygon
from watchfloor.kql.geometry.sphere import (
    EARTH_RADIUS,
    Point,
    add,
    along,
    arc_centroid,
    crosses,
    distance,
    from_degrees,
    heading,
    nearest_on_arc,
    norm,
    ring_area,
    ring_length,
    ring_moment,
    to_degrees,
    unit,
)

MOST_CELLS: Final = 65_536
"""The most cells of a covering."""

_NOT_SUPPORTED: Final = "this geospatial function is not supported"
for _name in ("geo_line_simplify", "geo_polygon_simplify", "geo_simplify_polygons_array"):
    REFUSED[_name] = _NOT_SUPPORTED
for _name in (
    "__geo_length_to_s2cell_level",
    "__geo_line_s2cell_covering_level",
    "__geo_line_validate",
    "__geo_polygon_s2cell_covering_level",
    "__geo_polygon_validate",
):
    REFUSED[_name] = "it is for the engine's own use"


# -- arguments --------------------------------------------------------------------------------------------------------


def _point(longitude: float, latitude: float) -> Point | None:
    return from_degrees(longitude, latitude) if shapes.is_place(longitude, latitude) else None


@lru_cache(maxsize=512)
def _lines_of_text(text: str) -> list[Line] | None:
    return shapes.read_lines(json.loads(text))


@lru_cache(maxsize=512)
def _polygons_of_text(text: str) -> list[Polygon] | None:
    return shapes.read_polygons(json.loads(text))


def read_lines(shape: Any) -> list[Line] | None:
    """The lines of a LineString or a MultiLineString."""
    return _lines_of_text(json.dumps(shape)) if isinstance(shape, dict) else None


def read_polygons(shape: Any) -> list[Polygon] | None:
    """The polygons of a Polygon or a MultiPolygon."""
    return _polygons_of_text(json.dumps(shape)) if isinstance(shape, dict) else None


def _only_line(shape: Any) -> Line | None:
    """The line of a LineString."""
    lines = read_lines(shape)
    return lines[0] if lines is not None and shape.get("type") == "LineString" else None


def _united(polygons: Sequence[Polygon]) -> list[Polygon]:
    """Polygons that do not overlap, with the same points inside."""
    if len(polygons) == 1:
        return list(polygons)
    return [shapes.polygon_of(polygon) for polygon in overlay.united(polygons)]


# -- points -----------------------------------------------------------------------------------------------------------


def _are_opposite(a: Point, b: Point) -> bool:
    return norm(add(a, b)) < 1e-15


@scalar("geo_distance_2points", "real real real real bool|real?", "real", page="geo-distance-2points-function")
def geo_distance_2points(
    longitude1: float, latitude1: float, longitude2: float, latitude2: float, use_spheroid: float = False
) -> float | None:
    """Metres between two places."""
    first, second = _point(longitude1, latitude1), _point(longitude2, latitude2)
    if first is None or second is None:
        return None
    if use_spheroid:
        return spheroid.distance(longitude1, latitude1, longitude2, latitude2)
    return EARTH_RADIUS * distance(first, second)


@scalar("geo_azimuth", "real real real real", "real", page="geo-azimuth-function")
def geo_azimuth(longitude1: float, latitude1: float, longitude2: float, latitude2: float) -> float | None:
    """The direction from one place to another, clockwise from north, in radians."""
    first, second = _point(longitude1, latitude1), _point(longitude2, latitude2)
    if first is None or second is None or first == second or _are_opposite(first, second):
        return None
    return heading(first, second)


@scalar("geo_angle", "real real real real real real", "real", page="geo-angle-function")
def geo_angle(
    longitude1: float,
    latitude1: float,
    longitude2: float,
    latitude2: float,
    longitude3: float,
    latitude3: float,
) -> float | None:
    """The angle at the second place, clockwise from the way to the first to the way to the third, in radians."""
    first, corner, last = _point(longitude1, latitude1), _point(longitude2, latitude2), _point(longitude3, latitude3)
    if first is None or corner is None or last is None or corner in (first, last):
        return None
    if _are_opposite(first, corner) or _are_opposite(corner, last):
        return None
    return (heading(corner, last) - heading(corner, first)) % (2 * math.pi)


@scalar("geo_point_in_circle", "real real real real real", "bool", page="geo-point-in-circle-function")
def geo_point_in_circle(
    longitude: float, latitude: float, centre_longitude: float, centre_latitude: float, radius: float
) -> bool | None:
    """Whether a place is at most ``radius`` metres away from another."""
    point, centre = _point(longitude, latitude), _point(centre_longitude, centre_latitude)
    if point is None or centre is None or not radius > 0 or math.isinf(radius):
        return None
    return EARTH_RADIUS * distance(point, centre) <= radius


@scalar("geo_point_in_polygon", "real real dynamic", "bool", page="geo-point-in-polygon-function")
def geo_point_in_polygon(longitude: float, latitude: float, polygon: Any) -> bool | None:
    point, polygons = _point(longitude, latitude), read_polygons(polygon)
    if point is None or polygons is None:
        return None
    return shapes.any_has(polygons, point)


@scalar("geo_distance_point_to_line", "real real dynamic", "real", page="geo-distance-point-to-line-function")
def geo_distance_point_to_line(longitude: float, latitude: float, line: Any) -> float | None:
    """Metres from a place to the nearest point of lines."""
    point, lines = _point(longitude, latitude), read_lines(line)
    if point is None or lines is None:
        return None
    return EARTH_RADIUS * distance(point, shapes.nearest_on_edges(point, shapes.edges_of(lines)))


@scalar("geo_closest_point_on_line", "real real dynamic", "dynamic", page="geo-closest-point-on-line-function")
def geo_closest_point_on_line(longitude: float, latitude: float, line: Any) -> dict[str, Any] | None:
    point, lines = _point(longitude, latitude), read_lines(line)
    if point is None or lines is None:
        return None
    return shapes.point_shape(shapes.nearest_on_edges(point, shapes.edges_of(lines)))


def _nearest_in(point: Point, polygons: Sequence[Polygon]) -> Point:
    if shapes.any_has(polygons, point):
        return point
    return shapes.nearest_on_edges(point, [edge for polygon in polygons for edge in polygon.edges()])


@scalar("geo_distance_point_to_polygon", "real real dynamic", "real", page="geo-distance-point-to-polygon-function")
def geo_distance_point_to_polygon(longitude: float, latitude: float, polygon: Any) -> float | None:
    """Metres from a place to the nearest point of polygons, 0 inside."""
    point, polygons = _point(longitude, latitude), read_polygons(polygon)
    if point is None or polygons is None:
        return None
    return EARTH_RADIUS * distance(point, _nearest_in(point, polygons))


@scalar("geo_closest_point_on_polygon", "real real dynamic", "dynamic", page="geo-closest-point-on-polygon-function")
def geo_closest_point_on_polygon(longitude: float, latitude: float, polygon: Any) -> dict[str, Any] | None:
    point, polygons = _point(longitude, latitude), read_polygons(polygon)
    if point is None or polygons is None:
        return None
    return shapes.point_shape(_nearest_in(point, polygons))


# -- lines ------------------------------------------------------------------------------------------------------------


def _distinct_edges(lines: Sequence[Line]) -> list[tuple[Point, Point]]:
    """The edges of lines, in several lines each way only once."""
    if len(lines) == 1:
        return shapes.edges_of(lines)
    sites, pieces = overlay.distinct_pieces(lines)
    return [(sites[a], sites[b]) for a, b in pieces]


@scalar("geo_line_length", "dynamic", "real", page="geo-line-length-function")
def geo_line_length(line: Any) -> float | None:
    """Metres; what several lines share counts once."""
    lines = read_lines(line)
    if lines is None:
        return None
    return EARTH_RADIUS * math.fsum(distance(a, b) for a, b in _distinct_edges(lines))


@scalar("geo_line_centroid", "dynamic", "dynamic", page="geo-line-centroid-function")
def geo_line_centroid(line: Any) -> dict[str, Any] | None:
    lines = read_lines(line)
    if lines is None:
        return None
    return shapes.point_shape(unit(overlay.sum_of([arc_centroid(a, b) for a, b in _distinct_edges(lines)])))


@scalar("geo_line_interpolate_point", "dynamic real", "dynamic", page="geo-line-interpolate-point-function")
def geo_line_interpolate_point(line: Any, fraction: float) -> dict[str, Any] | None:
    """The point at a share of a line's length."""
    path = _only_line(line)
    if path is None or not 0 <= fraction <= 1:
        return None
    edges = shapes.edges_of([path])
    rest = fraction * sum(distance(a, b) for a, b in edges)
    for a, b in edges:
        length = distance(a, b)
        if rest < length:
            return shapes.point_shape(along(a, b, rest) if rest > 0 else a)
        rest -= length
    return shapes.point_shape(path[-1])


@scalar("geo_line_locate_point", "dynamic real real bool|real?", "real", page="geo-line-locate-point-function")
def geo_line_locate_point(line: Any, longitude: float, latitude: float, use_spheroid: float = False) -> float | None:
    """The share of a line's length at which it is nearest to a place."""
    path, point = _only_line(line), _point(longitude, latitude)
    if path is None or point is None:
        return None
    if use_spheroid:
        raise ValueError("geo_line_locate_point() on the spheroid is not supported")
    passed, best, least = 0.0, 0.0, math.inf
    for a, b in shapes.edges_of([path]):
        found = nearest_on_arc(point, a, b)
        off = distance(found, point)
        if off < least:
            best, least = passed + distance(a, found), off
        passed += distance(a, b)
    return min(1.0, best / passed)


# -- polygons ---------------------------------------------------------------------------------------------------------


def _of_rings(shape: Any, measure: Callable[[Sequence[Point]], float], holes: int) -> float | None:
    """A measure of all rings of what polygons cover, that of holes times ``holes``."""
    polygons = read_polygons(shape)
    if polygons is None:
        return None
    rings = [ring for polygon in _united(polygons) for ring in polygon.rings]
    return math.fsum(measure(ring.vertices) * (holes if ring.is_hole else 1) for ring in rings)


@scalar("geo_polygon_area", "dynamic", "real", page="geo-polygon-area-function")
def geo_polygon_area(polygon: Any) -> float | None:
    """Square metres; what several polygons share counts once."""
    found = _of_rings(polygon, ring_area, -1)
    return None if found is None else EARTH_RADIUS**2 * found


@scalar("geo_polygon_perimeter", "dynamic", "real", page="geo-polygon-perimeter-function")
def geo_polygon_perimeter(polygon: Any) -> float | None:
    """Metres of boundary; only the outlines of what several polygons cover."""
    found = _of_rings(polygon, ring_length, 1)
    return None if found is None else EARTH_RADIUS * found


@scalar("geo_polygon_centroid", "dynamic", "dynamic", page="geo-polygon-centroid-function")
def geo_polygon_centroid(polygon: Any) -> dict[str, Any] | None:
    polygons = read_polygons(polygon)
    if polygons is None:
        return None
    moments = [ring_moment(ring.boundary) for each in _united(polygons) for ring in each.rings]
    return shapes.point_shape(unit(overlay.sum_of(moments)))


# -- two shapes -------------------------------------------------------------------------------------------------------


def _meet(first: Sequence[tuple[Point, Point]], second: Sequence[tuple[Point, Point]]) -> bool:
    """Whether any of the one edges crosses or touches one of the others."""
    if {point for edge in first for point in edge} & {point for edge in second for point in edge}:
        return True
    return any(crosses(*edge, *other) > 0 for edge in first for other in second)


@scalar("geo_intersects_2lines", "dynamic dynamic", "bool", page="geo-intersects-2lines-function")
def geo_intersects_2lines(line1: Any, line2: Any) -> bool | None:
    first, second = read_lines(line1), read_lines(line2)
    if first is None or second is None:
        return None
    return _meet(shapes.edges_of(first), shapes.edges_of(second))


def _edges(polygons: Sequence[Polygon]) -> list[tuple[Point, Point]]:
    return [edge for polygon in polygons for edge in polygon.edges()]


@scalar("geo_intersects_2polygons", "dynamic dynamic", "bool", page="geo-intersects-2polygons-function")
def geo_intersects_2polygons(polygon1: Any, polygon2: Any) -> bool | None:
    first, second = read_polygons(polygon1), read_polygons(polygon2)
    if first is None or second is None:
        return None
    if _meet(_edges(first), _edges(second)):
        return True
    return any(shapes.any_has(first, ring.vertices[0]) for polygon in second for ring in polygon.rings) or any(
        shapes.any_has(second, ring.vertices[0]) for polygon in first for ring in polygon.rings
    )


@scalar("geo_intersects_line_with_polygon", "dynamic dynamic", "bool", page="geo-intersects-line-with-polygon-function")
def geo_intersects_line_with_polygon(line: Any, polygon: Any) -> bool | None:
    lines, polygons = read_lines(line), read_polygons(polygon)
    if lines is None or polygons is None:
        return None
    return _meet(shapes.edges_of(lines), _edges(polygons)) or any(shapes.any_has(polygons, path[0]) for path in lines)


def _common_shape(found: overlay.Common) -> dict[str, Any]:
    """What two shapes have in common as one shape, or as a collection."""
    parts: list[dict[str, Any]] = []
    if len(found.points) == 1:
        parts.append(shapes.point_shape(found.points[0]))
    elif found.points:
        parts.append({"type": "MultiPoint", "coordinates": [list(to_degrees(point)) for point in found.points]})
    if found.lines:
        parts.append(shapes.lines_shape(found.lines))
    if found.polygons:
        parts.append(shapes.polygons_shape(found.polygons))
    return parts[0] if len(parts) == 1 else {"type": "GeometryCollection", "geometries": parts}


@scalar("geo_intersection_2lines", "dynamic dynamic", "dynamic", page="geo-intersection-2lines-function")
def geo_intersection_2lines(line1: Any, line2: Any) -> dict[str, Any] | None:
    first, second = read_lines(line1), read_lines(line2)
    if first is None or second is None:
        return None
    return _common_shape(overlay.common_of_lines(first, second))


@scalar("geo_intersection_2polygons", "dynamic dynamic", "dynamic", page="geo-intersection-2polygons-function")
def geo_intersection_2polygons(polygon1: Any, polygon2: Any) -> dict[str, Any] | None:
    first, second = read_polygons(polygon1), read_polygons(polygon2)
    if first is None or second is None:
        return None
    return _common_shape(overlay.common_of_polygons(first, second))


@scalar(
    "geo_intersection_line_with_polygon",
    "dynamic dynamic",
    "dynamic",
    page="geo-intersection-line-with-polygon-function",
)
def geo_intersection_line_with_polygon(line: Any, polygon: Any) -> dict[str, Any] | None:
    lines, polygons = read_lines(line), read_polygons(polygon)
    if lines is None or polygons is None:
        return None
    return _common_shape(overlay.common_of_line_and_polygon(lines, polygons))


@scalar("geo_union_polygons_array", "dynamic", "dynamic", page="geo-union-polygons-array-function")
def geo_union_polygons_array(polygons: Any) -> dict[str, Any] | None:
    """What the polygons of an array cover together."""
    if not isinstance(polygons, list) or not polygons:
        return None
    read = [read_polygons(polygon) for polygon in polygons]
    if any(found is None for found in read):
        return None
    found = overlay.united([polygon for each in read for polygon in each or ()])
    return shapes.polygons_shape(found)


@scalar("geo_union_lines_array", "dynamic", "dynamic", page="geo-union-lines-array-function")
def geo_union_lines_array(lines: Any) -> dict[str, Any] | None:
    """The lines of an array as one, what they share only once."""
    if not isinstance(lines, list) or not lines:
        return None
    read = [read_lines(line) for line in lines]
    if any(found is None for found in read):
        return None
    sites, pieces = overlay.distinct_pieces([line for each in read for line in each or ()])
    return shapes.lines_shape(overlay.paths(sites, pieces))


# -- buffers ----------------------------------------------------------------------------------------------------------

_TOLERANCE: Final = 10.0


def _shape_of(polygons: list[list[list[Point]]]) -> dict[str, Any] | None:
    return shapes.polygons_shape(polygons) if polygons else None


@scalar("geo_point_buffer", "real real real real?", "dynamic", page="geo-point-buffer-function")
def geo_point_buffer(
    longitude: float, latitude: float, radius: float, tolerance: float = _TOLERANCE
) -> dict[str, Any] | None:
    """What lies within ``radius`` metres of a place, drawn to within ``tolerance`` metres."""
    point = _point(longitude, latitude)
    if point is None or not buffers.is_drawable(radius, tolerance):
        return None
    return _shape_of(buffers.around_point(point, radius, tolerance))


@scalar("geo_line_buffer", "dynamic real real?", "dynamic", page="geo-line-buffer-function")
def geo_line_buffer(line: Any, radius: float, tolerance: float = _TOLERANCE) -> dict[str, Any] | None:
    """What lies within ``radius`` metres of lines."""
    lines = read_lines(line)
    if lines is None or not buffers.is_drawable(radius, tolerance):
        return None
    return _shape_of(buffers.around_lines(lines, radius, tolerance))


@scalar("geo_polygon_buffer", "dynamic real real?", "dynamic", page="geo-polygon-buffer-function")
def geo_polygon_buffer(polygon: Any, radius: float, tolerance: float = _TOLERANCE) -> dict[str, Any] | None:
    """What lies within ``radius`` metres of polygons."""
    polygons = read_polygons(polygon)
    if polygons is None or not buffers.is_drawable(radius, tolerance):
        return None
    return _shape_of(buffers.around_polygons(polygons, radius, tolerance))


# -- straight lines of longitude and latitude -------------------------------------------------------------------------


def _is_across(places: Sequence[tuple[float, float]]) -> bool:
    """Whether the shorter way between two of the places crosses the antimeridian."""
    return any(abs(after[0] - before[0]) > 180 for before, after in pairwise(places))


def _densified(places: Sequence[tuple[float, float]], tolerance: float) -> list[Point]:
    if _is_across(places):
        raise ValueError("edges across the antimeridian cannot be densified")
    return planar.densified(places, tolerance)


@scalar("geo_line_densify", "dynamic real? bool|real?", "dynamic", page="geo-line-densify-function")
def geo_line_densify(
    line: Any, tolerance: float = _TOLERANCE, _preserve_crossing: float = False
) -> dict[str, Any] | None:
    """Lines with as many points more as it takes to be straight on a map, to within ``tolerance`` metres."""
    places = shapes.coordinates_of_lines(line)
    if places is None or shapes.lines_of(places) is None or not 0.1 <= tolerance <= 10_000:
        return None
    found = shapes.lines_shape([_densified(each, tolerance) for each in places])
    if line["type"] == "MultiLineString" and len(places) == 1:
        return {"type": "MultiLineString", "coordinates": [found["coordinates"]]}
    return found


@scalar("geo_polygon_densify", "dynamic real? bool|real?", "dynamic", page="geo-polygon-densify-function")
def geo_polygon_densify(
    polygon: Any, tolerance: float = _TOLERANCE, _preserve_crossing: float = False
) -> dict[str, Any] | None:
    """Polygons with as many points more as it takes to be straight on a map, to within ``tolerance`` metres."""
    places = shapes.coordinates_of_polygons(polygon)
    if places is None or shapes.polygons_of(places) is None or not 0.1 <= tolerance <= 10_000:
        return None
    found = []
    for rings in places:
        dense = shapes.polygon_of([_densified(ring, tolerance)[:-1] for ring in rings])
        found.append([ring.boundary for ring in dense.rings])
    shape = shapes.polygons_shape(found)
    if polygon["type"] == "MultiPolygon" and len(found) == 1:
        return {"type": "MultiPolygon", "coordinates": [shape["coordinates"]]}
    return shape


# -- text -------------------------------------------------------------------------------------------------------------


@scalar("geo_from_wkt", "string", "dynamic", page="geo-from-wkt-function")
def geo_from_wkt(text: str) -> dict[str, Any] | None:
    """The shape that well-known text describes."""
    return wkt.read(text)


@scalar("geo_from_wkt", "dynamic", "dynamic", page="geo-from-wkt-function")
def geo_from_wkt_texts(texts: Any) -> Any:
    """The shapes that an array of texts describes."""
    if isinstance(texts, str):
        return wkt.read(texts)
    if not isinstance(texts, list):
        return None
    return [wkt.read(text) if isinstance(text, str) else None for text in texts]


# -- geohashes --------------------------------------------------------------------------------------------------------


@scalar("geo_point_to_geohash", "real real long?", "string", page="geo-point-to-geohash-function")
def geo_point_to_geohash(longitude: float, latitude: float, accuracy: int = 5) -> str:
    """The geohash of ``accuracy`` letters."""
    if not shapes.is_place(longitude, latitude) or not 1 <= accuracy <= geohash.LONGEST:
        return ""
    return geohash.of_place(longitude, latitude, accuracy)


@scalar("geo_geohash_to_central_point", "string", "dynamic", page="geo-geohash-to-central-point-function")
def geo_geohash_to_central_point(text: str) -> dict[str, Any] | None:
    box = geohash.box_of(text)
    return None if box is None else shapes.place_shape((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)


@scalar("geo_geohash_to_polygon", "string", "dynamic", page="geo-geohash-to-polygon-function")
def geo_geohash_to_polygon(text: str) -> dict[str, Any] | None:
    box = geohash.box_of(text)
    if box is None:
        return None
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


@scalar("geo_geohash_neighbors", "string", "dynamic", page="geo-geohash-neighbors-function")
def geo_geohash_neighbors(text: str) -> list[str] | None:
    found = geohash.neighbours(text)
    return None if found is None else listed(found)


# -- S2 cells ---------------------------------------------------------------------------------------------------------


@scalar("geo_point_to_s2cell", "real real long?", "string", page="geo-point-to-s2cell-function")
def geo_point_to_s2cell(longitude: float, latitude: float, level: int = 11) -> str:
    """The token of the cell of a level."""
    point = _point(longitude, latitude)
    if point is None or not 0 <= level <= squares.FINEST:
        return ""
    return squares.text(squares.cell_at(point, level))


@scalar("geo_s2cell_to_central_point", "string", "dynamic", page="geo-s2cell-to-central-point-function")
def geo_s2cell_to_central_point(token: str) -> dict[str, Any] | None:
    cell = squares.parse(token)
    return None if cell is None else shapes.point_shape(squares.centre_of(cell))


@scalar("geo_s2cell_to_polygon", "string", "dynamic", page="geo-s2cell-to-polygon-function")
def geo_s2cell_to_polygon(token: str) -> dict[str, Any] | None:
    cell = squares.parse(token)
    return None if cell is None else shapes.polygons_shape([[squares.outline(cell)]])


@scalar("geo_s2cell_neighbors", "string", "dynamic", page="geo-s2cell-neighbors-function")
def geo_s2cell_neighbors(token: str) -> list[str] | None:
    cell = squares.parse(token)
    return None if cell is None else listed([squares.text(near) for near in squares.neighbours(cell)])


def _covering(
    edges: Sequence[tuple[Point, Point]], polygons: Sequence[Polygon], level: int, radius: float
) -> list[str] | None:
    if not 0 <= level <= squares.FINEST or not radius >= 0 or math.isinf(radius):
        return None
    try:
        cells = squares.covering(edges, polygons, level, MOST_CELLS, radius / EARTH_RADIUS)
    except squares.TooManyCells:
        return None
    return [squares.text(cell) for cell in cells]


@scalar("geo_polygon_to_s2cells", "dynamic long? real?", "dynamic", page="geo-polygon-to-s2cells-function")
def geo_polygon_to_s2cells(polygon: Any, level: int = 11, radius: float = 0.0) -> list[str] | None:
    """The tokens of the cells of a level that cover polygons and what lies within ``radius`` metres."""
    polygons = read_polygons(polygon)
    return None if polygons is None else _covering(_edges(polygons), polygons, level, radius)


@scalar("geo_line_to_s2cells", "dynamic long? real?", "dynamic", page="geo-line-to-s2cells-function")
def geo_line_to_s2cells(line: Any, level: int = 11, radius: float = 0.0) -> list[str] | None:
    """The tokens of the cells of a level that cover lines and what lies within ``radius`` metres."""
    lines = read_lines(line)
    return None if lines is None else _covering(shapes.edges_of(lines), [], level, radius)


# -- H3 cells ---------------------------------------------------------------------------------------------------------


@scalar("geo_point_to_h3cell", "real real long?", "string", page="geo-point-to-h3cell-function")
def geo_point_to_h3cell(longitude: float, latitude: float, resolution: int = 6) -> str:
    """The token of the cell of a resolution."""
    point = _point(longitude, latitude)
    if point is None or not 0 <= resolution <= hexagons.FINEST:
        return ""
    return hexagons.text(hexagons.cell_at(point, resolution))


@scalar("geo_h3cell_level", "string", "int", page="geo-h3cell-level-function")
def geo_h3cell_level(token: str) -> int | None:
    """Its resolution."""
    cell = hexagons.parse(token)
    return None if cell is None else hexagons.resolution_of(cell)


@scalar("geo_h3cell_to_central_point", "string", "dynamic", page="geo-h3cell-to-central-point-function")
def geo_h3cell_to_central_point(token: str) -> dict[str, Any] | None:
    cell = hexagons.parse(token)
    return None if cell is None else shapes.point_shape(hexagons.centre_of(cell))


@scalar("geo_h3cell_to_polygon", "string", "dynamic", page="geo-h3cell-to-polygon-function")
def geo_h3cell_to_polygon(token: str) -> dict[str, Any] | None:
    cell = hexagons.parse(token)
    return None if cell is None else shapes.polygons_shape([[hexagons.outline(cell)]])


@scalar("geo_h3cell_parent", "string long?", "string", page="geo-h3cell-parent-function")
def geo_h3cell_parent(token: str, resolution: int | None = None) -> str:
    """The token of the cell of a coarser resolution that it belongs to, by default of the next."""
    cell = hexagons.parse(token)
    if cell is None:
        return ""
    own = hexagons.resolution_of(cell)
    wanted = own - 1 if resolution is None else resolution
    return hexagons.text(hexagons.parent(cell, wanted)) if 0 <= wanted <= own else ""


_DEEPEST_FAMILY: Final = 5


@scalar("geo_h3cell_children", "string long?", "dynamic", page="geo-h3cell-children-function")
def geo_h3cell_children(token: str, resolution: int | None = None) -> list[str] | None:
    """The tokens of the cells of a finer resolution that belong to it, by default of the next."""
    cell = hexagons.parse(token)
    if cell is None:
        return None
    own = hexagons.resolution_of(cell)
    wanted = own + 1 if resolution is None else resolution
    if not own <= wanted <= min(hexagons.FINEST, own + _DEEPEST_FAMILY):
        return None
    return [hexagons.text(child) for child in hexagons.children(cell, wanted)]


@scalar("geo_h3cell_neighbors", "string", "dynamic", page="geo-h3cell-neighbors-function")
def geo_h3cell_neighbors(token: str) -> list[str] | None:
    cell = hexagons.parse(token)
    return None if cell is None else listed([hexagons.text(near) for near in hexagons.rings(cell, 1)[1]])


_WIDEST_RING: Final = 142


@scalar("geo_h3cell_rings", "string long", "dynamic", page="geo-h3cell-rings-function")
def geo_h3cell_rings(token: str, distance_: int) -> list[list[str]] | None:
    """The cells around it by their distance, the cell itself first."""
    cell = hexagons.parse(token)
    if cell is None or not 0 <= distance_ <= _WIDEST_RING:
        return None
    return [[hexagons.text(near) for near in ring] for ring in hexagons.rings(cell, distance_)]


@scalar("geo_polygon_to_h3cells", "dynamic long? real?", "dynamic", page="geo-polygon-to-h3cells-function")
def geo_polygon_to_h3cells(polygon: Any, resolution: int = 6, radius: float = 0.0) -> list[str] | None:
    """The tokens of the cells of a resolution whose centres lie in polygons."""
    places = shapes.coordinates_of_polygons(polygon)
    if places is None or read_polygons(polygon) is None or not 0 <= resolution <= hexagons.FINEST or not radius >= 0:
        return None
    if radius > 0:
        raise ValueError("geo_polygon_to_h3cells() with a radius is not supported")
    found: list[int] = []
    try:
        for rings in places:
            shell, *holes = (ring[:-1] for ring in rings)
            found += hexfill.cells_in(shell, holes, resolution, MOST_CELLS - len(found))
    except hexfill.TooManyHexagons:
        return None
    return listed([hexagons.text(cell) for cell in dict.fromkeys(found)])
