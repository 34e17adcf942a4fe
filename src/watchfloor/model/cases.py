"""Alerts and incidents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from watchfloor.model.verdicts import Severity


class AlertStatus(StrEnum):
    """Graph's alert states."""

    NEW = "new"
    IN_PROGRESS = "inProgress"
    RESOLVED = "resolved"


class IncidentStatus(StrEnum):
    """Graph's incident states; ``redirected`` points to the incident that this one was merged into."""

    ACTIVE = "active"
    IN_PROGRESS = "inProgress"
    RESOLVED = "resolved"
    REDIRECTED = "redirected"


class Classification(StrEnum):
    """Graph's classifications."""

    UNKNOWN = "unknown"
    TRUE_POSITIVE = "truePositive"
    FALSE_POSITIVE = "falsePositive"
    EXPECTED = "informationalExpectedActivity"


class EntityKind(StrEnum):
    """What an entity is."""

    USER = "user"
    AGENT = "agent"
    TOOL = "tool"
    SERVER = "server"
    ADDRESS = "address"
    SESSION = "session"


class EntityRole(StrEnum):
    """The part that an entity plays in an alert."""

    IMPACTED = "impacted"
    SUSPECTED = "suspected"
    RELATED = "related"


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing involved, with its role."""

    kind: EntityKind
    id: str
    name: str
    role: EntityRole


@dataclass(frozen=True, slots=True)
class AlertDraft:
    """What a rule found, before it is stored.

    ``dedup_key`` is unique per finding: storing a draft twice stores one alert. ``evidence`` are ReportIds of events.
    ``tactic`` is MITRE's name (``Collection``), ``techniques`` its ids.
    """

    rule_id: str
    dedup_key: str
    title: str
    description: str
    severity: Severity
    tactic: str
    techniques: tuple[str, ...]
    entities: tuple[Entity, ...]
    evidence: tuple[str, ...]
    first_activity: datetime
    last_activity: datetime
    recommended_actions: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """A stored alert."""

    id: str
    draft: AlertDraft
    status: AlertStatus
    created_at: datetime
    incident_id: str | None
    join_reason: str = ""
    """Why this alert is part of its incident, in words fit to show."""


@dataclass(frozen=True, slots=True)
class Incident:
    """Alerts that belong together. Title, description and severity are derived from its alerts."""

    id: str
    title: str
    description: str
    severity: Severity
    status: IncidentStatus
    created_at: datetime
    updated_at: datetime
    first_activity: datetime
    last_activity: datetime
    alert_ids: tuple[str, ...]
    entities: tuple[Entity, ...]
    classification: Classification = Classification.UNKNOWN
    assigned_to: str | None = None
    redirect_to: str | None = None
    """The incident that this one was merged into."""
