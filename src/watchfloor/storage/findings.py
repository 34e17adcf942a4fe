"""What detection reads and writes: cursors, findings as alerts, alerts as members of incidents.

Below ``detection`` alone, above the tables. Everything here sees every alert, so nothing here serves a viewer: that is
``cases``. It does not know which alerts belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from watchfloor.model.cases import Alert, AlertDraft, AlertStatus, Entity, EntityKind, Incident, IncidentStatus
from watchfloor.model.errors import NotFound
from watchfloor.model.ids import new_id
from watchfloor.storage.cases import OPEN, alert_from, alerts_by_incident, entity_rows, incident_from
from watchfloor.storage.schema import alert, alert_entity, incident, rule_cursor

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

# -- detection: cursors and findings ------------------------------------------------------------------------------


def read_cursor(tx: ControlTx, name: str) -> int:
    """How far ``name`` has read the event store; 0 if it never has."""
    query = sa.select(rule_cursor.c.ingest_seq).where(rule_cursor.c.name == name)
    return tx.connection.execute(query).scalar_one_or_none() or 0


def move_cursor(tx: ControlTx, name: str, expected: int, to: int) -> bool:
    """Move the cursor of ``name`` from ``expected`` to ``to``; False if somebody else moved it meanwhile.

    Called in the transaction that stores what was found up to ``to``: both happen, or neither does.
    """
    if read_cursor(tx, name) != expected:
        return False
    if expected == 0:
        tx.connection.execute(rule_cursor.delete().where(rule_cursor.c.name == name))
        tx.connection.execute(rule_cursor.insert().values(name=name, ingest_seq=to))
    else:
        tx.connection.execute(rule_cursor.update().where(rule_cursor.c.name == name).values(ingest_seq=to))
    return True


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a draft. ``reopened``: the alert had been resolved, and it went on."""

    alert: Alert
    is_new: bool
    has_grown: bool
    reopened: bool = False


def save_draft(tx: ControlTx, draft: AlertDraft) -> Saved:
    """Store ``draft`` once: a known one takes over more evidence, never less.

    A resolved alert with activity later than what was known when it was resolved is new again.
    """
    query = sa.select(alert).where(alert.c.rule_id == draft.rule_id, alert.c.dedup_key == draft.dedup_key)
    row = tx.connection.execute(query).one_or_none()
    values: dict[str, Any] = {
        "title": draft.title,
        "description": draft.description,
        "severity": draft.severity.value,
        "tactic": draft.tactic,
        "techniques": list(draft.techniques),
        "entities": entity_rows(draft.entities),
        "evidence": list(draft.evidence),
        "recommended_actions": list(draft.recommended_actions),
        "detail": dict(draft.detail),
        "first_activity": draft.first_activity,
        "last_activity": draft.last_activity,
    }
    if row is None:
        alert_id = new_id("alr")
        tx.connection.execute(
            alert.insert().values(
                id=alert_id,
                rule_id=draft.rule_id,
                dedup_key=draft.dedup_key,
                status=AlertStatus.NEW.value,
                incident_id=None,
                join_reason="",
                created_at=tx.now,
                **values,
            )
        )
        _index_entities(tx, alert_id, draft.entities)
        return Saved(Alert(alert_id, draft, AlertStatus.NEW, tx.now, None), is_new=True, has_grown=False)
    known = alert_from(row)
    if draft.detail.get("count", 0) <= known.draft.detail.get("count", 0):
        return Saved(known, is_new=False, has_grown=False)
    reopened = known.status is AlertStatus.RESOLVED and draft.last_activity > known.draft.last_activity
    values["updated_at"] = tx.now
    if reopened:
        values |= {"status": AlertStatus.NEW.value, "resolved_at": None}
    tx.connection.execute(alert.update().where(alert.c.id == known.id).values(**values))
    _index_entities(tx, known.id, draft.entities)
    status = AlertStatus.NEW if reopened else known.status
    return Saved(replace(known, draft=draft, status=status), is_new=False, has_grown=True, reopened=reopened)


def _index_entities(tx: ControlTx, alert_id: str, entities: Iterable[Entity]) -> None:
    tx.connection.execute(alert_entity.delete().where(alert_entity.c.alert_id == alert_id))
    rows = {(e.kind.value, e.id[:300], e.role.value) for e in entities}
    if rows:
        tx.connection.execute(
            alert_entity.insert(),
            [{"alert_id": alert_id, "kind": k, "entity_id": i, "role": r} for k, i, r in sorted(rows)],
        )


def has_alert_since(tx: ControlTx, rule_id: str, kind: EntityKind, entity_id: str, since: datetime) -> bool:
    """Whether ``rule_id`` has raised an alert about the entity with activity at or after ``since``."""
    query = (
        sa.select(alert.c.id)
        .join(alert_entity, alert_entity.c.alert_id == alert.c.id)
        .where(
            alert.c.rule_id == rule_id,
            alert.c.last_activity >= since,
            alert_entity.c.kind == kind.value,
            alert_entity.c.entity_id == entity_id[:300],
        )
        .limit(1)
    )
    return tx.connection.execute(query).first() is not None


# -- correlation ------------------------------------------------------------------------------


def linked_incidents(tx: ControlTx, key: str, first: datetime, last: datetime, within: timedelta) -> list[Incident]:
    """Open incidents of ``key`` whose activity lies within ``within`` of ``first`` to ``last``, oldest first."""
    query = (
        sa.select(incident)
        .where(
            incident.c.correlation_key == key,
            incident.c.status.in_(OPEN),
            incident.c.first_activity <= last + within,
            incident.c.last_activity >= first - within,
        )
        .order_by(incident.c.created_at, incident.c.id)
    )
    return [incident_from(row, ()) for row in tx.connection.execute(query)]


def resolved_incident_before(tx: ControlTx, key: str, first: datetime, within: timedelta) -> str | None:
    """The resolved incident of ``key`` that activity from ``first`` on would have joined, or None."""
    query = (
        sa.select(incident.c.id)
        .where(
            incident.c.correlation_key == key,
            incident.c.status == IncidentStatus.RESOLVED.value,
            incident.c.last_activity >= first - within,
        )
        .order_by(incident.c.last_activity.desc())
        .limit(1)
    )
    return tx.connection.execute(query).scalar_one_or_none()


def merged_by_hand(tx: ControlTx, key: str, first: datetime, last: datetime, within: timedelta) -> str | None:
    """The open incident of another key that people have merged one of ``key`` into, which this activity would join."""
    survivor = incident.alias()
    query = (
        sa.select(survivor.c.id)
        .join(incident, incident.c.redirect_to == survivor.c.id)
        .where(
            incident.c.correlation_key == key,
            survivor.c.correlation_key != key,
            survivor.c.status.in_(OPEN),
            incident.c.first_activity <= last + within,
            incident.c.last_activity >= first - within,
        )
        .order_by(survivor.c.created_at, survivor.c.id)
        .limit(1)
    )
    return tx.connection.execute(query).scalar_one_or_none()


def key_of(tx: ControlTx, incident_id: str) -> str:
    """What the incident's alerts are joined by. Raises ``NotFound``."""
    query = sa.select(incident.c.correlation_key).where(incident.c.id == incident_id)
    key: str | None = tx.connection.execute(query).scalar_one_or_none()
    if key is None:
        raise NotFound(f"there is no incident {incident_id!r}.", where="incident")
    return key


def incident_id_of(tx: ControlTx, alert_id: str) -> str | None:
    """The incident that the alert is part of by now, or None."""
    return tx.connection.execute(sa.select(alert.c.incident_id).where(alert.c.id == alert_id)).scalar_one_or_none()


def incident_of(tx: ControlTx, incident_id: str) -> Incident:
    """The incident. Raises ``NotFound``."""
    row = tx.connection.execute(sa.select(incident).where(incident.c.id == incident_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no incident {incident_id!r}.", where="incident")
    return incident_from(row, ())


def alerts_of(tx: ControlTx, incident_id: str) -> list[Alert]:
    """Every alert of an incident."""
    return alerts_by_incident(tx, sa.true(), [incident_id])[incident_id]


def attach(tx: ControlTx, alert_id: str, incident_id: str) -> None:
    """Make the alert part of the incident."""
    tx.connection.execute(alert.update().where(alert.c.id == alert_id).values(incident_id=incident_id))


def move_alerts(tx: ControlTx, alert_ids: Iterable[str], incident_id: str) -> None:
    """Make these alerts part of the incident."""
    chosen = alert.c.id.in_(list(alert_ids))
    tx.connection.execute(alert.update().where(chosen).values(incident_id=incident_id, updated_at=tx.now))


def explain_joins(tx: ControlTx, reasons: Mapping[str, str]) -> None:
    """Store why each alert is part of its incident."""
    for alert_id, reason in reasons.items():
        tx.connection.execute(
            alert.update().where(alert.c.id == alert_id, alert.c.join_reason != reason).values(join_reason=reason)
        )


def save_incident(tx: ControlTx, value: Incident, key: str) -> None:
    """Insert or update the incident as given."""
    values = {
        "title": value.title,
        "description": value.description,
        "severity": value.severity.value,
        "status": value.status.value,
        "classification": value.classification.value,
        "assigned_to": value.assigned_to,
        "redirect_to": value.redirect_to,
        "correlation_key": key,
        "entities": entity_rows(value.entities),
        "first_activity": value.first_activity,
        "last_activity": value.last_activity,
        "updated_at": value.updated_at,
        "determination": value.determination.value,
        "tags": list(value.tags),
        "priority": value.priority,
    }
    done = tx.connection.execute(incident.update().where(incident.c.id == value.id).values(**values))
    if done.rowcount == 0:
        tx.connection.execute(incident.insert().values(id=value.id, created_at=value.created_at, **values))


def merge_incident(tx: ControlTx, gone: Incident, survivor_id: str) -> None:
    """Move the alerts of ``gone`` to the survivor; ``gone`` stays and points to it."""
    tx.connection.execute(alert.update().where(alert.c.incident_id == gone.id).values(incident_id=survivor_id))
    tx.connection.execute(
        incident.update()
        .where(incident.c.id == gone.id)
        .values(status=IncidentStatus.REDIRECTED.value, redirect_to=survivor_id, updated_at=tx.now)
    )
    # An incident that had been merged into the one that is gone follows it.
    tx.connection.execute(incident.update().where(incident.c.redirect_to == gone.id).values(redirect_to=survivor_id))
