"""Few nodes of many: nodes of one kind that stand alike in an incident's graph become one node with a count.

Pure. A kind with few nodes is left as it is. Of a kind with many, those with the very same neighbours become a group;
if that leaves too many, those whose neighbours are of the same kinds; at last the whole kind. A group's id is made of
what its members have in common, so it is the same at each request. Opening one shows its gravest members first and
leaves the rest in it; ``members`` pages through all of them.

INVARIANT: grouping loses nothing: every node is shown or counted in exactly one group, and what edges count adds up,
but for those among members of one group.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from watchfloor.detection.graph import Edge, Graph, Node, NodeKind, Relation, Tally, total
from watchfloor.model.verdicts import Severity

MANY: Final = 30
"""Nodes of one kind that are shown one by one."""
OPENED: Final = 100
"""Members of an opened group that are shown; the rest stays in it."""

_PLURAL: Final = {
    NodeKind.ADDRESS: "addresses",
    NodeKind.SESSION: "sessions",
    NodeKind.USER: "users",
    NodeKind.AGENT: "agents",
    NodeKind.CHILD_AGENT: "child agents",
    NodeKind.TOOL: "tools",
    NodeKind.SERVER: "tool servers",
    NodeKind.ALERT: "alerts",
}
_TO: Final = {relation: f">{relation.value}|" for relation in Relation}
_FROM: Final = {relation: f"<{relation.value}|" for relation in Relation}


@dataclass(frozen=True, slots=True)
class Group:
    """A node that stands for ``count`` others of one kind, of which ``size`` have this in common."""

    id: str
    kind: NodeKind
    label: str
    count: int
    size: int
    tally: Tally
    severity: Severity | None
    on_path: bool
    is_context: bool


@dataclass(frozen=True, slots=True)
class Grouped:
    """A graph as it is drawn. ``total`` nodes are in it, shown or counted in a group."""

    nodes: Sequence[Node]
    groups: Sequence[Group]
    edges: Sequence[Edge]
    total: int
    opened: Sequence[str]


def find_groups(graph: Graph, many: int = MANY) -> dict[str, list[Node]]:
    """Group id → its members, the gravest first, then those with most events."""
    by_kind: defaultdict[NodeKind, list[Node]] = defaultdict(list)
    for node in graph.nodes.values():
        by_kind[node.kind].append(node)
    crowded = {kind for kind, nodes in by_kind.items() if len(nodes) > many}
    if not crowded:
        return {}
    exactly: defaultdict[str, set[str]] = defaultdict(set)
    roughly: defaultdict[str, set[str]] = defaultdict(set)
    for edge in graph.edges:
        source, target = graph.nodes[edge.source], graph.nodes[edge.target]
        if source.kind in crowded:
            exactly[edge.source].add(_TO[edge.relation] + edge.target)
            roughly[edge.source].add(_TO[edge.relation] + target.kind)
        if target.kind in crowded:
            exactly[edge.target].add(_FROM[edge.relation] + edge.source)
            roughly[edge.target].add(_FROM[edge.relation] + source.kind)
    groups: dict[str, list[Node]] = {}
    alike: tuple[Mapping[str, Collection[str]], ...] = (exactly, roughly, {})
    for kind in NodeKind:
        if kind not in crowded:
            continue
        for keys in alike:
            found: defaultdict[str, list[Node]] = defaultdict(list)
            for node in by_kind[kind]:
                found[_group_id(kind, keys.get(node.id, ()))].append(node)
            if len(found) <= many:
                break
        groups |= {key: sorted(nodes, key=_rank) for key, nodes in sorted(found.items()) if len(nodes) > 1}
    return groups


def _group_id(kind: NodeKind, shared: Collection[str]) -> str:
    digest = hashlib.sha256("\0".join(sorted(shared)).encode("utf-8", "surrogatepass")).hexdigest()
    return f"group:{kind.value}:{digest[:20]}"


def _rank(node: Node) -> tuple[int, bool, int, str]:
    return -(node.severity.rank if node.severity else -1), not node.on_path, -node.tally.count, node.id


def draw(
    graph: Graph, groups: Mapping[str, Sequence[Node]], opened: Collection[str] = (), show: int = OPENED
) -> Grouped:
    """``graph`` with its ``groups`` closed, but for those in ``opened``; unknown ones among these are passed over."""
    place: dict[str, str] = {}
    drawn: list[Group] = []
    for key, nodes in groups.items():
        closed = nodes[show:] if key in opened else nodes
        place.update((node.id, key) for node in closed)
        if closed:
            drawn.append(_group(key, closed, len(nodes)))
    edges: defaultdict[tuple[str, Relation, str], list[Edge]] = defaultdict(list)
    for edge in graph.edges:
        source, target = place.get(edge.source, edge.source), place.get(edge.target, edge.target)
        if source != target:  # among members of one group: seen when it is opened
            edges[source, edge.relation, target].append(edge)
    return Grouped(
        [node for node in graph.nodes.values() if node.id not in place],
        drawn,
        [Edge(*key, total([e.tally for e in edges[key]]), any(e.on_path for e in edges[key])) for key in sorted(edges)],
        len(graph.nodes),
        sorted(key for key in opened if key in groups),
    )


def _group(key: str, nodes: Sequence[Node], size: int) -> Group:
    kind = nodes[0].kind
    rest = "more " if len(nodes) < size else ""
    return Group(
        id=key,
        kind=kind,
        label=f"{len(nodes)} {rest}{_PLURAL[kind]}",
        count=len(nodes),
        size=size,
        tally=total([n.tally for n in nodes]),
        severity=max((n.severity for n in nodes if n.severity), key=lambda s: s.rank, default=None),
        on_path=any(n.on_path for n in nodes),
        is_context=all(n.is_context for n in nodes),
    )


def members(graph: Graph, nodes: Sequence[Node], start: int, limit: int) -> tuple[Sequence[Node], list[Edge]]:
    """Members of a group from ``start`` on, at most ``limit``, with all of their edges."""
    some = nodes[start : start + limit]
    ids = {node.id for node in some}
    return some, [edge for edge in graph.edges if edge.source in ids or edge.target in ids]
