"""A user is found compromised, with a foreign identity provider: slapd and LemonLDAP::NG as Debian has them.

Everything is real: the sign-in by a scripted browser, the exchange at our token service, the agent's calls through the
gateway to a tool server that counts. What is asserted of the provider is read back there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from connectors.identity.browser import Browser
from connectors.identity.lemonldap import (
    ADMIN,
    ADMIN_PASSWORD,
    BASE,
    CLIENT_ID,
    CLIENT_SECRET,
    PASSWORD,
    PORTAL_KEY,
    REDIRECT,
    Lemonldap,
    lemonldap_missing,
    running_lemonldap,
)
from connectors.identity.machine import need
from scenarios.company import Company, wait_until
from scenarios.compromise import Story
from watchfloor.connectors.identity.ldap import Layout, LdapConnector
from watchfloor.connectors.identity.ldap_client import Server
from watchfloor.connectors.identity.lemonldap import Portal
from watchfloor.identity.connector import Account

pytestmark = pytest.mark.slow

NEW_PASSWORD = "Another-horse-2"
MUST_CHANGE, CHANGED, WRONG = "25", "35", "5"
"""The portal's own numbers for what it says."""


def said(page: httpx.Response) -> list[str]:
    """What the portal says on a page."""
    return re.findall(r'trmsg="(\d+)"', page.text)


@dataclass
class AtLemonldap(Story):
    """The provider that they sign in at."""

    idp: Lemonldap

    def browser(self, scope: str = "openid email") -> Browser:
        return Browser(self.issuer, CLIENT_ID, CLIENT_SECRET, REDIRECT, scope)

    def page_after(self, browser: Browser, password: str, user: str = "griffin") -> httpx.Response:
        return browser.post(browser.authorize(f"{self.issuer}oauth2/authorize"), user=user, password=password)

    def sign_in(self, browser: Browser, password: str, user: str = "griffin") -> dict[str, Any]:
        answer = self.page_after(browser, password, user)
        code = browser.code_of(answer)
        assert code, said(answer)
        return browser.redeem(f"{self.issuer}oauth2/token", code)

    def connector(self) -> LdapConnector:
        server = Server(self.idp.directory.url, ADMIN, ADMIN_PASSWORD, timeout=20)
        layout = Layout(f"ou=people,{BASE}", f"ou=groups,{BASE}")
        return LdapConnector(self.issuer, server, layout, Portal(self.idp.url, PORTAL_KEY, timeout=20))

    def settings(self) -> dict[str, Any]:
        return {
            "ldap": {
                "url": self.idp.directory.url,
                "bindDn": ADMIN,
                "bindPassword": {"value": ADMIN_PASSWORD},
                "peopleBase": f"ou=people,{BASE}",
                "groupBase": f"ou=groups,{BASE}",
                "portal": self.idp.url,
                "portalKey": {"value": PORTAL_KEY},
            }
        }


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtLemonldap]:
    """One company for all tests here, each of which is about a user of its own."""
    need(lemonldap_missing(), "Install what .ci/packages lists.")
    tmp_path = tmp_path_factory.mktemp("llng")
    with running_lemonldap(tmp_path / "idp") as idp:
        company = Company(tmp_path)
        made = AtLemonldap(company, f"{idp.url}/", idp)
        try:
            company.start()
            made.apply(f"{idp.url}/oauth2/jwks", CLIENT_ID, made.settings())
            yield made
        finally:
            company.close()


@pytest.mark.asvs("7.1.3", "7.6.1")
@pytest.mark.claim("idp-connectors")
@pytest.mark.claim("story-password-reset")
@pytest.mark.claim("response-remediated")
def test_a_compromised_user_is_out_everywhere_until_the_password_is_another(story: AtLemonldap) -> None:
    company = story.company
    token_url, introspect_url = f"{story.issuer}oauth2/token", f"{story.issuer}oauth2/introspect"

    def at_the_provider() -> dict[str, Any]:
        asked = {"issuer": story.issuer, "account": "griffin"}
        tried = company.api("POST", "/api/identity-providers/test", json=asked, timeout=60)
        assert tried["ok"], tried
        found: dict[str, Any] = tried["state"]
        return found

    # The thief signs in as Griffin, with an offline token for later, and has the agent work.
    thief = story.browser("openid email offline_access")
    stolen = story.sign_in(thief, PASSWORD)
    gateway_token = story.gateway_token(stolen["id_token"])
    assert story.call(gateway_token) == "done"
    incident = story.incident(gateway_token)
    before = len(company.calls_at_the_tool())
    assert before >= 1 and at_the_provider()["live_sessions"] == 2, "the session and the offline token"

    # Confirmed compromised: from the acknowledgement on, no call is let through, whatever the provider does.
    response = story.confirm_compromised(incident)
    assert story.call(gateway_token) == "session_revoked"
    assert story.exchange(stolen["id_token"]).json()["reason"] == "password_reset_required"

    # Then the provider, which is read back: the incident shows every step.
    steps = story.steps(incident, response)
    assert {name: step["state"] for name, step in steps.items()} == {
        "local": "done", "provider_sessions": "done", "provider_password": "done", "provider_risk": "skipped",
        "events": "skipped", "read_back": "done", "notify": "skipped",
    }  # fmt: skip
    shown = {name: steps["read_back"]["evidence"][name] for name in ("provider_sessions", "provider_password")}
    assert [said["shown"] for said in shown.values()] == [True, True]
    page = story.page(incident)
    for words in ("User confirmed compromised", "0 live sessions", "a new password is required"):
        assert words in page
    assert story.user() == ("high", "confirmedCompromised", True)
    assert thief.token(token_url, grant_type="refresh_token", refresh_token=stolen["refresh_token"]).status_code == 400
    assert thief.token(introspect_url, token=stolen["access_token"]).json() == {"active": False}
    with_old_cookie = thief.authorize(f"{story.issuer}oauth2/authorize")
    code = thief.code_of(with_old_cookie)
    # A worker of the portal may still remember the session for some seconds; what it gives out is worth nothing.
    if code is not None:
        redeemed = thief.token(token_url, grant_type="authorization_code", code=code, redirect_uri=REDIRECT)
        assert redeemed.status_code == 400

    # Griffin signs in with the old password, and has to set another.
    story.until_sign_ins_count()
    browser = story.browser()
    form = story.page_after(browser, PASSWORD)
    assert browser.code_of(form) is None and said(form) == [MUST_CHANGE]
    changed = browser.post(form, oldpassword=PASSWORD, newpassword=NEW_PASSWORD, confirmpassword=NEW_PASSWORD)
    assert said(changed) == [CHANGED]
    state = at_the_provider()
    assert state["must_reset_password"] is False and state["password_changed_at"]
    assert said(story.page_after(story.browser(), PASSWORD)) == [WRONG], "the old password is none any more"

    # With the first new sign-in the provider is asked, and the risk is closed; the old session stays dead.
    again = story.sign_in(story.browser(), NEW_PASSWORD)["id_token"]
    wait_until(lambda: story.exchange(again).status_code == 200, 20, "the end of the risk")
    assert story.call(story.gateway_token(again)) == "done"
    assert story.user() == ("none", "remediated", False)
    assert company.api("GET", f"/api/responses/{response}")["outcome"] == "remediated"
    page = story.page(incident)
    assert "· remediated: stolen session" in page and "the identity provider says that the password was changed" in page
    assert story.call(gateway_token) == "session_revoked"
    assert story.exchange(stolen["id_token"]).json()["reason"] == "session_revoked"
    assert len(company.calls_at_the_tool()) == before + 1


def test_an_account_that_is_disabled_in_the_directory_is_out_here_as_well(story: AtLemonldap) -> None:
    connector, mona = story.connector(), Account(story.issuer, "mona")
    token = story.gateway_token(story.sign_in(story.browser(), PASSWORD, "mona")["id_token"])
    assert story.call(token) == "done"
    story.company.api("POST", "/api/identity-providers/sync", json={"issuer": story.issuer})
    connector.set_enabled(mona, False)
    deadline = time.monotonic() + 60
    while (outcome := story.call(token)) == "done":
        assert time.monotonic() < deadline, "the directory's word does not arrive"
        story.company.api("POST", "/api/identity-providers/sync", json={"issuer": story.issuer})
        time.sleep(0.5)
    before = len(story.company.calls_at_the_tool())
    assert {outcome, story.call(token)} <= {"user_disabled", "session_revoked"}
    assert len(story.company.calls_at_the_tool()) == before
    connector.close()
