"""Confirming compromises and what follows: users, agents, tool servers; approvals, retries, the outbox's steps.

Above ``response``; every change goes through its runner, so the pages and the command line find the same guards. When a
route here answers, what is done in this installation holds; what others are asked for is in the steps.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.errors import NotFound
from watchfloor.model.people import Permission
from watchfloor.model.sagas import SagaKind, SagaStatus
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.response_views import ResponseView, response_views
from watchfloor.portal.users import ActionBody
from watchfloor.portal.views import Page, PerformedView, page, performed_view
from watchfloor.response.catalog import YES, Order
from watchfloor.response.runner import Operator, Performed, perform
from watchfloor.storage import cases, sagas
from watchfloor.storage.control import ControlTx

router = APIRouter(prefix="/api", tags=["response"])

JOB = "run_responses"
"""The job that does what a response has left in the outbox."""


class AgentBody(ActionBody):
    """``revoke_children``: block the agents that are part of it as well."""

    revoke_children: bool = False


class DecisionBody(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(max_length=2000)


class RetryBody(BaseModel):
    """Why; may be empty."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=2000)


def act(deps: PortalDeps, viewer: Viewer, action: str, order: Order) -> Performed:
    """Carry an action out for the viewer, and wake whoever does the rest."""
    done = perform(deps.control, deps.epoch, deps.now, Operator(viewer.id, viewer.permissions), action, order)
    deps.nudge(JOB)
    return done


def find_response(tx: ControlTx, viewer: Viewer, response_id: str) -> ResponseView:
    """One response, if the viewer may see it. Raises ``NotFound``."""
    saga = sagas.find(tx, response_id)
    if saga is None or not cases.sees_everything(viewer.permissions):
        raise NotFound(f"there is no response {response_id!r}.", where="response")
    return response_views(tx, [saga])[0]


# -- users --------------------------------------------------------------------------------------------------------


@router.post("/users/{user_id}/confirm-compromised", summary="Confirm that a user is compromised")
def confirm_user(
    user_id: str, body: ActionBody, viewer: Annotated[Viewer, permit(Permission.USER_CONFIRM_COMPROMISED)], deps: Deps
) -> PerformedView:
    """When this answers with `running`, no tool call on behalf of the user that starts later is allowed on this host,
    and the response is on its way to the identity provider. `waiting_for_approval`: nothing was done yet."""
    order = Order(user_id, body.reason, body.incident_id)
    return performed_view(act(deps, viewer, "confirm_user_compromised", order))


@router.post("/users/{user_id}/dismiss-risk", summary="Say that it was no compromise")
def dismiss_user(
    user_id: str, body: ActionBody, viewer: Annotated[Viewer, permit(Permission.USER_DISMISS_RISK)], deps: Deps
) -> PerformedView:
    """Lifts the risk and the duty to set a new password. Sessions that ended stay dead."""
    order = Order(user_id, body.reason, body.incident_id)
    return performed_view(act(deps, viewer, "dismiss_user_risk", order))


@router.post("/users/{user_id}/remediate-risk", summary="Say that a compromise is over")
def remediate_user(
    user_id: str, body: ActionBody, viewer: Annotated[Viewer, permit(Permission.USER_DISMISS_RISK)], deps: Deps
) -> PerformedView:
    """Done by itself where the identity provider tells of a new password."""
    order = Order(user_id, body.reason, body.incident_id)
    return performed_view(act(deps, viewer, "remediate_user_risk", order))


# -- agents and tool servers --------------------------------------------------------------------------------------


@router.post("/agents/{agent_id}/confirm-compromised", summary="Put an agent into quarantine")
def confirm_agent(
    agent_id: str, body: AgentBody, viewer: Annotated[Viewer, permit(Permission.AGENT_CONFIRM_COMPROMISED)], deps: Deps
) -> PerformedView:
    """When this answers with `running`, no tool call of the agent that starts later is allowed on this host."""
    parameters = {"revoke_children": YES} if body.revoke_children else {}
    order = Order(agent_id, body.reason, body.incident_id, parameters)
    return performed_view(act(deps, viewer, "confirm_agent_compromised", order))


@router.post("/agents/{agent_id}/release", summary="Release an agent from quarantine")
def release_agent(
    agent_id: str, body: ActionBody, viewer: Annotated[Viewer, permit(Permission.AGENT_CONFIRM_COMPROMISED)], deps: Deps
) -> PerformedView:
    """Not by whoever built it. It needs a new secret."""
    order = Order(agent_id, body.reason, body.incident_id)
    return performed_view(act(deps, viewer, "release_agent", order))


@router.post("/servers/{server_id}/confirm-compromised", summary="Block a tool server")
def confirm_server(
    server_id: str, body: ActionBody, viewer: Annotated[Viewer, permit(Permission.SERVER_BLOCK)], deps: Deps
) -> PerformedView:
    """When this answers with `running`, no call to a tool of the server that starts later is allowed on this host."""
    order = Order(server_id, body.reason, body.incident_id)
    return performed_view(act(deps, viewer, "confirm_server_compromised", order))


@router.post("/servers/{server_id}/release", summary="Unblock a tool server")
def release_server(
    server_id: str, body: ActionBody, viewer: Annotated[Viewer, permit(Permission.SERVER_BLOCK)], deps: Deps
) -> PerformedView:
    """Agents that are bound to its tools may call them again."""
    order = Order(server_id, body.reason, body.incident_id)
    return performed_view(act(deps, viewer, "release_server", order))


# -- responses ----------------------------------------------------------------------------------------------------


@router.get("/responses", summary="Responses, newest first")
def list_responses(
    viewer: Annotated[Viewer, permit(Permission.ALERT_READ)],
    deps: Deps,
    incident: Annotated[str, Query(max_length=200)] = "",
    subject: Annotated[str, Query(max_length=200, description="The id of a user, an agent or a tool server.")] = "",
    kind: Annotated[list[SagaKind], Query(max_length=len(SagaKind))] = [],  # noqa: B006 - FastAPI copies it
    status: Annotated[list[SagaStatus], Query(max_length=len(SagaStatus))] = [],  # noqa: B006 - FastAPI copies it
    before: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[ResponseView]:
    """``before`` takes ``next``."""
    with deps.control.read() as tx:
        subjects = [subject] if subject else []
        found = sagas.list_sagas(
            tx, incident_id=incident, kinds=kind, subject_ids=subjects, statuses=status, before=before, limit=limit
        )
        views = response_views(tx, found)
    return page(views, limit, "id")


@router.get("/responses/{response_id}", summary="One response with its steps")
def read_response(
    response_id: str, viewer: Annotated[Viewer, permit(Permission.ALERT_READ)], deps: Deps
) -> ResponseView:
    """Each step as it stands, with its evidence."""
    with deps.control.read() as tx:
        return find_response(tx, viewer, response_id)


@router.post("/responses/{response_id}/approve", summary="Approve what a colleague asked for")
def approve_response(
    response_id: str, body: DecisionBody, viewer: Annotated[Viewer, permit(Permission.RESPONSE_DECIDE)], deps: Deps
) -> PerformedView:
    """It is carried out now. Not by whoever asked for it."""
    return performed_view(act(deps, viewer, "approve_response", Order(response_id, body.reason)))


@router.post("/responses/{response_id}/decline", summary="Decline what was asked for")
def decline_response(
    response_id: str, body: DecisionBody, viewer: Annotated[Viewer, permit(Permission.RESPONSE_DECIDE)], deps: Deps
) -> PerformedView:
    """Nothing of it is done. Whoever asked may take it back so."""
    return performed_view(act(deps, viewer, "decline_response", Order(response_id, body.reason)))


@router.post("/responses/{response_id}/steps/{name}/retry", summary="Try a step again")
def retry_step(
    response_id: str,
    name: str,
    body: RetryBody,
    viewer: Annotated[Viewer, permit(Permission.RESPONSE_DECIDE)],
    deps: Deps,
) -> PerformedView:
    """One that failed or was skipped."""
    return performed_view(act(deps, viewer, "retry_response_step", Order(f"{response_id}/{name}", body.reason)))
