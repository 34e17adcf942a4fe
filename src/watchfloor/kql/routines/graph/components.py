"""graph-mark-components: which nodes hang together."""

from __future__ import annotations

from collections.abc import Iterator

from watchfloor.kql.routines.common import Budget, Cells, Spec, Table, routine
from watchfloor.kql.routines.graph.model import Graph


@routine("graph_components")
def graph_components(spec: Spec, tables: list[Table], budget: Budget) -> Iterator[Cells]:
    """The nodes, each with the number of its component: weak ones hang together by edges in any direction, in strong
    ones every node leads to every other. Numbers go by the first node of each."""
    graph = Graph(spec, tables[0], tables[1])
    is_strong = spec["kind"] == "strong" and spec.get("is_directed", True)
    marks = _strong(graph, budget) if is_strong else _weak(graph, budget)
    numbers: dict[int, int] = {}
    for cells, mark in zip(graph.nodes, marks, strict=True):
        yield [*cells, numbers.setdefault(mark, len(numbers))]


def _weak(graph: Graph, budget: Budget) -> list[int]:
    marks = [-1] * len(graph.nodes)
    for first in range(len(marks)):
        waiting = [] if marks[first] >= 0 else [first]
        while waiting:
            budget.check()
            node = waiting.pop()
            if marks[node] < 0:
                marks[node] = first
                waiting += [other for _, other in graph.steps(node, "any") if marks[other] < 0]
    return marks


def _strong(graph: Graph, budget: Budget) -> list[int]:
    """Tarjan's algorithm without recursion: ``low`` is the earliest node on the stack that a node leads back to."""
    count = len(graph.nodes)
    order, low, marks = [-1] * count, [0] * count, [-1] * count
    stack: list[int] = []
    is_stacked = [False] * count
    visited = 0
    for first in range(count):
        if order[first] >= 0:
            continue
        order[first] = low[first] = visited
        visited += 1
        stack.append(first)
        is_stacked[first] = True
        calls = [(first, graph.steps(first, "out"))]
        while calls:
            budget.check()
            node, steps = calls[-1]
            step = next(steps, None)
            if step is not None:
                other = step[1]
                if order[other] < 0:
                    order[other] = low[other] = visited
                    visited += 1
                    stack.append(other)
                    is_stacked[other] = True
                    calls.append((other, graph.steps(other, "out")))
                elif is_stacked[other]:
                    low[node] = min(low[node], order[other])
                continue
            calls.pop()
            if calls:
                above = calls[-1][0]
                low[above] = min(low[above], low[node])
            if low[node] == order[node]:
                while True:
                    member = stack.pop()
                    is_stacked[member] = False
                    marks[member] = node
                    if member == node:
                        break
    return marks
