"""What an incident's alerts add up to, as counted facts: an alert that joins, grows or leaves costs what it brings.

Above the tables, below ``detection``, which says what a fact is; here facts are keys with a count. A fact may imply
others: they count how many different facts imply them (a tool's calls, each once, whichever alerts point to them).
Counts are sums, so no order of additions and removals changes them.

A key begins with its kind: ``c:`` numbers, ``d:`` ``o:`` ``s:`` ranked or listed texts, ``n:`` entities, ``w…:`` names,
``q:`` ``Q:`` groups of which only the largest matters; every other kind is counted and never read.

Neither writing nor reading costs more where an incident has grown large: whatever is read is a few rows at one place
of an order, and facts that come together should have keys that lie together.
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

MOST_ENTITIES: Final = 500
"""How many entities are read: the first by kind and id."""
SPLIT: Final = "\x1f"
"""What follows the id in the key of an entity: its role and its name stand behind it."""

_BEHIND: Final = chr(ord(SPLIT) + 1)
_ENTITY_ROWS: Final = 600
_RANKED: Final = frozenset("soqQ")
_MOST: Final = 2**31 - 1
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
                fresh.append({"incident_id": incident_id, "key": key, "n": count, "ranked": _rank(key, count)})
            elif key in known and not count:
                gone.append({"at_incident": incident_id, "at_key": key})
            elif count != known.get(key, 0):
                changed.append({"at_incident": incident_id, "at_key": key, "to": count, "at_rank": _rank(key, count)})
    for statement, rows in ((_INSERT, fresh), (_UPDATE, changed), (_DELETE, gone)):
        if rows:
            tx.connection.execute(statement, rows)


def forget(tx: ControlTx, incident_ids: Iterable[str]) -> None:
    """Forget all facts of these incidents."""
    tx.connection.execute(tally.delete().where(tally.c.incident_id.in_(list(incident_ids))))


def read(tx: ControlTx, incident_id: str) -> dict[str, int]:
    """The facts that a story is told from, by key: of names and ranked texts the first few, of entities a good number,
    each in its gravest role.

    ``max:q`` and ``max:Q`` are the sizes of the largest groups.
    """
    found = {"max:q": 0, "max:Q": 0}
    entities: dict[str, int] = {}
    for key, n in tx.connection.execute(_TOLD, {"incident": incident_id}):
        if key.startswith("n:"):
            entities[key] = n
        elif key[:2] in ("q:", "Q:"):
            found[f"max:{key[0]}"] = n
        else:
            found[key] = n
    return found | (entities if len(entities) < _ENTITY_ROWS else _first_entities(tx, incident_id, entities))


def _first_entities(tx: ControlTx, incident_id: str, rows: dict[str, int]) -> dict[str, int]:
    """Of an incident with many rows of entities, of which ``rows`` are the first: the first entities, however many
    roles and names each of them has."""
    found: dict[str, tuple[str, int]] = {}
    while True:
        for key in sorted(rows):
            found[_entity_of(key)] = key, rows[key]  # the last key of an entity is that of its gravest role
        if len(rows) < _ENTITY_ROWS:
            break
        last = _entity_of(max(rows))
        values = {"incident": incident_id, "after": last + SPLIT, "before": last + _BEHIND}
        for key, n in tx.connection.execute(_LAST_OF_ENTITY, values):
            found[_entity_of(key)] = key, n
        if len(found) >= MOST_ENTITIES:
            break
        rows = _pairs(tx.connection.execute(_MORE_ENTITIES, {"incident": incident_id, "after": last + _BEHIND}))
    return dict(found[entity] for entity in sorted(found)[:MOST_ENTITIES])


def _entity_of(key: str) -> str:
    return key.rsplit(SPLIT, 2)[0]


def _rank(key: str, count: int) -> str | None:
    """What the most frequent facts of a kind are the first by, as far as their frequency is asked for."""
    kind = key.partition(":")[0]
    return f"{kind}{_MOST - count:010}" if kind in _RANKED else None


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


def _first(kind: str, limit: int) -> sa.Select[Any]:
    return sa.select(_of_kind(kind).order_by(tally.c.key).limit(limit).subquery())


def _most(kind: str, limit: int = FEW) -> sa.Select[Any]:
    facts = sa.select(tally.c.key, tally.c.n).where(
        tally.c.incident_id == sa.bindparam("incident"), tally.c.ranked >= kind, tally.c.ranked < f"{kind}:"
    )
    return sa.select(facts.order_by(tally.c.ranked, tally.c.key).limit(limit).subquery())


_INSERT: Final = tally.insert()
_AT: Final = sa.and_(tally.c.incident_id == sa.bindparam("at_incident"), tally.c.key == sa.bindparam("at_key"))
_UPDATE: Final = tally.update().where(_AT).values(n=sa.bindparam("to"), ranked=sa.bindparam("at_rank"))
_DELETE: Final = tally.delete().where(_AT)
_KNOWN: Final = sa.select(tally.c.key, tally.c.n).where(
    tally.c.incident_id == sa.bindparam("incident"), tally.c.key.in_(sa.bindparam("keys", expanding=True))
)
_TOLD: Final = sa.union_all(
    _of_kind("c"),
    *(_most(kind) for kind in "so"),
    *(_first(kind, FEW) for kind in ("d", "wuser", "wagent", "waddress")),
    _first("n", _ENTITY_ROWS),
    *(_most(kind, 1) for kind in "qQ"),
)
_ENTITIES: Final = sa.select(tally.c.key, tally.c.n).where(
    tally.c.incident_id == sa.bindparam("incident"), tally.c.key >= sa.bindparam("after")
)
_MORE_ENTITIES: Final = _ENTITIES.where(tally.c.key < "n;").order_by(tally.c.key).limit(_ENTITY_ROWS)
_LAST_OF_ENTITY: Final = _ENTITIES.where(tally.c.key < sa.bindparam("before")).order_by(tally.c.key.desc()).limit(1)
