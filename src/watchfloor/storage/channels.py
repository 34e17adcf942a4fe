"""Channels that people are told through besides mail, as they are stored.

Below ``connectors.channels`` and the portal, above the table. It knows addresses and keys only sealed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from watchfloor.storage.changes import differences, upsert
from watchfloor.storage.schema_messages import channel as c

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel. ``host`` is what is shown of its address; ``allow_private``: it may be in a private network."""

    id: str
    kind: str
    host: str
    sealed: str = field(repr=False)
    created_at: datetime
    updated_at: datetime
    updated_by: str
    allow_private: bool = False
    is_enabled: bool = True


def list_channels(tx: ControlTx) -> list[Channel]:
    """Channels by id."""
    return [Channel(**dict(row._mapping)) for row in tx.connection.execute(sa.select(c).order_by(c.c.id))]


def find_channel(tx: ControlTx, channel_id: str) -> Channel | None:
    """The channel, or None."""
    row = tx.connection.execute(sa.select(c).where(c.c.id == channel_id)).one_or_none()
    return Channel(**dict(row._mapping)) if row else None


def save_channel(tx: ControlTx, channel: Channel) -> None:
    """Store it."""
    before = find_channel(tx, channel.id)
    ignored = ("created_at", "updated_at", "updated_by")
    change = differences(before, channel, secret=("sealed",), ignore=ignored)
    if change:
        values = {name: getattr(channel, name) for name in Channel.__dataclass_fields__}
        upsert(tx, c, values, before is not None)
        tx.audit("channel:update" if before else "channel:create", f"channel/{channel.id}", change)


def delete_channel(tx: ControlTx, channel_id: str) -> bool:
    """Forget it; whether there was one. What waits for it fails."""
    if not tx.connection.execute(c.delete().where(c.c.id == channel_id)).rowcount:
        return False
    tx.audit("channel:delete", f"channel/{channel_id}", {})
    return True
