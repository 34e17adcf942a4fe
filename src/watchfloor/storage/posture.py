"""Posture in control state: findings, the risk of agents, exceptions, and what was counted each day.

Below ``detection.posture_scan``, which says what is true, and the portal. A finding stays when it ends, so that it is
known when it held last. Exceptions are audited one by one, scans by what they changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.errors import NotFound
from watchfloor.model.posture import RiskBand, Weight
from watchfloor.storage.changes import differences, read_setting, upsert, write_setting
from watchfloor.storage.schema import agent
from watchfloor.storage.schema_posture import posture_agent, posture_day, posture_exception, posture_finding

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

Key = tuple[str, str]
"""An agent and an indicator."""

_SCANNED: Final = "posture:scanned"


@dataclass(frozen=True, slots=True)
class Finding:
    """An indicator that holds for an agent (``ended_at`` None), or did until then. ``evidence`` is JSON."""

    agent_id: str
    indicator: str
    level: Weight
    evidence: str
    since: datetime
    ended_at: datetime | None = None

    @property
    def key(self) -> Key:
        """The agent and the indicator."""
        return self.agent_id, self.indicator


@dataclass(frozen=True, slots=True)
class AgentPosture:
    """How risky an agent is, since when, and why. ``not_assessed``: indicators of which nothing is known."""

    agent_id: str
    band: RiskBand
    likelihood: Weight | None
    impact: Weight | None
    reasons: tuple[str, ...]
    not_assessed: tuple[str, ...]
    since: datetime


@dataclass(frozen=True, slots=True)
class Exemption:
    """A finding that somebody accepts until ``expires_at``, with the reason."""

    agent_id: str
    indicator: str
    reason: str
    created_at: datetime
    created_by: str
    expires_at: datetime

    @property
    def key(self) -> Key:
        """The agent and the indicator."""
        return self.agent_id, self.indicator


@dataclass(frozen=True, slots=True)
class FindingFilter:
    """Which findings; empty means any. ``hidden``: indicators of which only grave findings are told."""

    agent_id: str = ""
    indicator: str = ""
    level: Weight | None = None
    band: RiskBand | None = None
    ended: bool = False
    excepted: bool | None = None
    hidden: Collection[str] = ()


# -- findings -----------------------------------------------------------------------------------------------------


def list_findings(tx: ControlTx, agent_id: str | None = None) -> dict[Key, Finding]:
    """Every finding, of one agent or of all, those that ended among them."""
    f = posture_finding
    query = sa.select(f.c.agent_id, f.c.indicator, f.c.level, f.c.evidence, f.c.since, f.c.ended_at)
    if agent_id is not None:
        query = query.where(f.c.agent_id == agent_id)
    return {one.key: one for row in tx.connection.execute(query) for one in (_finding(row),)}


def find_findings(tx: ControlTx, filters: FindingFilter, now: datetime, *, after: str, limit: int) -> list[Finding]:
    """Findings by agent and indicator, behind ``after`` (``agent/indicator``)."""
    f = posture_finding
    query = sa.select(f).where(_asked(filters, now)).order_by(f.c.agent_id, f.c.indicator).limit(limit)
    if after:
        agent_id, _, indicator = after.rpartition("/")
        query = query.where(sa.tuple_(f.c.agent_id, f.c.indicator) > sa.tuple_(agent_id, indicator))
    return [_finding(row) for row in tx.connection.execute(query)]


def count_findings(tx: ControlTx, filters: FindingFilter, now: datetime) -> dict[str, int]:
    """How many findings there are, by indicator."""
    f = posture_finding
    query = sa.select(f.c.indicator, sa.func.count()).where(_asked(filters, now)).group_by(f.c.indicator)
    return {row[0]: row[1] for row in tx.connection.execute(query)}


@dataclass(frozen=True, slots=True)
class Known:
    """What a scan compares with: a finding without its times."""

    level: str
    evidence: str
    is_open: bool


def list_known(tx: ControlTx) -> dict[Key, Known]:
    """Every finding as a scan compares it. There may be tens of thousands: their times are not read."""
    f = posture_finding
    query = sa.select(f.c.agent_id, f.c.indicator, f.c.level, f.c.evidence, f.c.ended_at.is_(None))
    return {
        (agent_id, indicator): Known(level, evidence, bool(is_open))
        for agent_id, indicator, level, evidence, is_open in tx.connection.execute(query)
    }


def add_findings(tx: ControlTx, found: Sequence[Finding]) -> None:
    """Store findings that were never there."""
    tx.connection.execute(posture_finding.insert(), [_columns(one) for one in found])


def change_findings(tx: ControlTx, found: Sequence[Finding]) -> None:
    """Store what findings that hold weigh and were found by now; they began when they began."""
    _update(tx, ("level", "evidence"), found)


def reopen_findings(tx: ControlTx, found: Sequence[Finding]) -> None:
    """Store findings that had ended and hold again."""
    _update(tx, ("level", "evidence", "since", "ended_at"), found)


def end_findings(tx: ControlTx, keys: Sequence[Key], at: datetime) -> None:
    """These hold no more."""
    f = posture_finding
    statement = f.update().where(_OF_ONE).values(ended_at=sa.bindparam("new_ended_at", type_=f.c.ended_at.type))
    rows = [{"of_agent": agent_id, "of_indicator": i, "new_ended_at": at} for agent_id, i in keys]
    tx.connection.execute(statement, rows)


def _update(tx: ControlTx, names: Sequence[str], found: Sequence[Finding]) -> None:
    f = posture_finding
    values = {name: sa.bindparam(f"new_{name}", type_=f.c[name].type) for name in names}
    rows = [
        {"of_agent": one.agent_id, "of_indicator": one.indicator, **{f"new_{n}": _columns(one)[n] for n in names}}
        for one in found
    ]
    tx.connection.execute(f.update().where(_OF_ONE).values(values), rows)


_OF_ONE: Final = sa.and_(
    posture_finding.c.agent_id == sa.bindparam("of_agent"), posture_finding.c.indicator == sa.bindparam("of_indicator")
)


def _columns(one: Finding) -> dict[str, Any]:
    return {
        "agent_id": one.agent_id, "indicator": one.indicator, "level": one.level.value, "evidence": one.evidence,
        "since": one.since, "ended_at": one.ended_at,
    }  # fmt: skip


def _finding(row: Any) -> Finding:
    return Finding(row.agent_id, row.indicator, _WEIGHTS[row.level], row.evidence, row.since, row.ended_at)


def _asked(filters: FindingFilter, now: datetime) -> sa.ColumnElement[bool]:
    f, x, a = posture_finding, posture_exception, posture_agent
    where: list[sa.ColumnElement[bool]] = [f.c.ended_at.is_not(None) if filters.ended else f.c.ended_at.is_(None)]
    if filters.agent_id:
        where.append(f.c.agent_id == filters.agent_id)
    if filters.indicator:
        where.append(f.c.indicator == filters.indicator)
    if filters.level is not None:
        where.append(f.c.level == filters.level.value)
    if filters.band is not None:
        where.append(f.c.agent_id.in_(sa.select(a.c.agent_id).where(a.c.band == filters.band.value)))
    if filters.hidden:
        grave = (Weight.HIGH.value, Weight.CRITICAL.value)
        where.append(
            sa.or_(f.c.indicator.not_in(list(filters.hidden)), sa.and_(f.c.level.in_(grave), f.c.ended_at.is_(None)))
        )
    if filters.excepted is not None:
        accepted = sa.exists().where(x.c.agent_id == f.c.agent_id, x.c.indicator == f.c.indicator, x.c.expires_at > now)
        where.append(accepted if filters.excepted else ~accepted)
    return sa.and_(*where)


# -- agents -------------------------------------------------------------------------------------------------------


def list_agents(tx: ControlTx, agent_id: str | None = None) -> dict[str, AgentPosture]:
    """What is known of each agent's posture, of one or of all."""
    a = posture_agent
    columns = (a.c.agent_id, a.c.band, a.c.likelihood, a.c.impact, a.c.reasons, a.c.not_assessed, a.c.since)
    query = sa.select(*columns)
    if agent_id is not None:
        query = query.where(a.c.agent_id == agent_id)
    return {
        found: AgentPosture(
            found, _BANDS[band], _WEIGHTS.get(likelihood), _WEIGHTS.get(impact), tuple(reasons), tuple(unknown), since
        )
        for found, band, likelihood, impact, reasons, unknown, since in tx.connection.execute(query)
    }


def bands(tx: ControlTx, agent_id: str | None = None) -> dict[str, RiskBand]:
    """The risk of agents that were looked at, by id; of one, or of all."""
    a = posture_agent
    query = sa.select(a.c.agent_id, a.c.band)
    if agent_id is not None:
        query = query.where(a.c.agent_id == agent_id)
    return {found: _BANDS[band] for found, band in tx.connection.execute(query)}


def registered(tx: ControlTx) -> dict[str, str]:
    """Agents that the registry has and that are not retired: their names by id."""
    query = sa.select(agent.c.id, agent.c.name).where(agent.c.state != "retired")
    return {row[0]: row[1] for row in tx.connection.execute(query)}


def write_agents(tx: ControlTx, found: Iterable[AgentPosture], known: Collection[str]) -> None:
    """Store what is known of agents; those in ``known`` have a row already."""
    a = posture_agent
    added, changed = [], []
    for one in found:
        row = {
            "band": one.band.value,
            "likelihood": one.likelihood.value if one.likelihood else "",
            "impact": one.impact.value if one.impact else "",
            "reasons": list(one.reasons),
            "not_assessed": list(one.not_assessed),
            "since": one.since,
        }
        if one.agent_id in known:
            changed.append({"of_agent": one.agent_id, **{f"new_{name}": value for name, value in row.items()}})
        else:
            added.append({"agent_id": one.agent_id, **row})
    if added:
        tx.connection.execute(a.insert(), added)
    if changed:
        values = {c.name: sa.bindparam(f"new_{c.name}", type_=c.type) for c in a.c if c.name != "agent_id"}
        tx.connection.execute(a.update().where(a.c.agent_id == sa.bindparam("of_agent")).values(values), changed)


def forget(tx: ControlTx, agent_ids: Iterable[str]) -> None:
    """Forget agents that are there no more, with their findings and exceptions."""
    gone = [{"gone": agent_id} for agent_id in agent_ids]
    if gone:
        for table in (posture_finding, posture_agent, posture_exception):
            tx.connection.execute(table.delete().where(table.c.agent_id == sa.bindparam("gone")), gone)


# -- exceptions ---------------------------------------------------------------------------------------------------


def list_exceptions(tx: ControlTx, agent_id: str | None = None) -> dict[Key, Exemption]:
    """Every exception, those that have expired among them; of one agent, or of all."""
    x = posture_exception
    query = sa.select(x).order_by(x.c.agent_id, x.c.indicator)
    if agent_id is not None:
        query = query.where(x.c.agent_id == agent_id)
    rows = tx.connection.execute(query)
    return {one.key: one for row in rows for one in (Exemption(**dict(row._mapping)),)}


def save_exception(tx: ControlTx, one: Exemption) -> None:
    """Accept a finding until a day."""
    before = list_exceptions(tx, one.agent_id).get(one.key)
    values = {name: getattr(one, name) for name in Exemption.__dataclass_fields__}
    upsert(tx, posture_exception, values, before is not None)
    change = differences(before, one, ignore=("created_at", "created_by"))
    tx.audit("posture:except", f"agent/{one.agent_id}", {"indicator": one.indicator, **change})


def delete_exception(tx: ControlTx, agent_id: str, indicator: str) -> None:
    """Accept the finding no longer. Raises ``NotFound``."""
    x = posture_exception
    done = tx.connection.execute(x.delete().where(x.c.agent_id == agent_id, x.c.indicator == indicator))
    if not done.rowcount:
        raise NotFound(f"agent {agent_id!r} has no exception of {indicator!r}.", where="indicator")
    tx.audit("posture:no-exception", f"agent/{agent_id}", {"indicator": indicator})


# -- scans and days -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scanned:
    """The last scan: when, how far the audit log was, and when it was first seen to be there."""

    at: datetime
    audit: int
    seen: datetime


def last_scan(tx: ControlTx) -> Scanned | None:
    """The last scan, or None before the first."""
    stored = read_setting(tx, _SCANNED)
    if stored is None:
        return None
    return Scanned(datetime.fromisoformat(stored["at"]), stored["audit"], datetime.fromisoformat(stored["seen"]))


def note_scan(tx: ControlTx, scanned: Scanned) -> None:
    """Remember a scan."""
    write_setting(
        tx, _SCANNED, {"at": scanned.at.isoformat(), "audit": scanned.audit, "seen": scanned.seen.isoformat()}
    )


def write_day(tx: ControlTx, day: str, body: Mapping[str, Any]) -> None:
    """What was counted on ``day`` (ISO), in place of what was counted on it before."""
    known = tx.connection.execute(sa.select(posture_day.c.day).where(posture_day.c.day == day)).first()
    upsert(tx, posture_day, {"day": day, "body": dict(body)}, known is not None)


def list_days(tx: ControlTx, since: str) -> list[tuple[str, dict[str, Any]]]:
    """What was counted on each day from ``since`` (ISO) on, the oldest first."""
    d = posture_day
    query = sa.select(d.c.day, d.c.body).where(d.c.day >= since).order_by(d.c.day)
    return [(row.day, row.body) for row in tx.connection.execute(query)]


_WEIGHTS: Final = {weight.value: weight for weight in Weight}
_BANDS: Final = {band.value: band for band in RiskBand}
