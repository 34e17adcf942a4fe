"""Alerts and incidents: what the SOC reads, triages and takes along as evidence.

Above ``storage.cases``, which decides what a viewer may see of it. The IT role comes through the same routes and is
answered from its unresolved high and critical alerts alone. Graph's clients come through ``graph_cases``.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from watchfloor import __version__
from watchfloor.detection import reshape
from watchfloor.detection.priority import Priority, weigh_alerts
from watchfloor.model.cases import (
    Alert,
    AlertStatus,
    Classification,
    Determination,
    Incident,
    IncidentStatus,
)
from watchfloor.model.errors import NotFound, Unavailable
from watchfloor.model.people import Permission
from watchfloor.model.verdicts import Severity
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.case_views import (
    AlertView,
    CaseEntryView,
    IncidentDetailView,
    IncidentView,
    SimilarView,
    alert_view,
    entry_view,
    incident_detail_view,
    incident_view,
    similar_view,
)
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.response_views import response_views, run_view
from watchfloor.portal.views import Page, page
from watchfloor.response import case_files
from watchfloor.response.containment import containment
from watchfloor.storage import actions, case_file, cases, people, playbooks, sagas, similar, triage
from watchfloor.storage.cases import CaseFilter
from watchfloor.storage.control import ControlTx

router = APIRouter(prefix="/api", tags=["soc"])

MOST_ALERTS: Final = 500
"""Alerts of one incident that are shown with it; the list of alerts has them all."""

MOST_RESPONSES: Final = 50
"""Responses that are shown with an incident; the list of responses has them all."""

Limit = Annotated[int, Query(ge=1, le=200)]
Name = Annotated[str, Query(max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TriageBody(_Body):
    """What changes; what is left out stays. An empty ``assigned_to`` unassigns; ``tags`` replaces all."""

    status: IncidentStatus | None = None
    classification: Classification | None = None
    determination: Determination | None = None
    assigned_to: str | None = Field(default=None, max_length=200)
    tags: list[str] | None = Field(default=None, max_length=100)
    comment: str = Field(default="", max_length=triage.LONGEST_COMMENT)


class AlertTriageBody(_Body):
    """What changes of one alert; what is left out stays."""

    status: AlertStatus | None = None
    classification: Classification | None = None
    determination: Determination | None = None
    assigned_to: str | None = Field(default=None, max_length=200)
    comment: str = Field(default="", max_length=triage.LONGEST_COMMENT)


class CommentBody(_Body):
    """A comment."""

    comment: str = Field(min_length=1, max_length=triage.LONGEST_COMMENT)


class MergeBody(_Body):
    """The incident that this one becomes part of, and why."""

    into: str = Field(max_length=100)
    reason: str = Field(min_length=1, max_length=2000)


class SplitBody(_Body):
    """The alerts that become an incident of their own, and why."""

    alert_ids: list[str] = Field(min_length=1, max_length=10_000)
    reason: str = Field(min_length=1, max_length=2000)


def visible_alerts(tx: ControlTx, viewer: Viewer, incident: Incident) -> list[Alert]:
    """The alerts of an incident that the viewer may see."""
    return cases.list_alerts(tx, viewer.permissions, CaseFilter(incident_id=incident.id), MOST_ALERTS)


def incident_views(tx: ControlTx, viewer: Viewer, incidents: list[Incident]) -> list[IncidentView]:
    """Incidents as the viewer may see them; cut-down ones are retold from their visible alerts."""
    return [
        incident_view(i, visible_alerts(tx, viewer, i) if not cases.sees_everything(viewer.permissions) else ())
        for i in incidents
    ]


def find_visible(tx: ControlTx, viewer: Viewer, incident_id: str) -> Incident:
    """The incident as far as the viewer may see it. Raises ``NotFound``, for what may not be seen too."""
    found = cases.find_incident(tx, viewer.permissions, incident_id)
    if found is None:
        raise NotFound(f"there is no incident {incident_id!r}.", where="incident")
    return found


def incident_detail(tx: ControlTx, viewer: Viewer, incident_id: str) -> IncidentDetailView:
    """One incident with all that the viewer may see. Raises ``NotFound``, for what may not be seen too."""
    found = find_visible(tx, viewer, incident_id)
    everything = cases.sees_everything(viewer.permissions)
    # What was done may name things of alerts that the viewer does not see.
    records = actions.list_records(tx, incident_id=found.id, limit=100) if everything else []
    runs = playbooks.list_runs(tx, incident_ids=[found.id]) if everything else []
    begun = sagas.list_sagas(tx, incident_id=found.id, limit=MOST_RESPONSES) if everything else []
    alerts = visible_alerts(tx, viewer, found)
    return incident_detail_view(
        found,
        alerts,
        records,
        weigh_alerts(tx, alerts) if alerts else Priority(0, ()),
        containment(tx, alerts) if found.status is not IncidentStatus.REDIRECTED else (),
        response_views(tx, begun),
        [run_view(run) for run in runs],
        with_events=everything,
    )


def change(deps: PortalDeps, viewer: Viewer, incident_id: str, body: TriageBody) -> IncidentDetailView:
    """Change what people decide about an incident, and keep a record of it."""
    with deps.control.tx(viewer.id) as tx:
        find_visible(tx, viewer, incident_id)
        _require_operator(tx, body.assigned_to)
        triage.triage_incident(
            tx,
            incident_id,
            status=body.status,
            classification=body.classification,
            determination=body.determination,
            assigned_to=body.assigned_to,
            tags=body.tags,
            comment=body.comment.strip(),
        )
        changed = body.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        if changed:
            actions.add_record(tx, "triage_incident", f"incident/{incident_id}", "done", changed, incident_id)
        return incident_detail(tx, viewer, incident_id)


def _require_operator(tx: ControlTx, assigned_to: str | None) -> None:
    if assigned_to and people.find_operator(tx, assigned_to) is None:
        raise NotFound(f"there is no operator {assigned_to!r}.", where="assigned_to")


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


@router.patch("/alerts/{alert_id}", summary="Triage one alert")
def change_alert(
    alert_id: str, body: AlertTriageBody, viewer: Annotated[Viewer, permit(Permission.INCIDENT_TRIAGE)], deps: Deps
) -> AlertView:
    """Its incident stays as it is."""
    with deps.control.tx(viewer.id) as tx:
        if cases.find_alert(tx, viewer.permissions, alert_id) is None:
            raise NotFound(f"there is no alert {alert_id!r}.", where="alert")
        _require_operator(tx, body.assigned_to)
        changed = triage.triage_alert(
            tx,
            alert_id,
            status=body.status,
            classification=body.classification,
            determination=body.determination,
            assigned_to=body.assigned_to,
            comment=body.comment.strip(),
        )
        return alert_view(changed)


@router.get("/incidents", summary="Incidents, newest first")
def list_incidents(
    viewer: Annotated[Viewer, permit(Permission.ALERT_READ_SERIOUS)],
    deps: Deps,
    agent: Name = "",
    user: Name = "",
    severity: Annotated[list[Severity], Query(max_length=5)] = [],  # noqa: B006 - FastAPI copies it
    status: Annotated[list[IncidentStatus], Query(max_length=4)] = [],  # noqa: B006 - FastAPI copies it
    order: Literal["newest", "priority"] = "newest",
    before: Name = "",
    limit: Limit = 50,
) -> Page[IncidentView]:
    """``before`` takes ``next``. Merged incidents are listed only with ``status=redirected``. Who may read only serious
    alerts gets the newest first, whatever they ask for: the stored priority speaks of the others, too."""
    by_priority = order == "priority" and cases.sees_everything(viewer.permissions)
    filters = CaseFilter(agent, user, severity, [s.value for s in status], before=before, by_priority=by_priority)
    with deps.control.read() as tx:
        found = cases.list_incidents(tx, viewer.permissions, filters, limit)
        views = incident_views(tx, viewer, found)
    shown = page(views, limit, "id")
    if by_priority and shown.next:
        shown.next = f"{views[-1].priority}:{shown.next}"
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
    return change(deps, viewer, incident_id, body)


@router.get("/incidents/{incident_id}/activity", summary="What happened to an incident: joins, changes, comments")
def read_activity(
    incident_id: str,
    viewer: Annotated[Viewer, permit(Permission.ALERT_READ)],
    deps: Deps,
    before: Name = "",
    limit: Limit = 100,
) -> Page[CaseEntryView]:
    """Newest first, with what happened to its alerts and to incidents that were merged into it."""
    with deps.control.read() as tx:
        find_visible(tx, viewer, incident_id)
        found = triage.entries_of_incident(tx, incident_id, before=before, limit=limit)
    return page([entry_view(entry) for entry in found], limit, "id")


@router.post("/incidents/{incident_id}/comments", status_code=201, summary="Comment on an incident")
def comment_on_incident(
    incident_id: str, body: CommentBody, viewer: Annotated[Viewer, permit(Permission.INCIDENT_TRIAGE)], deps: Deps
) -> CaseEntryView:
    """It stands in the activity log for good."""
    with deps.control.tx(viewer.id) as tx:
        find_visible(tx, viewer, incident_id)
        return entry_view(triage.comment(tx, body.comment, incident_id=incident_id))


@router.get("/incidents/{incident_id}/similar", summary="Incidents that share people, things and findings with one")
def list_similar(
    incident_id: str,
    viewer: Annotated[Viewer, permit(Permission.ALERT_READ)],
    deps: Deps,
    limit: Annotated[int, Query(ge=1, le=50)] = 10,
) -> Page[SimilarView]:
    """The most alike first, each with what it shares."""
    with deps.control.read() as tx:
        find_visible(tx, viewer, incident_id)
        found = similar.similar_to(tx, incident_id, limit)
    return Page(items=[similar_view(each) for each in found])


@router.get("/incidents/{incident_id}/case-file", summary="An incident as signed evidence, to be checked offline")
def read_case_file(
    incident_id: str, viewer: Annotated[Viewer, permit(Permission.EXPORT_RUN)], deps: Deps
) -> StreamingResponse:
    """JSON lines in a hash chain under the installation's signature: ``watchfloor case verify`` checks them anywhere.
    No contents of messages are in it."""
    signer = deps.control.signer
    if signer is None:
        raise Unavailable("this server has no key to sign with: it was started without one.")
    with deps.control.tx(viewer.id) as tx:
        found = find_visible(tx, viewer, incident_id)
        case = case_files.gather(tx, deps.activity, found)
        tx.audit("incident:export", f"incident/{incident_id}", {"lines": len(case)})
    header = {
        "incident": incident_id,
        "tenant": deps.tenant,
        "made_by": viewer.id,
        "server": deps.public_url,
        "version": __version__,
    }
    lines = case_file.write_case_file(header, case, signer, deps.now())
    name = {"Content-Disposition": f'attachment; filename="{incident_id}.case.jsonl"'}
    return StreamingResponse(lines, media_type="application/jsonl", headers=name)


@router.post("/incidents/{incident_id}/merge", summary="Make an incident part of another one")
def merge_incident(
    incident_id: str, body: MergeBody, viewer: Annotated[Viewer, permit(Permission.INCIDENT_TRIAGE)], deps: Deps
) -> IncidentDetailView:
    """Answers the one that is left. What comes later of the merged one's activity joins it, too."""
    with deps.control.tx(viewer.id) as tx:
        for each in (incident_id, body.into):
            find_visible(tx, viewer, each)
        reshape.merge(tx, incident_id, body.into, body.reason.strip())
        return incident_detail(tx, viewer, body.into)


@router.post("/incidents/{incident_id}/split", summary="Take alerts out of an incident into a new one")
def split_incident(
    incident_id: str, body: SplitBody, viewer: Annotated[Viewer, permit(Permission.INCIDENT_TRIAGE)], deps: Deps
) -> IncidentDetailView:
    """Answers the new one. Nothing joins it by itself."""
    with deps.control.tx(viewer.id) as tx:
        find_visible(tx, viewer, incident_id)
        return incident_detail(tx, viewer, reshape.split(tx, incident_id, body.alert_ids, body.reason.strip()))
