"""Operators: who may use the portal, in which roles. Only owners manage them.

Above ``identity.operators``, which keeps the last owner in office and ends the sessions of whoever loses a role.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.identity import operators as accounts
from watchfloor.identity import second_factor
from watchfloor.model.errors import InputError, NotFound
from watchfloor.model.people import Permission, Role
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.storage import people, sign_in
from watchfloor.storage.control import ControlTx
from watchfloor.storage.people import Operator
from watchfloor.storage.sign_in import Identity

router = APIRouter(prefix="/api/operators", tags=["operators"])


class OperatorView(BaseModel):
    """An operator."""

    id: str
    name: str
    roles: list[Role]
    is_enabled: bool
    created_at: datetime
    has_second_factor: bool
    signs_in_through: str
    """The issuer of the identity provider; empty for a password or tokens alone."""


class NewOperator(BaseModel):
    """``id`` is the sign-in name; one that equals a user's id is that person.

    Without a password the operator signs in through the identity provider, where one is set: whoever it calls by this
    name first is this operator from then on.
    """

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=64)
    name: str = Field(default="", max_length=200)
    roles: list[Role] = Field(min_length=1, max_length=len(Role))
    password: str | None = Field(default=None, max_length=1000, repr=False)


class OperatorChange(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    roles: list[Role] | None = Field(default=None, min_length=1, max_length=len(Role))
    is_enabled: bool | None = None


def _view(tx: ControlTx, operator: Operator) -> OperatorView:
    identity = sign_in.find_identity(tx, operator.id)
    return OperatorView(
        id=operator.id,
        name=operator.name,
        roles=sorted(operator.roles),
        is_enabled=operator.is_enabled,
        created_at=operator.created_at,
        has_second_factor=second_factor.is_asked_for(tx, operator.id),
        signs_in_through=identity.issuer if identity is not None else "",
    )


@router.get("", summary="Operators")
def list_operators(viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps) -> list[OperatorView]:
    """Everybody who may sign in, and the local administrator."""
    with deps.control.read() as tx:
        return [_view(tx, operator) for operator in people.list_operators(tx)]


@router.post("", status_code=201, summary="Add an operator")
def create_operator(
    body: NewOperator, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> OperatorView:
    """Signs in with ``id`` and ``password``, or through the identity provider, from now on."""
    if body.password is None and deps.sign_ons is None:
        raise InputError("no identity provider is set.", where="password", remedy="Give a password.")
    # Hashing takes its time and is bounded; it must not happen inside the transaction.
    password_hash = deps.operators.passwords.hash(body.password) if body.password is not None else None
    with deps.control.tx(viewer.id) as tx:
        created = accounts.create(tx, body.id, password_hash, body.roles, display_name=body.name)
        if password_hash is None and deps.sign_ons is not None:
            sign_in.save_identity(tx, Identity(created.id, deps.sign_ons.party.issuer), "operator:expect")
        return _view(tx, created)


@router.post("/{operator_id}/end-sessions", status_code=204, summary="End every session of an operator")
def end_sessions(operator_id: str, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps) -> None:
    """API tokens, too."""
    with deps.control.tx(viewer.id) as tx:
        accounts.end_sessions(tx, operator_id)


@router.post("/{operator_id}/remove-second-factor", status_code=204, summary="For an operator whose phone is lost")
def remove_second_factor(
    operator_id: str, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> None:
    """Every session of theirs ends, and they sign in by password alone once more. Make sure who asks for it."""
    with deps.control.tx(viewer.id) as tx:
        if not second_factor.remove(tx, operator_id):
            raise NotFound(f"operator {operator_id!r} has no second factor.", where="operator")
        accounts.end_sessions(tx, operator_id)


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
        return _view(tx, found)
