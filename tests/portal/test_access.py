"""Conditional access for people and tools: our API, Graph's, what-if, and the pages."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from guard.access.bodies import BLOCK, body
from portal.house import NOON, House
from watchfloor import content
from watchfloor.identity import access
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role

ENTRA = json.loads((Path(__file__).parent.parent / "guard" / "access" / "entra.json").read_text("utf-8"))["value"]
GRAPH = "/v1.0/identity/conditionalAccess/policies"
NARROW = {"users": {"include": ["griffin"]}}


def ship(house: House) -> None:
    """The policies that come with the product, as a server's start publishes them."""
    with house.stores.control.tx("test") as tx:
        access.publish_defaults(tx, content.access_policies())


# -- our own API --------------------------------------------------------------------------------------------------


@pytest.mark.claim("access-published")
def test_a_policy_is_published_projected_audited_and_taken_away(house: House) -> None:
    admin = house.client(Role.ACCESS_ADMIN)
    done = admin.put("/api/access/policies/p1", json=body(conditions=NARROW))
    assert (done.status_code, done.json()["version"], done.json()["warnings"]) == (200, 1, [])
    assert house.projected(Kind.ACCESS_POLICY, "p1")["body"]["displayName"] == "P1"
    again = admin.put("/api/access/policies/p1", json=body(conditions=NARROW, state="disabled"))
    assert again.json()["version"] == 2
    assert house.projected(Kind.ACCESS_POLICY, "p1") is None
    detail = admin.get("/api/access/policies/p1").json()
    assert [(v["version"], v["state"], v["is_current"]) for v in detail["versions"]] == [
        (2, "disabled", True), (1, "enabled", False),
    ]  # fmt: skip
    assert admin.delete("/api/access/policies/p1").status_code == 204
    assert admin.get("/api/access/policies").json()["items"] == []
    entries = house.client(Role.AUDITOR).get("/api/audit?limit=50").json()["items"]
    assert [e["action"] for e in entries if e["action"].startswith("access-policy")] == [
        "access-policy:withdraw", "access-policy:publish", "access-policy:publish",
    ]  # fmt: skip


@pytest.mark.claim("access-published")
@pytest.mark.parametrize(
    ("role", "reads", "writes"),
    [(Role.ACCESS_ADMIN, 200, 200), (Role.SECURITY_ADMIN, 200, 200), (Role.SOC_ANALYST, 200, 403),
     (Role.AUDITOR, 200, 403), (Role.SOC_OPERATOR, 200, 403), (Role.IT_ADMIN, 403, 403), (Role.MAKER, 403, 403)],
)  # fmt: skip
def test_policies_are_written_by_those_who_may_and_read_by_the_soc(
    house: House, role: Role, reads: int, writes: int
) -> None:
    client = house.client(role)
    assert client.get("/api/access/policies").status_code == reads
    assert client.put("/api/access/policies/p1", json=body(conditions=NARROW)).status_code == writes
    assert client.get(GRAPH).status_code == reads
    assert client.patch(f"{GRAPH}/p1", json={"state": "disabled"}).status_code == (204 if writes == 200 else writes)


@pytest.mark.claim("access-checked")
def test_a_wrong_policy_is_refused_with_every_problem_and_nothing_is_stored(house: House) -> None:
    admin = house.client(Role.ACCESS_ADMIN)
    wrong = body(grantControls={"builtInControls": ["passwordChange", "block"]}, state="on")
    refused = admin.put("/api/access/policies/p1", json=wrong)
    assert refused.status_code == 422
    told = admin.post("/api/access/policies/check", json=wrong).json()
    assert (told["ok"], {p["where"] for p in told["problems"]}) == (
        False, {"state", "grantControls", "conditions.userRiskLevels"},
    )  # fmt: skip
    assert admin.get("/api/access/policies/p1").status_code == 404
    assert admin.put("/api/access/policies/p2", json=body()).status_code == 422  # another id


@pytest.mark.claim("access-lock-out")
def test_locking_everybody_out_takes_a_second_word(house: House) -> None:
    admin = house.client(Role.ACCESS_ADMIN)
    everybody = body(grantControls=BLOCK)
    refused = admin.put("/api/access/policies/p1", json=everybody)
    assert (refused.status_code, "every user (3)" in refused.text) == (409, True)
    done = admin.put("/api/access/policies/p1?confirm=true", json=everybody)
    assert (done.status_code, "every user (3)" in done.json()["warnings"][0]) == (200, True)


# -- Graph --------------------------------------------------------------------------------------------------------


@pytest.mark.claim("access-graph")
def test_graphs_clients_list_read_create_change_and_delete(house: House) -> None:
    ship(house)
    admin = house.client(Role.ACCESS_ADMIN)
    listed = admin.get(f"{GRAPH}?$top=2&$count=true").json()
    assert listed["@odata.context"].endswith("v1.0/$metadata#identity/conditionalAccess/policies")
    assert (listed["@odata.count"], [p["id"] for p in listed["value"]]) == (4, ["ca001", "ca002"])
    assert listed["value"][0]["conditions"]["users"]["excludeGroups"] == ["breakglass"]
    sent = {**ENTRA[0], "id": None, "displayName": "Made by Graph"}
    created = admin.post(GRAPH, json=sent)
    assert (created.status_code, created.json()["id"]) == (201, "made-by-graph")
    assert created.json()["createdDateTime"].startswith(NOON.date().isoformat())
    assert admin.post(GRAPH, json=sent).status_code == 400
    assert admin.patch(f"{GRAPH}/made-by-graph", json={"state": "disabled"}).status_code == 204
    read = admin.get(f"/beta{GRAPH.removeprefix('/v1.0')}/made-by-graph?$select=state,displayName").json()
    assert {n: v for n, v in read.items() if "@" not in n} == {
        "id": "made-by-graph", "state": "disabled", "displayName": "Made by Graph",
    }  # fmt: skip
    assert admin.delete(f"{GRAPH}/made-by-graph").status_code == 204
    gone = admin.get(f"{GRAPH}/made-by-graph")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "NotFound")


@pytest.mark.claim("access-graph")
def test_graph_refuses_to_enable_what_cannot_be_enforced_and_says_what(house: House) -> None:
    admin = house.client(Role.ACCESS_ADMIN)
    refused = admin.post(GRAPH, json=ENTRA[1])
    assert (refused.status_code, "conditions.locations" in refused.json()["error"]["message"]) == (400, True)
    reporting = {**ENTRA[1], "state": "enabledForReportingButNotEnforced"}
    created = admin.post(GRAPH, json=reporting).json()
    assert created["conditions"]["locations"] == ENTRA[1]["conditions"]["locations"]
    assert admin.patch(f"{GRAPH}/{created['id']}", json={"state": "enabled"}).status_code == 400


def test_graph_wants_a_second_word_before_everybody_is_locked_out(house: House) -> None:
    admin = house.client(Role.ACCESS_ADMIN)
    everybody = {"displayName": "Block all", "state": "enabled", "conditions": {"users": {"includeUsers": ["All"]}},
                 "grantControls": {"operator": "OR", "builtInControls": ["block"]}}  # fmt: skip
    assert admin.post(GRAPH, json=everybody).status_code == 400
    assert admin.post(GRAPH, json=everybody, headers={"prefer": "watchfloor.confirm"}).status_code == 201


@pytest.mark.claim("access-graph")
def test_an_import_tells_what_cannot_be_enforced_and_an_export_gives_it_back(house: House) -> None:
    admin = house.client(Role.ACCESS_ADMIN)
    dry = admin.post("/api/access/import", json={"policies": ENTRA, "dry_run": True}).json()["items"]
    assert [(i["imported"], i["state"]) for i in dry] == [
        (False, "enabled"), (False, "enabledForReportingButNotEnforced"), (False, "enabledForReportingButNotEnforced"),
    ]  # fmt: skip
    assert admin.get("/api/access/policies").json()["items"] == []
    done = admin.post("/api/access/import", json={"policies": ENTRA}).json()["items"]
    assert [i["imported"] for i in done] == [True, True, True]
    assert done[0]["unenforced"] == {} and "conditions.platforms" in done[1]["unenforced"]
    assert any("only reports" in warning for warning in done[1]["warnings"])
    exported = {p["id"]: p for p in admin.get("/api/access/export").json()["value"]}
    assert exported[ENTRA[1]["id"]]["grantControls"]["termsOfUse"] == ["tou-1"]
    assert exported[ENTRA[0]["id"]]["sessionControls"]["signInFrequency"]["frequencyInterval"] == "everyTime"


# -- what if ------------------------------------------------------------------------------------------------------


def run(house: House, **asked: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The run when it has ended, and its rows."""
    client = house.client(Role.ACCESS_ADMIN)
    begun = client.post("/api/access/what-if", json=asked)
    assert begun.status_code == 202, begun.text
    address = f"/api/hunting/runs/{begun.json()['id']}"
    deadline = time.monotonic() + 30
    while (state := client.get(address).json())["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    result = client.get(f"{address}/rows").json()
    names = [column["name"] for column in result["columns"]]
    return state, [dict(zip(names, row, strict=True)) for row in result["rows"]]


@pytest.mark.claim("access-what-if")
def test_what_if_says_whom_a_policy_would_have_hit_and_changes_nothing(house: House) -> None:
    house.call("mail", "send_email", {"to": ["ann@zava.example"], "subject": "s", "body": "b"})
    house.call("mail", "lookup", {"key": "1"})
    house.call("mail", "lookup", {"key": "2"}, user="mona", agent="hr")
    house.clock.forward(minutes=1)
    writing = body(id="w", conditions={"resources": {"toolClasses": ["write"]}}, grantControls=BLOCK)
    state, rows = run(house, policies=[writing, body(id="m", conditions={"users": {"include": ["mona"]}})])
    assert state["state"] == "done"
    assert {(r["PolicyId"], r["Control"], r["UserId"], r["AgentId"], r["ToolName"]) for r in rows} == {
        ("w", "block", "griffin", "billing", "send_email"), ("m", "mfa", "mona", "hr", "lookup"),
    }  # fmt: skip
    assert "3 calls were looked at, 2 would have been refused" in state["notes"]
    assert "w: 1 calls of 1 users and 1 agents" in state["notes"]
    assert house.client(Role.ACCESS_ADMIN).get("/api/access/policies").json()["items"] == []


@pytest.mark.claim("access-what-if")
def test_without_policies_it_asks_those_that_are_there_report_only_ones_too(house: House) -> None:
    ship(house)
    house.call("mail", "send_email", {"to": ["ann@zava.example"], "subject": "s", "body": "b"})
    house.clock.forward(minutes=1)
    state, rows = run(house, days=30)
    assert rows == []
    assert [n.split(":")[0] for n in state["notes"][1:]] == ["ca001", "ca002", "ca003", "ca004"]
    wrong = house.client(Role.ACCESS_ADMIN).post("/api/access/what-if", json={"policies": [{"id": "x"}]})
    assert wrong.status_code == 422


@pytest.mark.claim("access-what-if")
def test_one_sign_in_is_asked_about_with_every_policy_and_why(house: House) -> None:
    ship(house)
    client = house.client(Role.SOC_ANALYST)
    asked = {"user": "griffin@zava.example", "agent": "billing", "server": "mail", "tool": "send_email"}
    calm = client.post("/api/access/evaluate", json=asked).json()
    assert (calm["control"], [p["applies"] for p in calm["policies"]]) == ("grant", [False] * 4)
    assert {p["id"]: p["because"] for p in calm["policies"]}["ca003"] == ["userRiskLevels"]
    odd = client.post("/api/access/evaluate", json={**asked, "user_risk": "medium", "signed_in_minutes_ago": 90}).json()
    assert (odd["control"], odd["reason_code"], odd["max_age"]) == (
        "reauthenticate", "reauthentication_required", 3600,
    )  # fmt: skip
    (applied,) = [p for p in odd["policies"] if p["applies"]]
    assert (applied["id"], "user risk: medium" in applied["because"]) == ("ca003", True)
    tried = client.post("/api/access/evaluate", json={**asked, "policies": [body(conditions=NARROW)]}).json()
    assert (tried["control"], tried["reason_code"]) == ("mfa", "mfa_required")
    assert client.post("/api/access/evaluate", json={**asked, "user": "nobody"}).status_code == 404


# -- pages --------------------------------------------------------------------------------------------------------


def _csrf(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found
    return found[1]


def hit(house: House, policy: str, action: str = "AccessRefused") -> None:
    house.stores.write(
        "ConditionalAccessEvents",
        [{"Timestamp": house.clock(), "TenantId": "default", "ReportId": f"evt-{policy}-{action}", "ActionType": action,
          "PolicyId": policy, "UserId": "griffin", "AccountUpn": "griffin@zava.example", "AgentId": "billing",
          "AgentName": "<b>Billing</b>", "ServerId": "mail", "ToolName": "send_email", "Control": "block"}],
    )  # fmt: skip


@pytest.mark.claim("access-pages")
def test_the_page_lists_policies_with_state_and_last_hits(house: House) -> None:
    ship(house)
    hit(house, "ca003")
    hit(house, "ca004", "AccessWouldBeRefused")
    house.clock.forward(minutes=1)
    page = house.client(Role.SOC_ANALYST).get("/access").text
    for text in ("CA001 High user risk", "Report only", "a sign-in within 1 hours", "mfa and passwordChange"):
        assert text in page
    assert page.count("2026-11-03 12:05:00") == 2
    assert page.count("never") == 2
    one = house.client(Role.SOC_ANALYST).get("/access/ca003").text
    assert "&lt;b&gt;Billing&lt;/b&gt;" in one and "<b>Billing" not in one
    assert "access.write" in one and 'name="state"' not in one
    assert house.client(Role.IT_ADMIN).get("/access").status_code == 403


@pytest.mark.claim("access-pages")
def test_a_policy_is_switched_on_the_page_and_asks_again_before_locking_out(house: House) -> None:
    ship(house)
    browser = house.browser(Role.ACCESS_ADMIN)
    page = browser.get("/access/ca003").text
    form = {"csrf": _csrf(page), "state": "disabled"}
    assert browser.post("/access/ca003", data={**form, "csrf": "wrong"}).status_code == 403
    assert house.projected(Kind.ACCESS_POLICY, "ca003") is not None
    assert browser.post("/access/ca003", data=form).headers["location"] == "/access/ca003"
    assert house.projected(Kind.ACCESS_POLICY, "ca003") is None
    client = house.client(Role.ACCESS_ADMIN)
    client.put("/api/access/policies/p1", json=body(grantControls=BLOCK, state="disabled"))
    asked = browser.post("/access/p1", data={**form, "state": "enabled"})
    assert (asked.status_code, "every user" in asked.text, 'name="confirm"' in asked.text) == (409, True, True)
    assert house.projected(Kind.ACCESS_POLICY, "p1") is None
    done = browser.post("/access/p1", data={**form, "state": "enabled", "confirm": "yes"})
    assert done.status_code == 303
    assert house.projected(Kind.ACCESS_POLICY, "p1") is not None
    analyst = house.browser(Role.SOC_ANALYST, "ana")
    own = _csrf(analyst.get("/access/ca001").text)
    assert analyst.post("/access/ca001", data={"csrf": own, "state": "disabled"}).status_code == 403


def test_an_entity_page_of_nothing_is_not_found(house: House) -> None:
    assert house.client(Role.SOC_ANALYST).get("/access/none").status_code == 404
