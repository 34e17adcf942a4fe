"""Operators: who may use the portal, in which roles. Only owners manage them.

Above ``identity.operators``, which keeps the last owner in office and ends the sessions of whoever loses a role.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.identity import operators as accounts
from watchfloor.model.errors import InputError
from watchfloor.model.people import Permission, Role
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.storage import people
from watchfloor.storage.people import Operator

router = APIRouter(prefix="/api/operators", tags=["operators"])


class OperatorView(BaseModel):
    """An operator."""

    id: str
    name: str
    roles: list[Role]
    is_enabled: bool
    created_at: datetime


class NewOperator(BaseModel):
    """``id`` is the sign-in name; one that equals a user's id is that person."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=64)
    name: str = Field(default="", max_length=200)
    roles: list[Role] = Field(min_length=1, max_length=len(Role))
    password: str = Field(max_length=1000, repr=False)


class OperatorChange(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    roles: list[Role] | None = Field(default=None, min_length=1, max_length=len(Role))
    is_enabled: bool | None = None


def _view(operator: Operator) -> OperatorView:
    return OperatorView(
        id=operator.id,
        name=operator.name,
        roles=sorted(operator.roles),
        is_enabled=operator.is_enabled,
        created_at=operator.created_at,
    )


@router.get("", summary="Operators")
def list_operators(viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps) -> list[OperatorView]:
    """Everybody who may sign in, and the local administrator."""
    with deps.control.read() as tx:
        return [_view(operator) for operator in people.list_operators(tx)]


@router.post("", status_code=201, summary="Add an operator")
def create_operator(
    body: NewOperator, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> OperatorView:
    """Signs in with ``id`` and ``password`` from now on."""
    # Hashing takes its time and is bounded; it must not happen inside the transaction.
    password_hash = deps.operators.passwords.hash(body.password)
    with deps.control.tx(viewer.id) as tx:
        return _view(accounts.create(tx, body.id, password_hash, body.roles, display_name=body.name))


@router.patch("/{operator_id}", summary="Change roles, enable or disable")
def change_operator(
    operator_id: str, body: OperatorChange, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> OperatorView:
    """Ends the operator's sessions if something is taken away. The last owner stays one."""
    if body.roles is None and body.is_enabled is None:
        raise InputError("nothing to change.", where="body", remedy="Give roles, is_enabled or both.")
    with deps.control.tx(viewer.id) as tx:
        if body.roles is not None:
            accounts.set_roles(tx, operator_id, body.roles)
        if body.is_enabled is not None:
            accounts.set_enabled(tx, operator_id, body.is_enabled)
        found = people.find_operator(tx, operator_id)
        assert found is not None
        return _view(found)
