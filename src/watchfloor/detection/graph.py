"""The graph of an incident: who did what through which agent with what, and what became of it.

Pure: alerts, with what the registry and the activity say around them, in; nodes and edges out, the same for any order
of the alerts. ``graph_groups`` makes few of many nodes; ``surroundings`` gathers what stands around the alerts. What a
viewer may not see is not handed in.

Edges point the way of the attack, left to right: address and session ← user → agent → tool ← server, and from what was
touched to the alert that it raised. A person's name, an agent's, a tool's are words of strangers: labels are one line
without control or direction characters, ids are left as they are, and nothing is made fit for HTML here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from heapq import nsmallest
from typing import Any, Final

from watchfloor.detection.steps import clean
from watchfloor.detection.story import merged_entities
from watchfloor.model.cases import Alert, Entity, EntityKind, EntityRole
from watchfloor.model.verdicts import Severity

BUCKETS: Final = 60
"""Bars of the histogram at most."""
_MOST_PATHS: Final = 20


class NodeKind(StrEnum):
    """What a node is."""

    ADDRESS = "address"
    SESSION = "session"
    USER = "user"
    AGENT = "agent"
    CHILD_AGENT = "child_agent"
    TOOL = "tool"
    SERVER = "server"
    ALERT = "alert"


class Relation(StrEnum):
    """What an edge says of its source and its target."""

    CALLED_FROM = "called from"
    SIGNED_IN = "signed in"
    USED = "used"
    CALLED = "called"
    HOSTS = "hosts"
    RAISED = "raised"
    HANDS_OVER = "hands over to"
    HAS_CHILD = "has child"
    HOLDS_CREDENTIAL = "holds credential of"


_KINDS: Final = {kind: NodeKind(kind.value) for kind in EntityKind}


def node_id(kind: NodeKind, id_: str) -> str:
    """The id of a node; stable over requests."""
    return kind + ":" + id_


@dataclass(frozen=True, slots=True)
class Tally:
    """How many events, how many of them stopped, how many calls let out, and when."""

    count: int = 0
    blocked: int = 0
    let_out: int = 0
    first: datetime | None = None
    last: datetime | None = None


def total(tallies: Sequence[Tally]) -> Tally:
    """All of them together."""
    if len(tallies) == 1:
        return tallies[0]
    return Tally(
        sum([t.count for t in tallies]),
        sum([t.blocked for t in tallies]),
        sum([t.let_out for t in tallies]),
        min([t.first for t in tallies if t.first is not None], default=None),
        max([t.last for t in tallies if t.last is not None], default=None),
    )


@dataclass(frozen=True, slots=True)
class GrantedTool:
    """A tool that an agent may use."""

    server: str
    name: str
    effect: str
    scope: str
    credential: str


@dataclass(frozen=True, slots=True)
class AgentCard:
    """What the registry says of an agent, and how many open cases involve it, as far as the viewer may see them."""

    id: str
    name: str
    purpose: str = ""
    state: str = ""
    platform: str = ""
    tools: tuple[GrantedTool, ...] = ()
    tool_count: int = 0
    connected: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    credentials_of: tuple[str, ...] = ()
    """Ids of the people whose stored credentials it runs on."""
    open_alerts: int = 0
    open_incidents: int = 0


@dataclass(frozen=True, slots=True)
class HandOver:
    """One agent handed work to another, as often as was seen."""

    source: str
    target: str
    target_name: str
    tally: Tally


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around the alerts: agents and names of servers and people by id, hand-overs that were seen."""

    agents: Mapping[str, AgentCard] = field(default_factory=dict)
    servers: Mapping[str, str] = field(default_factory=dict)
    people: Mapping[str, str] = field(default_factory=dict)
    hand_overs: Sequence[HandOver] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A thing involved. ``is_context``: only the registry speaks of it; no alert does."""

    id: str
    kind: NodeKind
    entity: str
    label: str
    tally: Tally = Tally()
    severity: Severity | None = None
    role: EntityRole | None = None
    alerts: int = 0
    on_path: bool = False
    is_context: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """How two things are related."""

    source: str
    relation: Relation
    target: str
    tally: Tally = Tally()
    on_path: bool = False

    @property
    def id(self) -> str:
        """Stable over requests."""
        return f"{self.source}|{self.relation.value}|{self.target}"


@dataclass(frozen=True, slots=True)
class Path:
    """One way of the attack: ids of nodes from the address to the alert, and how often it was taken."""

    alert: str
    severity: Severity
    nodes: tuple[str, ...]
    tally: Tally


@dataclass(frozen=True, slots=True)
class Bucket:
    """Events from ``at`` until the next bucket."""

    at: datetime
    tally: Tally


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes by id, edges by (source, relation, target), both in order; ``paths`` the gravest and most taken first."""

    nodes: Mapping[str, Node]
    edges: Sequence[Edge]
    paths: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """From, inclusive, until, exclusive; None: without a bound."""

    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing is cut off."""
        return self.since is None and self.until is None

    def holds(self, at: datetime) -> bool:
        """Whether ``at`` lies within."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def touches(self, first: datetime, last: datetime) -> bool:
        """Whether any of ``first`` to ``last`` lies within."""
        return (self.since is None or last >= self.since) and (self.until is None or first < self.until)


@dataclass(frozen=True, slots=True)
class Event:
    """An event of alerts, its things as ids."""

    id: str
    at: datetime
    user: str
    agent: str
    server: str
    tool: str
    address: str
    session: str
    stopped: bool
    let_out: bool

    @property
    def tally(self) -> Tally:
        """The event alone."""
        return Tally(1, int(self.stopped), int(self.let_out), self.at, self.at)


def events_of(alert: Alert) -> list[Event]:
    """The events that the alert keeps. Older ones carry names alone: these are looked up among the alert's entities."""
    return [_event(alert, raw) for raw in alert.draft.detail.get("events", ())]


def _event(alert: Alert, raw: Mapping[str, Any]) -> Event:
    at = datetime.fromisoformat(raw["at"])
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    stopped = bool(raw.get("stopped"))
    let_out = raw.get("action") == "ToolCallDecided" and not stopped
    return Event(
        id=str(raw["id"]),
        at=at,
        user=raw.get("user_id") or _by_name(alert, EntityKind.USER, raw.get("user", "")),
        agent=raw.get("agent_id") or _by_name(alert, EntityKind.AGENT, raw.get("agent", "")),
        server=raw.get("server", ""),
        tool=raw.get("tool", ""),
        address=raw.get("address", ""),
        session=raw.get("session", ""),
        stopped=stopped,
        let_out=let_out,
    )


def _by_name(alert: Alert, kind: EntityKind, name: str) -> str:
    """The id of the one entity of this name; empty if there is none, or several."""
    found = {e.id for e in alert.draft.entities if e.kind is kind and name in (e.name, e.id)} if name else set()
    return found.pop() if len(found) == 1 else ""


def read_events(alerts: Iterable[Alert]) -> dict[str, list[Event]]:
    """The events of each alert, by its id."""
    return {alert.id: events_of(alert) for alert in alerts}


def histogram(events: Mapping[str, Sequence[Event]], buckets: int = BUCKETS) -> list[Bucket]:
    """Events over time, each once, in equal spans from the first to the last; no events, no buckets."""
    found = {e.id: e for some in events.values() for e in some}.values()
    if not found:
        return []
    times = [e.at for e in found]
    start = min(times).replace(microsecond=0)
    # Whole seconds, and one more than fits: the last event lies in the last bucket, not behind it.
    width = timedelta(seconds=max(1, -(-(int((max(times) - start).total_seconds()) + 1) // buckets)))
    places: dict[int, list[Event]] = {}
    for event in found:
        places.setdefault((event.at - start) // width, []).append(event)
    return [Bucket(start + place * width, _tally(places.get(place, ()))) for place in range(max(places) + 1)]


def build(
    alerts: Sequence[Alert],
    around: Surroundings = Surroundings(),
    window: Window = Window(),
    events: Mapping[str, Sequence[Event]] | None = None,
) -> Graph:
    """The graph of ``alerts`` with their ``events`` (``read_events``) within ``window``, not grouped yet.

    Without ``events``: for viewers to whom an incident's events are not shown. What is told then is told by each alert
    of itself: its entities, its count, how many of that were stopped.
    """
    draft = _Draft(around)
    shown = sorted(
        (a for a in alerts if window.touches(a.draft.first_activity, a.draft.last_activity)), key=lambda a: a.id
    )
    worst = max((a.draft.severity.rank for a in shown), default=0)
    for alert in shown:
        is_grave = alert.draft.severity.rank >= min(worst, Severity.HIGH.rank)
        kept = events.get(alert.id, ()) if events is not None else ()
        some = [e for e in kept if window.holds(e.at)]
        if kept and not some:
            continue  # it was at work within the window, but nothing that is kept of it happened there
        draft.add_alert(alert, some, is_grave, whole=window.is_open or not some)
    draft.add_context(window)
    return draft.finish()


def _tally(events: Sequence[Event]) -> Tally:
    if len(events) == 1:
        return events[0].tally
    if not events:
        return Tally()
    times = [e.at for e in events]
    stopped, let_out = sum([e.stopped for e in events]), sum([e.let_out for e in events])
    return Tally(len(events), stopped, let_out, min(times), max(times))


class _Thing:
    """A node, or an edge, as it is put together."""

    __slots__ = (
        "alert",
        "alerts",
        "entity",
        "events",
        "gravity",
        "is_context",
        "key",
        "kind",
        "label",
        "on_path",
        "severity",
        "tallies",
    )

    def __init__(
        self, key: str = "", kind: NodeKind = NodeKind.ALERT, entity: str = "", label: str = "", on_path: bool = False
    ) -> None:
        self.key, self.kind, self.entity, self.label = key, kind, entity, label
        self.is_context, self.on_path = False, on_path
        self.gravity = 0
        """Its place among ``_GRAVITY``."""
        self.severity: Severity | None = None
        self.alert: str = ""
        """The alert that it was found to be involved in last."""
        self.alerts = 0
        self.events: list[Event] = []
        self.tallies: list[Tally] = []
        """What is counted beside the events."""

    def finish(self) -> Tally:
        """Everything that was counted."""
        if not self.tallies:
            return _tally(self.events)
        return total([*self.tallies, _tally(self.events)] if self.events else self.tallies)

    def involve(self, alert: Alert, role: EntityRole | None, on_path: bool) -> None:
        """It plays a part in the alert. Alerts come one after the other, each with everything that it involves."""
        if on_path:
            self.on_path = True
        gravity = _GRAVITY[role]
        if gravity > self.gravity:
            self.gravity = gravity
        if alert.id != self.alert:
            self.alert = alert.id
            self.alerts += 1
            if self.severity is None or _RANKS[alert.draft.severity] > _RANKS[self.severity]:
                self.severity = alert.draft.severity


class _Draft:
    """A graph as it is put together."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.nodes: dict[str, _Thing] = {}
        self.things: dict[NodeKind, dict[str, _Thing]] = {kind: {} for kind in NodeKind}
        self.named = tuple(self.things[kind] for kind, _ in _NAMED)
        self.edges: dict[tuple[str, Relation, str], _Thing] = {}
        self.ways: dict[tuple[str, ...], list[Event]] = {}
        self.counted: set[str] = set()

    # -- pieces ---------------------------------------------------------------------------------------------------

    def thing(self, kind: NodeKind, id_: str, label: str = "") -> _Thing:
        """The node of this kind and id; a new one gets the label."""
        known = self.things[kind].get(id_)
        if known is None:
            key = node_id(kind, id_)
            known = _Thing(key, kind, id_, clean(self._label(kind, id_, label)))
            self.things[kind][id_] = self.nodes[key] = known
        return known

    def context(self, kind: NodeKind, id_: str, label: str = "") -> str:
        """The key of the node of this kind and id, of which no alert needs to speak."""
        is_known = id_ in self.things[kind]
        thing = self.thing(kind, id_, label)
        thing.is_context = thing.is_context or not is_known
        return thing.key

    def _label(self, kind: NodeKind, id_: str, label: str) -> str:
        if kind is NodeKind.AGENT and id_ in self.around.agents:
            return self.around.agents[id_].name or id_
        if kind is NodeKind.SERVER:
            return self.around.servers.get(id_) or label or id_
        if kind is NodeKind.USER:
            # By what the directory has: an alert's own word for somebody may differ from the next alert's.
            return self.around.people.get(id_) or label or id_
        if kind is NodeKind.TOOL:
            return id_.partition("/")[2] or id_
        return label or id_

    def edge(self, source: str, relation: Relation, target: str, on_path: bool = False) -> _Thing:
        key = (source, relation, target)
        known = self.edges.get(key)
        if known is None:
            known = self.edges[key] = _Thing(on_path=on_path)
        elif on_path:
            known.on_path = True
        return known

    # -- alerts ---------------------------------------------------------------------------------------------------

    def add_alert(self, alert: Alert, events: Sequence[Event], is_grave: bool, *, whole: bool) -> None:
        """``whole``: with all of its entities, and not only with those of ``events``."""
        entities = {(e.kind, e.id): e for e in merged_entities(alert.draft.entities)}
        card = self.thing(NodeKind.ALERT, alert.id, alert.draft.title)
        count = int(alert.draft.detail.get("count", len(events)))
        stopped = int(alert.draft.detail.get("stopped", 0))
        own = Tally(count, min(stopped, count), 0, alert.draft.first_activity, alert.draft.last_activity)
        if whole:
            card.tallies.append(own)
        else:
            card.events.extend(events)
        card.involve(alert, None, is_grave)
        for event in events:
            self._add_event(alert, card.key, event, entities, is_grave)
        if not whole:
            return
        for entity in entities.values():
            thing = self.thing(_KINDS[entity.kind], entity.id, entity.name)
            thing.involve(alert, entity.role, is_grave)
            if entity.kind is EntityKind.TOOL and "/" in entity.id:
                server = self.thing(NodeKind.SERVER, entity.id.partition("/")[0])
                self.edge(server.key, Relation.HOSTS, thing.key)
        if not events:
            self._relate(card.key, list(entities.values()), own, is_grave)

    def _add_event(
        self, alert: Alert, card: str, event: Event, entities: Mapping[tuple[EntityKind, str], Entity], is_grave: bool
    ) -> None:
        is_new = event.id not in self.counted  # an event of several alerts is one event
        self.counted.add(event.id)
        tool = f"{event.server}/{event.tool}" if event.tool else ""
        ids = (event.address, event.session, event.user, event.agent, tool, event.server)
        found: list[_Thing | None] = []
        for (kind, entity_kind), known, id_ in zip(_NAMED, self.named, ids, strict=True):
            if not id_:
                found.append(None)
                continue
            thing = known.get(id_)
            if thing is None or thing.alert != alert.id:
                entity = entities.get((entity_kind, id_))
                thing = thing or self.thing(kind, id_, entity.name if entity else "")
                thing.involve(alert, entity.role if entity else None, is_grave)
            if is_new:
                thing.events.append(event)
            found.append(thing)
        for one, relation, other in _SEEN_STEPS:
            source, target = found[one], found[other]
            if source is not None and target is not None:
                # Who called from where is part of the way; that a server hosts a tool is not.
                edge = self.edge(source.key, relation, target.key, is_grave and relation is not Relation.HOSTS)
                if is_new:
                    edge.events.append(event)
        of_address, _, of_user, of_agent, of_tool, of_server = found
        if of_user is None and of_agent is not None and of_address is not None:
            edge = self.edge(of_agent.key, Relation.CALLED_FROM, of_address.key, is_grave)
            if is_new:
                edge.events.append(event)
        # What the alert hangs on, as ``_RAISING`` says.
        touched = of_tool or of_agent or of_server or of_user
        if touched is not None:
            self.edge(touched.key, Relation.RAISED, card, is_grave).events.append(event)
        if is_grave:
            way = (*[t.key for t in (of_address, of_user, of_agent, of_tool) if t is not None], card)
            self.ways.setdefault(way, []).append(event)

    def _relate(self, card: str, entities: Sequence[Entity], own: Tally, is_grave: bool) -> None:
        """Relations of an alert of which no event is shown: only those that can be meant in one way."""
        of: dict[NodeKind, list[str]] = {}
        for entity in entities:
            of.setdefault(_KINDS[entity.kind], []).append(node_id(_KINDS[entity.kind], entity.id))
        for source, relation, target in _STEPS:
            sources, targets = of.get(source, []), of.get(target, [])
            if relation is Relation.HOSTS or 1 not in (len(sources), len(targets)):
                continue
            for one in sources:
                for other in targets:
                    edge = self.edge(one, relation, other, is_grave)
                    if len(sources) == len(targets) == 1:
                        edge.tallies.append(own)
        raising = next((of[k] for k in _RAISING if k in of), [])
        for one in raising:
            edge = self.edge(one, Relation.RAISED, card, is_grave)
            if len(raising) == 1:
                edge.tallies.append(own)

    # -- what stands around ---------------------------------------------------------------------------------------

    def add_context(self, window: Window) -> None:
        """What the registry and the activity say of the agents that alerts are about."""
        involved = sorted(self.things[NodeKind.AGENT])
        for seen in self.around.hand_overs:
            first, last = seen.tally.first, seen.tally.last
            if seen.source not in involved or (first and last and not window.touches(first, last)):
                continue
            target = self.context(NodeKind.AGENT, seen.target, seen.target_name)
            source = node_id(NodeKind.AGENT, seen.source)
            self.edge(source, Relation.HANDS_OVER, target).tallies.append(seen.tally)
        for agent_id in involved:
            card = self.around.agents.get(agent_id)
            if card is None:
                continue
            source = node_id(NodeKind.AGENT, agent_id)
            for other in card.connected:
                self.edge(source, Relation.HANDS_OVER, self.context(NodeKind.AGENT, other))
            for name in card.children:
                child = self.context(NodeKind.CHILD_AGENT, f"{agent_id}/{name}", name)
                self.edge(source, Relation.HAS_CHILD, child)
            for person in card.credentials_of:
                self.edge(source, Relation.HOLDS_CREDENTIAL, self.context(NodeKind.USER, person))

    def finish(self) -> Graph:
        nodes = {}
        for key in sorted(self.nodes):
            n = self.nodes[key]
            nodes[key] = Node(
                key, n.kind, n.entity, n.label, n.finish(), n.severity, _ROLES[n.gravity], n.alerts, n.on_path,
                n.is_context,
            )  # fmt: skip
        edges = tuple(Edge(*key, e.finish(), e.on_path) for key, e in sorted(self.edges.items(), key=_first))
        # There may be thousands of ways, of which few are told: ranked before anything is made of them.
        ranks = {key: _RANKS[self._severity(key)] for key in {way[-1] for way in self.ways}}
        ranked = nsmallest(
            _MOST_PATHS, self.ways.items(), key=lambda item: (-ranks[item[0][-1]], -len(item[1]), item[0])
        )
        paths = tuple(
            Path(self.nodes[way[-1]].entity, self._severity(way[-1]), way, _tally(events)) for way, events in ranked
        )
        return Graph(nodes, edges, paths)

    def _severity(self, card: str) -> Severity:
        return self.nodes[card].severity or Severity.INFORMATIONAL


def _first(item: tuple[tuple[str, Relation, str], _Thing]) -> tuple[str, Relation, str]:
    return item[0]


_RANKS: Final = {severity: severity.rank for severity in Severity}
_ROLES: Final = (None, EntityRole.RELATED, EntityRole.IMPACTED, EntityRole.SUSPECTED)
_GRAVITY: Final = {role: place for place, role in enumerate(_ROLES)}
_NAMED: Final = (
    (NodeKind.ADDRESS, EntityKind.ADDRESS),
    (NodeKind.SESSION, EntityKind.SESSION),
    (NodeKind.USER, EntityKind.USER),
    (NodeKind.AGENT, EntityKind.AGENT),
    (NodeKind.TOOL, EntityKind.TOOL),
    (NodeKind.SERVER, EntityKind.SERVER),
)
"""What an event names."""
_STEPS: Final = (
    (NodeKind.USER, Relation.CALLED_FROM, NodeKind.ADDRESS),
    (NodeKind.USER, Relation.SIGNED_IN, NodeKind.SESSION),
    (NodeKind.USER, Relation.USED, NodeKind.AGENT),
    (NodeKind.AGENT, Relation.CALLED, NodeKind.TOOL),
    (NodeKind.SERVER, Relation.HOSTS, NodeKind.TOOL),
)
_PLACES: Final = {kind: place for place, (kind, _) in enumerate(_NAMED)}
_SEEN_STEPS: Final = tuple((_PLACES[one], relation, _PLACES[other]) for one, relation, other in _STEPS)
"""The steps, by the places of what an event names."""
_RAISING: Final = (NodeKind.TOOL, NodeKind.AGENT, NodeKind.SERVER, NodeKind.USER)
"""What an alert hangs on: the first of these that its event names. The rest is implied."""
