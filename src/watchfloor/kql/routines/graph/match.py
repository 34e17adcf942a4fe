"""graph-match: every way to lay a pattern over a graph.

The search begins at the node of the pattern that the fewest nodes of the graph can be, and follows the pattern's edges
from what is bound already. Each part of ``where`` is checked as soon as all that it reads is bound.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from watchfloor.kql.codec import decode
from watchfloor.kql.evaluate.scalars import compile_scalar
from watchfloor.kql.routines.common import Budget, Cells, Spec, Table, routine
from watchfloor.kql.routines.graph.model import OPPOSITE, Bound, Columns, Condition, Edge, Graph, Path, Pattern

_FAR: Final = 1 << 60
_MOST_MAPS: Final = 256
"""So many maps of distances are kept."""


@dataclass(frozen=True, slots=True)
class Move:
    """An edge of the pattern, followed from the bound node ``near`` to ``far``; ``is_reverse``: from right to left.
    ``checks``: the conditions that can be judged once it is bound."""

    edge: Edge
    near: str
    far: str
    direction: str
    is_reverse: bool
    checks: tuple[Condition, ...] = ()


class Search:
    """The matches of a pattern. ``cycles``: whether anything may occur again ("all"), no edge ("unique_edges") or no
    node ("none") within one match."""

    def __init__(self, spec: Spec, tables: list[Table], budget: Budget, cycles: str) -> None:
        self.graph = Graph(spec, tables[0], tables[1])
        self.pattern = Pattern(spec)
        self.columns = Columns(spec, self.graph, self.pattern)
        self.conditions, local = self.columns.conditions()
        self._budget, self._has_unique_edges, self._has_unique_nodes = budget, cycles != "all", cycles == "none"
        self._edge_fits = {e.name: _memo([x.holds for x in local if x.is_of(e.name, True)]) for e in self.pattern.edges}
        self._node_fits = {
            e.name: _memo([x.holds for x in local if x.is_of(e.name, False)]) for e in self.pattern.edges
        }
        self._filtered: dict[str, frozenset[int]] = {}
        for name in self.pattern.nodes:
            self._narrow(name)
        self._maps: dict[tuple[str, str, frozenset[int]], Mapping[int, int]] = {}
        self._used: set[int] = set()
        self._seen: set[int] = set()

    def is_possible(self) -> bool:
        """Whether the conditions that read nothing of the match hold."""
        row = self.columns.row({})
        return all(condition.holds(row) is True for condition in self.conditions if not condition.needs)

    def candidates(self, name: str) -> Collection[int]:
        """The nodes that the node ``name`` of the pattern can be, as far as conditions on it alone say."""
        return self._filtered.get(name, range(len(self.graph.nodes)))

    def matches(self) -> Iterator[Bound]:
        """Every match. The dict is the search's own and changes afterwards."""
        if not self.is_possible():
            return
        start = min(self.pattern.nodes, key=lambda name: len(self.candidates(name)))
        moves = self._plan(start)
        bound: Bound = {}
        for node in sorted(self.candidates(start)):
            bound[start] = node
            self._seen = {node}
            yield from self._follow(moves, 0, bound)

    # -- the order of the search --------------------------------------------------------------------------------------

    def _narrow(self, name: str) -> None:
        checks = [condition for condition in self.conditions if condition.needs == {name}]
        if not checks:
            return
        found = set()
        for node in range(len(self.graph.nodes)):
            self._budget.check()
            row = self.columns.row({name: node})
            if all(check.holds(row) is True for check in checks):
                found.add(node)
        self._filtered[name] = frozenset(found)

    def _plan(self, start: str) -> list[Move]:
        """All edges, each from a node that is bound by then: those between bound nodes and plain ones first."""
        known, waiting, moves = {start}, list(self.pattern.edges), []
        judged = [frozenset(), *(frozenset((name,)) for name in self.pattern.nodes)]
        unchecked = [condition for condition in self.conditions if condition.needs not in judged]
        while waiting:
            edge = min(
                (e for e in waiting if e.left in known or e.right in known),
                key=lambda e: (not (e.left in known and e.right in known), e.is_path, self._width(e, known)),
            )
            waiting.remove(edge)
            move = self.move(edge, is_reverse=edge.left not in known)
            known |= {edge.name, move.far}
            checks = tuple(condition for condition in unchecked if condition.needs <= known)
            unchecked = [condition for condition in unchecked if condition not in checks]
            moves.append(Move(edge, move.near, move.far, move.direction, move.is_reverse, checks))
        return moves

    def _width(self, edge: Edge, known: Collection[str]) -> int:
        return len(self.candidates(edge.right if edge.left in known else edge.left))

    def move(self, edge: Edge, *, is_reverse: bool) -> Move:
        """``edge``, followed from its left or, with ``is_reverse``, from its right node."""
        if is_reverse:
            return Move(edge, edge.right, edge.left, OPPOSITE[edge.direction], True)
        return Move(edge, edge.left, edge.right, edge.direction, False)

    # -- the search itself --------------------------------------------------------------------------------------------

    def _follow(self, moves: list[Move], depth: int, bound: Bound) -> Iterator[Bound]:
        if depth == len(moves):
            yield bound
            return
        move = moves[depth]
        start = bound[move.near]
        assert isinstance(start, int)
        for found, end in self._paths(move, start, bound) if move.edge.is_path else self._edges(move, start, bound):
            is_new = move.far not in bound
            bound[move.edge.name] = found
            if is_new:
                bound[move.far] = end
                self._seen.add(end)
            row = self.columns.row(bound)
            if all(check.holds(row) is True for check in move.checks):
                yield from self._follow(moves, depth + 1, bound)
            del bound[move.edge.name]
            if is_new:
                del bound[move.far]
                self._seen.discard(end)

    def _may_end(self, move: Move, end: int, bound: Bound) -> bool:
        """Whether ``end`` can be what the node at the far end of ``move`` is."""
        known = bound.get(move.far)
        if known is not None:
            return end == known
        if self._has_unique_nodes and end in self._seen:
            return False
        return move.far not in self._filtered or end in self._filtered[move.far]

    def _edges(self, move: Move, start: int, bound: Bound) -> Iterator[tuple[int, int]]:
        for edge, end in self.graph.steps(start, move.direction):
            self._budget.check()
            if edge in self._used or not self._may_end(move, end, bound):
                continue
            if self._has_unique_edges:
                self._used.add(edge)
            yield edge, end
            self._used.discard(edge)

    def _paths(self, move: Move, start: int, bound: Bound) -> Iterator[tuple[Path, int]]:
        known, edge = bound.get(move.far), move.edge
        ends = frozenset((known,)) if isinstance(known, int) else self._filtered.get(move.far)
        distances = None if ends is None or edge.high < 2 else self.distances_to(move, ends)
        beyond = self._seen if self._has_unique_nodes else ()
        for edges, nodes in self.grow(move, start, distances, edge.low, edge.high, beyond):
            end = nodes[-1]
            if not self._may_end(move, end, bound):
                continue
            inner = nodes[1:-1] if self._has_unique_nodes else ()
            self._seen.update(inner)
            yield path_of(edges, nodes, is_reverse=move.is_reverse), end
            self._seen.difference_update(inner)

    def grow(
        self,
        move: Move,
        start: int,
        distances: Mapping[int, int] | None,
        low: int,
        high: int,
        beyond: Collection[int] = (),
    ) -> Generator[tuple[list[int], list[int]]]:
        """The paths of ``low`` to ``high`` edges from ``start``: their edges and nodes, in lists that change later on.
        ``distances``: how far each node is from where a path may end, so that hopeless ones are left early.
        ``beyond``: nodes that a path may reach, but not go beyond."""
        edge_fits, node_fits = self._edge_fits[move.edge.name], self._node_fits[move.edge.name]
        edges: list[int] = []
        nodes = [start]
        if distances is not None and distances.get(start, _FAR) > high:
            return
        try:
            if low <= 0:
                yield edges, nodes
            waiting = [self.graph.steps(start, move.direction)] if high > 0 else []
            while waiting:
                self._budget.check()
                step = next(waiting[-1], None)
                if step is None:
                    waiting.pop()
                    if edges:
                        self._used.discard(edges.pop())
                        nodes.pop()
                    continue
                edge, end = step
                if edge in self._used or not edge_fits(edge) or (self._has_unique_nodes and end in nodes):
                    continue
                if distances is not None and len(edges) + 1 + distances.get(end, _FAR) > high:
                    continue
                edges.append(edge)
                nodes.append(end)
                if self._has_unique_edges:
                    self._used.add(edge)
                if len(edges) >= low:
                    yield edges, nodes
                is_last = len(edges) >= high or end in beyond or not node_fits(end)
                waiting.append(iter(()) if is_last else self.graph.steps(end, move.direction))
        finally:
            self._used.difference_update(edges)

    def distances_to(self, move: Move, ends: frozenset[int]) -> Mapping[int, int]:
        """From which nodes paths along ``move`` reach one of ``ends``, and by how many edges at least."""
        name = (move.edge.name, move.direction, ends)
        found = self._maps.get(name)
        if found is None:
            if len(self._maps) >= _MOST_MAPS:
                self._maps.clear()
            found = self._maps[name] = self._backwards(move, ends)
        return found

    def _backwards(self, move: Move, ends: frozenset[int]) -> dict[int, int]:
        edge_fits, node_fits = self._edge_fits[move.edge.name], self._node_fits[move.edge.name]
        found = dict.fromkeys(ends, 0)
        layer: Collection[int] = ends
        for distance in range(1, move.edge.high + 1):
            new: set[int] = set()
            for node in layer:
                if distance > 1 and not node_fits(node):
                    continue
                for edge, before in self.graph.steps(node, OPPOSITE[move.direction]):
                    self._budget.check()
                    if before not in found and before not in new and edge_fits(edge):
                        new.add(before)
            if not new:
                break
            found.update(dict.fromkeys(new, distance))
            layer = new
        return found


def path_of(edges: list[int], nodes: list[int], *, is_reverse: bool) -> Path:
    """What was followed as a path from left to right."""
    step = -1 if is_reverse else 1
    return Path(tuple(edges[::step]), tuple(nodes[::step]))


def _memo(tests: list[Callable[[int], bool]]) -> Callable[[int], bool]:
    """All of ``tests``, each made once for each element."""
    known: dict[int, bool] = {}

    def fits(element: int) -> bool:
        found = known.get(element)
        if found is None:
            found = known[element] = all(test(element) for test in tests)
        return found

    return fits if tests else lambda element: True


@routine("graph_match")
def graph_match(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """A row for each match of the pattern."""
    search = Search(spec, tables, budget, spec["cycles"])
    values = [compile_scalar(decode(scalar)) for scalar in spec["project"]]
    for bound in search.matches():
        row = search.columns.row(bound)
        yield [value(row) for value in values]
