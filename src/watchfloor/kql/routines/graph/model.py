"""A graph in memory, a pattern over it, and the columns that a match of the pattern has.

A pattern's elements have names; a match binds each name of a node to the place of a node, of an edge to the place of an
edge, and of a path (a variable length edge) to a ``Path``. What ``where`` and ``project`` read are virtual columns,
worked out of the bound elements when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from watchfloor.kql import ir
from watchfloor.kql.codec import decode
from watchfloor.kql.evaluate.scalars import Value, compile_scalar
from watchfloor.kql.routines.common import Cells, Spec, Table, as_json, key


@dataclass(frozen=True, slots=True)
class Path:
    """Edges one behind another, from left to right of the pattern, and the nodes that they pass, both ends included."""

    edges: tuple[int, ...]
    nodes: tuple[int, ...]


Bound = dict[str, int | Path]


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge of a pattern between the nodes ``left`` and ``right``; ``is_path``: ``low`` to ``high`` edges."""

    name: str
    left: str
    right: str
    direction: str
    low: int
    high: int
    is_path: bool


class Graph:
    """Nodes by place, and for each the edges out of it and into it. Edges to nowhere are left out."""

    def __init__(self, spec: Spec, nodes: Table, edges: Table) -> None:
        self.nodes, self.edges, self.key = nodes, edges, spec["key"]
        places = {key(cells[self.key]): place for place, cells in enumerate(nodes)}
        self.sources: list[int] = []
        self.targets: list[int] = []
        self.out_of: list[list[int]] = [[] for _ in nodes]
        self.into: list[list[int]] = [[] for _ in nodes]
        for place, cells in enumerate(edges):
            source, target = (places.get(key(cells[spec[end]]), -1) for end in ("source", "target"))
            self.sources.append(source)
            self.targets.append(target)
            if source >= 0 and target >= 0:
                self.out_of[source].append(place)
                self.into[target].append(place)

    def steps(self, node: int, direction: str) -> Iterator[tuple[int, int]]:
        """(edge, node at its other end) for every edge that leads on; "any" has a loop in both of its directions."""
        if direction != "in":
            for edge in self.out_of[node]:
                yield edge, self.targets[edge]
        if direction != "out":
            for edge in self.into[node]:
                yield edge, self.sources[edge]


OPPOSITE: Final = {"out": "in", "in": "out", "any": "any"}


class Pattern:
    """What is looked for: the names of the nodes in order of appearance, and the edges between them."""

    def __init__(self, spec: Spec) -> None:
        self.nodes: list[str] = []
        self.edges: list[Edge] = []
        for sequence in spec["patterns"]:
            for element in sequence[::2]:
                if element["node"] not in self.nodes:
                    self.nodes.append(element["node"])
            for place in range(1, len(sequence), 2):
                edge = sequence[place]
                self.edges.append(
                    Edge(
                        edge["edge"], sequence[place - 1]["node"], sequence[place + 1]["node"],
                        edge["direction"] if spec["is_directed"] else "any",
                        edge.get("low", 1), edge.get("high", 1), edge.get("is_path", False),
                    )
                )  # fmt: skip


class MatchRow(dict[int, Any]):
    """The virtual columns of a match, each worked out when it is first read."""

    __slots__ = ("_makers", "bound")

    def __init__(self, makers: Mapping[int, Callable[[MatchRow], Any]], bound: Bound) -> None:
        self._makers, self.bound = makers, bound

    def __missing__(self, number: int) -> Any:
        value = self[number] = self._makers[number](self)
        return value


class _InnerRow(dict[int, Any]):
    """The columns of one edge or node along a path, before those of the match."""

    __slots__ = ("_outer",)

    def __init__(self, own: Mapping[int, Any], outer: MatchRow) -> None:
        super().__init__(own)
        self._outer = outer

    def __missing__(self, number: int) -> Any:
        return self._outer[number]


@dataclass(frozen=True, slots=True)
class Condition:
    """A part of ``where``: it holds for a match that binds all that it ``needs``."""

    needs: frozenset[str]
    holds: Value


@dataclass(frozen=True, slots=True)
class LocalCondition:
    """A condition that every edge (or inner node) of a path must fulfil, whatever the rest of the match is."""

    element: str
    is_of_edges: bool
    holds: Callable[[int], bool]

    def is_of(self, element: str, is_of_edges: bool) -> bool:
        """Whether it is about the edges (or inner nodes) of ``element``."""
        return self.element == element and self.is_of_edges is is_of_edges


class Columns:
    """The virtual columns of a spec, over one graph."""

    def __init__(self, spec: Spec, graph: Graph, pattern: Pattern) -> None:
        self._graph, self._spec = graph, spec
        self._is_node = set(pattern.nodes)
        self._paths = {edge.name for edge in pattern.edges if edge.is_path}
        self._makers: dict[int, Callable[[MatchRow], Any]] = {}
        self._reads: dict[int, tuple[str, ir.Scalar | None]] = {}
        self._inner_degrees: list[tuple[int, str]] = []
        self._every: dict[int, LocalCondition] = {}
        for value in spec.get("values", ()):
            self._add(value, self._property(value))
        for bag in spec.get("bags", ()):
            self._add(bag, self._bag(bag))
        for degree in spec.get("degrees", ()):
            if degree["element"] is None:
                self._inner_degrees.append((degree["number"], degree["kind"]))
            else:
                self._add(degree, self._degree_of(degree))
        for function in spec.get("functions", ()):
            self._function(function)

    def row(self, bound: Bound) -> MatchRow:
        """The columns over ``bound``."""
        return MatchRow(self._makers, bound)

    def needs(self, scalar: ir.Scalar) -> frozenset[str]:
        """The elements that ``scalar`` reads."""
        found: set[str] = set()
        for column in ir.refs(scalar):
            if column.number in self._reads:
                name, inner = self._reads[column.number]
                found |= {name, *(() if inner is None else self.needs(inner))}
        return frozenset(found)

    def conditions(self) -> tuple[list[Condition], list[LocalCondition]]:
        """``where`` in its parts, and those that a path must fulfil at each of its edges or inner nodes."""
        where = self._spec.get("where")
        parts = [] if where is None else _conjuncts(decode(where))
        found: list[Condition] = []
        local: list[LocalCondition] = []
        for part in parts:
            every = self._every.get(part.column.number) if isinstance(part, ir.Ref) else None
            if every is not None and self.needs(part) == {every.element}:
                local.append(every)
            else:
                found.append(Condition(self.needs(part), compile_scalar(part)))
        return found, local

    def _add(self, item: Spec, maker: Callable[[MatchRow], Any]) -> None:
        self._makers[item["number"]] = maker
        self._reads[item["number"]] = (item["element"], None)

    def _table(self, name: str) -> Table:
        return self._graph.nodes if name in self._is_node else self._graph.edges

    def _property(self, value: Spec) -> Callable[[MatchRow], Any]:
        name, column, type_, table = value["element"], value["column"], value.get("type"), self._table(value["element"])
        if name not in self._paths:
            return lambda row: table[row.bound[name]][column]  # type: ignore[index]  # no path, so one place

        def along(row: MatchRow) -> list[Any]:
            cells = [table[edge][column] for edge in _edges(row.bound[name])]
            return cells if type_ is None else [as_json(cell, type_) for cell in cells]

        return along

    def _bag(self, bag: Spec) -> Callable[[MatchRow], Any]:
        name, table, names = bag["element"], self._table(bag["element"]), bag["names"]

        def packed(cells: Cells) -> dict[str, Any]:
            found = {title: as_json(cells[place], type_) for title, place, type_ in names}
            return {title: value for title, value in found.items() if value is not None and value != ""}

        if name not in self._paths:
            return lambda row: packed(table[row.bound[name]])  # type: ignore[index]  # no path, so one place
        return lambda row: [packed(table[edge]) for edge in _edges(row.bound[name])]

    def _degree(self, kind: str, node: int) -> Any:
        graph = self._graph
        if kind == "id":
            return graph.nodes[node][graph.key]
        return len(graph.into[node] if kind == "in" else graph.out_of[node])

    def _degree_of(self, degree: Spec) -> Callable[[MatchRow], Any]:
        name, kind = degree["element"], degree["kind"]
        return lambda row: self._degree(kind, row.bound[name])  # type: ignore[arg-type]  # a node is one place

    def _function(self, function: Spec) -> None:
        name, kind, is_of_edges = function["element"], function["kind"], function["over"] == "edges"
        expression = decode(function["expression"])
        value, type_ = compile_scalar(expression), expression.type
        columns = [(number, place) for number, place in function["row"]]

        def inner(element: int, row: MatchRow) -> Any:
            cells = (self._graph.edges if is_of_edges else self._graph.nodes)[element]
            own: dict[int, Any] = {number: cells[place] for number, place in columns}
            if not is_of_edges:
                own |= {number: self._degree(kind, element) for number, kind in self._inner_degrees}
            return value(_InnerRow(own, row))

        def over(row: MatchRow) -> tuple[int, ...]:
            path = row.bound[name]
            assert isinstance(path, Path)
            return path.edges if is_of_edges else path.nodes[1:-1]

        makers: dict[str, Callable[[MatchRow], Any]] = {
            "all": lambda row: all(inner(element, row) is True for element in over(row)),
            "any": lambda row: any(inner(element, row) is True for element in over(row)),
            "map": lambda row: [as_json(inner(element, row), type_) for element in over(row)],
        }
        self._makers[function["number"]] = makers[kind]
        self._reads[function["number"]] = (name, expression)
        if kind == "all":
            nowhere = self.row({})
            self._every[function["number"]] = LocalCondition(
                name, is_of_edges, lambda element: inner(element, nowhere) is True
            )


def _edges(bound: int | Path) -> tuple[int, ...]:
    assert isinstance(bound, Path)
    return bound.edges


def _conjuncts(scalar: ir.Scalar) -> list[ir.Scalar]:
    if isinstance(scalar, ir.Junction) and scalar.operator == "and":
        return [part for operand in scalar.operands for part in _conjuncts(operand)]
    return [scalar]
