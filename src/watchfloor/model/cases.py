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


class Determination(StrEnum):
    """Graph's determinations: what a classified alert or incident turned out to be."""

    UNKNOWN = "unknown"
    APT = "apt"
    MALWARE = "malware"
    SECURITY_PERSONNEL = "securityPersonnel"
    SECURITY_TESTING = "securityTesting"
    UNWANTED_SOFTWARE = "unwantedSoftware"
    OTHER = "other"
    MULTI_STAGED_ATTACK = "multiStagedAttack"
    COMPROMISED_ACCOUNT = "compromisedAccount"
    PHISHING = "phishing"
    MALICIOUS_USER_ACTIVITY = "maliciousUserActivity"
    NOT_MALICIOUS = "notMalicious"
    NOT_ENOUGH_DATA = "notEnoughDataToValidate"
    CONFIRMED_ACTIVITY = "confirmedActivity"
    LINE_OF_BUSINESS = "lineOfBusinessApplication"


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
    classification: Classification = Classification.UNKNOWN
    determination: Determination = Determination.UNKNOWN
    assigned_to: str | None = None
    updated_at: datetime | None = None
    """When anything of it last changed; None if nothing has since it was raised."""
    resolved_at: datetime | None = None


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
    determination: Determination = Determination.UNKNOWN
    tags: tuple[str, ...] = ()
    priority: int = 0
    """0 to 100: which to look at first; ``detection.priority`` says why."""


class EntryKind(StrEnum):
    """What an entry of an incident's activity log tells."""

    OPENED = "opened"
    ALERT_JOINED = "alertJoined"
    ALERT_GREW = "alertGrew"
    MERGED = "merged"
    SPLIT = "split"
    REOPENED = "reopened"
    CHANGED = "changed"
    COMMENT = "comment"
    RESPONDED = "responded"


@dataclass(frozen=True, slots=True)
class CaseEntry:
    """One entry of the activity log. ``alert_id``: the alert that it is about, where it is about one.

    ``detail`` of ``changed`` is ``{field: [before, after]}``.
    """

    id: str
    incident_id: str | None
    alert_id: str | None
    at: datetime
    actor: str
    kind: EntryKind
    text: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
