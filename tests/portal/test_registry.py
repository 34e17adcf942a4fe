"""Agents, tool servers, manifests, policies and the audit log through the API."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from portal.house import COMPANY, House
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role
from watchfloor.storage import audit
from watchfloor.storage.audit_files import read_database

POLICY: dict[str, Any] = {
    "id": "no-lookups", "title": "No lookups", "description": "d", "mode": "enforce", "effect": "block",
    "severity": "high", "when": 'tool.name == "lookup"', "message": "no", "blind_spots": "none", "tests": [],
}  # fmt: skip


def _manifest(**changes: Any) -> dict[str, str]:
    return {"manifest": yaml.safe_dump({**copy.deepcopy(COMPANY), **changes})}


@pytest.mark.claim("manifest-idempotent")
def test_applying_a_manifest_twice_changes_nothing_the_second_time(house: House) -> None:
    client = house.client(Role.OWNER)
    first = copy.deepcopy(COMPANY["agents"])
    first[0]["description"] = "Sends other reminders."
    assert client.post("/api/manifests/apply", json=_manifest(agents=first)).json()["summary"]["update"] > 0
    again = client.post("/api/manifests/apply", json=_manifest(agents=first)).json()
    assert again["summary"] == {"create": 0, "update": 0, "delete": 0}
    assert "refresh_tool_lists" in house.nudged


def test_a_plan_shows_every_change_and_stores_nothing(house: House) -> None:
    client = house.client(Role.IT_ADMIN)
    agents = copy.deepcopy(COMPANY["agents"])
    agents[0]["description"] = "Sends other reminders."
    plan = client.post("/api/manifests/plan", json=_manifest(agents=agents)).json()
    assert any(c["kind"] == "agent" and c["id"] == "billing" for c in plan["changes"])
    assert client.get("/api/agents/billing").json()["description"] == "Sends reminders."


def test_a_faulty_manifest_is_answered_with_every_fault_and_its_place(house: House) -> None:
    agents = copy.deepcopy(COMPANY["agents"])
    agents[0]["tools"][0]["server"] = "mial"
    agents[1]["tools"][0]["scope"] = "all"
    answer = house.client(Role.IT_ADMIN).post("/api/manifests/plan", json=_manifest(agents=agents))
    assert answer.status_code == 422
    places = {e["where"] for e in answer.json()["errors"]}
    assert {"agents[0].tools[0].server", "agents[1].tools[0].scope"} <= places
    assert "mail" in answer.text


def test_no_secret_of_a_manifest_comes_back_from_any_route(house: House) -> None:
    client = house.client(Role.OWNER)
    secrets = ("mail-secret-0123456789", "agent-secret-0123456789")
    for path in ("/api/servers", "/api/servers/mail", "/api/agents", "/api/agents/billing", "/api/audit?limit=1000"):
        text = client.get(path).text
        assert not any(secret in text for secret in secrets), path
    servers = copy.deepcopy(COMPANY["toolServers"])
    servers[0]["credential"] = {"value": "another-secret-987654321"}
    plan = client.post("/api/manifests/plan", json=_manifest(toolServers=servers))
    assert plan.json()["changes"]
    assert "another-secret" not in plan.text


def test_an_it_admin_cannot_bring_in_policies_or_identity_providers_by_manifest(house: House) -> None:
    it = house.client(Role.IT_ADMIN)
    policy = it.post("/api/manifests/apply", json=_manifest(policies=[POLICY]))
    assert (policy.status_code, "policy.write" in policy.text) == (403, True)
    evil = {"issuer": "https://evil.example", "jwksUri": "https://evil.example/jwks", "audience": "watchfloor"}
    providers = [*COMPANY["identityProviders"], evil]
    users = [{**u, "issuer": COMPANY["identityProviders"][0]["issuer"]} for u in COMPANY["users"]]
    provider = it.post("/api/manifests/apply", json=_manifest(identityProviders=providers, users=users))
    assert (provider.status_code, "operator.write" in provider.text) == (403, True)
    assert house.client(Role.OWNER).get("/api/policies/no-lookups").status_code == 404


def test_an_it_admin_cannot_hand_one_users_sign_in_to_another_but_can_rename_them(house: House) -> None:
    it = house.client(Role.IT_ADMIN)
    first, *rest = COMPANY["users"]
    taken = it.post("/api/manifests/apply", json=_manifest(users=[{**first, "subject": "mallory"}, *rest]))
    assert (taken.status_code, "operator.write" in taken.text) == (403, True)
    renamed = it.post("/api/manifests/apply", json=_manifest(users=[{**first, "name": "Another Name"}, *rest]))
    assert renamed.status_code == 200


@pytest.mark.claim("story-block-agent")
def test_a_blocked_agent_is_blocked_for_the_gateways_before_the_answer_comes(house: House) -> None:
    it = house.client(Role.IT_ADMIN)
    answer = it.post("/api/agents/billing/block", json={"reason": "leaks"}).json()
    assert answer["epoch"] >= answer["revision"]
    assert answer["acknowledged_at"] >= answer["committed_at"]
    facts = house.projected(Kind.AGENT, "billing")
    assert facts is not None
    assert (facts["state"], facts["epoch"]) == ("blocked", 2)
    _, verdict = house.call("mail", "lookup", {"key": "1"})
    assert verdict.effect.value == "block"
    assert it.post("/api/agents/billing/block", json={"reason": "again"}).status_code == 409
    assert it.post("/api/agents/billing/unblock", json={"reason": "fixed"}).status_code == 200


@pytest.mark.parametrize("person", ["ada", "mona"])
def test_nobody_unblocks_an_agent_that_they_built_or_own(house: House, person: str) -> None:
    house.client(Role.IT_ADMIN).post("/api/agents/billing/block", json={"reason": "leaks"})
    own = house.client(Role.OWNER, person)
    answer = own.post("/api/agents/billing/unblock", json={"reason": "trust me"})
    assert answer.status_code == 403
    assert house.client(Role.IT_ADMIN).get("/api/agents/billing").json()["state"] == "blocked"


def test_an_action_without_a_reason_is_refused(house: House) -> None:
    answer = house.client(Role.IT_ADMIN).post("/api/agents/billing/block", json={"reason": "  "})
    assert (answer.status_code, answer.json()["where"]) == (422, "reason")
    assert answer.json()["remedy"]


def test_a_policy_is_checked_published_and_in_force_at_once(house: House) -> None:
    client = house.client(Role.SECURITY_ADMIN)
    wrong = client.post("/api/policies/check", json={**POLICY, "when": "tool.nmae == 1"}).json()
    assert not wrong["ok"]
    assert wrong["problems"][0]["where"]
    assert client.post("/api/policies/check", json=POLICY).json() == {"ok": True, "problems": []}
    refused = client.put("/api/policies/no-lookups", json={**POLICY, "when": "nonsense ("})
    assert refused.status_code == 422
    first = client.put("/api/policies/no-lookups", json=POLICY).json()
    assert (first["version"], first["is_current"]) == (1, True)
    _, verdict = house.call("mail", "lookup", {"key": "1"})
    assert verdict.effect.value == "block"
    second = client.put("/api/policies/no-lookups", json={**POLICY, "mode": "audit"}).json()
    assert second["version"] == 2
    detail = client.get("/api/policies/no-lookups").json()
    assert [v["version"] for v in detail["versions"]] == [2, 1]
    assert client.get("/api/policies/no-lookups", params={"version": 1}).json()["body"]["mode"] == "enforce"
    assert client.put("/api/policies/other-id", json=POLICY).status_code == 422
    assert client.delete("/api/policies/no-lookups").status_code == 204
    assert "no-lookups" not in {p["id"] for p in client.get("/api/policies").json()["items"]}


@pytest.mark.claim("invariant-8")
def test_every_change_through_the_api_is_in_a_chain_that_verifies(house: House) -> None:
    house.attack()
    soc, owner = house.client(Role.SOC_OPERATOR), house.client(Role.OWNER)
    (incident,) = soc.get("/api/incidents").json()["items"]
    soc.post("/api/users/griffin/revoke-sessions", json={"reason": "stolen", "incident_id": incident["id"]})
    soc.patch(f"/api/incidents/{incident['id']}", json={"status": "inProgress"})
    owner.post("/api/agents/billing/block", json={"reason": "leaks"})
    owner.put("/api/policies/no-lookups", json=POLICY)
    entries = house.client(Role.AUDITOR).get("/api/audit", params={"limit": 1000}).json()["items"]
    found = {(e["actor"], e["action"]) for e in entries}
    assert {
        ("op-soc-operator", "user:revoke-sessions"),
        ("op-soc-operator", "incident:triage"),
        ("op-owner", "agent:block"),
        ("op-owner", "policy:publish"),
        ("system:detection", "detection:find"),
    } <= found
    report = audit.verify(read_database(f"sqlite:///{house.stores.control.label}"), [], None)
    assert [f for f in report.faults if "checkpoint" not in str(f).lower()] == []


def test_the_audit_log_is_read_in_pages_and_filtered(house: House) -> None:
    auditor = house.client(Role.AUDITOR)
    whole = [e["seq"] for e in auditor.get("/api/audit", params={"limit": 1000}).json()["items"]]
    paged: list[int] = []
    following: str | None = None
    while True:
        params: dict[str, Any] = {"limit": 7} | ({"before": following} if following else {})
        page = auditor.get("/api/audit", params=params).json()
        paged += [e["seq"] for e in page["items"]]
        following = page["next"]
        if following is None:
            break
    assert paged == whole
    only = auditor.get("/api/audit", params={"action": "policy:publish"}).json()["items"]
    assert {e["action"] for e in only} == {"policy:publish"}


def test_a_tool_server_that_does_not_answer_is_said_so(house: House) -> None:
    answer = house.client(Role.IT_ADMIN).post("/api/servers/mail/refresh-tools")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    server = house.client(Role.IT_ADMIN).get("/api/servers/mail").json()
    assert server["tools_list_error"]
    assert server["has_credential"] is True


def test_the_list_of_actions_says_which_ones_you_may_take(house: House) -> None:
    may = {a["id"]: a["may"] for a in house.client(Role.SOC_OPERATOR).get("/api/actions").json()["items"]}
    assert may["revoke_user_sessions"]
    assert not may["block_agent"]
