"""What alerts and incidents may be filtered by in Graph's words: field, column, and what each word is stored as."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa

from watchfloor.model.cases import AlertStatus, Classification, Determination, IncidentStatus
from watchfloor.model.verdicts import Severity
from watchfloor.storage.odata import Field, Type
from watchfloor.storage.schema import alert as alert_table
from watchfloor.storage.schema import incident as incident_table

PRODUCT: Final = "Watchfloor"
SERVICE: Final = "unknownFutureValue"
"""Graph's ``serviceSource`` has no word for us: by its own rules this stands for one that a client does not know."""
DETECTION: Final = "customDetection"

_SEVERITIES: Final = {
    "unknown": (),
    "informational": (Severity.INFORMATIONAL.value,),
    "low": (Severity.LOW.value,),
    "medium": (Severity.MEDIUM.value,),
    "high": (Severity.HIGH.value, Severity.CRITICAL.value),
}
_CLASSES: Final = {each.value: (each.value,) for each in Classification}
_DETERMINATIONS: Final = {each.value: (each.value,) for each in Determination}


def _own(words: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return {word: (word,) for word in words}


def alert_fields(tenant: str) -> dict[str, Field]:
    """What alerts may be filtered by."""
    c = alert_table.c
    return {
        "id": Field(Type.TEXT, c.id),
        "incidentId": Field(Type.TEXT, c.incident_id),
        "title": Field(Type.TEXT, c.title),
        "detectorId": Field(Type.TEXT, c.rule_id),
        "assignedTo": Field(Type.TEXT, c.assigned_to),
        "status": Field(Type.CHOICE, c.status, {**_own(each.value for each in AlertStatus), "unknown": ()}),
        "severity": Field(Type.CHOICE, c.severity, _SEVERITIES),
        "classification": Field(Type.CHOICE, c.classification, _CLASSES),
        "determination": Field(Type.CHOICE, c.determination, _DETERMINATIONS),
        "createdDateTime": Field(Type.TIME, c.created_at),
        "lastUpdateDateTime": Field(Type.TIME, sa.func.coalesce(c.updated_at, c.created_at)),
        "firstActivityDateTime": Field(Type.TIME, c.first_activity),
        "lastActivityDateTime": Field(Type.TIME, c.last_activity),
        "resolvedDateTime": Field(Type.TIME, c.resolved_at),
        "serviceSource": Field(Type.TEXT, constant=SERVICE),
        "detectionSource": Field(Type.TEXT, constant=DETECTION),
        "productName": Field(Type.TEXT, constant=PRODUCT),
        "tenantId": Field(Type.TEXT, constant=tenant),
    }


def incident_fields(tenant: str) -> dict[str, Field]:
    """What incidents may be filtered by."""
    c = incident_table.c
    return {
        "id": Field(Type.TEXT, c.id),
        "displayName": Field(Type.TEXT, c.title),
        "assignedTo": Field(Type.TEXT, c.assigned_to),
        "redirectIncidentId": Field(Type.TEXT, c.redirect_to),
        "status": Field(
            Type.CHOICE, c.status, {**_own(each.value for each in IncidentStatus), "awaitingAction": (), "unknown": ()}
        ),
        "severity": Field(Type.CHOICE, c.severity, _SEVERITIES),
        "classification": Field(Type.CHOICE, c.classification, _CLASSES),
        "determination": Field(Type.CHOICE, c.determination, _DETERMINATIONS),
        "createdDateTime": Field(Type.TIME, c.created_at),
        "lastUpdateDateTime": Field(Type.TIME, c.updated_at),
        "tenantId": Field(Type.TEXT, constant=tenant),
    }
