"""Risks and detections as Graph's identity protection API writes them: pure functions from ours to JSON.

What Graph has no word for is said in ``additionalInfo``; what we do not know is null. Source: Graph's reference of the
resources ``riskyUser``, ``riskyUserHistoryItem``, ``riskDetection``, ``riskyAgent`` and ``agentRiskDetection``.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from watchfloor.model.risk import RiskChange, RiskDetection
from watchfloor.portal.graph_shapes import moment
from watchfloor.storage.risk_lists import RiskySubject

_SOURCE: Final = "Watchfloor"


def risky_user(subject: RiskySubject) -> dict[str, Any]:
    """A risky user."""
    return {
        "id": subject.id,
        "isDeleted": False,
        "isProcessing": False,
        **_risk(subject),
        "userDisplayName": subject.name,
        "userPrincipalName": subject.upn,
    }


def risky_agent(subject: RiskySubject) -> dict[str, Any]:
    """A risky agent."""
    return {
        "@odata.type": "#microsoft.graph.riskyAgentIdentity",
        "id": subject.id,
        "agentDisplayName": subject.name,
        "identityType": "agentIdentity",
        "blueprintId": None,
        "isEnabled": subject.is_enabled,
        "isDeleted": False,
        "isProcessing": False,
        **_risk(subject),
    }


def _risk(subject: RiskySubject) -> dict[str, Any]:
    return {
        "riskLevel": subject.risk.level.value,
        "riskState": subject.risk.state.value,
        "riskDetail": subject.risk.detail,
        "riskLastUpdatedDateTime": moment(subject.risk.updated_at),
    }


def history_item(change: RiskChange, subject: RiskySubject) -> dict[str, Any]:
    """One change of a user's risk."""
    return {
        **risky_user(subject),
        "id": change.id,
        "userId": subject.id,
        "riskLevel": change.level.value,
        "riskState": change.state.value,
        "riskDetail": change.detail,
        "riskLastUpdatedDateTime": moment(change.at),
        "initiatedBy": change.actor,
        "activity": {"detail": change.detail, "riskEventTypes": [], "eventTypes": [change.activity]},
    }


def user_detection(detection: RiskDetection, subject: RiskySubject) -> dict[str, Any]:
    """A detection about a user."""
    return {
        **_detection(detection, subject),
        "source": _SOURCE,
        "activity": "user" if detection.source == "admin" else "signin",
        "tokenIssuerType": "unknownFutureValue",
        "requestId": None,
        "correlationId": None,
        "ipAddress": None,
        "location": None,
        "userId": subject.id,
        "userDisplayName": subject.name,
        "userPrincipalName": subject.upn,
    }


def agent_detection(detection: RiskDetection, subject: RiskySubject) -> dict[str, Any]:
    """A detection about an agent."""
    return {
        **_detection(detection, subject),
        "agentId": subject.id,
        "agentDisplayName": subject.name,
        "identityType": "agentIdentity",
        "blueprintId": None,
        "riskEvidence": detection.detail,
    }


def _detection(detection: RiskDetection, subject: RiskySubject) -> dict[str, Any]:
    told = [
        {"Key": "title", "Value": detection.title},
        {"Key": "detail", "Value": detection.detail},
        {"Key": "seenBy", "Value": detection.source},
        *([{"Key": "alertId", "Value": detection.alert_id}] if detection.alert_id else []),
    ]
    return {
        "id": detection.id,
        "riskEventType": detection.detection,
        "riskLevel": detection.level.value,
        "riskState": detection.state.value,
        "riskDetail": subject.risk.detail if detection.state is subject.risk.state else "none",
        "detectionTimingType": "nearRealtime",
        "activityDateTime": moment(detection.last_at),
        "detectedDateTime": moment(detection.noted_at),
        "lastUpdatedDateTime": moment(detection.updated_at),
        "additionalInfo": orjson.dumps(told).decode(),
    }
