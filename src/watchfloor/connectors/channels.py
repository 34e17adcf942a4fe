"""Channels besides mail: webhooks signed by Standard Webhooks, Teams workflows, Slack's incoming webhooks.

Implements ``response.ports.Sender`` over what operators set up (``storage.channels``). Each kind is a function from a
digest to what its receiver shows, in ``SHAPES``. Addresses are checked for every call, private networks are refused
unless the channel allows them, redirects are not followed. Text that others wrote goes only where the receiver reads no
markup.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from watchfloor.identity.signals import http
from watchfloor.model.errors import Unavailable
from watchfloor.response.channels import PREFIX, SLACK, TEAMS, WEBHOOK, Sealed
from watchfloor.response.digest import Digest, Section, agent_lines
from watchfloor.response.ports import MessageRefused
from watchfloor.storage import channels

if TYPE_CHECKING:
    from watchfloor.storage.control import SqlControlStore
    from watchfloor.storage.messages import Message
    from watchfloor.storage.vault import Vault

_LATER: Final = frozenset({408, 425, 429})
"""Refusals that are none: the same message may be taken later."""
_SLACK_TEXT: Final = 2_900
"""Slack refuses a text of more than 3,000 characters, and more than 50 blocks."""
_SLACK_BLOCKS: Final = 45
_TEAMS_BYTES: Final = 26_000
"""Teams refuses a card of more than 28 KB."""
_MORE: Final = "There is more than fits here: see the notice."


class PostChannels:
    """Sends messages to the channels that operators set up."""

    def __init__(self, control: SqlControlStore, vault: Vault) -> None:
        self._control, self._vault = control, vault

    def send(self, message: Message) -> None:
        """See ``Sender.send``."""
        with self._control.read() as tx:
            channel = channels.find_channel(tx, message.channel)
        if channel is None or not channel.is_enabled:
            raise MessageRefused(f"there is no channel {message.channel!r} that is on.")
        sealed = Sealed.open(self._vault, channel)
        body = SHAPES[channel.kind](Digest.from_json(message.text))
        more = signature_headers(sealed.secrets, message.id, int(time.time()), body) if sealed.secrets else {}
        answer = http.post(
            sealed.url, body, kind="application/json", more=more, shown=f"channel {channel.id} at {channel.host}",
            public_only=not channel.allow_private,
        )  # fmt: skip
        if 200 <= answer.status < 300:
            return
        said = f"channel {channel.id} at {channel.host} answers {answer.status}"
        if 300 <= answer.status < 400:
            raise MessageRefused(f"{said}: redirects are not followed. Correct its address.")
        if 400 <= answer.status < 500 and answer.status not in _LATER:
            raise MessageRefused(f"{said}.")
        raise Unavailable(f"{said}.", retry_after=answer.retry_after)


# -- Standard Webhooks --------------------------------------------------------------------------------------------


def signature_headers(secrets: Sequence[str], message_id: str, at: int, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks; ``at``: Unix seconds. Of two keys either verifies."""
    signed = f"{message_id}.{at}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.digest(base64.b64decode(s.removeprefix(PREFIX)), signed, hashlib.sha256)).decode()
        for s in secrets
    ]
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": " ".join(signatures)}


# -- what each kind shows -----------------------------------------------------------------------------------------


def _webhook(digest: Digest) -> bytes:
    return orjson.dumps({"type": f"watchfloor.{digest.kind}", "data": orjson.loads(digest.to_json())})


def _slack(digest: Digest) -> bytes:
    """Block Kit. Whatever is in a ``plain_text`` stays text; the fallback is markup, so its three signs are escaped."""
    blocks: list[dict[str, Any]] = [_slack_text("header", digest.title[:150]), _slack_text("section", digest.intro)]
    for section in digest.sections:
        blocks.append(_slack_text("section", "\n".join(_lines(section.what, section))))
    if len(blocks) > _SLACK_BLOCKS:
        blocks = [*blocks[:_SLACK_BLOCKS], _slack_text("section", _MORE)]
    buttons = [
        {"type": "button", "text": {"type": "plain_text", "text": link.text[:75]}, "url": link.url}
        for link in digest.links
    ]
    if buttons:
        blocks.append({"type": "actions", "elements": buttons})
    fallback = re.sub("[&<>]", lambda found: _SLACK_ESCAPES[found[0]], digest.title)
    return orjson.dumps({"text": fallback, "mrkdwn": False, "unfurl_links": False, "blocks": blocks})


def _slack_text(kind: str, text: str) -> dict[str, Any]:
    return {"type": kind, "text": {"type": "plain_text", "text": text[:_SLACK_TEXT] or " ", "emoji": False}}


_SLACK_ESCAPES: Final[Mapping[str, str]] = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def _teams(digest: Digest) -> bytes:
    """An adaptive card for a workflow. A ``TextRun`` is shown as it is, while a ``TextBlock`` reads Markdown."""
    rows = [_teams_text(digest.title, weight="Bolder", size="Large"), _teams_text(digest.intro)]
    for section in digest.sections:
        rows.append(_teams_text(section.what, weight="Bolder"))
        rows += [_teams_text(line) for line in _lines("", section)]
    if len(orjson.dumps(rows)) > _TEAMS_BYTES:
        while len(rows) > 2 and len(orjson.dumps(rows)) > _TEAMS_BYTES:
            rows.pop()
        rows.append(_teams_text(_MORE))
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": rows,
        "actions": [{"type": "Action.OpenUrl", "title": link.text, "url": link.url} for link in digest.links],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return orjson.dumps({"type": "message", "attachments": [attachment]})


def _teams_text(text: str, **style: str) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **style}]}


def _lines(what: str, section: Section) -> list[str]:
    return [
        *([what] if what else []),
        *(f"• {line}" for line in agent_lines(section)),
        *([f"What to do: {section.recommendation}"] if section.recommendation else []),
        *([f"From the SOC: {section.note}"] if section.note else []),
    ]


SHAPES: Final[Mapping[str, Callable[[Digest], bytes]]] = {WEBHOOK: _webhook, TEAMS: _teams, SLACK: _slack}
"""What a digest is to each kind of channel."""
