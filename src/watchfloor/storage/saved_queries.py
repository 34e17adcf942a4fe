"""The hunting library: queries that operators keep for themselves or share, and what each has marked as a favourite.

Below the portal, above the tables. A change names the version that it is made to, so that nobody overwrites what
somebody else has changed meanwhile. Who may see and change what is the caller's to check; every change of a query is
audited, without its text, which may be its author's alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.errors import Conflict, InputError, NotFound
from watchfloor.model.ids import new_id
from watchfloor.storage.schema_hunting import hunting_favourite, saved_query

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

MOST_QUERIES: Final = 500
"""Queries that one operator may keep."""
MOST_FAVOURITES: Final = 1_000

TEMPLATE: Final = "template"
QUERY: Final = "query"


@dataclass(frozen=True, slots=True)
class SavedQuery:
    """A query that somebody keeps."""

    id: str
    version: int
    name: str
    description: str
    query: str
    author: str
    is_shared: bool
    created_at: datetime
    updated_at: datetime
    updated_by: str


def visible_queries(tx: ControlTx, operator: str) -> list[SavedQuery]:
    """Those of ``operator`` and those that are shared, by name."""
    q = saved_query
    query = sa.select(q).where(sa.or_(q.c.author == operator, q.c.is_shared)).order_by(q.c.name, q.c.id)
    return [_read(row) for row in tx.connection.execute(query)]


def find_query(tx: ControlTx, query_id: str) -> SavedQuery | None:
    """The query, or None."""
    row = tx.connection.execute(sa.select(saved_query).where(saved_query.c.id == query_id)).one_or_none()
    return _read(row) if row else None


def add_query(tx: ControlTx, name: str, description: str, query: str) -> SavedQuery:
    """Keep a query for the transaction's actor. Raises ``Conflict`` for one too many, ``InputError`` for a bad name."""
    q = saved_query
    kept = tx.connection.execute(sa.select(sa.func.count()).select_from(q).where(q.c.author == tx.actor)).scalar_one()
    if kept >= MOST_QUERIES:
        raise Conflict(f"you keep {kept} queries already.", where="queries", remedy="Delete some.")
    _check(name, description)
    added = SavedQuery(new_id("qry"), 1, name, description, query, tx.actor, False, tx.now, tx.now, tx.actor)
    tx.connection.execute(q.insert().values(**_values(added)))
    _audit(tx, "create", added)
    return added


def change_query(tx: ControlTx, wanted: SavedQuery, verb: str = "update") -> SavedQuery:
    """Store ``wanted``, made from what was there in its version. ``verb`` is what the audit calls it.

    Raises ``NotFound``, ``Conflict`` if it was changed since, ``InputError`` for a bad name.
    """
    q = saved_query
    _check(wanted.name, wanted.description)
    changed = replace(wanted, version=wanted.version + 1, updated_at=tx.now, updated_by=tx.actor)
    made_to = (q.c.id == wanted.id, q.c.version == wanted.version)
    if tx.connection.execute(q.update().where(*made_to).values(**_values(changed))).rowcount != 1:
        raise _missed(tx, wanted.id)
    _audit(tx, verb, changed)
    return changed


def delete_query(tx: ControlTx, query_id: str, version: int) -> None:
    """Take the query away as it is in ``version``, and from all favourites. Raises ``NotFound``, ``Conflict``."""
    q, f = saved_query, hunting_favourite
    before = find_query(tx, query_id)
    done = tx.connection.execute(q.delete().where(q.c.id == query_id, q.c.version == version))
    if before is None or done.rowcount != 1:
        raise _missed(tx, query_id)
    tx.connection.execute(f.delete().where(f.c.subject == f"{QUERY}/{query_id}"))
    _audit(tx, "delete", before)


def favourites(tx: ControlTx, operator: str) -> frozenset[str]:
    """What ``operator`` has marked: ``template/ID``, ``query/ID``."""
    f = hunting_favourite
    return frozenset(tx.connection.execute(sa.select(f.c.subject).where(f.c.operator == operator)).scalars())


def mark(tx: ControlTx, subject: str, *, is_favourite: bool) -> None:
    """Mark ``subject`` for the actor, or unmark it; twice is as once. Raises ``Conflict`` for one too many."""
    f = hunting_favourite
    marked = favourites(tx, tx.actor)
    if (subject in marked) is is_favourite:
        return
    if not is_favourite:
        tx.connection.execute(f.delete().where(f.c.operator == tx.actor, f.c.subject == subject))
    elif len(marked) >= MOST_FAVOURITES:
        raise Conflict(f"you have {len(marked)} favourites already.", where="favourites", remedy="Unmark some.")
    else:
        tx.connection.execute(f.insert().values(operator=tx.actor, subject=subject, marked_at=tx.now))
    tx.audit("hunting:favourite" if is_favourite else "hunting:no-favourite", subject, {})


def _read(row: Any) -> SavedQuery:
    return SavedQuery(**dict(row._mapping))


def _values(query: SavedQuery) -> dict[str, Any]:
    return {name: getattr(query, name) for name in SavedQuery.__dataclass_fields__}


def _check(name: str, description: str) -> None:
    if not name.strip() or not name.isprintable():
        raise InputError("a query has a name of characters that print.", where="name")
    if not description.replace("\n", " ").isprintable():
        raise InputError("this has characters that do not print.", where="description")


def _missed(tx: ControlTx, query_id: str) -> InputError:
    now = find_query(tx, query_id)
    if now is None:
        return NotFound(f"there is no saved query {query_id!r}.", where="query")
    return Conflict(
        f"{now.updated_by} has changed this query meanwhile; it is at version {now.version}.",
        where="If-Match",
        remedy="Read it again, and make your change to that.",
    )


def _audit(tx: ControlTx, verb: str, query: SavedQuery) -> None:
    digest = hashlib.sha256(query.query.encode()).hexdigest()
    told = {"version": query.version, "author": query.author, "is_shared": query.is_shared, "sha256": digest}
    tx.audit(f"hunting-query:{verb}", f"hunting-query/{query.id}", told)
