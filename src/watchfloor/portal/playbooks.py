"""Playbooks: which there are, how they are switched, what they propose and did, and trying them without doing anything.

Above ``response.playbooks``. What a playbook proposes is done as the operator who accepts it, with every guard.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import yaml
from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from watchfloor.model.cases import Incident, IncidentStatus
from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit, read_form
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.response_views import RunView, run_view
from watchfloor.portal.responses import JOB
from watchfloor.portal.views import Page, page
from watchfloor.response import playbooks
from watchfloor.response.playbook import parse
from watchfloor.response.playbooks import Switched
from watchfloor.response.runner import Operator
from watchfloor.storage import cases
from watchfloor.storage import playbooks as stored
from watchfloor.storage.cases import CaseFilter
from watchfloor.storage.control import ControlTx

router = APIRouter(prefix="/api", tags=["playbooks"])
pages = APIRouter(tags=["pages"], include_in_schema=False)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PlaybookView(BaseModel):
    """A playbook. ``approval`` required: it proposes; automatic: it acts by itself, as far as no guard forbids it."""

    id: str
    title: str
    description: str
    about: str
    is_shipped: bool
    is_enabled: bool
    approval: str
    active_from: datetime | None
    updated_by: str | None
    body: dict[str, Any]


class PlaybookBody(_Body):
    """``text`` is the playbook's YAML."""

    text: str = Field(max_length=100_000)


class SwitchBody(_Body):
    """What is left out stays."""

    is_enabled: bool | None = None
    approval: Literal["required", "automatic"] | None = None
    reason: str = Field(max_length=2000)


class TryBody(_Body):
    """A playbook by ``id``, or its ``text``; about one incident, or about the latest hundred that are open."""

    id: str = Field(default="", max_length=100)
    text: str = Field(default="", max_length=100_000)
    incident_id: str = Field(default="", max_length=100)


class RunBody(_Body):
    """The incident, and why."""

    incident_id: str = Field(max_length=100)
    reason: str = Field(default="", max_length=2000)


class AnswerBody(_Body):
    """Why; declining needs it."""

    reason: str = Field(default="", max_length=2000)


class PlannedItemView(BaseModel):
    """``pending``: would be done by itself; ``proposed``: an operator would be asked; else ``note`` says why not."""

    action: str
    subject_id: str
    state: str
    note: str


class PlannedView(BaseModel):
    """What a playbook would do about an incident."""

    incident_id: str
    title: str
    items: list[PlannedItemView]


def _view(each: Switched) -> PlaybookView:
    playbook = each.playbook
    return PlaybookView(
        id=playbook.id,
        title=playbook.title,
        description=playbook.description,
        about=playbook.about,
        is_shipped=each.is_shipped,
        is_enabled=each.is_enabled,
        approval=each.approval,
        active_from=each.active_from,
        updated_by=each.updated_by,
        body=playbook.model_dump(mode="json", by_alias=True, exclude_defaults=True),
    )


def _operator(viewer: Viewer) -> Operator:
    return Operator(viewer.id, viewer.permissions)


def _read(text: str) -> dict[str, Any]:
    try:
        body = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"this is not YAML: {' '.join(str(error).split())[:300]}.", where="text") from error
    if not isinstance(body, dict):
        raise InputError("a playbook is a mapping.", where="text", remedy="Begin with id, title, when, about, do.")
    return body


@router.get("/playbooks", summary="Playbooks")
def list_playbooks(viewer: Annotated[Viewer, permit(Permission.ALERT_READ)], deps: Deps) -> list[PlaybookView]:
    """All of them, by id."""
    with deps.control.read() as tx:
        return [_view(each) for each in playbooks.list_playbooks(tx)]


@router.get("/playbooks/{playbook_id}", summary="One playbook")
def read_playbook(
    playbook_id: str, viewer: Annotated[Viewer, permit(Permission.ALERT_READ)], deps: Deps
) -> PlaybookView:
    """`body` is as its file says it."""
    with deps.control.read() as tx:
        return _view(playbooks.find(tx, playbook_id))


@router.post("/playbooks", summary="Write a playbook, or write it anew")
def save_playbook(
    body: PlaybookBody, viewer: Annotated[Viewer, permit(Permission.PLAYBOOK_WRITE)], deps: Deps
) -> PlaybookView:
    """It answers to incidents that change from now on. One that acts by itself needs the permissions of its actions."""
    read = _read(body.text)
    with deps.control.tx(viewer.id) as tx:
        saved = _view(playbooks.save(tx, read, _operator(viewer)))
    deps.nudge("run_playbooks")
    return saved


@router.patch("/playbooks/{playbook_id}", summary="Switch a playbook")
def switch_playbook(
    playbook_id: str, body: SwitchBody, viewer: Annotated[Viewer, permit(Permission.PLAYBOOK_WRITE)], deps: Deps
) -> PlaybookView:
    """On or off; to propose, or to act by itself."""
    with deps.control.tx(viewer.id) as tx:
        return _view(
            playbooks.switch(
                tx,
                playbook_id,
                _operator(viewer),
                body.reason,
                is_enabled=body.is_enabled,
                approval=body.approval,
            )
        )


@router.delete("/playbooks/{playbook_id}", status_code=204, summary="Forget a playbook")
def delete_playbook(playbook_id: str, viewer: Annotated[Viewer, permit(Permission.PLAYBOOK_WRITE)], deps: Deps) -> None:
    """One of the product is switched off instead."""
    with deps.control.tx(viewer.id) as tx:
        playbooks.delete(tx, playbook_id)


@router.post("/playbooks/dry-run", summary="What a playbook would do now")
def try_playbook(
    body: TryBody, viewer: Annotated[Viewer, permit(Permission.ALERT_READ)], deps: Deps
) -> list[PlannedView]:
    """Nothing is done, and nothing stored."""
    if bool(body.id) == bool(body.text):
        raise InputError("name a playbook or write one.", where="id", remedy="Give id or text, not both.")
    with deps.control.read() as tx:
        if body.id:
            each = playbooks.find(tx, body.id)
        else:
            written = parse(_read(body.text))
            each = Switched(written, False, written.enabled, written.approval, None)
        return [
            PlannedView(
                incident_id=incident.id,
                title=incident.title,
                items=[
                    PlannedItemView(action=i.action, subject_id=i.subject_id, state=i.state, note=i.note) for i in items
                ],
            )
            for incident, items in playbooks.dry_run(tx, each, _incidents(tx, viewer, body.incident_id))
        ]


def _incidents(tx: ControlTx, viewer: Viewer, incident_id: str) -> list[Incident]:
    if not incident_id:
        statuses = (IncidentStatus.ACTIVE.value, IncidentStatus.IN_PROGRESS.value)
        return cases.list_incidents(tx, viewer.permissions, CaseFilter(statuses=statuses), 100)
    found = cases.find_incident(tx, viewer.permissions, incident_id)
    if found is None:
        raise NotFound(f"there is no incident {incident_id!r}.", where="incident_id")
    return [found]


@router.post("/playbooks/{playbook_id}/run", summary="Run a playbook about an incident")
def run_playbook(
    playbook_id: str, body: RunBody, viewer: Annotated[Viewer, permit(Permission.INCIDENT_TRIAGE)], deps: Deps
) -> RunView:
    """As the viewer: with their permissions and every guard. Once for each incident."""
    run = playbooks.run_now(deps.control, playbook_id, body.incident_id, _operator(viewer), body.reason)
    deps.nudge(JOB)
    return run_view(run)


@router.get("/playbook-runs", summary="What playbooks did and propose, newest first")
def list_playbook_runs(
    viewer: Annotated[Viewer, permit(Permission.ALERT_READ)],
    deps: Deps,
    incident: Annotated[str, Query(max_length=200)] = "",
    playbook: Annotated[str, Query(max_length=200)] = "",
    status: Annotated[list[str], Query(max_length=10)] = [],  # noqa: B006 - FastAPI copies it
    before: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[RunView]:
    """``before`` takes ``next``."""
    with deps.control.read() as tx:
        found = stored.list_runs(
            tx,
            incident_ids=[incident] if incident else [],
            playbook_id=playbook,
            statuses=status,
            before=before,
            limit=limit,
        )
    return page([run_view(run) for run in found], limit, "id")


def _accept(deps: PortalDeps, viewer: Viewer, run_id: str, reason: str) -> RunView:
    run = playbooks.accept(deps.control, run_id, _operator(viewer), reason)
    deps.nudge(JOB)
    return run_view(run)


@router.post("/playbook-runs/{run_id}/accept", summary="Do what a playbook proposes")
def accept_run(
    run_id: str, body: AnswerBody, viewer: Annotated[Viewer, permit(Permission.INCIDENT_TRIAGE)], deps: Deps
) -> RunView:
    """As the viewer: with their permissions and every guard."""
    return _accept(deps, viewer, run_id, body.reason)


@router.post("/playbook-runs/{run_id}/decline", summary="Do nothing of what a playbook proposes")
def decline_run(
    run_id: str, body: AnswerBody, viewer: Annotated[Viewer, permit(Permission.INCIDENT_TRIAGE)], deps: Deps
) -> RunView:
    """For good: it does not propose the same about the same incident again."""
    return run_view(playbooks.decline(deps.control, run_id, _operator(viewer), body.reason))


@pages.post("/proposals/{run_id}")
async def answer_proposal(
    run_id: str, request: Request, viewer: Annotated[Viewer, permit(Permission.INCIDENT_TRIAGE, form=True)], deps: Deps
) -> Response:
    """The incident's page: one click does what is proposed, or declines it."""
    form = await read_form(request)

    def answer() -> Response:
        if form.get("answer") == "decline":
            why = form.get("reason", "") or "declined on the incident's page"
            run = run_view(playbooks.decline(deps.control, run_id, _operator(viewer), why))
        else:
            run = _accept(deps, viewer, run_id, form.get("reason", ""))
        return RedirectResponse(f"/incidents/{run.incident_id}", 303)

    return await run_in_threadpool(answer)
