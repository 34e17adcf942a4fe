"""Known names: lists of what the organisation knows by itself, which the guard trusts in any argument.

Above ``storage.known_names``. They loosen decisions, so changing them takes the right to change policies; scripts that
keep them in step with a directory or a CRM put whole lists.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.errors import NotFound
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.views import Page
from watchfloor.storage.known_names import (
    MOST_NAMES,
    KnownNames,
    find_known_names,
    list_known_names,
    save_known_names,
)

router = APIRouter(prefix="/api/known-names", tags=["policies"])


class KnownNamesView(BaseModel):
    """A list of names."""

    id: str
    names: list[str]


class NamesBody(BaseModel):
    """The names, in place of those before; none remove the list."""

    model_config = ConfigDict(extra="forbid")

    names: list[str] = Field(max_length=MOST_NAMES)


def _view(known: KnownNames) -> KnownNamesView:
    return KnownNamesView(id=known.id, names=list(known.names))


@router.get("", summary="Lists of names that the guard trusts")
def list_known(viewer: Annotated[Viewer, permit(Permission.POLICY_READ)], deps: Deps) -> Page[KnownNamesView]:
    """All of them, by id."""
    with deps.control.read() as tx:
        return Page(items=[_view(known) for known in list_known_names(tx)])


@router.get("/{list_id}", summary="One list of names")
def read_known(list_id: str, viewer: Annotated[Viewer, permit(Permission.POLICY_READ)], deps: Deps) -> KnownNamesView:
    """As it stands."""
    with deps.control.read() as tx:
        found = find_known_names(tx, list_id)
    if found is None:
        raise NotFound(f"there is no list {list_id!r}.", where="known-names")
    return _view(found)


@router.put("/{list_id}", summary="Replace a list of names")
def put_known(
    list_id: str, body: NamesBody, viewer: Annotated[Viewer, permit(Permission.POLICY_WRITE)], deps: Deps
) -> KnownNamesView:
    """Trusted from the next call on, on every worker; those that are left out, no more."""
    with deps.control.tx(viewer.id) as tx:
        save_known_names(tx, KnownNames(list_id, tuple(body.names)))
        return _view(find_known_names(tx, list_id) or KnownNames(list_id))


@router.delete("/{list_id}", status_code=204, summary="Remove a list of names")
def delete_known(list_id: str, viewer: Annotated[Viewer, permit(Permission.POLICY_WRITE)], deps: Deps) -> None:
    """Nothing happens if there is none."""
    with deps.control.tx(viewer.id) as tx:
        if find_known_names(tx, list_id) is not None:
            save_known_names(tx, KnownNames(list_id))
