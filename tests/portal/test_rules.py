"""Rules over HTTP: what there is, rules of operators from creation to alert, trials, backtests, suppressions."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
import yaml

from detection.test_kql_rules import BLOCKED
from portal.house import NOON, House
from watchfloor.model.people import Role
from watchfloor.storage import lists

RULE: dict[str, Any] = yaml.safe_load(BLOCKED)


def _busy(**changes: Any) -> dict[str, Any]:
    return {**RULE, "id": "all-blocked", **changes}


def _alerts(house: House, rule_id: str) -> list[dict[str, Any]]:
    answer = house.client(Role.SOC_ANALYST).get("/api/alerts", params={"limit": 200})
    assert answer.status_code == 200, answer.text
    return [a for a in answer.json()["items"] if a["rule_id"] == rule_id]


def test_every_rule_is_listed_with_its_kind_and_state(house: House) -> None:
    items = {r["id"]: r for r in house.client(Role.SOC_ANALYST).get("/api/rules").json()["items"]}
    kinds = {items[i]["kind"] for i in items}
    assert kinds == {"steps", "session", "near-real-time", "scheduled"}
    assert items["maker-credential-write"]["is_enabled"] and not items["maker-credential-write"]["is_custom"]
    one = house.client(Role.SOC_ANALYST).get("/api/rules/maker-credential-write").json()
    assert "CredentialOwner" in one["body"]["query"]
    assert house.client(Role.SOC_ANALYST).get("/api/rules/nothing").status_code == 404


@pytest.mark.claim("rules-custom")
def test_a_rule_of_an_operator_is_checked_run_counted_switched_and_deleted(house: House) -> None:
    admin = house.client(Role.SECURITY_ADMIN)
    made = admin.post("/api/rules", json=RULE)
    assert made.status_code == 201, made.text
    assert made.json()["is_custom"] and made.json()["updated_by"]
    assert admin.post("/api/rules", json=RULE).status_code == 409
    house.stores.arrive({"reason": "policy"}, {"reason": "policy", "at": 10})
    house.jobs.run_now("run_rules")
    (alert,) = _alerts(house, "blocked")
    assert alert["title"] == "billing was stopped 2 times"
    cost = admin.get("/api/rules/blocked").json()["cost"]
    assert (cost["runs"], cost["rows"], cost["hits"]) == (1, 2, 1) and cost["last_ms"] > 0
    assert admin.post("/api/rules/blocked/disable", json={"reason": "too loud"}).json()["reason"] == "too loud"
    house.stores.arrive({"reason": "policy", "at": 20, "user": "mona"})
    house.jobs.run_now("run_rules")
    assert len(_alerts(house, "blocked")) == 1
    assert admin.post("/api/rules/blocked/enable", json={}).json()["is_enabled"]
    changed = {**RULE, "severity": "high"}
    assert admin.put("/api/rules/blocked", json=changed).json()["severity"] == "high"
    house.stores.arrive({"reason": "policy", "at": 30, "user": "ada"})
    house.jobs.run_now("run_rules")
    assert sorted(a["severity"] for a in _alerts(house, "blocked")) == ["high", "medium"]
    assert admin.delete("/api/rules/blocked").status_code == 204
    assert admin.get("/api/rules/blocked").status_code == 404
    assert len(_alerts(house, "blocked")) == 2
    log = house.client(Role.OWNER).get("/api/audit", params={"limit": 50}).json()["items"]
    told = [e["action"] for e in log if e["subject"] == "rule/blocked"]
    assert sorted(told) == ["rule:create", "rule:delete", "rule:disable", "rule:enable", "rule:update"]


@pytest.mark.claim("rules-custom")
def test_a_faulty_rule_is_refused_with_every_fault(house: House) -> None:
    admin = house.client(Role.SECURITY_ADMIN)
    faulty = {**RULE, "query": "AgentActivity | where Verdit == 1"}
    answer = admin.post("/api/rules", json=faulty)
    assert answer.status_code in (400, 422) and "line 1, column 23" in answer.text, answer.text
    failing = {**RULE, "tests": [{**RULE["tests"][0], "expect": [{"count": 7}]}, RULE["tests"][1]]}
    assert "expected 7, found 1" in admin.post("/api/rules", json=failing).text
    contents = _busy(query="AgentContent | extend UserId='', AccountUpn='', Tool=''")
    contents["tests"] = [{"name": "a", "rows": {}, "expect": [{"count": 1}]}, {"name": "b", "rows": {}, "expect": []}]
    assert "holds contents" in admin.post("/api/rules", json=contents).text
    taken = {**RULE, "id": "maker-credential-write"}
    assert admin.post("/api/rules", json=taken).status_code == 409
    assert admin.put("/api/rules/maker-credential-write", json=taken).status_code == 409
    assert admin.delete("/api/rules/maker-credential-write").status_code == 409
    assert admin.post("/api/rules/nothing/disable", json={"reason": "no"}).status_code == 404
    assert house.client(Role.SOC_OPERATOR).post("/api/rules", json=RULE).status_code == 403


def test_a_shipped_rule_in_kql_can_be_switched_off_and_on(house: House) -> None:
    admin = house.client(Role.SECURITY_ADMIN)
    assert admin.post("/api/rules/maker-credential-write/disable", json={}).status_code in (400, 422)
    off = admin.post("/api/rules/maker-credential-write/disable", json={"reason": "all of them are approved"})
    assert not off.json()["is_enabled"]
    assert admin.post("/api/rules/maker-credential-write/enable", json={"reason": "again"}).json()["is_enabled"]
    assert admin.post("/api/rules/handoff-to-unapproved-agent/enable", json={}).json()["is_enabled"]


TOOLS = ("pay", "export", "drop", "pay")
KINDS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "tool-invocation-blocked": ("run_detection", [{"reason": "policy"}]),
    "suspicious-agent-execution": (
        "watch_sessions", [{"reason": "policy", "tool": tool, "at": n * 60} for n, tool in enumerate(TOOLS)],
    ),
    "maker-credential-write": ("run_rules", []),
}  # fmt: skip
"""A rule of each kind: steps, session, near-real-time; the job that runs it, and what it raises an alert about."""


@pytest.mark.claim("rules-switched")
@pytest.mark.parametrize("rule_id", KINDS)
def test_a_rule_of_any_kind_that_is_switched_off_raises_nothing_until_it_is_on_again(
    house: House, rule_id: str
) -> None:
    job, steps = KINDS[rule_id]
    admin = house.client(Role.SECURITY_ADMIN)

    def happen(user: str) -> list[str]:
        if steps:
            house.stores.arrive(*[{**step, "user": user} for step in steps])
        else:
            columns = {"Timestamp": NOON, "TenantId": "default", "ReportId": f"evt_{user}", "UserId": user}
            write = {"ActionType": "ToolCallDecided", "CredentialOwner": "maker", "ToolEffect": "pay",
                     "Verdict": "allow", "AgentId": "billing"}  # fmt: skip
            house.stores.write("AgentActivity", [columns | write])
        house.clock.forward(minutes=5)
        house.jobs.run_now(job)
        house.clock.forward(minutes=-5)
        return sorted(e["id"] for a in _alerts(house, rule_id) for e in a["entities"] if e["kind"] == "user")

    assert happen("griffin") == ["griffin"]
    assert admin.post(f"/api/rules/{rule_id}/disable", json={}).status_code in (400, 422), "a reason is needed"
    off = admin.post(f"/api/rules/{rule_id}/disable", json={"reason": "too loud"}).json()
    assert (off["is_enabled"], off["reason"]) == (False, "too loud")
    assert happen("mona") == ["griffin"], "at once, without a restart; what was raised stays"
    listed = admin.get("/api/rules").json()["items"]
    assert [r["id"] for r in listed if not r["is_enabled"]] == [rule_id]
    assert 'watchfloor_rules{enabled="no"} 1' in house.stranger().get("/metrics").text
    assert admin.post(f"/api/rules/{rule_id}/enable", json={"reason": "needed"}).json()["is_enabled"]
    assert happen("ada") == ["ada", "griffin"]
    log = house.client(Role.OWNER).get("/api/audit", params={"limit": 50}).json()["items"]
    told = {e["action"]: e["detail"]["reason"] for e in log if e["subject"] == f"rule/{rule_id}"}
    assert told == {"rule:disable": "too loud", "rule:enable": "needed"}
    denied = house.client(Role.SOC_OPERATOR).post(f"/api/rules/{rule_id}/disable", json={"reason": "x"})
    assert denied.status_code == 403


@pytest.mark.claim("rules-switched")
def test_a_rule_that_is_switched_off_silences_no_other(house: House) -> None:
    admin = house.client(Role.SECURITY_ADMIN)
    admin.post("/api/rules/tool-invocation-blocked/disable", json={"reason": "too loud"})
    house.stores.arrive(*[{"reason": "policy", "at": n * 60} for n in range(5)])
    house.jobs.run_now("run_detection")
    assert _alerts(house, "tool-invocation-blocked") == []
    assert len(_alerts(house, "persistent-blocked-invocations")) == 1


def test_a_rule_is_tried_on_its_own_tests_and_on_given_rows(house: House) -> None:
    analyst = house.client(Role.SOC_ANALYST)
    own = analyst.post("/api/rules/test", json={"rule": RULE}).json()
    assert own["ok"] and [t["name"] for t in own["trials"]] == ["blocked", "allowed"]
    rows = {"AgentActivity": [{"Timestamp": "2026-11-03T12:00:00Z", "ActionType": "ToolCallDecided",
                               "Verdict": "block", "AgentId": "hr", "UserId": "mona"}]}  # fmt: skip
    given = analyst.post("/api/rules/test", json={"rule": RULE, "rows": rows}).json()
    (alert,) = given["trials"][0]["alerts"]
    assert alert["title"] == "hr was stopped once"
    wrong = analyst.post("/api/rules/test", json={"rule": {**RULE, "severity": "loud"}}).json()
    assert not wrong["ok"] and any("severity" in fault for fault in wrong["faults"])
    misfit = analyst.post("/api/rules/test", json={"rule": RULE, "rows": {"AgentActivity": [{"AgentId": "hr"}]}})
    assert misfit.status_code in (400, 422) and "rows.AgentActivity[0].Timestamp" in misfit.text


@pytest.mark.claim("rules-backtest")
@pytest.mark.parametrize("kind", ["near-real-time", "scheduled"])
def test_a_backtest_tells_what_would_have_been_raised_and_stores_nothing(house: House, kind: str) -> None:
    house.stores.arrive(
        *[{"reason": "policy", "at": at} for at in (-90000, -60, -30)], {"verdict": "allow", "at": -20, "user": "mona"}
    )
    span = {"frequency": "PT10M", "lookback": "PT1H"} if kind == "scheduled" else {}
    house.clock.forward(hours=1)
    client = house.client(Role.SOC_OPERATOR)
    begun = client.post("/api/rules/backtest", json={"rule": {**RULE, "kind": kind, **span}, "days": 3})
    assert begun.status_code == 202, begun.text
    run = begun.json()
    end = time.monotonic() + 60
    while run["state"] in ("queued", "running"):
        assert time.monotonic() < end
        assert run["progress"] is None or 0 <= run["progress"] <= 1
        time.sleep(0.05)
        run = client.get(f"/api/hunting/runs/{run['id']}").json()
    assert run["state"] == "done", run
    page = client.get(f"/api/hunting/runs/{run['id']}/rows").json()
    names = [c["name"] for c in page["columns"]]
    found = [dict(zip(names, row, strict=True)) for row in page["rows"]]
    assert [(a["Title"], a["Count"]) for a in found] == [
        ("billing was stopped once", 1), ("billing was stopped 2 times", 2),
    ]  # fmt: skip
    assert _alerts(house, "blocked") == []


@pytest.mark.claim("rules-backtest")
def test_a_backtest_can_be_cancelled(house: House) -> None:
    house.stores.arrive({"reason": "policy"})
    client = house.client(Role.SOC_OPERATOR)
    rule = {**RULE, "kind": "scheduled", "frequency": "PT5M", "lookback": "P1D"}
    run = client.post("/api/rules/backtest", json={"rule": rule, "days": 30}).json()
    ended = client.delete(f"/api/hunting/runs/{run['id']}").json()
    assert ended["state"] == "cancelled", ended
    every_minute = {**RULE, "kind": "scheduled", "frequency": "PT1M", "lookback": "PT1H"}
    assert "at most 10000" in client.post("/api/rules/backtest", json={"rule": every_minute, "days": 30}).text


@pytest.mark.claim("rules-suppressed")
def test_alerts_of_a_rule_about_somebody_are_suppressed_until_then(house: House) -> None:
    admin = house.client(Role.SECURITY_ADMIN)
    until = (house.clock() + timedelta(hours=2)).isoformat()
    admin.post("/api/rules", json=RULE)
    body = {
        "rule_id": "blocked",
        "entity_kind": "user",
        "entity_id": "griffin",
        "reason": "A drill.",
        "expires_at": until,
    }
    made = admin.post("/api/suppressions", json=body)
    assert made.status_code == 201 and made.json()["is_active"], made.text
    house.stores.arrive({"reason": "policy"})
    house.jobs.run_now("run_rules")
    (alert,) = _alerts(house, "blocked")
    assert alert["status"] == "resolved"
    for wrong in ({"rule_id": "nothing"}, {"entity_id": ""}, {"reason": ""}, {"expires_at": "2020-01-01T00:00:00Z"},
                  {"expires_at": "9999-12-31T23:59:59-23:59"}, {"expires_at": "0001-01-01T00:00:00+23:59"},
                  {"rule_id": "", "entity_id": "", "entity_kind": None}):  # fmt: skip
        assert admin.post("/api/suppressions", json={**body, **wrong}).status_code in (400, 404, 422)
    assert admin.delete(f"/api/suppressions/{made.json()['id']}").status_code == 204
    assert admin.get("/api/suppressions").json()["items"] == []
    house.stores.arrive({"reason": "policy", "at": 3600})
    house.jobs.run_now("run_rules")
    assert sorted(a["status"] for a in _alerts(house, "blocked")) == ["new", "resolved"]
    assert house.client(Role.SOC_OPERATOR).post("/api/suppressions", json=body).status_code == 403


def test_an_address_of_the_uploaded_list_is_an_alert_and_others_are_none(house: House) -> None:
    path = f"/api/hunting/lists/{lists.ADDRESSES}"
    operator = house.client(Role.SOC_OPERATOR)

    def happen(user: str, address: str) -> list[str]:
        house.stores.arrive({"verdict": "allow", "user": user, "address": address})
        house.clock.forward(minutes=5)
        house.jobs.run_now("run_scheduled_rules")
        found = _alerts(house, "access-from-suspicious-address")
        return sorted(e["id"] for a in found for e in a["entities"] if e["kind"] == "user")

    assert happen("griffin", "203.0.113.7") == [], "there is no list yet"
    assert operator.put(path, content="Range,Kind\n203.0.113.0/24,anonymizer\n").status_code in (200, 201)
    assert happen("mona", "203.0.113.9") == ["griffin", "mona"]
    assert happen("ada", "192.0.2.1") == ["griffin", "mona"]
    [alert] = [a for a in _alerts(house, "access-from-suspicious-address") if "mona" in str(a["entities"])]
    assert (alert["severity"], "anonymizer" in alert["description"]) == ("high", True)


def test_a_list_that_rules_ask_is_refused_where_they_could_not_read_it(house: House) -> None:
    path = f"/api/hunting/lists/{lists.ADDRESSES}"
    operator = house.client(Role.SOC_OPERATOR)
    for text, says in (
        ("Address,Kind\n203.0.113.7,tor\n", "Range: string"),
        ("Range,Kind\n203.0.113.7,tor\n203.0.113.700,tor\n", "row 2, column Range"),
        ("Range,Kind\n203.0.113.7,1\n", "types=Range:string,Kind:string"),
    ):
        answer = operator.put(path, content=text)
        assert answer.status_code in (400, 422) and says in answer.text, answer.text
    assert operator.put(path, content="Range,Kind,Note\n2001:db8::/32,tor,exit\n").status_code in (200, 201)


def test_metrics_tell_what_rules_cost_all_together_and_name_none(house: House) -> None:
    house.client(Role.SECURITY_ADMIN).post("/api/rules", json=RULE)
    house.stores.arrive({"reason": "policy"})
    house.jobs.run_now("run_rules")
    text = house.stranger().get("/metrics").text
    assert 'watchfloor_rules{enabled="no"} 0' in text
    seconds = next(line for line in text.splitlines() if line.startswith("watchfloor_rule_seconds_total "))
    assert float(seconds.split()[1]) > 0
    assert "blocked" not in text.replace("agent_blocked", "")
