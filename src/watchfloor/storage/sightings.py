"""Sightings: agents and tool servers that were seen at work; what the registry knows; and who was seen in the events.

Below ``registry.sightings``, which decides what is a sighting and audits what becomes of it; above the tables and the
event store. A list in a sighting is bounded; what it leaves out is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.storage import schema
from watchfloor.storage.activity import Activity, literal

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

MOST_VALUES: Final = 50
"""Users, tools or sources of one sighting that are kept by name."""

LONGEST: Final = 200
"""Characters of a name that are read out of events: senders choose them, and nothing real is longer."""

TOOL_CALLS: Final = ("ToolCallDecided", "ExecuteToolBySDK", "McpRequest")
"""Steps that call a tool, each call once; other steps name addresses too, those of models above all."""

_KEYS_A_QUERY: Final = 500


class SightingKind(StrEnum):
    """What was seen."""

    AGENT = "agent"
    SERVER = "server"


class SightingState(StrEnum):
    """What became of it."""

    SHADOW = "shadow"
    ADOPTED = "adopted"
    DISMISSED = "dismissed"


@dataclass(frozen=True, slots=True)
class Seen:
    """Values in the order in which they turned up, the first ``MOST_VALUES`` of them.

    ``more``: events that named another one. ``looked_at``: how many of the values were there when an operator last
    dismissed the sighting.
    """

    values: tuple[str, ...] = ()
    more: int = 0
    looked_at: int = 0

    def and_also(self, value: str, events: int) -> Seen:
        """With ``value``, which ``events`` events named; an empty one says nothing."""
        if not value or value in self.values:
            return self
        if len(self.values) < MOST_VALUES:
            return replace(self, values=(*self.values, value))
        return replace(self, more=self.more + events)

    def looked_through(self) -> Seen:
        """With nothing new in it."""
        return replace(self, looked_at=len(self.values))


@dataclass(frozen=True, slots=True)
class Sighting:
    """An agent or a tool server that the registry does not know, or did not know when it was first seen.

    ``name``: an agent's name, a server's address. ``updated_at`` and ``updated_by``: the last change of its state.
    """

    kind: SightingKind
    key: str
    name: str
    first_seen: datetime
    last_seen: datetime
    updated_at: datetime
    updated_by: str
    state: SightingState = SightingState.SHADOW
    users: Seen = Seen()
    tools: Seen = Seen()
    sources: Seen = Seen()
    events: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of sightings ended: the sighting that was first seen then, with this kind and key."""

    first_seen: datetime
    kind: str
    key: str


# -- control state ------------------------------------------------------------------------------------------------


def _sighting(row: sa.Row[Any]) -> Sighting:
    values = dict(row._mapping)
    seen = {n: Seen(tuple(values[n]["values"]), values[n]["more"], values[n]["looked_at"]) for n in _LISTS}
    return Sighting(**{**values, **seen, "kind": SightingKind(row.kind), "state": SightingState(row.state)})


_LISTS: Final = ("users", "tools", "sources")


def _values(sighting: Sighting) -> dict[str, Any]:
    values: dict[str, Any] = {
        "kind": sighting.kind.value,
        "key": sighting.key,
        "name": sighting.name,
        "state": sighting.state.value,
        "events": sighting.events,
        "first_seen": sighting.first_seen,
        "last_seen": sighting.last_seen,
        "updated_at": sighting.updated_at,
        "updated_by": sighting.updated_by,
    }
    for name in _LISTS:
        seen: Seen = getattr(sighting, name)
        values[name] = {"values": list(seen.values), "more": seen.more, "looked_at": seen.looked_at}
    return values


def find_sighting(tx: ControlTx, kind: SightingKind, key: str) -> Sighting | None:
    """The sighting, or None."""
    return find_sightings(tx, kind, [key]).get(key)


def find_sightings(tx: ControlTx, kind: SightingKind, keys: Sequence[str]) -> dict[str, Sighting]:
    """Those of ``keys`` that there are."""
    s = schema.sighting
    found: dict[str, Sighting] = {}
    for start in range(0, len(keys), _KEYS_A_QUERY):
        some = list(keys[start : start + _KEYS_A_QUERY])
        rows = tx.connection.execute(sa.select(s).where(s.c.kind == kind.value, s.c.key.in_(some)))
        found.update((row.key, _sighting(row)) for row in rows)
    return found


def list_sightings(
    tx: ControlTx,
    *,
    kind: SightingKind | None = None,
    state: SightingState | None = None,
    before: Place | None = None,
    limit: int | None = None,
) -> list[Sighting]:
    """Sightings, the one that was first seen latest first; with ``before``, those behind that place."""
    s = schema.sighting
    query = sa.select(s).order_by(s.c.first_seen.desc(), s.c.kind.desc(), s.c.key.desc()).limit(limit)
    if kind is not None:
        query = query.where(s.c.kind == kind.value)
    if state is not None:
        query = query.where(s.c.state == state.value)
    if before is not None:
        at, of_kind, key = before.first_seen, before.kind, before.key
        is_same = (s.c.first_seen == at) & ((s.c.kind < of_kind) | ((s.c.kind == of_kind) & (s.c.key < key)))
        query = query.where((s.c.first_seen < at) | is_same)
    return [_sighting(row) for row in tx.connection.execute(query)]


def list_open(tx: ControlTx) -> list[tuple[SightingKind, str, str]]:
    """Kind, key and name of every sighting that is not adopted."""
    s = schema.sighting
    query = sa.select(s.c.kind, s.c.key, s.c.name).where(s.c.state != SightingState.ADOPTED.value)
    query = query.order_by(s.c.kind, s.c.key)
    return [(SightingKind(row.kind), row.key, row.name) for row in tx.connection.execute(query)]


def count_sightings(tx: ControlTx, kind: SightingKind) -> int:
    """How many there are."""
    s = schema.sighting
    query = sa.select(sa.func.count()).select_from(s).where(s.c.kind == kind.value)
    return int(tx.connection.execute(query).scalar_one())


def add_sightings(tx: ControlTx, sightings: Iterable[Sighting]) -> None:
    """Store new ones. Not audited: the caller knows what it means."""
    rows = [_values(sighting) for sighting in sightings]
    if rows:
        tx.connection.execute(schema.sighting.insert(), rows)


def update_sightings(tx: ControlTx, sightings: Iterable[Sighting]) -> None:
    """Store changed ones. Not audited: the caller knows what it means."""
    s = schema.sighting
    rows = [_values(sighting) for sighting in sightings]
    if not rows:
        return
    where = (s.c.kind == sa.bindparam("of_kind")) & (s.c.key == sa.bindparam("of_key"))
    tx.connection.execute(
        s.update().where(where),
        [{"of_kind": row.pop("kind"), "of_key": row.pop("key"), **row} for row in rows],
    )


def registered_agents(tx: ControlTx) -> list[tuple[str, str, tuple[str, ...]]]:
    """Of every agent in the registry: its id, its name, and the other ids by which events may name it."""
    a = schema.agent
    carried = a.c.manifest["platformIds"]["observability"].as_string()
    platforms = a.c.manifest["platformIds"]["agent"].as_string()
    rows = tx.connection.execute(sa.select(a.c.id, a.c.name, carried.label("carried"), platforms.label("platforms")))
    # The webhook's door writes the ids of agents that it does not know in lower case.
    return [(row.id, row.name, (row.carried or "", (row.platforms or "").lower())) for row in rows]


def registered_servers(tx: ControlTx) -> dict[str, str]:
    """The URL of every tool server in the registry, by id."""
    s = schema.tool_server
    return {row.id: row.url for row in tx.connection.execute(sa.select(s.c.id, s.c.url))}


# -- events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Steps:
    """Events of one slice that do not differ in what is told here.

    ``first`` is the position of the earliest, ``begin`` and ``end`` are the times of the first and the last one.
    """

    agent_id: str
    agent_name: str
    server_id: str
    server_address: str
    user: str
    tool: str
    source: str
    is_tool_call: bool
    events: int
    first: int
    begin: datetime
    end: datetime


def slice_end(activity: Activity, seq: int, limit: int) -> tuple[int, bool]:
    """The position of the last of the ``limit`` events behind ``seq`` (``seq`` if there is none), and whether there
    may be more."""
    found = activity.query(
        f"AgentActivity | where IngestSeq > {int(seq)} | sort by IngestSeq asc | take {int(limit)}"
        " | summarize Last = max(IngestSeq), Events = count()",
        1,
    ).to_pylist()[0]
    return (int(found["Last"]), found["Events"] >= limit) if found["Events"] else (seq, False)


def steps_between(activity: Activity, after: int, upto: int) -> list[Steps]:
    """What was seen behind ``after`` and up to ``upto``, in the order in which each first turned up."""
    calls = ", ".join(literal(action) for action in TOOL_CALLS)
    table = activity.query(
        f"AgentActivity | where IngestSeq > {int(after)} and IngestSeq <= {int(upto)}"
        f" | extend IsToolCall = ActionType in ({calls}), User = iff(isempty(UserId), AccountUpn, UserId)"
        " | summarize Events = count(), First = min(IngestSeq), Begin = min(Timestamp), End = max(Timestamp)"
        f" by {', '.join(f'{name} = substring({name}, 0, {LONGEST})' for name in _TOLD)}, IsToolCall"
        " | sort by First asc",
        1_000_000,
    )
    return [
        Steps(
            agent_id=row["AgentId"] or "",
            agent_name=row["AgentName"] or "",
            server_id=row["ServerId"] or "",
            server_address=row["ServerAddress"] or "",
            user=row["User"] or "",
            tool=row["ToolName"] or "",
            source=row["SourceId"] or "",
            is_tool_call=row["IsToolCall"],
            events=row["Events"],
            first=row["First"],
            begin=row["Begin"],
            end=row["End"],
        )
        for row in table.to_pylist()
    ]


_TOLD: Final = ("AgentId", "AgentName", "ServerId", "ServerAddress", "User", "ToolName", "SourceId")
