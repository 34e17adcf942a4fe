"""What an incident's alerts add up to, as counted facts: an alert that joins, grows or leaves costs what it brings.

Above the tables, below ``detection``, which says what a fact is; here facts are keys with a count. A fact may imply
others: they count how many different facts imply them (a tool's calls, each once, whichever alerts point to them).
Counts are sums, so no order of additions and removals changes them.

A key begins with its kind: ``c:`` numbers, ``d:`` ``o:`` ``s:`` ranked or listed texts, ``n:`` entities, ``w…:`` names,
``q:`` ``Q:`` groups of which only the largest matters; every other kind is counted and never read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.storage.schema import incident_tally as tally

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

FEW: Final = 4
"""How many of the first names and of the most frequent texts are read."""

_MOST_ENTITY_ROWS: Final = 1_500
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that alerts say, by its key; ``implies`` is a function of the key."""

    key: str
    implies: tuple[Fact, ...] = field(default=(), compare=False)


def change(tx: ControlTx, deltas: Mapping[str, Mapping[Fact, int]]) -> None:
    """Add to the counts of facts, by incident; what comes to nothing is forgotten."""
    fresh: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    gone: list[dict[str, Any]] = []
    for incident_id, facts in deltas.items():
        level = {fact: by for fact, by in facts.items() if by}
        known = _counts(tx, incident_id, sorted({fact.key for each in level for fact in _with_implied(each)}))
        now = dict(known)
        while level:
            implied: Counter[Fact] = Counter()
            for fact, by in level.items():
                before = now.get(fact.key, 0)
                now[fact.key] = before + by
                appears = int(before + by > 0) - int(before > 0)
                if appears:
                    for other in fact.implies:
                        implied[other] += appears
            level = {fact: by for fact, by in implied.items() if by}
        for key, count in now.items():
            if count and key not in known:
                fresh.append({"incident_id": incident_id, "key": key, "n": count})
            elif key in known and not count:
                gone.append({"at_incident": incident_id, "at_key": key})
            elif count != known.get(key, 0):
                changed.append({"at_incident": incident_id, "at_key": key, "to": count})
    for statement, rows in ((_INSERT, fresh), (_UPDATE, changed), (_DELETE, gone)):
        if rows:
            tx.connection.execute(statement, rows)


def forget(tx: ControlTx, incident_ids: Iterable[str]) -> None:
    """Forget all facts of these incidents."""
    tx.connection.execute(tally.delete().where(tally.c.incident_id.in_(list(incident_ids))))


def read(tx: ControlTx, incident_id: str) -> dict[str, int]:
    """The facts that a story is told from, by key: of names and ranked texts the first few, of entities a good number.

    ``max:q`` and ``max:Q`` are the sizes of the largest groups.
    """
    found = dict(_pairs(tx.connection.execute(_TOLD, {"incident": incident_id})))
    if sum(key.startswith("n:") for key in found) == _MOST_ENTITY_ROWS:
        found |= dict(_pairs(tx.connection.execute(_ALL_ENTITIES, {"incident": incident_id})))
    return found


def _with_implied(fact: Fact) -> Iterator[Fact]:
    yield fact
    for other in fact.implies:
        yield from _with_implied(other)


def _counts(tx: ControlTx, incident_id: str, keys: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(keys), _AT_ONCE):
        values = {"incident": incident_id, "keys": keys[start : start + _AT_ONCE]}
        found |= _pairs(tx.connection.execute(_KNOWN, values))
    return found


def _pairs(rows: Iterable[Any]) -> dict[str, int]:
    return dict(tuple(row) for row in rows)


def _of_kind(kind: str) -> sa.Select[Any]:
    """The facts of one kind; keys are ordered by code point, so a kind is a range of them."""
    return sa.select(tally.c.key, tally.c.n).where(
        tally.c.incident_id == sa.bindparam("incident"), tally.c.key >= f"{kind}:", tally.c.key < f"{kind};"
    )


def _largest(kind: str) -> sa.Select[Any]:
    facts = _of_kind(kind).subquery()
    return sa.select(sa.literal(f"max:{kind}"), sa.func.coalesce(sa.func.max(facts.c.n), 0))


def _first(kind: str, limit: int) -> sa.Select[Any]:
    return sa.select(_of_kind(kind).order_by(tally.c.key).limit(limit).subquery())


def _most(kind: str) -> sa.Select[Any]:
    return sa.select(_of_kind(kind).order_by(tally.c.n.desc(), tally.c.key).limit(FEW).subquery())


_INSERT: Final = tally.insert()
_AT: Final = sa.and_(tally.c.incident_id == sa.bindparam("at_incident"), tally.c.key == sa.bindparam("at_key"))
_UPDATE: Final = tally.update().where(_AT).values(n=sa.bindparam("to"))
_DELETE: Final = tally.delete().where(_AT)
_KNOWN: Final = sa.select(tally.c.key, tally.c.n).where(
    tally.c.incident_id == sa.bindparam("incident"), tally.c.key.in_(sa.bindparam("keys", expanding=True))
)
_TOLD: Final = sa.union_all(
    _of_kind("c"),
    *(_most(kind) for kind in "so"),
    *(_first(kind, FEW) for kind in ("d", "wuser", "wagent", "waddress")),
    _first("n", _MOST_ENTITY_ROWS),
    *(_largest(kind) for kind in "qQ"),
)
_ALL_ENTITIES: Final = _of_kind("n")
