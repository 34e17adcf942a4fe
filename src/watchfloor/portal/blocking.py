"""Blocking an agent: what it takes away from whom, asked before; and the proof that it is enforced, asked after.

Above ``response.proof`` and ``storage``. The block itself is an action (``admin``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel

from watchfloor.model.agents import AgentState
from watchfloor.model.errors import NotFound, Unavailable
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.views import Page
from watchfloor.response import proof
from watchfloor.storage import actions, inventory
from watchfloor.storage.actions import ActionRecord
from watchfloor.storage.activity import literal
from watchfloor.storage.control import ControlTx
from watchfloor.storage.holds import HoldStatus, list_holds
from watchfloor.storage.inventory import Agent

router = APIRouter(prefix="/api/agents/{agent_id}", tags=["agents"])
DAYS = 30
_SHOWN = 50


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
