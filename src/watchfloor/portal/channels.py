"""Channels that people are told through besides mail: webhooks, Teams workflows, Slack.

Above ``response.channels``. Addresses and keys go in and never come out, but a new key, once, where it is made.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.errors import NotFound
from watchfloor.model.ids import new_id
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.views import Page
from watchfloor.response import channels
from watchfloor.response.digest import Digest
from watchfloor.storage import channels as stored
from watchfloor.storage import messages
from watchfloor.storage.channels import Channel
from watchfloor.storage.control import ControlTx

router = APIRouter(prefix="/api/channels", tags=["channels"])

Keeper = Annotated[Viewer, permit(Permission.CHANNEL_WRITE)]
JOB = "deliver_messages"


class ChannelBody(BaseModel):
    """``url`` and ``secret`` (of webhooks: whsec_…, made here unless given) stay as they are if they are left out."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["webhook", "teams", "slack"]
    url: str = Field(default="", max_length=2_048)
    secret: str = Field(default="", max_length=200)
    allow_private: bool = False
    is_enabled: bool = True


class ChannelView(BaseModel):
    """A channel. ``waiting``: messages on their way; ``problem``: why the one that was tried last was not taken."""

    id: str
    kind: str
    host: str
    allow_private: bool
    is_enabled: bool
    created_at: datetime
    updated_at: datetime
    updated_by: str
    waiting: int
    problem: str


class SavedChannelView(ChannelView):
    """A channel; ``secret`` is the key of a webhook, where one was made: nobody can read it again."""

    secret: str | None = None


class MessageView(BaseModel):
    """A message that is on its way (``pending``), ``sent`` or ``failed`` for good."""

    id: str
    channel: str
    recipient: str
    subject: str
    state: str
    attempts: int
    created_at: datetime
    settled_at: datetime | None
    error: str


def message_view(message: messages.Message) -> MessageView:
    """A message as shown: without its text."""
    return MessageView.model_validate(message, from_attributes=True)


def _view(tx: ControlTx, channel: Channel, secret: str = "") -> SavedChannelView:
    last = messages.last_of(tx, channel.id)
    return SavedChannelView(
        id=channel.id,
        kind=channel.kind,
        host=channel.host,
        allow_private=channel.allow_private,
        is_enabled=channel.is_enabled,
        created_at=channel.created_at,
        updated_at=channel.updated_at,
        updated_by=channel.updated_by,
        waiting=messages.count_waiting(tx, channel.id),
        problem=last.error if last is not None and last.state != messages.SENT else "",
        secret=secret or None,
    )


def _find(tx: ControlTx, channel_id: str) -> Channel:
    found = stored.find_channel(tx, channel_id)
    if found is None:
        raise NotFound(f"there is no channel {channel_id!r}.", where="channel")
    return found


@router.get("", summary="Channels besides mail", response_model=Page[ChannelView])
def list_channels(viewer: Keeper, deps: Deps) -> Page[SavedChannelView]:
    """Each with how it fares, by id."""
    with deps.control.read() as tx:
        return Page(items=[_view(tx, found) for found in stored.list_channels(tx)])


@router.put("/{channel_id}", summary="Set a channel up, or change it")
def save_channel(channel_id: str, body: ChannelBody, viewer: Keeper, deps: Deps) -> SavedChannelView:
    """Private networks are refused unless `allow_private`. A key that is made here is shown this once."""
    with deps.control.tx(viewer.id) as tx:
        channel, made = channels.save(tx, deps.vault, channel_id, **body.model_dump())
        return _view(tx, channel, made)


@router.post("/{channel_id}/rotate", summary="A new key for a webhook")
def rotate_channel(channel_id: str, viewer: Keeper, deps: Deps) -> SavedChannelView:
    """Posts are signed with it and with the key before, until the next rotation."""
    with deps.control.tx(viewer.id) as tx:
        made = channels.rotate(tx, deps.vault, channel_id)
        return _view(tx, _find(tx, channel_id), made)


@router.post("/{channel_id}/test", status_code=202, summary="Send a message to see whether a channel works")
def test_channel(channel_id: str, viewer: Keeper, deps: Deps) -> MessageView:
    """What became of it shows on the channel within seconds."""
    with deps.control.tx(viewer.id) as tx:
        channel, test = _find(tx, channel_id), new_id("tst")
        digest = Digest("test", test, "Watchfloor can reach this channel", f"{viewer.id} tried it. Nothing is wrong.")
        messages.put(tx, test, channel.id, digest.title, digest.to_json(), channel=channel.id)
        tx.audit("channel:test", f"channel/{channel.id}", {})
        (put,) = (m for m in messages.list_due(tx, channel.id, 1_000) if m.key == test)
    deps.nudge(JOB)
    return message_view(put)


@router.delete("/{channel_id}", status_code=204, summary="Forget a channel")
def delete_channel(channel_id: str, viewer: Keeper, deps: Deps) -> None:
    """What is on its way through it fails."""
    with deps.control.tx(viewer.id) as tx:
        _find(tx, channel_id)
        stored.delete_channel(tx, channel_id)
