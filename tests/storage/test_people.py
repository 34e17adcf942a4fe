"""Identity's repository: providers, users, keys, operators, sessions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from watchfloor.model.errors import Conflict
from watchfloor.model.facts import Kind, SigningKey, UserFacts
from watchfloor.model.people import RiskLevel, Role
from watchfloor.storage import people
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.people import IdentityProvider, Operator, OperatorSession, SigningKeyPair, User

from .contract_control import postgres_url, site, store  # noqa: F401  fixtures: every engine
from .lite import lite, migrated  # noqa: F401  fixtures: one engine, fast
from .test_inventory import audit, projected

AT = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
IDP = "https://login.zava.example"
GRIFFIN = User(
    id="griffin",
    issuer=IDP,
    subject="0f2c",
    updated_at=AT,
    upn="griffin@zava.example",
    name="Griffin Vale",
    is_enabled=True,
    epoch=3,
    risk=RiskLevel.MEDIUM,
    must_reset_password=True,
    not_before=AT,
    groups=("billing", "staff"),
)
PROVIDER = IdentityProvider(IDP, f"{IDP}/jwks", "watchfloor", "oid")
KEY = SigningKeyPair("kid-1", {"kty": "RSA", "kid": "kid-1"}, "sealed-key", AT)
OPERATOR = Operator("lin", "Lin Okafor", frozenset({Role.SOC_OPERATOR, Role.AUDITOR}), AT, True, "$argon2id$hash")
SESSION = OperatorSession("1" * 64, "lin", "csrf-secret", "browser", AT, AT, AT + timedelta(hours=12))


def test_users_are_read_back_by_id_and_by_subject_and_projected(store: SqlControlStore) -> None:
    with store.tx("root") as tx:
        assert people.save_user(tx, GRIFFIN)
    with store.read() as tx:
        assert people.find_user(tx, "griffin") == GRIFFIN
        assert people.find_user_by_subject(tx, IDP, "0f2c") == GRIFFIN
        assert people.list_users(tx) == [GRIFFIN]
        assert people.find_user(tx, "x") is None
        assert people.find_user_by_subject(tx, IDP, "griffin") is None
        assert people.find_user_by_subject(tx, "https://other", "0f2c") is None
    body = projected(store, Kind.USER)["griffin"]
    assert body is not None
    assert UserFacts.from_json(body) == UserFacts(
        "griffin", "griffin@zava.example", "Griffin Vale", True, 3, RiskLevel.MEDIUM, True, AT, ("billing", "staff")
    )


def test_saving_an_equal_user_changes_nothing(lite: SqlControlStore) -> None:
    with lite.tx("root") as tx:
        people.save_user(tx, GRIFFIN)
    before, revision = audit(lite), lite.read_projection(0)[0]
    with lite.tx("root") as tx:
        assert not people.save_user(tx, replace(GRIFFIN, updated_at=tx.now))
    assert (audit(lite), lite.read_projection(0)[0]) == (before, revision)


def test_a_sign_in_belongs_to_one_user(store: SqlControlStore) -> None:
    with pytest.raises(Conflict), store.tx("root") as tx:
        people.save_user(tx, GRIFFIN)
        people.save_user(tx, replace(GRIFFIN, id="thief"))


def test_a_user_change_is_audited_field_by_field(lite: SqlControlStore) -> None:
    with lite.tx("root") as tx:
        people.save_user(tx, GRIFFIN)
        people.save_user(tx, replace(GRIFFIN, is_enabled=False), "user:disable", "left")
    entry = audit(lite)[-1]
    assert (entry["action"], entry["subject"]) == ("user:disable", "user/griffin")
    assert entry["detail"] == {"before": {"is_enabled": True}, "after": {"is_enabled": False}, "reason": "left"}


def test_ending_sessions_raises_the_epoch_and_never_lowers_the_limit() -> None:
    ended = people.without_sessions(GRIFFIN, AT)
    assert ended.epoch == 4
    assert ended.not_before == datetime(2026, 3, 1, 12, 0, 2, tzinfo=UTC)
    earlier = people.without_sessions(ended, AT - timedelta(hours=1))
    assert (earlier.epoch, earlier.not_before) == (5, ended.not_before)


def test_a_whole_second_counts_as_itself() -> None:
    at = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
    assert people.not_before_for(at) == at + timedelta(seconds=1)


def test_identity_providers_are_kept_and_audited(lite: SqlControlStore) -> None:
    with lite.tx("root") as tx:
        assert people.save_identity_provider(tx, PROVIDER)
        assert not people.save_identity_provider(tx, PROVIDER)
        assert people.save_identity_provider(tx, replace(PROVIDER, audience="other"))
    with lite.read() as tx:
        assert people.list_identity_providers(tx) == [replace(PROVIDER, audience="other")]
        assert people.find_identity_provider(tx, "https://other") is None
    assert audit(lite)[-1]["detail"] == {"before": {"audience": "watchfloor"}, "after": {"audience": "other"}}


def test_the_public_half_of_a_key_is_projected_and_goes_with_it(lite: SqlControlStore) -> None:
    with lite.tx("root") as tx:
        people.save_signing_key(tx, KEY, "signing-key:create")
        people.save_signing_key(tx, replace(KEY, kid="kid-2", created_at=AT + timedelta(days=1)), "signing-key:create")
        people.save_signing_key(tx, replace(KEY, retired_at=AT), "signing-key:retire")
        assert [k.kid for k in people.list_signing_keys(tx)] == ["kid-2", "kid-1"]
    body = projected(lite, Kind.SIGNING_KEY)["kid-1"]
    assert body is not None and SigningKey.from_json(body) == SigningKey("kid-1", KEY.public_jwk)
    with lite.tx("root") as tx:
        assert people.delete_signing_key(tx, "kid-1")
        assert not people.delete_signing_key(tx, "kid-1")
    assert projected(lite, Kind.SIGNING_KEY)["kid-1"] is None
    assert "sealed-key" not in str(audit(lite))


def test_operators_are_kept_audited_without_their_password_and_never_projected(lite: SqlControlStore) -> None:
    with lite.tx("root") as tx:
        people.save_operator(tx, OPERATOR, "operator:create")
    with lite.read() as tx:
        assert people.find_operator(tx, "lin") == OPERATOR
        assert people.list_operators(tx) == [OPERATOR]
        assert people.find_operator(tx, "x") is None
    assert "argon2id" not in str(audit(lite))
    assert audit(lite)[-1]["detail"]["after"]["roles"] == ["auditor", "soc_operator"]
    assert lite.read_projection(0)[0] == 0


def test_sessions_are_found_touched_and_ended(store: SqlControlStore) -> None:
    other = replace(SESSION, token_hash="2" * 64, csrf_token="", label="ci")
    with store.tx("root") as tx:
        people.save_operator(tx, OPERATOR, "operator:create")
        people.add_session(tx, SESSION, "operator:sign-in")
        people.add_session(tx, other, "operator:issue-token")
        assert people.find_session(tx, "1" * 64) == SESSION
        assert people.list_sessions(tx, "lin") == [SESSION, other]
        assert other.is_api_token and not SESSION.is_api_token
        people.touch_session(tx, "1" * 64, AT + timedelta(minutes=1))
        people.delete_session(tx, other, "operator:revoke-token")
        people.delete_session(tx, other, "operator:revoke-token")
        assert people.find_session(tx, "2" * 64) is None
        assert people.list_sessions(tx, "lin") == [replace(SESSION, seen_at=AT + timedelta(minutes=1))]
    text = str(audit(store))
    assert "1" * 64 not in text and "csrf-secret" not in text


@pytest.mark.parametrize(
    ("arguments", "left"),
    [({}, ""), ({"keep": "a"}, "a"), ({"label": "ci"}, "ab"), ({"label": "ci", "keep": "c"}, "abc")],
)
def test_ending_many_sessions_can_spare_some(lite: SqlControlStore, arguments: dict[str, str], left: str) -> None:
    with lite.tx("root") as tx:
        people.save_operator(tx, OPERATOR, "operator:create")
        for name, label in (("a", "browser"), ("b", "browser"), ("c", "ci")):
            people.add_session(tx, replace(SESSION, token_hash=name, label=label), "operator:sign-in")
        ended = people.delete_sessions(tx, "lin", action="operator:end-sessions", **arguments)
        assert ended == 3 - len(left)
        assert "".join(s.token_hash for s in people.list_sessions(tx, "lin")) == left


def test_expired_sessions_are_forgotten(lite: SqlControlStore) -> None:
    with lite.tx("root") as tx:
        people.save_operator(tx, OPERATOR, "operator:create")
        people.add_session(tx, SESSION, "operator:sign-in")
        assert people.delete_expired_sessions(tx, SESSION.expires_at - timedelta(seconds=1)) == 0
        assert people.delete_expired_sessions(tx, SESSION.expires_at) == 1
