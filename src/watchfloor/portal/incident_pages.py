"""Incidents as pages: the list, and one incident with its story, alerts, events, and what to do.

Made from the same views as the API, so nobody sees more here than there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from watchfloor.model.cases import Classification, EntityKind, IncidentStatus
from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit, read_form
from watchfloor.portal.case_views import ContainmentView, EventView, IncidentDetailView
from watchfloor.portal.deps import Deps
from watchfloor.portal.html import Child, Html, h
from watchfloor.portal.incidents import TriageBody, change, incident_detail, incident_views
from watchfloor.portal.layout import Column, alarm, badge, csrf, moment, path, section, shell, table, word
from watchfloor.portal.parts import alert_item, incident_table, record_table
from watchfloor.portal.problems import status_of
from watchfloor.portal.response_parts import act_link, proposals, response_parts
from watchfloor.response.catalog import ACTIONS
from watchfloor.response.containment import Confirmation
from watchfloor.storage import cases
from watchfloor.storage.cases import CaseFilter

router = APIRouter(tags=["pages"], include_in_schema=False)

_OFFERED: Final = {
    EntityKind.USER.value: (
        ("confirm_user_compromised", "Confirm {} compromised"),
        ("revoke_user_sessions", "Revoke sessions of {}"),
    ),
    EntityKind.AGENT.value: (("confirm_agent_compromised", "Quarantine {}"), ("block_agent", "Block {}")),
}

_MOST_ADVICE: Final = 4
_PAGES: Final = {EntityKind.USER.value: "users", EntityKind.AGENT.value: "agents"}


@router.get("/incidents")
def incidents(viewer: Annotated[Viewer, permit(Permission.ALERT_READ_SERIOUS)], deps: Deps) -> Response:
    """The latest hundred."""
    with deps.control.read() as tx:
        found = incident_views(tx, viewer, cases.list_incidents(tx, viewer.permissions, CaseFilter(), 100))
    return shell(viewer, "Incidents", h("h1", "Incidents"), incident_table(found), here="/incidents")


def _why(event: EventView) -> str:
    said = "jailbreak words" if event.jailbreak else ""
    reason = event.reason if event.stopped or not event.reason else f"{event.reason} (audit only)"
    return ", ".join(filter(None, (reason, said))) or "none"


def _advice(texts: Sequence[str]) -> Html:
    """The most pressing first; the others can be opened."""
    shown = h("ul", [h("li", t) for t in texts[:_MOST_ADVICE]], cls="advice")
    rest = texts[_MOST_ADVICE:]
    if not rest:
        return shown
    more = h("details", h("summary", f"{len(rest)} more"), h("ul", [h("li", t) for t in rest], cls="advice"))
    return h("div", shown, more)


def _event_table(view: IncidentDetailView) -> Html:
    columns = (
        Column("Time (UTC)"),
        Column("User"),
        Column("Address"),
        Column("Tool"),
        Column("Verdict"),
        Column("Reason", wide=True),
    )
    rows = [
        (
            moment(e.at),
            e.user or "the agent itself",
            h("code", e.address) if e.address else "not known",
            h("code", f"{e.server}/{e.tool}") if e.tool else e.action,
            badge(e.verdict or "block"),
            _why(e),
        )
        for e in view.events
    ]
    return table("Events", columns, rows, "Events are shown to those who may read every alert.")


def _offered(viewer: Viewer, view: IncidentDetailView) -> list[Html]:
    """Buttons for what this viewer can do about the incident's users and agents."""
    buttons = []
    for entity in view.entities:
        for action_id, label in _OFFERED.get(entity.kind, ()):
            if ACTIONS[action_id].permission in viewer.permissions:
                buttons.append(act_link(action_id, entity.id, view.id, label.format(entity.name), danger=True))
    return buttons


def _points(view: IncidentDetailView) -> Html:
    """Why the incident stands where it stands in the queue."""
    return h("ul", [h("li", f"{reason.points}: {reason.text}") for reason in view.priority_reasons], cls="advice")


def _confirmed(each: ContainmentView) -> Child:
    """What the identity provider says, where it was asked."""
    if each.provider is Confirmation.NOT_ASKED:
        return None
    words = {
        Confirmation.CONFIRMED: badge("Provider confirms", "good"),
        Confirmation.PENDING: badge("Provider asked", "plain"),
        Confirmation.FAILED: badge("Provider does not confirm", "high"),
    }
    return h("p", words[each.provider], f" {each.provider_says}", cls="note")


def _contained(view: IncidentDetailView) -> Html | None:
    """Whether those that it is about are contained, as state says."""
    if not view.containment:
        return None
    items = [
        h(
            "li",
            badge("Contained", "good") if each.is_contained else badge("Not contained", "high"),
            f" {each.name}: {each.because}",
            _confirmed(each),
        )
        for each in view.containment
    ]
    return section("Containment", h("ul", items, cls="advice"), note="read from state, not from what was ordered")


def _triage(viewer: Viewer, view: IncidentDetailView) -> Child:
    if Permission.INCIDENT_TRIAGE not in viewer.permissions or view.status is IncidentStatus.REDIRECTED:
        return None

    def choice(name: str, label: str, values: Sequence[str], chosen: str) -> Html:
        options = [h("option", word(v), value=v, selected=v == chosen) for v in values]
        return h("div", h("label", label, for_=name), h("select", options, id=name, name=name), cls="field")

    states = [s.value for s in IncidentStatus if s is not IncidentStatus.REDIRECTED]
    return section(
        "Triage",
        h(
            "form",
            csrf(viewer),
            choice("status", "Status", states, view.status.value),
            choice("classification", "Classification", [c.value for c in Classification], view.classification.value),
            h("div", h("label", "Comment", for_="comment"), h("input", id="comment", name="comment", maxlength=2000),
              cls="field grow"),
            h("button", "Save", type="submit", cls="primary"),
            method="post",
            action=path("incidents", view.id, "triage"),
            cls="inline",
        ),
    )  # fmt: skip


def _entity_list(view: IncidentDetailView) -> Html:
    kinds: dict[str, list[Child]] = {}
    for e in view.entities:
        link = path(_PAGES[e.kind], e.id) if e.kind in _PAGES else None
        shown = h("a", e.name, href=link) if link else h("span", e.name)
        kinds.setdefault(e.kind, []).append(h("li", shown, h("span", f" {e.role}", cls="note")))
    return h("dl", [(h("dt", kind.title()), h("dd", h("ul", items))) for kind, items in kinds.items()], cls="entities")


@router.get("/incidents/{incident_id}")
def incident(
    incident_id: str, viewer: Annotated[Viewer, permit(Permission.ALERT_READ_SERIOUS)], deps: Deps, problem: str = ""
) -> Response:
    """Story, alerts, events, entities, what to do and what was done."""
    with deps.control.read() as tx:
        view = incident_detail(tx, viewer, incident_id)
    return _incident_page(viewer, view)


def _incident_page(viewer: Viewer, view: IncidentDetailView, problem: str = "") -> Response:
    merged = (
        h(
            "p",
            "This incident was merged into ",
            h("a", view.redirect_to, href=path("incidents", view.redirect_to)),
            ".",
        )
        if view.redirect_to
        else None
    )
    buttons = _offered(viewer, view)
    assigned = f" · assigned to {view.assigned_to}" if view.assigned_to else ""
    tags = f" · {', '.join(view.tags)}" if view.tags else ""
    classified = f" · {word(view.classification.value)}" if view.classification is not Classification.UNKNOWN else ""
    return shell(
        viewer,
        view.title,
        h("p", h("a", "Incidents", href="/incidents"), " / ", view.id, cls="crumbs"),
        h("div", badge(view.severity.value), badge(view.status.value),
          h("span", f"priority {view.priority}", classified, assigned, tags, cls="note"), cls="line"),
        h("h1", view.title),
        alarm(problem) if problem else None,
        [alarm(warning) for warning in view.warnings] if view.status is IncidentStatus.RESOLVED else None,
        merged,
        h("p", view.description, cls="story"),
        h("div", buttons, cls="buttons") if buttons else None,
        h(
            "div",
            section(
                f"Alerts ({len(view.alerts)})",
                h("ol", [alert_item(a) for a in view.alerts], cls="alerts"),
                note="in the order in which they began",
            ),
            h(
                "div",
                section("Recommended", _advice(view.recommended_actions)),
                _contained(view),
                section("Priority", _points(view), note="points that add up, at most 100"),
                section("Involved", _entity_list(view)),
            ),
            cls="columns",
        ),
        section("Proposed", *proposals(viewer, view.playbook_runs), note="by playbooks; nothing of it was done")
        if any(run.status == "proposed" for run in view.playbook_runs)
        else None,
        section("Responses", *response_parts(viewer, view.responses), note="as they stand now")
        if view.responses
        else None,
        section("Events", _event_table(view), note="what the alerts point to, oldest first"),
        _triage(viewer, view),
        section("What was done", record_table(view.records)),
        here="/incidents",
    )  # fmt: skip


@router.post("/incidents/{incident_id}/triage")
async def triage_incident(
    incident_id: str, request: Request, viewer: Annotated[Viewer, permit(Permission.INCIDENT_TRIAGE, form=True)],
    deps: Deps,
) -> Response:  # fmt: skip
    """Saves status, classification and comment, and shows the incident again."""
    form = await read_form(request)

    def save() -> Response:
        try:
            body = TriageBody(
                status=IncidentStatus(form.get("status", "")),
                classification=Classification(form.get("classification", "")),
                comment=form.get("comment", "").strip()[:2000],
            )
        except ValueError as error:
            raise InputError("not a status or classification.", where="status") from error
        try:
            change(deps, viewer, incident_id, body)
        except NotFound:
            raise
        except InputError as error:
            with deps.control.read() as tx:
                view = incident_detail(tx, viewer, incident_id)
            page = _incident_page(viewer, view, f"Not saved: {error.message} {error.remedy}")
            page.status_code = status_of(error)[0]
            return page
        return RedirectResponse(path("incidents", incident_id), 303)

    return await run_in_threadpool(save)
