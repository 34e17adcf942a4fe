"""The first window: overview, agents, held calls.

Server-rendered, without script; every page is made from the same views and obeys the same permissions as the API. It
stands until the portals do, and stays as what works without them. Pages of one incident and of actions are in
``incident_pages`` and ``action_pages``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter
from fastapi.responses import Response

from watchfloor.model.agents import AgentState
from watchfloor.model.cases import IncidentStatus
from watchfloor.model.errors import WatchfloorError
from watchfloor.model.people import Permission
from watchfloor.model.verdicts import Severity
from watchfloor.portal.admin import agent_detail, counts_by_agent
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.blocking import proof_section
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.holds import acting, visible_holds
from watchfloor.portal.html import Child, Html, h
from watchfloor.portal.incidents import incident_views
from watchfloor.portal.layout import Column, alarm, badge, moment, path, section, shell, table, word
from watchfloor.portal.parts import alert_item, incident_table, record_table
from watchfloor.registry import inventory as registry
from watchfloor.response.catalog import ACTIONS
from watchfloor.storage import cases, holds
from watchfloor.storage.activity import DecisionFilter, text
from watchfloor.storage.cases import CaseFilter

router = APIRouter(tags=["pages"], include_in_schema=False)

_RECENT: Final = timedelta(hours=24)
_MOST_COUNTED: Final = 1000


def _tile(label: str, value: Child, note: str = "", tone: str = "") -> Html:
    return h("div", h("dt", label), h("dd", value, cls=tone), h("dd", note, cls="note") if note else None, cls="tile")


def _blocked_calls(deps: PortalDeps) -> tuple[list[dict[str, Any]], int]:
    """The latest stopped calls, and how many there were in a day (at most ``_MOST_COUNTED`` are counted)."""
    filters = DecisionFilter(verdict="block", since=deps.now() - _RECENT)
    rows = deps.activity.list_decisions(filters, _MOST_COUNTED)
    return rows[:8], len(rows)


def _blocked_table(rows: Sequence[dict[str, Any]]) -> Html:
    columns = (Column("Time (UTC)"), Column("Agent", wide=True), Column("Tool"), Column("User"), Column("Reason"),
               Column("Address"))  # fmt: skip
    body = [
        (
            moment(r["Timestamp"]),
            h("a", text(r, "AgentName") or text(r, "AgentId"), href=path("agents", text(r, "AgentId"))),
            h("code", f"{text(r, 'ServerId')}/{text(r, 'ToolName')}"),
            text(r, "AccountUpn") or text(r, "UserId") or "the agent itself",
            text(r, "ReasonCode"),
            h("code", text(r, "IPAddress")),
        )
        for r in rows
    ]
    return table("Latest blocked calls", columns, body, "No call was blocked in the last 24 hours.")


def _first_steps(deps: PortalDeps) -> Html:
    return h(
        "ol",
        h("li", "Describe your company: ", h("code", "watchfloor apply -f company.yaml"),
          " registers agents, tool servers and users, and can be applied again at any time."),
        h("li", "Point an agent's MCP client at ", h("code", f"{deps.gateway_url}/mcp/SERVER"),
          " instead of the tool server, with a token from ", h("code", f"{deps.public_url}/sts/token"), "."),
        h("li", "Watch an attack being stopped: ", h("code", "watchfloor demo story"), "."),
        cls="steps",
    )  # fmt: skip


@router.get("/")
def overview(viewer: Annotated[Viewer, permit(Permission.PORTAL_USE)], deps: Deps) -> Response:
    """What is open, what was stopped, who needs attention, what to try."""
    sees_decisions = Permission.DECISION_READ in viewer.permissions
    with deps.control.read() as tx:
        severities = cases.count_open(tx, viewer.permissions)
        open_states = (IncidentStatus.ACTIVE.value, IncidentStatus.IN_PROGRESS.value)
        found = cases.list_incidents(tx, viewer.permissions, CaseFilter(statuses=open_states), 100)
        incidents = incident_views(tx, viewer, found[:8])
        agents = registry.list_agents(tx) if Permission.AGENT_READ in viewer.permissions else []
        attention = cases.serious_alerts_by_agent(tx, viewer.permissions)[:8]
        waiting = holds.list_holds(tx, status=holds.HoldStatus.PENDING, limit=100) if sees_decisions else []
    names = {a.id: a.name for a in agents}
    states = Counter(a.state for a in agents)
    blocked: Child = None
    tiles = [
        _tile("Open incidents", f"{len(found)}{'+' if len(found) == 100 else ''}",
              f"{sum(i.severity is Severity.CRITICAL for i in incidents)} critical among the latest"),
        _tile("Unresolved alerts", sum(severities.values()),
              ", ".join(f"{n} {word(s.value).lower()}" for s, n in sorted(severities.items(), key=lambda i: -i[0].rank))
              or "none"),
        _tile("Agents", len(agents), f"{states[AgentState.PUBLISHED]} published, {states[AgentState.BLOCKED]} blocked"),
    ]  # fmt: skip
    if sees_decisions:
        try:
            rows, count = _blocked_calls(deps)
            tiles.append(_tile("Calls blocked", f"{count}{'+' if count >= _MOST_COUNTED else ''}", "in 24 hours"))
            blocked = section("Latest blocked calls", _blocked_table(rows))
        except WatchfloorError as error:
            blocked = section("Latest blocked calls", alarm(f"The event store does not answer: {error}"))
        tiles.append(_tile("Calls held", len(waiting), "waiting for an operator"))
    needing = table(
        "Agents needing attention",
        (Column("Agent", wide=True), Column("Critical", numeric=True), Column("High", numeric=True)),
        [(h("a", names.get(a.agent_id, a.agent_id), href=path("agents", a.agent_id)), a.critical, a.high)
         for a in attention],
        "No agent has unresolved high or critical alerts.",
    )  # fmt: skip
    return shell(
        viewer,
        "Overview",
        h("h1", "Overview"),
        h("dl", tiles, cls="tiles"),
        h(
            "div",
            section("Latest incidents", incident_table(incidents), cls="major"),
            section("Agents needing attention", needing, note="unresolved high and critical alerts"),
            cls="columns",
        ),
        blocked,
        section("What to try", _first_steps(deps)),
        here="/",
    )


@router.get("/agents")
def agents(viewer: Annotated[Viewer, permit(Permission.AGENT_READ)], deps: Deps) -> Response:
    """Every agent, those with serious alerts marked."""
    with deps.control.read() as tx:
        counts = counts_by_agent(tx, viewer)
        found = registry.list_agents(tx)
    columns = (
        Column("Agent", wide=True),
        Column("State"),
        Column("Critical", numeric=True),
        Column("High", numeric=True),
        Column("Version"),
        Column("Platform"),
        Column("Maker"),
        Column("Owner"),
    )
    rows = [
        (
            (h("a", a.name, href=path("agents", a.id)), h("div", a.description, cls="note")),
            badge(a.state.value),
            counts[a.id].critical if a.id in counts else 0,
            counts[a.id].high if a.id in counts else 0,
            a.version,
            a.platform,
            a.maker_id or "nobody",
            a.owner_id or "nobody",
        )
        for a in sorted(
            found, key=lambda a: (-(counts[a.id].high + counts[a.id].critical) if a.id in counts else 0, a.id)
        )
    ]
    empty = "No agents yet. Register them with: watchfloor apply -f company.yaml"
    return shell(viewer, "Agents", h("h1", "Agents"), table("Agents", columns, rows, empty), here="/agents")


@router.get("/agents/{agent_id}")
def agent(agent_id: str, viewer: Annotated[Viewer, permit(Permission.AGENT_READ)], deps: Deps) -> Response:
    """One agent: what it is, what it may use, its alerts, and how to stop it."""
    with deps.control.read() as tx:
        view = agent_detail(tx, viewer, agent_id)
    is_blocked = view.state is AgentState.BLOCKED
    action = ACTIONS["unblock_agent" if is_blocked else "block_agent"]
    may = action.permission in viewer.permissions and ("unblock" if is_blocked else "block") in view.verbs
    href = f"{path('act', action.id)}?subject={path(view.id)[1:]}"
    tone = "button" if is_blocked else "button danger"
    bindings = table(
        "Tools",
        (Column("Tool", wide=True), Column("Credentials of"), Column("Scope")),
        [(h("code", f"{b.server_id}/{b.tool}"), b.credential_owner.value, b.scope.value) for b in view.bindings],
        "It may use no tool.",
    )
    alerts = h("ol", [alert_item(a) for a in view.alerts], cls="alerts") if view.alerts else None
    facts = (
        ("Maker", view.maker_id), ("Owner", view.owner_id), ("Sponsor", view.sponsor_id), ("Platform", view.platform),
        ("Model", view.model), ("Version", view.version), ("Risk", view.risk.value),
    )  # fmt: skip
    return shell(
        viewer,
        view.name,
        h("p", h("a", "Agents", href="/agents"), " / ", view.id, cls="crumbs"),
        h("div", badge(view.state.value), cls="line"),
        h("h1", view.name),
        h("p", view.description, cls="story"),
        h("div", h("a", f"{action.title} …", href=href, cls=tone), cls="buttons") if may else None,
        h(
            "div",
            section("Alerts", alerts or h("p", "None that you can see.", cls="empty"), cls="major"),
            h(
                "div",
                section("Facts", h("dl", [(h("dt", n), h("dd", v or "not known")) for n, v in facts], cls="entities")),
                section("Tools it may use", bindings),
            ),
            cls="columns",
        ),
        proof_section(deps, viewer, view.id) if is_blocked else None,
        section("What was done", record_table(view.records)),
        here="/agents",
    )


_ANSWERS: Final = {
    holds.HoldStatus.PENDING: (("Approve …", "approve_hold"), ("Decline …", "decline_hold")),
    holds.HoldStatus.APPROVED: (("Take back …", "revoke_approval"),),
}


@router.get("/holds")
def held_calls(viewer: Annotated[Viewer, permit(Permission.PORTAL_USE)], deps: Deps) -> Response:
    """Calls that wait for an answer, and the latest that got one."""
    sees_reasons = Permission.DECISION_READ in viewer.permissions
    with deps.control.read() as tx:
        found = visible_holds(tx, viewer, limit=100)
    may = Permission.HOLD_DECIDE in acting(deps, viewer).permissions
    columns = (
        Column("Asked (UTC)"),
        Column("Agent"),
        Column("Tool"),
        Column("For"),
        Column("Reason", wide=True),
        Column("Expires (UTC)"),
        Column("Answer"),
    )
    rows: list[Sequence[Child]] = []
    for hold in found:
        said = hold.status.value + (f" by {hold.decided_by}" if hold.decided_by else "")
        if hold.approvals_needed > 1:
            said += f", {len(hold.approvals)} of {hold.approvals_needed} approvals"
        answer: Child = said
        if may and hold.status in _ANSWERS:
            answer = [
                said if hold.status is not holds.HoldStatus.PENDING or hold.approvals else None,
                *(
                    h("a", label, href=f"{path('act', action)}?subject={path(hold.id)[1:]}", cls="button small")
                    for label, action in _ANSWERS[hold.status]
                ),
            ]
        tool = h("code", f"{hold.server_id}/{hold.tool}")
        asked, expires = moment(hold.created_at), moment(hold.expires_at)
        rows.append(
            (
                asked,
                hold.agent_id,
                tool,
                hold.user_id or "the agent itself",
                hold.reason if sees_reasons else ", ".join(hold.policies),
                expires,
                answer,
            )
        )
    return shell(
        viewer, "Holds", h("h1", "Held calls"), table("Holds", columns, rows, "No call was held yet."), here="/holds"
    )
