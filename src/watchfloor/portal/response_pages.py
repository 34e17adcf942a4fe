"""Responses and users as pages: what was begun and how far it is, and the user that it is about.

A response that is under way is shown anew by itself, every two seconds until it is over; nothing is typed on that page.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter
from fastapi.responses import Response

from watchfloor.model.people import Permission, RiskLevel
from watchfloor.model.sagas import SagaKind, SagaStatus
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.html import h
from watchfloor.portal.layout import Column, badge, moment, path, section, shell, table
from watchfloor.portal.parts import alert_item, incident_table, record_table
from watchfloor.portal.response_parts import act_link, response_part, response_parts, state_badge
from watchfloor.portal.response_views import response_views
from watchfloor.portal.responses import find_response
from watchfloor.portal.users import read_user
from watchfloor.response.catalog import ACTIONS
from watchfloor.storage import cases, sagas

router = APIRouter(tags=["pages"], include_in_schema=False)

_EVERY_SECONDS: Final = "2"
_TONES: Final = {RiskLevel.HIGH: "high", RiskLevel.MEDIUM: "medium", RiskLevel.LOW: "low"}


@router.get("/responses")
def responses(viewer: Annotated[Viewer, permit(Permission.ALERT_READ)], deps: Deps) -> Response:
    """The latest hundred, those that wait for a second operator first."""
    with deps.control.read() as tx:
        views = response_views(tx, sagas.list_sagas(tx, limit=100))
    columns = (Column("State"), Column("Response", wide=True), Column("Subject"), Column("By"), Column("Begun (UTC)"))
    rows = [
        (
            state_badge(view.status),
            h("a", view.title, href=path("responses", view.id)),
            h("code", view.subject_id),
            view.opened_by,
            moment(view.created_at),
        )
        for view in sorted(views, key=lambda view: view.status is not SagaStatus.WAITING)
    ]
    return shell(
        viewer,
        "Responses",
        h("h1", "Responses"),
        table("Responses", columns, rows, "Nobody was confirmed compromised yet."),
        here="/responses",
    )


@router.get("/responses/{response_id}")
def response(response_id: str, viewer: Annotated[Viewer, permit(Permission.ALERT_READ)], deps: Deps) -> Response:
    """One response, step by step."""
    with deps.control.read() as tx:
        view = find_response(tx, viewer, response_id)
    where = path({"user": "users", "agent": "agents"}.get(view.subject_kind, "agents"), view.subject_id)
    page = shell(
        viewer,
        view.title,
        h("p", h("a", "Responses", href="/responses"), " / ", view.id, cls="crumbs"),
        h("h1", view.title),
        h(
            "p",
            h("a", view.subject_id, href=where) if view.subject_kind != "server" else view.subject_id,
            (" · ", h("a", "the incident", href=path("incidents", view.incident_id))) if view.incident_id else None,
            cls="lead",
        ),
        section("Steps", response_part(viewer, view, is_headed=False)),
        here="/responses",
    )
    if view.status is SagaStatus.RUNNING:
        page.headers["Refresh"] = _EVERY_SECONDS
    return page


@router.get("/users/{user_id}")
def user(user_id: str, viewer: Annotated[Viewer, permit(Permission.USER_READ)], deps: Deps) -> Response:
    """One user: risk, what they are involved in, and what can be done."""
    view = read_user(user_id, viewer, deps)
    with deps.control.read() as tx:
        kinds = [SagaKind.USER_COMPROMISE, SagaKind.USER_RELEASE]
        sees_all = cases.sees_everything(viewer.permissions)
        found = sagas.list_sagas(tx, kinds=kinds, subject_ids=[user_id], limit=5) if sees_all else []
        begun = response_views(tx, found)
    is_held = view.risk is not RiskLevel.NONE or view.must_reset_password
    wanted = ["confirm_user_compromised", *(["remediate_user_risk", "dismiss_user_risk"] if is_held else [])]
    buttons = [
        act_link(action, user_id, None, ACTIONS[action].title, danger=ACTIONS[action].stops)
        for action in (*wanted, "revoke_user_sessions")
        if ACTIONS[action].permission in viewer.permissions
    ]
    facts = (
        ("Sign-in name", view.upn), ("Identity provider", view.issuer), ("Department", view.department),
        ("Job title", view.job_title), ("Manager", view.manager), ("Groups", ", ".join(view.groups)),
        ("Criticality", "" if view.criticality is None else str(view.criticality)),
        ("Sessions count from", moment(view.not_before) if view.not_before else "the beginning"),
    )  # fmt: skip
    alerts = h("ol", [alert_item(a) for a in view.alerts], cls="alerts") if view.alerts else None
    return shell(
        viewer,
        view.name or view.id,
        h("p", "Users / ", view.id, cls="crumbs"),
        h(
            "div",
            badge("Enabled" if view.is_enabled else "Disabled", "good" if view.is_enabled else "high"),
            badge(f"Risk {view.risk.value}", _TONES.get(view.risk, "grey")),
            badge("New password due", "high") if view.must_reset_password else None,
            badge("Break-glass", "medium") if view.is_break_glass else None,
            cls="line",
        ),
        h("h1", view.name or view.id),
        h("div", buttons, cls="buttons") if buttons else None,
        h(
            "div",
            section("Alerts", alerts or h("p", "None that you can see.", cls="empty"), cls="major"),
            h(
                "div",
                section("Facts", h("dl", [(h("dt", n), h("dd", v or "not known")) for n, v in facts], cls="entities")),
                section("Responses", *response_parts(viewer, begun)) if begun else None,
            ),
            cls="columns",
        ),
        section("Incidents", incident_table(view.incidents)),
        section("What was done", record_table(view.records)),
    )
