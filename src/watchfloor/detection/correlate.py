"""Alerts that belong together become one incident.

Two alerts are linked when they share what ``story.correlation_key`` names and their activity lies within two hours; an
incident is everything that is linked directly or through others. That is a property of the set of alerts, so the order
in which they arrive changes nothing; an alert that arrives late may bridge two incidents, and then the older one takes
the other in. Runs in the caller's transaction. It does not know rules, and it never acts.

A resolved incident is closed: what happens later starts a new one that names it, so that nobody's verdict is changed
behind their back. Only more of an alert that it already holds opens it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from watchfloor.detection.priority import people_of, weigh
from watchfloor.detection.story import WITHIN, correlation_key, join_reasons, tell
from watchfloor.model.cases import Alert, EntryKind, Incident, IncidentStatus
from watchfloor.model.ids import new_id
from watchfloor.storage import findings, triage
from watchfloor.storage.findings import Saved

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


@dataclass(frozen=True, slots=True)
class Correlated:
    """What changed: incidents opened, extended, opened again, and merged (gone → survivor)."""

    opened: tuple[str, ...] = ()
    extended: tuple[str, ...] = ()
    reopened: tuple[str, ...] = ()
    merged: tuple[tuple[str, str], ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything did."""
        return bool(self.opened or self.extended or self.reopened or self.merged)


def join(first: Incident, second: Incident) -> Incident:
    """Two incidents as one: what people decided about either is kept, and it spans the activity of both."""
    in_progress = IncidentStatus.IN_PROGRESS in (first.status, second.status)
    return replace(
        first,
        status=IncidentStatus.IN_PROGRESS if in_progress else first.status,
        assigned_to=first.assigned_to or second.assigned_to,
        first_activity=min(first.first_activity, second.first_activity),
        last_activity=max(first.last_activity, second.last_activity),
        tags=tuple(dict.fromkeys((*first.tags, *second.tags))),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an alert goes: its incident, what was merged into that, which resolved one it follows."""

    incident: Incident
    is_new: bool = False
    reopened: bool = False
    merged: tuple[str, ...] = ()
    follows: str | None = None


def _place(tx: ControlTx, saved: Saved) -> _Place:
    draft = saved.alert.draft
    key = correlation_key(saved.alert)
    linked = findings.linked_incidents(tx, key, draft.first_activity, draft.last_activity, WITHIN)
    own_id = findings.incident_id_of(tx, saved.alert.id)
    reopened = False
    if own_id and findings.key_of(tx, own_id) != key:
        return _stays(tx, own_id, saved)  # people have put it there
    if own_id and all(i.id != own_id for i in linked):
        own = findings.incident_of(tx, own_id)
        if own.status is IncidentStatus.RESOLVED:
            if not saved.reopened:
                return _Place(own)
            own, reopened = replace(own, status=IncidentStatus.ACTIVE), True
        linked = sorted([*linked, own], key=lambda i: (i.created_at, i.id))
    if not linked and (by_hand := findings.merged_by_hand(tx, key, draft.first_activity, draft.last_activity, WITHIN)):
        return _Place(findings.incident_of(tx, by_hand))
    if not linked:
        follows = findings.resolved_incident_before(tx, key, draft.first_activity, WITHIN)
        return _Place(_new(tx, saved.alert), is_new=True, follows=follows)
    survivor = linked[0]
    for other in linked[1:]:
        survivor = join(survivor, other)
        findings.merge_incident(tx, other, survivor.id)
    return _Place(survivor, reopened=reopened, merged=tuple(other.id for other in linked[1:]))


def _stays(tx: ControlTx, own_id: str, saved: Saved) -> _Place:
    """The place of an alert that is where people have put it: its incident, opened again if the alert was."""
    own = findings.incident_of(tx, own_id)
    if own.status is IncidentStatus.RESOLVED and saved.reopened:
        return _Place(replace(own, status=IncidentStatus.ACTIVE), reopened=True)
    return _Place(own)


def _new(tx: ControlTx, alert: Alert) -> Incident:
    return Incident(
        id=new_id("inc"),
        title=alert.draft.title,
        description=alert.draft.description,
        severity=alert.draft.severity,
        status=IncidentStatus.ACTIVE,
        created_at=tx.now,
        updated_at=tx.now,
        first_activity=alert.draft.first_activity,
        last_activity=alert.draft.last_activity,
        alert_ids=(alert.id,),
        entities=alert.draft.entities,
    )


def retell(tx: ControlTx, incident_id: str, key: str, follows: str | None) -> None:
    """Tell an incident anew from all of its alerts: texts, severity, span, priority, and why each alert is in it."""
    alerts = findings.alerts_of(tx, incident_id)
    story = tell(alerts)
    findings.save_incident(
        tx,
        replace(
            findings.incident_of(tx, incident_id),
            title=story.title,
            description=story.description,
            severity=story.severity,
            entities=story.entities,
            first_activity=story.first_activity,
            last_activity=story.last_activity,
            updated_at=tx.now,
            priority=weigh(alerts, people_of(tx, alerts)).score,
        ),
        key,
    )
    known = follows or next((a.join_reason.rpartition(" ")[2] for a in alerts if "; follows " in a.join_reason), None)
    findings.explain_joins(tx, join_reasons(alerts, known))


def _note(tx: ControlTx, saved: Saved, place: _Place) -> None:
    """What the activity log tells of it."""
    incident_id, alert_id = place.incident.id, saved.alert.id
    if place.is_new:
        triage.note(tx, EntryKind.OPENED, incident_id=incident_id, detail={"alert": alert_id})
    for gone in place.merged:
        triage.note(tx, EntryKind.MERGED, incident_id=incident_id, detail={"gone": gone, "into": incident_id})
    if place.reopened:
        triage.note(tx, EntryKind.REOPENED, incident_id=incident_id, detail={"alert": alert_id})
    if saved.is_new:
        triage.note(tx, EntryKind.ALERT_JOINED, incident_id=incident_id, alert_id=alert_id)
    else:
        count = saved.alert.draft.detail.get("count", 0)
        triage.note(tx, EntryKind.ALERT_GREW, incident_id=incident_id, alert_id=alert_id, detail={"count": count})


def correlate(tx: ControlTx, saved: Sequence[Saved]) -> Correlated:
    """Give each new or grown alert its place. Everything in the caller's transaction."""
    touched: dict[str, tuple[str, str | None]] = {}
    opened: list[str] = []
    reopened: list[str] = []
    merged: list[tuple[str, str]] = []
    for item in sorted(saved, key=lambda s: (s.alert.draft.first_activity, s.alert.id)):
        if not (item.is_new or item.has_grown):
            continue
        draft = item.alert.draft
        place = _place(tx, item)
        value = place.incident
        key = correlation_key(item.alert) if place.is_new else findings.key_of(tx, value.id)
        # The span decides what the next alert of this batch links to; title and the rest are told once, at the end.
        findings.save_incident(
            tx,
            replace(
                value,
                first_activity=min(value.first_activity, draft.first_activity),
                last_activity=max(value.last_activity, draft.last_activity),
            ),
            key,
        )
        _note(tx, item, place)
        findings.attach(tx, item.alert.id, value.id)
        follows = place.follows or touched.get(value.id, (key, None))[1]
        touched[value.id] = (key, follows)
        for gone in place.merged:
            touched.pop(gone, None)
            merged.append((gone, value.id))
        if place.is_new:
            opened.append(value.id)
        if place.reopened:
            reopened.append(value.id)
    for incident_id, (key, follows) in touched.items():
        retell(tx, incident_id, key, follows)
    gone_ids = {gone for gone, _ in merged}
    return Correlated(
        opened=tuple(i for i in opened if i not in gone_ids),
        extended=tuple(i for i in touched if i not in opened),
        reopened=tuple(dict.fromkeys(reopened)),
        merged=tuple(merged),
    )
