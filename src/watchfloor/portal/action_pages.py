"""Actions as pages: what will happen and why, asked first; then the proof that it did.

One pair of routes for every action of ``response.catalog``; the action's own permission is checked by its runner.
"""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from watchfloor.model.errors import Denied, NotFound, WatchfloorError
from watchfloor.model.people import Permission
from watchfloor.model.sagas import SagaStatus
from watchfloor.portal.auth import Viewer, permit, read_form
from watchfloor.portal.blocking import impact_list, impact_of
from watchfloor.portal.decisions import parsed, read_contents
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.holds import acting, visible_hold
from watchfloor.portal.html import Child, h
from watchfloor.portal.layout import alarm, csrf, moment, path, shell
from watchfloor.portal.problems import status_of
from watchfloor.portal.responses import JOB
from watchfloor.response.catalog import ACTIONS, YES, Action, Order
from watchfloor.response.runner import Performed, perform
from watchfloor.storage.activity import text

router = APIRouter(tags=["pages"], include_in_schema=False)

IncidentId = Annotated[str, Query(max_length=100)]


def _action(deps: PortalDeps, viewer: Viewer, action_id: str) -> Action:
    action = ACTIONS.get(action_id)
    if action is None:
        raise NotFound(f"there is no action {action_id!r}.", where="action")
    if action.permission not in acting(deps, viewer).permissions:
        raise Denied(f"{action.title} needs the permission {action.permission.value}.")
    return action


def _back(action: Action, subject: str, incident_id: str) -> str:
    if incident_id:
        return path("incidents", incident_id)
    return {
        "agent": path("agents", subject),
        "user": path("users", subject),
        "hold": "/holds",
        "response": path("responses", subject),
        "response step": path("responses", subject.partition("/")[0]),
    }.get(action.subject, "/")


def _held_call(deps: PortalDeps, viewer: Viewer, hold_id: str) -> Child:
    """What an approver would let out: the call with its arguments. Reading them is audited like any reading."""
    with deps.control.read() as tx:
        hold = visible_hold(tx, viewer, hold_id)
    facts = [
        ("Tool", h("code", f"{hold.server_id}/{hold.tool}")),
        ("Agent", hold.agent_id),
        ("For", hold.user_id or "the agent itself"),
        ("Held because", hold.reason if Permission.DECISION_READ in viewer.permissions else ", ".join(hold.policies)),
        ("Expires (UTC)", moment(hold.expires_at)),
    ]
    if Permission.CONTENT_READ in viewer.permissions:
        rows = read_contents(deps, viewer, [hold.invocation_id])
        content = parsed(text(rows[0], "Content")) if rows else None
        if isinstance(content, dict):
            shown = json.dumps(content.get("arguments", {}), indent=2, ensure_ascii=False)
            facts.append(("Arguments", h("pre", shown, tabindex="0", aria_label="Arguments")))
    return h("dl", [(h("dt", name), h("dd", value)) for name, value in facts], cls="entities")


def _ask(
    viewer: Viewer,
    action: Action,
    subject: str,
    incident_id: str,
    problem: str = "",
    reason: str = "",
    about: Child = None,
) -> Response:
    undo = f"To take it back: {ACTIONS[action.undo].title.lower()}." if action.undo else action.no_undo
    form = h(
        "form",
        csrf(viewer),
        h("input", type="hidden", name="subject", value=subject),
        h("input", type="hidden", name="incident", value=incident_id),
        h(
            "div",
            h("label", "Why" if action.needs_reason else "Why (optional)", for_="reason"),
            h(
                "textarea", reason, id="reason", name="reason", rows=3, maxlength=1000, required=action.needs_reason,
                autofocus=True, aria_describedby="reason-hint",
            ),
            h("p", "It stands in the audit log with your name.", id="reason-hint", cls="hint"),
            cls="field",
        ),
        [
            h(
                "div",
                h("input", type="checkbox", id=option.name, name=option.name, value=YES),
                " ",
                h("label", option.label, for_=option.name),
                cls="field",
            )
            for option in action.options
        ],
        h("button", action.title, type="submit", cls="danger" if action.stops else "primary"),
        h("a", "Cancel", href=_back(action, subject, incident_id), cls="button quiet"),
        method="post",
        action=path("act", action.id),
    )  # fmt: skip
    return shell(
        viewer,
        action.title,
        h(
            "section",
            h("h1", f"{action.title}?"),
            h("p", action.subject.title(), " ", h("code", subject), cls="lead"),
            alarm(problem) if problem else None,
            about,
            h("p", action.says),
            h("p", action.precondition, cls="note") if action.precondition else None,
            h("p", undo, cls="note"),
            form,
            cls="ask",
        ),
    )


def _proof(viewer: Viewer, action: Action, subject: str, incident_id: str, done: Performed) -> Response:
    waits = done.proof.get("status") == SagaStatus.WAITING
    took = (done.acknowledged_at - done.committed_at).total_seconds() * 1000
    facts: list[tuple[str, Child]] = [
        ("Subject", h("code", done.subject)),
        ("Committed (UTC)", moment(done.committed_at)),
        ("Acknowledged", f"{took:.0f} ms later"),
    ]
    if done.revision is not None:
        facts.append(("Revision of state", str(done.revision)))
        facts.append(("Announced to the gateway workers", str(done.epoch)))
    facts += [(name.replace("_", " "), str(value)) for name, value in done.proof.items()
              if value is not None and name != "revision"]  # fmt: skip
    says = "Nothing was done yet: a second operator has to approve it." if waits else action.says
    response_id = done.proof.get("response")
    follow = path("responses", str(response_id)) if response_id else _back(action, subject, incident_id)
    return shell(
        viewer,
        f"{action.title}: {'asked for' if waits else 'done'}",
        h("h1", "Asked for" if waits else "Done"),
        h("p", says, role="status", cls="lead"),
        h("dl", [(h("dt", name), h("dd", value)) for name, value in facts], cls="facts"),
        h("p", h("a", "Go on", href=follow, cls="button")),
    )


@router.get("/act/{action_id}")
def ask(
    action_id: str,
    viewer: Annotated[Viewer, permit(Permission.PORTAL_USE)],
    deps: Deps,
    subject: Annotated[str, Query(min_length=1, max_length=400)],
    incident: IncidentId = "",
) -> Response:
    """What will happen, and why: asked before anything is done."""
    action = _action(deps, viewer, action_id)
    about: Child = _held_call(deps, viewer, subject) if action.subject == "hold" else None
    if action.id == "block_agent":
        about = impact_list(impact_of(deps, subject))
    return _ask(viewer, action, subject, incident, about=about)


@router.post("/act/{action_id}")
async def act(
    action_id: str, request: Request, viewer: Annotated[Viewer, permit(Permission.PORTAL_USE, form=True)], deps: Deps
) -> Response:
    """Does it and shows the proof. The action's own permission is checked by the runner."""
    form = await read_form(request)
    action = await run_in_threadpool(_action, deps, viewer, action_id)
    subject, incident_id = form.get("subject", ""), form.get("incident", "")
    reason = form.get("reason", "")

    def carry_out() -> Response:
        operator = acting(deps, viewer)
        try:
            wanted = {o.name: YES for o in action.options if form.get(o.name) == YES}
            order = Order(subject, reason, incident_id or None, wanted)
            done = perform(deps.control, deps.epoch, deps.now, operator, action_id, order)
        except WatchfloorError as error:
            page = _ask(viewer, action, subject, incident_id, f"Not done: {error}", reason)
            page.status_code = status_of(error)[0]
            return page
        deps.nudge(JOB)
        deps.nudge("prove_blocks")
        return _proof(viewer, action, subject, incident_id, done)

    return await run_in_threadpool(carry_out)
