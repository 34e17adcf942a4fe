"""What operators did: action records, and the audit log to read.

Below ``response``, ``jobs`` and ``portal``, above the tables. It does not know who may do what: that is ``response``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from watchfloor.model.ids import new_id
from watchfloor.storage.schema import action_record, audit

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


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
    tx: ControlTx, *, incident_id: str = "", subject: str = "", action: str = "", before: str = "", limit: int = 50
) -> list[ActionRecord]:
    """Action records, newest first."""
    query = sa.select(action_record).order_by(action_record.c.id.desc()).limit(limit)
    if incident_id:
        query = query.where(action_record.c.incident_id == incident_id)
    if subject:
        query = query.where(action_record.c.subject == subject)
    if action:
        query = query.where(action_record.c.action == action)
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


def list_audit_after(tx: ControlTx, seq: int, tags: Sequence[str], limit: int) -> list[AuditEntry]:
    """Entries behind ``seq`` with one of the action ``tags``, oldest first."""
    query = sa.select(audit).where(audit.c.seq > seq, audit.c.action.in_(tags)).order_by(audit.c.seq).limit(limit)
    return [
        AuditEntry(row.seq, row.at, row.actor, row.action, row.subject, row.detail, row.hash)
        for row in tx.connection.execute(query)
    ]


def newest_audit(tx: ControlTx) -> int:
    """The number of the last entry; 0 if there is none."""
    return tx.connection.execute(sa.select(sa.func.max(audit.c.seq))).scalar() or 0
