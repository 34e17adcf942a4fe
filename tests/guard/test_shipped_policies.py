"""The policies that come with the product do what their own rows say."""

from __future__ import annotations

from typing import Any

import pytest

from guard.world import policies
from watchfloor import content
from watchfloor.guard.policy import check_policy
from watchfloor.guard.trial import Outcome, run_tests, try_row
from watchfloor.model.agents import ToolEffect
from watchfloor.model.facts import PolicyFacts
from watchfloor.model.verdicts import Effect

BODIES = content.policies()
IDS = [str(body["id"]) for body in BODIES]

EXPECTED = {
    "alignment-to-confirm", "argument-to-confirm", "bulk-recipients", "external-recipient", "jailbreak-side-effect",
    "jailbreak-watch", "large-payment", "maker-credential-write", "rate", "secret-exfiltration",
    "sensitive-data-in-result", "sensitive-data-leaving", "smuggled-content", "unpinned-side-effect",
    "untraced-argument",
}  # fmt: skip


def _rows() -> list[Any]:
    return [pytest.param(outcome, id=f"{body['id']}: {outcome.name}") for body in BODIES for outcome in run_tests(body)]


def test_every_shipped_policy_is_there_and_can_be_published() -> None:
    assert set(IDS) == EXPECTED
    assert policies(*BODIES).members.keys() == EXPECTED


@pytest.mark.parametrize("outcome", _rows())
def test_row_of_a_shipped_policy_comes_out_as_it_says(outcome: Outcome) -> None:
    assert outcome.is_passed, f"expected {outcome.expected}, got {outcome.got}: {outcome.because}"


@pytest.mark.parametrize("body", BODIES, ids=IDS)
def test_shipped_policy_is_documented_and_tested_both_ways(body: dict[str, Any]) -> None:
    assert check_policy(body) == []
    for member in ("description", "blind_spots", "severity", "tactic", "techniques", "mode", "on_error", "version"):
        assert body.get(member), member
    expected = {row["expect"] for row in body["tests"]}
    assert "allow" in expected and len(expected) > 1


@pytest.mark.parametrize("body", BODIES, ids=IDS)
def test_twins_pass_with_every_shipped_policy_in_force(body: dict[str, Any]) -> None:
    everything = policies(*BODIES)
    for row in body["tests"]:
        if row["expect"] == "allow":
            verdict = try_row(row["given"], everything, ToolEffect.SEND)
            by_others = [r.policy_id for r in verdict.reasons if r.policy_id != body["id"] and r.effect is Effect.BLOCK]
            assert verdict.effect is Effect.ALLOW or by_others, (row["name"], verdict.reasons)


def test_shipped_policies_beside_others_keep_their_meaning() -> None:
    (external,) = [body for body in BODIES if body["id"] == "external-recipient"]
    others = [PolicyFacts(body["id"], body["version"], body) for body in BODIES if body is not external]
    for outcome in run_tests(external, others):
        if outcome.expected is Effect.BLOCK:
            assert outcome.got is Effect.BLOCK
