"""Alerts and incidents, as people see them.

Below ``response`` and ``portal``, above the tables. What a person may see is decided here, in the query, not by whoever
renders it: every function that serves a viewer takes the viewer's permissions. It does not know which alerts belong
together, nor how their story is told; what detection reads and writes is in ``findings``, what people change in
``triage``.

INVARIANT: whoever may read only serious alerts receives unresolved high and critical ones and nothing derived from any
other: an incident is cut down to them, and what is told of it (title, description, why alerts joined) is left empty
for the caller to retell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.cases import (
    Alert,
    AlertDraft,
    AlertStatus,
    Classification,
    Determination,
    Entity,
    EntityKind,
    EntityRole,
    Incident,
    IncidentStatus,
)
from watchfloor.model.errors import InputError
from watchfloor.model.people import Permission
from watchfloor.model.verdicts import Severity
from watchfloor.storage.schema import alert, alert_entity, incident

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

SERIOUS: Final = (Severity.HIGH, Severity.CRITICAL)
OPEN: Final = (IncidentStatus.ACTIVE.value, IncidentStatus.IN_PROGRESS.value)


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which alerts or incidents; empty means any. ``before`` is the id of the last one already seen."""

    agent_id: str = ""
    user_id: str = ""
    severities: Collection[Severity] = ()
    statuses: Collection[str] = ()
    incident_id: str = ""
    rule_id: str = ""
    before: str = ""
    by_priority: bool = False
    """Incidents with the highest priority first; ``before`` is ``priority:id`` then. For who may see all alerts."""


@dataclass(frozen=True, slots=True)
class CaseQuery:
    """Alerts or incidents by a condition over their columns. Without ``order``: newest first, and ``before`` an id."""

    condition: sa.ColumnElement[bool] | None = None
    order: tuple[sa.ColumnElement[Any], ...] = ()
    limit: int = 50
    skip: int = 0
    before: str = ""


# -- rows and values ----------------------------------------------------------------------------------------------


_KINDS: Final = {kind.value: kind for kind in EntityKind}
_ROLES: Final = {role.value: role for role in EntityRole}


def entities_from(rows: Iterable[Mapping[str, str]]) -> tuple[Entity, ...]:
    return tuple([Entity(_KINDS[r["kind"]], r["id"], r["name"], _ROLES[r["role"]]) for r in rows])


def entity_rows(entities: Iterable[Entity]) -> list[dict[str, str]]:
    return [{"kind": e.kind.value, "id": e.id, "name": e.name, "role": e.role.value} for e in entities]


def alert_from(row: sa.Row[Any]) -> Alert:
    draft = AlertDraft(
        rule_id=row.rule_id,
        dedup_key=row.dedup_key,
        title=row.title,
        description=row.description,
        severity=Severity(row.severity),
        tactic=row.tactic,
        techniques=tuple(row.techniques),
        entities=entities_from(row.entities),
        evidence=tuple(row.evidence),
        first_activity=row.first_activity,
        last_activity=row.last_activity,
        recommended_actions=tuple(row.recommended_actions),
        detail=row.detail,
    )
    return Alert(
        row.id,
        draft,
        AlertStatus(row.status),
        row.created_at,
        row.incident_id,
        row.join_reason,
        Classification(row.classification),
        Determination(row.determination),
        row.assigned_to,
        row.updated_at,
        row.resolved_at,
    )


def incident_from(row: sa.Row[Any], alert_ids: tuple[str, ...]) -> Incident:
    return Incident(
        id=row.id,
        title=row.title,
        description=row.description,
        severity=Severity(row.severity),
        status=IncidentStatus(row.status),
        created_at=row.created_at,
        updated_at=row.updated_at,
        first_activity=row.first_activity,
        last_activity=row.last_activity,
        alert_ids=alert_ids,
        entities=entities_from(row.entities),
        classification=Classification(row.classification),
        assigned_to=row.assigned_to,
        redirect_to=row.redirect_to,
        determination=Determination(row.determination),
        tags=tuple(row.tags or ()),
        priority=row.priority,
    )


# -- what a viewer may see ----------------------------------------------------------------------------------------


def sees_everything(permissions: Collection[Permission]) -> bool:
    """Whether every severity and state may be read."""
    return Permission.ALERT_READ in permissions


def _visible(permissions: Collection[Permission]) -> sa.ColumnElement[bool]:
    if sees_everything(permissions):
        return sa.true()
    if Permission.ALERT_READ_SERIOUS in permissions:
        return sa.and_(alert.c.severity.in_([s.value for s in SERIOUS]), alert.c.status != AlertStatus.RESOLVED.value)
    return sa.false()


def _involving(kind: EntityKind, entity_id: str) -> sa.ColumnElement[bool]:
    return alert.c.id.in_(
        sa.select(alert_entity.c.alert_id).where(
            alert_entity.c.kind == kind.value, alert_entity.c.entity_id == entity_id
        )
    )


def _involved(filters: CaseFilter) -> list[sa.ColumnElement[bool]]:
    conditions = []
    if filters.agent_id:
        conditions.append(_involving(EntityKind.AGENT, filters.agent_id))
    if filters.user_id:
        conditions.append(_involving(EntityKind.USER, filters.user_id))
    return conditions


def list_alerts(
    tx: ControlTx, permissions: Collection[Permission], filters: CaseFilter = CaseFilter(), limit: int = 50
) -> list[Alert]:
    """Alerts that the viewer may see, newest first."""
    query = sa.select(alert).where(_visible(permissions), *_involved(filters))
    if filters.severities:
        query = query.where(alert.c.severity.in_([s.value for s in filters.severities]))
    if filters.statuses:
        query = query.where(alert.c.status.in_(list(filters.statuses)))
    if filters.incident_id:
        query = query.where(alert.c.incident_id == filters.incident_id)
    if filters.rule_id:
        query = query.where(alert.c.rule_id == filters.rule_id)
    if filters.before:
        query = query.where(alert.c.id < filters.before)
    rows = tx.connection.execute(query.order_by(alert.c.id.desc()).limit(limit))
    return [_for_viewer(alert_from(row), permissions) for row in rows]


def find_alerts(tx: ControlTx, permissions: Collection[Permission], asked: CaseQuery) -> list[Alert]:
    """Alerts that the viewer may see, by a condition."""
    rows = tx.connection.execute(_asked(sa.select(alert).where(_visible(permissions)), alert, asked))
    return [_for_viewer(alert_from(row), permissions) for row in rows]


def count_alerts(tx: ControlTx, permissions: Collection[Permission], asked: CaseQuery) -> int:
    """How many alerts there are that ``find_alerts`` would page through."""
    query = sa.select(sa.func.count()).select_from(alert).where(_visible(permissions))
    if asked.condition is not None:
        query = query.where(asked.condition)
    return tx.connection.execute(query).scalar_one()


def _asked(query: sa.Select[Any], table: sa.Table, asked: CaseQuery) -> sa.Select[Any]:
    if asked.condition is not None:
        query = query.where(asked.condition)
    if asked.before:
        query = query.where(table.c.id < asked.before)
    return query.order_by(*asked.order, table.c.id.desc()).limit(asked.limit).offset(asked.skip)


def find_alert(tx: ControlTx, permissions: Collection[Permission], alert_id: str) -> Alert | None:
    """The alert, or None: one that may not be seen does not exist."""
    query = sa.select(alert).where(_visible(permissions), alert.c.id == alert_id)
    row = tx.connection.execute(query).one_or_none()
    return _for_viewer(alert_from(row), permissions) if row else None


def _for_viewer(value: Alert, permissions: Collection[Permission]) -> Alert:
    """Why an alert joined its incident speaks of the others in it: empty for who may not see all of them."""
    return value if sees_everything(permissions) else replace(value, join_reason="")


def alerts_by_incident(
    tx: ControlTx, condition: sa.ColumnElement[bool], incident_ids: Sequence[str]
) -> dict[str, list[Alert]]:
    query = sa.select(alert).where(condition, alert.c.incident_id.in_(incident_ids)).order_by(alert.c.id)
    grouped: defaultdict[str, list[Alert]] = defaultdict(list)
    for row in tx.connection.execute(query):
        grouped[row.incident_id].append(alert_from(row))
    return grouped


def _cut_down(whole: Incident, visible: Sequence[Alert]) -> Incident:
    """``whole`` as it would be if only ``visible`` existed; texts are empty (see the invariant)."""
    entities: dict[tuple[EntityKind, str], Entity] = {}
    for item in visible:
        entities.update({(e.kind, e.id): e for e in item.draft.entities})
    return replace(
        whole,
        title="",
        description="",
        # Critical is raised from serious alerts alone, so what is left may carry it.
        severity=max((a.draft.severity for a in visible), key=lambda s: s.rank),
        created_at=min(a.created_at for a in visible),
        updated_at=max(a.created_at for a in visible),
        first_activity=min(a.draft.first_activity for a in visible),
        last_activity=max(a.draft.last_activity for a in visible),
        alert_ids=tuple(a.id for a in visible),
        entities=tuple(entities.values()),
        classification=Classification.UNKNOWN,
        assigned_to=None,
        redirect_to=None,
        determination=Determination.UNKNOWN,
        tags=(),
        priority=0,
    )


def _present(tx: ControlTx, permissions: Collection[Permission], rows: Sequence[sa.Row[Any]]) -> list[Incident]:
    ids = [row.id for row in rows]
    if sees_everything(permissions):
        query = sa.select(alert.c.incident_id, alert.c.id).where(alert.c.incident_id.in_(ids)).order_by(alert.c.id)
        members: defaultdict[str, list[str]] = defaultdict(list)
        for incident_id, alert_id in tx.connection.execute(query):
            members[incident_id].append(alert_id)
        return [incident_from(row, tuple(members[row.id])) for row in rows]
    alerts = alerts_by_incident(tx, _visible(permissions), ids)
    return [_cut_down(incident_from(row, ()), alerts[row.id]) for row in rows if alerts[row.id]]


def _incident_visible(permissions: Collection[Permission]) -> sa.ColumnElement[bool]:
    if sees_everything(permissions):
        return sa.true()
    return sa.and_(
        incident.c.status.in_(OPEN),
        incident.c.id.in_(
            sa.select(alert.c.incident_id).where(_visible(permissions), alert.c.incident_id.is_not(None))
        ),
    )


def list_incidents(
    tx: ControlTx, permissions: Collection[Permission], filters: CaseFilter = CaseFilter(), limit: int = 50
) -> list[Incident]:
    """Incidents that the viewer may see, newest first; merged ones only when their status is asked for."""
    query = sa.select(incident).where(_incident_visible(permissions))
    involved = _involved(filters)
    if involved:
        query = query.where(incident.c.id.in_(sa.select(alert.c.incident_id).where(_visible(permissions), *involved)))
    if filters.severities and sees_everything(permissions):
        query = query.where(incident.c.severity.in_([s.value for s in filters.severities]))
    if filters.statuses:
        query = query.where(incident.c.status.in_(list(filters.statuses)))
    else:
        query = query.where(incident.c.status != IncidentStatus.REDIRECTED.value)
    order: tuple[sa.ColumnElement[Any], ...] = (incident.c.id.desc(),)
    if filters.by_priority:
        order = (incident.c.priority.desc(), *order)
    if filters.before:
        query = query.where(_after(filters))
    rows = tx.connection.execute(query.order_by(*order).limit(limit)).all()
    return _present(tx, permissions, rows)


def find_incidents(tx: ControlTx, asked: CaseQuery) -> list[Incident]:
    """Incidents by a condition, merged ones as well, for a viewer who may read every alert."""
    rows = tx.connection.execute(_asked(sa.select(incident), incident, asked)).all()
    return _present(tx, frozenset({Permission.ALERT_READ}), rows)


def count_incidents(tx: ControlTx, asked: CaseQuery) -> int:
    """How many incidents there are that ``find_incidents`` would page through."""
    query = sa.select(sa.func.count()).select_from(incident)
    if asked.condition is not None:
        query = query.where(asked.condition)
    return tx.connection.execute(query).scalar_one()


def _after(filters: CaseFilter) -> sa.ColumnElement[bool]:
    """What follows the incident that was seen last, in the order that is asked for."""
    if not filters.by_priority:
        return incident.c.id < filters.before
    priority, colon, incident_id = filters.before.partition(":")
    if not colon or not priority.isascii() or not priority.isdigit() or len(priority) > 3:
        raise InputError(f"{filters.before!r} is no place in this order.", where="before", remedy="Give `next` back.")
    same = sa.and_(incident.c.priority == int(priority), incident.c.id < incident_id)
    return sa.or_(incident.c.priority < int(priority), same)


def find_incident(tx: ControlTx, permissions: Collection[Permission], incident_id: str) -> Incident | None:
    """The incident, or None: one that may not be seen does not exist."""
    query = sa.select(incident).where(_incident_visible(permissions), incident.c.id == incident_id)
    found = _present(tx, permissions, tx.connection.execute(query).all())
    return found[0] if found else None


@dataclass(frozen=True, slots=True)
class AgentAlerts:
    """How many unresolved alerts of high or critical severity involve an agent."""

    agent_id: str
    high: int
    critical: int


def serious_alerts_by_agent(tx: ControlTx, permissions: Collection[Permission]) -> list[AgentAlerts]:
    """Agents that need attention, those with the most serious alerts first."""
    serious = sa.and_(alert.c.severity.in_([s.value for s in SERIOUS]), alert.c.status != AlertStatus.RESOLVED.value)
    query = (
        sa.select(
            alert_entity.c.entity_id,
            sa.func.count(sa.case((alert.c.severity == Severity.HIGH.value, 1))).label("high"),
            sa.func.count(sa.case((alert.c.severity == Severity.CRITICAL.value, 1))).label("critical"),
        )
        .join(alert, alert.c.id == alert_entity.c.alert_id)
        .where(alert_entity.c.kind == EntityKind.AGENT.value, serious, _visible(permissions))
        .group_by(alert_entity.c.entity_id)
    )
    found = [AgentAlerts(*row) for row in tx.connection.execute(query)]
    return sorted(found, key=lambda a: (-a.critical, -a.high, a.agent_id))


def count_open(tx: ControlTx, permissions: Collection[Permission]) -> dict[Severity, int]:
    """Unresolved alerts by severity, as far as the viewer may see them."""
    query = (
        sa.select(alert.c.severity, sa.func.count())
        .where(_visible(permissions), alert.c.status != AlertStatus.RESOLVED.value)
        .group_by(alert.c.severity)
    )
    return {Severity(severity): count for severity, count in tx.connection.execute(query)}


@dataclass(frozen=True, slots=True)
class OpenCases:
    """How many unresolved alerts, and open incidents with such alerts, involve an agent."""

    alerts: int = 0
    incidents: int = 0


def open_cases_by_agent(
    tx: ControlTx, permissions: Collection[Permission], agent_ids: Collection[str]
) -> dict[str, OpenCases]:
    """Open cases of each of these agents, as far as the viewer may see them; agents without any are left out."""
    query = (
        sa.select(
            alert_entity.c.entity_id,
            sa.func.count(sa.distinct(alert.c.id)),
            sa.func.count(sa.distinct(incident.c.id)),
        )
        .join(alert, alert.c.id == alert_entity.c.alert_id)
        .outerjoin(incident, sa.and_(incident.c.id == alert.c.incident_id, incident.c.status.in_(OPEN)))
        .where(
            alert_entity.c.kind == EntityKind.AGENT.value,
            alert_entity.c.entity_id.in_(list(agent_ids)),
            alert.c.status != AlertStatus.RESOLVED.value,
            _visible(permissions),
        )
        .group_by(alert_entity.c.entity_id)
    )
    return {agent_id: OpenCases(alerts, incidents) for agent_id, alerts, incidents in tx.connection.execute(query)}
