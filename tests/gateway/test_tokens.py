"""Tokens: every forgery of the table is refused by the verifier, and the honest one beside it is accepted."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import hmac as crypto_hmac
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt

from gateway.world import ISSUER, KEY, KEY_PEM, World, make_key
from watchfloor.gateway.tokens import Token, TokenError, TokenVerifier
from watchfloor.model.agents import PROOF_CLAIM, TokenMode
from watchfloor.model.facts import Actor, SigningKey

BASE = "http://gw.test"
OTHER, _ = make_key()
SMALL, _ = make_key(1024)  # refused, of course


def verifier() -> TokenVerifier:
    made = TokenVerifier(ISSUER, BASE)
    made.use_keys({KEY.kid: SigningKey(KEY.kid, KEY.as_dict(private=False))})
    return made


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {
        "iss": ISSUER, "aud": f"{BASE}/mcp/mail", "sub": "user:griffin", "azp": "agent:billing",
        "act": {"sub": "agent:billing"}, "sid": "s", "auth_time": now, "scope": "read write", "mode": "obo",
        "sev": 1, "aev": 1, "jti": "j", "iat": now, "exp": now + 600,
    }  # fmt: skip
    return {k: v for k, v in (good | changes).items() if v is not None}


def sign(body: dict[str, Any], key: Any = KEY, **header: Any) -> bytes:
    full = {k: v for k, v in ({"alg": "RS256", "typ": "at+jwt", "kid": KEY.kid} | header).items() if v is not None}
    return jwt.encode(full, body, key, algorithms=[full["alg"]]).encode()


def part(value: Any) -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def handmade(header: dict[str, Any], body: dict[str, Any], signature: bytes | None = None) -> bytes:
    """A token with any header: signed with the real key unless another signature is given."""
    signed = part(header) + b"." + part(body)
    if signature is None:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        signature = load_pem_private_key(KEY_PEM, None).sign(signed, padding.PKCS1v15(), SHA256())
    return signed + b"." + part(signature)


def hs256_with_the_public_key() -> bytes:
    header = {"alg": "HS256", "typ": "at+jwt", "kid": KEY.kid}
    signed = part(header) + b"." + part(claims())
    mac = crypto_hmac.HMAC(KEY.as_pem(private=False), SHA256())
    mac.update(signed)
    return signed + b"." + part(mac.finalize())


NOW = int(time.time())
HEADER = {"alg": "RS256", "typ": "at+jwt", "kid": KEY.kid}
FORGERIES: dict[str, Any] = {
    "alg none": lambda: part({**HEADER, "alg": "none"}) + b"." + part(claims()) + b".",
    "alg None": lambda: handmade({**HEADER, "alg": "None"}, claims(), b""),
    "alg missing": lambda: handmade({"typ": "at+jwt", "kid": KEY.kid}, claims()),
    "alg as list": lambda: handmade({**HEADER, "alg": ["RS256"]}, claims()),
    "HS256 with the public key": hs256_with_the_public_key,
    "RS384": lambda: handmade({**HEADER, "alg": "RS384"}, claims()),
    "PS256": lambda: handmade({**HEADER, "alg": "PS256"}, claims()),
    "another key": lambda: sign(claims(), OTHER),
    "another key under its own kid": lambda: sign(claims(), OTHER, kid=OTHER.kid),
    "kid missing": lambda: handmade({"alg": "RS256", "typ": "at+jwt"}, claims()),
    "kid as object": lambda: handmade({**HEADER, "kid": {"a": 1}}, claims()),
    "jwk in the header": lambda: handmade({**HEADER, "jwk": OTHER.as_dict(private=False)}, claims()),
    "jku in the header": lambda: handmade({**HEADER, "jku": "http://evil.example/jwks"}, claims()),
    "x5u in the header": lambda: handmade({**HEADER, "x5u": "http://evil.example/c"}, claims()),
    "x5c in the header": lambda: handmade({**HEADER, "x5c": ["AA=="]}, claims()),
    "crit in the header": lambda: handmade({**HEADER, "crit": ["exp"]}, claims()),
    "b64 false": lambda: handmade({**HEADER, "b64": False}, claims()),
    "typ JWT": lambda: sign(claims(), typ="JWT"),
    "typ missing": lambda: sign(claims(), typ=None),
    "an id token": lambda: sign(claims(), typ="id+jwt"),
    "a logout token": lambda: sign(claims(), typ="logout+jwt"),
    "a security event": lambda: sign(claims(), typ="secevent+jwt"),
    "another issuer": lambda: sign(claims(iss="http://evil.example/sts")),
    "issuer with a slash": lambda: sign(claims(iss=ISSUER + "/")),
    "issuer missing": lambda: sign(claims(iss=None)),
    "another server": lambda: sign(claims(aud=f"{BASE}/mcp/files")),
    "another gateway": lambda: sign(claims(aud="http://gw2.test/mcp/mail")),
    "audience as list": lambda: sign(claims(aud=[f"{BASE}/mcp/mail", f"{BASE}/mcp/files"])),
    "audience missing": lambda: sign(claims(aud=None)),
    "expired": lambda: sign(claims(iat=NOW - 700, exp=NOW - 100)),
    "expired this second": lambda: sign(claims(iat=NOW - 600, exp=int(time.time()))),
    "lives too long": lambda: sign(claims(exp=NOW + 3600)),
    "lives for ever": lambda: sign(claims(exp=None)),
    "expiry as text": lambda: sign(claims(exp=str(NOW + 600))),
    "expiry as float": lambda: sign(claims(exp=NOW + 600.5)),
    "issued in the future": lambda: sign(claims(iat=int(time.time()) + 300, exp=int(time.time()) + 600)),
    "not valid yet": lambda: sign(claims(nbf=int(time.time()) + 300)),
    "issued missing": lambda: sign(claims(iat=None)),
    "agent missing": lambda: sign(claims(azp=None)),
    "agent without prefix": lambda: sign(claims(azp="billing")),
    "agent empty": lambda: sign(claims(azp="agent:")),
    "subject missing": lambda: sign(claims(sub=None)),
    "subject of no kind": lambda: sign(claims(sub="griffin")),
    "actor missing": lambda: sign(claims(act=None)),
    "actor is another agent": lambda: sign(claims(act={"sub": "agent:other"})),
    "agent is subject of a user's mode": lambda: sign(claims(sub="agent:billing")),
    "user is subject of an agent's mode": lambda: sign(claims(mode="agent")),
    "subject is another agent": lambda: sign(claims(sub="agent:other", act=None, mode="agent")),
    "mode missing": lambda: sign(claims(mode=None)),
    "mode unknown": lambda: sign(claims(mode="root")),
    "user epoch missing": lambda: sign(claims(sev=None)),
    "user epoch as text": lambda: sign(claims(sev="1")),
    "user epoch true": lambda: sign(claims(sev=True)),
    "user epoch negative": lambda: sign(claims(sev=-1)),
    "agent epoch missing": lambda: sign(claims(aev=None)),
    "session missing": lambda: sign(claims(sid=None)),
    "id missing": lambda: sign(claims(jti=None)),
    "claims are a list": lambda: handmade(HEADER, []),
    "header is a list": lambda: handmade([], claims()),
    "signature cut": lambda: sign(claims())[:-4],
    "signature empty": lambda: sign(claims()).rpartition(b".")[0] + b".",
    "two parts": lambda: sign(claims()).rpartition(b".")[0],
    "four parts": lambda: sign(claims()) + b".AA",
    "padded": lambda: sign(claims()) + b"=",
    "empty": lambda: b"",
    "huge": lambda: sign(claims(x="y" * 9000)),
}


@pytest.mark.asvs("9.1.1", "9.1.2", "9.1.3", "9.2.1", "9.2.2", "9.2.3", "9.2.4", "10.3.1")
@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_or_foreign_token_is_refused(name: str) -> None:
    with pytest.raises(TokenError):
        verifier().verify(FORGERIES[name](), "mail", time.time())


def test_the_honest_token_beside_them_is_accepted() -> None:
    token = verifier().verify(sign(claims()), "mail", time.time())
    assert (token.agent_id, token.user_id, token.mode) == ("billing", "griffin", TokenMode.OBO)
    assert token.may_write and token.facts.user_epoch == 1 and token.facts.auth_time is not None


def test_an_agent_may_speak_for_itself() -> None:
    body = claims(sub="agent:billing", act=None, mode="agent", sev=None, auth_time=None, scope="read")
    token = verifier().verify(sign(body), "mail", time.time())
    assert (token.user_id, token.mode, token.may_write) == (None, TokenMode.AGENT, False)


def test_the_agent_that_handed_over_is_told() -> None:
    chain = {"sub": "agent:boss", "aev": 3, "act": {"sub": "agent:chief", "aev": 1}}
    token = verifier().verify(sign(claims(act={"sub": "agent:billing", "act": chain})), "mail", time.time())
    assert token.parent_agent_id == "boss"
    assert token.facts.handed_over_by == (Actor("boss", 3), Actor("chief", 1))


@pytest.mark.parametrize(
    "before",
    [
        "agent:boss",
        {"sub": "agent:boss"},
        {"sub": "agent:boss", "aev": "3"},
        {"sub": "user:boss", "aev": 3},
        {"aev": 3},
        {"sub": "agent:a", "aev": 1, "act": {"sub": "agent:b", "aev": 1, "act": {"sub": "agent:c", "aev": 1, "act": {
            "sub": "agent:d", "aev": 1, "act": {"sub": "agent:e", "aev": 1}}}}},
    ],
)  # fmt: skip
def test_a_chain_of_actors_that_is_none_is_refused(before: Any) -> None:
    with pytest.raises(TokenError):
        verifier().verify(sign(claims(act={"sub": "agent:billing", "act": before})), "mail", time.time())


@pytest.mark.asvs("9.2.1", "9.2.3")
def test_a_token_that_was_accepted_before_still_expires_and_still_has_one_audience() -> None:
    made, token = verifier(), sign(claims())
    assert isinstance(made.verify(token, "mail", time.time()), Token)
    with pytest.raises(TokenError) as expired:
        made.verify(token, "mail", time.time() + 601)
    assert expired.value.reason == "token_expired" and expired.value.token is not None
    with pytest.raises(TokenError):
        made.verify(token, "files", time.time())


def test_a_withdrawn_key_ends_the_tokens_that_it_signed() -> None:
    made, token = verifier(), sign(claims())
    made.verify(token, "mail", time.time())
    made.use_keys({OTHER.kid: SigningKey(OTHER.kid, OTHER.as_dict(private=False))})
    with pytest.raises(TokenError):
        made.verify(token, "mail", time.time())


@pytest.mark.asvs("9.1.2")
def test_a_key_that_is_too_small_or_of_another_kind_is_not_used() -> None:
    made = TokenVerifier(ISSUER, BASE)
    made.use_keys(
        {
            "small": SigningKey("small", SMALL.as_dict(private=False)),
            "oct": SigningKey("oct", {"kty": "oct", "k": "AAAA"}),
            "enc": SigningKey("enc", {**KEY.as_dict(private=False), "use": "enc"}),
            "broken": SigningKey("broken", {"kty": "RSA", "n": "!", "e": "AQAB"}),
        }
    )
    for kid in ("small", "enc"):
        with pytest.raises(TokenError):
            made.verify(sign(claims(), SMALL if kid == "small" else KEY, kid=kid), "mail", time.time())


@pytest.mark.asvs("9.1.1")
@given(at=st.integers(0, 2000), bit=st.integers(0, 7))
def test_no_bit_of_a_token_can_be_changed(at: int, bit: int) -> None:
    token = bytearray(_TOKEN)
    token[at % len(token)] ^= 1 << bit
    if bytes(token) == _TOKEN:
        return
    try:
        found = verifier().verify(bytes(token), "mail", time.time())
    except TokenError:
        return
    # Only the unused bits of the last base64 digit may differ: the same bytes were signed.
    assert found.id == "j" and at % len(token) == len(token) - 1


_TOKEN = sign(claims())


@pytest.mark.claim("story-proof-of-enforcement")
async def test_with_a_token_of_the_control_planes_own_questions_nothing_goes_out_even_where_the_guard_would_allow_it(
    world: World,
) -> None:
    assert "result" in await world.call()
    answer = await world.call(token=world.token(**{PROOF_CLAIM: True}))
    assert answer["error"]["data"]["code"] == "proof_not_refused"
    assert len(world.tools.journal) == 1
