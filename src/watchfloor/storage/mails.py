"""Mails on their way to people, as they are stored: written with what they tell of, sent by a job.

Below ``response.notify``, above the table. It knows no mail server. How a mail fares is bookkeeping; whoever sends it
says in the audit log what became of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.ids import ordered_id
from watchfloor.storage.schema_mail import mail as m

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

PENDING: Final = "pending"
SENT: Final = "sent"
FAILED: Final = "failed"

_ADDRESS: Final = re.compile(r"[^@\s<>()\[\],;:\"\\]{1,64}@[A-Za-z0-9.-]{1,253}")


@dataclass(frozen=True, slots=True)
class Mail:
    """A plain text for one recipient. ``key`` and recipient say which occurrence it tells of."""

    id: str
    key: str
    recipient: str
    subject: str
    text: str
    created_at: datetime
    next_try_at: datetime | None = None
    incident_id: str | None = None
    state: str = PENDING
    attempts: int = 0
    settled_at: datetime | None = None
    error: str = ""


def is_address(text: str) -> bool:
    """Whether mail can be sent to ``text``: one plain address."""
    return _ADDRESS.fullmatch(text) is not None


def put(tx: ControlTx, key: str, recipient: str, subject: str, text: str, incident_id: str | None = None) -> None:
    """Have a mail sent, unless one of this key is on its way to ``recipient`` or was sent."""
    where = sa.and_(m.c.key == key, m.c.recipient == recipient)
    if tx.connection.execute(sa.select(m.c.id).where(where)).first() is None:
        tx.connection.execute(
            m.insert().values(
                id=ordered_id("mail"), key=key, recipient=recipient, subject=subject, text=text, created_at=tx.now,
                next_try_at=tx.now, incident_id=incident_id, state=PENDING, attempts=0, settled_at=None, error="",
            )
        )  # fmt: skip


def list_due(tx: ControlTx, limit: int) -> list[Mail]:
    """What is to be sent now, oldest first."""
    query = sa.select(m).where(m.c.next_try_at <= tx.now).order_by(m.c.id).limit(limit)
    return [Mail(**dict(row._mapping)) for row in tx.connection.execute(query)]


def put_off(tx: ControlTx, mail: Mail, next_try_at: datetime, error: str) -> None:
    """It could not be sent, and is tried again then."""
    _change(tx, mail, next_try_at=next_try_at, attempts=mail.attempts + 1, error=error[:1000])


def settle(tx: ControlTx, mail: Mail, state: str, error: str = "") -> None:
    """It was sent, or will not be."""
    _change(tx, mail, state=state, next_try_at=None, settled_at=tx.now, attempts=mail.attempts + 1, error=error[:1000])


def _change(tx: ControlTx, mail: Mail, **values: Any) -> None:
    tx.connection.execute(m.update().where(m.c.id == mail.id).values(**values))


def has_settled(tx: ControlTx, before: datetime) -> bool:
    """Whether anything was settled before then."""
    return tx.connection.execute(sa.select(m.c.id).where(m.c.settled_at < before).limit(1)).first() is not None


def forget_settled(tx: ControlTx, before: datetime) -> None:
    """Forget what was settled before then."""
    tx.connection.execute(m.delete().where(m.c.settled_at < before))
