"""Signing in through an identity provider, and its logout: over a real socket, with what attackers would change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient

from portal.house import NOON, ORIGIN, PASSWORD, House, open_house
from portal.openid import CLIENT, SECRET, OpenIdProvider
from watchfloor.identity.oidc import RelyingParty, SignOns, read_roles
from watchfloor.identity.providers import KeySets
from watchfloor.model.errors import InputError
from watchfloor.model.people import Role
from watchfloor.portal.app import build_portal
from watchfloor.storage import actions


@pytest.fixture
def op() -> Iterator[OpenIdProvider]:
    provider = OpenIdProvider()
    provider.now = NOON.timestamp
    yield provider
    provider.close()


def with_provider(house: House, op: OpenIdProvider, **changes: Any) -> House:
    """The house, whose operators sign in through ``op``."""
    party = RelyingParty(
        issuer=op.issuer, client_id=CLIENT, client_secret=SECRET, redirect_uri=f"{ORIGIN}/signin/callback", **changes
    )
    object.__setattr__(house.deps, "sign_ons", SignOns(house.deps.control, party, KeySets()))
    house._app = build_portal(house.deps)
    return house


@pytest.fixture
def house(tmp_path: Path, op: OpenIdProvider) -> Iterator[House]:
    with open_house(tmp_path) as opened:
        yield with_provider(opened, op)


def expect(house: House, name: str = "nora", role: Role = Role.SOC_OPERATOR) -> None:
    """An owner says that ``name`` signs in through the provider."""
    answer = house.client(Role.OWNER).post("/api/operators", json={"id": name, "roles": [role]})
    assert answer.status_code == 201, answer.text


def go(
    house: House, op: OpenIdProvider, browser: TestClient | None = None, target: str = "/"
) -> tuple[TestClient, Any]:
    """The browser after a sign-in at the provider, and what the callback answered."""
    browser = browser or house.stranger()
    begun = browser.get("/signin/provider", params={"next": target})
    assert begun.status_code == 303, begun.text
    back = urlsplit(op.authorize(begun.headers["location"]))
    return browser, browser.get(f"{back.path}?{back.query}")


def me(browser: TestClient) -> str | None:
    """Who the browser is signed in as."""
    answer = browser.get("/api/me")
    return str(answer.json()["id"]) if answer.status_code == 200 else None


def test_whom_an_owner_expects_signs_in_and_goes_where_they_wanted_to(house: House, op: OpenIdProvider) -> None:
    expect(house)
    browser, answer = go(house, op, target="/incidents?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/incidents?x=1")
    assert me(browser) == "nora"
    # From now on the subject counts, whatever the provider calls it.
    op.user = op.user | {"preferred_username": "somebody.else"}
    browser, _ = go(house, op)
    assert me(browser) == "nora"


def test_sign_ins_through_the_provider_are_told_from_others_in_the_audit_log(house: House, op: OpenIdProvider) -> None:
    expect(house)
    go(house, op)
    op.user = op.user | {"sub": "evil"}
    go(house, op)
    with house.stores.control.read() as tx:
        entries = actions.list_audit_after(tx, 0, ("operator:sign-in", "operator:sign-in-failed"), 100)
    assert [e.detail.get("protocol") for e in entries[-2:]] == ["openid", "openid"]
    assert entries[-1].detail["reason"] == "sign_on_refused"


def test_an_administrator_of_the_provider_needs_no_second_factor_here(house: House, op: OpenIdProvider) -> None:
    house.deps.operators.admins_need_second_factor = True
    expect(house, role=Role.OWNER)
    browser, _ = go(house, op)
    assert browser.get("/api/operators").status_code == 200
    local = house.browser(Role.OWNER)
    assert local.get("/api/operators").json()["code"] == "second_factor_missing"


@pytest.mark.asvs("10.5.2")
@pytest.mark.parametrize("name", ["stranger", "bruno", "local-admin", "op-owner", "", "../x"])
def test_nobody_takes_over_an_account_that_was_not_meant_for_them(house: House, op: OpenIdProvider, name: str) -> None:
    expect(house)
    house.browser(Role.OWNER, "bruno")  # signs in with a password
    op.user = op.user | {"preferred_username": name, "sub": "evil"}
    browser, answer = go(house, op)
    assert answer.status_code == 403 and me(browser) is None
    op.user = op.user | {"preferred_username": "nora", "sub": "0f3e"}
    go(house, op)
    op.user = op.user | {"sub": "evil"}  # the name is taken by who came first
    browser, answer = go(house, op)
    assert answer.status_code == 403 and me(browser) is None


def test_groups_give_roles_at_each_sign_in_and_take_them_away(tmp_path: Path, op: OpenIdProvider) -> None:
    roles = read_roles("soc=soc_operator admins=security_admin")
    with open_house(tmp_path) as opened:
        house = with_provider(opened, op, roles=roles, provisions=True)
        op.user = op.user | {"groups": ["soc", "chess"], "name": "Nora Lind"}
        browser, _ = go(house, op)
        assert browser.get("/api/me").json()["roles"] == ["soc_operator"]
        op.user = op.user | {"groups": ["admins", "soc"]}
        other, _ = go(house, op)
        assert other.get("/api/me").json()["roles"] == ["security_admin", "soc_operator"]
        assert me(browser) is None  # what was signed in with other roles has ended
        op.user = op.user | {"groups": ["chess"]}
        third, answer = go(house, op)
        assert answer.status_code == 403 and me(third) is None


def test_nobody_gets_an_account_of_their_own_unless_that_is_switched_on(tmp_path: Path, op: OpenIdProvider) -> None:
    with open_house(tmp_path) as opened:
        house = with_provider(opened, op, roles=read_roles("soc=soc_operator"))
        assert go(house, op)[1].status_code == 403
        expect(house)
        assert go(house, op)[1].status_code == 303


def test_a_disabled_operator_does_not_come_in_this_way_either(house: House, op: OpenIdProvider) -> None:
    expect(house)
    browser, _ = go(house, op)
    answer = house.client(Role.OWNER).patch("/api/operators/nora", json={"is_enabled": False})
    assert answer.status_code == 200
    assert me(browser) is None
    assert go(house, op)[1].status_code == 403


# -- what attackers change -----------------------------------------------------------------------------------------


@pytest.mark.asvs("7.6.2", "10.1.2", "10.2.1")
def test_a_sign_in_ends_only_in_the_browser_that_began_it(house: House, op: OpenIdProvider) -> None:
    """Login CSRF: the attacker's answer, in the victim's browser."""
    expect(house)
    attacker, victim = house.stranger(), house.stranger()
    back = urlsplit(op.authorize(attacker.get("/signin/provider").headers["location"]))
    victim.get("/signin/provider")
    assert victim.get(f"{back.path}?{back.query}").status_code == 403
    assert me(victim) is None
    assert attacker.get(f"{back.path}?{back.query}").status_code == 403  # and it is used up


@pytest.mark.asvs("10.1.2")
def test_an_answer_counts_once_and_for_ten_minutes(house: House, op: OpenIdProvider) -> None:
    expect(house)
    browser = house.stranger()
    back = urlsplit(op.authorize(browser.get("/signin/provider").headers["location"]))
    house.clock.forward(seconds=601)
    assert browser.get(f"{back.path}?{back.query}").status_code == 403
    op.now = house.clock.at.timestamp
    browser, answer = go(house, op)
    assert answer.status_code == 303
    query = urlsplit(str(answer.request.url)).query
    assert house.stranger().get(f"/signin/callback?{query}").status_code == 403


@pytest.mark.asvs("10.5.1", "10.5.4")
@pytest.mark.parametrize(
    "tamper",
    [
        {"iss": "https://evil.example"},
        {"aud": "another client"},
        {"aud": [CLIENT, "another client"]},
        {"azp": "another client"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": int(NOON.timestamp()) - 1},
        {"exp": None},
        {"iat": None},
        {"iat": int(NOON.timestamp()) - 3600},
        {"iat": int(NOON.timestamp()) + 3600},
        {"sub": None},
        {"sub": 7},
        {"sub": ["0f3e"]},
    ],
)
def test_an_id_token_that_is_not_for_this_sign_in_is_refused(
    house: House, op: OpenIdProvider, tamper: dict[str, Any]
) -> None:
    expect(house)
    op.tamper = tamper
    browser, answer = go(house, op)
    assert answer.status_code == 403 and me(browser) is None
    op.tamper = {"aud": [CLIENT, "another client"], "azp": CLIENT}
    assert go(house, op)[1].status_code == 303


@pytest.mark.asvs("9.1.1")
def test_an_id_token_of_another_key_is_refused(house: House, op: OpenIdProvider) -> None:
    expect(house)
    op.use_rogue_key()
    browser, answer = go(house, op)
    assert answer.status_code == 403 and me(browser) is None


@pytest.mark.asvs("10.2.2")
def test_a_mix_up_of_providers_is_noticed(house: House, op: OpenIdProvider) -> None:
    expect(house)
    op.metadata = {"authorization_response_iss_parameter_supported": True}
    assert go(house, op)[1].status_code == 303
    for wrong in ("", "&iss=https://evil.example"):
        browser = house.stranger()
        back = urlsplit(op.authorize(browser.get("/signin/provider").headers["location"]))
        answered = {name: values[0] for name, values in parse_qs(back.query).items()}
        answer = browser.get(f"{back.path}?code={answered['code']}&state={answered['state']}{wrong}")
        assert answer.status_code == 403


@pytest.mark.asvs("10.2.1", "10.5.3")
@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"code_challenge_methods_supported": ["plain"]},
        {"authorization_endpoint": "http://evil.example/authorize"},
        {"authorization_endpoint": None},
        {"token_endpoint": "http://169.254.169.254/token"},
    ],
)
def test_a_provider_that_cannot_be_trusted_or_reached_says_so_and_passwords_still_work(
    house: House, op: OpenIdProvider, metadata: dict[str, Any]
) -> None:
    expect(house)
    op.metadata = metadata
    browser = house.stranger()
    begun = browser.get("/signin/provider")
    if begun.status_code == 303:
        back = urlsplit(op.authorize(begun.headers["location"]))
        begun = browser.get(f"{back.path}?{back.query}")
    assert begun.status_code == 503 and me(browser) is None
    assert me(house.browser(Role.OWNER)) == "bruno"


def test_what_the_provider_says_of_a_refusal_is_shown_as_text(house: House, op: OpenIdProvider) -> None:
    browser = house.stranger()
    begun = browser.get("/signin/provider")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    said = {"state": state, "error": "access_denied", "error_description": "<script>alert(1)</script>"}
    answer = browser.get("/signin/callback", params=said)
    assert answer.status_code == 403
    assert "<script>" not in answer.text and "&lt;script&gt;" in answer.text


@pytest.mark.asvs("3.7.2")
@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_nobody_is_sent_elsewhere_afterwards(house: House, op: OpenIdProvider, target: str) -> None:
    expect(house)
    assert go(house, op, target=target)[1].headers["location"] == "/"


@pytest.mark.asvs("7.2.4")
def test_a_fresh_session_takes_the_place_of_whatever_cookie_was_there(house: House, op: OpenIdProvider) -> None:
    expect(house)
    browser = house.stranger()
    browser.cookies.set("watchfloor", "wfs_" + "a" * 43)
    browser, answer = go(house, op, browser)
    assert "watchfloor=wfs_" in answer.headers["set-cookie"] and "a" * 43 not in answer.headers["set-cookie"]


# -- logout --------------------------------------------------------------------------------------------------------


def log_out(house: House, token: str) -> int:
    """The provider calls."""
    return house.stranger().post("/signin/backchannel-logout", data={"logout_token": token}).status_code


@pytest.mark.asvs("7.6.1")
def test_the_providers_logout_ends_its_sessions_here_and_no_others(house: House, op: OpenIdProvider) -> None:
    expect(house)
    first, _ = go(house, op)
    op.user = op.user | {"sid": "op-session-2"}
    second, _ = go(house, op)
    local = house.browser(Role.OWNER)
    assert log_out(house, op.logout_token(sid="op-session-1")) == 200
    assert (me(first), me(second)) == (None, "nora")
    assert log_out(house, op.logout_token()) == 200
    assert (me(second), me(local)) == (None, "bruno")


@pytest.mark.asvs("10.5.5")
@pytest.mark.parametrize(
    "changes",
    [
        {"events": None},
        {"events": {"other": {}}},
        {"events": []},
        {"nonce": "n"},
        {"jti": None},
        {"sub": None},
        {"aud": "another client"},
        {"iss": "https://evil.example"},
        {"iat": int(NOON.timestamp()) - 3600},
        {"sub": "another"},
    ],
)
def test_a_logout_token_that_is_none_ends_nothing(house: House, op: OpenIdProvider, changes: dict[str, Any]) -> None:
    expect(house)
    browser, _ = go(house, op)
    assert log_out(house, op.logout_token(**changes)) == (200 if changes == {"sub": "another"} else 400)
    assert me(browser) == "nora"


@pytest.mark.asvs("9.2.2", "10.5.5")
def test_a_logout_token_counts_once_and_an_id_token_is_none(house: House, op: OpenIdProvider) -> None:
    expect(house)
    token = op.logout_token()
    assert log_out(house, token) == 200
    browser, _ = go(house, op)
    assert log_out(house, token) == 400
    assert log_out(house, op.sign({"aud": CLIENT, "sub": "0f3e", "sid": "op-session-1"})) == 400
    assert me(browser) == "nora"


def test_without_a_provider_there_is_no_such_door(tmp_path: Path) -> None:
    with open_house(tmp_path) as house:
        browser = house.stranger()
        assert browser.get("/signin/provider").status_code == 404
        assert browser.get("/signin/callback?state=x&code=y").status_code == 404
        assert browser.post("/signin/backchannel-logout", data={"logout_token": "x"}).status_code == 400
        assert "Sign in with" not in browser.get("/signin").text
        refused = house.client(Role.OWNER).post("/api/operators", json={"id": "nora", "roles": ["soc_operator"]})
        assert (refused.status_code, refused.json()["where"]) == (422, "password")


def test_roles_by_group_are_read_or_refused_with_the_place() -> None:
    assert read_roles("a=owner a=maker b-c=soc_analyst") == {
        "a": {Role.OWNER, Role.MAKER},
        "b-c": {Role.SOC_ANALYST},
    }
    for wrong in ("a", "a=boss", "=owner"):
        with pytest.raises(InputError):
            read_roles(wrong)


def test_somebody_of_the_provider_cannot_be_given_a_password_here(house: House, op: OpenIdProvider) -> None:
    expect(house)
    browser, _ = go(house, op)
    csrf = browser.get("/api/me").json()["csrf_token"]
    answer = browser.put("/api/account/password", json={"current": "", "new": PASSWORD}, headers={"x-csrf-token": csrf})
    assert answer.status_code == 409
