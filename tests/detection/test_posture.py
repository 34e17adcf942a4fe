"""Posture: what each indicator finds on rows of its own, what risk adds up to, and what a scan remembers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from detection.cases_store import hunter_of
from watchfloor.detection.kql_trial import stored
from watchfloor.detection.posture import MATRIX, parse, shipped, weigh
from watchfloor.detection.posture_scan import ask
from watchfloor.model.errors import InputError
from watchfloor.model.posture import RiskBand, Weight
from watchfloor.storage.compiler import ticks
from watchfloor.storage.hunting import Hunter, Request
from watchfloor.storage.ports import Scope

CHECKS = shipped()
BY_ID = {check.indicator.id: check for check in CHECKS}
CASES = [(check, example) for check in CHECKS for example in check.indicator.tests]

MICROSOFTS = {
    "published-agent": "Low", "weak-instructions": "Medium", "high-autonomy": "Low",
    "prompt-injection-exposure": "High", "privileged-data-access": "Medium", "data-exfiltration-exposure": "Medium",
    "business-system-access": "Medium", "software-development-access": "Medium",
    "no-authentication": "High", "production-environment": "Medium",
    "coordinator-agent": "Medium", "cross-tenant-access": "High", "critical-resource": "Critical",
    "active-threat": "High",
}  # fmt: skip
"""Microsoft's fourteen risk indicators for AI agents, by our ids, with what they weigh at most."""


@pytest.fixture(scope="module")
def hunter() -> Iterator[Hunter]:
    with hunter_of([(check.reads, example) for check, example in CASES]) as found:
        yield found


@pytest.mark.claim("posture-indicators")
@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{c.indicator.id}: {e.name}" for c, e in CASES])
def test_an_indicator_finds_the_agents_that_it_must_and_no_other(case: int, hunter: Hunter) -> None:
    check, example = CASES[case]
    at = ticks(example.now or stored(example.rows, check.reads)[1] + timedelta(seconds=1))
    answer = hunter.hunt(Request(check.indicator.query, Scope(tenants=(f"case-{case}",)), now=at))
    names = [name for name, _ in answer.columns]
    found = sorted((dict(zip(names, row, strict=True)) for row in answer.values()), key=lambda r: r["AgentId"])
    wanted = sorted(example.expect, key=lambda r: r["AgentId"])
    assert [row["AgentId"] for row in found] == [row["AgentId"] for row in wanted]
    for row, expected in zip(found, wanted, strict=True):
        assert _part(row, expected) == dict(expected)


def _part(row: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``row`` the expectation speaks of."""
    return {
        name: _part(row[name], value) if isinstance(value, Mapping) else row[name] for name, value in expected.items()
    }


def test_microsofts_fourteen_are_there_with_what_they_weigh() -> None:
    weighed = {name: BY_ID[name].indicator.level.value.capitalize() for name in MICROSOFTS}
    assert weighed == MICROSOFTS
    assert len(CHECKS) == 20


@pytest.mark.claim("posture-scan")
def test_all_indicators_asked_at_once_say_what_each_says_alone(hunter: Hunter) -> None:
    now = datetime(2026, 11, 3, 13, 1, tzinfo=UTC)
    for case in range(0, len(CASES), 9):
        scope = Scope(tenants=(f"case-{case}",))
        together = ask(hunter, scope, CHECKS, now)
        assert together.failed == {}
        alone = [ask(hunter, scope, [check], now) for check in CHECKS]
        assert together.active == {key: found for answers in alone for key, found in answers.active.items()}
        unknown = {(agent, i) for answers in alone for agent, found in answers.not_assessed.items() for i in found}
        assert {(agent, i) for agent, found in together.not_assessed.items() for i in found} == unknown


def test_an_indicator_that_cannot_be_asked_leaves_the_others_their_answers(hunter: Hunter) -> None:
    check = BY_ID["published-agent"]
    case = CASES.index((check, check.indicator.tests[0]))
    broken = replace(check, indicator=check.indicator.model_copy(update={"id": "broken", "query": "Nowhere"}))
    found = ask(hunter, Scope(tenants=(f"case-{case}",)), [broken, check], datetime(2026, 11, 3, 13, tzinfo=UTC))
    assert list(found.active) == [("a", "published-agent")]
    assert list(found.failed) == ["broken"]


@pytest.mark.claim("posture-risk")
def test_risk_grows_with_likelihood_and_with_impact() -> None:
    order = [RiskBand.NO_KNOWN_RISK, RiskBand.LOW, RiskBand.MEDIUM, RiskBand.HIGH]
    levels = [None, *Weight]
    assert set(MATRIX) == {(likelihood, impact) for likelihood in levels for impact in levels}
    for (likelihood, impact), band in MATRIX.items():
        for worse in levels[levels.index(likelihood) :]:
            assert order.index(MATRIX[worse, impact]) >= order.index(band)
        for worse in levels[levels.index(impact) :]:
            assert order.index(MATRIX[likelihood, worse]) >= order.index(band)


def test_the_gravest_of_each_side_are_the_reasons() -> None:
    found = [(BY_ID[name].indicator, BY_ID[name].indicator.level) for name in
             ("published-agent", "no-authentication", "weak-instructions", "coordinator-agent")]  # fmt: skip
    risk = weigh(found)
    assert (risk.band, risk.likelihood, risk.impact) == (RiskBand.HIGH, Weight.HIGH, Weight.MEDIUM)
    assert risk.reasons == ("coordinator-agent", "no-authentication")
    assert weigh([]).band is RiskBand.NO_KNOWN_RISK


def test_everything_that_is_wrong_with_an_indicator_is_told() -> None:
    text = yaml.safe_dump(
        {
            "id": "other", "title": "t", "raises": ["impact"], "level": "low", "why": "w", "recommendation": "r",
            "blind_spots": "b", "query": "let n = 1;\nAgentContent | project AgentId, Evidence = n, More = 2",
            "tests": [{"name": "one", "rows": {"AgentsInfo": [{"Nme": "x"}]}, "expect": []}] * 2,
        }
    )  # fmt: skip
    with pytest.raises(InputError) as raised:
        parse({"this.yaml": text})
    told = str(raised.value)
    for fault in (
        "needs at least one row that must match", "no column Nme", "Evidence is long", "More as well", "has let or set",
        "AgentContent holds contents", "differs from the file's name",
    ):  # fmt: skip
        assert fault in told
