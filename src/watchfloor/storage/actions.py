"""What operators were asked and what they did: holds, action records, and the audit log to read.

Below ``response``, ``jobs`` and ``portal``, above the tables. Answering a hold projects the approval for the data
plane. It does not know who may do what: that is ``response``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from watchfloor.model.errors import Conflict, NotFound
from watchfloor.model.facts import ApprovalFacts, Kind
from watchfloor.model.ids import new_id
from watchfloor.storage.schema import action_record, audit, hold, projection

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


# -- holds --------------------------------------------------------------------------------------------------------


class HoldStatus(StrEnum):
    """Where a hold stands; every state but ``pending`` is final."""

    PENDING = "pending"
    APPROVED = "approved"
    DECLINED = "declined"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Hold:
    """A call that waits for an operator: exactly this payload, until it expires."""

    id: str
    invocation_id: str
    payload_hash: str
    agent_id: str
    user_id: str | None
    server_id: str
    tool: str
    reason: str
    status: HoldStatus
    created_at: datetime
    expires_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None


def _hold(row: sa.Row[Any]) -> Hold:
    return Hold(**{**dict(row._mapping), "status": HoldStatus(row.status)})


def add_hold(tx: ControlTx, value: Hold) -> bool:
    """Store a hold; False if it, or another one of the same invocation, is known."""
    known = tx.connection.execute(
        sa.select(hold.c.id).where(sa.or_(hold.c.id == value.id, hold.c.invocation_id == value.invocation_id))
    ).first()
    if known is not None:
        return False
    tx.connection.execute(
        hold.insert().values(
            id=value.id,
            invocation_id=value.invocation_id,
            payload_hash=value.payload_hash,
            agent_id=value.agent_id,
            user_id=value.user_id,
            server_id=value.server_id,
            tool=value.tool,
            reason=value.reason,
            status=value.status.value,
            created_at=value.created_at,
            expires_at=value.expires_at,
            decided_by=value.decided_by,
            decided_at=value.decided_at,
        )
    )
    return True


def find_hold(tx: ControlTx, hold_id: str) -> Hold | None:
    """The hold, or None."""
    row = tx.connection.execute(sa.select(hold).where(hold.c.id == hold_id)).one_or_none()
    return _hold(row) if row else None


def list_holds(tx: ControlTx, *, status: HoldStatus | None = None, before: str = "", limit: int = 50) -> list[Hold]:
    """Holds, newest first. ``before`` is the id of the last one already seen."""
    query = sa.select(hold).order_by(hold.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(hold.c.status == status.value)
    if before:
        query = query.where(hold.c.id < before)
    return [_hold(row) for row in tx.connection.execute(query)]


def count_asked(tx: ControlTx, agent_id: str, since: datetime) -> int:
    """How many holds of an agent an operator was asked about since then: all but those declined unasked."""
    query = sa.select(sa.func.count()).where(
        hold.c.agent_id == agent_id,
        hold.c.created_at >= since,
        sa.or_(hold.c.decided_by.is_(None), hold.c.decided_by.not_like("system%")),
    )
    return tx.connection.execute(query).scalar_one()


def answer_hold(tx: ControlTx, hold_id: str, *, approved: bool, valid_until: datetime) -> Hold:
    """Store and project the answer. Raises ``NotFound``; ``Conflict`` if it was answered or has expired."""
    found = find_hold(tx, hold_id)
    if found is None:
        raise NotFound(f"there is no hold {hold_id!r}.", where="hold")
    if found.status is not HoldStatus.PENDING:
        by = f" by {found.decided_by}" if found.decided_by else ""
        raise Conflict(f"this hold was {found.status.value}{by} already.", where="hold")
    if found.expires_at <= tx.now:
        raise Conflict("this hold has expired; the call was refused.", where="hold")
    status = HoldStatus.APPROVED if approved else HoldStatus.DECLINED
    tx.connection.execute(
        hold.update()
        .where(hold.c.id == hold_id)
        .values(status=status.value, decided_by=tx.actor, decided_at=tx.now, expires_at=valid_until)
    )
    tx.project(Kind.APPROVAL, hold_id, ApprovalFacts(hold_id, found.payload_hash, valid_until, approved))
    answered = find_hold(tx, hold_id)
    assert answered is not None
    return answered


def list_overdue(tx: ControlTx, limit: int = 500) -> list[Hold]:
    """Pending holds past their expiry, oldest first."""
    query = (
        sa.select(hold)
        .where(hold.c.status == HoldStatus.PENDING.value, hold.c.expires_at <= tx.now)
        .order_by(hold.c.id)
        .limit(limit)
    )
    return [_hold(row) for row in tx.connection.execute(query)]


def expire_hold(tx: ControlTx, hold_id: str) -> None:
    """Nobody answered in time."""
    tx.connection.execute(hold.update().where(hold.c.id == hold_id).values(status=HoldStatus.EXPIRED.value))


def list_spent_approvals(tx: ControlTx, limit: int = 500) -> list[str]:
    """Ids of answered holds past their expiry that workers still hold in memory."""
    query = (
        sa.select(hold.c.id)
        .join(projection, sa.and_(projection.c.kind == Kind.APPROVAL.value, projection.c.key == hold.c.id))
        .where(projection.c.body.is_not(sa.null()), hold.c.expires_at <= tx.now)
        .order_by(hold.c.id)
        .limit(limit)
    )
    return list(tx.connection.execute(query).scalars())


def forget_approvals(tx: ControlTx, hold_ids: Iterable[str]) -> None:
    """Take answers away from the gateways; the holds stay as they are."""
    for hold_id in hold_ids:
        tx.project(Kind.APPROVAL, hold_id, None)


# -- action records -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """Proof that something was done: by whom, to what, why, and what shows that it worked."""

    id: str
    action: str
    subject: str
    actor: str
    status: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    incident_id: str | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None


def add_record(
    tx: ControlTx, action: str, subject: str, status: str, detail: Mapping[str, Any], incident_id: str | None = None
) -> ActionRecord:
    """Store the record of an action that the transaction's actor has just done in it."""
    record = ActionRecord(
        new_id("act"), action, subject, tx.actor, status, dict(detail), incident_id, tx.now, finished_at=tx.now
    )
    tx.connection.execute(
        action_record.insert().values(
            id=record.id,
            action=action,
            subject=subject,
            actor=tx.actor,
            status=status,
            detail=dict(detail),
            incident_id=incident_id,
            created_at=tx.now,
            finished_at=tx.now,
        )
    )
    return record


def list_records(
    tx: ControlTx, *, incident_id: str = "", subject: str = "", before: str = "", limit: int = 50
) -> list[ActionRecord]:
    """Action records, newest first."""
    query = sa.select(action_record).order_by(action_record.c.id.desc()).limit(limit)
    if incident_id:
        query = query.where(action_record.c.incident_id == incident_id)
    if subject:
        query = query.where(action_record.c.subject == subject)
    if before:
        query = query.where(action_record.c.id < before)
    return [ActionRecord(**dict(row._mapping)) for row in tx.connection.execute(query)]


def count_recent(tx: ControlTx, action: str, actor: str, since: datetime) -> int:
    """How often ``actor`` has done ``action`` since then."""
    query = sa.select(sa.func.count()).where(
        action_record.c.action == action, action_record.c.actor == actor, action_record.c.created_at >= since
    )
    return tx.connection.execute(query).scalar_one()


# -- audit --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of the audit log."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    hash: str


def list_audit(
    tx: ControlTx, *, actor: str = "", action: str = "", subject: str = "", before: int | None = None, limit: int = 50
) -> list[AuditEntry]:
    """Entries, newest first. ``before`` is the number of the last one already seen."""
    query = sa.select(audit).order_by(audit.c.seq.desc()).limit(limit)
    for column, value in ((audit.c.actor, actor), (audit.c.action, action), (audit.c.subject, subject)):
        if value:
            query = query.where(column == value)
    if before is not None:
        query = query.where(audit.c.seq < before)
    return [
        AuditEntry(row.seq, row.at, row.actor, row.action, row.subject, row.detail, row.hash)
        for row in tx.connection.execute(query)
    ]
