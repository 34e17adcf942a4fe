"""Streams of security events as they are stored: receivers, what each asked for, and the outbox.

Below ``identity.signals``, above the tables. What operators and receivers decide is audited, in the caller's
transaction; the outbox and how a stream fares are bookkeeping.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.storage.changes import differences, upsert
from watchfloor.storage.schema import signal_excluded, signal_outbox, signal_receiver, signal_stream

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

PENDING: Final = "pending"
DELIVERED: Final = "delivered"
FAILED: Final = "failed"

_BOOKKEEPING = ("failures", "next_try_at", "problem", "verification_at")


@dataclass(frozen=True, slots=True)
class SignalReceiver:
    """Somebody who may have security events sent, with the SHA-256 of their bearer token.

    ``scopes`` are of SSF's (``ssf.read``, ``ssf.manage``); ``push_hosts`` the hosts that events may be pushed to.
    """

    id: str
    audience: str
    token_hash: str = field(repr=False)
    created_at: datetime
    updated_at: datetime
    updated_by: str = ""
    scopes: tuple[str, ...] = ()
    push_hosts: tuple[str, ...] = ()
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class Stream:
    """What a receiver asked for. ``method`` is the URN of RFC 8935 (push) or RFC 8936 (poll)."""

    id: str
    receiver_id: str
    method: str
    created_at: datetime
    updated_at: datetime
    endpoint_url: str = ""
    sealed: str | None = field(default=None, repr=False)
    events_requested: tuple[str, ...] = ()
    description: str = ""
    status: str = "enabled"
    status_reason: str = ""
    failures: int = 0
    next_try_at: datetime | None = None
    problem: str = ""
    verification_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One event for one stream. ``id`` is its ``jti``; ``claims`` lack what is added when it is signed."""

    id: str
    stream_id: str
    key: str
    claims: Mapping[str, Any]
    created_at: datetime
    state: str = PENDING
    settled_at: datetime | None = None
    error: str = ""


# -- receivers ----------------------------------------------------------------------------------------------------


def _receiver(row: sa.Row[Any]) -> SignalReceiver:
    lists = {"scopes": tuple(row.scopes), "push_hosts": tuple(row.push_hosts)}
    return SignalReceiver(**{**dict(row._mapping), **lists})


def list_receivers(tx: ControlTx) -> list[SignalReceiver]:
    """Receivers by id."""
    return [_receiver(row) for row in tx.connection.execute(sa.select(signal_receiver).order_by("id"))]


def find_receiver(tx: ControlTx, receiver_id: str) -> SignalReceiver | None:
    """The receiver, or None."""
    r = signal_receiver
    row = tx.connection.execute(sa.select(r).where(r.c.id == receiver_id)).one_or_none()
    return _receiver(row) if row else None


def find_receiver_by_token(tx: ControlTx, token_hash: str) -> SignalReceiver | None:
    """The receiver with this token, or None."""
    r = signal_receiver
    row = tx.connection.execute(sa.select(r).where(r.c.token_hash == token_hash)).one_or_none()
    return _receiver(row) if row else None


def save_receiver(tx: ControlTx, receiver: SignalReceiver) -> bool:
    """Store ``receiver``; whether anything differed."""
    before = find_receiver(tx, receiver.id)
    ignored = ("created_at", "updated_at", "updated_by")
    change = differences(before, receiver, secret=("token_hash",), ignore=ignored)
    if not change:
        return False
    values = {
        "id": receiver.id,
        "audience": receiver.audience,
        "token_hash": receiver.token_hash,
        "scopes": list(receiver.scopes),
        "push_hosts": list(receiver.push_hosts),
        "is_enabled": receiver.is_enabled,
        "created_at": before.created_at if before else receiver.created_at,
        "updated_at": receiver.updated_at,
        "updated_by": receiver.updated_by,
    }
    upsert(tx, signal_receiver, values, before is not None)
    tx.audit("receiver:update" if before else "receiver:create", f"receiver/{receiver.id}", change)
    return True


def delete_receiver(tx: ControlTx, receiver_id: str) -> bool:
    """Forget a receiver with its stream: it is told nothing any more."""
    if not tx.connection.execute(signal_receiver.delete().where(signal_receiver.c.id == receiver_id)).rowcount:
        return False
    stream = find_stream_of(tx, receiver_id)
    if stream is not None:
        delete_stream(tx, stream)
    tx.audit("receiver:delete", f"receiver/{receiver_id}", {})
    return True


# -- streams ------------------------------------------------------------------------------------------------------


def _stream(row: sa.Row[Any]) -> Stream:
    return Stream(**{**dict(row._mapping), "events_requested": tuple(row.events_requested)})


def list_streams(tx: ControlTx) -> list[Stream]:
    """Streams by id, in the order in which they were made."""
    return [_stream(row) for row in tx.connection.execute(sa.select(signal_stream).order_by("id"))]


def find_stream(tx: ControlTx, stream_id: str) -> Stream | None:
    """The stream, or None."""
    s = signal_stream
    row = tx.connection.execute(sa.select(s).where(s.c.id == stream_id)).one_or_none()
    return _stream(row) if row else None


def find_stream_of(tx: ControlTx, receiver_id: str) -> Stream | None:
    """The stream of a receiver, or None."""
    s = signal_stream
    row = tx.connection.execute(sa.select(s).where(s.c.receiver_id == receiver_id)).one_or_none()
    return _stream(row) if row else None


def save_stream(tx: ControlTx, stream: Stream) -> bool:
    """Store what a receiver asked for; whether anything differed. Its failures are forgotten."""
    before = find_stream(tx, stream.id)
    change = differences(before, stream, secret=("sealed",), ignore=("created_at", "updated_at", *_BOOKKEEPING))
    if not change:
        return False
    values = {
        "id": stream.id,
        "receiver_id": stream.receiver_id,
        "method": stream.method,
        "endpoint_url": stream.endpoint_url,
        "sealed": stream.sealed,
        "events_requested": list(stream.events_requested),
        "description": stream.description,
        "status": stream.status,
        "status_reason": stream.status_reason,
        "created_at": before.created_at if before else stream.created_at,
        "updated_at": stream.updated_at,
        "failures": 0,
        "next_try_at": None,
        "problem": "",
        "verification_at": stream.verification_at,
    }
    upsert(tx, signal_stream, values, before is not None)
    tx.audit("stream:update" if before else "stream:create", f"stream/{stream.id}", change)
    return True


def note_stream(tx: ControlTx, stream_id: str, **values: Any) -> None:
    """Note how a stream fares: ``failures``, ``next_try_at``, ``problem``, ``verification_at``. Not audited."""
    assert set(values) <= set(_BOOKKEEPING)
    tx.connection.execute(signal_stream.update().where(signal_stream.c.id == stream_id).values(**values))


def delete_stream(tx: ControlTx, stream: Stream) -> None:
    """Forget a stream and what is waiting for it."""
    for table in (signal_outbox, signal_excluded):
        tx.connection.execute(table.delete().where(table.c.stream_id == stream.id))
    tx.connection.execute(signal_stream.delete().where(signal_stream.c.id == stream.id))
    tx.audit("stream:delete", f"stream/{stream.id}", {"receiver": stream.receiver_id})


# -- of whom a receiver does not want to be told ------------------------------------------------------------------


def exclude(tx: ControlTx, stream_id: str, subject_hash: str, subject: Mapping[str, Any]) -> None:
    """Tell ``stream_id`` nothing of ``subject`` any more."""
    if is_excluded(tx, stream_id, [subject_hash]):
        return
    values = {"stream_id": stream_id, "subject_hash": subject_hash, "subject": dict(subject)}
    tx.connection.execute(signal_excluded.insert().values(**values))
    tx.audit("stream:remove-subject", f"stream/{stream_id}", {"subject": dict(subject)})


def include(tx: ControlTx, stream_id: str, subject_hash: str) -> None:
    """Tell ``stream_id`` of that subject again."""
    e = signal_excluded
    if tx.connection.execute(e.delete().where(e.c.stream_id == stream_id, e.c.subject_hash == subject_hash)).rowcount:
        tx.audit("stream:add-subject", f"stream/{stream_id}", {"subject": subject_hash})


def is_excluded(tx: ControlTx, stream_id: str, hashes: Collection[str]) -> bool:
    """Whether any of these subjects is excluded."""
    e = signal_excluded
    query = sa.select(e.c.stream_id).where(e.c.stream_id == stream_id, e.c.subject_hash.in_(list(hashes)))
    return tx.connection.execute(query.limit(1)).first() is not None


def count_excluded(tx: ControlTx, stream_id: str) -> int:
    """How many subjects are excluded."""
    e = signal_excluded
    count = tx.connection.execute(sa.select(sa.func.count()).select_from(e).where(e.c.stream_id == stream_id)).scalar()
    return int(count or 0)


# -- the outbox ---------------------------------------------------------------------------------------------------


def _outgoing(row: sa.Row[Any]) -> Outgoing:
    return Outgoing(**dict(row._mapping))


def put(tx: ControlTx, outgoing: Outgoing) -> Outgoing:
    """Put an event into the outbox unless one of its key is there; the one that is there then."""
    o = signal_outbox
    query = sa.select(o).where(o.c.stream_id == outgoing.stream_id, o.c.key == outgoing.key)
    row = tx.connection.execute(query).one_or_none()
    if row is not None:
        return _outgoing(row)
    tx.connection.execute(
        o.insert().values(
            id=outgoing.id, stream_id=outgoing.stream_id, key=outgoing.key, claims=dict(outgoing.claims),
            state=outgoing.state, created_at=outgoing.created_at, settled_at=None, error="",
        )
    )  # fmt: skip
    return outgoing


def waiting(tx: ControlTx, stream_id: str, limit: int) -> list[Outgoing]:
    """What waits for a stream, oldest first."""
    o = signal_outbox
    query = sa.select(o).where(o.c.stream_id == stream_id, o.c.state == PENDING).order_by(o.c.id).limit(limit)
    return [_outgoing(row) for row in tx.connection.execute(query)]


def count_waiting(tx: ControlTx, stream_id: str) -> int:
    """How many events wait for a stream."""
    o = signal_outbox
    query = sa.select(sa.func.count()).select_from(o).where(o.c.stream_id == stream_id, o.c.state == PENDING)
    return int(tx.connection.execute(query).scalar() or 0)


def settle(tx: ControlTx, stream_id: str, ids: Iterable[str], state: str, error: str = "") -> int:
    """Note that events were delivered, or will not be; how many were waiting. Not audited."""
    o = signal_outbox
    where = sa.and_(o.c.stream_id == stream_id, o.c.id.in_(list(ids)), o.c.state == PENDING)
    values = {"state": state, "settled_at": tx.now, "error": error[:1000]}
    settled: int = tx.connection.execute(o.update().where(where).values(**values)).rowcount
    return settled


def has_settled(tx: ControlTx, before: datetime) -> bool:
    """Whether anything was settled before then."""
    o = signal_outbox
    return tx.connection.execute(sa.select(o.c.id).where(o.c.settled_at < before).limit(1)).first() is not None


def forget_settled(tx: ControlTx, before: datetime) -> int:
    """Forget what was settled before then; how many."""
    o = signal_outbox
    forgotten: int = tx.connection.execute(o.delete().where(o.c.settled_at < before)).rowcount
    return forgotten
