"""Sightings through the API: what was seen is shown, adopted into the registry, or dismissed with a reason."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from portal.house import NOON, House
from watchfloor.model.ids import new_id
from watchfloor.model.people import Role
from watchfloor.registry.sightings import watch_sightings


def see(house: House, *steps: dict[str, Any]) -> None:
    """Tool calls that agents tell of, and the job that looks at them."""
    rows = [
        {"Timestamp": NOON, "TenantId": "default", "ReportId": new_id("evt"), "ActionType": "ExecuteToolBySDK", **step}
        for step in steps
    ]
    house.stores.write("AgentActivity", rows)
    while watch_sightings(house.stores.control, house.stores.activity):
        pass


def address(kind: str, key: str, verb: str = "") -> str:
    return f"/api/sightings/{kind}/{quote(key, safe='')}{verb and '/' + verb}"


ROGUE: dict[str, Any] = {"AgentId": "rogue", "AgentName": "Rogue", "UserId": "griffin", "ToolName": "pay"}


def test_a_shadow_agent_is_shown_with_its_users_tools_and_sources(house: House) -> None:
    see(house, {**ROGUE, "SourceId": "crm", "ServerId": "mail"}, {"AgentId": "billing", "ServerId": "mail"})
    (shown,) = house.client(Role.SOC_ANALYST).get("/api/sightings").json()["items"]
    assert (shown["kind"], shown["key"], shown["name"], shown["state"]) == ("agent", "rogue", "Rogue", "shadow")
    assert shown["users"] == {"values": ["griffin"], "more": 0, "new": []}
    assert shown["reason"].startswith("No registered agent has the id 'rogue'")
    assert (shown["tools"]["values"], shown["sources"]["values"], shown["events"]) == (["pay"], ["crm"], 1)


def test_the_list_is_filtered_and_paged(house: House) -> None:
    see(house, *[{"AgentId": f"rogue-{n}", "ServerAddress": "evil.example:443"} for n in range(5)])
    client = house.client(Role.SOC_ANALYST)
    seen, before = [], ""
    while True:
        body = client.get("/api/sightings", params={"kind": "agent", "limit": 2, "before": before}).json()
        seen += [s["key"] for s in body["items"]]
        if not (before := body["next"] or ""):
            break
    assert sorted(seen) == [f"rogue-{n}" for n in range(5)]
    servers = client.get("/api/sightings", params={"kind": "server", "state": "shadow"}).json()["items"]
    assert [s["key"] for s in servers] == ["address:evil.example:443"]
    assert client.get("/api/sightings", params={"state": "adopted"}).json()["items"] == []


@pytest.mark.parametrize("before", ["x", "1", "1/agent", "²/agent/x", "9" * 30 + "/agent/x", "-1/agent/x"])
def test_a_place_that_is_none_is_refused(house: House, before: str) -> None:
    answer = house.client(Role.OWNER).get("/api/sightings", params={"before": before})
    assert (answer.status_code, answer.json()["where"]) == (422, "before")


def test_an_adopted_agent_is_a_draft_and_stays_refused_at_the_gateway(house: House) -> None:
    see(house, ROGUE)
    it = house.client(Role.IT_ADMIN)
    answer = it.post(address("agent", "rogue", "adopt"), json={})
    assert (answer.status_code, answer.json()["state"], answer.json()["updated_by"]) == (200, "adopted", "op-it-admin")
    agent = it.get("/api/agents/rogue").json()
    assert (agent["state"], agent["bindings"], agent["name"]) == ("draft", [], "Rogue")
    _, verdict = house.call("mail", "lookup", {}, agent="rogue")
    assert verdict.effect.value == "block" and {r.code for r in verdict.reasons} >= {"agent_not_published"}
    assert it.post(address("agent", "rogue", "adopt"), json={}).status_code == 409
    log = house.client(Role.OWNER).get("/api/audit", params={"subject": "sighting/agent/rogue"}).json()["items"]
    assert [(e["action"], e["detail"]) for e in log] == [("sighting:adopt", {"as": "rogue"})]


def test_what_cannot_be_adopted_as_it_is_says_what_is_missing(house: House) -> None:
    see(house, {"AgentName": "Travel Helper", "ServerAddress": "crm.example:443"})
    it = house.client(Role.IT_ADMIN)
    answer = it.post(address("agent", "name:Travel Helper", "adopt"), json={})
    assert (answer.status_code, answer.json()["where"]) == (422, "id")
    assert it.post(address("agent", "name:Travel Helper", "adopt"), json={"id": "travel"}).status_code == 200
    server = address("server", "address:crm.example:443", "adopt")
    assert it.post(server, json={"id": "crm"}).json()["where"] == "url"
    assert it.post(server, json={"id": "crm", "url": "https://crm.example/mcp"}).status_code == 200
    assert house.nudged[-1] == "refresh_tool_lists"
    assert it.get("/api/servers/crm").json()["url"] == "https://crm.example/mcp"


def test_a_dismissed_agent_stays_dismissed_and_shows_what_is_new(house: House) -> None:
    see(house, ROGUE)
    soc = house.client(Role.SOC_OPERATOR)
    assert soc.post(address("agent", "rogue", "dismiss"), json={"reason": " "}).status_code == 422
    done = soc.post(address("agent", "rogue", "dismiss"), json={"reason": "a test bench"}).json()
    assert (done["state"], done["tools"]["new"]) == ("dismissed", [])
    see(house, {**ROGUE, "ToolName": "wire", "UserId": "mona"})
    shown = soc.get(address("agent", "rogue")).json()
    assert (shown["state"], shown["tools"]["new"], shown["users"]["new"]) == ("dismissed", ["wire"], ["mona"])
    (entry,) = house.client(Role.OWNER).get("/api/audit", params={"action": "sighting:dismiss"}).json()["items"]
    assert (entry["actor"], entry["detail"]) == ("op-soc-operator", {"reason": "a test bench"})


@pytest.mark.parametrize("key", ["a/b", "a/adopt", "x?y=1#z", "100%", "name:ünïcode \U0001f600", "id:..", "id:name:x"])
def test_a_key_of_any_kind_can_be_named(house: House, key: str) -> None:
    own = {"AgentName": key[5:]} if key.startswith("name:") else {"AgentId": key.removeprefix("id:")}
    see(house, own)
    soc = house.client(Role.SOC_OPERATOR)
    (shown,) = soc.get("/api/sightings").json()["items"]
    assert shown["key"] == key
    done = soc.post(address("agent", key, "dismiss"), json={"reason": "known"})
    assert (done.status_code, done.json()["key"]) == (200, key)


def test_what_was_never_seen_is_not_found(house: House) -> None:
    owner = house.client(Role.OWNER)
    assert owner.get(address("agent", "nobody")).status_code == 404
    assert owner.post(address("agent", "nobody", "adopt"), json={}).status_code == 404
    assert owner.post(address("agent", "nobody", "dismiss"), json={"reason": "x"}).status_code == 404
    assert owner.get(address("tool", "nobody")).status_code == 422


DISMISS = {Role.OWNER, Role.IT_ADMIN, Role.SOC_OPERATOR, Role.SECURITY_ADMIN}
ADOPT = {Role.OWNER, Role.IT_ADMIN}


@pytest.mark.parametrize("role", list(Role))
def test_who_may_only_look_changes_nothing(house: House, role: Role) -> None:
    see(house, ROGUE)
    client = house.client(role)
    may_look = role in {*DISMISS, Role.SOC_ANALYST, Role.AUDITOR}
    assert (client.get("/api/sightings").status_code == 200) is may_look
    dismissed = client.post(address("agent", "rogue", "dismiss"), json={"reason": "x"}).status_code
    assert (dismissed == 200) is (role in DISMISS)
    assert (client.post(address("agent", "rogue", "adopt"), json={}).status_code == 200) is (role in ADOPT)
