"""When each agent was active in an incident: spans of alerts that lie near each other, and whose only one a span is.

Above the tables, below ``detection``. An alert shares its agent with one near it exactly if its span is not its alone,
so a new alert needs to look at the spans around it and at nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from watchfloor.storage.schema import incident_agent_span as span

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_LONGEST_ID: Final = 300


@dataclass(frozen=True, slots=True)
class Active:
    """An alert's activity, with the agents that it names."""

    alert_id: str
    agents: frozenset[str]
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class _Span:
    first: datetime
    last: datetime
    alert_id: str | None


def add(tx: ControlTx, activity: Mapping[str, Sequence[Active]], within: timedelta) -> set[str]:
    """Take in new or longer activity, by incident; the ids of the alerts that share an agent with one near them.

    Of the alerts that are not in ``activity`` those that did not share any before, of those in it all.
    """
    sharing: set[str] = set()
    gone: list[dict[str, object]] = []
    fresh: list[dict[str, object]] = []
    for incident_id, alerts in activity.items():
        by_agent: defaultdict[str, list[Active]] = defaultdict(list)
        for alert in sorted(alerts, key=lambda a: (a.first, a.alert_id)):
            for agent_id in {agent_id[:_LONGEST_ID] for agent_id in alert.agents}:
                by_agent[agent_id].append(alert)
        if not by_agent:
            continue
        stored = _near(tx, incident_id, by_agent, alerts, within)
        for agent_id, members in by_agent.items():
            before = stored.get(agent_id, [])
            spans = list(before)
            for alert in members:
                spans = _with(spans, alert, within, sharing)
            for alert in members:
                if any(s.alert_id is None and s.first <= alert.first <= s.last for s in spans):
                    sharing.add(alert.alert_id)
            key = {"at_incident": incident_id, "at_agent": agent_id}
            gone += [{**key, "at_first": s.first} for s in before if s not in spans]
            fresh += [_row(incident_id, agent_id, s) for s in spans if s not in before]
    if gone:
        tx.connection.execute(_DELETE, gone)
    if fresh:
        tx.connection.execute(span.insert(), fresh)
    return sharing


def forget(tx: ControlTx, incident_ids: Iterable[str]) -> None:
    """Forget all activity in these incidents."""
    tx.connection.execute(span.delete().where(span.c.incident_id.in_(list(incident_ids))))


def sharing_of(tx: ControlTx, incident_id: str, alert: Active) -> bool:
    """Whether an alert of the incident shares an agent with one near it."""
    shared = sa.select(span.c.agent_id).where(
        span.c.incident_id == incident_id,
        span.c.agent_id.in_([agent_id[:_LONGEST_ID] for agent_id in alert.agents]),
        span.c.alert_id.is_(None),
        span.c.first_activity <= alert.first,
        span.c.last_activity >= alert.first,
    )
    return tx.connection.execute(shared.limit(1)).first() is not None


def _with(spans: list[_Span], alert: Active, within: timedelta, sharing: set[str]) -> list[_Span]:
    """``spans`` with an alert's activity taken in; who gains a neighbour by it is added to ``sharing``."""
    near = [s for s in spans if s.first <= alert.last + within and s.last >= alert.first - within]
    others = {s.alert_id for s in near} - {alert.alert_id}
    if others:
        sharing |= {alone for alone in others if alone is not None} | {alert.alert_id}
    joined = _Span(
        min([alert.first, *(s.first for s in near)]),
        max([alert.last, *(s.last for s in near)]),
        None if others else alert.alert_id,
    )
    return [*(s for s in spans if s not in near), joined]


def _near(
    tx: ControlTx, incident_id: str, agents: Iterable[str], alerts: Sequence[Active], within: timedelta
) -> dict[str, list[_Span]]:
    values = {
        "incident": incident_id,
        "agents": sorted(agents),
        "until": max(a.last for a in alerts) + within,
        "since": min(a.first for a in alerts) - within,
    }
    found: defaultdict[str, list[_Span]] = defaultdict(list)
    for row in tx.connection.execute(_NEAR, values):
        found[row.agent_id].append(_Span(row.first_activity, row.last_activity, row.alert_id))
    return found


def _row(incident_id: str, agent_id: str, value: _Span) -> dict[str, object]:
    return {
        "incident_id": incident_id, "agent_id": agent_id, "first_activity": value.first,
        "last_activity": value.last, "alert_id": value.alert_id,
    }  # fmt: skip


_NEAR: Final = sa.select(span).where(
    span.c.incident_id == sa.bindparam("incident"),
    span.c.agent_id.in_(sa.bindparam("agents", expanding=True)),
    span.c.first_activity <= sa.bindparam("until"),
    span.c.last_activity >= sa.bindparam("since"),
)
_DELETE: Final = span.delete().where(
    span.c.incident_id == sa.bindparam("at_incident"),
    span.c.agent_id == sa.bindparam("at_agent"),
    span.c.first_activity == sa.bindparam("at_first"),
)
