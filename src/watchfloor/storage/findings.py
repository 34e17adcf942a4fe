"""What detection reads and writes: cursors, findings as alerts, alerts as members of incidents.

Below ``detection`` alone, above the tables. Everything here sees every alert, so nothing here serves a viewer: that is
``cases``. It does not know which alerts belong together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.cases import Alert, AlertDraft, AlertStatus, EntityKind, Incident, IncidentStatus
from watchfloor.model.errors import NotFound
from watchfloor.model.ids import new_id
from watchfloor.storage import agent_spans, tallies
from watchfloor.storage.cases import OPEN, alert_from, alerts_by_incident, entity_rows, incident_from
from watchfloor.storage.schema import alert, alert_entity, incident, rule_cursor

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_AT_ONCE: Final = 500

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
    """What became of a draft. ``before``: what a grown alert said; ``reopened``: it had been resolved, and went on."""

    alert: Alert
    is_new: bool
    has_grown: bool
    reopened: bool = False
    before: AlertDraft | None = None


def save_draft(tx: ControlTx, draft: AlertDraft) -> Saved:
    """As ``save_drafts``, of one."""
    return save_drafts(tx, [draft])[0]


def save_drafts(tx: ControlTx, drafts: Iterable[AlertDraft]) -> list[Saved]:
    """Store each finding once: a known one takes over more evidence, never less. One answer for each finding.

    A resolved alert with activity later than what was known when it was resolved is new again.
    """
    wanted: dict[tuple[str, str], AlertDraft] = {}
    for draft in drafts:
        key = (draft.rule_id, draft.dedup_key)
        if key not in wanted or _count(draft) > _count(wanted[key]):
            wanted[key] = draft
    known = _known_alerts(tx, wanted)
    ids = iter(sorted(new_id("alr") for _ in range(len(wanted) - len(known))))
    saved: list[Saved] = []
    for key, draft in wanted.items():
        if key not in known:
            saved.append(Saved(Alert(next(ids), draft, AlertStatus.NEW, tx.now, None), is_new=True, has_grown=False))
            continue
        old = known[key]
        if _count(draft) <= _count(old.draft):
            saved.append(Saved(old, is_new=False, has_grown=False))
            continue
        reopened = old.status is AlertStatus.RESOLVED and draft.last_activity > old.draft.last_activity
        now = replace(old, draft=draft, status=AlertStatus.NEW if reopened else old.status)
        saved.append(Saved(now, is_new=False, has_grown=True, reopened=reopened, before=old.draft))
    _insert_alerts(tx, [s.alert for s in saved if s.is_new])
    _grow_alerts(tx, [s for s in saved if s.has_grown])
    return saved


def _count(draft: AlertDraft) -> int:
    return int(draft.detail.get("count", 0))


def _known_alerts(tx: ControlTx, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Alert]:
    by_rule: defaultdict[str, list[str]] = defaultdict(list)
    for rule_id, dedup_key in keys:
        by_rule[rule_id].append(dedup_key)
    found = {}
    for rule_id, dedup_keys in by_rule.items():
        for start in range(0, len(dedup_keys), _AT_ONCE):
            chosen = alert.c.dedup_key.in_(dedup_keys[start : start + _AT_ONCE])
            for row in tx.connection.execute(sa.select(alert).where(alert.c.rule_id == rule_id, chosen)):
                found[row.rule_id, row.dedup_key] = alert_from(row)
    return found


def _draft_values(draft: AlertDraft) -> dict[str, Any]:
    return {
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


def _insert_alerts(tx: ControlTx, fresh: Sequence[Alert]) -> None:
    if not fresh:
        return
    rows = [
        {
            "id": value.id,
            "rule_id": value.draft.rule_id,
            "dedup_key": value.draft.dedup_key,
            "status": value.status.value,
            "incident_id": None,
            "join_reason": "",
            "created_at": value.created_at,
            **_draft_values(value.draft),
        }
        for value in fresh
    ]
    tx.connection.execute(alert.insert(), rows)
    _index_entities(tx, fresh)


def _grow_alerts(tx: ControlTx, grown: Sequence[Saved]) -> None:
    for item in grown:
        values = {**_draft_values(item.alert.draft), "updated_at": tx.now}
        if item.reopened:
            values |= {"status": AlertStatus.NEW.value, "resolved_at": None}
        tx.connection.execute(alert.update().where(alert.c.id == item.alert.id).values(**values))
    changed = [s.alert for s in grown if s.before is None or s.before.entities != s.alert.draft.entities]
    if changed:
        tx.connection.execute(alert_entity.delete().where(alert_entity.c.alert_id.in_([a.id for a in changed])))
        _index_entities(tx, changed)


def _index_entities(tx: ControlTx, alerts: Iterable[Alert]) -> None:
    rows = {(a.id, e.kind.value, e.id[:300], e.role.value) for a in alerts for e in a.draft.entities}
    if rows:
        tx.connection.execute(
            alert_entity.insert(),
            [{"alert_id": a, "kind": k, "entity_id": i, "role": r} for a, k, i, r in sorted(rows)],
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

_AT: Final[Any] = sa.bindparam("at")
_ATTACH: Final = alert.update().where(alert.c.id == _AT).values(incident_id=sa.bindparam("into"))
_EXPLAIN: Final = alert.update().where(alert.c.id == _AT).values(join_reason=sa.bindparam("reason"))
_TELL: Final = incident.update().where(incident.c.id == _AT)


@dataclass(frozen=True, slots=True)
class Held:
    """An incident as correlation works on it: ``key`` is what its alerts are joined by.

    ``first_alert`` is None until what its alerts add up to has been counted; ``follows`` is the resolved one that it
    continues.
    """

    value: Incident
    key: str
    first_alert: str | None = None
    follows: str | None = None


def _held(row: sa.Row[Any]) -> Held:
    return Held(incident_from(row, ()), row.correlation_key, row.first_alert, row.follows)


def linked_incidents(tx: ControlTx, key: str, first: datetime, last: datetime, within: timedelta) -> list[Held]:
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
    return [_held(row) for row in tx.connection.execute(query)]


def held(tx: ControlTx, incident_ids: Sequence[str]) -> list[Held]:
    """These incidents, in whatever state they are."""
    return [_held(row) for row in tx.connection.execute(sa.select(incident).where(incident.c.id.in_(incident_ids)))]


def resolved_incident_near(tx: ControlTx, key: str, first: datetime, last: datetime, within: timedelta) -> str | None:
    """The resolved incident of ``key`` that activity from ``first`` to ``last`` would have joined, or None."""
    query = (
        sa.select(incident.c.id)
        .where(
            incident.c.correlation_key == key,
            incident.c.status == IncidentStatus.RESOLVED.value,
            incident.c.first_activity <= last + within,
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


def incident_of(tx: ControlTx, incident_id: str) -> Incident:
    """The incident. Raises ``NotFound``."""
    row = tx.connection.execute(sa.select(incident).where(incident.c.id == incident_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no incident {incident_id!r}.", where="incident")
    return incident_from(row, ())


def alerts_of(tx: ControlTx, incident_id: str) -> list[Alert]:
    """Every alert of an incident."""
    return alerts_by_incident(tx, sa.true(), [incident_id])[incident_id]


def alerts_by_id(tx: ControlTx, alert_ids: Sequence[str]) -> list[Alert]:
    """These alerts."""
    return [alert_from(row) for row in tx.connection.execute(sa.select(alert).where(alert.c.id.in_(alert_ids)))]


def attach(tx: ControlTx, places: Mapping[str, str]) -> None:
    """Make alerts part of incidents: alert id to incident id."""
    if places:
        rows = [{"at": alert_id, "into": incident_id} for alert_id, incident_id in places.items()]
        tx.connection.execute(_ATTACH, rows)


def move_alerts(tx: ControlTx, alert_ids: Iterable[str], incident_id: str) -> None:
    """Make these alerts part of the incident."""
    chosen = alert.c.id.in_(list(alert_ids))
    tx.connection.execute(alert.update().where(chosen).values(incident_id=incident_id, updated_at=tx.now))


def explain_joins(tx: ControlTx, reasons: Mapping[str, str]) -> None:
    """Store why each alert is part of its incident."""
    if reasons:
        rows = [{"at": alert_id, "reason": reason} for alert_id, reason in reasons.items()]
        tx.connection.execute(_EXPLAIN, rows)


def explain_again(tx: ControlTx, alert_ids: Sequence[str], old: str, new: str) -> None:
    """Replace one reason by another, for those of these alerts that have it."""
    if alert_ids:
        chosen = sa.and_(alert.c.id.in_(alert_ids), alert.c.join_reason == old)
        tx.connection.execute(alert.update().where(chosen).values(join_reason=new))


def save_incident(tx: ControlTx, value: Incident, key: str) -> None:
    """Insert or update the incident as given, but for what its alerts add up to."""
    row = _incident_values(value)
    done = tx.connection.execute(incident.update().where(incident.c.id == value.id).values(**row, correlation_key=key))
    if done.rowcount == 0:
        insert_incidents(tx, [Held(value, key)])


def insert_incidents(tx: ControlTx, fresh: Sequence[Held]) -> None:
    """Store new incidents."""
    rows = [
        {
            **_incident_values(each.value), "id": each.value.id, "created_at": each.value.created_at,
            "correlation_key": each.key, "first_alert": each.first_alert, "follows": each.follows,
        }
        for each in fresh
    ]  # fmt: skip
    if rows:
        tx.connection.execute(incident.insert(), rows)


def update_incidents(tx: ControlTx, changed: Sequence[Held]) -> None:
    """Store what incidents say by now, and what correlation keeps of them."""
    rows = [
        {**_incident_values(each.value), "at": each.value.id, "first_alert": each.first_alert, "follows": each.follows}
        for each in changed
    ]
    if rows:
        tx.connection.execute(_TELL, rows)


def uncount(tx: ControlTx, incident_id: str) -> None:
    """Say that an alert of the incident has changed and was not counted: all are when the incident next changes."""
    tx.connection.execute(incident.update().where(incident.c.id == incident_id).values(first_alert=None))


def _incident_values(value: Incident) -> dict[str, Any]:
    return {
        "title": value.title,
        "description": value.description,
        "severity": value.severity.value,
        "status": value.status.value,
        "classification": value.classification.value,
        "assigned_to": value.assigned_to,
        "redirect_to": value.redirect_to,
        "entities": entity_rows(value.entities),
        "first_activity": value.first_activity,
        "last_activity": value.last_activity,
        "updated_at": value.updated_at,
        "determination": value.determination.value,
        "tags": list(value.tags),
        "priority": value.priority,
    }


def merge_incident(tx: ControlTx, gone: Incident, survivor_id: str) -> None:
    """Move the alerts of ``gone`` to the survivor; ``gone`` stays and points to it, and adds up to nothing."""
    tallies.forget(tx, [gone.id])
    agent_spans.forget(tx, [gone.id])
    tx.connection.execute(alert.update().where(alert.c.incident_id == gone.id).values(incident_id=survivor_id))
    tx.connection.execute(
        incident.update()
        .where(incident.c.id == gone.id)
        .values(status=IncidentStatus.REDIRECTED.value, redirect_to=survivor_id, updated_at=tx.now, first_alert=None)
    )
    # An incident that had been merged into the one that is gone follows it.
    tx.connection.execute(incident.update().where(incident.c.redirect_to == gone.id).values(redirect_to=survivor_id))


def merge_incidents(tx: ControlTx, merged: Sequence[tuple[Incident, str]]) -> None:
    """As ``merge_incident``, of each that is gone into its survivor."""
    for gone, survivor_id in merged:
        merge_incident(tx, gone, survivor_id)
