"""Conditional access at the token service, and what its policies do to users."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from guard.access.bodies import BLOCK, body
from watchfloor import content
from watchfloor.identity import access, risk, sessions
from watchfloor.identity.access_log import AccessLog
from watchfloor.identity.sts import TokenService
from watchfloor.model.access import AccessState
from watchfloor.model.errors import Conflict, InputError
from watchfloor.model.facts import Kind
from watchfloor.model.people import RiskLevel
from watchfloor.portal.sts import build_sts_router
from watchfloor.storage import access as access_policies
from watchfloor.storage import inventory, people
from watchfloor.storage.log import DEFAULT_PART, SqliteLog
from watchfloor.storage.ports import Seq

from .test_sts import alone, change_agent, change_user, refused
from .world import GATEWAY, World

MEDIUM: dict[str, Any] = {"userRiskLevels": ["medium"]}
HOUR = {"signInFrequency": {"value": 1, "type": "hours"}}


def publish(world: World, *bodies: dict[str, Any], confirm: bool = False) -> None:
    with world.store.tx("test") as tx:
        for each in bodies:
            access.publish(tx, each, confirm=confirm)


def signed_in(world: World, **claims: Any) -> dict[str, Any]:
    """A request with a user's token that says this."""
    return {"subject_token": world.idp.sign_in("griffin", **claims)}


@pytest.fixture
def logged(zava: World, tmp_path: Path) -> Iterator[tuple[World, SqliteLog]]:
    """The company, its token service with an event log."""
    log = SqliteLog(tmp_path / "log.db", min_free_bytes=0)
    old = zava.service
    zava.service = TokenService(
        zava.store, zava.vault, old.settings, key_sets=old.key_sets, access_log=AccessLog(log, now=zava.clock.now),
        clock=zava.clock.monotonic,
    )  # fmt: skip
    yield zava, log
    log.close()


def rows(log: SqliteLog) -> list[dict[str, Any]]:
    return [row for batch in log.read(DEFAULT_PART, Seq(0), 1000) for row in batch.batch.to_pylist()]


@pytest.mark.asvs("10.3.4")
@pytest.mark.claim("access-sts")
def test_a_second_factor_is_asked_for_where_a_policy_wants_one(logged: tuple[World, SqliteLog]) -> None:
    zava, log = logged
    publish(zava, body(conditions=MEDIUM))
    assert zava.service.issue(zava.request(**signed_in(zava, amr=["pwd"])))
    change_user(zava, risk=RiskLevel.MEDIUM)
    refusal = refused(zava, **signed_in(zava, amr=["pwd"]))
    assert (refusal.error, refusal.reason, refusal.status) == ("interaction_required", "mfa_required", 400)
    assert "multi-factor" in refusal.step_up["acr_values"]
    assert "P1" not in str(refusal)
    token = zava.service.issue(zava.request(**signed_in(zava, amr=["pwd", "otp"])))
    assert zava.claims_of(token.access_token)["amr"] == ["pwd", "otp"]
    (row,) = rows(log)
    assert (row["ActionType"], row["SourceDoor"], row["PolicyId"]) == ("AccessRefused", "sts", "p1")
    assert (row["UserId"], row["ServerId"], row["CredentialMode"]) == ("griffin", "mail", "obo")
    assert row["SessionId"] == "session-griffin"


@pytest.mark.asvs("10.3.4")
@pytest.mark.claim("access-sts")
def test_an_old_sign_in_is_renewed_where_a_policy_wants_a_fresh_one(zava: World) -> None:
    publish(zava, body(grantControls=None, sessionControls=HOUR))
    now = int(zava.clock.at.timestamp())
    refusal = refused(zava, **signed_in(zava, auth_time=now - 3_700))
    assert (refusal.error, refusal.reason) == ("interaction_required", "reauthentication_required")
    assert refusal.step_up == {"max_age": 3600}
    assert zava.service.issue(zava.request(**signed_in(zava, auth_time=now - 3_500)))


@pytest.mark.claim("access-sts")
def test_a_blocked_user_gets_no_token_and_others_do(zava: World) -> None:
    publish(zava, body(conditions={"users": {"includeGroups": ["billing"]}}, grantControls=BLOCK))
    refusal = refused(zava)
    assert (refusal.error, refusal.reason, refusal.step_up) == ("invalid_grant", "access_blocked", {})
    change_user(zava, groups=("sales",))
    assert zava.service.issue(zava.request())


@pytest.mark.claim("access-sts")
def test_a_risky_agent_gets_no_token_as_itself(zava: World) -> None:
    risky = {"users": None, "agents": {"include": ["All"]}, "agentIdRiskLevels": ["medium"]}
    publish(zava, body(conditions=risky, grantControls=BLOCK))
    assert zava.service.issue(zava.request(**alone()))
    change_agent(zava, risk=RiskLevel.MEDIUM)
    refusal = refused(zava, **alone())
    assert (refusal.error, refusal.reason) == ("unauthorized_client", "access_blocked")


@pytest.mark.claim("access-sts")
def test_a_change_of_password_is_asked_of_the_user_and_sessions_end_once(zava: World) -> None:
    change = {"operator": "AND", "builtInControls": ["mfa", "passwordChange"]}
    publish(zava, body(conditions=MEDIUM, grantControls=change, sessionControls={"revoke": True}))
    change_user(zava, risk=RiskLevel.MEDIUM)
    assert refused(zava, **signed_in(zava, amr=["mfa"])).reason == "password_reset_required"
    user = _griffin(zava)
    assert (user.must_reset_password, user.epoch) == (True, 2)
    assert refused(zava, **signed_in(zava, amr=["mfa"])).reason == "password_reset_required"
    assert access.require_password_changes(zava.store) == 0
    assert _griffin(zava).epoch == 2
    change_user(zava, risk=RiskLevel.NONE, must_reset_password=False)
    zava.clock.pass_seconds(5)
    assert zava.service.issue(zava.request())


@pytest.mark.claim("story-confirm-compromised")
@pytest.mark.claim("access-defaults")
def test_a_user_of_high_risk_has_to_change_the_password_without_asking_for_anything(zava: World) -> None:
    with zava.store.tx("test") as tx:
        assert access.publish_defaults(tx, content.access_policies()) == ["ca001", "ca002", "ca003", "ca004"]
        assert access.publish_defaults(tx, content.access_policies()) == []
    assert access.require_password_changes(zava.store) == 0
    with zava.store.tx("olga") as tx:
        risk.confirm_compromised(tx, "user", "griffin", "stolen")
    assert access.require_password_changes(zava.store) == 1
    assert (_griffin(zava).must_reset_password, _griffin(zava).epoch) == (True, 2)
    assert access.require_password_changes(zava.store) == 0


def test_an_account_for_emergencies_is_spared_by_the_shipped_policies(zava: World) -> None:
    with zava.store.tx("test") as tx:
        access.publish_defaults(tx, content.access_policies())
    for spared in ({"groups": ("breakglass",)}, {"groups": (), "is_break_glass": True}):
        change_user(zava, risk=RiskLevel.HIGH, **spared)
        assert access.require_password_changes(zava.store) == 0
    assert refused(zava).reason == "user_risk"


def test_what_an_administrator_changed_or_withdrew_stays_that_way(zava: World) -> None:
    with zava.store.tx("test") as tx:
        access.publish_defaults(tx, content.access_policies())
    with zava.store.tx("olga") as tx:
        access.set_state(tx, "ca003", AccessState.DISABLED)
        access_policies.withdraw_policy(tx, "ca004")
    with zava.store.tx("test") as tx:
        assert access.publish_defaults(tx, content.access_policies()) == []
        assert {p.id: p.state.value for p in access_policies.current_policies(tx)} == {
            "ca001": "enabled", "ca002": "enabled", "ca003": "disabled",
        }  # fmt: skip
    assert set(zava.facts(Kind.ACCESS_POLICY)) == {"ca001", "ca002"}


@pytest.mark.claim("access-report-only")
def test_a_report_only_policy_refuses_nobody_who_signs_in_and_says_so(logged: tuple[World, SqliteLog]) -> None:
    zava, log = logged
    publish(zava, body(state="enabledForReportingButNotEnforced"))
    assert zava.service.issue(zava.request(**signed_in(zava, amr=["pwd"])))
    (row,) = rows(log)
    assert (row["ActionType"], row["Result"]) == ("AccessWouldBeRefused", "reportOnlyInterrupted")
    assert zava.service.issue(zava.request(**signed_in(zava, amr=["mfa"])))
    assert len(rows(log)) == 1


@pytest.mark.claim("access-sts")
def test_policies_about_tools_leave_tokens_to_the_gateway(zava: World) -> None:
    publish(zava, body(conditions={"resources": {"toolClasses": ["write"]}}, grantControls=BLOCK))
    assert zava.service.issue(zava.request())
    publish(zava, body(id="p2", conditions={"resources": {"servers": ["mail"]}}, grantControls=BLOCK))
    assert refused(zava).reason == "access_blocked"
    assert zava.service.issue(zava.request(resource=f"{GATEWAY}/mcp/knowledge"))


def test_what_was_refused_before_stays_refused(zava: World) -> None:
    publish(zava, body(conditions={"users": {"include": ["somebody"]}}))
    for changes, reason in (
        ({"risk": RiskLevel.HIGH}, "user_risk"),
        ({"must_reset_password": True}, "password_reset_required"),
        ({"is_enabled": False}, "user_disabled"),
    ):
        before = _griffin(zava)
        change_user(zava, **changes)
        assert refused(zava, **signed_in(zava, amr=["mfa"])).reason == reason
        with zava.store.tx("test") as tx:
            people.save_user(tx, before)
    with zava.store.tx("test") as tx:
        sessions.revoke_user(tx, "griffin", "test")
    assert refused(zava).reason == "session_revoked"


@pytest.mark.claim("access-lock-out")
def test_a_policy_that_locks_everybody_out_wants_to_be_confirmed(zava: World) -> None:
    with zava.store.tx("test") as tx, pytest.raises(Conflict) as caught:
        access.publish(tx, body(grantControls=BLOCK))
    assert "every user (3)" in str(caught.value) and "confirm" in str(caught.value)
    assert zava.service.issue(zava.request())
    publish(zava, body(grantControls=BLOCK), confirm=True)
    assert refused(zava).reason == "access_blocked"


def test_names_that_nobody_knows_are_told_and_no_obstacle(zava: World) -> None:
    with zava.store.tx("test") as tx:
        chosen = {"users": {"include": ["grifin"], "excludeGroups": ["staf"]}, "resources": {"servers": ["mial"]}}
        done = access.publish(tx, body(conditions=chosen))
        assert [w for w in done.warnings if "grifin" in w or "staf" in w or "mial" in w] == list(done.warnings)
        assert len(done.warnings) == 3
        fine = {"users": {"include": ["Griffin@zava.example"], "includeGroups": ["Billing"]}}
        assert access.publish(tx, body(id="p2", conditions=fine)).warnings == ()
        with pytest.raises(InputError):
            access.publish(tx, body(id="p3", grantControls=None))


def test_where_an_agent_is_from_is_projected_with_it(zava: World) -> None:
    with zava.store.tx("test") as tx:
        agent = inventory.find_agent(tx, "customer-billing")
        assert agent is not None
        ids = {"platformIds": {"blueprint": "bp-7", "environment": "prod"}}
        inventory.save_agent(tx, replace(agent, manifest={**agent.manifest, **ids}))
    assert zava.facts(Kind.AGENT_PROFILE) == {"customer-billing": {"blueprint": "bp-7", "environment": "prod"}}


@pytest.mark.claim("access-cae")
async def test_a_client_declares_by_itself_or_by_the_users_token_that_it_answers_challenges(zava: World) -> None:
    declared = zava.claims_of(zava.service.issue(zava.request(takes_claims=True)).access_token)
    assert declared["xms_cc"] == ["cp1"]
    inherited = zava.claims_of(zava.service.issue(zava.request(**signed_in(zava, xms_cc=["cp1"]))).access_token)
    assert inherited["xms_cc"] == ["cp1"]
    assert "xms_cc" not in zava.claims_of(zava.service.issue(zava.request()).access_token)
    app = FastAPI()
    app.include_router(build_sts_router(zava.service))
    form = {"grant_type": "client_credentials", "resource": f"{GATEWAY}/mcp/mail",
            "claims": json.dumps({"access_token": {"xms_cc": {"values": ["cp1"]}}})}  # fmt: skip
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7700") as client:
        auth = ("customer-billing", zava.request().client_secrets[0])
        answer = await client.post("/sts/token", data=form, auth=auth)
        assert zava.claims_of(answer.json()["access_token"])["xms_cc"] == ["cp1"]
        wrong = await client.post("/sts/token", data={**form, "claims": "{}"}, auth=auth)
        assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_request")
        publish(zava, body(conditions=MEDIUM))
        change_user(zava, risk=RiskLevel.MEDIUM)
        exchange = {"grant_type": zava.request().grant_type, "subject_token": zava.idp.sign_in("griffin"),
                    "subject_token_type": zava.request().subject_token_type,
                    "resource": f"{GATEWAY}/mcp/mail"}  # fmt: skip
        told = (await client.post("/sts/token", data=exchange, auth=auth)).json()
        assert (told["error"], told["reason"]) == ("interaction_required", "mfa_required")
        assert "multi-factor" in told["acr_values"]


def test_the_risk_of_a_sign_in_is_taken_from_the_provider_and_passed_on(zava: World) -> None:
    publish(zava, body(conditions={"signInRiskLevels": ["high"]}, grantControls=BLOCK))
    token = zava.service.issue(zava.request(**signed_in(zava, sign_in_risk="low")))
    assert zava.claims_of(token.access_token)["sign_in_risk"] == "low"
    assert refused(zava, **signed_in(zava, sign_in_risk="high")).reason == "access_blocked"
    assert refused(zava, **signed_in(zava, sign_in_risk="odd")).reason == "subject_token_invalid"


def _griffin(world: World) -> people.User:
    with world.store.read() as tx:
        user = people.find_user(tx, "griffin")
    assert user is not None
    return user
