"""Telemetry sources: who may send what agents did.

Below the portal, above the tables. Writes compare, store, project what the receivers hold, and audit, in the caller's
transaction; they return whether anything differed. Only the SHA-256 of a token is known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from watchfloor.model.facts import Kind, SourceFacts
from watchfloor.storage import schema
from watchfloor.storage.changes import differences, upsert

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

ANY_AGENT = "*"


@dataclass(frozen=True, slots=True)
class TelemetrySource:
    """A program, framework or collector that sends telemetry. ``agents``: the ids it may speak for, or ``*``.

    ``events_per_second`` is its quota; it may exceed it for a moment.
    """

    id: str
    name: str
    token_hash: str
    created_at: datetime
    updated_at: datetime
    updated_by: str = ""
    description: str = ""
    agents: tuple[str, ...] = (ANY_AGENT,)
    events_per_second: int = 20_000
    is_enabled: bool = True


def _source(row: sa.Row[Any]) -> TelemetrySource:
    return TelemetrySource(**{**dict(row._mapping), "agents": tuple(row.agents)})


def find_source(tx: ControlTx, source_id: str) -> TelemetrySource | None:
    """The source, or None."""
    s = schema.telemetry_source
    row = tx.connection.execute(sa.select(s).where(s.c.id == source_id)).one_or_none()
    return _source(row) if row else None


def list_sources(tx: ControlTx) -> list[TelemetrySource]:
    """Sources by id."""
    return [_source(row) for row in tx.connection.execute(sa.select(schema.telemetry_source).order_by("id"))]


def save_source(tx: ControlTx, source: TelemetrySource) -> bool:
    """Store ``source``; its token in force from the moment that the transaction is acknowledged."""
    before = find_source(tx, source.id)
    change = differences(before, source, secret=("token_hash",), ignore=("created_at", "updated_at", "updated_by"))
    if not change:
        return False
    values = {
        "id": source.id,
        "name": source.name,
        "description": source.description,
        "token_hash": source.token_hash,
        "agents": list(source.agents),
        "events_per_second": source.events_per_second,
        "is_enabled": source.is_enabled,
        "created_at": before.created_at if before else source.created_at,
        "updated_at": source.updated_at,
        "updated_by": source.updated_by,
    }
    upsert(tx, schema.telemetry_source, values, before is not None)
    facts = SourceFacts(source.id, source.token_hash, source.agents, source.events_per_second, source.is_enabled)
    tx.project(Kind.SOURCE, source.id, facts)
    tx.audit("source:update" if before else "source:create", f"source/{source.id}", change)
    return True


def delete_source(tx: ControlTx, source_id: str) -> bool:
    """Forget the source: its token is refused from the moment that the transaction is acknowledged."""
    s = schema.telemetry_source
    if not tx.connection.execute(s.delete().where(s.c.id == source_id)).rowcount:
        return False
    tx.project(Kind.SOURCE, source_id, None)
    tx.audit("source:delete", f"source/{source_id}", {})
    return True
