"""Shapes of alerts and incidents: what the API shows of them.

Beside ``views``. What a viewer may not see is not handed in; a cut-down incident is retold here from the alerts that
the viewer may see.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from watchfloor.detection.priority import Priority, weigh
from watchfloor.detection.story import events_of, gist_of, join_reasons, told
from watchfloor.model.cases import (
    Alert,
    AlertStatus,
    CaseEntry,
    Classification,
    Determination,
    Entity,
    EntryKind,
    Incident,
    IncidentStatus,
)
from watchfloor.model.verdicts import Severity
from watchfloor.portal.response_views import ResponseView, RunView
from watchfloor.response.containment import Confirmation, Containment
from watchfloor.storage.actions import ActionRecord
from watchfloor.storage.similar import Similar


class EntityView(BaseModel):
    """A thing involved, with its role."""

    kind: str
    id: str
    name: str
    role: str


def entity_views(entities: Iterable[Entity]) -> list[EntityView]:
    """Entities as shown."""
    return [EntityView(kind=e.kind.value, id=e.id, name=e.name, role=e.role.value) for e in entities]


class AlertView(BaseModel):
    """An alert."""

    id: str
    rule_id: str
    title: str
    description: str
    severity: Severity
    status: AlertStatus
    tactic: str
    attempted_tactic: str
    techniques: list[str]
    entities: list[EntityView]
    evidence: list[str]
    count: int
    recommended_actions: list[str]
    actions: list[str]
    incident_id: str | None
    join_reason: str
    first_activity: datetime
    last_activity: datetime
    created_at: datetime
    updated_at: datetime
    classification: Classification
    determination: Determination
    assigned_to: str | None
    resolved_at: datetime | None


def alert_view(alert: Alert) -> AlertView:
    """An alert as shown."""
    draft = alert.draft
    return AlertView(
        id=alert.id,
        rule_id=draft.rule_id,
        title=draft.title,
        description=draft.description,
        severity=draft.severity,
        status=alert.status,
        tactic=draft.tactic,
        attempted_tactic=draft.detail.get("attempted_tactic", draft.tactic),
        techniques=list(draft.techniques),
        entities=entity_views(draft.entities),
        evidence=list(draft.evidence),
        count=draft.detail.get("count", len(draft.evidence)),
        recommended_actions=list(draft.recommended_actions),
        actions=list(draft.detail.get("actions", ())),
        incident_id=alert.incident_id,
        join_reason=alert.join_reason,
        first_activity=draft.first_activity,
        last_activity=draft.last_activity,
        created_at=alert.created_at,
        updated_at=alert.updated_at or alert.created_at,
        classification=alert.classification,
        determination=alert.determination,
        assigned_to=alert.assigned_to,
        resolved_at=alert.resolved_at,
    )


class EventView(BaseModel):
    """One event that alerts point to."""

    id: str
    at: datetime
    invocation: str
    action: str
    user: str
    agent: str
    server: str
    tool: str
    verdict: str
    reason: str
    address: str
    stopped: bool
    jailbreak: bool


class RecordView(BaseModel):
    """Proof that something was done."""

    id: str
    action: str
    subject: str
    actor: str
    status: str
    detail: dict[str, Any]
    incident_id: str | None
    created_at: datetime | None


def record_view(record: ActionRecord) -> RecordView:
    """An action record as shown."""
    return RecordView(
        id=record.id,
        action=record.action,
        subject=record.subject,
        actor=record.actor,
        status=record.status,
        detail=dict(record.detail),
        incident_id=record.incident_id,
        created_at=record.created_at,
    )


class IncidentView(BaseModel):
    """An incident in a list."""

    id: str
    title: str
    description: str
    severity: Severity
    status: IncidentStatus
    classification: Classification
    determination: Determination
    tags: list[str]
    priority: int
    assigned_to: str | None
    redirect_to: str | None
    alert_count: int
    entities: list[EntityView]
    first_activity: datetime
    last_activity: datetime
    created_at: datetime
    updated_at: datetime


class PriorityReasonView(BaseModel):
    """So many points of an incident's priority, for this."""

    points: int
    text: str


class ContainmentView(BaseModel):
    """Whether somebody, or an agent, is contained, and what shows it; ``action`` would do it."""

    kind: str
    id: str
    name: str
    is_contained: bool
    because: str
    action: str
    provider: Confirmation
    provider_says: str


class IncidentDetailView(IncidentView):
    """An incident with its alerts, events and what was done about it.

    ``warnings`` say what speaks against resolving it now, ``responses`` what was begun, with every step.
    """

    alerts: list[AlertView]
    events: list[EventView]
    recommended_actions: list[str]
    records: list[RecordView]
    priority_reasons: list[PriorityReasonView]
    containment: list[ContainmentView]
    responses: list[ResponseView]
    playbook_runs: list[RunView]
    warnings: list[str]


class CaseEntryView(BaseModel):
    """An entry of the activity log. ``detail`` of ``changed`` is ``{field: [before, after]}``."""

    id: str
    at: datetime
    actor: str
    kind: EntryKind
    text: str
    incident_id: str | None
    alert_id: str | None
    detail: dict[str, Any]


def entry_view(entry: CaseEntry) -> CaseEntryView:
    """An entry as shown."""
    return CaseEntryView(
        id=entry.id,
        at=entry.at,
        actor=entry.actor,
        kind=entry.kind,
        text=entry.text,
        incident_id=entry.incident_id,
        alert_id=entry.alert_id,
        detail=dict(entry.detail),
    )


class SimilarView(BaseModel):
    """An incident that is like another one, with what they share."""

    incident: IncidentView
    score: int
    reasons: list[str]


def similar_view(similar: Similar) -> SimilarView:
    """A similar incident as shown."""
    return SimilarView(incident=incident_view(similar.incident, ()), score=similar.score, reasons=list(similar.reasons))


def _incident_fields(incident: Incident, alerts: Sequence[Alert]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": incident.id,
        "title": incident.title,
        "description": incident.description,
        "severity": incident.severity,
        "status": incident.status,
        "classification": incident.classification,
        "determination": incident.determination,
        "tags": list(incident.tags),
        "priority": incident.priority,
        "assigned_to": incident.assigned_to,
        "redirect_to": incident.redirect_to,
        "alert_count": len(incident.alert_ids),
        "entities": entity_views(incident.entities),
        "first_activity": incident.first_activity,
        "last_activity": incident.last_activity,
        "created_at": incident.created_at,
        "updated_at": incident.updated_at,
    }
    if not incident.title and alerts:
        # Cut down for a viewer who may see only some of the alerts: its story is told from those alone.
        gist = gist_of(alerts)
        story = told(gist)
        fields |= {"title": story.title, "description": story.description, "severity": story.severity}
        fields["priority"] = weigh(gist, {}).score
    return fields


def incident_view(incident: Incident, alerts: Sequence[Alert]) -> IncidentView:
    """An incident as shown; ``alerts`` are those that the viewer may see."""
    return IncidentView(**_incident_fields(incident, alerts))


def incident_detail_view(
    incident: Incident,
    alerts: Sequence[Alert],
    records: Sequence[ActionRecord],
    priority: Priority,
    containment: Sequence[Containment],
    responses: Sequence[ResponseView] = (),
    playbook_runs: Sequence[RunView] = (),
    *,
    with_events: bool,
) -> IncidentDetailView:
    """An incident with everything that the viewer may see of it."""
    if not incident.title:
        reasons = join_reasons(alerts)
        alerts = [replace(a, join_reason=reasons[a.id]) for a in alerts]
    advice = dict.fromkeys(
        text
        for alert in sorted(alerts, key=lambda a: (-a.draft.severity.rank, a.id))
        for text in alert.draft.recommended_actions
    )
    return IncidentDetailView(
        **_incident_fields(incident, alerts),
        alerts=[alert_view(a) for a in sorted(alerts, key=lambda a: (a.draft.first_activity, a.id))],
        events=[EventView(**event) for event in events_of(alerts)] if with_events else [],
        recommended_actions=list(advice),
        records=[record_view(r) for r in records],
        priority_reasons=[PriorityReasonView(points=r.points, text=r.text) for r in priority.reasons],
        containment=[ContainmentView.model_validate(found, from_attributes=True) for found in containment],
        responses=list(responses),
        playbook_runs=list(playbook_runs),
        warnings=[found.warning for found in containment if found.warning],
    )
