"""graph-shortest-paths: of the matches that bind the same nodes, those with the fewest edges.

A match visits no node twice. ``where`` says which matches there are at all: the shortest is chosen among those.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from watchfloor.kql.codec import decode
from watchfloor.kql.evaluate.scalars import compile_scalar
from watchfloor.kql.routines.common import Budget, Cells, Spec, Table, routine
from watchfloor.kql.routines.graph.match import Move, Search, path_of
from watchfloor.kql.routines.graph.model import Bound, Path


@routine("graph_shortest_paths")
def graph_shortest_paths(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """A row for each shortest match, or for one of each binding of the nodes (``output`` any)."""
    search = Search(spec, tables, budget, "none")
    values = [compile_scalar(decode(scalar)) for scalar in spec["project"]]
    wants_all = spec["output"] == "all"
    is_plain = len(search.pattern.edges) == 1 and search.pattern.edges[0].is_path and len(search.pattern.nodes) == 2
    for bound in _of_one_path(search, wants_all) if is_plain else _of_any(search, wants_all):
        row = search.columns.row(bound)
        yield [value(row) for value in values]


def _of_one_path(search: Search, wants_all: bool) -> Iterator[Bound]:
    """The pattern is a single path: for every pair of ends, longer and longer paths until some fulfil ``where``."""
    if not search.is_possible():
        return
    move = search.move(search.pattern.edges[0], is_reverse=False)
    starts = search.candidates(move.near)
    for end in sorted(search.candidates(move.far)):
        distances = search.distances_to(move, frozenset((end,)))
        for start in sorted(distances.keys() & set(starts)):
            yield from _between(search, move, start, end, wants_all)


def _between(search: Search, move: Move, start: int, end: int, wants_all: bool) -> Iterator[Bound]:
    distances = search.distances_to(move, frozenset((end,)))
    checks = [
        condition for condition in search.conditions if len(condition.needs) > 1 or move.edge.name in condition.needs
    ]
    longest = 0 if start == end else min(move.edge.high, len(search.graph.nodes) - 1)
    for length in range(max(move.edge.low, distances[start]), longest + 1):
        is_found = False
        with closing(search.grow(move, start, distances, length, length, beyond=frozenset((end,)))) as paths:
            for edges, nodes in paths:
                if nodes[-1] != end:
                    continue
                path = path_of(edges, nodes, is_reverse=False)
                bound: Bound = {move.near: start, move.far: end, move.edge.name: path}
                row = search.columns.row(bound)
                if all(check.holds(row) is True for check in checks):
                    is_found = True
                    yield bound
                    if not wants_all:
                        return
        if is_found:
            return


def _of_any(search: Search, wants_all: bool) -> Iterator[Bound]:
    """Any other pattern: all matches, and the shortest of each binding of the nodes."""
    best: dict[Any, tuple[int, list[Bound]]] = {}
    for match in search.matches():
        key = tuple(match[name] for name in search.pattern.nodes)
        length = sum(
            len(found.edges) if isinstance(found, Path) else 1
            for found in (match[edge.name] for edge in search.pattern.edges)
        )
        shortest, bounds = best.get(key, (length, []))
        if length < shortest or not bounds:
            best[key] = (length, [dict(match)])
        elif length == shortest and wants_all:
            bounds.append(dict(match))
    for _, bounds in best.values():
        yield from bounds
