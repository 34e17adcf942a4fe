"""From control state into the event log: the newest rows of each thing, once, and again when it changed.

``registry.snapshots`` and ``detection.publishing`` say what there is to be seen of agents, people and alerts; this
keeps what was said last of each (``inventory_snapshot``) and appends what differs. Below them, beside the log. It does
not know what a row means, nor how often it is called.

INVARIANT: what was published last of a thing is what it is, once publishing has run. A thing is *claimed* before its
rows are appended and *settled* after. Whoever finds a claim to publish the very same finishes it under the same ticket,
of which the rows' keys are made; whoever has something else to publish takes a new one. So a death at any point repeats
work, doubles no row, and leaves nothing behind that is no longer true.
INVARIANT: the rows of a thing carry growing times, whatever the clocks of the hosts that published them.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson
import sqlalchemy as sa

from watchfloor.model.agents import VersionState
from watchfloor.model.cases import Alert
from watchfloor.storage.cases import alert_from
from watchfloor.storage.changes import read_setting, write_setting
from watchfloor.storage.log import DEFAULT_PART
from watchfloor.storage.ports import EventLog, KeyedBatch
from watchfloor.storage.schema import agent_version, alert, audit, incident, inventory_snapshot
from watchfloor.storage.tables import TABLES

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore

ALERTS: Final = "alert"
"""The kind under which alerts are remembered."""

_ACTOR: Final = "system:publishing"
_CLAIM: Final = "claim:"
_AT_ONCE: Final = 200
_HALF: Final = 32
_LATE: Final = timedelta(minutes=10)
"""How far the clocks of two hosts, and the end of a transaction from its beginning, may lie apart."""

_TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was published last of a thing, and when; or, with ``is_claim``, that somebody began to publish it.

    A thing that is never repeated is looked at until it has been at rest for a while: then ``taken_at`` is when it was
    found to be what it had been.
    """

    key: str
    hash: str
    taken_at: datetime

    @property
    def is_claim(self) -> bool:
        """Whether the rows that belong to it may be in the log, and may be not."""
        return self.hash.startswith(_CLAIM)


@dataclass(frozen=True, slots=True)
class Subject:
    """A thing as it is to be seen: ``rows`` by table, without time, tenant and id of the row.

    ``matters`` is what has to be seen at once when it differs; all of the rows, unless given. ``is_closed``: nothing
    will happen to it any more, so it is not repeated. ``is_gone``: these are its last rows, and then it is forgotten.
    """

    key: str
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    matters: Any = None
    is_closed: bool = False
    is_gone: bool = False

    @property
    def hash(self) -> str:
        """64 characters: the first half is of what matters, the second of everything."""
        return _digest(self.rows if self.matters is None else self.matters)[:_HALF] + _digest(self.rows)[:_HALF]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many things were published. Not ``is_complete``: somebody else published some of them at the same moment,
    and perhaps as they were before."""

    published: int
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Pace:
    """How often. ``again``: a thing that did not change is repeated after this; None means never.

    ``details``: a change of what does not matter is published when the last rows are as old as this.
    """

    again: timedelta | None = None
    details: timedelta = timedelta(0)


def list_snapshots(tx: ControlTx, kind: str, keys: Iterable[str] | None = None) -> dict[str, Snapshot]:
    """What was published last of things of one kind, by key; of ``keys``, or of all."""
    s = inventory_snapshot
    query = sa.select(s.c.key, s.c.hash, s.c.taken_at).where(s.c.kind == kind)
    if keys is not None:
        query = query.where(s.c.key.in_(list(keys)))
    return {row.key: Snapshot(row.key, row.hash, row.taken_at) for row in tx.connection.execute(query)}


def publish(
    control: SqlControlStore,
    log: EventLog,
    kind: str,
    subjects: Iterable[Subject],
    known: Mapping[str, Snapshot],
    *,
    tenant: str,
    now: datetime,
    pace: Pace,
) -> Outcome:
    """Append the rows of those ``subjects`` that are due.

    ``subjects`` and ``known`` must have been read in one transaction, and ``now`` not after it. Safe to run twice, at
    the same moment, by any number of servers. Raises ``Unavailable`` if log or database does not answer; what was not
    finished then is due at the next run.
    """
    due, at_rest = [], []
    for subject in subjects:
        before = known.get(subject.key)
        if _is_due(subject, before, now, pace):
            due.append(subject)
        elif pace.again is None and before and before.hash == subject.hash and now - before.taken_at >= _LATE:
            at_rest.append(before)
    if at_rest:
        with control.tx(_ACTOR, audited=False) as tx:
            for before in at_rest:
                _move(tx, kind, before, before.hash, now)
    published = 0
    for start in range(0, len(due), _AT_ONCE):
        with control.tx(_ACTOR, audited=False) as tx:
            claims = [
                claim
                for subject in due[start : start + _AT_ONCE]
                if (claim := _claim(tx, kind, subject, known.get(subject.key), now))
            ]
        if not claims:
            continue
        log.append_once(DEFAULT_PART, list(_batches(claims, kind, tenant)))
        with control.tx(_ACTOR, audited=False) as tx:
            for claim in claims:
                _settle(tx, kind, claim)
        published += len(claims)
    return Outcome(published, is_complete=published == len(due))


@dataclass(frozen=True, slots=True)
class _Claim:
    subject: Subject
    ticket: str
    at: datetime


def _is_due(subject: Subject, before: Snapshot | None, now: datetime, pace: Pace) -> bool:
    if before is None or before.is_claim:
        return True
    fresh = subject.hash
    if before.hash[:_HALF] != fresh[:_HALF]:
        return True
    age = now - before.taken_at
    if before.hash != fresh and age >= pace.details:
        return True
    return pace.again is not None and not subject.is_closed and age >= pace.again


def _claim(tx: ControlTx, kind: str, subject: Subject, before: Snapshot | None, now: datetime) -> _Claim | None:
    """The right to publish ``subject``; None if somebody has changed what is remembered since it was read."""
    s = inventory_snapshot
    ticket = _ticket(subject, before)
    if before is not None:
        at = max(now, before.taken_at + _TICK)
        return _Claim(subject, ticket, at) if _move(tx, kind, before, ticket, at) else None
    mine = sa.and_(s.c.kind == kind, s.c.key == subject.key)
    if tx.connection.execute(sa.select(s.c.key).where(mine)).first() is not None:
        return None
    tx.connection.execute(s.insert().values(kind=kind, key=subject.key, hash=ticket, taken_at=now))
    return _Claim(subject, ticket, now)


def _ticket(subject: Subject, before: Snapshot | None) -> str:
    """64 characters: that it is a claim, something that was never there before, and what is to be published."""
    content = _digest(subject.hash)[:_HALF]
    if before is not None and before.is_claim and before.hash.endswith(content):
        return before.hash
    return _CLAIM + secrets.token_hex((64 - len(_CLAIM) - _HALF) // 2) + content


def _move(tx: ControlTx, kind: str, before: Snapshot, to: str, at: datetime) -> bool:
    """Change what is remembered; False if it is not what was read any more."""
    s = inventory_snapshot
    unchanged = sa.and_(
        s.c.kind == kind, s.c.key == before.key, s.c.hash == before.hash, s.c.taken_at == before.taken_at
    )
    return bool(tx.connection.execute(s.update().where(unchanged).values(hash=to, taken_at=at)).rowcount)


def _settle(tx: ControlTx, kind: str, claim: _Claim) -> None:
    """Remember what was published, unless somebody has done so under the same ticket."""
    s = inventory_snapshot
    mine = sa.and_(s.c.kind == kind, s.c.key == claim.subject.key, s.c.hash == claim.ticket)
    # The time stays that of the last claim: nobody who shared the ticket has appended a row with a later one.
    statement = (
        s.delete().where(mine) if claim.subject.is_gone else s.update().where(mine).values(hash=claim.subject.hash)
    )
    tx.connection.execute(statement)


def _batches(claims: Sequence[_Claim], kind: str, tenant: str) -> Iterator[KeyedBatch]:
    rows: dict[str, list[dict[str, Any]]] = {}
    keys: dict[str, list[bytes]] = {}
    for claim in claims:
        subject = claim.subject
        parts = "\0".join((tenant, kind, subject.key, subject.hash, claim.ticket))
        key = hashlib.blake2b(parts.encode(), digest_size=16).digest()
        for table, found in subject.rows.items():
            for number, row in enumerate(found):
                common = {"Timestamp": claim.at, "TenantId": tenant, "ReportId": f"snp_{key.hex()}_{number}"}
                rows.setdefault(table, []).append({**row, **common})
                keys.setdefault(table, []).append(key)
    for table, found in rows.items():
        yield KeyedBatch(TABLES[table].batch(found), keys[table])


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


# -- whether there is anything to do ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Position:
    """How much of what happened to control state has been published: the number of its last audit entry, and when."""

    audit: int
    at: datetime


def position(tx: ControlTx, now: datetime) -> Position:
    """Where control state stands."""
    return Position(tx.connection.execute(sa.select(sa.func.max(audit.c.seq))).scalar() or 0, now)


def is_published(tx: ControlTx, kinds: Sequence[str], now: datetime) -> bool:
    """Whether nothing has happened since all things of ``kinds`` were looked at, a few minutes ago at most.

    Every change to control state leaves an audit entry, so this is cheap to know; the minutes make sure all the same.
    """
    done = read_setting(tx, _setting(kinds))
    if done is None:
        return False
    age = now - datetime.fromisoformat(done["at"])
    s = inventory_snapshot
    claimed = sa.select(s.c.key).where(s.c.kind.in_(kinds), s.c.hash.startswith(_CLAIM)).limit(1)
    return (
        timedelta(0) <= age < _LATE
        and done["audit"] == position(tx, now).audit
        and tx.connection.execute(claimed).first() is None
    )


def note_published(control: SqlControlStore, kinds: Sequence[str], upto: Position) -> None:
    """Remember that all things of ``kinds`` have been published as they were at ``upto``."""
    with control.tx(_ACTOR, audited=False) as tx:
        write_setting(tx, _setting(kinds), {"audit": upto.audit, "at": upto.at.isoformat()})


def _setting(kinds: Sequence[str]) -> str:
    return f"published:{','.join(kinds)}"


# -- what is read to be published ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Build:
    """When a build was declared, and by whom."""

    at: datetime
    by: str


def list_builds(tx: ControlTx) -> dict[tuple[str, str], Build]:
    """Every build that was ever live, by agent and version: as it was declared last."""
    v = agent_version
    was_live = v.c.state.in_([VersionState.LIVE.value, VersionState.SUPERSEDED.value, VersionState.BLOCKED.value])
    query = sa.select(v.c.agent_id, v.c.version, v.c.created_at, v.c.created_by).where(was_live).order_by(v.c.number)
    return {(r.agent_id, r.version): Build(r.created_at, r.created_by) for r in tx.connection.execute(query)}


def list_fresh_alerts(tx: ControlTx, after: str, limit: int) -> list[Alert]:
    """Alerts behind the id ``after``, by id, that were never published or may have changed since.

    Every change of an alert touches its incident. Sees every alert: for what has no viewer.
    """
    a, s, i = alert, inventory_snapshot, incident
    changed_at, taken_at = (sa.type_coerce(column, sa.BigInteger) for column in (i.c.updated_at, s.c.taken_at))
    query = (
        sa.select(a)
        .outerjoin(s, sa.and_(s.c.kind == ALERTS, s.c.key == a.c.id))
        .outerjoin(i, i.c.id == a.c.incident_id)
        .where(
            a.c.id > after,
            sa.or_(
                s.c.key.is_(None),
                s.c.hash.startswith(_CLAIM),
                i.c.id.is_(None),
                changed_at >= taken_at - _LATE // _TICK,
            ),
        )
        .order_by(a.c.id)
        .limit(limit)
    )
    return [alert_from(row) for row in tx.connection.execute(query)]
