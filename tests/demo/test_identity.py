"""The identity provider: who gets tokens, who does not, and what an administrator can do about it."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from watchfloor_demo.agents.signin import SignInRefused, with_browser, with_password
from watchfloor_demo.headquarters import Headquarters

pytestmark = pytest.mark.asyncio(loop_scope="module")

VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
REDIRECT = "http://127.0.0.1/signed-in"


def asked(**changes: str) -> dict[str, str]:
    return {
        "client_id": "watchfloor",
        "response_type": "code",
        "redirect_uri": REDIRECT,
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "prompt": "login",
        "state": "s1",
        **changes,
    }


async def code_for(hq: Headquarters, http: httpx.AsyncClient, user: str) -> str:
    page = await http.get(f"{hq.runtime.issuer}/authorize", params=asked())
    ticket = re.search(r'name="ticket" value="([^"]+)"', page.text)
    assert ticket
    form = {"ticket": ticket[1], "username": user, "password": hq.runtime.password(user)}
    answer = await http.post(f"{hq.runtime.issuer}/sign-in", data=form)
    return parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]


async def redeem(hq: Headquarters, http: httpx.AsyncClient, code: str, **changes: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER}
    return await http.post(f"{hq.runtime.issuer}/token", data={**form, **changes})


async def admin(hq: Headquarters, http: httpx.AsyncClient, user: str, action: str) -> dict[str, Any]:
    secret = hq.runtime.secret("identity/admin")
    url = f"{hq.runtime.issuer}/admin/users/{user}/{action}"
    answer = await http.post(url, headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


async def test_a_sign_in_gives_an_id_token_that_verifies_against_the_published_keys(
    hq: Headquarters, http: httpx.AsyncClient
) -> None:
    held = await with_browser(hq.runtime, http, "mara")
    configuration = (await http.get(f"{hq.runtime.issuer}/.well-known/openid-configuration")).json()
    keys = KeySet.import_key_set((await http.get(configuration["jwks_uri"])).json())
    token = jwt.decode(held.id_token, keys, algorithms=["RS256"])
    assert token.claims["iss"] == configuration["issuer"] == hq.runtime.issuer
    assert (token.claims["sub"], token.claims["aud"]) == ("mara", "watchfloor")
    assert {"auth_time", "sid", "exp", "iat", "nonce"} <= set(token.claims)
    assert "d" not in (await http.get(configuration["jwks_uri"])).json()["keys"][0]


async def test_the_access_token_opens_userinfo_and_nothing_else_does(hq: Headquarters, http: httpx.AsyncClient) -> None:
    body = (await redeem(hq, http, await code_for(hq, http, "tomas"))).json()
    url = f"{hq.runtime.issuer}/userinfo"
    good = await http.get(url, headers={"authorization": f"Bearer {body['access_token']}"})
    assert good.json()["sub"] == "tomas"
    for wrong in (body["id_token"], body["access_token"][:-4] + "AAAA", "x"):
        assert (await http.get(url, headers={"authorization": f"Bearer {wrong}"})).status_code == 401


async def test_a_code_works_once_and_only_with_its_verifier(hq: Headquarters, http: httpx.AsyncClient) -> None:
    code = await code_for(hq, http, "priya")
    assert (await redeem(hq, http, code)).status_code == 200
    assert (await redeem(hq, http, code)).json()["error"] == "invalid_grant"
    other = await redeem(hq, http, await code_for(hq, http, "priya"), code_verifier="w" * 64)
    assert other.json()["error"] == "invalid_grant"


@pytest.mark.parametrize("target", ["https://evil.example/cb", "http://evil.example/cb", ""])
async def test_no_browser_is_sent_to_a_foreign_address(hq: Headquarters, http: httpx.AsyncClient, target: str) -> None:
    answer = await http.get(f"{hq.runtime.issuer}/authorize", params=asked(redirect_uri=target))
    assert answer.status_code == 400


async def test_a_client_without_pkce_gets_no_code(hq: Headquarters, http: httpx.AsyncClient) -> None:
    answer = await http.get(f"{hq.runtime.issuer}/authorize", params=asked(code_challenge=""))
    assert "error=invalid_request" in answer.headers["location"] and "state=s1" in answer.headers["location"]


async def test_a_wrong_password_is_refused_on_a_page_that_tells_nothing(
    hq: Headquarters, http: httpx.AsyncClient
) -> None:
    page = await http.get(f"{hq.runtime.issuer}/authorize", params=asked())
    ticket = re.search(r'name="ticket" value="([^"]+)"', page.text)
    assert ticket
    alerts = set()
    for name in ("noor", "nobody<script>"):
        form = {"ticket": ticket[1], "username": name, "password": "wrong"}
        answer = await http.post(f"{hq.runtime.issuer}/sign-in", data=form)
        assert answer.status_code == 401 and "<script>" not in answer.text
        alerts.add(re.findall(r'role="alert">([^<]+)<', answer.text)[0])
    assert len(alerts) == 1


async def test_the_password_grant_is_for_the_scripted_people_only(hq: Headquarters, http: httpx.AsyncClient) -> None:
    form = {"grant_type": "password", "username": "otto", "password": hq.runtime.password("otto")}
    assert (await http.post(f"{hq.runtime.issuer}/token", data=form)).status_code == 401


async def test_a_refresh_token_works_once_and_its_second_use_ends_the_session(
    hq: Headquarters, http: httpx.AsyncClient
) -> None:
    held = await with_password(hq.runtime, http, "selin")

    async def refresh(token: str) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        return await http.post(f"{hq.runtime.issuer}/token", data=form)

    renewed = await refresh(held.refresh_token)
    assert renewed.status_code == 200
    assert (await refresh(held.refresh_token)).status_code == 400
    assert (await refresh(renewed.json()["refresh_token"])).status_code == 400


async def test_revoked_sessions_give_no_more_tokens_but_a_new_sign_in_does(
    hq: Headquarters, http: httpx.AsyncClient
) -> None:
    held = await with_password(hq.runtime, http, "jonas")
    state = await admin(hq, http, "jonas", "revoke-sessions")
    assert state["sessions"] == []
    form = {"grant_type": "refresh_token", "refresh_token": held.refresh_token}
    assert (await http.post(f"{hq.runtime.issuer}/token", data=form)).status_code == 400
    await with_password(hq.runtime, http, "jonas")


async def test_a_disabled_person_cannot_sign_in_until_enabled(hq: Headquarters, http: httpx.AsyncClient) -> None:
    await admin(hq, http, "bruno", "disable")
    with pytest.raises(SignInRefused, match="disabled"):
        await with_browser(hq.runtime, http, "bruno")
    await admin(hq, http, "bruno", "enable")
    await with_browser(hq.runtime, http, "bruno")


async def test_a_forced_reset_needs_a_new_password_and_reads_back(hq: Headquarters, http: httpx.AsyncClient) -> None:
    state = await admin(hq, http, "anouk", "force-reset")
    assert state["must_reset_password"] is True
    with pytest.raises(SignInRefused, match="new password"):
        await with_browser(hq.runtime, http, "anouk")
    form = {
        "grant_type": "password",
        "username": "anouk",
        "password": hq.runtime.password("anouk"),
        "new_password": "a-brand-new-password-1",
        "client_secret": hq.runtime.secret("identity/people"),
    }
    assert (await http.post(f"{hq.runtime.issuer}/token", data=form)).status_code == 200
    secret = hq.runtime.secret("identity/admin")
    url = f"{hq.runtime.issuer}/admin/users/anouk"
    after = (await http.get(url, headers={"authorization": f"Bearer {secret}"})).json()
    assert after["must_reset_password"] is False and after["password_changed_at"] > 0


async def test_administration_needs_the_administrators_secret(hq: Headquarters, http: httpx.AsyncClient) -> None:
    url = f"{hq.runtime.issuer}/admin/users/mara/disable"
    assert (await http.post(url)).status_code == 401
    assert (await http.post(url, headers={"authorization": "Bearer guess"})).status_code == 401
