"""Messages on their way to people, as they are stored: written with what they tell of, sent by a job.

Below ``response.notify``, above the table. It knows neither mail servers nor channels. How a message fares is
bookkeeping; whoever sends it says in the audit log what became of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.ids import ordered_id
from watchfloor.storage.schema_messages import message as m

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

PENDING: Final = "pending"
SENT: Final = "sent"
FAILED: Final = "failed"

MAIL: Final = "mail"
"""The channel of mails; every other is the id of one that an operator set up."""

_ADDRESS: Final = re.compile(r"[^@\s<>()\[\],;:\"\\]{1,64}@[A-Za-z0-9.-]{1,253}")


@dataclass(frozen=True, slots=True)
class Message:
    """What one recipient is told through one channel. ``key``, channel and recipient say which occurrence it tells of.

    ``text`` is a mail's plain text, else the JSON of a ``response.digest.Digest``.
    """

    id: str
    key: str
    recipient: str
    subject: str
    text: str
    created_at: datetime
    channel: str = MAIL
    next_try_at: datetime | None = None
    incident_id: str | None = None
    notice_id: str | None = None
    state: str = PENDING
    attempts: int = 0
    settled_at: datetime | None = None
    error: str = ""


def is_address(text: str) -> bool:
    """Whether mail can be sent to ``text``: one plain address."""
    return _ADDRESS.fullmatch(text) is not None


def put(
    tx: ControlTx,
    key: str,
    recipient: str,
    subject: str,
    text: str,
    incident_id: str | None = None,
    *,
    channel: str = MAIL,
    notice_id: str | None = None,
) -> None:
    """Have a message sent, unless one of this key is on its way to ``recipient`` or was sent."""
    where = sa.and_(m.c.key == key, m.c.channel == channel, m.c.recipient == recipient)
    if tx.connection.execute(sa.select(m.c.id).where(where)).first() is None:
        tx.connection.execute(
            m.insert().values(
                id=ordered_id("msg"), key=key, channel=channel, recipient=recipient, subject=subject, text=text,
                created_at=tx.now, next_try_at=tx.now, incident_id=incident_id, notice_id=notice_id, state=PENDING,
                attempts=0, settled_at=None, error="",
            )
        )  # fmt: skip


def due_channels(tx: ControlTx) -> list[str]:
    """Channels that have something to send now."""
    query = sa.select(m.c.channel).where(m.c.next_try_at <= tx.now).distinct().order_by(m.c.channel)
    return list(tx.connection.execute(query).scalars())


def list_due(tx: ControlTx, channel: str, limit: int) -> list[Message]:
    """What is to be sent now through ``channel``, oldest first."""
    query = sa.select(m).where(m.c.next_try_at <= tx.now, m.c.channel == channel).order_by(m.c.id).limit(limit)
    return [_message(row) for row in tx.connection.execute(query)]


def list_of_notice(tx: ControlTx, notice_id: str) -> list[Message]:
    """What was sent of a notice, or is on its way, oldest first."""
    query = sa.select(m).where(m.c.notice_id == notice_id).order_by(m.c.id)
    return [_message(row) for row in tx.connection.execute(query)]


def count_waiting(tx: ControlTx, channel: str) -> int:
    """How much is on its way through ``channel``."""
    query = sa.select(sa.func.count()).select_from(m).where(m.c.channel == channel, m.c.state == PENDING)
    return int(tx.connection.execute(query).scalar_one())


def last_of(tx: ControlTx, channel: str) -> Message | None:
    """The message through ``channel`` that was tried last, or None."""
    query = sa.select(m).where(m.c.channel == channel, m.c.attempts > 0).order_by(m.c.id.desc()).limit(1)
    row = tx.connection.execute(query).one_or_none()
    return _message(row) if row else None


def put_off(tx: ControlTx, message: Message, next_try_at: datetime, error: str) -> None:
    """It could not be sent, and is tried again then."""
    _change(tx, message, next_try_at=next_try_at, attempts=message.attempts + 1, error=error[:1000])


def settle(tx: ControlTx, message: Message, state: str, error: str = "") -> None:
    """It was sent, or will not be."""
    _change(
        tx, message, state=state, next_try_at=None, settled_at=tx.now, attempts=message.attempts + 1, error=error[:1000]
    )


def _change(tx: ControlTx, message: Message, **values: Any) -> None:
    tx.connection.execute(m.update().where(m.c.id == message.id).values(**values))


def has_settled(tx: ControlTx, before: datetime) -> bool:
    """Whether anything was settled before then."""
    return tx.connection.execute(sa.select(m.c.id).where(m.c.settled_at < before).limit(1)).first() is not None


def forget_settled(tx: ControlTx, before: datetime) -> None:
    """Forget what was settled before then."""
    tx.connection.execute(m.delete().where(m.c.settled_at < before))


def _message(row: Any) -> Message:
    return Message(**dict(row._mapping))
