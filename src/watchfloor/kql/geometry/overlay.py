"""Unions and intersections of polygons, and what self-crossing ways enclose.

All edges are cut where they cross or touch; of the pieces those stay that have the wanted on their left and not on
their right, and they are joined into rings by turning left. Points nearer to one another than a few nanometres become
one. Where rings begin, and in which order they come, follows from the order of the edges put in.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from itertools import pairwise
from typing import Final

from watchfloor.kql.geometry.shapes import (
    Line,
    Polygon,
    Ring,
    any_has,
    box,
    crossings,
    edges_of,
    normalised,
    polygon_of,
)
from watchfloor.kql.geometry.sphere import (
    Point,
    add,
    crosses,
    crossing,
    distance,
    is_ordered,
    nearest_on_arc,
    side,
    times,
    unit,
)
from watchfloor.kql.geometry.squares import leaf_at

_MERGED: Final = 1.8e-15
_TOUCHING: Final = 2.7e-15

Edge = tuple[int, int]
"""A directed edge between two sites, by their numbers."""


@dataclass(slots=True)
class Net:
    """Edges cut at all places where they meet: sites, and the pieces of each edge put in, as chains of sites."""

    sites: list[Point]
    chains: list[list[int]]

    @classmethod
    def of(cls, edges: Sequence[tuple[Point, Point]]) -> Net:
        """The net of these edges, in order."""
        cuts: dict[int, list[Point]] = {}
        points = [point for edge in edges for point in edge]
        for first, second in crossings(edges):
            meeting = crossing(*edges[first], *edges[second])
            cuts.setdefault(first, []).append(meeting)
            cuts.setdefault(second, []).append(meeting)
            points.append(meeting)
        sites, numbers = _sites(points)
        chains = [[numbers[a], numbers[b]] for a, b in edges]
        for number, meetings in cuts.items():
            _insert(chains[number], [numbers[point] for point in meetings], sites, edges[number])
        _insert_touching(chains, sites, edges)
        return cls(sites, chains)


def _sites(points: Sequence[Point]) -> tuple[list[Point], dict[Point, int]]:
    """Points in the order of the smallest cells, near ones merged, and the number of each point's site."""
    ordered = sorted(dict.fromkeys(points), key=leaf_at)
    sites: list[Point] = []
    numbers: dict[Point, int] = {}
    buckets: dict[tuple[int, int, int], list[int]] = {}
    for point in ordered:
        cell = tuple(math.floor(part * 1e14) for part in point)
        near = [
            site
            for x in (-1, 0, 1)
            for y in (-1, 0, 1)
            for z in (-1, 0, 1)
            for site in buckets.get((cell[0] + x, cell[1] + y, cell[2] + z), ())
        ]
        found = next((site for site in near if distance(sites[site], point) <= _MERGED), None)
        if found is None:
            found = len(sites)
            sites.append(point)
            buckets.setdefault((cell[0], cell[1], cell[2]), []).append(found)
        numbers[point] = found
    return sites, numbers


def _insert(chain: list[int], between: list[int], sites: list[Point], edge: tuple[Point, Point]) -> None:
    """Put sites into a chain, in the order in which the edge passes them."""
    start, end = chain[0], chain[-1]
    middle = {site for site in (*chain[1:-1], *between) if site not in (start, end)}
    chain[1:-1] = sorted(middle, key=lambda site: distance(edge[0], sites[site]))


def _insert_touching(chains: list[list[int]], sites: list[Point], edges: Sequence[tuple[Point, Point]]) -> None:
    """Cut edges at sites that lie on them."""
    order = sorted(range(len(sites)), key=lambda site: sites[site][0])
    places = [sites[site][0] for site in order]
    for chain, (a, b) in zip(chains, edges, strict=True):
        bounds = box(a, b)
        found = []
        for index in range(bisect_left(places, bounds[0]), len(order)):
            site = order[index]
            x, y, z = sites[site]
            if x > bounds[1]:
                break
            if not (bounds[2] <= y <= bounds[3] and bounds[4] <= z <= bounds[5]) or site in chain:
                continue
            if distance(nearest_on_arc(sites[site], a, b), sites[site]) <= _TOUCHING:
                found.append(site)
        if found:
            _insert(chain, found, sites, (a, b))


# -- rings ------------------------------------------------------------------------------------------------------------


def join(net: Net, kept: dict[Edge, int]) -> list[list[int]]:
    """Rings of sites from directed edges, each with the number of the first edge put in that it is a piece of."""
    edges = sorted(kept)
    following = _following(net.sites, edges)
    rings: list[list[Edge]] = []
    for start in edges:
        path: list[Edge] = []
        place: dict[int, int] = {}
        edge = start
        while edge in following:
            following_edge = following.pop(edge)
            place[edge[0]] = len(path)
            path.append(edge)
            begin = place.get(edge[1])
            if begin is not None:
                ring = path[begin:]
                del path[begin:]
                for piece in ring:
                    del place[piece[0]]
                rings.append(_rotated(ring, kept))
            edge = following_edge
    rings.sort(key=lambda ring: (kept[ring[0]], ring[0]))
    return [[edge[0] for edge in ring] for ring in rings]


def _following(sites: list[Point], edges: Sequence[Edge]) -> dict[Edge, Edge]:
    """For each edge the one that follows when one turns left."""
    around: dict[int, list[tuple[int, bool]]] = {}
    for a, b in edges:
        around.setdefault(a, []).append((b, False))
        around.setdefault(b, []).append((a, True))
    following: dict[Edge, Edge] = {}
    for vertex, spokes in around.items():
        spokes.sort()
        if len(spokes) > 2:
            spokes = _clockwise(vertex, spokes, sites)
        incoming: list[Edge] = []
        outgoing: list[Edge] = []
        for other, is_incoming in spokes:
            if is_incoming:
                incoming.append((other, vertex))
            elif incoming:
                following[incoming.pop()] = (vertex, other)
            else:
                outgoing.append((vertex, other))
        outgoing.reverse()
        while outgoing and incoming:
            following[incoming.pop()] = outgoing.pop()
    return following


def _clockwise(vertex: int, spokes: list[tuple[int, bool]], sites: list[Point]) -> list[tuple[int, bool]]:
    first = spokes[0][0]

    def turned(one: tuple[int, bool], other: tuple[int, bool]) -> int:
        a, b = one[0], other[0]
        if a == b:
            return one[1] - other[1]
        if first in (a, b):
            return -1 if a == first else 1
        return 1 if is_ordered(sites[a], sites[b], sites[first], sites[vertex]) else -1

    return sorted(spokes, key=cmp_to_key(turned))


def _rotated(ring: list[Edge], kept: dict[Edge, int]) -> list[Edge]:
    """A ring that ends with a piece of the last edge put in, the last such piece in succession."""
    place, has_gap = 0, False
    for index in range(1, len(ring)):
        step = kept[ring[index]] - kept[ring[place]]
        if step < 0:
            has_gap = True
        elif step > 0 or not has_gap:
            place, has_gap = index, False
    return ring[place + 1 :] + ring[: place + 1]


def nest(rings: Sequence[Sequence[Point]]) -> list[list[list[Point]]]:
    """Polygons from rings: each shell, counter-clockwise, with its holes, clockwise."""
    loops = [Ring(normalised(list(ring))) for ring in rings]
    inside: dict[int, list[int]] = {-1: []}
    for number, loop in enumerate(loops):
        parent = -1
        while True:
            deeper = next((other for other in inside[parent] if loops[other].holds(loop)), None)
            if deeper is None:
                break
            parent = deeper
        inside[number] = [other for other in inside[parent] if loop.holds(loops[other])]
        inside[parent] = [other for other in inside[parent] if other not in inside[number]] + [number]
    polygons = []

    def collect(number: int) -> None:
        polygons.append([loops[number].vertices, *(loops[hole].vertices[::-1] for hole in inside[number])])
        for hole in inside[number]:
            for island in inside[hole]:
                collect(island)

    for shell in inside[-1]:
        collect(shell)
    return polygons


# -- polygons ---------------------------------------------------------------------------------------------------------


def combine(
    first: Sequence[Polygon], second: Sequence[Polygon], rule: Callable[[bool, bool], bool]
) -> list[list[list[Point]]]:
    """What ``rule`` wants of two sets of polygons, by whether a point is in the one and in the other."""
    edges = [edge for polygon in first for edge in polygon.edges()]
    count = len(edges)
    edges += [edge for polygon in second for edge in polygon.edges()]
    net = Net.of(edges)
    pieces: dict[Edge, list[int | None]] = {}
    for number, chain in enumerate(net.chains):
        which = 0 if number < count else 1
        for piece in pairwise(chain):
            entry = pieces.setdefault(piece, [None, None])
            if entry[which] is None:
                entry[which] = number
    kept: dict[Edge, int] = {}
    operands = (first, second)
    for piece, own in pieces.items():
        reverse = pieces.get((piece[1], piece[0]), [None, None])
        left, right = [], []
        for which in (0, 1):
            forwards, backwards = own[which] is not None, reverse[which] is not None
            if forwards or backwards:
                left.append(forwards)
                right.append(backwards)
            else:
                middle = unit(add(net.sites[piece[0]], net.sites[piece[1]]))
                is_inside = any_has(operands[which], middle)
                left.append(is_inside)
                right.append(is_inside)
        if rule(*left) and not rule(*right):
            kept[piece] = min(number for number in own if number is not None)
    return nest([[net.sites[site] for site in ring] for ring in join(net, kept)])


def _either(first: bool, second: bool) -> bool:
    return first or second


def _both(first: bool, second: bool) -> bool:
    return first and second


def united(polygons: Sequence[Polygon]) -> list[list[list[Point]]]:
    """The union of polygons: always the two of the fewest vertices next, counting those of their parts together."""
    parts = {number: [polygon] for number, polygon in enumerate(polygons)}
    sizes = [(polygon.size, number) for number, polygon in enumerate(polygons)]
    heapq.heapify(sizes)
    while len(sizes) > 1:
        size, first = heapq.heappop(sizes)
        other_size, second = heapq.heappop(sizes)
        found = combine(parts.pop(first), parts.pop(second), _either)
        number = 2 * len(polygons) - len(sizes)
        parts[number] = [polygon_of(polygon) for polygon in found]
        heapq.heappush(sizes, (size + other_size, number))
    return [[ring.boundary for ring in polygon.rings] for last in parts.values() for polygon in last]


def common(first: Sequence[Polygon], second: Sequence[Polygon]) -> list[list[list[Point]]]:
    """The intersection of two sets of polygons."""
    return combine(first, second, _both)


# -- ways that cross themselves ---------------------------------------------------------------------------------------


def enclosed(loops: Sequence[Sequence[Point]]) -> list[list[list[Point]]]:
    """What these closed ways go round, counter-clockwise more often than clockwise; all on one half of the sphere."""
    edges = [edge for loop in loops for edge in pairwise([*loop, loop[0]])]
    net = Net.of(edges)
    counts: dict[Edge, int] = {}
    first: dict[Edge, int] = {}
    for number, chain in enumerate(net.chains):
        for piece in pairwise(chain):
            counts[piece] = counts.get(piece, 0) + 1
            first.setdefault(piece, number)
    middle = unit(sum_of([point for loop in loops for point in loop]))
    outside = times(middle, -1)
    ways = [(net.sites[a], net.sites[b], (a, b), count) for (a, b), count in counts.items()]
    kept: dict[Edge, int] = {}
    for piece, count in counts.items():
        a, b = net.sites[piece[0]], net.sites[piece[1]]
        rest = _winding(outside, unit(add(a, b)), ways, piece)
        step = count - counts.get((piece[1], piece[0]), 0)
        left, right = (rest, rest - step) if side(a, b, outside) > 0 else (rest + step, rest)
        if left > 0 >= right:
            kept[piece] = first[piece]
    return nest([[net.sites[site] for site in ring] for ring in join(net, kept)])


def _winding(start: Point, end: Point, ways: Sequence[tuple[Point, Point, Edge, int]], but: Edge) -> int:
    """How often the ways go round ``end`` more than round ``start``, leaving one edge out."""
    found = 0
    across = (but[1], but[0])
    for a, b, edge, count in ways:
        if edge not in (but, across) and crosses(start, end, a, b) > 0:
            found += count if side(a, b, end) > 0 else -count
    return found


def sum_of(points: Sequence[Point]) -> Point:
    """Vectors added up."""
    x, y, z = (math.fsum(point[axis] for point in points) for axis in range(3))
    return x, y, z


# -- lines ------------------------------------------------------------------------------------------------------------


def paths(sites: Sequence[Point], kept: dict[Edge, int]) -> list[list[Point]]:
    """Lines from directed edges: each goes on where exactly one edge comes and one goes."""
    leaving: dict[int, list[Edge]] = {}
    arriving: dict[int, int] = {}
    for edge in sorted(kept):
        leaving.setdefault(edge[0], []).append(edge)
        arriving[edge[1]] = arriving.get(edge[1], 0) + 1
    order = sorted(kept, key=lambda edge: (kept[edge], edge))
    unused = set(kept)

    def is_inner(site: int) -> bool:
        return len(leaving.get(site, ())) == 1 and arriving.get(site, 0) == 1

    def follow(edge: Edge) -> list[Edge]:
        start, path = edge[0], []
        while True:
            path.append(edge)
            unused.discard(edge)
            if not is_inner(edge[1]) or edge[1] == start:
                return path
            edge = leaving[edge[1]][0]

    found = [follow(edge) for edge in order if not is_inner(edge[0])]
    found += [_rotated(follow(edge), kept) for edge in order if edge in unused]
    found.sort(key=lambda path: (kept[path[0]], path[0]))
    return [[sites[path[0][0]], *(sites[edge[1]] for edge in path)] for path in found]


def distinct_pieces(lines: Sequence[Line]) -> tuple[list[Point], dict[Edge, int]]:
    """The pieces of lines, cut where they meet, each once, whichever way it goes."""
    net = Net.of(edges_of(lines))
    pieces: dict[Edge, int] = {}
    for number, chain in enumerate(net.chains):
        for piece in pairwise(chain):
            if piece not in pieces and (piece[1], piece[0]) not in pieces:
                pieces[piece] = number
    return net.sites, pieces


@dataclass(slots=True)
class Common:
    """What two shapes have in common: points, lines, and polygons (shell and holes)."""

    points: list[Point]
    lines: list[list[Point]]
    polygons: list[list[list[Point]]]


def common_of_lines(first: Sequence[Line], second: Sequence[Line]) -> Common:
    """The intersection of lines with lines."""
    edges = edges_of(first)
    net = Net.of([*edges, *edges_of(second)])
    mine, theirs = net.chains[: len(edges)], net.chains[len(edges) :]
    others = {frozenset(piece) for chain in theirs for piece in pairwise(chain)}
    kept: dict[Edge, int] = {}
    for number, chain in enumerate(mine):
        for piece in pairwise(chain):
            if frozenset(piece) in others:
                kept.setdefault(piece, number)
    shared = {site for chain in mine for site in chain} & {site for chain in theirs for site in chain}
    points = sorted(shared - {site for edge in kept for site in edge})
    return Common([net.sites[site] for site in points], paths(net.sites, kept), [])


def common_of_line_and_polygon(lines: Sequence[Line], polygons: Sequence[Polygon]) -> Common:
    """The intersection of lines with polygons and their boundaries."""
    edges = edges_of(lines)
    net = Net.of([*edges, *(edge for polygon in polygons for edge in polygon.edges())])
    mine, theirs = net.chains[: len(edges)], net.chains[len(edges) :]
    boundary = {frozenset(piece) for chain in theirs for piece in pairwise(chain)}
    kept: dict[Edge, int] = {}
    for number, chain in enumerate(mine):
        for piece in pairwise(chain):
            middle = unit(add(net.sites[piece[0]], net.sites[piece[1]]))
            if frozenset(piece) in boundary or any_has(polygons, middle):
                kept.setdefault(piece, number)
    shared = {site for chain in mine for site in chain} & {site for chain in theirs for site in chain}
    points = sorted(shared - {site for edge in kept for site in edge})
    return Common([net.sites[site] for site in points], paths(net.sites, kept), [])


def common_of_polygons(first: Sequence[Polygon], second: Sequence[Polygon]) -> Common:
    """The intersection of polygons with polygons, with the boundaries where they only touch."""
    edges = [edge for polygon in first for edge in polygon.edges()]
    net = Net.of([*edges, *(edge for polygon in second for edge in polygon.edges())])
    mine, theirs = net.chains[: len(edges)], net.chains[len(edges) :]
    others = {piece for chain in theirs for piece in pairwise(chain)}
    polygons = common(first, second)
    kept: dict[Edge, int] = {}
    for number, chain in enumerate(mine):
        for piece in pairwise(chain):
            if (piece[1], piece[0]) in others:
                kept.setdefault(piece, number)
    corners = {point for polygon in polygons for ring in polygon for point in ring}
    shared = {site for chain in mine for site in chain} & {site for chain in theirs for site in chain}
    taken = {site for edge in kept for site in edge}
    points = [net.sites[site] for site in sorted(shared - taken)]
    inner = [point for point in points if not any(distance(point, corner) <= _MERGED for corner in corners)]
    return Common(inner, paths(net.sites, kept), polygons)
