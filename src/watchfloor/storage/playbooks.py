"""Playbooks as operators wrote and switched them, and what they did: one run for each playbook and incident.

Below ``response``, above the tables. It does not know what a playbook means.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from watchfloor.storage.changes import upsert
from watchfloor.storage.schema_response import playbook as p
from watchfloor.storage.schema_response import playbook_run as r

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


@dataclass(frozen=True, slots=True)
class StoredPlaybook:
    """``body`` as its file would say it; None for one that comes with the product and was only switched.

    ``active_from``: incidents that last changed before then are left alone.
    """

    id: str
    body: Mapping[str, Any] | None
    is_enabled: bool
    approval: str
    active_from: datetime
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, slots=True)
class Item:
    """One action about one subject. ``state``: pending, proposed, done, failed, declined, cooled_down, not_needed."""

    action: str
    subject_id: str
    state: str
    options: tuple[str, ...] = ()
    note: str = ""
    record_id: str | None = None
    response_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Run:
    """What one playbook did about one incident. ``status``: running, proposed, done, failed, declined, cooled_down."""

    id: str
    playbook_id: str
    incident_id: str
    status: str
    items: Sequence[Item]
    created_at: datetime
    updated_at: datetime
    decided_by: str | None = None
    reason: str = ""


def list_playbooks(tx: ControlTx) -> list[StoredPlaybook]:
    """Those that are stored, by id."""
    return [StoredPlaybook(**dict(row._mapping)) for row in tx.connection.execute(sa.select(p).order_by(p.c.id))]


def find_playbook(tx: ControlTx, playbook_id: str) -> StoredPlaybook | None:
    """The stored playbook, or None."""
    row = tx.connection.execute(sa.select(p).where(p.c.id == playbook_id)).one_or_none()
    return StoredPlaybook(**dict(row._mapping)) if row else None


def save_playbook(tx: ControlTx, stored: StoredPlaybook) -> None:
    """Store it, new or changed."""
    values = {name: getattr(stored, name) for name in stored.__slots__}
    values["body"] = dict(stored.body) if stored.body is not None else None
    upsert(tx, p, values, find_playbook(tx, stored.id) is not None)


def delete_playbook(tx: ControlTx, playbook_id: str) -> bool:
    """Forget it; what it did stays on record."""
    return bool(tx.connection.execute(p.delete().where(p.c.id == playbook_id)).rowcount)


def _run(row: sa.Row[Any]) -> Run:
    items = tuple(Item(**{**item, "options": tuple(item.get("options", ()))}) for item in row.items)
    return Run(**{**dict(row._mapping), "items": items})


def find_run(tx: ControlTx, run_id: str) -> Run | None:
    """The run, or None."""
    row = tx.connection.execute(sa.select(r).where(r.c.id == run_id)).one_or_none()
    return _run(row) if row else None


def find_run_of(tx: ControlTx, playbook_id: str, incident_id: str) -> Run | None:
    """The run of this playbook about this incident, or None."""
    query = sa.select(r).where(r.c.playbook_id == playbook_id, r.c.incident_id == incident_id)
    row = tx.connection.execute(query).one_or_none()
    return _run(row) if row else None


def list_runs(
    tx: ControlTx,
    *,
    incident_ids: Collection[str] = (),
    playbook_id: str = "",
    statuses: Collection[str] = (),
    since: datetime | None = None,
    before: str = "",
    limit: int = 50,
) -> list[Run]:
    """Runs, newest first."""
    query = sa.select(r).order_by(r.c.id.desc()).limit(limit)
    if incident_ids:
        query = query.where(r.c.incident_id.in_(list(incident_ids)))
    if playbook_id:
        query = query.where(r.c.playbook_id == playbook_id)
    if statuses:
        query = query.where(r.c.status.in_(list(statuses)))
    if since is not None:
        query = query.where(r.c.created_at > since)
    if before:
        query = query.where(r.c.id < before)
    return [_run(row) for row in tx.connection.execute(query)]


def add_run(tx: ControlTx, run: Run) -> None:
    """Store a new run. Raises ``Conflict`` if there is one of this playbook about this incident."""
    values = {name: getattr(run, name) for name in run.__slots__}
    tx.connection.execute(r.insert().values(**{**values, "items": [item.to_json() for item in run.items]}))


def change_run(tx: ControlTx, run: Run, items: Sequence[Item], status: str, **values: Any) -> Run:
    """Store how far a run is."""
    stored = {"items": [item.to_json() for item in items], "status": status, "updated_at": tx.now, **values}
    tx.connection.execute(r.update().where(r.c.id == run.id).values(**stored))
    return replace(run, items=tuple(items), status=status, updated_at=tx.now, **values)
