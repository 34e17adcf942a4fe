"""Who answers for agents: handing them over, and those that nobody answers for."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.agents import AgentState
from watchfloor.model.errors import InputError
from watchfloor.model.people import Permission
from watchfloor.portal.admin import agent_detail
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.views import AgentDetailView, Page
from watchfloor.registry import owners

router = APIRouter(prefix="/api", tags=["registry"])


class ReassignBody(BaseModel):
    """Ids of users; who is not named stays."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(max_length=1000)
    maker: str | None = Field(default=None, min_length=1, max_length=200)
    owner: str | None = Field(default=None, min_length=1, max_length=200)
    sponsor: str | None = Field(default=None, min_length=1, max_length=200)


class OrphanView(BaseModel):
    """An agent for which somebody is missing: who, and why."""

    id: str
    name: str
    state: AgentState
    maker_id: str | None
    owner_id: str | None
    sponsor_id: str | None
    missing: dict[str, str]


@router.get("/orphans", summary="Agents that nobody answers for")
def list_orphans(viewer: Annotated[Viewer, permit(Permission.AGENT_READ)], deps: Deps) -> Page[OrphanView]:
    """No owner; or a maker, owner or sponsor who is disabled or gone. By id."""
    with deps.control.read() as tx:
        found = owners.list_orphans(tx)
    shown = ("id", "name", "state", "maker_id", "owner_id", "sponsor_id")
    return Page(items=[OrphanView(**{n: getattr(o.agent, n) for n in shown}, missing=dict(o.missing)) for o in found])


@router.post("/agents/{agent_id}/reassign", summary="Hand an agent over")
def reassign_agent(
    agent_id: str, body: ReassignBody, viewer: Annotated[Viewer, permit(Permission.REGISTRY_WRITE)], deps: Deps
) -> AgentDetailView:
    """To another maker, owner or sponsor. Nobody takes their own name off an agent."""
    if not body.reason.strip():
        raise InputError("a reason is needed.", where="reason", remedy="Say why, for whoever reads the audit log.")
    named = {"maker": body.maker, "owner": body.owner, "sponsor": body.sponsor}
    to = {role: user_id for role, user_id in named.items() if user_id is not None}
    with deps.control.tx(viewer.id) as tx:
        owners.reassign(tx, agent_id, to, body.reason.strip())
        return agent_detail(tx, viewer, agent_id)
