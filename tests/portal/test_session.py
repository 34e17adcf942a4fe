"""Set-up, sign-in, cookies, and what a foreign page cannot make a browser do."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from portal.house import ORIGIN, PASSWORD, House, open_house
from watchfloor.identity import setup
from watchfloor.model.people import Role
from watchfloor.portal.app import route_table


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path, empty=True) as opened:
        yield opened


def _offer(house: House) -> str:
    with house.stores.control.tx("test") as tx:
        token = setup.ensure_setup_token(tx)
    assert token
    return token


def test_the_first_visitor_with_the_token_becomes_owner_and_is_signed_in(empty: House) -> None:
    browser = empty.stranger()
    answer = browser.post("/api/setup", json={"token": _offer(empty), "name": "Olga", "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    me = browser.get("/api/me").json()
    assert (me["id"], me["roles"]) == ("olga", ["owner"])


@pytest.mark.asvs("6.4.1")
def test_a_set_up_token_works_once_and_a_wrong_one_never(empty: House) -> None:
    token = _offer(empty)
    stranger = empty.stranger()
    wrong = stranger.post("/api/setup", json={"token": "x" * 32, "name": "eve", "password": PASSWORD})
    assert wrong.status_code == 403
    short = stranger.post("/api/setup", json={"token": token, "name": "olga", "password": "short"})
    assert (short.status_code, short.json()["where"]) == (422, "password")
    assert stranger.post("/api/setup", json={"token": token, "name": "olga", "password": PASSWORD}).status_code == 201
    again = empty.stranger().post("/api/setup", json={"token": token, "name": "eve", "password": PASSWORD})
    assert again.status_code == 409


@pytest.mark.asvs("3.3.2", "3.3.4")
def test_the_session_cookie_is_out_of_reach_of_scripts_and_of_other_sites(house: House) -> None:
    answer = house.browser().post("/api/session", json={"name": "bruno", "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("watchfloor=wfs_")
    for attribute in ("HttpOnly", "Path=/", "SameSite=lax"):
        assert attribute in cookie


@pytest.mark.asvs("3.3.1", "3.3.3", "3.4.1")
def test_over_tls_the_cookie_is_bound_to_host_and_tls(tmp_path: Path) -> None:
    with open_house(tmp_path, public_url="https://watch.zava.example") as house:
        answer = house.browser().post("/api/session", json={"name": "bruno", "password": PASSWORD})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-watchfloor=")
        assert "Secure" in cookie
        assert "Domain" not in cookie
        assert answer.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"


@pytest.mark.asvs("7.2.4")
def test_each_sign_in_gives_a_fresh_session_whatever_cookie_came_along(house: House) -> None:
    browser = house.browser()
    planted = "wfs_" + "a" * 43
    browser.cookies.set("watchfloor", planted)
    answer = browser.post("/api/session", json={"name": "bruno", "password": PASSWORD})
    assert planted not in answer.headers["set-cookie"]


@pytest.mark.asvs("7.2.4")
def test_signing_in_again_ends_the_session_that_the_browser_came_with_and_no_other(house: House) -> None:
    browser, other = house.browser(), house.browser()
    before = browser.cookies.get("watchfloor")
    wrong = browser.post("/api/session", json={"name": "bruno", "password": "wrong"})
    assert wrong.status_code == 401
    assert browser.get("/api/me").status_code == 200, "who cannot sign in ends nothing"
    assert browser.post("/api/session", json={"name": "bruno", "password": PASSWORD}).status_code == 200
    assert browser.get("/api/me").status_code == other.get("/api/me").status_code == 200
    stale = house.stranger()
    stale.cookies.set("watchfloor", before or "")
    assert stale.get("/api/me").status_code == 401
    form = stale.post("/signin", data={"name": "bruno", "password": PASSWORD})
    assert form.status_code == 303
    assert other.get("/api/me").status_code == 200


@pytest.mark.asvs("7.2.3", "16.2.5")
def test_a_session_is_256_random_bits_of_which_only_the_hash_is_stored(house: House, tmp_path: Path) -> None:
    tokens = [str(house.browser().cookies.get("watchfloor")) for _ in range(8)]
    bits = [urlsafe_b64decode(token.removeprefix("wfs_") + "=") for token in tokens]
    assert {len(each) for each in bits} == {32}
    # No byte is the same in all of them: none is a counter, a time or a name.
    assert not [n for n in range(32) if len({each[n] for each in bits}) == 1]
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("control.db*"))
    assert not [token for token in tokens if token.encode() in stored]
    assert [token for token in tokens if sha256(token.encode()).hexdigest().encode() in stored] == tokens


@pytest.mark.asvs("4.1.3")
def test_headers_that_name_somebody_make_nobody_of_a_stranger_and_no_address_of_a_guesser(house: House) -> None:
    house.browser()
    names = ("x-user", "x-user-id", "x-forwarded-user", "x-remote-user", "x-agent-id", "x-operator")
    stranger = house.stranger()
    assert stranger.get("/api/me", headers=dict.fromkeys(names, "bruno")).status_code == 401
    one = house.client(Role.SOC_ANALYST).get("/api/me", headers=dict.fromkeys(names, "bruno")).json()
    assert one["id"] == "op-soc-analyst"
    body = {"name": "bruno", "password": "wrong"}
    said = [
        stranger.post(
            "/api/session", json=body, headers={"x-forwarded-for": f"203.0.113.{n}", "x-real-ip": f"10.0.0.{n}"}
        )
        for n in range(6)
    ]
    assert [answer.status_code for answer in said] == [401] * 5 + [429]


@pytest.mark.asvs("7.4.4")
def test_every_page_offers_to_sign_out(house: House) -> None:
    browser = house.browser()
    pages = []
    for method, path, needs in (line.split(" ", 2) for line in route_table(house.app)):
        if method == "GET" and needs != "public" and "{" not in path:
            answer = browser.get(path)
            if answer.headers.get("content-type", "").startswith("text/html"):
                pages.append(path)
                assert 'action="/signout"' in answer.text, path
    assert len(pages) >= 7


@pytest.mark.asvs("7.4.1")
def test_signing_out_ends_the_session_and_not_only_the_cookie(house: House) -> None:
    browser = house.browser()
    kept = browser.cookies.get("watchfloor")
    csrf = browser.headers["x-test-csrf"]
    assert browser.delete("/api/session", headers={"x-csrf-token": csrf}).status_code == 204
    browser.cookies.set("watchfloor", kept or "")
    assert browser.get("/api/me").status_code == 401


@pytest.mark.asvs("6.3.1", "6.3.8")
def test_wrong_passwords_say_nothing_about_whether_the_name_exists_and_are_slowed_down(house: House) -> None:
    house.browser()
    stranger = house.stranger()
    one = stranger.post("/api/session", json={"name": "bruno", "password": "wrong"})
    other = stranger.post("/api/session", json={"name": "nobody", "password": "wrong"})
    assert (one.status_code, one.json()) == (other.status_code, other.json())
    assert one.status_code == 401
    for _ in range(4):
        stranger.post("/api/session", json={"name": "bruno", "password": "wrong"})
    slowed = stranger.post("/api/session", json={"name": "bruno", "password": PASSWORD})
    assert slowed.status_code == 429
    assert int(slowed.headers["retry-after"]) > 0


@pytest.mark.asvs("3.5.1")
def test_a_cookie_alone_changes_nothing_on_any_route(house: House) -> None:
    browser = house.browser(Role.OWNER)
    csrf = browser.headers["x-test-csrf"]
    unsafe = [
        (method, re.sub(r"\{[^}]*\}", "none", path))
        for method, path, needs in (line.split(" ", 2) for line in route_table(house.app))
        if method in ("POST", "PUT", "PATCH", "DELETE") and needs != "public" and path != "/api/session"
    ]
    assert len(unsafe) > 15
    unsafe.sort(key=lambda route: route[1] == "/signout")  # last: it ends the session
    form = {"content-type": "application/x-www-form-urlencoded"}
    for method, path in unsafe:
        is_api = path.startswith("/api")
        kind = {} if is_api else form
        for headers in (
            {},
            {"x-csrf-token": "wrong"},
            {"x-csrf-token": csrf, "origin": "https://evil.example"},
            {"x-csrf-token": csrf, "origin": "null"},
            {"x-csrf-token": csrf, "sec-fetch-site": "cross-site"},
            {"x-csrf-token": csrf, "sec-fetch-site": "same-site"},
        ):
            answer = browser.request(method, path, headers={**headers, **kind}, content=b"{}" if is_api else b"a=b")
            assert answer.status_code == 403, (method, path, headers, answer.status_code)
        ours = {"x-csrf-token": csrf, "origin": ORIGIN, "sec-fetch-site": "same-origin", **kind}
        answer = browser.request(method, path, headers=ours, content=b"{}" if is_api else b"a=b")
        assert answer.status_code != 403, (method, path)


@pytest.mark.asvs("3.5.1")
def test_signing_in_from_a_foreign_page_is_refused(house: House) -> None:
    house.browser()
    stranger = house.stranger()
    body = {"name": "bruno", "password": PASSWORD}
    assert stranger.post("/api/session", json=body, headers={"origin": "https://evil.example"}).status_code == 403
    form = stranger.post("/signin", data=body, headers={"sec-fetch-site": "cross-site"})
    assert form.status_code == 403


@pytest.mark.asvs("9.2.2")
def test_an_api_token_is_no_cookie_and_a_cookie_is_no_api_token(house: House) -> None:
    token = house.token(Role.OWNER)
    stranger = house.stranger()
    stranger.cookies.set("watchfloor", token)
    assert stranger.get("/api/me").status_code == 401
    session = house.browser().cookies.get("watchfloor")
    answer = house.stranger().get("/api/me", headers={"authorization": f"Bearer {session}"})
    assert answer.status_code == 401


@pytest.mark.asvs("7.3.1")
def test_an_idle_session_ends(house: House) -> None:
    browser = house.browser()
    house.clock.forward(minutes=31)
    assert browser.get("/api/me").status_code == 401
