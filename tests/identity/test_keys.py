"""Signing keys: made once, sealed, replaced without a token failing."""

from __future__ import annotations

import pytest
from joserfc.jwk import RSAKey

from watchfloor.identity import keys
from watchfloor.model.errors import Corrupt
from watchfloor.model.facts import CredentialFacts, Kind
from watchfloor.storage import people
from watchfloor.storage.vault import Vault

from .world import World


def rotate(world: World) -> str:
    with world.store.tx("root") as tx:
        return keys.rotate(tx, world.vault)


def kid_of(world: World) -> str:
    """Which key signs now."""
    with world.store.read() as tx:
        return keys.current_key(tx).kid


def test_there_is_one_key_however_often_the_server_starts(zava: World) -> None:
    with zava.store.tx() as tx:
        assert not keys.ensure_signing_key(tx, zava.vault)
        tx.audit("test:end", "test")
    published = zava.service.published_keys()["keys"]
    assert len(published) == 1
    assert published[0].keys() == {"kty", "n", "e", "kid", "use", "alg"}
    assert (published[0]["alg"], published[0]["use"]) == ("RS256", "sig")


def test_after_a_rotation_old_tokens_verify_and_new_ones_are_signed_with_the_new_key(zava: World) -> None:
    old = zava.service.issue(zava.request()).access_token
    old_kid = kid_of(zava)
    new_kid = rotate(zava)
    # For a moment the old key still signs: gateways elsewhere may not know the new one yet.
    assert kid_of(zava) == old_kid
    zava.clock.pass_seconds(keys.SETTLE.total_seconds())
    assert kid_of(zava) == new_kid
    new = zava.service.issue(zava.request()).access_token
    assert zava.claims_of(old)["sub"] == zava.claims_of(new)["sub"] == "user:griffin"
    assert set(zava.facts(Kind.SIGNING_KEY)) == {old_kid, new_kid}


def test_a_retired_key_goes_when_nothing_that_it_signed_can_live(zava: World) -> None:
    old_kid = kid_of(zava)
    new_kid = rotate(zava)
    with zava.store.tx() as tx:
        assert keys.drop_retired(tx) == 0
        tx.audit("test:end", "test")
    zava.clock.pass_seconds(keys.GRACE.total_seconds())
    assert [k["kid"] for k in zava.service.published_keys()["keys"]] == [new_kid]
    with zava.store.tx() as tx:
        assert keys.drop_retired(tx) == 1
    assert old_kid not in zava.facts(Kind.SIGNING_KEY)


def test_the_grace_is_longer_than_any_token_lives() -> None:
    assert keys.GRACE.total_seconds() > 600 + keys.SETTLE.total_seconds()


def test_workers_get_the_newest_key_sealed_and_its_kid_follows_from_it(zava: World) -> None:
    new_kid = rotate(zava)
    facts = CredentialFacts.from_json(zava.facts(Kind.CREDENTIAL)["sts-signing"])
    assert facts.kind == "rsa-pem"
    pem = zava.vault.unseal(facts.sealed, "sts-signing")
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert RSAKey.import_key(pem).thumbprint() == new_kid


def test_no_private_key_lies_open_in_the_database_or_the_audit_log(zava: World) -> None:
    rotate(zava)
    assert "sealed" not in str(zava.audit("signing-key:create")[-1]["detail"].get("after", {}).get("public_jwk", ""))
    zava.store.close()
    content = b"".join(p.read_bytes() for p in zava.directory.glob("control.db*"))
    assert b"PRIVATE KEY" not in content


def test_another_vault_key_opens_no_signing_key(zava: World) -> None:
    with zava.store.read() as tx, pytest.raises(Corrupt):
        keys.open_key(keys.current_key(tx), Vault(b"x" * 32))


def test_a_sealed_key_does_not_open_under_another_kid(zava: World) -> None:
    from dataclasses import replace

    with zava.store.read() as tx:
        pair = people.list_signing_keys(tx)[0]
    with pytest.raises(Corrupt):
        keys.open_key(replace(pair, kid="another"), zava.vault)
