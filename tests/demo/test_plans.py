"""The plans fit the agents that carry them out, and the company fits together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import pytest

from watchfloor.guard.policy import check_policy
from watchfloor.guard.trial import run_tests
from watchfloor_demo import company, manifest
from watchfloor_demo.agents.language import PlanError
from watchfloor_demo.agents.plans import Plan, Step, check_steps, plans
from watchfloor_demo.attack import script

EFFECTS = manifest.TOOLS


def calls(steps: Sequence[Step]) -> Iterator[tuple[str, str]]:
    for step in steps:
        if "call" in step:
            server, tool = step["call"].split(".")
            yield server, tool
        for nested in ("steps", "else"):
            yield from calls(step.get(nested, ()))


def handed(steps: Sequence[Step]) -> Iterator[Step]:
    for step in steps:
        if "hand" in step:
            yield step
        for nested in ("steps", "else"):
            yield from handed(step.get(nested, ()))


@pytest.mark.parametrize("plan", plans().values(), ids=lambda p: p.id)
def test_an_agent_has_every_tool_that_its_plan_calls(plan: Plan) -> None:
    agent = company.agents()[plan.agent]
    for server, tool in calls(plan.steps):
        grants = [g for g in agent.grants if g.server == server and g.tool in ("*", tool)]
        assert grants, f"{agent.id} may not use {server}.{tool}"
        is_read = EFFECTS[server][tool] == "read"
        assert is_read or any(g.scope == "write" for g in grants), f"{server}.{tool} needs scope write"


@pytest.mark.parametrize("plan", plans().values(), ids=lambda p: p.id)
def test_work_is_handed_only_to_connected_agents_that_know_the_plan(plan: Plan) -> None:
    for step in handed(plan.steps):
        assert step["hand"] in company.agents()[plan.agent].connected
        assert plans()[step["plan"]].agent == step["hand"]


@pytest.mark.parametrize("plan", [p for p in plans().values() if p.weight], ids=lambda p: p.id)
def test_background_plans_have_somebody_who_asks(plan: Plan) -> None:
    agent = company.agents()[plan.agent]
    assert agent.state == "published"
    if agent.runs_as == "itself":
        assert not plan.asks
    else:
        assert plan.asks and [p for p in company.members(*plan.groups) if p.id != script().victim]


def test_every_published_agent_is_at_work() -> None:
    busy = {p.agent for p in plans().values() if p.weight} | {
        step["hand"] for p in plans().values() for step in handed(p.steps)
    }
    assert {a.id for a in company.agents().values() if a.state == "published"} == busy


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ([], r"test: a list of steps"),
        ([{"cal": "a.b"}], r"test\[0\]: a step is one of"),
        ([{"say": "x"}, {"call": "a.b", "wiht": {}}], r"test\[1\]: call .* wiht"),
        ([{"each": "$x", "steps": [{"say": "x"}]}], r"lacks: as"),
        ([{"call": "send"}], r"names server.tool"),
        ([{"when": {}, "steps": [{"nope": 1}]}], r"test\[0\].steps\[0\]"),
    ],
)
def test_a_malformed_plan_is_refused_with_its_place(steps: list[Any], named: str) -> None:
    with pytest.raises(PlanError, match=named):
        check_steps(steps, "test")


def test_the_company_has_the_shapes_that_the_story_needs() -> None:
    agents, people = company.agents().values(), company.people()
    assert len(agents) == 20 and len(people) >= 40
    assert len(company.members("makers")) >= 8
    assert {a.maker for a in agents} | {a.owner for a in agents} | {a.sponsor for a in agents} <= set(people)
    assert {a.state for a in agents} == {"published", "draft", "retired"}
    assert {a.protocol for a in agents} == {"2026-07-28", "2025-11-25"}
    assert {a.runs_as for a in agents} == {"user", "itself"}
    assert [a.id for a in agents if a.connected]
    billing = company.agents()["customer-billing"]
    unused = {(g.server, g.credential, g.scope) for g in billing.grants}
    assert ("knowledge", "maker", "write") in unused
    assert not any(
        EFFECTS[server][tool] != "read"
        for plan in plans().values()
        if plan.agent == billing.id
        for server, tool in calls(plan.steps)
        if server == "knowledge"
    )


def test_two_starts_show_the_same_invoices() -> None:
    today = date(2026, 11, 23)
    assert company.invoice_rows(today) == company.invoice_rows(today)
    assert {row["status"] for row in company.invoice_rows(today)} == {"open", "paid", "overdue"}


def test_everybody_has_an_address_of_their_own() -> None:
    addresses = [p.address for p in company.people().values()] + [a.address for a in company.agents().values()]
    assert len(set(addresses)) == len(addresses)
    assert script().address not in addresses


def test_the_companys_own_policies_pass_their_own_tests() -> None:
    for body in manifest.policies():
        assert check_policy(body) == []
        assert [o.name for o in run_tests(body) if not o.is_passed] == []
        assert all(supplier.iban in body["when"] for supplier in company.suppliers())
