"""Who may ask: each thing that is wrong with a token is refused for that reason, and on record with it."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from gateway.copilot_studio.studio import APP, KEY, STRANGER, TENANT, KeySite, Studio, question
from gateway.world import eventually
from watchfloor.gateway.copilot_studio import answers
from watchfloor.gateway.copilot_studio.config import configure
from watchfloor.gateway.copilot_studio.keys import TenantKeys, parse_keys
from watchfloor.guard.reasons import CODES
from watchfloor.model.errors import InputError, Unavailable

OTHER = "99999999-1234-4abc-9def-0123456789ab"


def _unsigned(studio: Studio) -> str:
    parts = [{"alg": "none", "typ": "JWT", "kid": KEY.kid}, studio.entra_claims()]
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts]
    return ".".join([*encoded, ""])


def _confused(studio: Studio) -> str:
    """Signed with the public key as if it were a shared secret."""
    secret = OctKey.import_key(json.dumps(KEY.as_dict(private=False)))
    return jwt.encode({"alg": "HS256", "kid": KEY.kid}, studio.entra_claims(), secret, algorithms=["HS256"])


WRONG: dict[str, tuple[Any, int]] = {
    "token_missing": (lambda s: None, 401),
    "wrong_algorithm": (_unsigned, 401),
    "wrong_issuer": (lambda s: s.entra_token(iss=f"https://sts.windows.net/{OTHER}/"), 401),
    "wrong_tenant": (lambda s: s.entra_token(tid=OTHER), 403),
    "wrong_audience": (lambda s: s.entra_token(aud="https://elsewhere.example/copilot-studio"), 401),
    "wrong_caller": (lambda s: s.entra_token(appid=OTHER), 403),
    "token_expired": (lambda s: s.entra_token(exp=int(time.time()) - 61), 401),
    "token_not_yet_valid": (lambda s: s.entra_token(nbf=int(time.time()) + 90), 401),
    "unknown_key": (lambda s: s.entra_token(key=STRANGER), 401),
    "wrong_signature": (lambda s: s.entra_token(key=STRANGER, header={"kid": KEY.kid}), 401),
}


@pytest.mark.claim("webhook-callers")
@pytest.mark.parametrize("reason", WRONG)
async def test_a_wrong_token_is_refused_for_its_reason_which_is_on_record(studio: Studio, reason: str) -> None:
    make, status = WRONG[reason]
    for verb in ("validate", "analyze-tool-execution"):
        response = await studio.post(verb, question(), token=make(studio))
        assert response.status_code == status == response.json()["httpStatus"]
        assert json.loads(response.json()["diagnostics"])["code"] == reason
    rows = studio.records("RequestRefused")
    assert {(row["ReasonCode"], row["SourceDoor"]) for row in rows} == {(reason, "copilot-studio")}
    assert studio.records("ToolCallDecided") == []


@pytest.mark.parametrize(
    "make",
    [
        lambda s: "not-a-token",
        lambda s: "a.b.c",
        lambda s: s.entra_token(header={"jku": "https://evil.example/keys"}),
        lambda s: s.entra_token(exp=None),
        lambda s: s.entra_token(appid=None),
        lambda s: s.entra_token(azp=OTHER),
        lambda s: s.entra_token(aud=[f"{s.url}/copilot-studio"]),
        lambda s: s.entra_token() + "A",
        lambda s: f"{s.entra_token()} {s.entra_token()}",
        _confused,
    ],
)
async def test_what_is_no_good_token_at_all_is_refused(studio: Studio, make: Any) -> None:
    assert (await studio.post("analyze-tool-execution", question(), token=make(studio))).status_code in (401, 403)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"iss": f"https://login.microsoftonline.com/{TENANT}/v2.0", "ver": "2.0", "appid": None, "azp": APP},
        {"aud": APP},
        {"appid": APP.upper()},
        {"exp": -30},
        {"nbf": 30},
    ],
)
async def test_tokens_of_both_versions_are_good_and_have_a_minute_of_leeway(
    studio: Studio, changes: dict[str, Any]
) -> None:
    now = int(time.time())
    token = studio.entra_token(**{k: now + v if isinstance(v, int) else v for k, v in changes.items()})
    assert (await studio.post("validate", token=token)).status_code == 200
    assert (await studio.post("analyze-tool-execution", question(), token=token)).json() == {"blockAction": False}


async def test_the_origin_alone_is_an_audience(studio: Studio) -> None:
    assert (await studio.post("validate", token=studio.entra_token(aud=studio.url))).status_code == 200


async def test_a_token_that_was_good_is_refused_once_its_key_is_withdrawn(studio: Studio) -> None:
    token = studio.entra_token()
    assert (await studio.post("validate", token=token)).status_code == 200
    studio.site.keys = [STRANGER]
    assert studio.gateway._copilot_studio is not None
    keys = studio.gateway._copilot_studio._keys
    await _in_a_thread(keys.refresh)
    response = await studio.post("validate", token=token)
    assert (response.status_code, json.loads(response.json()["diagnostics"])["code"]) == (401, "unknown_key")


@pytest.mark.parametrize(
    ("peer", "proxies", "forwarded", "is_let_in"),
    [
        ("127.0.0.1", (), None, True),
        ("198.51.100.7", (), None, False),
        ("198.51.100.7", (), "https", False),
        ("10.1.2.3", ("10.0.0.0/8",), "https", True),
        ("10.1.2.3", ("10.0.0.0/8",), "http", False),
        ("10.1.2.3", ("10.0.0.0/8",), None, False),
        ("127.0.0.1", ("127.0.0.1/32",), "http", False),
        ("127.0.0.1", ("127.0.0.1/32",), "https", True),
    ],
)
async def test_tokens_are_not_taken_in_clear_from_elsewhere(
    tmp_path: Path, peer: str, proxies: tuple[str, ...], forwarded: str | None, is_let_in: bool
) -> None:
    async with Studio(tmp_path, trusted_proxies=proxies).running() as studio:
        headers = [(b"authorization", f"Bearer {studio.entra_token()}".encode())]
        if forwarded:
            headers.append((b"x-forwarded-proto", forwarded.encode()))
        scope = {
            "type": "http", "method": "POST", "path": "/copilot-studio/validate", "scheme": "http",
            "query_string": b"api-version=2025-05-01", "headers": headers, "client": (peer, 4711),
        }  # fmt: skip
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        await studio.gateway(scope, receive, send)
        assert sent[0]["status"] == (200 if is_let_in else 403)


# -- keys ---------------------------------------------------------------------------------------------------------


async def test_an_unknown_key_is_looked_for_in_the_background_and_not_at_every_request(tmp_path: Path) -> None:
    """A new key opens the door by itself; invented names do not make us fetch again and again."""
    site = KeySite()
    async with Studio(tmp_path, keys=site).running() as studio:
        assert studio.gateway._copilot_studio is not None
        keys = studio.gateway._copilot_studio._keys
        keys._nudge_seconds = 0.5
        keys.stop()
        fresh = TenantKeys(f"{studio.site_url}/keys", keys._fetch, nudge_seconds=0.5)
        fresh.start()
        try:
            await eventually(lambda: not fresh.is_cold, "keys")
            before = site.fetches
            site.keys = [KEY, STRANGER]
            began = time.monotonic()
            for _ in range(50):
                assert fresh.find("invented") is None
            await eventually(lambda: fresh.find(STRANGER.kid), "the new key")
            assert time.monotonic() - began >= 0.3
            assert site.fetches - before <= 3
        finally:
            fresh.stop()


def test_keys_that_cannot_be_fetched_stay_until_they_are_a_day_old() -> None:
    now = [0.0]
    answers: list[Any] = [json.dumps({"keys": [KEY.as_dict(private=False)]}).encode()]

    def fetch(url: str) -> bytes:
        if not answers:
            raise Unavailable("down")
        return bytes(answers.pop())

    keys = TenantKeys("https://keys.example", fetch, clock=lambda: now[0])
    assert keys.is_cold
    assert keys.refresh() and not keys.is_cold
    assert not keys.refresh() and keys.problem == "down"
    now[0] = 23 * 3600.0
    assert not keys.is_cold and keys.find(KEY.kid) is not None
    now[0] = 25 * 3600.0
    assert keys.is_cold


def test_what_is_no_rs256_key_is_left_out_and_doubled_names_are_no_key_set() -> None:
    good = KEY.as_dict(private=False)
    short = {**good, "kid": "short", "n": "AQAB"}
    other = {"kty": "EC", "kid": "ec", "crv": "P-256", "x": "", "y": ""}
    assert list(parse_keys(json.dumps({"keys": [good, short, other, 7, {"kty": "RSA"}]}).encode())) == [KEY.kid]
    for body in (b"[]", b"{}", b"{", json.dumps({"keys": [good, good]}).encode()):
        with pytest.raises(ValueError):
            parse_keys(body)


# -- configuration ------------------------------------------------------------------------------------------------

GOOD = {
    "tenant": TENANT, "url": "https://gw.zava.example/copilot-studio", "callers": APP, "audiences": "", "issuers": "",
    "jwks_url": "", "mode": "enforce", "server": "copilot-studio", "deadline_seconds": 0.7, "session_seconds": 1.0,
    "max_body_bytes": 1000,
}  # fmt: skip


def test_the_tenants_own_addresses_are_the_default() -> None:
    config = configure(**GOOD)  # type: ignore[arg-type]  # of several types
    assert config is not None
    assert config.jwks_url == f"https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys"
    assert config.issuers == {
        f"https://login.microsoftonline.com/{TENANT}/v2.0",
        f"https://sts.windows.net/{TENANT}/",
    }
    assert {"https://gw.zava.example/copilot-studio", "https://gw.zava.example", APP} <= config.audiences
    assert configure(**{**GOOD, "tenant": ""}) is None  # type: ignore[arg-type]  # of several types


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("tenant", "zava", "copilot_studio_tenant"),
        ("callers", "", "copilot_studio_callers"),
        ("callers", f"{APP} billing", "copilot_studio_callers"),
        ("url", "http://gw.zava.example/copilot-studio", "copilot_studio_url"),
        ("jwks_url", "http://keys.zava.example/", "copilot_studio_jwks_url"),
        ("mode", "watch", "copilot_studio_mode"),
        ("server", "Copilot Studio", "copilot_studio_server"),
    ],
)
def test_a_door_that_is_half_set_up_does_not_open(name: str, value: str, where: str) -> None:
    with pytest.raises(InputError) as caught:
        configure(**{**GOOD, name: value})  # type: ignore[arg-type]  # of several types
    assert caught.value.where == where


async def _in_a_thread(work: Any) -> None:
    import asyncio

    await asyncio.to_thread(work)


# -- answers ------------------------------------------------------------------------------------------------------


def test_every_reason_has_a_number_of_its_own() -> None:
    assert set(CODES) <= set(answers.REASON_CODES)
    for numbers in (answers.REASON_CODES, answers.ERROR_CODES):
        assert len(set(numbers.values())) == len(numbers)
