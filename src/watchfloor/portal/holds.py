"""Holds: calls that wait for an operator's answer, and who answers in whose place.

Above ``response``; the calls themselves were held by the guard and recorded by the gateway, and a job turned the
records into holds. Whoever may read decisions sees every hold. Others see the holds of agents that they made or own,
and those that somebody lends them the right to answer, in a form that quotes nothing of the call.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.errors import Denied, NotFound
from watchfloor.model.people import Permission, Role
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.decisions import Contents, read_contents, shown
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.times import utc
from watchfloor.portal.views import DelegationView, HoldView, Page, PerformedView, hold_view, page, performed_view
from watchfloor.response import approvers
from watchfloor.response.catalog import Order
from watchfloor.response.runner import Operator, perform
from watchfloor.storage import holds, inventory
from watchfloor.storage.control import ControlTx
from watchfloor.storage.holds import Hold, HoldStatus

router = APIRouter(prefix="/api/holds", tags=["holds"])


class AnswerBody(BaseModel):
    """Why; may be empty."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=2000)


class DelegationBody(BaseModel):
    """Who answers in the caller's place: an operator, or everybody of a role."""

    model_config = ConfigDict(extra="forbid")

    to_operator: str | None = Field(default=None, max_length=200)
    to_role: Role | None = None
    starts_at: datetime | None = None
    ends_at: datetime
    reason: str = Field(default="", max_length=1000)


# -- what one may see ---------------------------------------------------------------------------------------------


def own_agents(tx: ControlTx, operator_id: str) -> list[str]:
    """Agents that this operator made or owns."""
    return [a.id for a in inventory.list_agents(tx) if operator_id in (a.maker_id, a.owner_id)]


def visible_holds(
    tx: ControlTx, viewer: Viewer, *, status: HoldStatus | None = None, before: str = "", limit: int = 50
) -> list[Hold]:
    """Holds that the viewer may see, newest first."""
    sees_all = Permission.DECISION_READ in viewer.permissions or bool(approvers.lenders(tx, viewer.id))
    agents = None if sees_all else own_agents(tx, viewer.id)
    return holds.list_holds(tx, status=status, agents=agents, before=before, limit=limit)


def visible_hold(tx: ControlTx, viewer: Viewer, hold_id: str) -> Hold:
    """One hold. Raises ``NotFound``, for one that may not be seen too."""
    found = holds.find_hold(tx, hold_id)
    sees_all = Permission.DECISION_READ in viewer.permissions or bool(approvers.lenders(tx, viewer.id))
    if found is None or not (sees_all or found.agent_id in own_agents(tx, viewer.id)):
        raise NotFound(f"there is no hold {hold_id!r}.", where="hold")
    return found


def _view(viewer: Viewer, hold: Hold) -> HoldView:
    """Reasons quote values of the call: they are for those who may read decisions."""
    return hold_view(hold, with_reason=Permission.DECISION_READ in viewer.permissions)


@router.get("", summary="Holds, newest first")
def list_holds(
    viewer: Annotated[Viewer, permit(Permission.PORTAL_USE)],
    deps: Deps,
    status: HoldStatus | None = None,
    before: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[HoldView]:
    """``before`` takes ``next``. With decision.read all of them; else those of agents that the viewer made or owns,
    and all of them while somebody lends the viewer the right to answer, without what the reason quotes."""
    with deps.control.read() as tx:
        found = visible_holds(tx, viewer, status=status, before=before, limit=limit)
    return page([_view(viewer, h) for h in found], limit, "id")


# -- delegation ---------------------------------------------------------------------------------------------------


@router.get("/delegations", summary="Who answers holds in whose place")
def list_delegations(
    viewer: Annotated[Viewer, permit(Permission.PORTAL_USE)], deps: Deps, all: bool = False
) -> list[DelegationView]:
    """Those that concern the viewer; with ``all``, for who may read decisions, everybody's."""
    if all and Permission.DECISION_READ not in viewer.permissions:
        raise Denied(f"This needs the permission {Permission.DECISION_READ}.")
    roles = {role.value for role in viewer.session.operator.roles}
    with deps.control.read() as tx:
        found = holds.list_delegations(tx)
    return [
        DelegationView.model_validate(d, from_attributes=True)
        for d in found
        if all or viewer.id in (d.from_operator, d.to_operator) or d.to_role in roles
    ]


@router.post("/delegations", summary="Have somebody answer holds in your place")
def add_delegation(
    body: DelegationBody, viewer: Annotated[Viewer, permit(Permission.HOLD_DECIDE)], deps: Deps
) -> DelegationView:
    """For 90 days at most. It is not handed on, and lends nothing that the lender could not do about a call."""
    with deps.control.tx(viewer.id) as tx:
        made = approvers.delegate(
            tx,
            to_operator=body.to_operator,
            to_role=body.to_role.value if body.to_role is not None else None,
            starts_at=tx.now if body.starts_at is None else utc(body.starts_at, "starts_at"),
            ends_at=utc(body.ends_at, "ends_at"),
            reason=body.reason.strip(),
        )
    return DelegationView.model_validate(made, from_attributes=True)


@router.post("/delegations/{delegation_id}/end", summary="End a delegation now")
def end_delegation(
    delegation_id: str, viewer: Annotated[Viewer, permit(Permission.HOLD_DECIDE)], deps: Deps
) -> DelegationView:
    """One's own; with operator.write anybody's."""
    with deps.control.tx(viewer.id, audited=False) as tx:
        ended = approvers.end(tx, delegation_id, any_ones=Permission.OPERATOR_WRITE in viewer.permissions)
    return DelegationView.model_validate(ended, from_attributes=True)


# -- one hold -----------------------------------------------------------------------------------------------------


@router.get("/{hold_id}", summary="One hold")
def read_hold(hold_id: str, viewer: Annotated[Viewer, permit(Permission.PORTAL_USE)], deps: Deps) -> HoldView:
    """What waits, until when, and who has said what. Visible as in the list."""
    with deps.control.read() as tx:
        return _view(viewer, visible_hold(tx, viewer, hold_id))


@router.get("/{hold_id}/content", summary="What the call would do (audited)")
def read_hold_content(hold_id: str, viewer: Annotated[Viewer, permit(Permission.CONTENT_READ)], deps: Deps) -> Contents:
    """Its arguments and the user's words. The reading leaves an audit entry."""
    with deps.control.read() as tx:
        found = visible_hold(tx, viewer, hold_id)
    rows = read_contents(deps, viewer, [found.invocation_id])
    if not rows:
        raise NotFound(f"there is no content of {found.invocation_id!r}.", where="invocation")
    items: list[dict[str, Any]] = [shown(row, "AgentContent") for row in rows]
    return Contents(items=items)


def acting(deps: PortalDeps, viewer: Viewer) -> Operator:
    """The viewer, with the right to answer holds where somebody lends it."""
    with deps.control.read() as tx:
        return Operator(viewer.id, approvers.permissions(tx, viewer.id, viewer.permissions))


def _answer(deps: PortalDeps, viewer: Viewer, hold_id: str, action: str, reason: str) -> PerformedView:
    order = Order(hold_id, reason)
    return performed_view(perform(deps.control, deps.epoch, deps.now, acting(deps, viewer), action, order))


@router.post("/{hold_id}/approve", summary="Let exactly this call out, once")
def approve_hold(
    hold_id: str, body: AnswerBody, viewer: Annotated[Viewer, permit(Permission.HOLD_DECIDE)], deps: Deps
) -> PerformedView:
    """By whoever has hold.decide or is lent it. Not by the user for whom the call was made, nor by the agent's maker or
    owner; where the policy names approvers, by one of them; where it asks for two approvals, by two people."""
    return _answer(deps, viewer, hold_id, "approve_hold", body.reason)


@router.post("/{hold_id}/decline", summary="Refuse this call for good")
def decline_hold(
    hold_id: str, body: AnswerBody, viewer: Annotated[Viewer, permit(Permission.HOLD_DECIDE)], deps: Deps
) -> PerformedView:
    """By whoever could approve it."""
    return _answer(deps, viewer, hold_id, "decline_hold", body.reason)


@router.post("/{hold_id}/revoke", summary="Take an approval back that was not used yet")
def revoke_approval(
    hold_id: str, body: AnswerBody, viewer: Annotated[Viewer, permit(Permission.HOLD_DECIDE)], deps: Deps
) -> PerformedView:
    """By whoever could approve it. When this answers, no call goes out by the approval; 409 if one has."""
    return _answer(deps, viewer, hold_id, "revoke_approval", body.reason)
