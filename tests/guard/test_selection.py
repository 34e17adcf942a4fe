"""Ruling policies out in advance, together or in handfuls, gives the answer that asking each of them would give."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.world import CALL, call, facts, judge, policies, policy
from watchfloor.guard.expression import compile_condition
from watchfloor.guard.names import NAMES
from watchfloor.model.agents import CredentialOwner, PinState, ToolEffect
from watchfloor.model.people import RiskLevel
from watchfloor.model.verdicts import Verdict

CONDITIONS = [
    'tool.effect == "send"',
    'tool.effect == "pay" && args.amount > 5',
    'args.amount > 5 && tool.effect == "pay"',
    'tool.effect == "pay" || args.amount > 5',
    '!(tool.effect == "pay") && size(args) > 2',
    'tool.effect == "pay" ? true : args.n == 1',
    '(tool.effect == "pay" && size(args) > 1) || agent.risk == "low"',
    'agent.risk == "low" || tool.pin_state == "unpinned"',
    'binding.credential_owner == "maker" && user.id != agent.maker',
    "binding.credential_owner == \"maker\" && user.id != agent.maker // '&&' in a comment ) && (",
    'server.name == "a && b" && true',
    '["pay", "send"].exists(effect, effect == tool.effect && args.n == 1)',
    'tool.name in ["send_email"] && !has(args.cc)',
    'organization.domains.exists(d, d == "zava.example") && args.to[0].endsWith("example")',
    "true && false",
    "args.flag && tool.has_side_effects",
    "binding.is_wildcard && size(destinations.external) > 0",
    'agent.maker == "" && agent.owner == ""',
    'timestamp("never") < now && tool.effect == "read"',
    'tool.effect == "pay" && args.n == 1 || size(args) > 1',
    'size(args) > 1 || args.n == 1 && tool.effect == "pay"',
    'tool.effect == "pay" && args.n == 1 ? false : true',
]

arguments = st.fixed_dictionaries(
    {},
    optional={
        "amount": st.sampled_from([1, 10, "x", None]),
        "n": st.sampled_from([1, 2]),
        "flag": st.booleans(),
        "cc": st.just([]),
        "to": st.sampled_from([["ann@zava.example"], ["x@elsewhere.example"], []]),
    },
)


@given(
    arguments,
    st.sampled_from(ToolEffect),
    st.sampled_from(RiskLevel),
    st.sampled_from([PinState.PINNED, PinState.UNPINNED]),
    st.sampled_from(CredentialOwner),
    st.booleans(),
    st.frozensets(st.integers(0, len(CONDITIONS) - 1)),
)
def test_all_together_answer_as_each_alone(
    given_arguments: dict[str, Any],
    effect: ToolEffect,
    risk: RiskLevel,
    pin: PinState,
    owner: CredentialOwner,
    wildcard: bool,
    chosen: frozenset[int],
) -> None:
    known = facts(
        tool={"effect": effect, "pin_state": pin},
        agent={"risk": risk},
        binding={"credential_owner": owner, "tool": "*" if wildcard else CALL.tool},
    )
    invocation = call(arguments=given_arguments)
    bodies = [policy(id=f"p{number:02}", when=CONDITIONS[number]) for number in chosen]
    together = judge(invocation, known, policies(*bodies))
    alone = [judge(invocation, known, ALONE[number]) for number in sorted(chosen)]
    assert sorted(_by_policy(together)) == sorted(itertools.chain.from_iterable(map(_by_policy, alone)))


ALONE = {number: policies(policy(id=f"p{number:02}", when=when)) for number, when in enumerate(CONDITIONS)}


def _by_policy(verdict: Verdict) -> list[tuple[str, str]]:
    return [(reason.policy_id, reason.code) for reason in verdict.reasons if reason.policy_id is not None]


@pytest.mark.parametrize(
    ("when", "premise"),
    [
        ('tool.effect == "pay" && args.n > 1', {"tool.effect"}),
        ('args.n > 1 && (tool.effect == "pay" || agent.risk == "low")', {"tool.effect", "agent.risk"}),
        ('agent.risk == "low" || server.id == "x"', {"agent.risk", "server.id"}),
        ('tool.effect == "pay" && user.risk == "low" && binding.scope == "write"', {"tool.effect", "binding.scope"}),
    ],
)
def test_part_that_is_settled_in_advance_is_found(when: str, premise: set[str]) -> None:
    found = compile_condition(when).premise
    assert found is not None and found.names == premise


@pytest.mark.parametrize(
    "when",
    [
        'tool.effect == "pay" || args.n > 1',
        'tool.effect == "pay" && args.n > 1 || args.m > 1',
        'tool.effect == "pay" && args.n > 1 ? true : false',
        'args.x == "tool.effect && agent.risk"',
        'args.n > 1 ? tool.effect == "pay" : false',
        '!(tool.effect == "pay" && args.n > 1)',
        "true",
    ],
)
def test_condition_that_cannot_be_settled_in_advance_is_not(when: str) -> None:
    assert compile_condition(when).premise is None


def test_settled_names_depend_on_nothing_that_changes_from_call_to_call() -> None:
    assert {name.name for name in NAMES if name.fact} == {
        name.name
        for name in NAMES
        if name.name.partition(".")[0] in ("agent", "server", "tool", "binding", "organization")
    } - {"agent.parent"}


def test_premise_follows_the_facts_from_call_to_call() -> None:
    rules = policies(policy(when='agent.risk == "medium" && args.subject == "October"'))
    for risk in (RiskLevel.NONE, RiskLevel.MEDIUM, RiskLevel.NONE, RiskLevel.LOW, RiskLevel.MEDIUM):
        verdict = judge(known=facts(agent={"risk": risk}), policy_set=rules)
        assert bool(verdict.reasons) is (risk is RiskLevel.MEDIUM)
