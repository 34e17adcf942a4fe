"""What users took from the Agent Store, and what they asked for: reads and writes.

Below ``registry.agentstore``, above the tables. Writes audit, in the caller's transaction. It does not know who may
have what.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from watchfloor.storage import schema
from watchfloor.storage.changes import differences, upsert

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_I, _A = schema.store_item, schema.access_ask


class AskState(StrEnum):
    """What became of somebody's wish for an agent."""

    WAITING = "waiting"
    GRANTED = "granted"
    DECLINED = "declined"


@dataclass(frozen=True, slots=True)
class StoreItem:
    """An agent that a user took."""

    user_id: str
    agent_id: str
    installed_at: datetime
    is_pinned: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody asks to be let to an agent."""

    user_id: str
    agent_id: str
    state: AskState
    reason: str
    asked_at: datetime
    decided_at: datetime | None = None
    decided_by: str | None = None
    answer: str = ""


def list_items(tx: ControlTx, user_id: str) -> dict[str, StoreItem]:
    """What the user took, by agent."""
    rows = tx.connection.execute(sa.select(_I).where(_I.c.user_id == user_id))
    return {row.agent_id: StoreItem(**dict(row._mapping)) for row in rows}


def save_item(tx: ControlTx, item: StoreItem) -> None:
    """Let the user have the agent."""
    before = list_items(tx, item.user_id).get(item.agent_id)
    change = differences(before, item, ignore=("installed_at",))
    if change:
        names = ("user_id", "agent_id", "installed_at", "is_pinned")
        upsert(tx, _I, {name: getattr(item, name) for name in names}, before is not None)
        tx.audit("store:take", f"agent/{item.agent_id}", change)


def delete_item(tx: ControlTx, user_id: str, agent_id: str) -> None:
    """The user has done with the agent."""
    gone = tx.connection.execute(_I.delete().where(_I.c.user_id == user_id, _I.c.agent_id == agent_id))
    if gone.rowcount:
        tx.audit("store:leave", f"agent/{agent_id}", {"user_id": user_id})


def _ask(row: sa.Row[Any]) -> Ask:
    return Ask(**{**dict(row._mapping), "state": AskState(row.state)})


def find_ask(tx: ControlTx, user_id: str, agent_id: str) -> Ask | None:
    """What the user asked for last, or None."""
    row = tx.connection.execute(sa.select(_A).where(_A.c.user_id == user_id, _A.c.agent_id == agent_id)).one_or_none()
    return _ask(row) if row else None


def list_asks(
    tx: ControlTx, *, state: AskState | None = None, user_id: str | None = None, limit: int = 500
) -> list[Ask]:
    """What was asked, newest first; of one user or of all."""
    query = sa.select(_A).order_by(_A.c.asked_at.desc(), _A.c.user_id, _A.c.agent_id).limit(limit)
    if state is not None:
        query = query.where(_A.c.state == state.value)
    if user_id is not None:
        query = query.where(_A.c.user_id == user_id)
    return [_ask(row) for row in tx.connection.execute(query)]


def save_ask(tx: ControlTx, ask: Ask, action: str) -> None:
    """Store what was asked, or what came of it."""
    before = find_ask(tx, ask.user_id, ask.agent_id)
    values = {column.name: getattr(ask, column.name) for column in _A.columns}
    upsert(tx, _A, values | {"state": ask.state.value}, before is not None)
    tx.audit(action, f"agent/{ask.agent_id}", differences(before, ask, ignore=("asked_at", "decided_at")))
