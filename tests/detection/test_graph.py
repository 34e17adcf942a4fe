"""Laws of an incident's graph: the order of alerts never matters, and grouping loses nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchfloor.detection import graph as graphs
from watchfloor.detection import graph_groups
from watchfloor.detection.graph import (
    AgentCard,
    Graph,
    HandOver,
    NodeKind,
    Relation,
    Surroundings,
    Tally,
    Window,
    histogram,
    read_events,
)
from watchfloor.model.cases import Alert, AlertDraft, AlertStatus, Entity, EntityKind, EntityRole
from watchfloor.model.verdicts import Severity

EMPTY, ALWAYS = Surroundings(), Window()


def build(alerts: Sequence[Alert], around: Surroundings = EMPTY, window: Window = ALWAYS) -> Graph:
    """The graph with all events."""
    return graphs.build(alerts, around, window, read_events(alerts))


START = datetime(2026, 11, 3, 12, tzinfo=UTC)


def _alert(number: int, events: list[dict[str, Any]], severity: Severity = Severity.HIGH, **detail: Any) -> Alert:
    found = {}
    for e in events:
        for kind, id_ in (
            (EntityKind.USER, e["user_id"]),
            (EntityKind.AGENT, e["agent_id"]),
            (EntityKind.TOOL, f"{e['server']}/{e['tool']}"),
            (EntityKind.SERVER, e["server"]),
            (EntityKind.ADDRESS, e["address"]),
        ):
            found[kind, id_] = Entity(kind, id_, id_, EntityRole.RELATED)
    times = [datetime.fromisoformat(e["at"]) for e in events] or [START]
    draft = AlertDraft(
        rule_id=f"rule-{number}",
        dedup_key=str(number),
        title=f"Alert {number}",
        description="",
        severity=severity,
        tactic="Collection",
        techniques=(),
        entities=tuple(found.values()),
        evidence=tuple(e["id"] for e in events),
        first_activity=min(times),
        last_activity=max(times),
        detail={"count": len(events), "stopped": sum(e["stopped"] for e in events), "events": events, **detail},
    )
    return Alert(f"alr_{number:04}", draft, AlertStatus.NEW, START, "inc_1")


def _event(number: int, *, user: str = "u1", agent: str = "a1", tool: str = "t1", address: str = "192.0.2.1",
           stopped: bool = True, minutes: float = 0) -> dict[str, Any]:  # fmt: skip
    return {
        "id": f"evt_{number}",
        "at": (START + timedelta(minutes=minutes)).isoformat(),
        "action": "ToolCallDecided",
        "user": user, "user_id": user, "agent": agent, "agent_id": agent, "session": f"s-{user}",
        "server": "srv", "tool": tool, "address": address, "stopped": stopped, "jailbreak": False,
    }  # fmt: skip


few = st.integers(0, 3)
steps = st.builds(
    lambda n, user, agent, tool, address, stopped, minutes: _event(
        n, user=f"u{user}", agent=f"a{agent}", tool=f"t{tool}", address=f"192.0.2.{address}", stopped=stopped,
        minutes=minutes,
    ),
    st.integers(0, 200), few, few, st.integers(0, 8), st.integers(0, 40), st.booleans(), st.integers(0, 90),
)  # fmt: skip
# An event is one thing, whichever alerts keep it.
incidents = st.lists(st.lists(steps, min_size=1, max_size=25), min_size=1, max_size=6).map(
    lambda lists: [
        _alert(n, list({e["id"]: known.setdefault(e["id"], e) for e in events}.values()), severity)
        for known in ({},)
        for n, (events, severity) in enumerate(
            zip(lists, (Severity.LOW, Severity.HIGH, Severity.MEDIUM) * 2, strict=False)
        )
    ]
)


@given(incidents, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_alerts_never_changes_the_graph(alerts: list[Alert], chance: random.Random) -> None:
    other = list(alerts)
    chance.shuffle(other)
    assert build(alerts) == build(other)
    assert histogram(read_events(alerts)) == histogram(read_events(other))


@pytest.mark.claim("incident-graph-groups")
@given(incidents, st.integers(1, 8), st.integers(1, 5), st.data())
@settings(max_examples=80, deadline=None)
def test_grouping_and_opening_lose_no_node_and_no_count(
    alerts: list[Alert], many: int, show: int, data: st.DataObject
) -> None:
    graph = build(alerts)
    groups = graph_groups.find_groups(graph, many)
    everywhere = [node.id for nodes in groups.values() for node in nodes]
    assert len(everywhere) == len(set(everywhere)), "a node is in one group"
    opened = data.draw(st.sets(st.sampled_from(sorted(groups)))) if groups else set[str]()
    drawn = graph_groups.draw(graph, groups, opened, show)
    assert len(drawn.nodes) + sum(g.count for g in drawn.groups) == drawn.total == len(graph.nodes)
    shown = Counter(n.kind for n in drawn.nodes) + Counter({g.kind: 0 for g in drawn.groups})
    for group in drawn.groups:
        shown[group.kind] += group.count
    assert shown == Counter(n.kind for n in graph.nodes.values())
    # No two nodes of one kind have an edge among them here, so nothing is hidden inside a group.
    assert sum(e.tally.count for e in drawn.edges) == sum(e.tally.count for e in graph.edges)
    assert sum(e.tally.blocked for e in drawn.edges) == sum(e.tally.blocked for e in graph.edges)
    ends = {n.id for n in drawn.nodes} | {g.id for g in drawn.groups}
    assert all({e.source, e.target} <= ends for e in drawn.edges)
    for nodes in groups.values():
        paged = []
        for start in range(0, len(nodes), show):
            paged += [n.id for n in graph_groups.members(graph, nodes, start, show)[0]]
        assert sorted(paged) == sorted(n.id for n in nodes)


@given(incidents, st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_the_histogram_counts_each_event_once(alerts: list[Alert], buckets: int) -> None:
    bars = histogram(read_events(alerts), buckets)
    ids = {e["id"] for a in alerts for e in a.draft.detail["events"]}
    assert sum(b.tally.count for b in bars) == len(ids)
    assert len(bars) <= buckets


def _edge(graph: Graph, source: str, relation: Relation, target: str) -> Tally:
    (found,) = [e.tally for e in graph.edges if (e.source, e.relation, e.target) == (source, relation, target)]
    return found


def test_an_event_of_two_alerts_is_counted_once_and_raises_both() -> None:
    graph = build([_alert(1, [_event(1)]), _alert(2, [_event(1), _event(2, stopped=False)])])
    assert _edge(graph, "agent:a1", Relation.CALLED, "tool:srv/t1") == Tally(2, 1, 1, START, START)
    assert _edge(graph, "tool:srv/t1", Relation.RAISED, "alert:alr_0001").count == 1
    assert _edge(graph, "tool:srv/t1", Relation.RAISED, "alert:alr_0002").count == 2


def test_events_of_before_ids_were_kept_are_found_by_name() -> None:
    event = _event(1)
    alert = _alert(1, [event])
    del event["user_id"], event["agent_id"], event["session"]
    assert _edge(build([alert]), "user:u1", Relation.USED, "agent:a1").count == 1


def test_minor_alerts_are_off_the_path_where_there_are_serious_ones() -> None:
    minor = _alert(1, [_event(1, tool="minor")], Severity.LOW)
    alone, beside = build([minor]), build([minor, _alert(2, [_event(2)])])
    assert alone.nodes["tool:srv/minor"].on_path
    assert not beside.nodes["tool:srv/minor"].on_path
    assert beside.nodes["tool:srv/t1"].on_path


def test_an_alert_of_which_no_event_is_shown_relates_only_what_can_be_meant_in_one_way() -> None:
    two = _alert(1, [_event(1, user="u1", agent="a1"), _event(2, user="u2", agent="a2")])
    graph = graphs.build([two])
    assert not [e for e in graph.edges if e.relation is Relation.USED]
    one = graphs.build([_alert(1, [_event(1), _event(2)])])
    assert _edge(one, "agent:a1", Relation.CALLED, "tool:srv/t1").blocked == 2


def test_an_incident_without_alerts_is_an_empty_graph() -> None:
    graph = build([])
    assert (graph.nodes, graph.edges, graph.paths, histogram({})) == ({}, (), (), [])
    assert graph_groups.draw(graph, graph_groups.find_groups(graph)).total == 0


def test_what_the_registry_says_of_an_agent_is_context_and_hand_overs_follow_the_time() -> None:
    card = AgentCard("a1", "Agent One", connected=("a2", "a1"), children=("Helper",), credentials_of=("maker",))
    later = START + timedelta(hours=1)
    seen = HandOver("a1", "a3", "Third", Tally(4, 0, 0, later, later))
    around = Surroundings({"a1": card}, hand_overs=[seen, HandOver("zz", "a9", "Ninth", Tally(1))])
    graph = build([_alert(1, [_event(1), _event(2, minutes=70)])], around)
    context = {n.id for n in graph.nodes.values() if n.is_context}
    assert context == {"agent:a2", "agent:a3", "child_agent:a1/Helper", "user:maker"}
    assert _edge(graph, "agent:a1", Relation.HANDS_OVER, "agent:a3").count == 4
    assert _edge(graph, "agent:a1", Relation.HOLDS_CREDENTIAL, "user:maker").count == 0
    assert graph.nodes["agent:a1"].label == "Agent One"
    early = build([_alert(1, [_event(1)])], around, Window(until=START + timedelta(minutes=5)))
    assert "agent:a3" not in early.nodes
    assert early.nodes["child_agent:a1/Helper"].kind is NodeKind.CHILD_AGENT
