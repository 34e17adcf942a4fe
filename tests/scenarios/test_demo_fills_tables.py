"""The demo company fills every column of every event table: what the product can show, the demo shows.

One start of `watchfloor up --demo`, the attack and the two poisoned pages that its welcome suggests, then one query a
table through the API. What nothing fills is in `UNFILLED`, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from scenarios.company import wait_until
from scenarios.demo import Demo, running_demo
from watchfloor.storage.table_shape import Column, Table
from watchfloor.storage.tables import TABLES

pytestmark = pytest.mark.slow

SECONDS = 90.0
PASSWORD = "correct-horse-battery-staple-9"
PLANS = ("supplier-poisoned", "market-poisoned")

UNFILLED: dict[tuple[str, str], str] = {}
"""(table, column) -> why no row of the demo fills it."""

LOOK_FIRST = {
    "displayName": "Who would have to sign in anew?",
    "state": "enabledForReportingButNotEnforced",
    "conditions": {"users": {"include": ["All"]}, "resources": {"servers": ["*"], "toolClasses": ["read", "write"]}},
    "grantControls": {"operator": "AND", "builtInControls": ["mfa"]},
    "sessionControls": {"signInFrequency": {"frequencyInterval": "everyTime"}},
}
"""An access policy that an administrator tries before enabling it: what it would refuse is on record."""

FILLED = {
    "string": "isnotempty({0})",
    "guid": "isnotempty(tostring({0}))",
    "dynamic": 'tostring({0}) !in ("", "[]", "{{}}", "null")',
}
"""KQL that is true of a filled cell, by type of column; of all others a cell is filled that is not null."""


def unfilled(demo: Demo, table: Table) -> set[str]:
    """Columns and aliases of a table that no row fills."""
    types = {column.name: column.type for column in table.columns}
    columns = [*table.columns, *(Column(other, types[name], "") for other, name in table.aliases)]
    counts = ", ".join(f"{c.name}_ = countif({FILLED.get(c.type, 'isnotnull({0})').format(c.name)})" for c in columns)
    [row] = demo.rows(f"{table.name} | summarize {counts}")
    return {c.name for c in columns if not row[f"{c.name}_"]}


def knock_and_enter(demo: Demo, name: str, password: str) -> None:
    """What happens at the doors: a wrong password, a sign-in, a sign-out, and a stranger with an agent's id."""
    with httpx.Client(base_url=demo.client.base_url, timeout=60, trust_env=False) as browser:
        for given, status in (("wrong", 401), (password, 200)):
            answer = browser.post("/api/session", json={"name": name, "password": given})
            assert answer.status_code == status, answer.text
        out = browser.delete("/api/session", headers={"x-csrf-token": answer.json()["csrf_token"]})
        assert out.status_code == 204, out.text
        form = {"grant_type": "client_credentials", "client_id": "customer-billing", "client_secret": "wrong"}
        assert browser.post("/sts/token", data=form).status_code == 401


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo on free ports, attacked once, its poisoned pages read."""
    with running_demo(tmp_path_factory.mktemp("demo"), rate=8) as running:
        answer = running.client.put("/api/access/policies/look-first", json=LOOK_FIRST)
        assert answer.status_code == 200, answer.text
        running.play("attack", "--count", "6", "--pause", "0.1")
        for plan in PLANS:
            running.play("ask", plan)
        # The demo makes no operators: the first one ends the set-up link, which is whoever started it's to use.
        wanda = {"id": "wanda", "roles": ["soc_analyst"], "password": PASSWORD}
        assert running.client.post("/api/operators", json=wanda).status_code == 201
        knock_and_enter(running, "wanda", PASSWORD)
        yield running


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_the_demo_fills_every_column(demo: Demo, table: Table) -> None:
    expected = {column for name, column in UNFILLED if name == table.name}
    missing = set[str]()

    def is_filled() -> bool:
        missing.clear()
        missing.update(unfilled(demo, table) - expected)
        return not missing

    try:
        wait_until(is_filled, SECONDS, f"{table.name}")
    except AssertionError:
        pytest.fail(f"{table.name}: nothing fills {', '.join(sorted(missing))}")
    assert unfilled(demo, table) == expected, "what is filled needs no exception"


def test_every_exception_is_of_a_column_that_exists() -> None:
    assert {name for name, _ in UNFILLED} <= set(TABLES)
    for name, column in UNFILLED:
        table = TABLES[name]
        assert column in {*(c.name for c in table.columns), *(other for other, _ in table.aliases)}


def test_what_agents_tell_and_what_the_gateway_saw_is_one_trace(demo: Demo) -> None:
    query = (
        "AgentActivity | where isnotempty(TraceId)"
        " | summarize Told = countif(ActionType == 'ExecuteToolBySDK'), Seen = countif(ActionType == 'ToolCallDecided')"
        " by TraceId | where Told > 0 and Told == Seen | count"
    )
    wait_until(lambda: demo.rows(query)[0]["Count"] > 5, SECONDS, "traces in which both tell of the same calls")


def test_the_session_that_an_agent_tells_of_is_the_one_that_the_gateway_knows(demo: Demo) -> None:
    query = (
        "AgentActivity | where isnotempty(SessionId) and AgentId != 'spreadsheet-helper'"
        " | summarize Told = countif(isnotempty(SourceId)), Seen = countif(isempty(SourceId)) by SessionId, UserId"
        " | where Told > 0 and Seen > 0 | count"
    )
    wait_until(lambda: demo.rows(query)[0]["Count"] > 0, SECONDS, "a session that both tell of")


def test_a_hand_over_is_told_of_on_both_sides(demo: Demo) -> None:
    query = (
        "AgentActivity | where isnotempty(TargetAgentId) | project TraceId, SpanId, Parent = AgentId, TargetAgentId"
        " | join kind=inner (AgentActivity | where ActionType == 'InvokeAgent' and isnotempty(ParentAgentId)"
        "   | project TraceId, ParentSpanId, Child = AgentId, ParentAgentId)"
        "   on TraceId, $left.SpanId == $right.ParentSpanId"
        " | where Parent == ParentAgentId and TargetAgentId == Child | count"
    )
    wait_until(lambda: demo.rows(query)[0]["Count"] > 0, SECONDS, "a hand-over")


def test_telemetry_comes_in_both_forms_and_from_an_agent_that_nobody_registered(demo: Demo) -> None:
    query = (
        "AgentActivity | where isnotempty(SourceId)"
        " | summarize Doors = make_set(SourceDoor), Agents = make_set(AgentId), Actions = make_set(ActionType)"
    )
    expected = {
        "Doors": {"otlp-json", "a365"},
        "Agents": {"customer-billing", "spreadsheet-helper"},
        "Actions": {
            "InvokeAgent", "InferenceCall", "ExecuteToolBySDK", "GuardrailDecision", "OutputMessages", "Retrieval",
            "Embeddings", "McpRequest",
        },
    }  # fmt: skip

    def is_there() -> bool:
        [row] = demo.rows(query)
        return all(wanted <= set(row[name]) for name, wanted in expected.items())

    wait_until(is_there, SECONDS, str(expected))
    registered = {agent["id"] for agent in demo.client.get("/api/agents").json()["items"]}
    assert "spreadsheet-helper" not in registered


def test_sign_ins_and_tokens_are_there_in_microsofts_shapes(demo: Demo) -> None:
    query = (
        "IdentityLogonEvents | summarize Actions = make_set(ActionType), Reasons = make_set(FailureReason),"
        " People = make_set_if(AccountObjectId, Application == 'Watchfloor portal' and isnotempty(AccountObjectId))"
    )

    def is_there() -> bool:
        [row] = demo.rows(query)
        return {"LogonSuccess", "LogonFailed", "LogonEnded"} <= set(row["Actions"]) and "wanda" in row["People"]

    wait_until(is_there, SECONDS, "the sign-ins of people and agents")
    [row] = demo.rows(
        "EntraIdSignInEvents | summarize Agents = dcountif(AgentId, isnotempty(AgentId)),"
        " ForUsers = countif(LogonType has 'nonInteractiveUser' and ErrorCode == 0 and RiskLevelAggregated >= 1),"
        " Refused = countif(ErrorCode == 7000215), Twice = count() - dcount(ReportId)"
    )
    assert row["Agents"] > 1 and row["ForUsers"] > 0 and row["Refused"] == 1 and row["Twice"] == 0, row


@pytest.mark.claim("least-privilege")
def test_less_than_each_agent_was_granted_would_have_done_for_every_call_that_it_made(demo: Demo) -> None:
    counted = demo.rows("AgentActivity | where ActionType == 'ToolCallDecided' | summarize N = count() by AgentId")
    narrower = 0
    for agent in demo.items("/api/agents"):
        proposal = demo.client.get(f"/api/agents/{agent['id']}/least-privilege").json()
        narrower += proposal["is_narrower"]
        if proposal["is_narrower"] and proposal["calls"]:
            begun = demo.client.post(f"/api/agents/{agent['id']}/least-privilege/trial", json={}).json()
            done = wait_until(lambda run=begun["id"]: _ended(demo, run), 60, f"the trial of {agent['id']}")
            assert done["state"] == "done", done
            assert any(note.startswith("0 of ") for note in done["notes"]), (agent["id"], done["notes"])
    assert narrower >= 5 and len(counted) >= 5


def _ended(demo: Demo, run_id: str) -> dict[str, Any] | None:
    run: dict[str, Any] = demo.client.get(f"/api/hunting/runs/{run_id}").json()
    return run if run["state"] not in ("queued", "running") else None
