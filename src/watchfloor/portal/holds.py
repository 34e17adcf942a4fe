"""Holds: calls that wait for an operator's answer.

Above ``response``; the calls themselves were held by the guard and recorded by the gateway, and a job turned the
records into holds.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.errors import NotFound
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps, PortalDeps
from watchfloor.portal.views import HoldView, Page, PerformedView, hold_view, page, performed_view
from watchfloor.response.catalog import Order
from watchfloor.response.runner import Operator, perform
from watchfloor.storage import actions
from watchfloor.storage.actions import HoldStatus

router = APIRouter(prefix="/api/holds", tags=["holds"])


class AnswerBody(BaseModel):
    """Why; may be empty."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=2000)


@router.get("", summary="Holds, newest first")
def list_holds(
    viewer: Annotated[Viewer, permit(Permission.DECISION_READ)],
    deps: Deps,
    status: HoldStatus | None = None,
    before: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[HoldView]:
    """``before`` takes ``next``."""
    with deps.control.read() as tx:
        found = actions.list_holds(tx, status=status, before=before, limit=limit)
    return page([hold_view(h) for h in found], limit, "id")


@router.get("/{hold_id}", summary="One hold")
def read_hold(hold_id: str, viewer: Annotated[Viewer, permit(Permission.DECISION_READ)], deps: Deps) -> HoldView:
    """What waits, and until when."""
    with deps.control.read() as tx:
        found = actions.find_hold(tx, hold_id)
    if found is None:
        raise NotFound(f"there is no hold {hold_id!r}.", where="hold")
    return hold_view(found)


def _answer(deps: PortalDeps, viewer: Viewer, hold_id: str, action: str, reason: str) -> PerformedView:
    operator = Operator(viewer.id, viewer.permissions)
    return performed_view(perform(deps.control, deps.epoch, deps.now, operator, action, Order(hold_id, reason)))


@router.post("/{hold_id}/approve", summary="Let exactly this call out, once")
def approve_hold(
    hold_id: str, body: AnswerBody, viewer: Annotated[Viewer, permit(Permission.HOLD_DECIDE)], deps: Deps
) -> PerformedView:
    """Not by the user for whom the call was made."""
    return _answer(deps, viewer, hold_id, "approve_hold", body.reason)


@router.post("/{hold_id}/decline", summary="Refuse this call for good")
def decline_hold(
    hold_id: str, body: AnswerBody, viewer: Annotated[Viewer, permit(Permission.HOLD_DECIDE)], deps: Deps
) -> PerformedView:
    """Not by the user for whom the call was made."""
    return _answer(deps, viewer, hold_id, "decline_hold", body.reason)
