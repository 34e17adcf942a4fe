"""How people sign in: through the browser form (code with PKCE) or, for the scripted ones, with the password grant.

A ``SignIn`` is what a program holds afterwards, and what a thief takes. ID tokens are renewed with the refresh token
before they run out; if the provider will not, the person signs in anew.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

import httpx

from watchfloor_demo.identity import CLIENT
from watchfloor_demo.runtime import Runtime

_REDIRECT: Final = "http://127.0.0.1/signed-in"
_RENEW_SECONDS: Final = 120.0


class SignInRefused(Exception):
    """The identity provider does not let this person in, or not any more."""


@dataclass(slots=True)
class SignIn:
    """A person's tokens. ``expires_at`` is ``time.monotonic()``."""

    user_id: str
    id_token: str
    refresh_token: str
    expires_at: float

    @property
    def session(self) -> str:
        """The provider's id of the session, as the ID token says it."""
        payload = self.id_token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims.get("sid", ""))

    def copy(self) -> SignIn:
        """The same tokens in other hands."""
        return SignIn(self.user_id, self.id_token, self.refresh_token, self.expires_at)


def _taken(user_id: str, answer: httpx.Response) -> SignIn:
    if answer.status_code != 200:
        body = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        raise SignInRefused(f"{user_id}: {body.get('error_description', f'HTTP {answer.status_code}')}")
    body = answer.json()
    return SignIn(user_id, body["id_token"], body["refresh_token"], time.monotonic() + body["expires_in"])


async def with_password(runtime: Runtime, http: httpx.AsyncClient, user_id: str) -> SignIn:
    """Sign in as a scripted person. Raises ``SignInRefused``."""
    form = {
        "grant_type": "password",
        "username": user_id,
        "password": runtime.password(user_id),
        "client_id": CLIENT,
        "client_secret": runtime.secret("identity/people"),
    }
    return _taken(user_id, await http.post(f"{runtime.issuer}/token", data=form))


async def with_browser(runtime: Runtime, http: httpx.AsyncClient, user_id: str) -> SignIn:
    """Sign in as a browser does: authorize, fill the form in, follow back with the code. Raises ``SignInRefused``."""
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(8)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "client_id": CLIENT,
        "response_type": "code",
        "redirect_uri": _REDIRECT,
        "scope": "openid profile email",
        "state": state,
        "nonce": secrets.token_urlsafe(8),
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "prompt": "login",
    }
    page = await http.get(f"{runtime.issuer}/authorize", params=asked)
    ticket = re.search(r'name="ticket" value="([^"]+)"', page.text)
    if page.status_code != 200 or ticket is None:
        raise SignInRefused(f"{user_id}: the sign-in page did not open (HTTP {page.status_code})")
    form = {"ticket": ticket[1], "username": user_id, "password": runtime.password(user_id)}
    answer = await http.post(f"{runtime.issuer}/sign-in", data=form)
    if answer.status_code != 302:
        alert = re.search(r'role="alert">([^<]+)<', answer.text)
        raise SignInRefused(f"{user_id}: {alert[1] if alert else f'HTTP {answer.status_code}'}")
    back = parse_qs(urlsplit(answer.headers["location"]).query)
    if back.get("state") != [state] or "code" not in back:
        raise SignInRefused(f"{user_id}: the provider's answer does not belong to this sign-in")
    redeem = {
        "grant_type": "authorization_code",
        "code": back["code"][0],
        "redirect_uri": _REDIRECT,
        "client_id": CLIENT,
        "code_verifier": verifier,
    }
    return _taken(user_id, await http.post(f"{runtime.issuer}/token", data=redeem))


async def renew(runtime: Runtime, http: httpx.AsyncClient, held: SignIn) -> None:
    """Renew tokens that run out soon, in place. Raises ``SignInRefused``."""
    if held.expires_at - time.monotonic() > _RENEW_SECONDS:
        return
    form = {"grant_type": "refresh_token", "refresh_token": held.refresh_token, "client_id": CLIENT}
    fresh = _taken(held.user_id, await http.post(f"{runtime.issuer}/token", data=form))
    held.id_token, held.refresh_token, held.expires_at = fresh.id_token, fresh.refresh_token, fresh.expires_at


class Badges:
    """The sign-ins of scripted people, made on first use and kept."""

    def __init__(self, runtime: Runtime, http: httpx.AsyncClient) -> None:
        self._runtime, self._http = runtime, http
        self._held: dict[str, SignIn] = {}

    async def of(self, user_id: str) -> SignIn:
        """The person's sign-in, renewed if need be. Raises ``SignInRefused``."""
        held = self._held.get(user_id)
        if held is not None:
            try:
                await renew(self._runtime, self._http, held)
            except SignInRefused:
                held = None
        if held is None:
            held = self._held[user_id] = await with_password(self._runtime, self._http, user_id)
        return held

    def forget(self, user_id: str) -> None:
        """Sign in anew next time."""
        self._held.pop(user_id, None)
