"""Alerts, incidents, users: what the SOC reads and triages.

Above ``storage.cases``, which decides what a viewer may see of it, and ``response``. The IT role comes through the same
routes and is answered from its unresolved high and critical alerts alone.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.cases import Alert, AlertStatus, Classification, Incident, IncidentStatus
from watchfloor.model.errors import NotFound
from watchfloor.model.people import Permission
from watchfloor.model.verdicts import Severity
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.views import (
    AlertView,
    IncidentDetailView,
    IncidentView,
    Page,
    PerformedView,
    UserDetailView,
    UserView,
    alert_view,
    incident_detail_view,
    incident_view,
    page,
    performed_view,
    record_view,
    user_view,
)
from watchfloor.response.catalog import Order
from watchfloor.response.runner import Operator, perform
from watchfloor.storage import actions, cases, people
from watchfloor.storage.cases import CaseFilter
from watchfloor.storage.control import ControlTx

router = APIRouter(prefix="/api", tags=["soc"])

MOST_ALERTS: Final = 500
"""Alerts of one incident that are shown with it; the list of alerts has them all."""

Limit = Annotated[int, Query(ge=1, le=200)]
Name = Annotated[str, Query(max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ActionBody(_Body):
    """Why, and as part of which incident."""

    reason: str = Field(max_length=2000)
    incident_id: str | None = Field(default=None, max_length=100)


class TriageBody(_Body):
    """What changes; what is left out stays. An empty ``assigned_to`` unassigns."""

    status: IncidentStatus | None = None
    classification: Classification | None = None
    assigned_to: str | None = Field(default=None, max_length=200)
    comment: str = Field(default="", max_length=10_000)


def visible_alerts(tx: ControlTx, viewer: Viewer, incident: Incident) -> list[Alert]:
    """The alerts of an incident that the viewer may see."""
    return cases.list_alerts(tx, viewer.permissions, CaseFilter(incident_id=incident.id), MOST_ALERTS)


def incident_views(tx: ControlTx, viewer: Viewer, incidents: list[Incident]) -> list[IncidentView]:
    """Incidents as the viewer may see them; cut-down ones are retold from their visible alerts."""
    return [
        incident_view(i, visible_alerts(tx, viewer, i) if not cases.sees_everything(viewer.permissions) else ())
        for i in incidents
    ]


def incident_detail(tx: ControlTx, viewer: Viewer, incident_id: str) -> IncidentDetailView:
    """One incident with all that the viewer may see. Raises ``NotFound``, for what may not be seen too."""
    found = cases.find_incident(tx, viewer.permissions, incident_id)
    if found is None:
        raise NotFound(f"there is no incident {incident_id!r}.", where="incident")
    everything = cases.sees_everything(viewer.permissions)
    # What was done may name things of alerts that the viewer does not see.
    records = actions.list_records(tx, incident_id=found.id, limit=100) if everything else []
    return incident_detail_view(found, visible_alerts(tx, viewer, found), records, with_events=everything)


def triage(deps: PortalDeps, viewer: Viewer, incident_id: str, body: TriageBody) -> IncidentDetailView:
    """Change what people decide about an incident, and keep a record of it."""
    with deps.control.tx(viewer.id) as tx:
        if cases.find_incident(tx, viewer.permissions, incident_id) is None:
            raise NotFound(f"there is no incident {incident_id!r}.", where="incident")
        if body.assigned_to and people.find_operator(tx, body.assigned_to) is None:
            raise NotFound(f"there is no operator {body.assigned_to!r}.", where="assigned_to")
        cases.triage_incident(
            tx,
            incident_id,
            status=body.status,
            classification=body.classification,
            assigned_to=body.assigned_to,
            comment=body.comment.strip(),
        )
        changed = body.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        if changed:
            actions.add_record(tx, "triage_incident", f"incident/{incident_id}", "done", changed, incident_id)
        return incident_detail(tx, viewer, incident_id)


@router.get("/alerts", summary="Alerts, newest first")
def list_alerts(
    viewer: Annotated[Viewer, permit(Permission.ALERT_READ_SERIOUS)],
    deps: Deps,
    agent: Name = "",
    user: Name = "",
    rule: Name = "",
    incident: Name = "",
    severity: Annotated[list[Severity], Query(max_length=5)] = [],  # noqa: B006 FastAPI copies it
    status: Annotated[list[AlertStatus], Query(max_length=3)] = [],  # noqa: B006 - FastAPI copies it
    before: Name = "",
    limit: Limit = 50,
) -> Page[AlertView]:
    """``before`` takes ``next``. Who may read only serious alerts gets unresolved high and critical ones, whatever
    they ask for."""
    filters = CaseFilter(agent, user, severity, [s.value for s in status], incident, rule, before)
    with deps.control.read() as tx:
        found = cases.list_alerts(tx, viewer.permissions, filters, limit)
    return page([alert_view(a) for a in found], limit, "id")


@router.get("/alerts/{alert_id}", summary="One alert")
def read_alert(
    alert_id: str, viewer: Annotated[Viewer, permit(Permission.ALERT_READ_SERIOUS)], deps: Deps
) -> AlertView:
    """One that may not be seen is not found."""
    with deps.control.read() as tx:
        found = cases.find_alert(tx, viewer.permissions, alert_id)
    if found is None:
        raise NotFound(f"there is no alert {alert_id!r}.", where="alert")
    return alert_view(found)


@router.get("/incidents", summary="Incidents, newest first")
def list_incidents(
    viewer: Annotated[Viewer, permit(Permission.ALERT_READ_SERIOUS)],
    deps: Deps,
    agent: Name = "",
    user: Name = "",
    severity: Annotated[list[Severity], Query(max_length=5)] = [],  # noqa: B006 - FastAPI copies it
    status: Annotated[list[IncidentStatus], Query(max_length=4)] = [],  # noqa: B006 - FastAPI copies it
    before: Name = "",
    limit: Limit = 50,
) -> Page[IncidentView]:
    """``before`` takes ``next``. Merged incidents are listed only with ``status=redirected``."""
    filters = CaseFilter(agent, user, severity, [s.value for s in status], before=before)
    with deps.control.read() as tx:
        found = cases.list_incidents(tx, viewer.permissions, filters, limit)
        views = incident_views(tx, viewer, found)
    shown = page(views, limit, "id")
    if severity:  # the severity of a cut-down incident is known only once it has been retold
        shown.items = [v for v in shown.items if v.severity in severity]
    return shown


@router.get("/incidents/{incident_id}", summary="One incident: story, alerts, events, what was done")
def read_incident(
    incident_id: str, viewer: Annotated[Viewer, permit(Permission.ALERT_READ_SERIOUS)], deps: Deps
) -> IncidentDetailView:
    """One that may not be seen is not found. Events and records are for those who may read every alert."""
    with deps.control.read() as tx:
        return incident_detail(tx, viewer, incident_id)


@router.patch("/incidents/{incident_id}", summary="Triage an incident")
def change_incident(
    incident_id: str, body: TriageBody, viewer: Annotated[Viewer, permit(Permission.INCIDENT_TRIAGE)], deps: Deps
) -> IncidentDetailView:
    """Its alerts follow its status. Resolving needs a classification."""
    return triage(deps, viewer, incident_id, body)


@router.get("/users", summary="Users of agents")
def list_users(viewer: Annotated[Viewer, permit(Permission.USER_READ)], deps: Deps) -> Page[UserView]:
    """All of them, by id."""
    with deps.control.read() as tx:
        return Page(items=[user_view(u) for u in people.list_users(tx)])


@router.get("/users/{user_id}", summary="One user with their alerts and incidents")
def read_user(user_id: str, viewer: Annotated[Viewer, permit(Permission.USER_READ)], deps: Deps) -> UserDetailView:
    """Alerts and incidents as far as the viewer may see them."""
    with deps.control.read() as tx:
        user = people.find_user(tx, user_id)
        if user is None:
            raise NotFound(f"there is no user {user_id!r}.", where="user")
        filters = CaseFilter(user_id=user_id)
        everything = cases.sees_everything(viewer.permissions)
        records = actions.list_records(tx, subject=f"user/{user_id}", limit=50) if everything else []
        return UserDetailView(
            **user_view(user).model_dump(),
            alerts=[alert_view(a) for a in cases.list_alerts(tx, viewer.permissions, filters, 50)],
            incidents=incident_views(tx, viewer, cases.list_incidents(tx, viewer.permissions, filters, 20)),
            records=[record_view(r) for r in records],
        )


@router.post("/users/{user_id}/revoke-sessions", summary="End every session of a user")
def revoke_sessions(
    user_id: str, body: ActionBody, viewer: Annotated[Viewer, permit(Permission.USER_REVOKE)], deps: Deps
) -> PerformedView:
    """When this answers, no tool call on behalf of the user that starts later is allowed on this host."""
    order = Order(user_id, body.reason, body.incident_id)
    operator = Operator(viewer.id, viewer.permissions)
    return performed_view(perform(deps.control, deps.epoch, deps.now, operator, "revoke_user_sessions", order))
