"""Foreign tokens: everything that must not pass, each beside the sign-in that does."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from joserfc.jwk import RSAKey

from watchfloor.identity.jwks import FetchedKeySet
from watchfloor.identity.providers import (
    FRESH_SECONDS,
    RETRY_SECONDS,
    STALE_SECONDS,
    KeySets,
    parse_jwks,
)
from watchfloor.identity.sts import TokenRefused
from watchfloor.model.errors import Unavailable

from .world import IDP, ISSUER, IdentityProvider, World, company, handmade, rsa_key

Forge = Callable[[IdentityProvider], str]


def _hs256_with_public_key(idp: IdentityProvider) -> str:
    # By hand: the library refuses to be misused like this.
    unsigned = handmade({"alg": "HS256", "kid": "idp-1", "typ": "JWT"}, idp.claims("griffin"))
    mac = hmac.digest(idp.published[0].as_pem(private=False), unsigned.rstrip(".").encode(), "sha256")
    return handmade({"alg": "HS256", "kid": "idp-1", "typ": "JWT"}, idp.claims("griffin"), mac)


def _rs512(idp: IdentityProvider) -> str:
    header = {"alg": "RS512", "kid": "idp-1", "typ": "JWT"}
    return _signed(header, idp.claims("griffin"), idp.published[0], SHA512())


def _embedded_key(idp: IdentityProvider) -> str:
    mallory = rsa_key("mallory")
    header = {"alg": "RS256", "kid": "idp-1", "jwk": mallory.as_dict(private=False)}
    return _signed(header, idp.claims("griffin"), mallory)


def _signed(header: dict[str, Any], claims: dict[str, Any], key: RSAKey, digest: Any = None) -> str:
    """Signed by hand: the library makes no tokens like these."""
    unsigned = handmade(header, claims)
    private = key.raw_value
    assert isinstance(private, RSAPrivateKey)
    signature = private.sign(unsigned.rstrip(".").encode(), PKCS1v15(), digest or SHA256())
    return handmade(header, claims, signature)


def _with_header(**extra: Any) -> Forge:
    return lambda idp: _signed(
        {"alg": "RS256", "kid": "idp-1", "typ": "JWT", **extra}, idp.claims("griffin"), idp.published[0]
    )


def _tampered(idp: IdentityProvider) -> str:
    head, _, signature = idp.sign_in("ada").split(".")
    body = idp.sign_in("griffin").split(".")[1]
    return f"{head}.{body}.{signature}"


def _at(offset: int, claim: str) -> Forge:
    return lambda idp: idp.sign_in("griffin", **{claim: int(idp.clock.at.timestamp()) + offset})


FORGERIES: dict[str, Forge] = {
    "unsigned (alg none)": lambda idp: handmade({"alg": "none", "typ": "JWT"}, idp.claims("griffin")),
    "unsigned (alg None)": lambda idp: handmade({"alg": "None", "kid": "idp-1"}, idp.claims("griffin"), b"x"),
    "signature cut off": lambda idp: idp.sign_in("griffin").rsplit(".", 1)[0] + ".",
    "HS256 keyed with the RSA public key": _hs256_with_public_key,
    "RS512": _rs512,
    "somebody else's key under a known kid": lambda idp: idp.sign_in(
        "griffin", key=rsa_key("mallory"), header={"kid": "idp-1"}
    ),
    "unknown kid": lambda idp: idp.sign_in("griffin", key=rsa_key("mallory")),
    "kid that is a number": _with_header(kid=7),
    "embedded jwk": _embedded_key,
    "jku": _with_header(jku="https://mallory.example/jwks"),
    "x5u": _with_header(x5u="https://mallory.example/cert"),
    "crit": _with_header(crit=["exp"], exp=1),
    "payload of another token": _tampered,
    "wrong issuer": lambda idp: idp.sign_in("griffin", iss="https://mallory.example"),
    "no issuer": lambda idp: idp.sign_in("griffin", iss=None),
    "issuer that is our own token service": lambda idp: idp.sign_in("griffin", iss=ISSUER),
    "wrong audience": lambda idp: idp.sign_in("griffin", aud="another-app"),
    "list without our audience": lambda idp: idp.sign_in("griffin", aud=["another-app", "watchfloor2"]),
    "no audience": lambda idp: idp.sign_in("griffin", aud=None),
    "logout token": lambda idp: idp.sign_in("griffin", header={"typ": "logout+jwt"}),
    "security event token": lambda idp: idp.sign_in("griffin", header={"typ": "secevent+jwt"}),
    "logout token without typ": lambda idp: idp.sign_in(
        "griffin", events={"http://schemas.openid.net/event/backchannel-logout": {}}
    ),
    "expired now": _at(0, "exp"),
    "expired long ago": _at(-3600, "exp"),
    "no exp": lambda idp: idp.sign_in("griffin", exp=None),
    "no iat": lambda idp: idp.sign_in("griffin", iat=None),
    "exp that is text": lambda idp: idp.sign_in("griffin", exp="never"),
    "iat in the future": _at(120, "iat"),
    "auth_time in the future": _at(120, "auth_time"),
    "nbf in the future": _at(120, "nbf"),
    "issued too long ago": _at(-3601, "iat"),
    "no subject": lambda idp: idp.sign_in("griffin", sub=None),
    "subject that is a number": lambda idp: idp.sign_in("griffin", sub=7),
    "not a JWT": lambda idp: "griffin",
    "four parts": lambda idp: idp.sign_in("griffin") + ".x",
    "payload that is no JSON": lambda idp: "e30.bm90IGpzb24.e30",
    "payload nested without end": lambda idp: f"e30.{base64.urlsafe_b64encode(b'[' * 9000).decode()}.e30",
    "too long": lambda idp: idp.sign_in("griffin", padding="x" * 20_000),
}


@pytest.mark.asvs("9.1.1", "9.1.2", "9.1.3", "9.2.1", "9.2.2", "9.2.3")
@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_or_unfit_token_is_refused_and_says_no_more_than_that(zava: World, forge: Forge) -> None:
    with pytest.raises(TokenRefused) as caught:
        zava.service.issue(zava.request(subject_token=forge(zava.idp)))
    assert (caught.value.error, caught.value.reason) == ("invalid_request", "subject_token_invalid")
    assert caught.value.status == 400


GOOD: dict[str, Forge] = {
    "as it comes": lambda idp: idp.sign_in("griffin"),
    "typ at+jwt": lambda idp: idp.sign_in("griffin", header={"typ": "at+jwt"}),
    "typ in other letters": lambda idp: idp.sign_in("griffin", header={"typ": "jwt"}),
    "no typ": lambda idp: idp.sign_in("griffin", header={"typ": None}),
    "no kid, and one key only": lambda idp: idp.sign_in("griffin", header={"kid": None}),
    "several audiences": lambda idp: idp.sign_in("griffin", aud=["watchfloor", "another-app"]),
    "no auth_time": lambda idp: idp.sign_in("griffin", auth_time=None),
    "no sid": lambda idp: idp.sign_in("griffin", sid=None),
    "clock 20 s ahead": _at(20, "iat"),
    "times with fractions": lambda idp: idp.sign_in("griffin", exp=idp.clock.at.timestamp() + 60.5),
    "as old as may be": _at(-3599, "iat"),
}


@pytest.mark.parametrize("sign_in", GOOD.values(), ids=GOOD.keys())
def test_a_sign_in_is_exchanged(zava: World, sign_in: Forge) -> None:
    issued = zava.service.issue(zava.request(subject_token=sign_in(zava.idp)))
    assert zava.claims_of(issued.access_token)["sub"] == "user:griffin"


def test_without_a_kid_several_keys_are_ambiguous(zava: World) -> None:
    zava.idp.published.append(rsa_key("idp-2"))
    with pytest.raises(TokenRefused, match="does not publish"):
        zava.service.issue(zava.request(subject_token=zava.idp.sign_in("griffin", header={"kid": None})))
    assert zava.service.issue(zava.request()).access_token


@pytest.mark.asvs("9.2.2")
def test_a_gateway_token_is_not_taken_back_as_a_subject(zava: World) -> None:
    token = zava.service.issue(zava.request()).access_token
    with pytest.raises(TokenRefused, match="not handed to this agent"):
        zava.service.issue(zava.request(subject_token=token))


@pytest.mark.asvs("6.8.1", "10.3.3")
def test_a_token_of_one_identity_provider_does_not_speak_for_a_user_of_another(zava: World) -> None:
    other = IdentityProvider(zava.clock, issuer="https://other.example", published=[rsa_key("other")])
    declared = {
        "apiVersion": "watchfloor/v1",
        "kind": "Company",
        "identityProviders": [{"issuer": other.issuer, "jwksUri": other.jwks_uri, "audience": "watchfloor"}],
    }
    zava.apply(declared)
    fetch = zava.idp.fetch
    zava.service.key_sets = KeySets(
        lambda url: other.fetch(url) if url == other.jwks_uri else fetch(url), clock=zava.clock.monotonic
    )
    # The other provider knows somebody as "griffin" too; and it cannot sign for the first.
    with pytest.raises(TokenRefused) as caught:
        zava.service.issue(zava.request(subject_token=other.sign_in("griffin")))
    assert caught.value.reason == "user_unknown"
    with pytest.raises(TokenRefused) as caught:
        zava.service.issue(zava.request(subject_token=other.sign_in("griffin", iss=IDP)))
    assert caught.value.reason == "subject_token_invalid"
    assert zava.service.issue(zava.request()).access_token


def test_another_claim_can_name_the_user(world: World) -> None:
    declared = company()
    declared["identityProviders"][0]["subjectClaim"] = "oid"
    declared["users"][0]["subject"] = "0f2c-griffin"
    world.apply(declared)
    world.make_keys()
    good = world.idp.sign_in("whoever", oid="0f2c-griffin")
    assert world.claims_of(world.service.issue(world.request(subject_token=good)).access_token)["sub"] == "user:griffin"
    with pytest.raises(TokenRefused, match="'oid' names no user"):
        world.service.issue(world.request(subject_token=world.idp.sign_in("0f2c-griffin")))


# -- key sets -----------------------------------------------------------------------------------------------------


def test_keys_are_fetched_once_and_kept(zava: World) -> None:
    for _ in range(5):
        zava.service.issue(zava.request())
    assert zava.idp.fetched == 1


def test_a_new_key_of_the_provider_is_found_at_once_and_an_old_one_ends_with_the_refresh(zava: World) -> None:
    zava.service.issue(zava.request())
    old = zava.idp.sign_in("griffin")
    zava.idp.published = [rsa_key("idp-2")]
    zava.clock.pass_seconds(RETRY_SECONDS)
    assert zava.service.issue(zava.request()).access_token
    with pytest.raises(TokenRefused, match="does not publish"):
        zava.service.issue(zava.request(subject_token=old))


def test_made_up_kids_do_not_make_us_ask_the_provider_again_and_again(zava: World) -> None:
    zava.service.issue(zava.request())
    for number in range(20):
        bad = zava.idp.sign_in("griffin", key=rsa_key("mallory"), header={"kid": f"made-up-{number}"})
        with pytest.raises(TokenRefused):
            zava.service.issue(zava.request(subject_token=bad))
    assert zava.idp.fetched == 1
    zava.clock.pass_seconds(RETRY_SECONDS)
    with pytest.raises(TokenRefused):
        zava.service.issue(zava.request(subject_token=bad))
    assert zava.idp.fetched == 2


@pytest.mark.asvs("16.5.2")
def test_a_provider_that_is_down_stops_nobody_until_its_keys_are_too_old(zava: World) -> None:
    zava.service.issue(zava.request())
    zava.idp.is_down = True
    zava.clock.pass_seconds(STALE_SECONDS - 1)
    assert zava.service.key_sets.refresh_due() == 1
    assert zava.service.issue(zava.request()).access_token
    zava.clock.pass_seconds(2)
    with pytest.raises(TokenRefused) as caught:
        zava.service.issue(zava.request())
    assert (caught.value.error, caught.value.status) == ("temporarily_unavailable", 503)
    zava.idp.is_down = False
    zava.clock.pass_seconds(RETRY_SECONDS)
    assert zava.service.issue(zava.request()).access_token


def test_a_provider_that_never_answered_is_unavailable_not_wrong(zava: World) -> None:
    zava.idp.is_down = True
    for _ in range(3):
        with pytest.raises(TokenRefused) as caught:
            zava.service.issue(zava.request())
        assert caught.value.reason == "identity_provider_unavailable"
    assert zava.idp.fetched == 1


def test_the_background_job_drops_a_key_that_was_withdrawn(zava: World) -> None:
    old = zava.idp.sign_in("griffin")
    assert zava.service.issue(zava.request(subject_token=old)).access_token
    zava.idp.published = [rsa_key("idp-2")]
    assert zava.service.key_sets.refresh_due() == 0  # still fresh
    zava.clock.pass_seconds(FRESH_SECONDS + 1)
    assert zava.service.key_sets.refresh_due() == 1
    with pytest.raises(TokenRefused, match="does not publish"):
        zava.service.issue(zava.request(subject_token=old))


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"keys": 1}', b"[" * 100_000])
def test_a_broken_key_set_counts_as_no_answer(zava: World, body: bytes) -> None:
    zava.idp.body = body
    with pytest.raises(TokenRefused) as caught:
        zava.service.issue(zava.request())
    assert caught.value.status == 503


@pytest.mark.asvs("9.1.3")
def test_two_keys_under_one_kid_are_refused_altogether() -> None:
    keys = [{**rsa_key(name).as_dict(private=False), "kid": "same"} for name in ("one", "two")]
    with pytest.raises(ValueError, match="share the kid"):
        parse_jwks(json.dumps({"keys": keys}).encode())


SHORT = {"kty": "RSA", "kid": "short", "e": "AQAB", "n": base64.urlsafe_b64encode(b"\xff" * 128).decode().rstrip("=")}


def test_only_signing_keys_of_proper_length_are_taken() -> None:
    good = rsa_key("idp-1").as_dict(private=False)
    keys: list[Any] = [
        good,
        {**rsa_key("enc").as_dict(private=False), "use": "enc"},
        {**rsa_key("pss").as_dict(private=False), "alg": "PS256"},
        SHORT,
        {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
        {"kty": "RSA", "n": "!!", "e": "AQAB", "kid": "junk"},
        {"kty": "RSA", "kid": "bare"},
        {**rsa_key("num").as_dict(private=False), "kid": 5},
        "text",
    ]
    assert list(parse_jwks(json.dumps({"keys": keys}).encode())) == ["idp-1"]


def test_a_private_key_in_a_key_set_is_read_as_its_public_half() -> None:
    found = parse_jwks(json.dumps({"keys": [rsa_key("idp-1").as_dict(private=True)]}).encode())
    assert not found["idp-1"].is_private


def test_a_key_set_that_nobody_asked_for_is_not_fetched() -> None:
    def fetch(url: str) -> FetchedKeySet:
        raise Unavailable("must not be asked")

    assert KeySets(fetch, clock=lambda: 0.0).refresh_due() == 0
