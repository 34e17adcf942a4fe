"""Requests: makers submit versions of their agents, somebody else approves or declines them.

Above ``registry.submissions`` and ``response``. Makers see requests of their own agents; whoever may read agents sees
all.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.agents import AgentState, VersionState
from watchfloor.model.errors import Conflict, Denied, NotFound
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.times import utc
from watchfloor.portal.versions import (
    DifferenceView,
    Number,
    Reader,
    VersionDetailView,
    difference_view,
    require_agent,
    require_version,
)
from watchfloor.portal.views import AgentVersionView, Page, PerformedView, performed_view
from watchfloor.registry import submissions
from watchfloor.registry.lifecycle import Verb, next_state
from watchfloor.registry.version_diff import compare
from watchfloor.response.catalog import Order
from watchfloor.response.runner import Operator, perform
from watchfloor.storage import inventory, versions
from watchfloor.storage.control import ControlTx
from watchfloor.storage.inventory import Agent
from watchfloor.storage.versions import AgentVersion

router = APIRouter(prefix="/api", tags=["registry"])

Submitter = Annotated[Viewer, permit(Permission.AGENT_SUBMIT)]
Approver = Annotated[Viewer, permit(Permission.AGENT_APPROVE)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CheckBody(_Body):
    """A manifest with one agent, and nothing else."""

    manifest: str = Field(max_length=1_000_000)


class SubmitBody(CheckBody):
    """``note``: what whoever decides should know."""

    note: str = Field(default="", max_length=2000)


class WithdrawBody(_Body):
    """Why, if there is anything to say."""

    reason: str = Field(default="", max_length=2000)


class DeclineBody(_Body):
    """Why: the maker reads it."""

    reason: str = Field(max_length=2000)


class ApproveBody(DeclineBody):
    """``conditions``: what the maker has to keep to. ``audience``: who gets it at first, named as in ``sharedWith``."""

    conditions: str = Field(default="", max_length=2000)
    audience: list[str] | None = Field(default=None, max_length=1000)


class RequestView(AgentVersionView):
    """A version that was submitted."""

    agent_id: str
    agent_name: str
    agent_state: AgentState
    note: str
    checks: list[dict[str, Any]]


class RequestDetailView(RequestView):
    """A request as whoever decides sees it. ``differences`` are from what is live now; ``may_not``: why you cannot
    approve it, empty if you can."""

    manifest: dict[str, Any]
    document: str | None
    differences: list[DifferenceView]
    may_not: str


class ExaminedView(BaseModel):
    """What submitting a manifest would ask for."""

    agent_id: str
    number: int
    version: str
    differences: list[DifferenceView]
    checks: list[dict[str, Any]]


def _request_fields(version: AgentVersion, agent: Agent) -> dict[str, Any]:
    shown = VersionDetailView.model_validate(version, from_attributes=True).model_dump()
    return shown | {"agent_name": agent.name, "agent_state": agent.state}


def _may_not(viewer: Viewer, agent: Agent, version: AgentVersion) -> str:
    if Permission.AGENT_APPROVE not in viewer.permissions:
        return f"It needs the permission {Permission.AGENT_APPROVE.value}."
    if version.state is not VersionState.SUBMITTED:
        return f"It is {version.state.value}."
    try:
        next_state(agent, Verb.APPROVE, viewer.id, version)
    except (Conflict, Denied) as error:
        return str(error)
    return ""


def _detail(tx: ControlTx, viewer: Viewer, agent_id: str, number: int) -> RequestDetailView:
    agent = require_agent(tx, viewer, agent_id)
    version = require_version(tx, agent_id, number)
    if version.document is None:
        raise NotFound(f"version {number} of agent {agent_id!r} was applied, not submitted.", where="number")
    is_new = versions.last_live_before(tx, agent_id, number + 1) is None and agent.state is not AgentState.PUBLISHED
    return RequestDetailView(
        **_request_fields(version, agent),
        differences=[difference_view(d) for d in compare(None if is_new else agent.manifest, version.manifest)],
        may_not=_may_not(viewer, agent, version),
    )


@router.post("/requests/check", summary="What submitting a manifest would ask for")
def check_submission(body: CheckBody, viewer: Submitter, deps: Deps) -> ExaminedView:
    """Differences from what is live, and what the checks say. Nothing is stored."""
    with deps.control.read(viewer.id) as tx:
        found = submissions.examine(tx, body.manifest, viewer.id, for_others=_for_others(viewer))
    return ExaminedView(
        agent_id=found.version.agent_id,
        number=found.version.number,
        version=found.version.version,
        differences=[difference_view(d) for d in found.differences],
        checks=[dict(check) for check in found.version.checks],
    )


@router.post("/requests", status_code=201, summary="Submit a version of an agent")
def create_request(body: SubmitBody, viewer: Submitter, deps: Deps) -> RequestDetailView:
    """A maker's own agent, or a new one. What is live stays live until somebody else has approved this."""
    with deps.control.tx(viewer.id) as tx:
        version = submissions.submit(tx, body.manifest, body.note, for_others=_for_others(viewer))
        return _detail(tx, viewer, version.agent_id, version.number)


@router.get("/requests", summary="Versions that were submitted")
def list_requests(
    viewer: Reader,
    deps: Deps,
    state: Annotated[list[VersionState], Query(max_length=10)] = [],  # noqa: B006  FastAPI copies it
    agent: Annotated[str, Query(max_length=200)] = "",
    before: datetime | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Page[RequestView]:
    """Newest first. ``before`` takes ``next``. A maker sees those of their own agents."""
    start = utc(before, "before") if before else None
    people = None if Permission.AGENT_READ in viewer.permissions else viewer.id
    with deps.control.read() as tx:
        found = versions.list_submitted(tx, states=state, agent_id=agent, people=people, before=start, limit=limit)
        agents = inventory.find_agents(tx, {version.agent_id for version in found})
    items = [RequestView(**_request_fields(version, agents[version.agent_id])) for version in found]
    return Page(items=items, next=found[-1].created_at.isoformat() if len(found) >= limit else None)


@router.get("/requests/{agent_id}/{number}", summary="One request, with what is different from what is live")
def read_request(agent_id: str, number: Number, viewer: Reader, deps: Deps) -> RequestDetailView:
    """As whoever decides sees it."""
    with deps.control.read() as tx:
        return _detail(tx, viewer, agent_id, number)


@router.post("/requests/{agent_id}/{number}/withdraw", summary="Take a request back")
def withdraw_request(
    agent_id: str, number: Number, body: WithdrawBody, viewer: Submitter, deps: Deps
) -> RequestDetailView:
    """As long as nobody has decided."""
    with deps.control.tx(viewer.id) as tx:
        require_agent(tx, viewer, agent_id)
        submissions.withdraw(tx, agent_id, number, body.reason, for_others=_for_others(viewer))
        return _detail(tx, viewer, agent_id, number)


@router.post("/requests/{agent_id}/{number}/approve", summary="Approve a version")
def approve_request(agent_id: str, number: Number, body: ApproveBody, viewer: Approver, deps: Deps) -> PerformedView:
    """By somebody who built neither the agent nor the version. It is live when this answers, unless the agent is
    blocked: then it stays blocked, and this version is what it is unblocked with."""
    parameters = {"conditions": body.conditions}
    if body.audience is not None:
        parameters["audience"] = json.dumps(body.audience)
    return _decide(deps, viewer, "approve_version", f"{agent_id}/{number}", body.reason, parameters)


@router.post("/requests/{agent_id}/{number}/decline", summary="Decline a version")
def decline_request(agent_id: str, number: Number, body: DeclineBody, viewer: Approver, deps: Deps) -> PerformedView:
    """What is live stays live."""
    return _decide(deps, viewer, "decline_version", f"{agent_id}/{number}", body.reason, {})


def _for_others(viewer: Viewer) -> bool:
    return Permission.REGISTRY_WRITE in viewer.permissions


def _decide(
    deps: PortalDeps, viewer: Viewer, action: str, subject: str, reason: str, parameters: dict[str, str]
) -> PerformedView:
    order = Order(subject, reason, parameters=parameters)
    operator = Operator(viewer.id, viewer.permissions)
    return performed_view(perform(deps.control, deps.epoch, deps.now, operator, action, order))
