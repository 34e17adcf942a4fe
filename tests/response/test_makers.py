"""Notifying makers through the API, and following up: real mail and web servers take what goes out, real scans say what
is fixed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.test_mail import Choosy, server, serving
from portal.house import ORIGIN, House
from response.hooks import hook
from watchfloor.connectors.channels import PostChannels
from watchfloor.connectors.mail import SmtpServer
from watchfloor.jobs import JobContext, Jobs
from watchfloor.model.people import Role
from watchfloor.response.makers import Rules
from watchfloor.storage.drain import drain
from watchfloor.storage.messages import Message

TEMPLATE = "agents-mcp-maker-credentials"
EXCEPTION = "/api/agents/billing/posture/exceptions/maker-credentials"
HOSTILE = "Free <b>gift</b>\r\nhttps://evil.example/?u=billing [x](https://evil.example) @here"


def agent(agent_id: str, maker: str = "ada", credential: str = "maker", **more: Any) -> dict[str, Any]:
    tool: dict[str, Any] = {"server": "mail", "tool": "send_email", "credential": credential, "scope": "write"}
    if credential == "maker":
        tool["makerCredential"] = {"value": "of-the-maker-0123456789"}
    tools = [tool]
    return {"id": agent_id, "name": agent_id.title(), "version": "1", "maker": maker, "owner": "mona", "tools": tools,
            "sponsor": "griffin", **more}  # fmt: skip


def apply(house: House, *agents: dict[str, Any], users: tuple[dict[str, Any], ...] = ()) -> None:
    """Register agents, and let the event store know them."""
    company = {"apiVersion": "watchfloor/v1", "kind": "Company", "agents": list(agents), "users": list(users)}
    answer = house.client(Role.OWNER).post("/api/manifests/apply", json={"manifest": yaml.safe_dump(company)})
    assert answer.status_code == 200, answer.text
    look(house)


def look(house: House) -> None:
    """Write the inventory down, take it in, scan it."""
    house.clock.forward(minutes=10)
    house.work("publish_inventory")
    drain(house.log, house.stores.events)
    house.work("scan_posture")


@pytest.fixture
def sink() -> Choosy:
    return Choosy()


@pytest.fixture
def told(house: House, sink: Choosy) -> Iterator[House]:
    """A house with a mail server, where two of ada's agents and one of griffin's use their maker's credentials."""
    with serving(sink) as port:
        employ(house, server(port))
        apply(house, agent("billing"), agent("bot", name=HOSTILE), agent("clerk", "griffin"))
        yield house


def employ(house: House, mailer: Any) -> None:
    stores = house.stores
    house.jobs = Jobs(
        JobContext(
            stores.control, stores.events, stores.compiler, house.deps.vault, house.log, now=house.clock, mailer=mailer,
            posts=PostChannels(stores.control, house.deps.vault), notices=Rules(ORIGIN, has_mail=True),
        )
    )  # fmt: skip


def post(house: House, path: str, body: Any = None, role: Role = Role.SOC_OPERATOR, status: int = 200) -> Any:
    answer = house.client(role).post(f"/api/notices{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def read(house: House, notice_id: str) -> Any:
    return house.client(Role.SOC_ANALYST).get(f"/api/notices/{notice_id}").json()


def notify(house: House, **body: Any) -> dict[str, str]:
    """Open notices and let their window pass: ids by maker."""
    opened = post(house, "", body or {"template": TEMPLATE}, status=201)
    house.clock.forward(minutes=6)
    house.work("send_notices", "deliver_messages")
    return {each["maker_id"]: each["notice_id"] for each in opened["makers"]}


def later(house: House, **span: float) -> None:
    """Time goes on, and the jobs that follow up run."""
    house.clock.forward(**span)
    look(house)
    house.work("follow_up_notices", "deliver_messages")


def mails(sink: Choosy, to: str) -> list[dict[str, Any]]:
    return sink.messages(to)


def link_in(mail: dict[str, Any]) -> str:
    """The path of the link that acknowledges."""
    found = re.search(rf"{re.escape(ORIGIN)}(/notices/\S+/acknowledge\?token=\S+)", mail["text"])
    assert found, mail["text"]
    return found[1]


def press(house: House, link: str) -> Any:
    """What the page behind a link answers when its button is pressed."""
    path, _, token = link.partition("?token=")
    return house.stranger().post(path, data={"token": token})


def audited(house: House, action: str) -> int:
    log = house.client(Role.AUDITOR).get("/api/audit", params={"limit": 200}).json()["items"]
    return [entry["action"] for entry in log].count(action)


@pytest.mark.claim("story-notify-makers")
def test_each_maker_is_told_once_of_all_their_agents_and_it_closes_when_a_new_look_finds_it_fixed(
    told: House, sink: Choosy
) -> None:
    preview = post(told, "/preview", {"template": TEMPLATE, "note": "By Friday, please."})
    assert {each["maker_id"]: each["agents"] for each in preview["makers"]} == {
        "ada": ["billing", "bot"], "griffin": ["clerk"],
    }  # fmt: skip
    assert sink.total == 0 and post_list(told) == [] and audited(told, "hunt:run") == 1
    opened = notify(told, template=TEMPLATE, note="By Friday, please.")
    assert set(opened) == {"ada", "griffin"} and sink.total == 2
    (mail,) = mails(sink, "ada@")
    shown = next(each["told"][0] for each in preview["makers"] if each["maker_id"] == "ada")
    assert (mail["subject"], shown["subject"]) == ("[Watchfloor] 2 of your agents need a change",) * 2
    assert "By Friday, please." in mail["text"] and "bound to the user's own credentials" in mail["text"]
    assert "send_email" not in mail["text"], "ids and names of agents, and nothing of what they hold"
    again = post(told, "", {"template": TEMPLATE}, status=409)
    assert f"notice {opened['ada']} about the same is still open" in str(again)
    later(told)
    assert read(told, opened["ada"])["state"] == "sent"
    apply(told, agent("billing", credential="user", version="2"))
    later(told)
    stood = {item["agent_id"]: item["state"] for item in read(told, opened["ada"])["items"]}
    assert stood == {"billing": "fixed", "bot": "open"} and read(told, opened["ada"])["state"] == "sent"
    mended = {
        k: v for k, v in agent("bot", credential="user", version="2").items() if k not in ("maker", "owner", "sponsor")
    }
    company = {"apiVersion": "watchfloor/v1", "kind": "Company", "agents": [mended]}
    asked = told.client(Role.MAKER, "ada").post("/api/requests", json={"manifest": yaml.safe_dump(company)})
    assert asked.status_code == 201, asked.text
    later(told)
    assert read(told, opened["ada"])["state"] == "sent", "what is live has not changed yet"
    version = asked.json()["number"]
    approved = told.client(Role.IT_ADMIN).post(f"/api/requests/bot/{version}/approve", json={"reason": "looked at"})
    assert approved.status_code == 200, approved.text
    later(told)
    assert (read(told, opened["ada"])["state"], read(told, opened["griffin"])["state"]) == ("closed", "sent")
    later(told, days=4)
    assert len(mails(sink, "ada@")) == 1 and len(mails(sink, "griffin@")) == 2, "only who has something left"


def post_list(house: House) -> list[Any]:
    return list(house.client(Role.SOC_ANALYST).get("/api/notices").json()["items"])


def test_what_one_maker_is_told_within_the_window_is_one_message(told: House, sink: Choosy) -> None:
    first = post(told, "", {"template": TEMPLATE, "agent_ids": ["billing"]}, status=201)
    second = post(told, "", {"reason": "Its name promises gifts", "agent_ids": ["bot", "nobody"]}, status=201)
    assert first["makers"][0]["notice_id"] == second["makers"][0]["notice_id"]
    assert second["makers"][0]["agents"] == ["billing", "bot"]
    assert second["skipped"] == [{"agent_id": "nobody", "why": "there is no such agent in the registry"}]
    told.work("send_notices", "deliver_messages")
    assert sink.total == 0, "the window is still open"
    sent = post(told, f"/{first['makers'][0]['notice_id']}/send")
    told.work("deliver_messages")
    assert sent["state"] == "sent" and sink.total == 1
    text = mails(sink, "ada@")[0]["text"]
    assert "Its name promises gifts" in text and "MCP tools on the maker's credentials" in text
    later(told)
    assert [m["state"] for m in read(told, sent["id"])["messages"]] == ["sent"]
    assert post(told, f"/{sent['id']}/cancel", {"reason": "a mistake"})["state"] == "cancelled"
    later(told, days=8)
    assert sink.total == 1, "nobody is pressed for what was cancelled"


def test_reminders_go_to_the_maker_and_the_escalation_to_owner_and_sponsor_until_it_is_accepted(
    told: House, sink: Choosy
) -> None:
    opened = notify(told, indicator="maker-credentials", agent_ids=["billing"])
    later(told, days=3)
    later(told)
    assert [m["subject"].split(":")[0] for m in mails(sink, "ada@")[1:]] == ["[Watchfloor] Reminder"]
    assert mails(sink, "mona@") == []
    later(told, days=4)
    assert "Not fixed yet: 1 of the agents of Ada Moor" in mails(sink, "mona@")[0]["subject"]
    assert len(mails(sink, "mona@")) == 1 and len(mails(sink, "griffin@")) == 1
    before = sink.total
    until = {"reason": "replaced next month", "expires_at": "2026-12-24T00:00:00Z"}
    accept = told.client(Role.SECURITY_ADMIN).put(EXCEPTION, json=until)
    assert accept.status_code in (200, 201), accept.text
    later(told, days=20)
    assert sink.total == before and read(told, opened["ada"])["items"][0]["is_accepted"] is True
    told.clock.forward(days=30)
    later(told)
    assert sink.total > before, "once nobody accepts it any more it is pressed again"


def test_a_maker_who_cannot_be_reached_is_said_to_be_and_the_owner_is_told_instead(told: House, sink: Choosy) -> None:
    users = ({"id": "ghost", "name": "Gone Ghost", "upn": "ghost"}, {"id": "nina", "upn": "nobody@zava.example"})
    apply(told, agent("relic", "ghost"), agent("void", "ghost", owner="ghost", sponsor="ghost"),
          agent("bounce", "nina"), users=users)  # fmt: skip
    opened = post(told, "", {"template": TEMPLATE, "agent_ids": ["relic", "void", "bounce"]}, status=201)
    said = {each["maker_id"]: each for each in opened["makers"]}
    assert said["ghost"]["problem"] == (
        "Gone Ghost has no mail address. Told instead: mona. Nobody who answers for void can be reached."
    )
    assert [t["user_id"] for t in said["ghost"]["told"]] == ["mona"]
    told.clock.forward(minutes=6)
    told.work("send_notices", "deliver_messages")
    assert "because you own or sponsor what Gone Ghost made" in mails(sink, "mona@")[0]["text"]
    assert "relic" in mails(sink, "mona@")[0]["text"] and "void" not in mails(sink, "mona@")[0]["text"]
    bounced = read(told, said["nina"]["notice_id"])["messages"]
    assert [(m["state"], "550 no such mailbox" in m["error"]) for m in bounced] == [("failed", True)]
    later(told)
    assert any("bounce" in m["text"] for m in mails(sink, "mona@")), "a mail that bounced is escalated at once"


@pytest.mark.asvs("3.5.3")
def test_a_link_acknowledges_once_and_opening_it_does_nothing(told: House, sink: Choosy) -> None:
    opened = notify(told)
    link = link_in(mails(sink, "ada@")[0])
    for _ in range(2):
        page = told.stranger().get(link)
        assert page.status_code == 200 and "I have read this" in page.text
    assert "&lt;b&gt;gift&lt;/b&gt;" in page.text and "<b>gift" not in page.text
    assert read(told, opened["ada"])["state"] == "sent"
    thanks = press(told, link)
    assert thanks.status_code == 200 and 'href="/api/agents/billing/versions"' in thanks.text
    found = read(told, opened["ada"])
    assert (found["state"], found["acknowledged_by"]) == ("acknowledged", "ada")
    assert (press(told, link).status_code, told.stranger().get(link).status_code) == (409, 409), "it works once"
    assert audited(told, "notice:acknowledge") == 1


@pytest.mark.claim("notice-links")
def test_a_link_that_is_tampered_with_expired_or_of_another_notice_acknowledges_nothing(
    told: House, sink: Choosy, tmp_path: Path
) -> None:
    opened = notify(told)
    mine, other = link_in(mails(sink, "griffin@")[0]), link_in(mails(sink, "ada@")[0])
    token = mine.partition("?token=")[2]
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("control.db*"))
    assert token.partition(".")[0].encode() in stored and token.encode() not in stored
    bad = [mine[:-2] + ("aa" if mine[-2:] != "aa" else "bb"), mine.partition(".")[0], mine.partition("?")[0],
           other.partition("?")[0] + "?token=" + token, mine + "x", mine.replace("lnk_", "lnk_0")]  # fmt: skip
    for link in bad:
        assert press(told, link).status_code == 403, link
        assert told.stranger().get(link).status_code == 403, link
    told.clock.forward(days=31)
    assert "has expired" in press(told, mine).text
    assert {read(told, notice_id)["state"] for notice_id in opened.values()} == {"sent"}


def test_a_maker_who_is_signed_in_sees_and_acknowledges_their_own_and_no_others(told: House) -> None:
    opened = notify(told)
    ada = told.client(Role.MAKER, "ada")
    (own,) = ada.get("/api/account/notices").json()["items"]
    assert own["id"] == opened["ada"] and {i["agent_id"] for i in own["items"]} == {"billing", "bot"}
    assert ada.post(f"/api/notices/{opened['griffin']}/acknowledge").status_code == 404
    assert ada.post(f"/api/notices/{opened['ada']}/acknowledge").json()["acknowledged_by"] == "ada"
    assert ada.get(f"/api/notices/{opened['ada']}").status_code == 403
    assert ada.post("/api/notices", json={"template": TEMPLATE}).status_code == 403
    assert told.client(Role.SOC_ANALYST).post("/api/notices", json={"template": TEMPLATE}).status_code == 403


@pytest.mark.claim("notice-harmless")
def test_nothing_that_an_agents_name_says_becomes_a_link_markup_or_a_line_of_its_own(told: House, sink: Choosy) -> None:
    with hook() as there:
        for kind in ("webhook", "teams", "slack"):
            body = {"kind": kind, "url": f"{there.url}/{kind}", "allow_private": True}
            assert told.client(Role.SECURITY_ADMIN).put(f"/api/channels/{kind}", json=body).status_code == 200
        notify(told, template=TEMPLATE, agent_ids=["bot"])
        told.work("deliver_messages")
        posts = {each.path: each.body.decode() for each in there.posts}
    assert set(posts) == {"/webhook", "/teams", "/slack"}
    text = mails(sink, "ada@")[0]["text"]
    (line,) = (line for line in text.splitlines() if "gift" in line)
    assert line.startswith("  - Free <b>gift</b> https: //evil. example/?u=billing [x](https: //evil. example)")
    assert "https://evil" not in text and "@here" not in text and line.endswith("(bot)")
    for path in ("/teams", "/slack"):
        assert "https://evil.example" not in posts[path] and "@here" not in posts[path]
    assert "acknowledge" not in "".join(posts.values()), "a link that acknowledges is the maker's alone"


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"template": "no-such"}, "there is no hunting template"),
    ({"template": TEMPLATE, "block": True}, "one of template, indicator, query and block"),
    ({"agent_ids": ["billing"]}, "say what is wrong"),
    ({"reason": "x"}, "say which agents"),
    ({"reason": "x", "query": "AgentContent | project AgentId"}, "holds contents"),
    ({"reason": "x", "query": "AgentsInfo | project Name"}, "gives no text AgentId"),
    ({"reason": "key ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8", "agent_ids": ["billing"]}, "a secret"),
    ({"block": True, "agent_ids": ["billing"]}, "this is not so"),
)


def test_what_cannot_be_told_is_refused_with_the_reason(house: House) -> None:
    for body, says in REFUSED:
        answer = house.client(Role.SOC_OPERATOR).post("/api/notices", json=body)
        assert answer.status_code in (404, 409, 422) and says in answer.text, answer.text
    assert post_list(house) == []


def test_a_query_and_a_block_are_followed_up_as_well(told: House, sink: Choosy) -> None:
    query = "CurrentGrants | where Credential == 'maker' and AgentId startswith 'b' | distinct AgentId"
    client = told.client(Role.SECURITY_ADMIN)
    assert client.post("/api/agents/clerk/block", json={"reason": "leaks"}).status_code == 200
    opened = notify(told, query=query, reason="Stored credentials")
    blocked = notify(told, block=True, agent_ids=["clerk"], reason="it leaked records")
    assert "It is blocked: it leaked records" in mails(sink, "griffin@")[0]["text"]
    apply(told, agent("billing", credential="user", version="2"), agent("bot", credential="user", version="2"))
    assert client.post("/api/agents/clerk/unblock", json={"reason": "mended"}).status_code == 200
    later(told)
    assert {read(told, i)["state"] for i in (opened["ada"], blocked["griffin"])} == {"closed"}


class _Dies:
    """A mail server's client whose process dies after the server has taken a mail and before that is noted."""

    def __init__(self, inner: SmtpServer) -> None:
        self.inner = inner

    def send(self, message: Message) -> None:
        self.inner.send(message)
        raise KeyboardInterrupt


def test_a_crash_after_sending_leaves_one_mail_by_its_message_id(house: House, sink: Choosy) -> None:
    with serving(sink) as port:
        employ(house, _Dies(server(port)))
        apply(house, agent("billing"))
        post(house, "", {"template": TEMPLATE, "agent_ids": ["billing"]}, status=201)
        house.clock.forward(minutes=6)
        house.jobs.run_now("send_notices")
        with pytest.raises(KeyboardInterrupt):
            house.jobs.run_now("deliver_messages")
        employ(house, server(port))
        house.work("send_notices", "deliver_messages")
        house.work("send_notices", "deliver_messages")
    ids = [re.search(rb"Message-ID: (\S+)", letter) for letter in sink.letters]
    assert len(ids) == 2 and len({found[1] for found in ids if found}) == 1
    assert len({m["text"] for m in sink.messages()}) == 1, "the same link, too"
