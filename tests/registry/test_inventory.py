"""Blocking and unblocking: one transaction, one epoch, told to the workers, written in the log."""

from __future__ import annotations

import pytest

from identity.world import World
from watchfloor.identity.sts import TokenRefused
from watchfloor.model.agents import AgentState, ServerState
from watchfloor.model.errors import Conflict, Denied, InputError, NotFound
from watchfloor.model.facts import AgentFacts, Kind, ServerFacts, ToolFacts
from watchfloor.registry import inventory as registry
from watchfloor.registry.lifecycle import Verb

ID = "customer-billing"


def facts(world: World) -> AgentFacts:
    return AgentFacts.from_json(world.facts(Kind.AGENT)[ID])


def test_blocking_raises_the_epoch_and_tells_the_workers_in_one_revision(zava: World) -> None:
    token = zava.claims_of(zava.service.issue(zava.request()).access_token)
    revision, _ = zava.store.read_projection(0)
    with zava.store.tx("soc") as tx:
        registry.block(tx, ID, "persistent jailbreak")
    after, changed = zava.store.read_projection(revision)
    assert after == revision + 1
    assert [(kind, key) for kind, key, _ in changed] == [(Kind.AGENT, ID)]
    assert facts(zava).state is AgentState.BLOCKED
    assert token["aev"] < facts(zava).epoch
    with pytest.raises(TokenRefused, match="blocked"):
        zava.service.issue(zava.request())


def test_unblocking_by_somebody_else_lets_it_work_with_new_tokens_only(zava: World) -> None:
    old = zava.claims_of(zava.service.issue(zava.request()).access_token)
    with zava.store.tx("soc") as tx:
        registry.block(tx, ID, "jailbreak")
    with zava.store.tx("it-admin") as tx:
        registry.unblock(tx, ID, "corrected")
    assert facts(zava).state is AgentState.PUBLISHED
    assert old["aev"] < facts(zava).epoch == zava.claims_of(zava.service.issue(zava.request()).access_token)["aev"]


@pytest.mark.claim("invariant-5")
@pytest.mark.parametrize("actor", ["ada", "root"], ids=["its maker", "who applied it last"])
def test_nobody_unblocks_an_agent_that_they_built(zava: World, actor: str) -> None:
    with zava.store.tx("soc") as tx:
        registry.block(tx, ID, "jailbreak")
    entries = len(zava.audit())
    with pytest.raises(Denied), zava.store.tx(actor) as tx:
        registry.unblock(tx, ID, "please")
    assert facts(zava).state is AgentState.BLOCKED
    assert len(zava.audit()) == entries
    with zava.store.tx("lin") as tx:
        registry.unblock(tx, ID, "looked at it")
    assert facts(zava).state is AgentState.PUBLISHED


def test_blocking_twice_changes_nothing(zava: World) -> None:
    with zava.store.tx("soc") as tx:
        registry.block(tx, ID, "jailbreak")
    epoch = facts(zava).epoch
    with zava.store.tx("soc") as tx:
        registry.block(tx, ID, "jailbreak")
        tx.audit("test:end", "test")
    assert facts(zava).epoch == epoch
    assert len(zava.audit("agent:block")) == 1


def test_block_and_unblock_are_audited_with_who_why_and_what(zava: World) -> None:
    with zava.store.tx("soc") as tx:
        registry.block(tx, ID, "persistent jailbreak")
    entry = zava.audit("agent:block")[-1]
    assert (entry["actor"], entry["subject"], entry["detail"]) == (
        "soc",
        f"agent/{ID}",
        {
            "before": {"state": "published", "epoch": 1},
            "after": {"state": "blocked", "epoch": 2},
            "reason": "persistent jailbreak",
        },
    )


def test_blocking_does_not_make_the_blocker_a_builder(zava: World) -> None:
    with zava.store.tx("soc") as tx:
        registry.block(tx, ID, "jailbreak")
    with zava.store.tx("soc") as tx:
        assert registry.unblock(tx, ID, "false alarm").state is AgentState.PUBLISHED


def test_reasons_are_needed_and_agents_must_exist(zava: World) -> None:
    with zava.store.tx("soc") as tx:
        with pytest.raises(InputError, match="reason"):
            registry.block(tx, ID, "")
        with pytest.raises(NotFound):
            registry.block(tx, "nobody", "because")
        with pytest.raises(Conflict, match="Possible now: withdraw, block, retire"):
            registry.unblock(tx, ID, "because")
        tx.audit("test:end", "test")


def test_other_steps_go_through_the_same_table(zava: World) -> None:
    for verb, state in (
        (Verb.WITHDRAW, AgentState.DRAFT),
        (Verb.RETIRE, AgentState.RETIRED),
    ):
        with zava.store.tx("it-admin") as tx:
            assert registry.change_state(tx, ID, verb, "a step").state is state
        assert facts(zava).state is state


def test_servers_and_tools_can_be_blocked_and_unblocked(zava: World) -> None:
    with zava.store.tx("soc") as tx:
        registry.block_server(tx, "mail", "compromised")
        registry.set_tool_blocked(tx, "mail", "send_email", True, "misused")
    assert ServerFacts.from_json(zava.facts(Kind.SERVER)["mail"]).state is ServerState.BLOCKED
    assert ToolFacts.from_json(zava.facts(Kind.TOOL)["mail/send_email"]).is_blocked
    # Applying the manifest again does not undo it.
    zava.apply()
    assert ServerFacts.from_json(zava.facts(Kind.SERVER)["mail"]).state is ServerState.BLOCKED
    assert ToolFacts.from_json(zava.facts(Kind.TOOL)["mail/send_email"]).is_blocked
    with zava.store.tx("soc") as tx:
        registry.unblock_server(tx, "mail", "mended")
        registry.set_tool_blocked(tx, "mail", "send_email", False, "mended")
    assert ServerFacts.from_json(zava.facts(Kind.SERVER)["mail"]).state is ServerState.AVAILABLE


def test_looking_up_shows_versions_tools_and_bindings(zava: World) -> None:
    with zava.store.read() as tx:
        detail = registry.get_agent(tx, ID)
        assert [v.version for v in detail.versions] == ["3"]
        assert len(detail.bindings) == 4
        assert [a.id for a in registry.list_agents(tx, state=AgentState.PUBLISHED)] == [ID]
        assert registry.list_agents(tx, state=AgentState.BLOCKED) == []
        mail = registry.get_server(tx, "mail")
        assert [t.name for t in mail.tools] == ["search_mail", "send_email"]
        assert {b.agent_id for b in mail.bindings} == {ID}
        assert [s.server.id for s in registry.list_servers(tx)] == ["customers", "knowledge", "mail"]
        with pytest.raises(NotFound):
            registry.get_agent(tx, "nobody")
        with pytest.raises(NotFound):
            registry.get_server(tx, "nothing")
