"""A user is found compromised, with a provider that knows SCIM alone: canaille as it is, and what it cannot do.

As in the other story, everything is real; here the mail with the link to a new password is, too.
"""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.controller import Controller

from connectors.identity.browser import Browser, form_fields
from connectors.identity.canaille import (
    CONNECTOR_ID,
    CONNECTOR_SECRET,
    PASSWORD,
    REDIRECT,
    RP_ID,
    RP_SECRET,
    Canaille,
    canaille_missing,
    running_canaille,
)
from connectors.identity.machine import free_port, need
from scenarios.company import Company, wait_until
from scenarios.compromise import Story

pytestmark = pytest.mark.slow

NEW_PASSWORD = "Another-horse-2"


class Mailbox:
    """A mail server; ``letters`` are what came."""

    def __init__(self) -> None:
        self.letters: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Take a letter."""
        self.letters.append(envelope.content)
        return "250 OK"

    def link(self) -> str:
        """The link in the letter that came last."""
        letter = email.message_from_bytes(self.letters[-1], policy=email.policy.default)
        body = letter.get_body(("plain",))
        assert body is not None
        found = re.search(r"http://\S+/reset/\S+", body.get_content())
        assert found, body.get_content()
        return found[0]


@dataclass
class AtCanaille(Story):
    """The provider that they sign in at, and the mail that it sends."""

    idp: Canaille
    mailbox: Mailbox = field(default_factory=Mailbox)

    def browser(self) -> Browser:
        return Browser(self.issuer, RP_ID, RP_SECRET, REDIRECT)

    def named(self, browser: Browser) -> httpx.Response:
        """The page after the one that asks for the name."""
        first = browser.follow(browser.authorize(f"{self.issuer}/oauth/authorize"))
        return browser.follow(browser.post(first, login="griffin"))

    def code(self, browser: Browser, password: str) -> str | None:
        """Sign in; None where that does not lead to a code."""
        return browser.code_of(browser.follow(browser.post(self.named(browser), password=password)))

    def sign_in(self, browser: Browser, password: str) -> dict[str, Any]:
        code = self.code(browser, password)
        assert code
        return browser.redeem(f"{self.issuer}/oauth/token", code)

    def settings(self) -> dict[str, Any]:
        return {
            "scim": {
                "url": f"{self.issuer}/scim/v2",
                "tokenUrl": f"{self.issuer}/oauth/token",
                "clientId": CONNECTOR_ID,
                "clientSecret": {"value": CONNECTOR_SECRET},
                "passwordReset": "remove",
                "revocationUrl": f"{self.issuer}/oauth/revoke",
                "revocationClientId": RP_ID,
                "revocationClientSecret": {"value": RP_SECRET},
                "timeoutSeconds": 60,
            }
        }


@pytest.fixture
def story(tmp_path: Path) -> Iterator[AtCanaille]:
    need(canaille_missing(), "Run: make canaille")
    mailbox = Mailbox()
    mail = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    mail.start()
    try:
        with running_canaille(tmp_path / "idp", mail.port) as idp:
            company = Company(tmp_path)
            made = AtCanaille(company, idp.url, idp, mailbox)
            try:
                company.start()
                made.apply(f"{idp.url}/oauth/jwks.json", RP_ID, made.settings())
                yield made
            finally:
                company.close()
    finally:
        mail.stop()


@pytest.mark.asvs("7.1.3")
@pytest.mark.claim("idp-connectors")
def test_a_compromised_user_is_out_and_the_gateway_makes_up_for_what_scim_cannot_do(story: AtCanaille) -> None:
    company = story.company
    token_url, introspect_url = f"{story.issuer}/oauth/token", f"{story.issuer}/oauth/introspect"
    thief = story.browser()
    stolen = story.sign_in(thief, PASSWORD)
    gateway_token = story.gateway_token(stolen["id_token"])
    assert story.call(gateway_token) == "done"
    incident = story.incident(gateway_token)
    before = len(company.calls_at_the_tool())

    # Here, at once.
    response = story.confirm_compromised(incident)
    assert story.call(gateway_token) == "session_revoked"
    assert story.exchange(stolen["id_token"]).json()["reason"] == "password_reset_required"

    # There: what SCIM can do is done, and what it cannot do or tell is said, on the incident, too.
    steps = story.steps(incident, response)
    assert {name: step["state"] for name, step in steps.items()} == {
        "local": "done", "provider_sessions": "skipped", "provider_password": "done", "provider_risk": "skipped",
        "events": "skipped", "read_back": "skipped", "notify": "skipped",
    }  # fmt: skip
    assert "cannot be asked to end sessions" in steps["provider_sessions"]["error"]
    assert "the identity provider (scim) cannot be asked to end sessions" in story.page(incident)
    assert story.user() == ("high", "confirmedCompromised", True)

    # The tokens that are out live on there, worth nothing here, until they are ended by themselves.
    assert thief.token(introspect_url, token=stolen["access_token"]).json()["active"] is True
    for token in (stolen["access_token"], stolen["refresh_token"]):
        found = {"issuer": story.issuer, "token": token, "reason": "found at the thief's"}
        company.api("POST", "/api/identity-providers/revoke-token", json=found, timeout=60)
    assert thief.token(introspect_url, token=stolen["access_token"]).json() == {"active": False}
    assert thief.token(token_url, grant_type="refresh_token", refresh_token=stolen["refresh_token"]).status_code == 400

    # Griffin has no password any more: a mail leads to a new one.
    browser = story.browser()
    page = story.named(browser)
    assert "/firstlogin/" in str(page.url)
    browser.post(page)
    wait_until(lambda: story.mailbox.letters, what="the mail with the link")
    link = story.mailbox.link()
    form = browser.client.get(link)
    typed = {"password": NEW_PASSWORD, "confirmation": NEW_PASSWORD}
    browser.client.post(link, data={**form_fields(form.text), **typed}, headers={"referer": link})
    assert story.code(story.browser(), PASSWORD) is None, "the old password is none any more"

    # SCIM does not tell of passwords, so an operator closes the risk; the old session stays dead here.
    story.until_sign_ins_count()
    again = story.sign_in(story.browser(), NEW_PASSWORD)["id_token"]
    assert story.exchange(again).json()["reason"] == "password_reset_required"
    company.api("POST", "/api/users/griffin/remediate-risk", json={"reason": "Griffin has a new password"})
    assert story.user() == ("none", "remediated", False)
    assert story.call(story.gateway_token(again)) == "done"
    assert company.api("GET", f"/api/responses/{response}")["outcome"] == "remediated"
    assert "· remediated: stolen session" in story.page(incident)
    assert story.call(gateway_token) == "session_revoked"
    assert story.exchange(stolen["id_token"]).json()["reason"] == "session_revoked"
    assert len(company.calls_at_the_tool()) == before + 1
