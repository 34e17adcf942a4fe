"""Alerts and incidents as Graph's security API writes them.

Pure functions from ours to JSON. Source: Graph's reference of the resources ``alert`` (alerts_v2), ``incident`` and
``alertEvidence``. What Graph has no word for is mapped and said: *critical* is ``high`` with the system tag
``critical``; the source is ``unknownFutureValue`` with ``productName``; tools and sessions are evidence of a type of
our own, which typed clients read as plain evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from watchfloor.detection.publishing import Directory, category
from watchfloor.detection.story import tell
from watchfloor.model.cases import (
    Alert,
    CaseEntry,
    Entity,
    EntityKind,
    EntityRole,
    Incident,
)
from watchfloor.model.verdicts import Severity
from watchfloor.storage.case_fields import DETECTION, PRODUCT, SERVICE

_CRITICAL: Final = "critical"


def moment(at: datetime | None) -> str | None:
    """A time as Graph writes it."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def severity(value: Severity) -> str:
    """Ours as Graph's word."""
    return "high" if value is Severity.CRITICAL else value.value


def _tags(value: Severity) -> list[str]:
    return [_CRITICAL] if value is Severity.CRITICAL else []


def comment(entry: CaseEntry) -> dict[str, Any]:
    """A comment."""
    return {
        "@odata.type": "#microsoft.graph.security.alertComment",
        "comment": entry.text,
        "createdByDisplayName": entry.actor,
        "createdDateTime": moment(entry.at),
    }


def alert(
    found: Alert, directory: Directory, comments: Sequence[CaseEntry], *, tenant: str, base_url: str
) -> dict[str, Any]:
    """An alert."""
    draft = found.draft
    web = f"{base_url}/incidents/{found.incident_id}" if found.incident_id else None
    return {
        "id": found.id,
        "providerAlertId": found.id,
        "incidentId": found.incident_id,
        "status": found.status.value,
        "severity": severity(draft.severity),
        "classification": found.classification.value,
        "determination": found.determination.value,
        "serviceSource": SERVICE,
        "detectionSource": DETECTION,
        "productName": PRODUCT,
        "detectorId": draft.rule_id,
        "tenantId": tenant,
        "title": draft.title,
        "description": draft.description,
        "recommendedActions": "\n".join(draft.recommended_actions),
        "category": category(draft.tactic),
        "assignedTo": found.assigned_to,
        "alertWebUrl": web,
        "incidentWebUrl": web,
        "actorDisplayName": None,
        "threatDisplayName": None,
        "threatFamilyName": None,
        "mitreTechniques": list(draft.techniques),
        "createdDateTime": moment(found.created_at),
        "lastUpdateDateTime": moment(found.updated_at or found.created_at),
        "resolvedDateTime": moment(found.resolved_at),
        "firstActivityDateTime": moment(draft.first_activity),
        "lastActivityDateTime": moment(draft.last_activity),
        "comments": [comment(entry) for entry in comments],
        "evidence": [_evidence(entity, found, directory) for entity in draft.entities],
        "systemTags": _tags(draft.severity),
    }


def incident(
    found: Incident, visible: Sequence[Alert], comments: Sequence[CaseEntry], *, tenant: str, base_url: str
) -> dict[str, Any]:
    """An incident. One without a title was cut down for its viewer: it is told from the ``visible`` alerts."""
    title, description, value = found.title, found.description, found.severity
    if not title and visible:
        story = tell(visible)
        title, description, value = story.title, story.description, story.severity
    return {
        "id": found.id,
        "incidentWebUrl": f"{base_url}/incidents/{found.id}",
        "tenantId": tenant,
        "redirectIncidentId": found.redirect_to,
        "displayName": title,
        "createdDateTime": moment(found.created_at),
        "lastUpdateDateTime": moment(found.updated_at),
        "assignedTo": found.assigned_to,
        "classification": found.classification.value,
        "determination": found.determination.value,
        "status": found.status.value,
        "severity": severity(value),
        "customTags": list(found.tags),
        "comments": [comment(entry) for entry in comments],
        "systemTags": _tags(value),
        "description": description,
        "lastModifiedBy": None,
    }


# -- evidence -----------------------------------------------------------------------------------------------------

_GRAPH: Final = "#microsoft.graph.security."
_OURS: Final = "#watchfloor.security."
_VERDICTS: Final = {
    EntityRole.SUSPECTED: "suspicious",
    EntityRole.IMPACTED: "unknown",
    EntityRole.RELATED: "unknown",
}


def _evidence(entity: Entity, found: Alert, directory: Directory) -> dict[str, Any]:
    events = found.draft.detail.get("events", ())
    was_stopped = bool(events) and all(event.get("stopped") for event in events)
    is_target = entity.kind in (EntityKind.TOOL, EntityKind.SERVER)
    return {
        **_OF_KIND[entity.kind](entity, directory),
        "createdDateTime": moment(found.created_at),
        "verdict": _VERDICTS[entity.role],
        "remediationStatus": "prevented" if is_target and was_stopped else "none",
        "remediationStatusDetails": None,
        "roles": [],
        "detailedRoles": [entity.role.value],
        "tags": [],
    }


def _user(entity: Entity, directory: Directory) -> dict[str, Any]:
    user = directory.users.get(entity.id)
    upn = (user.upn if user else "") or (entity.name if "@" in entity.name else "")
    name, _, domain = upn.partition("@")
    return {
        "@odata.type": f"{_GRAPH}userEvidence",
        "userAccount": {
            "accountName": name or entity.id,
            "domainName": domain or None,
            "userSid": None,
            "azureAdUserId": entity.id,
            "userPrincipalName": upn or None,
            "displayName": user.name if user else entity.name,
        },
    }


_PLATFORMS: Final = {
    "copilot studio": "copilotStudio",
    "azure ai foundry": "azureAIFoundry",
    "microsoft foundry": "azureAIFoundry",
    "copilot": "copilot",
}


def _agent(entity: Entity, directory: Directory) -> dict[str, Any]:
    agent = directory.agents.get(entity.id)
    platform = agent.platform.lower() if agent else ""
    return {
        "@odata.type": f"{_GRAPH}aiAgentEvidence",
        "agentId": entity.id,
        "agentName": agent.name if agent else entity.name,
        "hostingPlatformType": _PLATFORMS.get(platform, "unknown"),
        "instructions": None,
    }


def _address(entity: Entity, directory: Directory) -> dict[str, Any]:
    return {"@odata.type": f"{_GRAPH}ipEvidence", "ipAddress": entity.id, "countryLetterCode": None, "location": None}


def _server(entity: Entity, directory: Directory) -> dict[str, Any]:
    server = directory.servers.get(entity.id)
    name = server.name if server else entity.name
    return {
        "@odata.type": f"{_GRAPH}cloudApplicationEvidence",
        "appId": None,
        "displayName": name,
        "instanceId": None,
        "instanceName": entity.id,
        "saasAppId": None,
    }


def _tool(entity: Entity, directory: Directory) -> dict[str, Any]:
    server_id, _, tool = entity.id.partition("/")
    return {"@odata.type": f"{_OURS}toolEvidence", "serverId": server_id, "toolName": tool}


def _session(entity: Entity, directory: Directory) -> dict[str, Any]:
    return {"@odata.type": f"{_OURS}sessionEvidence", "sessionId": entity.id}


_OF_KIND: Final = {
    EntityKind.USER: _user,
    EntityKind.AGENT: _agent,
    EntityKind.TOOL: _tool,
    EntityKind.SERVER: _server,
    EntityKind.ADDRESS: _address,
    EntityKind.SESSION: _session,
}


# -- members ------------------------------------------------------------------------------------------------------


def select(resource: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """The members of ``resource`` that ``$select`` names; its id always, all if it names none."""
    if not wanted:
        return dict(resource)
    kept = {"id", *wanted}
    return {name: value for name, value in resource.items() if name in kept or name.startswith("@")}
