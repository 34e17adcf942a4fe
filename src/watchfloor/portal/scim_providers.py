"""SCIM providers: who may tell us of users. Tokens are shown once, where they are made.

Above ``identity.scim.users``. Only those who may say whom the product believes manage them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.identity.scim import users
from watchfloor.identity.scim.users import Issued
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.views import Page
from watchfloor.storage import provisioning

router = APIRouter(prefix="/api/scim/providers", tags=["provisioning"])


class NewScimProvider(BaseModel):
    """``issuer``: whose users it tells of. ``subject``: the attribute that is what the issuer's tokens call a user."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=64)
    issuer: str = Field(max_length=500)
    subject: Literal["externalId", "userName"] = "externalId"


class ScimProviderView(BaseModel):
    """A SCIM provider."""

    id: str
    issuer: str
    subject: str
    is_enabled: bool
    created_at: datetime
    updated_at: datetime
    updated_by: str


class IssuedScimProviderView(ScimProviderView):
    """A provider with its new token: nobody can read it again."""

    token: str


def _issued(issued: Issued) -> IssuedScimProviderView:
    view = ScimProviderView.model_validate(issued.provider, from_attributes=True)
    return IssuedScimProviderView(**view.model_dump(), token=issued.token)


@router.get("", summary="SCIM providers")
def list_scim_providers(
    viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> Page[ScimProviderView]:
    """All of them, by id."""
    with deps.control.read() as tx:
        found = provisioning.list_providers(tx)
    return Page(items=[ScimProviderView.model_validate(each, from_attributes=True) for each in found])


@router.post("", status_code=201, summary="Let an identity provider tell of its users")
def create_scim_provider(
    body: NewScimProvider, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> IssuedScimProviderView:
    """The answer holds its token, which is shown nowhere else and never again."""
    with deps.control.tx(viewer.id) as tx:
        return _issued(users.create_provider(tx, body.id, body.issuer, body.subject))


@router.post("/{provider_id}/token", summary="Give a SCIM provider a new token")
def renew_scim_token(
    provider_id: str, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> IssuedScimProviderView:
    """Shown once; the token before it is refused from now on."""
    with deps.control.tx(viewer.id) as tx:
        return _issued(users.renew_token(tx, provider_id))


@router.delete("/{provider_id}", status_code=204, summary="Take no word of a SCIM provider any more")
def delete_scim_provider(
    provider_id: str, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> None:
    """Its token is refused from now on; its users stay as they are."""
    with deps.control.tx(viewer.id) as tx:
        users.delete_provider(tx, provider_id)
