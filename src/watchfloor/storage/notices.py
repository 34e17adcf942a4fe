"""Notices to makers as they are stored: what is in them, how far they are, the links that acknowledge them.

Below ``response.makers``, which audits what it does; above the tables. It does not know when something is fixed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.notices import Item, ItemState, Notice, NoticeState, Source
from watchfloor.storage.schema_notices import notice as n
from watchfloor.storage.schema_notices import notice_item as i
from watchfloor.storage.schema_notices import notice_link as k

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_OPEN: Final = [state.value for state in NoticeState if state.is_open]


@dataclass(frozen=True, slots=True)
class Link:
    """One link of one mail, which works once."""

    token_hash: str
    notice_id: str
    user_id: str
    expires_at: datetime
    used_at: datetime | None = None


# -- notices ------------------------------------------------------------------------------------------------------


def find_notice(tx: ControlTx, notice_id: str) -> Notice | None:
    """The notice, or None."""
    row = tx.connection.execute(sa.select(n).where(n.c.id == notice_id)).one_or_none()
    return _notice(row) if row else None


def find_waiting(tx: ControlTx, maker_id: str) -> Notice | None:
    """The notice of ``maker_id`` that has not been sent yet, or None."""
    query = sa.select(n).where(n.c.maker_id == maker_id, n.c.state == NoticeState.WAITING.value)
    row = tx.connection.execute(query.order_by(n.c.id).limit(1)).one_or_none()
    return _notice(row) if row else None


def list_open(tx: ControlTx) -> list[Notice]:
    """Every notice that has not ended, oldest first."""
    query = sa.select(n).where(n.c.state.in_(_OPEN)).order_by(n.c.id)
    return [_notice(row) for row in tx.connection.execute(query)]


def list_notices(
    tx: ControlTx,
    *,
    states: Collection[str] = (),
    maker_id: str = "",
    agent_ids: Collection[str] | None = None,
    before: str = "",
    limit: int,
) -> list[Notice]:
    """Notices, newest first; ``agent_ids``: those about one of these agents."""
    query = sa.select(n).order_by(n.c.id.desc()).limit(limit)
    if states:
        query = query.where(n.c.state.in_(list(states)))
    if maker_id:
        query = query.where(n.c.maker_id == maker_id)
    if agent_ids is not None:
        query = query.where(n.c.id.in_(sa.select(i.c.notice_id).where(i.c.agent_id.in_(list(agent_ids)))))
    if before:
        query = query.where(n.c.id < before)
    return [_notice(row) for row in tx.connection.execute(query)]


def add_notice(tx: ControlTx, notice: Notice) -> None:
    """Store a new notice."""
    tx.connection.execute(n.insert().values(**_columns(notice)))


def save_notice(tx: ControlTx, notice: Notice) -> None:
    """Store what became of a notice."""
    tx.connection.execute(n.update().where(n.c.id == notice.id).values(**_columns(notice)))


def _columns(notice: Notice) -> dict[str, Any]:
    return {name: getattr(notice, name) for name in Notice.__dataclass_fields__} | {"state": notice.state.value}


def _notice(row: Any) -> Notice:
    return Notice(**{**dict(row._mapping), "state": NoticeState(row.state)})


# -- what is in them ----------------------------------------------------------------------------------------------


def list_items(tx: ControlTx, notice_ids: Collection[str]) -> dict[str, list[Item]]:
    """What is in these notices, by agent and source."""
    found: dict[str, list[Item]] = {notice_id: [] for notice_id in notice_ids}
    query = sa.select(i).where(i.c.notice_id.in_(list(notice_ids))).order_by(i.c.agent_id, i.c.source)
    for row in tx.connection.execute(query):
        found[row.notice_id].append(_item(row))
    return found


def find_open_items(tx: ControlTx, source: Source, agent_ids: Collection[str]) -> dict[str, Item]:
    """What is open already of ``source``, by agent."""
    query = sa.select(i).where(i.c.open_key.in_([_open_key(agent_id, source) for agent_id in agent_ids]))
    return {row.agent_id: _item(row) for row in tx.connection.execute(query)}


def add_items(tx: ControlTx, notice_id: str, items: Iterable[Item]) -> None:
    """Put more into a notice."""
    rows = [
        {
            "notice_id": notice_id, "agent_id": item.agent_id, "source": str(item.source), "what": item.what,
            "recommendation": item.recommendation, "note": item.note, "query": item.query,
            "state": ItemState.OPEN.value, "opened_at": tx.now, "closed_at": None,
            "open_key": _open_key(item.agent_id, item.source),
        }
        for item in items
    ]  # fmt: skip
    if rows:
        tx.connection.execute(i.insert(), rows)


def close_item(tx: ControlTx, item: Item, state: ItemState) -> None:
    """It is fixed, gone or cancelled."""
    where = sa.and_(i.c.notice_id == item.notice_id, i.c.agent_id == item.agent_id, i.c.source == str(item.source))
    tx.connection.execute(i.update().where(where).values(state=state.value, closed_at=tx.now, open_key=None))


def _open_key(agent_id: str, source: Source) -> str:
    return f"{agent_id}|{source}"


def _item(row: Any) -> Item:
    values = {name: value for name, value in row._mapping.items() if name != "open_key"}
    return Item(**{**values, "source": Source.parse(row.source), "state": ItemState(row.state)})


# -- links --------------------------------------------------------------------------------------------------------


def add_link(tx: ControlTx, link: Link) -> None:
    """Remember a link."""
    tx.connection.execute(k.insert().values(**{name: getattr(link, name) for name in Link.__dataclass_fields__}))


def find_link(tx: ControlTx, token_hash: str) -> Link | None:
    """The link, or None."""
    row = tx.connection.execute(sa.select(k).where(k.c.token_hash == token_hash)).one_or_none()
    return Link(**dict(row._mapping)) if row else None


def use_link(tx: ControlTx, token_hash: str) -> bool:
    """Whether it had not been used before; from now on it has."""
    where = sa.and_(k.c.token_hash == token_hash, k.c.used_at.is_(None))
    return bool(tx.connection.execute(k.update().where(where).values(used_at=tx.now)).rowcount)


def forget_links(tx: ControlTx, before: datetime) -> None:
    """Forget what expired before then."""
    tx.connection.execute(k.delete().where(k.c.expires_at < before))
