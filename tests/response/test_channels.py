"""Channels besides mail, set up through the API and written to through a real server: what arrives, signed how, what a
refusal means, and where no channel leads."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

import pytest

from portal.house import House
from resolver import FORBIDDEN, Resolver
from response.hooks import Hook, Post, hook
from watchfloor.connectors.channels import PostChannels
from watchfloor.jobs import JobContext, Jobs
from watchfloor.model.people import Role
from watchfloor.response.digest import AgentLine, Digest, Link, Section
from watchfloor.storage import messages
from watchfloor.storage.messages import Message

HOSTILE = "<!channel> <b>x</b> [free](https://evil.example/?a=b) **x** @here\r\nBcc: a\u202eb"


@pytest.fixture
def there() -> Iterator[Hook]:
    with hook() as kept:
        yield kept


def set_up(house: House, kind: str, url: str, **more: Any) -> dict[str, Any]:
    body = {"kind": kind, "url": url, "allow_private": True, **more}
    answer = house.client(Role.SECURITY_ADMIN).put(f"/api/channels/the-{kind}", json=body)
    assert answer.status_code == 200, answer.text
    stores = house.stores
    house.jobs = Jobs(
        JobContext(
            stores.control, stores.events, stores.compiler, house.deps.vault, house.log, now=house.clock,
            posts=PostChannels(stores.control, house.deps.vault),
        )
    )  # fmt: skip
    return dict(answer.json())


def shown(house: House, kind: str) -> dict[str, Any]:
    items = house.client(Role.SECURITY_ADMIN).get("/api/channels").json()["items"]
    return next(dict(item) for item in items if item["id"] == f"the-{kind}")


def send(house: House, kind: str) -> None:
    """Put one digest with a hostile name into the outbox, and let the job run."""
    section = Section(
        "Tools run on your credentials", "Use the user's.", "By Friday.", (AgentLine("billing", HOSTILE),)
    )
    digest = Digest(
        "notice", "ntc_1", "One of your agents", "Please mend it.", (section,), (Link("Open", "https://w.example/n"),)
    )
    with house.stores.control.tx("test", audited=False) as tx:
        messages.put(tx, f"k-{kind}", f"the-{kind}", digest.title, digest.to_json(), channel=f"the-{kind}")
    house.jobs.run_now("deliver_messages")


def verify(secret: str, post: Post) -> bool:
    """As a receiver does by the specification of Standard Webhooks."""
    signed = f"{post.headers['webhook-id']}.{post.headers['webhook-timestamp']}.".encode() + post.body
    digest = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}" in post.headers["webhook-signature"].split(" ")


def strings(value: Any) -> list[str]:
    """Every text in a JSON value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value] if isinstance(value, str) else [text for each in inner for text in strings(each)]


@pytest.mark.claim("channels")
def test_a_webhook_gets_a_signed_digest_and_either_of_two_keys_verifies_it(house: House, there: Hook) -> None:
    secret = set_up(house, "webhook", f"{there.url}/in")["secret"]
    send(house, "webhook")
    (post,) = there.posts
    assert verify(secret, post) and not verify("whsec_" + base64.b64encode(b"x" * 32).decode(), post)
    assert post.json["type"] == "watchfloor.notice"
    assert post.json["data"]["sections"][0]["agents"] == [{"id": "billing", "name": HOSTILE}]
    renewed = house.client(Role.SECURITY_ADMIN).post("/api/channels/the-webhook/rotate").json()["secret"]
    assert house.client(Role.SECURITY_ADMIN).post("/api/channels/the-webhook/test").status_code == 202
    house.work("deliver_messages")
    assert verify(secret, there.posts[1]) and verify(renewed, there.posts[1])
    assert there.posts[1].json["type"] == "watchfloor.test"
    assert (shown(house, "webhook")["waiting"], shown(house, "webhook")["problem"]) == (0, "")


@pytest.mark.claim("channels")
@pytest.mark.parametrize("kind", ["teams", "slack"])
def test_a_hostile_name_is_text_in_teams_and_slack_and_no_markup_link_or_mention(
    house: House, there: Hook, kind: str
) -> None:
    set_up(house, kind, f"{there.url}/secret-path")
    send(house, kind)
    (post,) = there.posts
    held = [text for text in strings(post.json) if "evil" in text]
    assert len(held) == 1 and "https://evil.example" not in held[0] and "@here" not in held[0]
    assert held[0].isprintable() or (kind == "slack" and "\u202e" not in held[0] and "\r" not in held[0])
    if kind == "slack":
        assert all(b["text"]["type"] == "plain_text" for b in post.json["blocks"] if b["type"] != "actions")
        assert post.json["blocks"][-1]["elements"][0]["url"] == "https://w.example/n"
    else:
        (card,) = (a["content"] for a in post.json["attachments"])
        # A TextRun is shown as it is; a TextBlock would read Markdown.
        assert {row["type"] for row in card["body"]} == {"RichTextBlock"}
        assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open", "url": "https://w.example/n"}]


@pytest.mark.parametrize("status", [404, 410, 302])
def test_what_a_channel_refuses_is_final_and_is_shown(house: House, there: Hook, status: int) -> None:
    set_up(house, "slack", f"{there.url}/T0-secret")
    there.status = status
    send(house, "slack")
    house.clock.forward(hours=1)
    house.work("deliver_messages")
    assert [post.path for post in there.posts] == ["/T0-secret"], "asked once, and no redirect was followed"
    view = shown(house, "slack")
    assert f"channel the-slack at 127.0.0.1 answers {status}" in view["problem"] and view["waiting"] == 0
    log = house.client(Role.AUDITOR).get("/api/audit").json()["items"]
    assert "channel:fail" in [entry["action"] for entry in log]
    assert "T0-secret" not in str(log) + str(view)


class _Dies:
    """A sender whose process dies after the other side has taken a message and before that is noted."""

    def __init__(self, inner: PostChannels) -> None:
        self.inner = inner

    def send(self, message: Message) -> None:
        self.inner.send(message)
        raise KeyboardInterrupt


def test_what_is_busy_or_was_cut_off_by_a_crash_is_sent_again_under_the_same_id(house: House, there: Hook) -> None:
    set_up(house, "webhook", there.url)
    there.status = 503
    send(house, "webhook")
    assert "answers 503" in shown(house, "webhook")["problem"] and shown(house, "webhook")["waiting"] == 1
    there.status = 200
    alive = house.jobs
    stores = house.stores
    dying = JobContext(
        stores.control, stores.events, stores.compiler, house.deps.vault, house.log, now=house.clock,
        posts=_Dies(PostChannels(stores.control, house.deps.vault)),
    )  # fmt: skip
    house.clock.forward(minutes=10)
    with pytest.raises(KeyboardInterrupt):
        Jobs(dying).run_now("deliver_messages")
    house.jobs = alive
    house.work("deliver_messages")
    house.work("deliver_messages")
    assert len(there.posts) == 3 and len({post.headers["webhook-id"] for post in there.posts}) == 1
    assert len({post.body for post in there.posts}) == 1 and shown(house, "webhook")["waiting"] == 0


@pytest.mark.asvs("1.3.6")
def test_no_channel_leads_into_a_private_network_unless_that_is_allowed(
    house: House, there: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = house.client(Role.SECURITY_ADMIN)
    for url in (
        there.url,
        "https://10.0.0.8/x",
        "https://[fd00::1]/x",
        "https://169.254.169.254/x",
        "http://a.example",
    ):
        refused = client.put("/api/channels/x", json={"kind": "teams", "url": url})
        assert refused.status_code == 422 and refused.json()["where"] == "url", url
    allowed = {"kind": "teams", "url": "https://169.254.169.254/x", "allow_private": True}
    assert client.put("/api/channels/x", json=allowed).status_code == 422
    inside = {**FORBIDDEN, "intranet.example": ["10.0.0.8"]}
    Resolver(inside).install(monkeypatch)
    set_up(house, "webhook", "https://intranet.example/in", allow_private=False)
    send(house, "webhook")
    assert "stands for 10.0.0.8. This address is in a private network" in shown(house, "webhook")["problem"]
    assert house.client(Role.SOC_OPERATOR).get("/api/channels").status_code == 403


def test_what_waits_for_a_channel_that_is_gone_fails_and_says_so(house: House, there: Hook) -> None:
    set_up(house, "webhook", there.url)
    there.status = 500
    send(house, "webhook")
    client = house.client(Role.SECURITY_ADMIN)
    assert client.delete("/api/channels/the-webhook").status_code == 204
    house.clock.forward(minutes=10)
    house.work("deliver_messages")
    log = house.client(Role.AUDITOR).get("/api/audit").json()["items"]
    (failed,) = (entry for entry in log if entry["action"] == "channel:fail")
    assert failed["detail"]["error"] == "there is no channel 'the-webhook' that is on."
    assert client.delete("/api/channels/the-webhook").status_code == 404
