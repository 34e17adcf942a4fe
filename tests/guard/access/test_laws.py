"""What holds for every set of access policies: stricter never looser, reports change nothing, order does not matter."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.access.bodies import BLOCK, policy
from guard.world import FACTS, NOW
from watchfloor.guard.access.evaluate import Attempt, evaluate, find_matches
from watchfloor.guard.access.policy import AccessPolicy, Choice
from watchfloor.guard.access.table import AccessTable
from watchfloor.model.access import AccessState, Control
from watchfloor.model.agents import TokenMode, ToolEffect
from watchfloor.model.facts import AgentFacts, AgentProfile, UserFacts
from watchfloor.model.people import RiskLevel

USERS, GROUPS, AGENTS, SERVERS = ("ann", "ben"), ("staff", "ops"), ("bot", "desk"), ("mail", "bank")


def names(of: tuple[str, ...]) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from((*of, "All")), max_size=2)


def choices(of: tuple[str, ...]) -> st.SearchStrategy[Choice]:
    return st.builds(Choice, names(of), names(of) if of is not SERVERS else st.just(frozenset()))


LEVELS = st.frozensets(st.sampled_from(RiskLevel), max_size=2)
CONTROLS = st.sampled_from([
    frozenset({Control.BLOCK}), frozenset({Control.MFA}), frozenset({Control.MFA, Control.PASSWORD_CHANGE}), frozenset()
])  # fmt: skip


@st.composite
def access_policies(draw: st.DrawFn) -> AccessPolicy:
    """Any policy, those that would not be published included: the laws hold for them too."""
    return AccessPolicy(
        id=draw(st.text("abcdef", min_size=1, max_size=6)),
        version=1,
        name="any",
        state=draw(st.sampled_from(AccessState)),
        users=draw(choices(USERS)),
        groups=draw(choices(GROUPS)),
        roles=Choice(),
        agents=draw(choices(AGENTS)),
        blueprints=draw(st.sampled_from([Choice(), Choice(frozenset({"b1"}))])),
        attributes=draw(st.sampled_from([frozenset(), frozenset({("platform", "foundry")})])),
        without_attributes=frozenset(),
        servers=draw(choices(SERVERS)),
        effects=draw(st.sampled_from([None, frozenset({ToolEffect.SEND}), frozenset(ToolEffect)])),
        user_risk=draw(LEVELS),
        agent_risk=draw(LEVELS),
        sign_in_risk=draw(LEVELS),
        modes=draw(st.sampled_from([None, frozenset({TokenMode.OBO}), frozenset({TokenMode.MAKER})])),
        needs_all=draw(st.booleans()),
        controls=draw(CONTROLS),
        max_age=draw(st.sampled_from([None, 60, 3600])),
        revokes=False,
    )


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    """Anybody who wants anything."""
    user = draw(st.none() | st.builds(
        UserFacts, st.sampled_from(USERS), st.just(""), st.just(""), st.just(True), st.just(1),
        st.sampled_from(RiskLevel), st.just(False), st.none(), st.lists(st.sampled_from(GROUPS), max_size=2).map(tuple),
    ))  # fmt: skip
    agent_id = draw(st.sampled_from(AGENTS))
    agent = AgentFacts(agent_id, risk=draw(st.sampled_from(RiskLevel)), platform=draw(st.sampled_from(["", "Foundry"])))
    profile = draw(st.sampled_from([None, AgentProfile("B1")]))
    return Attempt(
        user, agent_id, agent, draw(st.sampled_from(TokenMode)), draw(st.sampled_from(("", *SERVERS))),
        draw(st.none() | st.sampled_from(ToolEffect)), draw(st.sampled_from(RiskLevel)), profile,
    )  # fmt: skip


METHODS = st.sampled_from([(), ("pwd",), ("pwd", "otp"), ("mfa",)])
AGES = st.none() | st.sampled_from([0.0, 59.0, 60.0, 61.0, 3_600.0, 90_000.0])
SETS = st.lists(access_policies(), max_size=5, unique_by=lambda p: p.id)


@pytest.mark.claim("access-laws")
@settings(max_examples=120)
@given(SETS, access_policies(), attempts(), METHODS, AGES)
def test_one_more_enabled_policy_never_loosens(
    known: list[AccessPolicy], more: AccessPolicy, attempt: Attempt, methods: tuple[str, ...], age: float | None
) -> None:
    more = dataclasses.replace(more, id="new", state=AccessState.ENABLED)
    before = evaluate(known, attempt, methods, age)
    after = evaluate([*known, more], attempt, methods, age)
    assert after.control.strictness >= before.control.strictness
    assert {p.id for p in before.refusing} <= {p.id for p in after.refusing}


@pytest.mark.claim("access-laws")
@settings(max_examples=120)
@given(SETS, st.lists(access_policies(), max_size=3), attempts(), METHODS, AGES)
def test_report_only_policies_never_change_what_is_demanded(
    known: list[AccessPolicy], more: list[AccessPolicy], attempt: Attempt, methods: tuple[str, ...], age: float | None
) -> None:
    reports = [dataclasses.replace(p, id=f"new{n}", state=AccessState.REPORT_ONLY) for n, p in enumerate(more)]
    before, after = evaluate(known, attempt, methods, age), evaluate([*known, *reports], attempt, methods, age)
    assert (after.control, after.max_age, after.refusing) == (before.control, before.max_age, before.refusing)


@pytest.mark.claim("access-laws")
@settings(max_examples=80)
@given(SETS.flatmap(lambda known: st.tuples(st.just(known), st.permutations(known))), attempts(), METHODS, AGES)
def test_the_order_of_policies_does_not_matter(
    both: tuple[list[AccessPolicy], list[AccessPolicy]], attempt: Attempt, methods: tuple[str, ...], age: float | None
) -> None:
    assert evaluate(both[0], attempt, methods, age) == evaluate(both[1], attempt, methods, age)


@pytest.mark.claim("access-laws")
@settings(max_examples=120)
@given(access_policies(), attempts())
def test_whoever_is_excluded_is_never_met_however_included(policy: AccessPolicy, attempt: Attempt) -> None:
    if attempt.user is None:
        excluded = dataclasses.replace(policy, agents=Choice(policy.agents.include, frozenset({attempt.agent_id})))
    else:
        excluded = dataclasses.replace(
            policy, users=Choice(frozenset({"All", attempt.user.id}), frozenset({attempt.user.id}))
        )
    assert find_matches([excluded], attempt) == ()


@settings(max_examples=80)
@given(SETS, st.lists(st.tuples(attempts(), METHODS, AGES), min_size=1, max_size=6))
def test_remembered_answers_are_those_of_an_evaluation(known: list[AccessPolicy], asked: list[Any]) -> None:
    table = AccessTable(known)
    for attempt, methods, age in [*asked, *asked]:
        signed_in = None if age is None else NOW - timedelta(seconds=age)
        answer = table.answer(
            attempt.user, attempt.agent_id, attempt.agent, attempt.profile, attempt.mode, attempt.server_id,
            attempt.effect, attempt.sign_in_risk.value, methods, signed_in, NOW,
        )  # fmt: skip
        assert answer == evaluate(known, attempt, methods, age)


def test_a_user_whose_risk_has_changed_is_judged_anew() -> None:
    table = AccessTable([policy(conditions={"userRiskLevels": ["medium"]})])
    assert FACTS.user is not None

    def ask(user: UserFacts) -> Control:
        return table.answer(
            user, "bot", None, None, TokenMode.OBO, "mail", None, "none", ("pwd",), NOW, NOW
        ).control  # fmt: skip

    calm, odd = FACTS.user, dataclasses.replace(FACTS.user, risk=RiskLevel.MEDIUM)
    assert [ask(calm), ask(odd), ask(calm)] == [Control.GRANT, Control.MFA, Control.GRANT]


def test_a_verdict_names_every_policy_that_applied_and_why() -> None:
    assert FACTS.user is not None
    known = [
        policy(id="asks", conditions={"resources": {"servers": ["mail"], "toolClasses": ["write"]}}),
        policy(id="blocks", conditions={"users": {"include": ["kim"]}}, grantControls=BLOCK),
        policy(id="reports", state="enabledForReportingButNotEnforced", grantControls=BLOCK),
        policy(id="other", conditions={"users": {"include": ["somebody"]}}),
        policy(id="off", state="disabled"),
    ]
    kim = dataclasses.replace(FACTS.user, id="kim", upn="Kim@zava.example")
    answer = evaluate(known, Attempt(kim, "bot", None, TokenMode.OBO, "mail", ToolEffect.SEND))
    assert answer.control is Control.BLOCK
    assert {(p.id, p.control, p.because) for p in answer.policies} == {
        ("asks", Control.MFA, ("users: All", "server: mail", "tool class: send")),
        ("blocks", Control.BLOCK, ("user: kim",)),
        ("reports", Control.BLOCK, ("users: All",)),
    }
    assert [p.id for p in answer.refusing] == ["blocks", "asks"]
    assert [p.id for p in answer.would_refuse] == ["reports"]
