"""What only slapd and LemonLDAP::NG show: sessions of all kinds end, other people's do not; TLS; wrong keys."""

from __future__ import annotations

from collections.abc import Iterator

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
from watchfloor.connectors.identity.ldap import Layout, LdapConnector
from watchfloor.connectors.identity.ldap_client import Connection, Server
from watchfloor.connectors.identity.ldap_wire import DELETE
from watchfloor.connectors.identity.lemonldap import Portal
from watchfloor.identity.connector import Ability, Account, ConnectorRefused
from watchfloor.model.errors import InputError

pytestmark = pytest.mark.slow

ISSUER = "https://auth.zava.example"
LAYOUT = Layout(f"ou=people,{BASE}", f"ou=groups,{BASE}")


@pytest.fixture(scope="module")
def idp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lemonldap]:
    """Both, for the module."""
    need(lemonldap_missing(), "Install what .ci/packages lists.")
    with running_lemonldap(tmp_path_factory.mktemp("idp")) as made:
        yield made


def connector(idp: Lemonldap, *, key: str = PORTAL_KEY, password: str = ADMIN_PASSWORD) -> LdapConnector:
    """On it."""
    server = Server(idp.directory.url, ADMIN, password, timeout=20)
    return LdapConnector(ISSUER, server, LAYOUT, Portal(idp.url, key, timeout=20))


def sign_in(idp: Lemonldap, user: str, scope: str) -> tuple[Browser, dict[str, str]]:
    """A browser with a session, and the application's tokens."""
    browser = Browser(f"{idp.url}/", CLIENT_ID, CLIENT_SECRET, REDIRECT, scope)
    page = browser.authorize(f"{idp.url}/oauth2/authorize")
    code = browser.code_of(browser.post(page, user=user, password=PASSWORD))
    assert code
    return browser, browser.redeem(f"{idp.url}/oauth2/token", code)


def is_alive(idp: Lemonldap, browser: Browser, tokens: dict[str, str]) -> tuple[bool, bool]:
    """Whether the application may renew, and whether the access token still counts."""
    renewed = browser.token(
        f"{idp.url}/oauth2/token", grant_type="refresh_token", refresh_token=tokens["refresh_token"]
    )
    known = browser.token(f"{idp.url}/oauth2/introspect", token=tokens["access_token"]).json()
    return renewed.status_code == 200, bool(known["active"])


@pytest.mark.parametrize("scope", ["openid email", "openid email offline_access"], ids=["online", "offline"])
@pytest.mark.parametrize("how", ["revoke", "reset", "disable"])
def test_whatever_locks_somebody_out_ends_every_session_and_nobody_elses(idp: Lemonldap, scope: str, how: str) -> None:
    quinn, remy = sign_in(idp, "quinn", scope), sign_in(idp, "remy", scope)
    assert is_alive(idp, *quinn) == is_alive(idp, *remy) == (True, True)
    made, account = connector(idp), Account(ISSUER, "quinn")
    if how == "revoke":
        made.revoke_sessions(account)
    elif how == "reset":
        made.require_password_reset(account)
    else:
        made.set_enabled(account, False)
    assert made.read_state(account).live_sessions == 0
    assert is_alive(idp, *quinn) == (False, False)
    assert is_alive(idp, *remy) == (True, True)
    # Back to what it was: the password is the old one, so the directory's administrator takes the flag away.
    made.set_enabled(account, True)
    if how == "reset":
        with Connection.open(Server(idp.directory.url, ADMIN, ADMIN_PASSWORD)) as connection:
            connection.modify(f"uid=quinn,ou=people,{BASE}", [(DELETE, "pwdReset", ())])
    made.close()


def test_who_does_not_have_the_portals_key_ends_nothing(idp: Lemonldap) -> None:
    quinn = sign_in(idp, "quinn", "openid")
    made = connector(idp, key="another-key")
    for act in (made.revoke_sessions, made.read_state):
        with pytest.raises(ConnectorRefused, match="400"):
            act(Account(ISSUER, "quinn"))
    assert is_alive(idp, *quinn) == (True, True)
    made.close()


@pytest.mark.parametrize("name", ["*", "quinn)(uid=*", "quinn,ou=people", "q*", ""])
def test_a_name_is_no_pattern(idp: Lemonldap, name: str) -> None:
    made = connector(idp)
    with pytest.raises(ConnectorRefused):
        made.set_enabled(Account(ISSUER, name), False)
    assert all(account.is_enabled for account in made.list_accounts())
    made.close()


def test_without_a_portal_sessions_cannot_be_ended_and_the_answer_says_so(idp: Lemonldap) -> None:
    made = LdapConnector(ISSUER, Server(idp.directory.url, ADMIN, ADMIN_PASSWORD), LAYOUT, None)
    assert Ability.REVOKE_SESSIONS not in made.abilities
    with pytest.raises(ConnectorRefused, match="portal"):
        made.revoke_sessions(Account(ISSUER, "remy"))
    assert made.set_enabled(Account(ISSUER, "remy"), True)["pwdAccountLockedTime"] == ""
    assert made.read_state(Account(ISSUER, "remy")).live_sessions is None


@pytest.mark.parametrize("way", ["ldaps", "starttls"])
def test_tls_is_spoken_with_those_that_are_vouched_for_and_nobody_else(idp: Lemonldap, way: str) -> None:
    tls = way == "ldaps"
    url = f"ldaps://127.0.0.1:{idp.directory.tls_port}" if tls else idp.directory.url
    for ca in (str(idp.directory.ca), ""):
        server = Server(url, ADMIN, ADMIN_PASSWORD, start_tls=not tls, ca=ca, timeout=20)
        made = LdapConnector(ISSUER, server, LAYOUT, None)
        if ca:
            assert made.read_state(Account(ISSUER, "mona")).is_enabled
        else:
            with pytest.raises(ConnectorRefused, match="vouches"):
                made.read_state(Account(ISSUER, "mona"))


def test_a_password_is_sent_in_the_clear_to_this_machine_alone() -> None:
    with pytest.raises(InputError, match="ldaps://"):
        Server("ldap://directory.zava.example", ADMIN, ADMIN_PASSWORD)
    Server("ldap://directory.zava.example", ADMIN, ADMIN_PASSWORD, start_tls=True)
    Server("ldaps://directory.zava.example", ADMIN, ADMIN_PASSWORD)
