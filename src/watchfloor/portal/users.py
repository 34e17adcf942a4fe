"""Users of agents: who they are, what they are involved in, and ending their sessions.

Above ``identity``'s storage and ``response``; alerts and incidents come through ``incidents``, as far as the viewer may
see them.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.errors import NotFound
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.case_views import alert_view, record_view
from watchfloor.portal.deps import Deps
from watchfloor.portal.incidents import incident_views
from watchfloor.portal.views import Page, PerformedView, UserDetailView, UserView, performed_view, risk_view, user_view
from watchfloor.response.catalog import Order
from watchfloor.response.runner import Operator, perform
from watchfloor.storage import actions, cases, people, risks
from watchfloor.storage.cases import CaseFilter

router = APIRouter(prefix="/api", tags=["soc"])


class ActionBody(BaseModel):
    """Why, and as part of which incident."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(max_length=2000)
    incident_id: str | None = Field(default=None, max_length=100)


@router.get("/users", summary="Users of agents")
def list_users(viewer: Annotated[Viewer, permit(Permission.USER_READ)], deps: Deps) -> Page[UserView]:
    """All of them, by id."""
    with deps.control.read() as tx:
        return Page(items=[user_view(u) for u in people.list_users(tx)])


@router.get("/users/{user_id}", summary="One user with their alerts and incidents")
def read_user(user_id: str, viewer: Annotated[Viewer, permit(Permission.USER_READ)], deps: Deps) -> UserDetailView:
    """Alerts and incidents as far as the viewer may see them."""
    with deps.control.read() as tx:
        user = people.find_user(tx, user_id)
        if user is None:
            raise NotFound(f"there is no user {user_id!r}.", where="user")
        filters = CaseFilter(user_id=user_id)
        everything = cases.sees_everything(viewer.permissions)
        records = actions.list_records(tx, subject=f"user/{user_id}", limit=50) if everything else []
        return UserDetailView(
            **user_view(user).model_dump(),
            risk_details=risk_view(risks.find(tx, risks.USER, user_id), with_reasons=everything),
            alerts=[alert_view(a) for a in cases.list_alerts(tx, viewer.permissions, filters, 50)],
            incidents=incident_views(tx, viewer, cases.list_incidents(tx, viewer.permissions, filters, 20)),
            records=[record_view(r) for r in records],
        )


@router.post("/users/{user_id}/revoke-sessions", summary="End every session of a user")
def revoke_sessions(
    user_id: str, body: ActionBody, viewer: Annotated[Viewer, permit(Permission.USER_REVOKE)], deps: Deps
) -> PerformedView:
    """When this answers, no tool call on behalf of the user that starts later is allowed on this host."""
    order = Order(user_id, body.reason, body.incident_id)
    operator = Operator(viewer.id, viewer.permissions)
    return performed_view(perform(deps.control, deps.epoch, deps.now, operator, "revoke_user_sessions", order))
