"""The graph of an incident, as the API shows it: grouped, opened on demand, cut to a time.

Above ``detection.graph``. It is drawn from the very alerts that the incident's page shows to the same viewer; whoever
is not shown the incident's events gets a graph that is made without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel

from watchfloor.detection import graph_groups
from watchfloor.detection.graph import (
    AgentCard,
    Edge,
    Event,
    Graph,
    Node,
    NodeKind,
    Tally,
    Window,
    build,
    histogram,
    read_events,
)
from watchfloor.detection.graph_groups import MANY, Group
from watchfloor.detection.steps import clean
from watchfloor.detection.surroundings import surroundings
from watchfloor.model.cases import Alert, EntityRole
from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.people import Permission
from watchfloor.model.verdicts import Severity
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.incidents import find_visible, visible_alerts
from watchfloor.portal.times import utc
from watchfloor.portal.views import Page
from watchfloor.storage import cases

router = APIRouter(prefix="/api", tags=["soc"])

_LONGEST_PURPOSE: Final = 2_000
Time = Annotated[datetime | None, Query()]
Many = Annotated[int, Query(ge=1, le=500)]


class GrantedToolView(BaseModel):
    """A tool that an agent may use; ``involved``: it is part of this incident."""

    server: str
    name: str
    effect: str
    scope: str
    credential: str
    involved: bool


class AgentCardView(BaseModel):
    """What an agent is for, what it may use, and in how many open cases it is."""

    purpose: str
    state: str
    platform: str
    open_alerts: int
    open_incidents: int
    tool_count: int
    tools: list[GrantedToolView]


class _Told(BaseModel):
    count: int
    blocked: int
    let_out: int
    first: datetime | None
    last: datetime | None
    on_path: bool


class NodeView(_Told):
    """A thing involved, or with ``is_group`` a number of them: ``members`` here, ``size`` in the whole group."""

    id: str
    kind: NodeKind
    entity: str
    label: str
    severity: Severity | None
    role: EntityRole | None
    alerts: int
    is_context: bool
    is_group: bool = False
    members: int = 1
    size: int = 1
    agent: AgentCardView | None = None


class GraphEdgeView(_Told):
    """How two nodes are related; ``is_blocked``: all that was tried there was stopped."""

    id: str
    source: str
    target: str
    relation: str
    is_blocked: bool


class PathView(BaseModel):
    """One way of the attack: ids of nodes in order, as they are without groups."""

    alert: str
    severity: Severity
    nodes: list[str]
    count: int
    blocked: int


class BucketView(BaseModel):
    """Events from ``at`` on, until the next bucket."""

    at: datetime
    events: int
    blocked: int
    let_out: int


class GraphView(BaseModel):
    """The graph of an incident. ``alerts`` of ``alert_count`` alerts are drawn.

    ``is_partial``: alerts counted more events than they keep, so counts are lower bounds.
    """

    nodes: list[NodeView]
    edges: list[GraphEdgeView]
    paths: list[PathView]
    histogram: list[BucketView]
    total_nodes: int
    shown_nodes: int
    opened: list[str]
    alerts: int
    alert_count: int
    is_partial: bool


class MembersView(Page[NodeView]):
    """Members of a group, the gravest first, with all of their edges."""

    edges: list[GraphEdgeView]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A graph with what it was made of."""

    graph: Graph
    groups: dict[str, list[Node]]
    cards: Mapping[str, AgentCard]
    alerts: list[Alert]
    alert_count: int
    events: Mapping[str, list[Event]]


@router.get(
    "/incidents/{incident_id}/graph", summary="The graph of an incident: who, through what, and what was stopped"
)
def read_graph(
    incident_id: str,
    viewer: Annotated[Viewer, permit(Permission.ALERT_READ_SERIOUS)],
    deps: Deps,
    expand: Annotated[list[str], Query(max_length=50)] = [],  # noqa: B006 - FastAPI copies it
    since: Annotated[datetime | None, Query(alias="from")] = None,
    until: Time = None,
    group_above: Many = MANY,
) -> GraphView:
    """Kinds with more than ``group_above`` nodes are grouped; ``expand`` opens groups by id. ``from`` and ``until`` cut
    it to a time; the histogram is of the whole incident. One that may not be seen is not found."""
    seen = _look(deps, viewer, incident_id, since, until, group_above)
    drawn = graph_groups.draw(seen.graph, seen.groups, expand)
    tools = {node.entity for node in seen.graph.nodes.values() if node.kind is NodeKind.TOOL}
    nodes = [_node(node, seen.cards, tools) for node in drawn.nodes]
    return GraphView(
        nodes=nodes + [_group(group) for group in drawn.groups],
        edges=_edges(drawn.edges),
        paths=[
            PathView(
                alert=p.alert, severity=p.severity, nodes=list(p.nodes), count=p.tally.count, blocked=p.tally.blocked
            )
            for p in seen.graph.paths
        ],
        histogram=[
            BucketView(at=b.at, events=b.tally.count, blocked=b.tally.blocked, let_out=b.tally.let_out)
            for b in histogram(seen.events)
        ],
        total_nodes=drawn.total,
        shown_nodes=len(nodes),
        opened=list(drawn.opened),
        alerts=len(seen.alerts),
        alert_count=seen.alert_count,
        is_partial=any(a.draft.detail.get("count", 0) > len(a.draft.detail.get("events", ())) for a in seen.alerts),
    )


@router.get("/incidents/{incident_id}/graph/groups/{group_id}", summary="Members of a group of an incident's graph")
def read_group(
    incident_id: str,
    group_id: str,
    viewer: Annotated[Viewer, permit(Permission.ALERT_READ_SERIOUS)],
    deps: Deps,
    since: Annotated[datetime | None, Query(alias="from")] = None,
    until: Time = None,
    group_above: Many = MANY,
    after: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> MembersView:
    """``after`` takes ``next``; the other parameters are those that the graph was asked with."""
    seen = _look(deps, viewer, incident_id, since, until, group_above)
    if group_id not in seen.groups:
        raise NotFound(f"the graph has no group {group_id!r}.", where="group")
    all_members = seen.groups[group_id]
    some, edges = graph_groups.members(seen.graph, all_members, after, limit)
    tools = {node.entity for node in seen.graph.nodes.values() if node.kind is NodeKind.TOOL}
    following = after + len(some)
    return MembersView(
        items=[_node(node, seen.cards, tools) for node in some],
        edges=_edges(edges),
        next=str(following) if following < len(all_members) else None,
    )


def _look(
    deps: PortalDeps, viewer: Viewer, incident_id: str, since: datetime | None, until: datetime | None, many: int
) -> _Seen:
    window = Window(utc(since, "from") if since else None, utc(until, "until") if until else None)
    if window.since and window.until and window.since >= window.until:
        raise InputError("ends before it begins.", where="until", remedy="Give a time behind `from`.")
    everything = cases.sees_everything(viewer.permissions)
    with deps.control.read() as tx:
        incident = find_visible(tx, viewer, incident_id)
        alerts = visible_alerts(tx, viewer, incident)
        activity = deps.activity if everything and Permission.DECISION_READ in viewer.permissions else None
        around = surroundings(tx, viewer.permissions, alerts, activity)
    events = read_events(alerts) if everything else None
    graph = build(alerts, around, window, events)
    groups = graph_groups.find_groups(graph, many)
    return _Seen(graph, groups, around.agents, alerts, len(incident.alert_ids), events or {})


def _told(tally: Tally, on_path: bool) -> dict[str, object]:
    return {
        "count": tally.count,
        "blocked": tally.blocked,
        "let_out": tally.let_out,
        "first": tally.first,
        "last": tally.last,
        "on_path": on_path,
    }


def _node(node: Node, cards: Mapping[str, AgentCard], tools: set[str]) -> NodeView:
    card = cards.get(node.entity) if node.kind is NodeKind.AGENT else None
    return NodeView.model_validate(
        {
            "id": node.id,
            "kind": node.kind,
            "entity": node.entity,
            "label": node.label,
            "severity": node.severity,
            "role": node.role,
            "alerts": node.alerts,
            "is_context": node.is_context,
            "agent": _card(card, tools) if card else None,
            **_told(node.tally, node.on_path),
        }
    )


def _group(group: Group) -> NodeView:
    return NodeView.model_validate(
        {
            "id": group.id,
            "kind": group.kind,
            "entity": "",
            "label": group.label,
            "severity": group.severity,
            "role": None,
            "alerts": 0,
            "is_context": group.is_context,
            "is_group": True,
            "members": group.count,
            "size": group.size,
            **_told(group.tally, group.on_path),
        }
    )


def _card(card: AgentCard, tools: set[str]) -> AgentCardView:
    return AgentCardView(
        purpose=clean(card.purpose, _LONGEST_PURPOSE),
        state=card.state,
        platform=clean(card.platform),
        open_alerts=card.open_alerts,
        open_incidents=card.open_incidents,
        tool_count=card.tool_count,
        tools=[
            GrantedToolView(
                server=t.server, name=clean(t.name), effect=t.effect, scope=t.scope, credential=t.credential,
                involved=f"{t.server}/{t.name}" in tools,
            )
            for t in card.tools
        ],
    )  # fmt: skip


def _edges(edges: Iterable[Edge]) -> list[GraphEdgeView]:
    return [
        GraphEdgeView.model_validate(
            {
                "id": edge.id,
                "source": edge.source,
                "target": edge.target,
                "relation": edge.relation.value,
                "is_blocked": edge.tally.count > 0 and edge.tally.blocked == edge.tally.count,
                **_told(edge.tally, edge.on_path),
            }
        )
        for edge in edges
    ]
