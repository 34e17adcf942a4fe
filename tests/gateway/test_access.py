"""Conditional access through a real gateway: each control refuses what it must, and its benign twin gets through."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any

import pytest

from gateway.world import AGENT, POLICIES, SERVER, World, rpc
from guard.access.bodies import BLOCK, body
from watchfloor import content
from watchfloor.guard import codec
from watchfloor.guard.engine import replay
from watchfloor.guard.policy import PolicySet
from watchfloor.model.agents import CredentialOwner
from watchfloor.model.facts import AccessPolicyFacts, AgentProfile, Kind, PolicyFacts
from watchfloor.model.people import RiskLevel

MAIL = {"to": ["ann@zava.example"], "subject": "s", "body": "b"}
HOUR = {"signInFrequency": {"value": 1, "type": "hours"}}
MEDIUM: dict[str, Any] = {"userRiskLevels": ["medium"]}


def publish(world: World, *bodies: dict[str, Any]) -> None:
    """Let these policies count, as the control plane projects them."""
    world.project(*((Kind.ACCESS_POLICY, b["id"], AccessPolicyFacts(b["id"], 1, b)) for b in bodies))


async def call(world: World, tool: str = "send_email", **claims: Any) -> tuple[int, str, dict[str, Any]]:
    """(status, challenge, JSON-RPC answer) of one call with such a token."""
    arguments = MAIL if tool == "send_email" else {"key": "k"}
    headers = world.headers(name=tool) | {"authorization": f"Bearer {world.token(**claims)}"}
    response = await world.client.post(f"/mcp/{SERVER}", json=rpc(tool, arguments), headers=headers)
    return response.status_code, response.headers.get("www-authenticate", ""), response.json()


def code_of(answer: dict[str, Any]) -> str:
    return str(answer["error"]["data"]["code"]) if "error" in answer else "allowed"


def ago(seconds: int) -> int:
    return int(time.time()) - seconds


def sent(world: World) -> int:
    """Mails that reached the tool server."""
    return sum(seen["params"]["name"] == "send_email" for seen in world.tools.tap.calls)


@pytest.mark.claim("access-gateway")
async def test_an_old_sign_in_of_a_risky_user_must_be_renewed_for_writing_only(world: World) -> None:
    publish(world, *content.access_policies())
    old, fresh = {"auth_time": ago(4_000)}, {"auth_time": ago(60)}
    assert code_of((await call(world, **old))[2]) == "allowed"
    world.user(risk=RiskLevel.MEDIUM)
    status, challenge, answer = await call(world, **old)
    assert (status, code_of(answer)) == (401, "reauthentication_required")
    assert 'error="insufficient_user_authentication"' in challenge
    assert 'max_age="3600"' in challenge and "resource_metadata=" in challenge
    assert answer["error"]["data"]["max_age"] == 3600
    assert "CA003" not in json.dumps(answer) + challenge
    assert code_of((await call(world, "lookup", **old))[2]) == "allowed"
    assert code_of((await call(world, **fresh))[2]) == "allowed"
    assert sent(world) == 2


@pytest.mark.claim("access-gateway")
async def test_one_factor_is_not_enough_where_several_are_asked_for(world: World) -> None:
    publish(world, body(conditions=MEDIUM))
    assert code_of((await call(world, amr=["pwd"]))[2]) == "allowed"
    world.user(risk=RiskLevel.MEDIUM)
    status, challenge, answer = await call(world, amr=["pwd"])
    assert (status, code_of(answer)) == (401, "mfa_required")
    assert re.search(r'acr_values="[^"]*multi-factor"', challenge)
    assert code_of((await call(world, amr=["pwd", "otp"]))[2]) == "allowed"
    assert code_of((await call(world, amr=["mfa"]))[2]) == "allowed"


@pytest.mark.claim("access-gateway")
async def test_a_blocked_access_tells_a_code_and_nothing_of_the_policy(world: World) -> None:
    secret = "Only people from Building 7"
    publish(
        world, body(displayName=secret, conditions={"users": {"includeGroups": ["contractors"]}}, grantControls=BLOCK)
    )
    assert code_of((await call(world))[2]) == "allowed"
    world.user(groups=("contractors",))
    status, challenge, answer = await call(world)
    assert (status, challenge, code_of(answer)) == (200, "", "access_blocked")
    assert secret not in json.dumps(answer) and "p1" not in json.dumps(answer)
    assert answer["error"]["data"]["invocation"]
    world.user(groups=("staff",))
    assert code_of((await call(world))[2]) == "allowed"


@pytest.mark.claim("access-gateway")
async def test_a_password_that_must_change_refuses_until_the_risk_is_gone(world: World) -> None:
    change = {"operator": "AND", "builtInControls": ["mfa", "passwordChange"]}
    publish(world, body(conditions=MEDIUM, grantControls=change))
    world.user(risk=RiskLevel.MEDIUM)
    assert code_of((await call(world, amr=["mfa"]))[2]) == "password_reset_required"
    world.user(risk=RiskLevel.NONE)
    assert code_of((await call(world, amr=["mfa"]))[2]) == "allowed"


@pytest.mark.claim("access-gateway")
async def test_a_risky_agent_is_blocked_as_itself_and_for_its_users(world: World) -> None:
    risky = body(conditions={"users": None, "agents": {"include": ["All"]}, "agentIdRiskLevels": ["medium"]},
                 grantControls=BLOCK)  # fmt: skip
    publish(world, risky)
    itself: dict[str, Any] = {"sub": f"agent:{AGENT}", "act": None, "mode": "agent", "sev": None, "auth_time": None}
    assert code_of((await call(world, **itself))[2]) == "allowed"
    world.agent(risk=RiskLevel.MEDIUM)
    assert code_of((await call(world, **itself))[2]) == "access_blocked"
    assert code_of((await call(world))[2]) == "access_blocked"
    world.agent(risk=RiskLevel.LOW)
    assert code_of((await call(world))[2]) == "allowed"


async def test_agents_are_chosen_by_the_blueprint_that_the_registry_knows(world: World) -> None:
    family = {"users": None, "agents": {"blueprints": ["bp-7"]}}
    publish(world, body(conditions=family, grantControls=BLOCK))
    world.project((Kind.AGENT_PROFILE, AGENT, AgentProfile("bp-8")))
    assert code_of((await call(world))[2]) == "allowed"
    world.project((Kind.AGENT_PROFILE, AGENT, AgentProfile("bp-7")))
    assert code_of((await call(world))[2]) == "access_blocked"


async def test_the_risk_of_a_sign_in_counts_as_its_token_tells_it(world: World) -> None:
    publish(world, body(conditions={"signInRiskLevels": ["medium", "high"]}, grantControls=BLOCK))
    assert code_of((await call(world))[2]) == "allowed"
    assert code_of((await call(world, sign_in_risk="low"))[2]) == "allowed"
    assert code_of((await call(world, sign_in_risk="high"))[2]) == "access_blocked"
    assert (await call(world, sign_in_risk="odd"))[0] == 401


@pytest.mark.claim("access-report-only")
async def test_a_report_only_policy_refuses_nobody_and_says_whom_it_would(world: World) -> None:
    publish(world, *content.access_policies())
    world.bind("send_email", credential_owner=CredentialOwner.MAKER, credential_id="app")
    status, _, answer = await call(world, mode="maker")
    assert (status, code_of(answer)) == (200, "allowed")
    (decided,) = world.records("ToolCallDecided")
    assert (decided["Verdict"], decided["WouldBe"]) == ("allow", "allow")
    (row,) = world.records("AccessWouldBeRefused")
    assert row["InvocationId"] == decided["InvocationId"]
    assert (row["PolicyId"], row["Control"], row["Result"]) == ("ca004", "block", "reportOnlyFailure")
    assert (row["CredentialMode"], row["ToolEffect"], row["ReasonCode"]) == ("maker", "send", "access_blocked")
    await call(world, "lookup", mode="maker")
    assert len(world.records("AccessWouldBeRefused")) == 1


@pytest.mark.claim("access-log")
async def test_every_refusal_is_a_row_that_leads_to_the_decision_and_replays(world: World) -> None:
    publish(world, body(conditions=MEDIUM), body(id="p2", conditions=MEDIUM, grantControls=None, sessionControls=HOUR))
    world.user(risk=RiskLevel.MEDIUM)
    _, _, answer = await call(world, amr=["pwd"], auth_time=ago(7_200))
    (decided,) = world.records("ToolCallDecided")
    assert answer["error"]["data"]["invocation"] == decided["InvocationId"]
    assert (decided["ReasonCode"], decided["PolicyId"]) == ("mfa_required", "p1")
    rows = world.records("AccessRefused")
    assert {(r["PolicyId"], r["Control"], r["InvocationId"]) for r in rows} == {
        ("p1", "mfa", decided["InvocationId"]), ("p2", "reauthenticate", decided["InvocationId"]),
    }  # fmt: skip
    assert json.loads(rows[0]["ConditionsSatisfied"]) == ["users: All", "user risk: medium"]
    assert json.loads(rows[0]["AuthenticationMethods"]) == ["pwd"]
    assert 7_190 < rows[0]["SignInAgeSeconds"] < 7_290
    (recorded,) = world.records("content")
    policies = PolicySet.build([PolicyFacts(i, 1, b) for i, b in POLICIES.items()])
    again = replay(recorded["Content"], decided["Facts"], policies)
    assert (again.effect.value, again.input_hash) == ("block", decided["InputHash"])
    assert codec.load_facts(decided["Facts"]).access is not None


@pytest.mark.claim("access-cae")
async def test_a_client_that_answers_claims_challenges_gets_one_and_others_do_not(world: World) -> None:
    publish(world, body(conditions=MEDIUM))
    world.user(risk=RiskLevel.MEDIUM)
    status, challenge, answer = await call(world, amr=["pwd"], xms_cc=["cp1"])
    assert (status, code_of(answer)) == (401, "mfa_required")
    assert 'error="insufficient_claims"' in challenge
    assert _claims(challenge)["access_token"]["acrs"]["essential"] is True
    world.user(epoch=2)
    status, challenge, answer = await call(world, amr=["mfa"], xms_cc=["cp1"])
    assert (status, code_of(answer)) == (401, "session_revoked")
    assert int(_claims(challenge)["access_token"]["nbf"]["value"]) >= ago(30)
    status, challenge, answer = await call(world, amr=["mfa"])
    assert (status, challenge, code_of(answer)) == (200, "", "session_revoked")
    world.user()
    assert code_of((await call(world, amr=["mfa"], xms_cc=["cp1"]))[2]) == "allowed"


def _claims(challenge: str) -> dict[str, Any]:
    found = re.search(r'claims="([^"]+)"', challenge)
    assert found
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(found[1] + "=" * (-len(found[1]) % 4)))
    return value


async def test_a_list_of_tools_is_refused_as_a_call_is_and_logged(world: World) -> None:
    publish(world, body(conditions=MEDIUM))
    headers = world.headers("tools/list", name=None) | {"authorization": f"Bearer {world.token(amr=['pwd'])}"}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list",
             "params": {"_meta": rpc("x", {})["params"]["_meta"]}}  # fmt: skip
    assert (await world.client.post(f"/mcp/{SERVER}", json=asked, headers=headers)).status_code == 200
    world.user(risk=RiskLevel.MEDIUM)
    refused = await world.client.post(f"/mcp/{SERVER}", json=asked, headers=headers)
    assert refused.status_code == 401
    assert 'error="insufficient_user_authentication"' in refused.headers["www-authenticate"]
    (row,) = world.records("AccessRefused")
    assert (row["PolicyId"], row["InvocationId"], row["ServerId"]) == ("p1", "", SERVER)


@pytest.mark.claim("access-gateway")
async def test_what_was_refused_before_stays_refused_whatever_policies_say(world: World) -> None:
    publish(world, *content.access_policies())
    world.user(risk=RiskLevel.HIGH, groups=("breakglass",))
    assert code_of((await call(world, amr=["mfa"]))[2]) == "user_risk"
    world.user(must_reset_password=True)
    assert code_of((await call(world, amr=["mfa"]))[2]) == "password_reset_required"
    world.user()
    world.agent(risk=RiskLevel.HIGH)
    assert code_of((await call(world, amr=["mfa"]))[2]) == "agent_risk"
    world.agent()
    assert code_of((await call(world))[2]) == "allowed"


async def test_a_policy_that_this_worker_cannot_read_refuses_everything(world: World) -> None:
    publish(world, body(state="disabled"))
    assert code_of((await call(world))[2]) == "allowed"
    world.write_raw(Kind.ACCESS_POLICY, "p9", json.dumps({"id": "p9", "version": 1, "body": {"state": "enabled"}}))
    assert code_of((await call(world))[2]) == "policy_error"
    world.project((Kind.ACCESS_POLICY, "p9", None))
    assert code_of((await call(world))[2]) == "allowed"


async def test_without_policies_decisions_are_recorded_as_before(world: World) -> None:
    await call(world)
    (decided,) = world.records("ToolCallDecided")
    assert "access" not in json.loads(decided["Facts"])
