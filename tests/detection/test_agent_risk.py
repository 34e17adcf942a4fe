"""Detections about agents by Microsoft's names: the attack of each rule raises the risk it says, its twins none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from detection.rows import NOON
from detection.stores import Stores, open_stores
from detection.test_sessions import arrive
from watchfloor.detection import sessions
from watchfloor.detection.keep import Kept, keep
from watchfloor.detection.kql_rule import KqlRule, prepare
from watchfloor.detection.kql_trial import find
from watchfloor.detection.rules import shipped
from watchfloor.kql.schema import Schema
from watchfloor.model.agents import AgentState
from watchfloor.model.cases import AlertDraft
from watchfloor.model.people import PERMISSIONS, RiskLevel, Role
from watchfloor.model.risk import Risk, RiskDetection
from watchfloor.storage import cases, inventory, people, risks
from watchfloor.storage.compiler import catalogue
from watchfloor.storage.inventory import Agent
from watchfloor.storage.people import User

RULES = {rule.id: rule for rule in shipped().kql if rule.risk}
SESSION_RULES = {rule.id: rule for rule in shipped().sessions if rule.risk}

EXPECTED = {
    "agent-for-risky-user": ("riskyUserSignIn", RiskLevel.NONE, 0),
    "failed-access-attempts": ("failedAccessAttempt", RiskLevel.MEDIUM, 1),
    "sign-in-spike": ("signInSpike", RiskLevel.MEDIUM, 1),
    "listed-account-active": ("threatIntelligenceAccount", RiskLevel.HIGH, 2),
}
"""The detection, the level that the agent gets by it, and how many alerts come with it."""


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with open_stores(tmp_path, now=lambda: NOON + timedelta(hours=1)) as opened:
        with opened.control.tx("root") as tx:
            for user in ("kim", "lee"):
                people.save_user(tx, User(user, "https://idp.zava.example", user, tx.now, is_enabled=True))
            for agent in ("desk", "billing"):
                inventory.save_agent(
                    tx, Agent(agent, agent.title(), AgentState.PUBLISHED, "1", tx.now, tx.now, updated_by="root")
                )
        yield opened


def drafts_of(rule: KqlRule, number: int) -> tuple[AlertDraft, ...]:
    """What the rule finds in its own example."""
    example = rule.tests[number]
    schema: Schema = catalogue()
    for name, rows in example.lists.items():
        known = schema.lists[name]
        cells = tuple(tuple(row.get(column.name, "") for column in known.columns) for row in rows)
        schema = Schema(schema.tables, {**schema.lists, name: type(known)(name, known.columns, cells, known.key)})
    prepared, faults = prepare(rule)
    assert prepared is not None, faults
    return tuple(find(prepared, example.rows, example.now, schema).drafts)


def kept(stores: Stores, drafts: tuple[AlertDraft, ...] | list[AlertDraft]) -> Kept:
    with stores.control.tx("system:detection", audited=False) as tx:
        return keep(tx, drafts, "test")


def risk_of(stores: Stores, agent: str = "desk") -> tuple[Risk, list[RiskDetection]]:
    with stores.control.read() as tx:
        return risks.find(tx, "agent", agent), risks.detections(tx, "agent", agent)


def test_every_rule_that_speaks_of_risk_is_looked_at_here() -> None:
    assert set(RULES) == set(EXPECTED)
    assert set(SESSION_RULES) == {"unfamiliar-resource-access"}


@pytest.mark.claim("risk-agents")
@pytest.mark.parametrize("rule_id", EXPECTED)
def test_the_attack_of_each_rule_is_noted_once_by_microsofts_name(stores: Stores, rule_id: str) -> None:
    detection, level, alerts = EXPECTED[rule_id]
    drafts = drafts_of(RULES[rule_id], 0)
    assert len(kept(stores, drafts).raised) == alerts
    assert kept(stores, drafts).raised == [], "what is found again is not raised again"
    now, seen = risk_of(stores)
    assert {d.detection for d in seen} == {detection} and now.level is level
    assert len(seen) == (2 if rule_id == "agent-for-risky-user" else 1), "one for each occurrence"
    assert now.reasons


@pytest.mark.parametrize("rule_id", EXPECTED)
def test_what_looks_like_it_and_is_none_leaves_the_agent_alone(stores: Stores, rule_id: str) -> None:
    for number, example in enumerate(RULES[rule_id].tests):
        if not example.expect:
            kept(stores, drafts_of(RULES[rule_id], number))
    assert risk_of(stores) == (Risk(), [])


def test_a_first_turn_to_another_tool_server_is_noted_and_raises_no_alert(stores: Stores, tmp_path: Path) -> None:
    rule = SESSION_RULES["unfamiliar-resource-access"]
    for number, example in enumerate(rule.tests):
        directory = tmp_path / f"events-{number}"
        directory.mkdir()
        with open_stores(directory) as events:
            now = arrive(events, example.given)
            found = sessions.ask(events.activity, shipped(), rule, now)
        if example.expect:
            assert found and not kept(stores, found).raised
        else:
            assert not found
    now_, seen = risk_of(stores, "billing")
    assert [d.detection for d in seen] == ["unfamiliarResourceAccess"] and now_.level is RiskLevel.LOW
    with stores.control.read() as tx:
        assert cases.list_alerts(tx, PERMISSIONS[Role.SOC_ANALYST]) == []


def test_the_users_of_a_rule_about_agents_are_left_alone(stores: Stores) -> None:
    kept(stores, drafts_of(RULES["agent-for-risky-user"], 0))
    with stores.control.read() as tx:
        assert risks.find(tx, "user", "kim") == Risk()


def test_a_listed_account_is_refused_everywhere_until_somebody_has_looked(stores: Stores) -> None:
    kept(stores, drafts_of(RULES["listed-account-active"], 0))
    with stores.control.read() as tx:
        user, agent = people.find_user(tx, "kim"), inventory.find_agent(tx, "desk")
    assert user is not None and user.risk is RiskLevel.HIGH
    assert agent is not None and agent.risk is RiskLevel.HIGH
