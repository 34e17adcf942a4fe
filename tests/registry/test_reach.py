"""The walk behind the blast radius: shortest open ways, cycles, and links that are named and not entered."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchfloor.model.agents import AgentState, CredentialOwner, Scope, ToolEffect
from watchfloor.registry.exposure import Exposure, Holdings, Level, Link, ThingKind, thing_id
from watchfloor.registry.reach import NAMED_ONLY, blast_radius
from watchfloor.storage.inventory import Agent, Binding, Tool, ToolServer
from watchfloor.storage.people import User

AT = datetime(2026, 11, 3, tzinfo=UTC)
TOOLS = (
    Tool("srv", "look", AT, effect=ToolEffect.READ),
    Tool("srv", "odd", AT),
    Tool("srv", "pay", AT, effect=ToolEffect.PAY),
    Tool("srv", "send", AT, effect=ToolEffect.SEND),
)


def _agent(name: str, *connected: str, state: AgentState = AgentState.PUBLISHED, **manifest: object) -> Agent:
    said = {"connectedAgents": list(connected), **manifest}
    return Agent(name, name, state, "1", AT, AT, "x", maker_id="maker", manifest=said)


def _company(agents: Iterable[Agent], bindings: Iterable[Binding] = (), users: Iterable[User] = ()) -> Exposure:
    return Exposure(
        Holdings(
            agents={a.id: a for a in agents},
            servers={"srv": ToolServer("srv", "Server", "http://x", AT, AT, credential_id="server/srv")},
            tools=TOOLS,
            bindings=list(bindings),
            users={u.id: u for u in users},
            credentials=frozenset({"server/srv"}),
        )
    )


def _grant(agent: str, tool: str, scope: Scope = Scope.WRITE, owner: CredentialOwner = CredentialOwner.APP) -> Binding:
    stored = f"binding/{agent}" if owner is CredentialOwner.MAKER else None
    return Binding(agent, "srv", tool, AT, owner, scope, stored)


names = st.sampled_from([f"a{n}" for n in range(8)])


@given(
    st.lists(st.tuples(names, names), max_size=25),
    st.lists(st.tuples(names, st.sampled_from(["look", "odd", "pay", "send", "*"])), max_size=12),
    st.sets(names, max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_what_is_reached_is_what_a_plain_search_finds_on_shortest_ways(
    edges: list[tuple[str, str]], grants: list[tuple[str, str]], blocked: set[str]
) -> None:
    agents = [
        _agent(f"a{n}", *sorted({t for s, t in edges if s == f"a{n}"}),
               state=AgentState.BLOCKED if f"a{n}" in blocked else AgentState.PUBLISHED)
        for n in range(8)
    ]  # fmt: skip
    exposure = _company(agents, [_grant(a, t) for a, t in dict.fromkeys(grants)])
    start = thing_id(ThingKind.AGENT, "a0")
    radius = blast_radius(exposure, start)
    found = {r.id: r for r in radius.reached}
    for is_open in (True, False):
        level, depth, seen = [start], 0, {start: 0}
        while level:
            depth += 1
            following = []
            for id_ in level:
                for reach in exposure.links(id_):
                    if reach.link not in NAMED_ONLY and reach.target not in seen and not (is_open and reach.stopped):
                        seen[reach.target] = depth
                        following.append(reach.target)
            level = following
        for id_, steps in seen.items():
            if id_ == start:
                continue
            reached = found[id_]
            if is_open:
                assert (reached.stopped, reached.depth) == ("", steps)
        if not is_open:
            named = {r.target for id_ in seen for r in exposure.links(id_)}
            assert set(found) == (set(seen) | named) - {start}
    for reached in found.values():
        path = radius.path(reached.id)
        assert (path[0].source, path[-1].target, len(path)) == (start, reached.id, reached.depth)
        assert all(a.target == b.source for a, b in itertools.pairwise(path))
        assert reached.stopped == next((step.stopped for step in path if step.stopped), "")


def test_the_binding_of_the_very_tool_wins_over_that_of_every_tool() -> None:
    exposure = _company([_agent("a")], [_grant("a", "*"), _grant("a", "pay", Scope.READ)])
    stopped = {r.target: r.stopped for r in exposure.links("agent:a") if r.link is Link.MAY_CALL}
    assert stopped == {
        "tool:srv/look": "", "tool:srv/odd": "", "tool:srv/send": "",
        "tool:srv/pay": "the binding is for reading only",
    }  # fmt: skip


def test_what_a_tool_does_that_nobody_knows_counts_as_a_change() -> None:
    exposure = _company([_agent("a")], [_grant("a", "odd")])
    assert blast_radius(exposure, "agent:a").worst is Level.WRITE


def test_a_server_none_of_whose_tools_is_known_is_one_tool_that_is_not_known() -> None:
    held = replace(_company([_agent("a")], [_grant("a", "*")]).holdings, tools=())
    exposure = Exposure(held)
    (tool,) = [r for r in blast_radius(exposure, "agent:a").reached if r.kind is ThingKind.TOOL]
    assert (exposure.thing(tool.id).name, tool.level) == ("every tool", Level.WRITE)


def test_a_child_agent_is_found_by_what_its_platform_calls_it() -> None:
    child = _agent("helper", platformIds={"schemaName": "cra_helper"})
    exposure = _company([_agent("a", childAgents=["cra_helper", "Nobody"]), child], [_grant("helper", "pay")])
    radius = blast_radius(exposure, "agent:a")
    assert [s.link for s in radius.path("tool:srv/pay")] == [Link.HAS_CHILD, Link.MAY_CALL]
    assert [s.link for s in radius.path("childAgent:a/Nobody")] == [Link.HAS_CHILD]


@pytest.mark.parametrize("entry", ["*", "tenants:*", "group:ops", "una"])
def test_who_may_use_an_agent_is_what_its_manifest_says(entry: str) -> None:
    una = User("una", "i", "una", AT, groups=("ops",))
    exposure = _company([_agent("a", sharedWith=[entry])], [_grant("a", "pay")], [una])
    assert blast_radius(exposure, "user:una").worst is Level.PAY
    apart = _company([_agent("a")], [_grant("a", "pay")], [una])
    assert blast_radius(apart, "user:una").worst is None


def test_a_disabled_user_reaches_nothing_but_what_runs_on_her_secrets() -> None:
    maker = User("maker", "i", "m", AT, is_enabled=False)
    bindings = [_grant("a", "pay"), _grant("b", "send", owner=CredentialOwner.MAKER)]
    exposure = _company([_agent("a", sharedWith=["*"]), _agent("b")], bindings, [maker])
    radius = blast_radius(exposure, "user:maker")
    found = {r.id: r for r in radius.reached}
    assert found["tool:srv/pay"].stopped == "user maker is disabled"
    assert found["tool:srv/send"].stopped == ""
    assert [s.link for s in radius.path("tool:srv/send")] == [Link.HAS_GIVEN, Link.GIVES_ACCESS]
