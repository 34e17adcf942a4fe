"""The token service: who gets a gateway token, what it says, and who gets none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from watchfloor.gateway.tokens import TokenError, TokenVerifier
from watchfloor.identity import sessions
from watchfloor.identity.providers import CLOCK_SKEW, FRESH_SECONDS
from watchfloor.identity.refusals import PER_MINUTE
from watchfloor.identity.sts import TokenRefused
from watchfloor.model.agents import AgentState, CredentialOwner, TokenMode
from watchfloor.model.facts import Kind, SigningKey
from watchfloor.model.people import RiskLevel
from watchfloor.registry import inventory as registry
from watchfloor.storage import inventory, people

from .world import GATEWAY, ISSUER, SECRET, World, company


def refused(world: World, **changes: Any) -> TokenRefused:
    """The refusal of a request that is right but for ``changes``."""
    with pytest.raises(TokenRefused) as caught:
        world.service.issue(world.request(**changes))
    return caught.value


def alone(**changes: Any) -> dict[str, Any]:
    """A request of the agent without a user."""
    return {"grant_type": "client_credentials", "subject_token_type": "", **changes}


def change_user(world: World, **changes: Any) -> None:
    with world.store.tx("test") as tx:
        user = people.find_user(tx, "griffin")
        assert user is not None
        people.save_user(tx, replace(user, **changes))


def change_agent(world: World, **changes: Any) -> None:
    with world.store.tx("test") as tx:
        agent = inventory.find_agent(tx, "customer-billing")
        assert agent is not None
        inventory.save_agent(tx, replace(agent, **changes))


# -- what a token says --------------------------------------------------------------------------------------------


def test_a_users_token_names_user_agent_server_and_both_epochs(zava: World) -> None:
    now = int(zava.clock.at.timestamp())
    claims = zava.claims_of(zava.service.issue(zava.request()).access_token)
    assert claims.pop("jti")
    assert claims == {
        "iss": ISSUER,
        "aud": f"{GATEWAY}/mcp/mail",
        "sub": "user:griffin",
        "azp": "agent:customer-billing",
        "client_id": "customer-billing",
        "act": {"sub": "agent:customer-billing"},
        "sid": "session-griffin",
        "auth_time": now,
        "scope": "read write",
        "mode": "obo",
        "sev": 1,
        "aev": 1,
        "iat": now,
        "exp": now + 600,
    }


def test_the_gateway_accepts_what_the_token_service_issues(zava: World) -> None:
    verifier = TokenVerifier(ISSUER, GATEWAY)
    verifier.use_keys({kid: SigningKey.from_json(body) for kid, body in zava.facts(Kind.SIGNING_KEY).items()})
    for request in (zava.request(), zava.request(**alone()), zava.request(resource=f"{GATEWAY}/mcp/knowledge")):
        token = zava.service.issue(request).access_token.encode()
        server = request.resource.rpartition("/")[2]
        proved = verifier.verify(token, server, zava.clock.at.timestamp())
        assert (proved.agent_id, proved.server_id) == ("customer-billing", server)
        other = "mail" if server != "mail" else "knowledge"
        with pytest.raises(TokenError):
            verifier.verify(token, other, zava.clock.at.timestamp())


def test_every_token_has_an_id_of_its_own(zava: World) -> None:
    ids = {zava.claims_of(zava.service.issue(zava.request()).access_token)["jti"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.asvs("7.6.1")
def test_a_token_never_outlives_the_one_it_was_made_from(zava: World) -> None:
    now = int(zava.clock.at.timestamp())
    issued = zava.service.issue(zava.request(subject_token=zava.idp.sign_in("griffin", exp=now + 90)))
    assert issued.expires_in == 90
    assert zava.claims_of(issued.access_token)["exp"] == now + 90


@pytest.mark.asvs("9.2.1")
@pytest.mark.parametrize(("setting", "lifetime"), [(60, 60), (6000, 600)])
def test_a_token_lives_as_long_as_is_set_and_ten_minutes_at_most(zava: World, setting: int, lifetime: int) -> None:
    assert zava.token_service(token_seconds=setting).issue(zava.request()).expires_in == lifetime


def test_a_sign_in_without_auth_time_counts_from_its_issue(zava: World) -> None:
    issued_at = int(zava.clock.at.timestamp()) - 100
    token = zava.idp.sign_in("griffin", auth_time=None, iat=issued_at)
    assert zava.claims_of(zava.service.issue(zava.request(subject_token=token)).access_token)["auth_time"] == issued_at


def test_a_sign_in_without_a_session_id_gets_the_same_made_up_one_each_time(zava: World) -> None:
    token = zava.idp.sign_in("griffin", sid=None)
    sids = {zava.claims_of(zava.service.issue(zava.request(subject_token=token)).access_token)["sid"] for _ in range(3)}
    assert len(sids) == 1
    zava.clock.pass_seconds(5)
    again = zava.service.issue(zava.request(subject_token=zava.idp.sign_in("griffin", sid=None)))
    assert zava.claims_of(again.access_token)["sid"] not in sids


def test_an_agent_alone_gets_a_token_of_its_own(zava: World) -> None:
    claims = zava.claims_of(zava.service.issue(zava.request(**alone())).access_token)
    assert (claims["sub"], claims["azp"], claims["mode"]) == ("agent:customer-billing",) * 2 + ("agent",)
    assert "act" not in claims and "sev" not in claims and "auth_time" not in claims and claims["sid"]


def test_a_subject_token_may_be_exchanged_again_while_it_lives(zava: World) -> None:
    token = zava.idp.sign_in("griffin")
    for server in ("mail", "knowledge", "customers"):
        assert zava.service.issue(zava.request(subject_token=token, resource=f"{GATEWAY}/mcp/{server}")).access_token


# -- mode and scope come from the registry ------------------------------------------------------------------------

_APP, _USER, _MAKER = CredentialOwner.APP.value, CredentialOwner.USER.value, CredentialOwner.MAKER.value


@pytest.mark.asvs("8.3.3")
@pytest.mark.parametrize(
    ("owners", "with_user", "without"),
    [
        ([_APP], TokenMode.OBO, TokenMode.AGENT),
        ([_USER], TokenMode.OBO, None),
        ([_MAKER], TokenMode.MAKER, TokenMode.MAKER),
        ([_MAKER, _APP], TokenMode.OBO, TokenMode.AGENT),
        ([_MAKER, _USER], TokenMode.OBO, TokenMode.AGENT),
        ([_APP, _USER], TokenMode.OBO, TokenMode.AGENT),
    ],
)
def test_mode_follows_from_the_bindings_and_from_whether_a_user_is_there(
    world: World, owners: list[str], with_user: TokenMode, without: TokenMode | None
) -> None:
    declared = company()
    declared["agents"][0]["tools"] = [
        {
            "server": "knowledge",
            "tool": f"tool-{number}",
            "credential": owner,
            **({"makerCredential": {"value": "secret"}} if owner == _MAKER else {}),
        }
        for number, owner in enumerate(owners)
    ]
    world.apply(declared)
    world.make_keys()
    knowledge = f"{GATEWAY}/mcp/knowledge"
    assert world.service.issue(world.request(resource=knowledge)).mode is with_user
    if without is not None:
        assert world.service.issue(world.request(**alone(resource=knowledge))).mode is without
    else:
        error = refused(world, **alone(resource=knowledge))
        assert (error.error, error.reason) == ("unauthorized_client", "user_required")


@pytest.mark.asvs("10.3.2")
def test_scope_is_what_the_bindings_give_and_can_only_be_narrowed(zava: World) -> None:
    assert zava.service.issue(zava.request()).scope == "read write"
    assert zava.service.issue(zava.request(scope="read")).scope == "read"
    assert zava.service.issue(zava.request(resource=f"{GATEWAY}/mcp/customers")).scope == "read"
    error = refused(zava, resource=f"{GATEWAY}/mcp/customers", scope="read write")
    assert (error.error, error.reason) == ("invalid_scope", "scope_exceeded")
    assert refused(zava, scope="admin").error == "invalid_scope"


# -- which tool server --------------------------------------------------------------------------------------------


@pytest.mark.asvs("9.2.4")
@pytest.mark.parametrize(
    "resource",
    [
        f"{GATEWAY}/mcp/nothing",
        f"{GATEWAY}/mcp/",
        f"{GATEWAY}/mcp/mail/",
        f"{GATEWAY}/mcp/mail?x",
        f"{GATEWAY}/mcp/MAIL",
        "https://elsewhere.example/mcp/mail",
        "mail",
        f"{GATEWAY}/mcp/mail {GATEWAY}/mcp/knowledge",
    ],
)
def test_a_resource_that_is_no_tool_server_of_ours_is_an_invalid_target(zava: World, resource: str) -> None:
    error = refused(zava, resource=resource)
    assert (error.error, error.reason) == ("invalid_target", "server_unknown")


def test_an_agents_own_token_is_for_the_gateway_and_says_nothing_of_credentials(zava: World) -> None:
    own = f"{GATEWAY}/agents"
    issued = zava.service.issue(zava.request(resource=own))
    assert (zava.claims_of(issued.access_token)["aud"], issued.mode, issued.scope) == (own, TokenMode.OBO, "read write")
    assert zava.service.issue(zava.request(**alone(resource=own))).mode is TokenMode.AGENT
    for resource, reason in (
        (f"{own}/", "not_connected"),
        (f"{GATEWAY}/agents/servers/mail", "not_connected"),  # what stands there would be another agent to hand work to
        (f"{GATEWAY}/Agents", "server_unknown"),
    ):
        assert refused(zava, resource=resource).reason == reason


@pytest.mark.asvs("10.4.11")
def test_an_agent_that_may_use_nothing_gets_no_token_of_its_own(zava: World) -> None:
    declared = company()
    declared["agents"][0]["tools"] = []
    zava.apply(declared)
    assert refused(zava, resource=f"{GATEWAY}/agents").reason == "not_granted"


def test_a_missing_resource_is_named(zava: World) -> None:
    assert "resource is missing" in refused(zava, resource="").description


@pytest.mark.asvs("9.2.4")
def test_a_server_without_a_binding_is_an_invalid_target(zava: World) -> None:
    declared = company()
    del declared["agents"][0]["tools"][3]
    zava.apply(declared)
    error = refused(zava, resource=f"{GATEWAY}/mcp/customers")
    assert (error.error, error.reason) == ("invalid_target", "not_granted")
    assert zava.service.issue(zava.request()).access_token


def test_a_blocked_tool_server_gets_no_tokens_until_it_is_unblocked(zava: World) -> None:
    with zava.store.tx("root") as tx:
        registry.block_server(tx, "mail", "compromised")
    assert refused(zava).reason == "server_blocked"
    with zava.store.tx("root") as tx:
        registry.unblock_server(tx, "mail", "mended")
    assert zava.service.issue(zava.request()).access_token


# -- which agent --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": AgentState.DRAFT}, "agent_not_published"),
        ({"state": AgentState.SUBMITTED}, "agent_not_published"),
        ({"state": AgentState.RETIRED}, "agent_not_published"),
        ({"state": AgentState.BLOCKED}, "agent_blocked"),
        ({"risk": RiskLevel.HIGH}, "agent_risk"),
    ],
)
def test_an_agent_that_may_not_act_gets_no_token(zava: World, changes: dict[str, Any], reason: str) -> None:
    change_agent(zava, **changes)
    for request in ({}, alone()):
        error = refused(zava, **request)
        assert (error.error, error.reason, error.status) == ("unauthorized_client", reason, 400)


def test_an_agent_of_medium_risk_still_gets_one(zava: World) -> None:
    change_agent(zava, risk=RiskLevel.MEDIUM)
    assert zava.service.issue(zava.request()).access_token


@pytest.mark.asvs("10.4.10")
@pytest.mark.parametrize(
    "changes",
    [
        {"client_secrets": ("wrong",)},
        {"client_secrets": ("",)},
        {"client_secrets": ()},
        {"client_secrets": (SECRET[:-1],)},
        {"client_id": "nobody"},
        {"client_id": ""},
        {"client_id": "CUSTOMER-BILLING"},
    ],
)
def test_a_wrong_id_or_secret_is_refused_alike(zava: World, changes: dict[str, Any]) -> None:
    error = refused(zava, **changes)
    assert (error.error, error.status) == ("invalid_client", 401)
    assert error.description == "The agent's id or secret is wrong."


@pytest.mark.asvs("10.4.10")
def test_one_agents_secret_is_not_anothers(world: World) -> None:
    declared = company()
    declared["agents"].append({"id": "twin", "name": "Twin", "secret": {"value": "twin-" + SECRET}})
    world.apply(declared)
    world.make_keys()
    assert refused(world, client_id="twin").error == "invalid_client"


def test_an_agent_without_a_secret_gets_no_token_whatever_is_sent(world: World) -> None:
    declared = company()
    del declared["agents"][0]["secret"]
    world.apply(declared)
    world.make_keys()
    for secret in ("", "0" * 64, "None"):
        assert refused(world, client_secrets=(secret,)).error == "invalid_client"


def test_a_new_secret_takes_the_place_of_the_old_one(zava: World) -> None:
    declared = company()
    declared["agents"][0]["secret"] = {"value": "another-" + SECRET}
    zava.apply(declared)
    assert refused(zava).error == "invalid_client"
    assert zava.service.issue(zava.request(client_secrets=("another-" + SECRET,))).access_token


@pytest.mark.asvs("6.3.1")
def test_guessing_secrets_is_slowed_down_for_that_address_only(zava: World) -> None:
    for _ in range(10):
        assert refused(zava, client_secrets=("wrong",)).error == "invalid_client"
    error = refused(zava)  # the right secret now, from the guesser's address
    assert (error.error, error.status) == ("temporarily_unavailable", 429)
    assert error.retry_after is not None and 0 < error.retry_after <= 60
    assert zava.service.issue(zava.request(address="10.0.0.8")).access_token
    zava.clock.pass_seconds(60)
    assert zava.service.issue(zava.request()).access_token


def test_guessing_ids_is_slowed_down_too(zava: World) -> None:
    for number in range(60):
        refused(zava, client_id=f"agent-{number}")
    assert refused(zava, client_id="agent-61").status == 429


# -- which user ---------------------------------------------------------------------------------------------------


@pytest.mark.asvs("8.3.3")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_enabled": False}, "user_disabled"),
        ({"must_reset_password": True}, "password_reset_required"),
        ({"risk": RiskLevel.HIGH}, "user_risk"),
        ({"subject": "somebody-else"}, "user_unknown"),
    ],
)
def test_a_user_who_is_not_welcome_is_refused_with_the_reason(
    zava: World, changes: dict[str, Any], reason: str
) -> None:
    change_user(zava, **changes)
    error = refused(zava)
    assert (error.error, error.reason, error.status) == ("invalid_request", reason, 400)
    # The agent itself is still welcome.
    assert zava.service.issue(zava.request(**alone())).access_token


def test_a_user_of_medium_risk_is_welcome(zava: World) -> None:
    change_user(zava, risk=RiskLevel.MEDIUM)
    assert zava.service.issue(zava.request()).access_token


@pytest.mark.asvs("7.6.1")
def test_a_sign_in_from_before_a_revoke_is_refused_and_a_later_one_is_not(zava: World) -> None:
    before = zava.idp.sign_in("griffin")
    zava.clock.pass_seconds(30)
    with zava.store.tx("soc") as tx:
        sessions.revoke_user(tx, "griffin", "stolen session")
    error = refused(zava, subject_token=before)
    assert (error.error, error.reason) == ("invalid_request", "session_revoked")
    # A refreshed token of the same old sign-in is no better.
    zava.clock.pass_seconds(30)
    old_sign_in = int(zava.clock.at.timestamp()) - 60
    assert refused(zava, subject_token=zava.idp.sign_in("griffin", auth_time=old_sign_in)).reason == "session_revoked"
    issued = zava.service.issue(zava.request())
    assert zava.claims_of(issued.access_token)["sev"] == 2


@pytest.mark.parametrize("says_its_time", [True, False])
@pytest.mark.parametrize("ahead", [3, 25, 120])
def test_a_provider_whose_clock_is_ahead_does_not_carry_a_session_over_a_revoke(
    zava: World, ahead: int, says_its_time: bool
) -> None:
    zava.idp.ahead, zava.idp.says_its_time = ahead, says_its_time
    stolen = zava.idp.sign_in("griffin")
    if ahead <= CLOCK_SKEW:
        assert zava.service.issue(zava.request(subject_token=stolen)).access_token
    else:
        assert refused(zava, subject_token=stolen).reason == "subject_token_invalid"
    with zava.store.tx("soc") as tx:
        sessions.revoke_user(tx, "griffin", "stolen session")
    # By its provider's clock the stolen session began after the revoke.
    for _ in range(ahead + 2):
        assert refused(zava, subject_token=stolen).reason in {"session_revoked", "subject_token_invalid"}
        zava.clock.pass_seconds(1)
    assert refused(zava, subject_token=stolen).reason == "session_revoked"
    # Its clock is mended: what it signed before does not come back to life.
    zava.idp.ahead = 0.0
    zava.clock.pass_seconds(FRESH_SECONDS + 1)
    zava.service.key_sets.refresh_due()
    assert refused(zava, subject_token=stolen).reason == "session_revoked"
    zava.clock.pass_seconds(ahead + 3)
    assert zava.service.issue(zava.request()).access_token


@pytest.mark.parametrize("behind", [3, 120])
def test_a_provider_whose_clock_is_behind_refuses_new_sessions_for_as_long_and_never_lets_an_old_one_in(
    zava: World, behind: int
) -> None:
    zava.idp.ahead = -behind
    stolen = zava.idp.sign_in("griffin")
    with zava.store.tx("soc") as tx:
        sessions.revoke_user(tx, "griffin", "stolen session")
    assert refused(zava, subject_token=stolen).reason == "session_revoked"
    assert refused(zava, subject_token=zava.idp.sign_in("griffin")).reason == "session_revoked"
    zava.clock.pass_seconds(behind + 2)
    assert zava.service.issue(zava.request(subject_token=zava.idp.sign_in("griffin"))).access_token
    assert refused(zava, subject_token=stolen).reason == "session_revoked"


# -- the request itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "unsupported_grant_type"),
        ({"subject_token": ""}, "invalid_request"),
        ({"subject_token_type": ""}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"grant_type": "client_credentials", "subject_token": "x"}, "invalid_request"),
    ],
)
def test_a_request_that_is_none_is_refused(zava: World, changes: dict[str, Any], error: str) -> None:
    assert refused(zava, **changes).error == error


def test_without_a_signing_key_nothing_is_issued(world: World) -> None:
    from watchfloor.model.errors import Unavailable

    world.apply()
    with pytest.raises(Unavailable, match="no signing key"):
        world.service.issue(world.request())


# -- what is left behind ------------------------------------------------------------------------------------------


def test_refusals_are_in_the_audit_log_once_a_minute_with_how_many_there_were(zava: World) -> None:
    change_user(zava, is_enabled=False)
    for _ in range(5):
        refused(zava)
    entries = zava.audit("token:refuse")
    assert [(e["subject"], e["detail"]) for e in entries] == [
        ("agent/customer-billing", {"reason": "user_disabled", "address": "10.0.0.7", "server": "mail"})
    ]
    zava.clock.pass_seconds(60)
    refused(zava)
    assert zava.audit("token:refuse")[-1]["detail"]["more_like_it"] == "4"


def test_refusals_cannot_flood_the_audit_log(zava: World) -> None:
    for number in range(3 * PER_MINUTE):
        refused(zava, client_id=f"agent-{number}", address=f"10.1.{number}.1")
    assert len(zava.audit("token:refuse")) == PER_MINUTE


@pytest.mark.asvs("16.2.5")
def test_nothing_that_was_sent_as_an_id_or_secret_stands_in_the_audit_log(zava: World) -> None:
    refused(zava, client_id="My Secret Passphrase", client_secrets=("s3cr3t-value",))
    zava.service.issue(zava.request())
    text = str(zava.audit())
    for secret in ("Passphrase", "s3cr3t-value", SECRET, "mail-app-credential", "ada-knowledge-credential"):
        assert secret not in text
    assert zava.audit("token:refuse")[-1]["subject"] == "agent/unknown"


def test_issues_are_counted_not_audited(zava: World) -> None:
    entries = len(zava.audit())
    for _ in range(3):
        zava.service.issue(zava.request())
    refused(zava, client_secrets=("wrong",))
    assert zava.service.counts() == {("issued", "obo"): 3, ("refused", "invalid_client"): 1}
    assert len(zava.audit()) == entries + 1
