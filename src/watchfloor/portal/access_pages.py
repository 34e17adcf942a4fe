"""Conditional access as pages: which policies there are, whom they hit last, and switching one on, off or to report.

Server-rendered, without script, from the same views and permissions as the API.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from watchfloor.identity import access as conditional_access
from watchfloor.model.access import AccessState
from watchfloor.model.errors import Conflict, InputError, NotFound, WatchfloorError
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit, read_form
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.html import Child, Html, h
from watchfloor.portal.layout import Column, alarm, badge, csrf, moment, path, section, shell, table
from watchfloor.portal.problems import status_of
from watchfloor.storage import access
from watchfloor.storage.access import AccessPolicyVersion
from watchfloor.storage.activity import literal, text
from watchfloor.storage.activity import moment as kql_moment

router = APIRouter(tags=["pages"], include_in_schema=False)

_DAYS: Final = 30
_LATEST: Final = 20
_STATES: Final = {
    AccessState.ENABLED: ("On", "good"),
    AccessState.REPORT_ONLY: ("Report only", "medium"),
    AccessState.DISABLED: ("Off", "grey"),
}
_SWITCH: Final = {
    AccessState.ENABLED: "Enable",
    AccessState.REPORT_ONLY: "Only report",
    AccessState.DISABLED: "Disable",
}

Reader = Annotated[Viewer, permit(Permission.ACCESS_READ)]


@dataclass(frozen=True, slots=True)
class _Hits:
    refused: int = 0
    would_be: int = 0
    last: datetime | None = None


def _hits(deps: PortalDeps) -> dict[str, _Hits]:
    """How often each policy was not satisfied of late."""
    since = kql_moment(deps.now() - timedelta(days=_DAYS))
    rows = deps.activity.query(
        f"ConditionalAccessEvents | where Timestamp >= {since}"
        ' | summarize Refused = countif(ActionType == "AccessRefused"),'
        ' WouldBe = countif(ActionType == "AccessWouldBeRefused"), Last = max(Timestamp) by PolicyId | take 1000',
        1000,
    ).to_pylist()
    return {text(r, "PolicyId"): _Hits(r["Refused"], r["WouldBe"], r["Last"]) for r in rows}


def _state(policy: AccessPolicyVersion) -> Html:
    said, tone = _STATES[policy.state]
    return badge(said, tone)


def _demand(body: Any) -> str:
    controls = (body.get("grantControls") or {}).get("builtInControls") or []
    session = body.get("sessionControls") or {}
    frequency = session.get("signInFrequency") or {}
    said = [f" {(body.get('grantControls') or {}).get('operator', 'AND').lower()} ".join(controls)] if controls else []
    if frequency.get("frequencyInterval") == "everyTime":
        said.append("a sign-in every time")
    elif frequency:
        said.append(f"a sign-in within {frequency.get('value')} {frequency.get('type')}")
    if session.get("revoke"):
        said.append("sessions end")
    return ", ".join(said)


@router.get("/access")
def access_policies(viewer: Reader, deps: Deps) -> Response:
    """Every policy: its state, what it demands, whom it hit last."""
    with deps.control.read() as tx:
        found = access.current_policies(tx)
    problem: Child = None
    hits: dict[str, _Hits] = {}
    try:
        hits = _hits(deps)
    except WatchfloorError as error:
        problem = alarm(f"The event store does not answer: {error}")
    columns = (Column("Policy", wide=True), Column("State"), Column("Demands"), Column("Refused", numeric=True),
               Column("Would have refused", numeric=True), Column("Last hit (UTC)"))  # fmt: skip
    rows = []
    for policy in found:
        hit = hits.get(policy.id, _Hits())
        name = h("a", policy.name, href=path("access", policy.id))
        last: Child = moment(hit.last) if hit.last else "never"
        rows.append((name, _state(policy), _demand(policy.body), hit.refused, hit.would_be, last))
    return shell(
        viewer,
        "Conditional access",
        h("h1", "Conditional access"),
        h("p", "Every enabled policy that fits a call or a sign-in counts; the strictest demand wins.", cls="lead"),
        problem,
        section(
            "Policies",
            table("Policies of conditional access", columns, rows, "There are no policies."),
            note=f"hits of {_DAYS} days",
        ),
        here="/access",
    )


def _latest(deps: PortalDeps, policy_id: str) -> Html:
    rows = deps.activity.query(
        f"ConditionalAccessEvents | where PolicyId == {literal(policy_id)} | sort by Timestamp desc | take {_LATEST}"
        " | project Timestamp, ActionType, AccountUpn, UserId, AgentName, AgentId, ServerId, ToolName, Control",
        _LATEST,
    ).to_pylist()
    columns = (Column("Time (UTC)"), Column("What"), Column("User"), Column("Agent"), Column("Where", wide=True),
               Column("Demanded"))  # fmt: skip
    body = [
        (
            moment(r["Timestamp"]),
            "Refused" if text(r, "ActionType") == "AccessRefused" else "Would have been refused",
            text(r, "AccountUpn") or text(r, "UserId") or "the agent itself",
            text(r, "AgentName") or text(r, "AgentId"),
            h("code", "/".join(p for p in (text(r, "ServerId"), text(r, "ToolName")) if p) or "token service"),
            text(r, "Control"),
        )
        for r in rows
    ]
    return table("Latest hits", columns, body, "It has hit nobody.")


def _switches(viewer: Viewer, policy: AccessPolicyVersion, danger: str, wanted: str) -> Child:
    if Permission.ACCESS_WRITE not in viewer.permissions:
        return h("p", "To change it you need the permission access.write.", cls="note")
    confirm: Child = None
    if danger:
        confirm = h(
            "div",
            h("label", h("input", type="checkbox", name="confirm", value="yes", required=True), " Do it all the same"),
            cls="field",
        )
    states = [AccessState(wanted)] if danger else [s for s in AccessState if s is not policy.state]
    return h(
        "form",
        csrf(viewer),
        confirm,
        [
            h("button", _SWITCH[state], type="submit", name="state", value=state.value,
              cls="primary" if state is AccessState.ENABLED else "")
            for state in states
        ],
        h("a", "Cancel", href=path("access", policy.id), cls="button quiet") if danger else None,
        method="post",
        action=path("access", policy.id),
        cls="buttons",
    )  # fmt: skip


def _page(viewer: Viewer, deps: PortalDeps, policy_id: str, danger: str = "", wanted: str = "") -> Response:
    with deps.control.read() as tx:
        policy = access.find_policy(tx, policy_id)
        versions = access.list_versions(tx, policy_id)
    if policy is None:
        raise NotFound(f"there is no access policy {policy_id!r}.", where="policy")
    try:
        latest: Child = _latest(deps, policy_id)
    except WatchfloorError as error:
        latest = alarm(f"The event store does not answer: {error}")
    shown = json.dumps({n: v for n, v in policy.body.items() if n not in ("id", "displayName", "state")}, indent=2)
    history = [(str(v.version), _state(v), moment(v.published_at), v.published_by) for v in versions]
    columns = (Column("Version", numeric=True), Column("State"), Column("Since (UTC)"), Column("By", wide=True))
    return shell(
        viewer,
        policy.name,
        h("p", h("a", "Conditional access", href="/access"), " / ", policy.id, cls="crumbs"),
        h("div", _state(policy), cls="line"),
        h("h1", policy.name),
        h("p", f"Demands: {_demand(policy.body)}.", cls="story"),
        alarm(danger) if danger else None,
        _switches(viewer, policy, danger, wanted),
        h(
            "div",
            section("Latest hits", latest, cls="major"),
            section("What it says", h("pre", shown, tabindex="0", aria_label="The policy")),
            cls="columns",
        ),
        section("Versions", table("Versions", columns, history, "None.")),
        here="/access",
    )


@router.get("/access/{policy_id}")
def access_policy(policy_id: str, viewer: Reader, deps: Deps) -> Response:
    """One policy: what it says, whom it hit, and how to switch it."""
    return _page(viewer, deps, policy_id)


@router.post("/access/{policy_id}")
async def switch_access_policy(
    policy_id: str, request: Request, viewer: Annotated[Viewer, permit(Permission.ACCESS_WRITE, form=True)], deps: Deps
) -> Response:
    """Enables, disables or lets it only report; where that would lock people out, it asks again."""
    form = await read_form(request)

    def switch() -> Response:
        state = form.get("state", "")
        if state not in {s.value for s in AccessState}:
            raise InputError(f"{state!r} is no state of a policy.", where="state")
        try:
            with deps.control.tx(viewer.id) as tx:
                conditional_access.set_state(tx, policy_id, AccessState(state), confirm=form.get("confirm") == "yes")
        except Conflict as error:
            page = _page(viewer, deps, policy_id, f"Not done: {error.message}", state)
            page.status_code = status_of(error)[0]
            return page
        deps.nudge("require_password_changes")
        return RedirectResponse(path("access", policy_id), status_code=303)

    return await run_in_threadpool(switch)
