"""A person with a browser at a real identity provider: follows its pages, fills in its forms, keeps its cookies."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import secrets
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx

_INPUT: Final = re.compile(r"<input\b[^>]*>", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(r'([a-zA-Z-]+)="([^"]*)"')


def form_fields(page: str) -> dict[str, str]:
    """Names and values of the hidden and prefilled inputs of a page."""
    found: dict[str, str] = {}
    for tag in _INPUT.findall(page):
        attributes = {name.lower(): html.unescape(value) for name, value in _ATTRIBUTE.findall(tag)}
        if "name" in attributes and attributes.get("type", "text").lower() not in ("submit", "checkbox", "radio"):
            found.setdefault(attributes["name"], attributes.get("value", ""))
    return found


@dataclass
class Browser:
    """One person's browser. ``client`` may be looked at: its cookies are what a thief would take."""

    issuer: str
    client_id: str
    client_secret: str
    redirect: str
    scope: str = "openid email"
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60, follow_redirects=False))
    _verifier: str = ""

    def authorize(self, endpoint: str) -> httpx.Response:
        """Begin to sign in: the first page."""
        self._verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self._verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect,
            "scope": self.scope,
            "state": "s",
            "nonce": secrets.token_urlsafe(8),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return self.client.get(endpoint, params=query)

    def post(self, page: httpx.Response, **values: str) -> httpx.Response:
        """Send the form of ``page`` with what was typed."""
        return self.client.post(page.url, data={**form_fields(page.text), **values}, headers={"referer": str(page.url)})

    def follow(self, answer: httpx.Response) -> httpx.Response:
        """Go where a page sends the browser, as far as that is not the application."""
        while answer.is_redirect and not answer.headers["location"].startswith(self.redirect):
            answer = self.client.get(answer.url.join(answer.headers["location"]))
        return answer

    def code_of(self, answer: httpx.Response) -> str | None:
        """The authorization code that the application is sent, if it is."""
        location = answer.headers.get("location", "")
        return parse_qs(urlsplit(location).query).get("code", [None])[0] if location.startswith(self.redirect) else None

    def redeem(self, token_endpoint: str, code: str) -> dict[str, Any]:
        """Tokens for a code, as the application gets them."""
        answer = self.token(
            token_endpoint,
            grant_type="authorization_code",
            code=code,
            redirect_uri=self.redirect,
            code_verifier=self._verifier,
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def token(self, endpoint: str, **form: str) -> httpx.Response:
        """A request of the application, without the person's cookies."""
        return httpx.post(endpoint, data=form, auth=(self.client_id, self.client_secret), timeout=60)
