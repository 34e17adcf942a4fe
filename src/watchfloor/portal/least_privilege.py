"""Least privilege over the API: what an agent uses of what it is granted, and a manifest that grants only that.

Above ``registry.least_privilege``. How often a tool was called is told to who may read decisions, and to those who
answer for the agent.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.agents import CredentialOwner, Scope
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.hunting import RunView, run_view, scope_of
from watchfloor.portal.versions import DifferenceView, difference_view, require_agent
from watchfloor.portal.views import BindingView, binding_view
from watchfloor.registry.inventory import answers_for
from watchfloor.registry.least_privilege import Advice, Document, Proposal, facts_of, propose, read_uses, write_manifest
from watchfloor.registry.policies import current_set
from watchfloor.registry.policy_trial import PolicyTrial
from watchfloor.storage import inventory
from watchfloor.storage.inventory import Agent
from watchfloor.storage.past_calls import MOST_DAYS
from watchfloor.storage.ports import Limits

router = APIRouter(prefix="/api", tags=["posture"])

_LIMITS = Limits(timeout_seconds=3600.0)


class GrantedView(BaseModel):
    """A grant and what is proposed for it. ``becomes``: the grants in its place; null counts: not for this viewer."""

    server_id: str
    tool: str
    credential_owner: CredentialOwner
    scope: Scope
    advice: Advice
    becomes: list[BindingView]
    calls: int | None
    last_used: datetime | None


class LeastPrivilegeView(BaseModel):
    """What an agent used of what it is granted, and the manifest that grants only that.

    ``would_fail`` of ``calls`` past calls would have failed with it. ``manifest`` is ready for ``/api/manifests/plan``.
    """

    agent_id: str
    days: int
    grants: list[GrantedView]
    calls: int | None
    would_fail: int
    is_narrower: bool
    manifest: str
    differences: list[DifferenceView]
    warnings: list[str]


class TrialBody(BaseModel):
    """How far back to decide calls again."""

    model_config = ConfigDict(extra="forbid")

    days: int = Field(default=30, ge=1, le=MOST_DAYS)


def _propose(deps: PortalDeps, viewer: Viewer, agent_id: str, days: int) -> tuple[Agent, Proposal]:
    with deps.control.read() as tx:
        agent = require_agent(tx, viewer, agent_id)
        bindings = inventory.list_bindings(tx, agent_id=agent_id)
    now = deps.now()
    return agent, propose(bindings, read_uses(deps.activity, agent_id, now - timedelta(days=days), now), days)


@router.get("/agents/{agent_id}/least-privilege", summary="What an agent uses of what it is granted")
def read_least_privilege(
    agent_id: str,
    viewer: Annotated[Viewer, permit(Permission.AGENT_READ_OWN)],
    deps: Deps,
    days: Annotated[int, Query(ge=1, le=MOST_DAYS)] = 30,
) -> LeastPrivilegeView:
    """By its calls of the last ``days``, with a manifest that takes away what it did not need. Nothing is changed."""
    agent, proposal = _propose(deps, viewer, agent_id, days)
    document: Document = write_manifest(agent, proposal.bindings)
    counts = Permission.DECISION_READ in viewer.permissions or answers_for(agent, viewer.id)
    return LeastPrivilegeView(
        agent_id=agent_id,
        days=days,
        grants=[
            GrantedView(
                server_id=one.binding.server_id,
                tool=one.binding.tool,
                credential_owner=one.binding.credential_owner,
                scope=one.binding.scope,
                advice=one.advice,
                becomes=[binding_view(binding) for binding in one.becomes],
                calls=one.calls if counts else None,
                last_used=one.last if counts else None,
            )
            for one in proposal.advised
        ],
        calls=proposal.calls if counts else None,
        would_fail=proposal.would_fail,
        is_narrower=proposal.is_narrower,
        manifest=document.text,
        differences=[difference_view(difference) for difference in document.differences],
        warnings=list(proposal.warnings),
    )


@router.post(
    "/agents/{agent_id}/least-privilege/trial",
    status_code=202,
    summary="Decide an agent's past calls again, with least privilege",
)
def try_least_privilege(
    agent_id: str, body: TrialBody, viewer: Annotated[Viewer, permit(Permission.DECISION_READ)], deps: Deps
) -> RunView:
    """Begins a run; watch, cancel and page through it at ``/api/hunting/runs``. Its notes say how many calls would have
    failed, its rows are those that would have ended differently."""
    _, proposal = _propose(deps, viewer, agent_id, body.days)
    with deps.control.read() as tx:
        candidates = current_set(tx)
    trial = PolicyTrial(
        text=f"least privilege of {agent_id} over {body.days} days",
        scope=scope_of(deps, viewer),
        limits=_LIMITS,
        door="backtest",
        activity=deps.activity,
        candidates=candidates,
        days=body.days,
        end=deps.now(),
        agent_id=agent_id,
        grants=[facts_of(binding) for binding in proposal.bindings],
    )
    return run_view(deps.hunts.start(trial, viewer.id))
