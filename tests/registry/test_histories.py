"""Random histories of an agent: whatever people do, in whatever order, what the product promises of it holds."""

from __future__ import annotations

import itertools

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity.world import World
from watchfloor.model.agents import AgentState, VersionState
from watchfloor.model.errors import WatchfloorError
from watchfloor.model.facts import AgentFacts, Kind
from watchfloor.registry import inventory as registry
from watchfloor.registry import manifest, owners, submissions
from watchfloor.registry.lifecycle import TRANSITIONS, Verb, builders
from watchfloor.storage import audit, inventory, versions
from watchfloor.storage.audit_files import read_database
from watchfloor.storage.control import ControlTx
from watchfloor.storage.inventory import Agent
from watchfloor.storage.versions import AgentVersion

PEOPLE = ["ada", "lin", "eve"]
"""``ada`` and ``lin`` are users, and may build agents; ``eve`` keeps the registry."""

Step = tuple[str, str, int, str]
"""What, by whom, of which version (counted from the newest), about whom."""

_people = st.sampled_from(PEOPLE)
_builders = st.sampled_from(["ada", "lin"])


def _step(what: str) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(what), _people, st.sampled_from([0, 0, 0, 1, 2]), _builders)


_anything = st.sampled_from(
    [
        "submit",
        "approve",
        "decline",
        "recall",
        "block",
        "unblock",
        "unblock as",
        "reassign",
        "withdraw",
        "apply",
        "rule out",
    ]
).flatmap(_step)
_phrases = st.one_of(
    _anything.map(lambda step: (step,)),
    st.tuples(_step("submit"), _anything, _step("approve")),
    st.tuples(_step("submit"), _step("approve"), _step("block"), _step("unblock")),
    st.tuples(_step("block"), _step("submit"), _step("approve"), st.one_of(_step("unblock"), _step("unblock as"))),
    st.tuples(_step("reassign"), _step("block"), _step("unblock")),
    st.tuples(_step("rule out"), _anything, _step("unblock")),
    st.tuples(_step("submit"), _step("apply"), _step("approve")),
)
"""What people do in a row: so that the histories come often enough to where it matters."""


def document(agent_id: str, build: int, **more: str) -> str:
    tool = {"server": "mail", "tool": "search_mail", "credential": "user", "scope": "read"}
    agent = {"id": agent_id, "name": "FAQ", "version": str(build), "tools": [tool], **more}
    return yaml.safe_dump({"apiVersion": "watchfloor/v1", "kind": "Company", "agents": [agent]})


class Told:
    """One agent, and what must never be seen of it."""

    def __init__(self, world: World, agent_id: str) -> None:
        self.world, self.id, self.builds = world, agent_id, 0
        self.blocked_at: int | None = None
        """The number that was live when it was blocked."""

    def look(self) -> tuple[Agent | None, list[AgentVersion]]:
        with self.world.store.read() as tx:
            return inventory.find_agent(tx, self.id), versions.list_versions(tx, self.id)

    def take(self, step: Step) -> None:
        what, actor, back, about = step
        agent, before = self.look()
        number = max(1, len(before) - back)
        chosen = next((v for v in before if v.number == number), None)
        waits = any(v.state is VersionState.SUBMITTED for v in before)
        approved = next((v for v in before if v.state is VersionState.APPROVED), None)
        live = next((v for v in before if v.state is VersionState.LIVE), None)
        try:
            with self.world.store.tx(actor) as tx:
                self.do(tx, what, number, about)
        except WatchfloorError:
            assert self.look() == (agent, before)
            return
        after, found = self.look()
        assert after is not None
        self.check(found, after)
        if what == "approve":
            assert agent is not None and chosen is not None
            assert actor not in builders(agent, chosen)
            assert live is None or live.number < chosen.number
            assert (after.state is AgentState.BLOCKED) is (agent.state is AgentState.BLOCKED)
        if what.startswith("unblock"):
            assert agent is not None and agent.state is AgentState.BLOCKED
            assert actor not in builders(agent, (approved or live) if what == "unblock" else chosen)
            now = next((v for v in found if v.state is VersionState.LIVE), None)
            assert (now.number if now else 0) >= (self.blocked_at or 0)
        elif agent is not None and agent.state is AgentState.BLOCKED:
            assert after.state is AgentState.BLOCKED
        if what == "reassign" and agent is not None:
            assert actor not in (agent.maker_id, agent.owner_id) or actor in (after.maker_id, after.owner_id)
        if what == "block" or (what == "rule out" and chosen == live):
            self.blocked_at = live.number if live else 0
        if what in VERBS and agent is not None:
            self.check_table(VERBS[what], agent.state, after.state, waits)
        if what not in ("approve", "unblock", "unblock as", "apply") and (agent is None or not is_out(agent)):
            assert not is_out(after)

    def do(self, tx: ControlTx, what: str, number: int, about: str) -> None:
        if what == "submit":
            self.builds += 1
            submissions.submit(tx, document(self.id, self.builds), for_others=tx.actor == "eve")
        elif what == "approve":
            submissions.approve(tx, self.id, number, "looked at")
        elif what == "decline":
            submissions.decline(tx, self.id, number, "no")
        elif what == "recall":
            submissions.withdraw(tx, self.id, number)
        elif what == "block":
            registry.block(tx, self.id, "leaks")
        elif what == "unblock":
            registry.unblock(tx, self.id, "mended")
        elif what == "unblock as":
            registry.unblock(tx, self.id, "mended", number)
        elif what == "rule out":
            registry.block_version(tx, self.id, number, "not this one again")
        elif what == "reassign":
            owners.reassign(tx, self.id, {"maker": about, "owner": about}, "moved")
        elif what == "withdraw":
            registry.change_state(tx, self.id, Verb.WITHDRAW)
        else:
            self.builds += 1
            manifest.apply(tx, document(self.id, self.builds, maker=about), self.world.vault)

    def check(self, found: list[AgentVersion], agent: Agent) -> None:
        states = [v.state for v in found]
        assert [v.number for v in found] == list(range(1, len(found) + 1))
        assert all(states.count(s) <= 1 for s in (VersionState.LIVE, VersionState.APPROVED, VersionState.SUBMITTED))
        live = next((v for v in found if v.state is VersionState.LIVE), None)
        assert not is_out(agent) or (live is not None and agent.version == live.version)
        assert agent.state is AgentState.BLOCKED or VersionState.APPROVED not in states
        ruled_out = {v.manifest_hash for v in found if v.state is VersionState.BLOCKED}
        assert not is_out(agent) or (live is not None and live.manifest_hash not in ruled_out)
        facts = AgentFacts.from_json(self.world.facts(Kind.AGENT)[self.id])
        assert (facts.state, facts.version) == (agent.state, agent.version)

    def check_table(self, verb: Verb, before: AgentState, after: AgentState, waits: bool) -> None:
        origins = [before, AgentState.SUBMITTED] if before is AgentState.DRAFT and waits else [before]
        leads = {TRANSITIONS[origin, verb].to for origin in origins if (origin, verb) in TRANSITIONS}
        if verb is Verb.UNBLOCK:  # what was never published is a draft again, or waits again
            leads |= {AgentState.DRAFT, AgentState.SUBMITTED}
        assert after in leads or (verb is Verb.BLOCK and before is after is AgentState.BLOCKED)


VERBS = {
    "submit": Verb.SUBMIT, "approve": Verb.APPROVE, "decline": Verb.DECLINE, "recall": Verb.RECALL,
    "block": Verb.BLOCK, "unblock": Verb.UNBLOCK, "unblock as": Verb.UNBLOCK, "withdraw": Verb.WITHDRAW,
}  # fmt: skip


def is_out(agent: Agent) -> bool:
    return agent.state is AgentState.PUBLISHED


@pytest.mark.claim("versions-histories")
def test_in_no_history_does_anybody_approve_or_unblock_their_own_or_an_older_build_come_back(zava: World) -> None:
    numbers = itertools.count()

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(_phrases, min_size=2, max_size=5))
    def history(told: list[tuple[Step, ...]]) -> None:
        agent = Told(zava, f"faq-{next(numbers)}")
        for step in [("submit", "ada", 0, "ada"), *itertools.chain(*told)]:
            agent.take(step)

    history()
    report = audit.verify(read_database(f"sqlite:///{zava.directory}/control.db"), [], None)
    assert [str(f) for f in report.faults if "checkpoint" not in str(f).lower()] == []
