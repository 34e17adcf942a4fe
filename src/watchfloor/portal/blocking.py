"""Blocking an agent: what it takes away from whom, asked before; and the proof that it is enforced, asked after.

Above ``response.proof`` and ``storage``. The block itself is an action (``admin``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import RedirectResponse
from pydantic import BaseModel

from watchfloor.model.agents import AgentState
from watchfloor.model.errors import NotFound, Unavailable
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.html import Html, h
from watchfloor.portal.layout import Column, csrf, moment, path, section, table
from watchfloor.portal.views import Page
from watchfloor.response import proof
from watchfloor.storage import actions, inventory
from watchfloor.storage.actions import ActionRecord
from watchfloor.storage.activity import literal
from watchfloor.storage.control import ControlTx
from watchfloor.storage.holds import HoldStatus, list_holds
from watchfloor.storage.inventory import Agent

router = APIRouter(prefix="/api/agents/{agent_id}", tags=["agents"])
pages = APIRouter(prefix="/agents/{agent_id}", tags=["pages"], include_in_schema=False)
DAYS = 30
_SHOWN = 50
_NAMED = 5


class UserOfAgent(BaseModel):
    """Somebody on whose behalf the agent made calls of late."""

    user_id: str
    upn: str
    calls: int
    last_at: datetime


class ImpactView(BaseModel):
    """Who loses what when the agent is blocked. Counts are of the last ``days``; ``users`` are the busiest of them."""

    agent_id: str
    state: str
    days: int
    calls: int
    user_count: int
    users: list[UserOfAgent]
    handed_work_by: list[str]
    hands_work_to: list[str]
    servers: list[str]
    pending_holds: int


class ProofView(BaseModel):
    """What each door of each worker answered when it was asked for the agent; times are milliseconds."""

    record: str
    status: str
    at: datetime | None
    by: str
    blocked_at: str
    workers: list[str]
    checks: list[dict[str, Any]]


def _agent(tx: ControlTx, agent_id: str) -> Agent:
    agent = inventory.find_agent(tx, agent_id)
    if agent is None:
        raise NotFound(f"there is no agent {agent_id!r}.", where="agent")
    return agent


def _view(record: ActionRecord) -> ProofView:
    detail = record.detail
    return ProofView(
        record=record.id,
        status=record.status,
        at=record.created_at,
        by=record.actor,
        blocked_at=detail["blocked_at"],
        workers=detail["workers"],
        checks=detail["checks"],
    )


@router.get("/impact", summary="What blocking the agent would take away")
def read_impact(agent_id: str, viewer: Annotated[Viewer, permit(Permission.AGENT_READ)], deps: Deps) -> ImpactView:
    """People who used it within thirty days, agents that hand work to it, what it reaches, calls that wait."""
    return impact_of(deps, agent_id)


def impact_of(deps: PortalDeps, agent_id: str) -> ImpactView:
    """Who loses what. Raises ``NotFound``."""
    with deps.control.read() as tx:
        agent = _agent(tx, agent_id)
        servers = sorted({binding.server_id for binding in inventory.list_bindings(tx, agent_id=agent_id)})
        others = inventory.list_agents(tx)
        waiting = len(list_holds(tx, status=HoldStatus.PENDING, agents=[agent_id], limit=1_000))
    table = deps.activity.query(
        f"AgentActivity | where Timestamp > ago({DAYS}d) and AgentId == {literal(agent_id)}"
        ' | where ActionType == "ToolCallDecided"'
        " | summarize Calls = count(), Last = max(Timestamp), Upn = take_any(AccountUpn) by UserId"
        " | sort by Calls desc, UserId asc",
        100_000,
    ).to_pylist()
    users = [row for row in table if row["UserId"]]
    return ImpactView(
        agent_id=agent_id,
        state=agent.state.value,
        days=DAYS,
        calls=sum(row["Calls"] for row in table),
        user_count=len(users),
        users=[
            UserOfAgent(user_id=row["UserId"], upn=row["Upn"] or "", calls=row["Calls"], last_at=row["Last"])
            for row in users[:_SHOWN]
        ],
        handed_work_by=sorted(
            other.id
            for other in others
            if agent_id in other.manifest.get("connectedAgents", ()) and other.state is AgentState.PUBLISHED
        ),
        hands_work_to=sorted(agent.manifest.get("connectedAgents", ())),
        servers=servers,
        pending_holds=waiting,
    )


@router.post("/proof", summary="Prove that the agent's block is enforced")
def prove_block(agent_id: str, viewer: Annotated[Viewer, permit(Permission.AGENT_BLOCK)], deps: Deps) -> ProofView:
    """Asks every door of every worker, now, as the agent would. `failed` raises an alert as well."""
    with deps.control.read() as tx:
        _agent(tx, agent_id)
    return _prove(deps, viewer, agent_id)


def _prove(deps: PortalDeps, viewer: Viewer, agent_id: str) -> ProofView:
    if deps.prover is None:
        raise Unavailable("No gateway is configured, so nothing can be asked.")
    return _view(deps.prover.prove(agent_id, viewer.id))


@router.get("/proofs", summary="Proofs of the agent's blocks, newest first")
def list_proofs(agent_id: str, viewer: Annotated[Viewer, permit(Permission.AGENT_READ)], deps: Deps) -> Page[ProofView]:
    """The last ones; each block is proved once by itself."""
    with deps.control.read() as tx:
        _agent(tx, agent_id)
        records = actions.list_records(tx, subject=f"agent/{agent_id}", action=proof.ACTION)
    return Page(items=[_view(record) for record in records])


# -- pages --------------------------------------------------------------------------------------------------------


@pages.post("/proof")
def prove_by_form(
    agent_id: str, viewer: Annotated[Viewer, permit(Permission.AGENT_BLOCK, form=True)], deps: Deps
) -> RedirectResponse:
    """Ask now, and show it on the agent's page."""
    with deps.control.read() as tx:
        _agent(tx, agent_id)
    _prove(deps, viewer, agent_id)
    return RedirectResponse(f"{path('agents', agent_id)}#proof", 303)


def impact_list(view: ImpactView) -> Html:
    """Who loses what, for whoever is about to block."""
    people = ", ".join(user.user_id for user in view.users[:_NAMED])
    more = f" and {view.user_count - _NAMED} more" if view.user_count > _NAMED else ""
    facts = (
        (f"People who used it in {view.days} days", f"{view.user_count}: {people}{more}" if people else "nobody"),
        ("Calls in that time", str(view.calls)),
        ("Agents that hand work to it", ", ".join(view.handed_work_by) or "none"),
        ("Tool servers that it reaches", ", ".join(view.servers) or "none"),
        ("Calls that wait for an approval", str(view.pending_holds)),
    )
    return h("dl", [(h("dt", name), h("dd", value)) for name, value in facts], cls="entities")


def proof_section(deps: PortalDeps, viewer: Viewer, agent_id: str) -> Html:
    """The last proof of a blocked agent's block, and the way to another."""
    with deps.control.read() as tx:
        records = actions.list_records(tx, subject=f"agent/{agent_id}", action=proof.ACTION, limit=1)
    columns = (
        Column("Door"),
        Column("Asked for"),
        Column("Worker"),
        Column("Answer", wide=True),
        Column("After the block"),
    )
    body: list[Html] = []
    for view in map(_view, records):
        refused = sum(check["is_refused"] for check in view.checks)
        says = f"{refused} of {len(view.checks)} checks were refused because of the block."
        assert view.at is not None
        body.append(h("p", says, " Asked by ", view.by, ", ", moment(view.at), " (UTC).", cls="lead"))
        rows = [
            (
                h("code", check["door"]),
                h("code", check["about"]),
                h("code", check["worker"] or "server"),
                "refused: blocked" if check["is_refused"] else f"NOT refused: {check['code'] or check['says']}",
                _since(check["after_ms"]),
            )
            for check in sorted(view.checks, key=lambda check: bool(check["is_refused"]))
        ]
        body.append(table("What each door answered", columns, rows, "Nothing was asked."))
    if not body:
        body.append(h("p", "Not asked yet. It is asked within seconds of each block.", cls="empty"))
    form = h("form", csrf(viewer), h("button", "Prove it again", type="submit"), method="post",
             action=path("agents", agent_id, "proof"))  # fmt: skip
    may = Permission.AGENT_BLOCK in viewer.permissions
    return h("div", section("Proof of the block", body, form if may else None), id="proof")


def _since(milliseconds: float) -> str:
    if milliseconds < 10_000:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.0f} s" if milliseconds < 600_000 else f"{milliseconds / 3_600_000:.1f} h"
