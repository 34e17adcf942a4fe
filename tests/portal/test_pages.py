"""The pages: what they show, that their forms work without script, and that nothing in them is executable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from portal.house import PASSWORD, House, open_house
from watchfloor.identity import setup
from watchfloor.model.facts import Kind
from watchfloor.model.people import Role
from watchfloor.portal.html import Html, h
from watchfloor.portal.setup import local_path
from watchfloor.storage import actions


class _Outline(HTMLParser):
    """Counts what matters for people who do not see the page, and finds what must not be there."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _csrf(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found
    return found[1]


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path, empty=True) as opened:
        yield opened


def test_a_fresh_installation_leads_from_any_page_to_a_signed_in_administrator(empty: House) -> None:
    browser = empty.stranger()
    assert browser.get("/").headers["location"] == "/signin"
    assert browser.get("/signin").headers["location"] == "/setup"
    assert "set-up link" in browser.get("/setup").text
    with empty.stores.control.tx("test") as tx:
        token = setup.ensure_setup_token(tx) or ""
    assert 'name="again"' in browser.get("/setup", params={"token": token}).text
    form = {"token": token, "name": "olga", "password": PASSWORD, "again": PASSWORD}
    differs = browser.post("/setup", data={**form, "again": "something else"})
    assert (differs.status_code, "The two passwords differ." in differs.text) == (422, True)
    assert PASSWORD not in differs.text
    done = browser.post("/setup", data=form)
    assert (done.status_code, done.headers["location"]) == (303, "/")
    overview = browser.get("/")
    assert overview.status_code == 200
    assert "watchfloor apply -f company.yaml" in overview.text
    assert browser.get("/setup").headers["location"] == "/signin"


def test_signing_in_leads_back_to_the_page_that_was_asked_for(house: House) -> None:
    house.browser()
    stranger = house.stranger()
    sent = stranger.get("/agents?x=1")
    assert sent.headers["location"] == "/signin?next=%2Fagents%3Fx%3D1"
    page = stranger.get(sent.headers["location"]).text
    assert 'value="/agents?x=1"' in page
    wrong = stranger.post("/signin", data={"name": "bruno", "password": "wrong", "next": "/agents"})
    assert (wrong.status_code, 'role="alert"' in wrong.text) == (401, True)
    done = stranger.post("/signin", data={"name": "bruno", "password": PASSWORD, "next": "/agents?x=1"})
    assert (done.status_code, done.headers["location"]) == (303, "/agents?x=1")


@pytest.mark.asvs("3.7.2")
@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "\\\\evil",
        "",
        "/\t/evil",
        "/\nx",
    ],
)
def test_nobody_is_sent_elsewhere_after_signing_in(target: str) -> None:
    assert local_path(target) == "/"


def test_the_overview_shows_what_is_open_what_was_stopped_and_who_needs_attention(attacked: House) -> None:
    page = attacked.client(Role.SOC_ANALYST).get("/").text
    for text in ("Collection incident involving one user", "mail/send_email", "Billing Agent", "3 high, 1 medium"):
        assert text in page


def test_the_incident_page_shows_time_user_address_tool_and_verdict_of_every_event(attacked: House) -> None:
    client = attacked.client(Role.SOC_OPERATOR)
    (incident,) = client.get("/api/incidents").json()["items"]
    page = client.get(f"/incidents/{incident['id']}").text
    assert page.count("203.0.113.7</code>") == 10
    for text in ("2026-11-03 12:05:00", "griffin@zava.example", "mail/send_email", "Blocked", "same user and agent"):
        assert text in page
    assert "Revoke sessions of griffin@zava.example" in page
    assert "Block Billing Agent" not in page  # an operator of the SOC may not


def test_revoking_from_the_incident_page_asks_first_and_then_shows_the_proof(house: House) -> None:
    house.attack()
    browser = house.browser(Role.SOC_OPERATOR)
    (incident,) = browser.get("/api/incidents").json()["items"]
    address = re.search(r'href="(/act/revoke_user_sessions[^"]+)"', browser.get(f"/incidents/{incident['id']}").text)
    assert address
    asked = browser.get(address[1].replace("&amp;", "&")).text
    form = {"csrf": _csrf(asked), "subject": "griffin", "incident": incident["id"], "reason": ""}
    without = browser.post("/act/revoke_user_sessions", data=form)
    assert (without.status_code, "a reason is needed" in without.text) == (422, True)
    assert house.projected(Kind.USER, "griffin")["epoch"] == 1
    done = browser.post("/act/revoke_user_sessions", data={**form, "reason": "stolen"}).text
    assert "Announced to the gateway workers" in done
    assert house.projected(Kind.USER, "griffin")["epoch"] == 2
    assert "Revoke the user&#x27;s sessions" in browser.get(f"/incidents/{incident['id']}").text


def test_resolving_on_the_page_says_what_is_missing_and_keeps_what_was_there(house: House) -> None:
    house.attack()
    browser = house.browser(Role.SOC_OPERATOR)
    (incident,) = browser.get("/api/incidents").json()["items"]
    address = f"/incidents/{incident['id']}"
    form = {"csrf": _csrf(browser.get(address).text), "status": "resolved", "classification": "unknown", "comment": ""}
    refused = browser.post(f"{address}/triage", data=form)
    assert (refused.status_code, "resolved with a classification" in refused.text) == (422, True)
    saved = browser.post(f"{address}/triage", data={**form, "classification": "truePositive", "comment": "Confirmed."})
    assert saved.status_code == 303
    page = browser.get(address).text
    assert "True positive" in page and "Confirmed." in page


def test_an_approver_sees_the_exact_arguments_and_the_look_is_audited(house: House) -> None:
    house.call("bank", "pay", {"amount": 25_000, "payee": "Northwind <b>"})
    house.work()
    browser = house.browser(Role.SOC_OPERATOR)
    assert "Payment of 25000" in browser.get("/holds").text
    (hold,) = browser.get("/api/holds").json()["items"]
    asked = browser.get("/act/approve_hold", params={"subject": hold["id"]}).text
    assert "Northwind &lt;b&gt;" in asked
    with house.stores.control.read() as tx:
        assert [e.actor for e in actions.list_audit(tx, action="content:read")] == ["bruno"]
    done = browser.post("/act/approve_hold", data={"csrf": _csrf(asked), "subject": hold["id"], "reason": ""})
    assert done.status_code == 200
    assert house.projected(Kind.APPROVAL, hold["id"])["approved"] is True


def test_signing_out_ends_the_session(house: House) -> None:
    browser = house.browser()
    form = {"csrf": _csrf(browser.get("/").text)}
    assert browser.post("/signout", data=form).headers["location"] == "/signin"
    assert browser.get("/").headers["location"] == "/signin"


PAGES = ["/", "/incidents", "/incidents/{incident}", "/agents", "/agents/billing", "/holds",
         "/act/block_agent?subject=billing", "/signin"]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_every_page_can_be_used_without_seeing_it_and_runs_nothing(attacked: House, path: str) -> None:
    client = attacked.client(Role.OWNER)
    (incident,) = client.get("/api/incidents").json()["items"]
    answer = client.get(path.replace("{incident}", incident["id"]))
    assert answer.status_code == 200
    page = _Outline(answer.text)
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert len(page.all("main")) == 1
    labels = {label["for"] for label in page.all("label")}
    fields = [*page.all("input"), *page.all("select"), *page.all("textarea")]
    assert {f["id"] for f in fields if f.get("type") != "hidden"} <= labels
    assert len(page.all("caption")) == len(page.all("table"))
    for header in page.all("th"):
        assert header["scope"] == "col"
    if path != "/signin":
        assert any(a.get("class") == "skip" for a in page.all("a"))
    assert page.all("script") == [] and page.all("style") == []
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("href", "src", "action"):
            assert (attributes.get(name) or "/").startswith(("/", "#")), attributes
    for form in page.all("form"):
        assert form["method"] == "post"


@pytest.mark.asvs("3.2.2")
def test_what_outsiders_name_things_is_shown_and_never_run(house: House) -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"
    house.call("mail", evil, {}, user="griffin", address=evil)
    house.work()
    client = house.client(Role.OWNER)
    (incident,) = client.get("/api/incidents").json()["items"]
    for path in ("/", f"/incidents/{incident['id']}", "/agents/billing"):
        text = client.get(path).text
        assert "<img" not in text
    assert "&lt;img src=x" in client.get(f"/incidents/{incident['id']}").text


@pytest.mark.asvs("1.2.1")
@pytest.mark.parametrize(
    ("made", "text"),
    [
        (h("p", "5 < 6 & 7", cls="a b"), '<p class="a b">5 &lt; 6 &amp; 7</p>'),
        (h("input", value='"><b>', required=True, hidden=None), '<input value="&quot;&gt;&lt;b&gt;" required>'),
        (h("a", h("b", "x"), ["y", 1, None], href="/?a=1&b=2"), '<a href="/?a=1&amp;b=2"><b>x</b>y1</a>'),
        (h("label", for_="name", aria_describedby="n"), '<label for="name" aria-describedby="n"></label>'),
        (h("p", str(h("b", "x")) + "!"), "<p>&lt;b&gt;x&lt;/b&gt;!</p>"),
    ],
)  # fmt: skip
def test_html_is_escaped_unless_it_was_built(made: Html, text: str) -> None:
    assert str(made) == text


def test_the_style_is_served_and_nothing_beside_it(house: House) -> None:
    stranger = house.stranger()
    assert stranger.get("/static/portal.css").headers["content-type"].startswith("text/css")
    assert stranger.get("/static/icon.svg").status_code == 200
    for name in ("app.py", "..%2Fapp.py", "%2e%2e/deps.py", "portal.css%00"):
        answer: Any = stranger.get(f"/static/{name}")
        assert answer.status_code == 404, name
