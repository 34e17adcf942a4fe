"""Revocation: what dies, what lives, and when somebody is let in again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.identity import risk, sessions
from watchfloor.identity.sts import TokenRefused, TokenService
from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.facts import AgentFacts, Kind, UserFacts
from watchfloor.model.people import RiskLevel
from watchfloor.storage.people import not_before_for

from .world import IDP, World


def user_facts(world: World, user: str = "griffin") -> UserFacts:
    return UserFacts.from_json(world.facts(Kind.USER)[user])


def test_a_token_from_before_a_revoke_is_dead_by_its_epoch(zava: World) -> None:
    claims = zava.claims_of(zava.service.issue(zava.request()).access_token)
    assert claims["sev"] == user_facts(zava).epoch
    with zava.store.tx("soc") as tx:
        revoked = sessions.revoke_user(tx, "griffin", "stolen session")
    assert claims["sev"] < user_facts(zava).epoch == revoked.epoch == 2
    # Nobody else is touched.
    assert user_facts(zava, "ada").epoch == 1


def test_signing_in_again_in_the_same_second_is_refused_and_two_seconds_later_it_works(zava: World) -> None:
    zava.clock.at = datetime(2026, 3, 2, 13, 0, 0, 400_000, tzinfo=UTC)
    with zava.store.tx("soc") as tx:
        revoked = sessions.revoke_user(tx, "griffin", "stolen session")
    assert revoked.not_before == datetime(2026, 3, 2, 13, 0, 2, tzinfo=UTC)
    for offset in (0, 0.5, 0.7, 1.5):
        zava.clock.at = revoked.at + timedelta(seconds=offset)
        with pytest.raises(TokenRefused, match="revoked"):
            zava.service.issue(zava.request())
    zava.clock.at = revoked.not_before
    claims = zava.claims_of(zava.service.issue(zava.request()).access_token)
    assert claims["sev"] == user_facts(zava).epoch


@given(st.integers(0, 10**6 - 1), st.integers(0, 3_000_000))
def test_no_whole_second_up_to_the_revocation_counts_as_later(micros: int, before: int) -> None:
    now = datetime(2026, 3, 2, 13, 0, 5, tzinfo=UTC) + timedelta(microseconds=micros)
    sign_in = int((now - timedelta(microseconds=before)).timestamp())
    assert datetime.fromtimestamp(sign_in, UTC) < not_before_for(now)
    # And nobody is kept out for longer than it takes.
    assert not_before_for(now) - now <= timedelta(seconds=2)


def test_revoking_twice_raises_the_epoch_twice_and_never_moves_the_limit_back(zava: World) -> None:
    with zava.store.tx("soc") as tx:
        first = sessions.revoke_user(tx, "griffin", "once")
    zava.clock.pass_seconds(-60)  # a clock that was set back
    with zava.store.tx("soc") as tx:
        second = sessions.revoke_user(tx, "griffin", "twice")
    assert (first.epoch, second.epoch) == (2, 3)
    assert second.not_before == first.not_before


def test_a_revoke_can_hold_the_user_to_a_password_reset_until_reinstated(zava: World) -> None:
    with zava.store.tx("soc") as tx:
        sessions.revoke_user(tx, "griffin", "confirmed", require_password_reset=True)
        risk.confirm_compromised(tx, "user", "griffin", "confirmed")
    facts = user_facts(zava)
    assert facts.must_reset_password and facts.risk is RiskLevel.HIGH
    zava.clock.pass_seconds(60)
    with pytest.raises(TokenRefused) as caught:
        zava.service.issue(zava.request())
    assert caught.value.reason == "password_reset_required"
    with zava.store.tx("soc") as tx:
        sessions.reinstate_user(tx, "griffin", "password changed")
    assert zava.service.issue(zava.request()).access_token
    assert user_facts(zava).epoch == 2  # what was revoked stays revoked


def test_only_a_sign_in_from_after_the_revoke_counts_as_coming_back(zava: World) -> None:
    came_back: list[tuple[str, str]] = []
    service = TokenService(
        zava.store, zava.vault, zava.service.settings, key_sets=zava.service.key_sets, clock=zava.clock.monotonic,
        returned=lambda issuer, subject: came_back.append((issuer, subject)),
    )  # fmt: skip
    stolen = zava.request()
    with zava.store.tx("soc") as tx:
        sessions.revoke_user(tx, "griffin", "confirmed", require_password_reset=True)
    zava.clock.pass_seconds(60)
    for request, came in ((stolen, []), (zava.request(), [(IDP, "griffin")])):
        with pytest.raises(TokenRefused, match="must reset the password"):
            service.issue(request)
        assert came_back == came


def test_a_later_revoke_does_not_lift_what_an_earlier_one_demanded(zava: World) -> None:
    with zava.store.tx("soc") as tx:
        sessions.revoke_user(tx, "griffin", "confirmed", require_password_reset=True)
        risk.confirm_compromised(tx, "user", "griffin", "confirmed")
        sessions.revoke_user(tx, "griffin", "again")
    facts = user_facts(zava)
    assert facts.must_reset_password and facts.risk is RiskLevel.HIGH


@pytest.mark.asvs("7.4.2")
def test_disabling_ends_every_session_for_good(zava: World) -> None:
    token = zava.idp.sign_in("griffin")
    with zava.store.tx("root") as tx:
        sessions.set_user_enabled(tx, "griffin", False, "left the company")
    assert not user_facts(zava).is_enabled and user_facts(zava).epoch == 2
    with zava.store.tx("root") as tx:
        sessions.set_user_enabled(tx, "griffin", True, "came back")
    assert user_facts(zava).is_enabled and user_facts(zava).epoch == 2
    with pytest.raises(TokenRefused, match="revoked"):
        zava.service.issue(zava.request(subject_token=token))
    zava.clock.pass_seconds(2)
    assert zava.service.issue(zava.request()).access_token


def test_revoking_an_agent_kills_its_tokens_and_lets_it_get_new_ones(zava: World) -> None:
    old = zava.claims_of(zava.service.issue(zava.request()).access_token)
    with zava.store.tx("root") as tx:
        revoked = sessions.revoke_agent(tx, "customer-billing", "secret leaked")
    facts = AgentFacts.from_json(zava.facts(Kind.AGENT)["customer-billing"])
    assert old["aev"] < facts.epoch == revoked.epoch
    assert zava.claims_of(zava.service.issue(zava.request()).access_token)["aev"] == facts.epoch


def test_revocation_is_audited_with_actor_reason_and_what_changed(zava: World) -> None:
    with zava.store.tx("soc") as tx:
        sessions.revoke_user(tx, "griffin", "stolen session")
    entry = zava.audit("user:revoke-sessions")[-1]
    assert (entry["actor"], entry["subject"]) == ("soc", "user/griffin")
    assert entry["detail"]["reason"] == "stolen session"
    assert entry["detail"]["before"]["epoch"] == 1 and entry["detail"]["after"]["epoch"] == 2


def test_unknown_users_agents_and_missing_reasons_are_refused(zava: World) -> None:
    with zava.store.read() as tx:
        with pytest.raises(NotFound):
            sessions.revoke_user(tx, "nobody", "because")
        with pytest.raises(NotFound):
            sessions.revoke_agent(tx, "nobody", "because")
        with pytest.raises(InputError, match="reason"):
            sessions.revoke_user(tx, "griffin", "  ")
