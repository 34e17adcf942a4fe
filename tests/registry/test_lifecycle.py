"""The life of an agent: every pair of state and verb, and who may not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.world import NOON
from watchfloor.model.agents import AgentState
from watchfloor.model.errors import Conflict, Denied
from watchfloor.registry.lifecycle import TRANSITIONS, Verb, builders, next_state, state_after_manifest, verbs
from watchfloor.storage.inventory import Agent

AGENT = Agent(
    id="billing",
    name="Billing",
    state=AgentState.PUBLISHED,
    version="1",
    created_at=NOON,
    updated_at=NOON,
    updated_by="applier",
    maker_id="ada",
    owner_id="lin",
    manifest={"state": "published"},
)

EXPECTED = {
    ("draft", "submit"): "submitted",
    ("draft", "publish"): "published",
    ("draft", "block"): "blocked",
    ("draft", "retire"): "retired",
    ("submitted", "approve"): "published",
    ("submitted", "decline"): "draft",
    ("submitted", "block"): "blocked",
    ("submitted", "retire"): "retired",
    ("published", "withdraw"): "draft",
    ("published", "block"): "blocked",
    ("published", "retire"): "retired",
    ("blocked", "unblock"): "published",
    ("blocked", "retire"): "retired",
    ("submitted", "submit"): "submitted",
    ("submitted", "recall"): "draft",
    ("published", "submit"): "published",
    ("published", "approve"): "published",
    ("published", "decline"): "published",
    ("published", "recall"): "published",
    ("blocked", "submit"): "blocked",
    ("blocked", "approve"): "blocked",
    ("blocked", "decline"): "blocked",
    ("blocked", "recall"): "blocked",
}


@pytest.mark.asvs("2.3.1")
@pytest.mark.parametrize("state", AgentState)
@pytest.mark.parametrize("verb", Verb)
def test_every_state_and_verb_leads_where_the_product_says_or_is_refused(state: AgentState, verb: Verb) -> None:
    agent = replace(AGENT, state=state)
    expected = EXPECTED.get((state.value, verb.value))
    if expected is not None:
        assert next_state(agent, verb, "somebody-else") == expected
    else:
        with pytest.raises(Conflict, match=r"Possible now: \w+"):
            next_state(agent, verb, "somebody-else")


@pytest.mark.parametrize("actor", ["ada", "lin", "applier"])
@pytest.mark.parametrize(("state", "verb"), [(AgentState.BLOCKED, Verb.UNBLOCK), (AgentState.SUBMITTED, Verb.APPROVE)])
def test_whoever_built_an_agent_neither_approves_nor_unblocks_it(state: AgentState, verb: Verb, actor: str) -> None:
    agent = replace(AGENT, state=state)
    with pytest.raises(Denied, match="somebody else has to"):
        next_state(agent, verb, actor)
    assert next_state(agent, verb, "somebody-else") is AgentState.PUBLISHED


@pytest.mark.parametrize("actor", ["ada", "lin", "applier"])
def test_whoever_built_an_agent_may_block_and_retire_it(actor: str) -> None:
    assert next_state(AGENT, Verb.BLOCK, actor) is AgentState.BLOCKED
    assert next_state(AGENT, Verb.RETIRE, actor) is AgentState.RETIRED


def test_an_agent_that_was_never_published_is_a_draft_again_when_unblocked() -> None:
    agent = replace(AGENT, state=AgentState.BLOCKED, manifest={"state": "draft"})
    assert next_state(agent, Verb.UNBLOCK, "somebody-else") is AgentState.DRAFT


def test_nothing_leads_out_of_retirement() -> None:
    assert verbs(AgentState.RETIRED) == ()


def test_only_unblocking_and_retiring_lead_out_of_blocked() -> None:
    leading_out = {
        v for v in verbs(AgentState.BLOCKED) if TRANSITIONS[AgentState.BLOCKED, v].to is not AgentState.BLOCKED
    }
    assert leading_out == {Verb.UNBLOCK, Verb.RETIRE}


@pytest.mark.parametrize("current", [AgentState.BLOCKED, AgentState.SUBMITTED, AgentState.RETIRED])
@pytest.mark.parametrize("declared", [AgentState.PUBLISHED, AgentState.DRAFT])
def test_a_manifest_moves_nothing_that_is_blocked_submitted_or_retired(
    current: AgentState, declared: AgentState
) -> None:
    assert state_after_manifest(current, declared) is current


@pytest.mark.parametrize("declared", [AgentState.PUBLISHED, AgentState.DRAFT])
@pytest.mark.parametrize("current", [None, AgentState.PUBLISHED, AgentState.DRAFT])
def test_a_manifest_publishes_and_withdraws(current: AgentState | None, declared: AgentState) -> None:
    assert state_after_manifest(current, declared) is declared


@pytest.mark.asvs("2.3.5")
@given(st.lists(st.tuples(st.sampled_from(list(Verb)), st.sampled_from(["ada", "lin", "applier", "eve"])), max_size=30))
def test_in_no_history_does_an_agent_leave_blocked_or_submitted_for_published_by_its_builders(
    history: list[tuple[Verb, str]],
) -> None:
    agent = replace(AGENT, state=AgentState.DRAFT)
    for verb, actor in history:
        before = agent.state
        try:
            agent = replace(agent, state=next_state(agent, verb, actor))
        except (Conflict, Denied):
            continue
        if agent.state is AgentState.PUBLISHED and before in (AgentState.BLOCKED, AgentState.SUBMITTED):
            assert actor not in builders(agent)


def test_the_table_names_no_state_twice_for_one_verb() -> None:
    assert {(state.value, verb.value): t.to.value for (state, verb), t in TRANSITIONS.items()} == EXPECTED
