"""One's own account: second factor, password, sessions; what needs the password again, and what ends what."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from fastapi.testclient import TestClient

from portal.house import PASSWORD, House
from watchfloor.model.people import Role


def code_of(house: House, key: str) -> str:
    """What an authenticator app with ``key`` shows now."""
    totp = TOTP(base64.b32decode(key.replace(" ", "")), 6, SHA1(), 30)
    return totp.generate(int(house.clock.at.timestamp())).decode()


def send(browser: TestClient, method: str, path: str, body: Any = None) -> Any:
    """An unsafe request of the signed-in browser."""
    return browser.request(method, path, json=body, headers={"x-csrf-token": browser.headers["x-test-csrf"]})


def enrol(house: House, browser: TestClient) -> tuple[str, list[str]]:
    """Key and recovery codes of a second factor, added through the API."""
    begun = send(browser, "POST", "/api/account/second-factor", {"password": PASSWORD})
    assert begun.status_code == 201, begun.text
    key = begun.json()["key"]
    done = send(browser, "POST", "/api/account/second-factor/confirm", {"code": code_of(house, key)})
    assert done.status_code == 200, done.text
    house.clock.forward(seconds=30)
    return key, done.json()["recovery_codes"]


@pytest.mark.asvs("6.3.2")
def test_with_a_second_factor_the_password_alone_opens_nothing(house: House) -> None:
    browser = house.browser()
    key, _ = enrol(house, browser)
    stranger = house.stranger()
    asked = stranger.post("/api/session", json={"name": "bruno", "password": PASSWORD})
    assert (asked.status_code, asked.json()["code"]) == (401, "second_factor_required")
    assert "set-cookie" not in asked.headers
    wrong = stranger.post("/api/session", json={"name": "bruno", "password": PASSWORD, "code": "000000"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "code_wrong")
    body = {"name": "bruno", "password": PASSWORD, "code": code_of(house, key)}
    assert stranger.post("/api/session", json=body).status_code == 200
    assert browser.get("/api/account").json()["has_second_factor"] is True


@pytest.mark.asvs("7.4.3")
def test_adding_one_ends_the_sessions_that_began_without_it(house: House) -> None:
    thief, browser = house.browser(), house.browser()
    enrol(house, browser)
    assert thief.get("/api/me").status_code == 401
    assert browser.get("/api/me").status_code == 200


@pytest.mark.asvs("6.3.2")
def test_administrators_get_nowhere_before_they_have_one(house: House) -> None:
    house.deps.operators.admins_need_second_factor = True
    browser = house.browser()
    assert browser.get("/api/me").json()["must_add_second_factor"] is True
    for path in ("/api/operators", "/api/incidents", "/api/hunting/runs"):
        assert browser.get(path).json()["code"] == "second_factor_missing", path
    page = browser.get("/incidents")
    assert (page.status_code, page.headers["location"]) == (303, "/account")
    assert "Add one" in browser.get("/account").text
    enrol(house, browser)
    assert browser.get("/api/operators").status_code == 200
    # Scripts have no phone.
    assert house.client(Role.OWNER).get("/api/operators").status_code == 200


def test_the_pages_lead_through_it_without_script(house: House) -> None:
    browser = house.browser()
    csrf = browser.headers["x-test-csrf"]
    shown = browser.post("/account/second-factor", data={"csrf": csrf, "password": PASSWORD}).text
    key = re.search(r"Or type the key: <code>([A-Z2-7 ]+)</code>", shown)
    assert key is not None and "<svg" in shown
    done = browser.post("/account/second-factor/confirm", data={"csrf": csrf, "code": code_of(house, key[1])}).text
    codes = re.findall(r"<li><code>([a-z2-7]{8}-[a-z2-7]{8})</code></li>", done)
    assert len(codes) == 10
    house.clock.forward(seconds=30)
    stranger = house.stranger()
    asked = stranger.post("/signin", data={"name": "bruno", "password": PASSWORD, "next": "/agents"}).text
    challenge = re.search(r'name="challenge" value="([^"]+)"', asked)
    assert challenge is not None and PASSWORD not in asked
    form = {"challenge": challenge[1], "next": "/agents"}
    wrong = stranger.post("/signin", data=form | {"code": "000000"})
    assert wrong.status_code == 401 and "The code is wrong" in wrong.text
    right = stranger.post("/signin", data=form | {"code": codes[0]})
    assert (right.status_code, right.headers["location"]) == (303, "/agents")
    assert stranger.get("/api/me").json()["id"] == "bruno"
    assert "9 recovery codes left" in browser.get("/account").text


@pytest.mark.asvs("7.5.1")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/account/second-factor", {"password": "wrong"}),
        ("POST", "/api/account/second-factor/remove", {"password": "wrong"}),
        ("PUT", "/api/account/password", {"current": "wrong", "new": "another long password"}),
    ],
)
def test_what_a_thief_at_the_desk_would_do_asks_for_the_password_and_is_slowed_down(
    house: House, method: str, path: str, body: dict[str, str]
) -> None:
    browser = house.browser()
    for _ in range(5):
        answer = send(browser, method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (422, "password_wrong")
    assert send(browser, method, path, body).status_code == 429


@pytest.mark.asvs("6.3.1")
def test_guessing_the_first_code_is_slowed_down_too(house: House) -> None:
    browser = house.browser()
    send(browser, "POST", "/api/account/second-factor", {"password": PASSWORD})
    answers = [send(browser, "POST", "/api/account/second-factor/confirm", {"code": "000000"}) for _ in range(6)]
    assert [a.status_code for a in answers] == [401] * 5 + [503]


@pytest.mark.asvs("7.4.3")
def test_a_new_password_ends_every_other_session(house: House) -> None:
    other, browser = house.browser(), house.browser()
    body = {"current": PASSWORD, "new": "another long password"}
    assert send(browser, "PUT", "/api/account/password", {**body, "new": "short"}).json()["where"] == "new"
    assert send(browser, "PUT", "/api/account/password", body).status_code == 204
    assert (other.get("/api/me").status_code, browser.get("/api/me").status_code) == (401, 200)
    assert house.stranger().post("/api/session", json={"name": "bruno", "password": PASSWORD}).status_code == 401


@pytest.mark.asvs("7.5.2", "8.2.2")
def test_sessions_are_listed_and_ended_one_by_one_and_never_somebody_elses(house: House) -> None:
    first, second, other = house.browser(), house.browser(), house.browser(Role.SOC_ANALYST, "lin")
    sessions = second.get("/api/account").json()["sessions"]
    assert [s["is_this"] for s in sessions].count(True) == 1 and len(sessions) == 2
    foreign = other.get("/api/account").json()["sessions"][0]["id"]
    assert send(second, "DELETE", f"/api/account/sessions/{foreign}").status_code == 404
    assert other.get("/api/me").status_code == 200
    (mine,) = [s["id"] for s in sessions if not s["is_this"]]
    assert send(second, "DELETE", f"/api/account/sessions/{mine}").status_code == 204
    assert (first.get("/api/me").status_code, second.get("/api/me").status_code) == (401, 200)


@pytest.mark.asvs("6.4.4")
def test_an_owner_helps_whose_phone_is_lost_and_nobody_else_does(house: House) -> None:
    lin = house.browser(Role.SOC_OPERATOR, "lin")
    enrol(house, lin)
    for role in (Role.SECURITY_ADMIN, Role.SOC_OPERATOR, Role.AUDITOR):
        assert house.client(role).post("/api/operators/lin/remove-second-factor").status_code == 403
    assert house.client(Role.OWNER).post("/api/operators/lin/remove-second-factor").status_code == 204
    assert lin.get("/api/me").status_code == 401
    assert house.browser(Role.SOC_OPERATOR, "lin").get("/api/account").json()["has_second_factor"] is False
    assert house.client(Role.OWNER).post("/api/operators/lin/remove-second-factor").status_code == 404


@pytest.mark.asvs("7.4.5")
def test_an_owner_ends_every_session_of_an_operator(house: House) -> None:
    lin = house.browser(Role.SOC_OPERATOR, "lin")
    assert house.client(Role.OWNER).post("/api/operators/lin/end-sessions").status_code == 204
    assert lin.get("/api/me").status_code == 401
