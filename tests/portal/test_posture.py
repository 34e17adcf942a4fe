"""Posture over the API: what a scan of a company finds, who is told what, and what is accepted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import yaml

from portal.house import House
from watchfloor.model.people import Role
from watchfloor.storage import actions
from watchfloor.storage.compiler import ticks
from watchfloor.storage.drain import drain
from watchfloor.storage.hunting import Request

RISKY: dict[str, Any] = {
    "apiVersion": "watchfloor/v1",
    "kind": "Company",
    "agents": [
        {"id": "billing", "name": "Billing Agent", "version": "1", "maker": "ada", "owner": "mona",
         "instructions": "Send reminders.", "signIn": {"users": "none"},
         "platformTools": [{"name": "Get inbox", "operation": "GetEmails", "credential": "maker"}],
         "tools": [{"server": "mail", "tool": "*", "credential": "app", "scope": "write"},
                   {"server": "bank", "tool": "pay", "credential": "app", "scope": "write"}]},
        {"id": "quiet", "name": "Quiet", "version": "1", "state": "draft", "maker": "ada", "owner": "mona",
         "instructions": "Answers what the opening hours of the canteen are, and nothing else.",
         "signIn": {"users": "integrated"}, "sharedWith": ["mona"], "tools": []},
    ],
}  # fmt: skip


def scan(house: House) -> None:
    """What the jobs do one after the other: write the inventory down, take it in, look at it."""
    house.work("publish_inventory", "publish_alerts")
    drain(house.log, house.stores.events)
    house.work("scan_posture")


@pytest.fixture
def scanned(house: House) -> House:
    """The company with an agent that has much against it and one that has nothing, looked at once."""
    answer = house.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": yaml.safe_dump(RISKY)})
    assert answer.status_code == 200, answer.text
    scan(house)
    return house


def ask(house: House, path: str, role: Role = Role.SOC_ANALYST, **params: Any) -> Any:
    answer = house.client(role).get(f"/api{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def active(house: House, agent: str, role: Role = Role.SOC_ANALYST) -> dict[str, dict[str, Any]]:
    """The active indicators of an agent, each with its finding."""
    standing = ask(house, f"/agents/{agent}/posture", role)["indicators"]
    return {one["indicator"]: one["finding"] for one in standing if one["state"] == "active"}


@pytest.mark.claim("posture-scan")
def test_a_scan_finds_what_weakens_an_agent_and_nothing_against_a_sound_one(scanned: House) -> None:
    found = active(scanned, "billing")
    assert {"no-authentication", "weak-instructions", "maker-credentials", "business-system-access"} <= set(found)
    assert found["maker-credentials"]["evidence"] == {"tools": ["Get inbox"], "changing": []}
    assert active(scanned, "quiet") == {}
    risks = {a["id"]: a["posture"] for a in ask(scanned, "/agents")["items"]}
    assert risks == {"billing": "high", "hr": risks["hr"], "quiet": "no_known_risk"}
    assert ask(scanned, "/agents/billing")["posture"] == "high"
    assert [a["id"] for a in ask(scanned, "/agents", posture="high")["items"]] == ["billing"]
    told = ask(scanned, "/agents/billing/posture")
    assert (told["likelihood"], told["impact"]) == ("high", "medium")
    assert "no-authentication" in told["reasons"]
    states = {one["indicator"]: one["state"] for one in ask(scanned, "/agents/hr/posture")["indicators"]}
    assert states["no-authentication"] == "not_assessed", "nobody says how its users sign in"


@pytest.mark.claim("posture-scan")
def test_a_finding_that_is_mended_ends_and_it_is_known_when_it_held(scanned: House) -> None:
    began = scanned.clock()
    scanned.clock.forward(minutes=10)
    mended = {**RISKY, "agents": [{**RISKY["agents"][0], "version": "2", "signIn": {"users": "integrated"}}]}
    scanned.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": yaml.safe_dump(mended)})
    scan(scanned)
    assert "no-authentication" not in active(scanned, "billing")
    (ended,) = ask(scanned, "/posture/findings", state="not_active")["items"]
    assert (ended["indicator"], ended["agent_id"]) == ("no-authentication", "billing")
    assert ended["since"] == began.isoformat().replace("+00:00", "Z")
    assert ended["last_seen"] == scanned.clock().isoformat().replace("+00:00", "Z")
    weak = active(scanned, "billing")["weak-instructions"]
    assert (weak["since"], weak["last_seen"]) == (ended["since"], ended["last_seen"])


def test_an_agent_is_not_evaluated_before_anybody_has_looked(house: House) -> None:
    assert {a["posture"] for a in ask(house, "/agents")["items"]} == {"not_evaluated"}
    told = ask(house, "/agents/hr/posture")
    assert (told["risk"], told["scanned_at"]) == ("not_evaluated", None)
    assert {one["state"] for one in told["indicators"]} == {"not_assessed"}
    assert ask(house, "/posture")["risk"]["not_evaluated"] == 2


def test_findings_are_asked_by_indicator_level_and_risk_and_come_in_pages(scanned: House) -> None:
    everything = ask(scanned, "/posture/findings")["items"]
    assert {f["agent_id"] for f in everything} == {"billing", "hr"}
    mine = ask(scanned, "/posture/findings", indicator="maker-credentials")["items"]
    assert [f["agent_id"] for f in mine] == ["billing"]
    assert {f["level"] for f in ask(scanned, "/posture/findings", level="high", agent="billing")["items"]} == {"high"}
    assert {f["agent_id"] for f in ask(scanned, "/posture/findings", risk="high")["items"]} == {"billing"}
    paged, after = [], ""
    while after is not None:
        page = ask(scanned, "/posture/findings", after=after, limit=3)
        paged += page["items"]
        after = page["next"]
    assert paged == everything
    by_id = {i["id"]: i for i in ask(scanned, "/posture/indicators")["items"]}
    assert by_id["maker-credentials"]["active"] == 1
    assert by_id["no-authentication"]["not_assessed"] == 1
    assert sum(i["active"] for i in by_id.values()) == len(everything) == ask(scanned, "/posture")["findings"]
    assert scanned.client().get("/api/posture/findings", params={"indicator": "none"}).status_code == 404


@pytest.mark.claim("posture-exception")
def test_an_accepted_finding_counts_for_nothing_until_its_day(scanned: House) -> None:
    admin = scanned.client(Role.IT_ADMIN)
    until = scanned.clock() + timedelta(days=30)
    body = {"reason": "A kiosk behind a badge reader.", "expires_at": until.isoformat()}
    wanted = [name for name, f in active(scanned, "billing").items() if f["level"] in ("high", "medium")]
    for name in wanted:
        answer = admin.put(f"/api/agents/billing/posture/exceptions/{name}", json=body)
        assert answer.status_code == 200, answer.text
    assert ask(scanned, "/agents/billing")["posture"] == "low", "it is published still"
    assert active(scanned, "billing")["no-authentication"]["exception"]["reason"] == body["reason"]
    assert ask(scanned, "/posture")["excepted"] == len(wanted)
    scan(scanned)
    assert ask(scanned, "/agents/billing")["posture"] == "low"
    with scanned.stores.control.read() as tx:
        assert len(actions.list_audit(tx, action="posture:except", limit=100)) == len(wanted)
    assert admin.delete(f"/api/agents/billing/posture/exceptions/{wanted[0]}").status_code == 200
    scanned.clock.forward(days=31)
    scan(scanned)
    assert ask(scanned, "/agents/billing")["posture"] == "high"
    assert {x["is_expired"] for x in ask(scanned, "/posture/exceptions")["items"]} == {True}


@pytest.mark.claim("posture-exception")
def test_nobody_accepts_the_risks_of_their_own_agent_or_for_ever_or_unread(scanned: House) -> None:
    day = (scanned.clock() + timedelta(days=1)).isoformat()
    at = "/api/agents/billing/posture/exceptions"
    body = {"reason": "It is mine.", "expires_at": day}
    assert scanned.client(Role.IT_ADMIN, "mona").put(f"{at}/no-authentication", json=body).status_code == 403
    assert scanned.client(Role.SOC_ANALYST).put(f"{at}/no-authentication", json=body).status_code == 403
    admin = scanned.client(Role.IT_ADMIN)
    late = {**body, "expires_at": (scanned.clock() + timedelta(days=400)).isoformat()}
    assert admin.put(f"{at}/no-authentication", json=late).status_code == 422
    assert admin.put(f"{at}/no-authentication", json={**body, "reason": " "}).status_code == 422
    assert admin.put(f"{at}/active-threat", json=body).status_code == 422
    assert admin.put(f"{at}/orphan", json=body).status_code == 409
    assert admin.delete(f"{at}/orphan").status_code == 404


@pytest.mark.claim("story-it-serious-only")
def test_the_it_role_learns_of_no_alert_but_the_open_grave_ones(scanned: House) -> None:
    scanned.attack()
    scan(scanned)
    threat = active(scanned, "billing")["active-threat"]
    shown = active(scanned, "billing", Role.IT_ADMIN).get("active-threat")
    grave = threat["evidence"]["critical"] + threat["evidence"]["high"]
    assert (shown is not None) == (grave > 0)
    assert shown is None or set(shown["evidence"]) == {"critical", "high"}
    alerts = scanned.client(Role.OWNER).get("/api/alerts").json()["items"]
    for alert in alerts:
        answer = scanned.client(Role.OWNER).patch(f"/api/alerts/{alert['id']}", json={"status": "resolved"})
        assert answer.status_code == 200, answer.text
    scanned.clock.forward(minutes=6)
    scan(scanned)
    assert "active-threat" not in active(scanned, "billing")
    findings = [
        ask(scanned, "/posture/findings", Role.IT_ADMIN, state=state)["items"] for state in ("active", "not_active")
    ]
    assert not [f for some in findings for f in some if f["indicator"] == "active-threat"]
    assert "active-threat" not in str(ask(scanned, "/posture/trend", Role.IT_ADMIN)["items"][0]["active"])


def test_each_day_keeps_what_was_counted_last(scanned: House) -> None:
    scanned.clock.forward(days=1)
    scan(scanned)
    days = ask(scanned, "/posture/trend", days=7)["items"]
    assert [day["day"] for day in days] == ["2026-11-03", "2026-11-04"]
    assert days[-1]["risk"]["high"] == 1
    assert days[-1]["active"]["maker-credentials"] == 1


def test_a_scan_over_what_did_not_change_writes_nothing(scanned: House) -> None:
    def audited() -> int:
        with scanned.stores.control.read() as tx:
            return len(actions.list_audit(tx, action="posture:scan", limit=1000))

    scan(scanned)
    before = audited()
    scanned.clock.forward(minutes=6)
    scan(scanned)
    assert audited() == before


@pytest.mark.claim("posture-kql")
def test_findings_are_a_table_that_says_what_the_api_says(scanned: House) -> None:
    until = (scanned.clock() + timedelta(days=30)).isoformat()
    body = {"reason": "A kiosk.", "expires_at": until}
    at = "/api/agents/billing/posture/exceptions/no-authentication"
    assert scanned.client(Role.IT_ADMIN).put(at, json=body).status_code == 200
    scanned.work("publish_posture")
    drain(scanned.log, scanned.stores.events)
    request = Request("PostureFindings", now=ticks(scanned.clock() + timedelta(seconds=1)))
    answer = scanned.deps.hunter.hunt(request)
    names = [name for name, _ in answer.columns]
    rows = [dict(zip(names, row, strict=True)) for row in answer.values()]
    told = {(f["agent_id"], f["indicator"]): f for f in ask(scanned, "/posture/findings")["items"]}
    active_rows = {(r["AgentId"], r["Indicator"]): r for r in rows if r["State"] == "active"}
    assert active_rows.keys() == told.keys()
    for key, row in active_rows.items():
        assert (row["Level"], row["Evidence"]) == (told[key]["level"], told[key]["evidence"])
        assert (row["ExceptedUntil"] is not None) == (told[key]["exception"] is not None)
    unknown = {r["Indicator"] for r in rows if r["AgentId"] == "hr" and r["State"] == "not_assessed"}
    standing = ask(scanned, "/agents/hr/posture")["indicators"]
    assert unknown == {one["indicator"] for one in standing if one["state"] == "not_assessed"}
