"""Shared signals as they are stored: transmitters that we believe, and what was taken from them.

Below ``identity.signals``, above the tables. Writes of what operators decide compare, store and audit, in the caller's
transaction; how a transmitter fares is bookkeeping. It knows no token and opens no secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from watchfloor.storage.changes import differences, upsert
from watchfloor.storage.schema import signal_received, signal_transmitter

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_BOOKKEEPING = ("expected_state", "verified_at", "received_at", "problem")


@dataclass(frozen=True, slots=True)
class Transmitter:
    """Somebody whose signed security events for ``audience`` count, about users of the issuers in ``speaks_for``.

    ``sealed``: the secret that both sides share, if any: sent where we poll, asked for where they push.
    ``verification_url`` and ``stream_id``: where we ask for a verification, and of which stream.
    """

    id: str
    issuer: str
    jwks_uri: str
    audience: str
    speaks_for: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    updated_by: str = ""
    poll_url: str = ""
    verification_url: str = ""
    stream_id: str = ""
    sealed: str | None = field(default=None, repr=False)
    is_enabled: bool = True
    expected_state: str = ""
    verified_at: datetime | None = None
    received_at: datetime | None = None
    problem: str = ""


def _transmitter(row: sa.Row[Any]) -> Transmitter:
    return Transmitter(**{**dict(row._mapping), "speaks_for": tuple(row.speaks_for)})


def list_transmitters(tx: ControlTx) -> list[Transmitter]:
    """Transmitters by id."""
    return [_transmitter(row) for row in tx.connection.execute(sa.select(signal_transmitter).order_by("id"))]


def find_transmitter(tx: ControlTx, transmitter_id: str) -> Transmitter | None:
    """The transmitter, or None."""
    t = signal_transmitter
    row = tx.connection.execute(sa.select(t).where(t.c.id == transmitter_id)).one_or_none()
    return _transmitter(row) if row else None


def find_transmitter_of(tx: ControlTx, issuer: str) -> Transmitter | None:
    """The transmitter that signs as ``issuer``, or None."""
    t = signal_transmitter
    row = tx.connection.execute(sa.select(t).where(t.c.issuer == issuer)).one_or_none()
    return _transmitter(row) if row else None


def save_transmitter(tx: ControlTx, transmitter: Transmitter) -> bool:
    """Store what operators decided of ``transmitter``; whether anything differed."""
    before = find_transmitter(tx, transmitter.id)
    ignored = ("created_at", "updated_at", "updated_by", *_BOOKKEEPING)
    change = differences(before, transmitter, secret=("sealed",), ignore=ignored)
    if not change:
        return False
    kept = before or transmitter
    values = {
        "id": transmitter.id,
        "issuer": transmitter.issuer,
        "jwks_uri": transmitter.jwks_uri,
        "audience": transmitter.audience,
        "speaks_for": list(transmitter.speaks_for),
        "poll_url": transmitter.poll_url,
        "verification_url": transmitter.verification_url,
        "stream_id": transmitter.stream_id,
        "sealed": transmitter.sealed,
        "is_enabled": transmitter.is_enabled,
        "created_at": kept.created_at,
        "updated_at": transmitter.updated_at,
        "updated_by": transmitter.updated_by,
        **{name: getattr(kept, name) for name in _BOOKKEEPING},
    }
    upsert(tx, signal_transmitter, values, before is not None)
    tx.audit("transmitter:update" if before else "transmitter:create", f"transmitter/{transmitter.id}", change)
    return True


def note_transmitter(tx: ControlTx, transmitter_id: str, **values: Any) -> None:
    """Note how a transmitter fares: ``expected_state``, ``verified_at``, ``received_at``, ``problem``. Not audited."""
    assert set(values) <= set(_BOOKKEEPING)
    t = signal_transmitter
    tx.connection.execute(t.update().where(t.c.id == transmitter_id).values(**values))


def delete_transmitter(tx: ControlTx, transmitter_id: str) -> bool:
    """Believe a transmitter no more. What was taken from it stays taken."""
    t = signal_transmitter
    if not tx.connection.execute(t.delete().where(t.c.id == transmitter_id)).rowcount:
        return False
    tx.audit("transmitter:delete", f"transmitter/{transmitter_id}", {})
    return True


# -- what was taken -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """One security event that was taken. ``outcome`` says, in words, what came of it."""

    transmitter_id: str
    jti: str
    event: str
    outcome: str
    received_at: datetime


def find_received(tx: ControlTx, transmitter_id: str, jti: str) -> Received | None:
    """The event of this ``jti``, if it was taken already."""
    r = signal_received
    query = sa.select(r).where(r.c.transmitter_id == transmitter_id, r.c.jti == jti)
    row = tx.connection.execute(query).one_or_none()
    return Received(**dict(row._mapping)) if row else None


def add_received(tx: ControlTx, received: Received) -> None:
    """Remember an event."""
    tx.connection.execute(
        signal_received.insert().values(
            transmitter_id=received.transmitter_id,
            jti=received.jti,
            event=received.event,
            outcome=received.outcome[:1000],
            received_at=received.received_at,
        )
    )


def list_received(tx: ControlTx, transmitter_id: str, limit: int = 100) -> list[Received]:
    """What was taken from a transmitter, newest first."""
    r = signal_received
    query = sa.select(r).where(r.c.transmitter_id == transmitter_id)
    rows = tx.connection.execute(query.order_by(r.c.received_at.desc(), r.c.jti).limit(limit))
    return [Received(**dict(row._mapping)) for row in rows]


def has_received(tx: ControlTx, before: datetime) -> bool:
    """Whether any event that is remembered was taken before then."""
    r = signal_received
    return tx.connection.execute(sa.select(r.c.jti).where(r.c.received_at < before).limit(1)).first() is not None


def forget_received(tx: ControlTx, before: datetime) -> int:
    """Forget events that were taken before then; how many."""
    r = signal_received
    forgotten: int = tx.connection.execute(r.delete().where(r.c.received_at < before)).rowcount
    return forgotten
