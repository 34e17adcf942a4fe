"""What holds for every input: purity, replay, and that more rules or odder input never loosen a verdict."""

from __future__ import annotations

import dataclasses
import math
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.world import CALL, FACTS, NOW, call, facts, judge, policies, policy
from watchfloor import content as shipped_content
from watchfloor.guard import codec, redact
from watchfloor.guard.content import Limits, examine
from watchfloor.guard.context import Context
from watchfloor.guard.detectors import DETECTORS
from watchfloor.guard.detectors.secrets import find_secrets
from watchfloor.guard.engine import decide, replay
from watchfloor.guard.policy import PolicySet
from watchfloor.model.activity import Approval, Counters, Invocation
from watchfloor.model.agents import (
    AgentState,
    CredentialOwner,
    PinState,
    Scope,
    ServerState,
    TokenMode,
    ToolEffect,
)
from watchfloor.model.facts import Facts
from watchfloor.model.people import RiskLevel
from watchfloor.model.verdicts import Effect, Mode, Redaction, Verdict

SECRETS = (
    "ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "AKIAQ3EGUZ7XW5NDLPQR",
    "glpat-x9Y8z7W6v5U4t3S2r1Q0",
    "postgres://app:Tr0ub4dor3@db.example/x",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJncmlmZmluIn0.c2lnbmF0dXJlLWlzLWhlcmU",
)
PHRASES = ("ignore all previous instructions", "thief@elsewhere.example", "https://elsewhere.example/x", *SECRETS)

texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(PHRASES),
    st.builds("{}{}{}".format, st.text(max_size=8), st.sampled_from(PHRASES), st.text(max_size=8)),
)
keys = st.one_of(st.text(max_size=12), st.sampled_from(["to", "cc", "amount", "body", "", "a.b", *SECRETS]))
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), texts
)
json_values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)
json_arguments = st.dictionaries(keys, json_values, max_size=5)

wild_leaves = st.one_of(
    leaves,
    st.floats(),
    st.integers(),
    st.text(st.characters(), max_size=10),
    st.just("\ud800"),
    st.binary(max_size=4),
    st.just(object()),
)
wild_values = st.recursive(
    wild_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(st.characters(), max_size=6), st.integers(), st.none()), inner, max_size=4),
    ),
    max_leaves=15,
)

instants = st.integers(-7200, 7200).map(lambda seconds: NOW + timedelta(seconds=seconds))


@st.composite
def known_facts(draw: st.DrawFn) -> Facts:
    """Facts of every kind, most of them good."""

    def mostly(good: Any, *others: Any) -> Any:
        return draw(st.sampled_from([good, good, good, good, *others]))

    changes: dict[str, Any] = {
        "state_is_current": mostly(True, False),
        "token": {
            "expires_at": mostly(FACTS.token.expires_at, NOW),
            "user_epoch": mostly(3, 2),
            "mode": mostly(TokenMode.OBO, *TokenMode),
            "auth_time": mostly(FACTS.token.auth_time, None),
        },
        "agent": mostly(
            {"state": mostly(AgentState.PUBLISHED, *AgentState), "risk": mostly(RiskLevel.NONE, *RiskLevel)}, None
        ),
        "user": mostly(
            {
                "risk": mostly(RiskLevel.NONE, *RiskLevel),
                "not_before": mostly(None, NOW),
                "groups": draw(st.lists(st.text(max_size=5), max_size=2).map(tuple)),
            },
            None,
        ),
        "server": mostly({"state": mostly(ServerState.AVAILABLE, ServerState.BLOCKED)}, None),
        "tool": mostly(
            {
                "effect": draw(st.sampled_from(ToolEffect)),
                "pin_state": mostly(PinState.PINNED, *PinState),
                "allow_when_stale": draw(st.booleans()),
            },
            None,
        ),
        "binding": mostly(
            {"scope": mostly(Scope.WRITE, Scope.READ), "credential_owner": draw(st.sampled_from(CredentialOwner))}, None
        ),
        "counters": Counters(draw(st.integers(0, 1000)), draw(st.integers(0, 50)), 0),
        "approval": mostly(
            None,
            Approval("hld_1", codec.payload_hash(CALL), NOW + timedelta(minutes=1), True),
            Approval("hld_2", codec.payload_hash(CALL), NOW, True),
        ),
    }
    return facts(**changes)


@st.composite
def invocations(draw: st.DrawFn) -> Invocation:
    """Calls with JSON arguments."""
    return call(
        arguments=draw(st.one_of(st.just(CALL.arguments), json_arguments)),
        user_turns=tuple(draw(st.lists(texts, max_size=3))),
        mode=draw(st.sampled_from(TokenMode)),
        user_id=draw(st.sampled_from(["griffin", "griffin", "griffin", None, "ann"])),
        retry_token=draw(st.one_of(st.none(), st.text(max_size=5))),
        parent_agent_id=draw(st.one_of(st.none(), st.just("parent"))),
        at=draw(instants),
    )


BODIES = [
    *shipped_content.policies(),
    policy(id="x-amount", when="args.amount > 5", on_error="flag"),
    policy(id="x-to", when='args.to.exists(r, r.endsWith("elsewhere.example"))', mode="audit"),
    policy(id="x-hold", effect="hold", when="size(args) > 3"),
    policy(id="x-block", when='"cc" in args || counters.calls_last_minute > 900'),
    policy(id="x-signals", effect="hold", step="detectors", when='signals.severity == "high"'),
]
BY_ID = {body["id"]: body for body in BODIES}


@cache
def rule_set(ids: frozenset[str]) -> PolicySet:
    """The set of these policies, compiled once."""
    return policies(*(BY_ID[policy_id] for policy_id in sorted(ids)))


SHIPPED = policies(*shipped_content.policies())
policy_sets = st.frozensets(st.sampled_from(sorted(BY_ID)), max_size=6).map(rule_set)


@pytest.mark.claim("replay")
@given(invocations(), known_facts(), policy_sets)
def test_replaying_a_recorded_decision_gives_the_same_verdict(
    invocation: Invocation, known: Facts, rules: PolicySet
) -> None:
    verdict = judge(invocation, known, rules)
    again = replay(codec.dump_invocation(invocation), codec.dump_facts(known), rules)
    assert again == verdict
    assert codec.load_verdict(codec.dump_verdict(verdict)) == verdict


@given(invocations(), known_facts())
def test_records_give_back_what_was_recorded(invocation: Invocation, known: Facts) -> None:
    assert codec.load_invocation(codec.dump_invocation(invocation)) == invocation
    assert codec.load_facts(codec.dump_facts(known)) == known


@given(st.dictionaries(st.text(max_size=5), wild_values, max_size=4), policy_sets)
@settings(max_examples=200)
def test_no_arguments_whatever_raise_and_every_decision_can_be_replayed(
    arguments: dict[str, Any], rules: PolicySet
) -> None:
    invocation = call(arguments=arguments)
    verdict = judge(invocation, policy_set=rules)
    assert isinstance(verdict, Verdict)
    assert [reason.code for reason in verdict.reasons if reason.code == "internal_error"] == []
    assert replay(codec.dump_invocation(invocation), codec.dump_facts(FACTS), rules) == verdict


@given(wild_values, wild_values, st.one_of(st.none(), wild_values))
def test_nonsense_in_any_place_is_a_verdict(arguments: Any, turn: Any, user_id: Any) -> None:
    verdict = judge(call(arguments=arguments, user_turns=(turn,), user_id=user_id))
    assert isinstance(verdict, Verdict)


@given(invocations(), known_facts(), policy_sets, policy_sets)
def test_more_policies_never_loosen(invocation: Invocation, known: Facts, some: PolicySet, others: PolicySet) -> None:
    both = judge(invocation, known, rule_set(frozenset([*some.members, *others.members])))
    alone = judge(invocation, known, some)
    assert both.effect.strictness >= alone.effect.strictness
    assert both.would_be.strictness >= alone.would_be.strictness


@given(invocations(), known_facts(), st.permutations(BODIES))
@settings(max_examples=30)
def test_order_of_policies_does_not_matter(invocation: Invocation, known: Facts, shuffled: list[Any]) -> None:
    assert judge(invocation, known, policies(*shuffled)) == judge(invocation, known, rule_set(frozenset(BY_ID)))


@given(invocations(), known_facts(), policy_sets)
def test_order_of_argument_keys_does_not_matter(invocation: Invocation, known: Facts, rules: PolicySet) -> None:
    turned = dataclasses.replace(invocation, arguments=_turned(invocation.arguments))
    assert judge(turned, known, rules) == judge(invocation, known, rules)


def _turned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _turned(item) for key, item in reversed(value.items())}
    return [_turned(item) for item in value] if isinstance(value, list) else value


@given(invocations(), known_facts(), st.sampled_from(["zz", "note", "attachment", ""]), json_values)
def test_adding_arguments_never_turns_a_block_into_an_allow(
    invocation: Invocation, known: Facts, key: str, value: Any
) -> None:
    # The shipped policies only ever ask whether something is there.
    known = dataclasses.replace(known, approval=None)
    if key in invocation.arguments:
        return
    more = dataclasses.replace(invocation, arguments={**invocation.arguments, key: value})
    assert judge(more, known, SHIPPED).effect.strictness >= judge(invocation, known, SHIPPED).effect.strictness


@given(invocations(), known_facts(), policy_sets)
def test_stale_state_never_loosens(invocation: Invocation, known: Facts, rules: PolicySet) -> None:
    fresh = judge(invocation, dataclasses.replace(known, state_is_current=True), rules)
    stale = judge(invocation, dataclasses.replace(known, state_is_current=False), rules)
    assert stale.effect.strictness >= fresh.effect.strictness
    assert "state_stale" in [reason.code for reason in stale.reasons]


@given(invocations(), known_facts(), policy_sets, st.sampled_from(["agent", "server", "tool", "binding"]))
def test_missing_facts_always_block(invocation: Invocation, known: Facts, rules: PolicySet, missing: str) -> None:
    assert judge(invocation, dataclasses.replace(known, **{missing: None}), rules).effect is Effect.BLOCK


@given(invocations(), known_facts(), policy_sets)
def test_effect_is_the_strictest_enforced_reason(invocation: Invocation, known: Facts, rules: PolicySet) -> None:
    verdict = judge(invocation, known, rules)
    enforced = [reason.effect for reason in verdict.reasons if reason.mode is Mode.ENFORCE]
    assert verdict.effect is max(enforced, key=lambda effect: effect.strictness, default=Effect.ALLOW)
    assert verdict.would_be.strictness >= verdict.effect.strictness
    if verdict.effect is not Effect.ALLOW:
        assert verdict.reasons[0].effect is verdict.effect
    assert bool(verdict.redactions) == (verdict.effect is Effect.REDACT)


@given(invocations(), known_facts())
def test_approval_lifts_holds_and_nothing_else(invocation: Invocation, known: Facts) -> None:
    rules = rule_set(frozenset(BY_ID))
    asked = judge(invocation, dataclasses.replace(known, approval=None), rules)
    approval = Approval("hld", codec.payload_hash(invocation), known.now + timedelta(minutes=1), True)
    answered = judge(invocation, dataclasses.replace(known, approval=approval), rules)
    assert (answered.effect is Effect.BLOCK) == (asked.effect is Effect.BLOCK)
    assert answered.effect is not Effect.HOLD


@given(json_arguments)
def test_redacted_arguments_hold_none_of_the_secrets_any_more(arguments: dict[str, Any]) -> None:
    content = examine(arguments, (), Limits())
    findings = [finding for detector in DETECTORS for finding in detector.detect(content)]
    redactions = [finding.redaction for finding in findings if finding.redaction is not None]
    after = examine(redact.apply(arguments, redactions), (), Limits())
    before = dict(content.strings)
    for path, text in after.strings:
        kinds = {secret.kind for secret in find_secrets(before[path])}
        assert not find_secrets(text) or not kinds, (before[path], text)
    assert after.keys == content.keys


@given(
    json_arguments,
    st.lists(
        st.builds(
            Redaction,
            st.lists(st.one_of(keys, st.integers(-2, 5)), max_size=3).map(tuple),
            st.tuples(st.integers(-5, 50), st.integers(-5, 50)),
            st.just("#"),
        ),
        max_size=5,
    ),
)
def test_applying_redactions_is_total_and_leaves_the_arguments_alone(
    arguments: dict[str, Any], redactions: list[Redaction]
) -> None:
    before = codec.canonical(arguments)
    result = redact.apply(arguments, redactions)
    assert isinstance(result, dict)
    assert codec.canonical(arguments) == before
    assert redact.apply(arguments, []) == arguments


@given(st.dictionaries(st.text(max_size=5), wild_values, max_size=4))
def test_detectors_see_only_what_is_json(arguments: dict[str, Any]) -> None:
    verdict = judge(call(arguments=arguments))
    refused = [reason for reason in verdict.reasons if reason.code == "arguments_unreadable"]
    if not refused:
        assert _is_json(arguments)


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return value is None or (isinstance(value, float) and math.isfinite(value)) or isinstance(value, str | bool | int)


@given(invocations(), known_facts())
def test_same_input_same_hash_and_any_change_another(invocation: Invocation, known: Facts) -> None:
    first = codec.input_hash(invocation, known, "set")
    assert codec.input_hash(dataclasses.replace(invocation), dataclasses.replace(known), "set") == first
    assert codec.input_hash(dataclasses.replace(invocation, tool="other"), known, "set") != first
    assert codec.input_hash(invocation, dataclasses.replace(known, now=known.now + timedelta(1)), "set") != first
    assert codec.input_hash(invocation, known, "other") != first


@given(invocations(), known_facts(), policy_sets)
def test_context_may_be_shared_and_reused(invocation: Invocation, known: Facts, rules: PolicySet) -> None:
    context = Context(known, rules)
    assert decide(invocation, context) == decide(invocation, context)
