"""Telemetry sources: who may send what agents did. Tokens are shown once, where they are made.

Above ``registry.sources``; the receivers hold what is decided here. How a source fares is in ``portal.pipeline``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.errors import InputError
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.views import Page
from watchfloor.registry import sources as registry
from watchfloor.registry.sources import Issued, Terms
from watchfloor.storage import sources
from watchfloor.storage.sources import TelemetrySource

router = APIRouter(prefix="/api/sources", tags=["telemetry"])

_AGENTS: Final = "Ids of the agents that it may speak for, or * alone for every agent."

Name = Annotated[str, Field(max_length=200)]
Description = Annotated[str, Field(max_length=2000)]
Agents = Annotated[
    list[Annotated[str, Field(max_length=200)]],
    Field(min_length=1, max_length=registry.MOST_AGENTS, description=_AGENTS),
]
Rate = Annotated[int, Field(ge=1, le=registry.MOST_EVENTS_PER_SECOND)]


class SourceView(BaseModel):
    """A source. ``events_per_second`` is its quota."""

    id: str
    name: str
    description: str
    agents: list[str]
    events_per_second: int
    is_enabled: bool
    created_at: datetime
    updated_at: datetime
    updated_by: str


class IssuedView(SourceView):
    """A source with its new token: nobody can read it again."""

    token: str


class NewSource(BaseModel):
    """``id`` names it for good; ``name`` is for people, the id unless given."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=64)
    name: Name = ""
    description: Description = ""
    agents: Agents
    events_per_second: Rate = 20_000


class SourceChange(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    description: Description | None = None
    agents: Agents | None = None
    events_per_second: Rate | None = None
    is_enabled: bool | None = None


def _view(source: TelemetrySource) -> SourceView:
    return SourceView.model_validate(source, from_attributes=True)


def _issued(issued: Issued) -> IssuedView:
    return IssuedView(**_view(issued.source).model_dump(), token=issued.token)


@router.get("", summary="Telemetry sources")
def list_sources(viewer: Annotated[Viewer, permit(Permission.SOURCE_READ)], deps: Deps) -> Page[SourceView]:
    """All of them, by id."""
    with deps.control.read() as tx:
        return Page(items=[_view(source) for source in sources.list_sources(tx)])


@router.post("", status_code=201, summary="Add a telemetry source")
def create_source(
    body: NewSource, viewer: Annotated[Viewer, permit(Permission.SOURCE_WRITE)], deps: Deps
) -> IssuedView:
    """The answer holds its token, which is shown nowhere else and never again."""
    terms = Terms(body.name, body.description, body.agents, body.events_per_second)
    with deps.control.tx(viewer.id) as tx:
        return _issued(registry.create(tx, body.id, terms))


@router.get("/{source_id}", summary="One telemetry source")
def read_source(source_id: str, viewer: Annotated[Viewer, permit(Permission.SOURCE_READ)], deps: Deps) -> SourceView:
    """Without its token: only its hash is kept."""
    with deps.control.read() as tx:
        return _view(registry.get(tx, source_id))


@router.patch("/{source_id}", summary="Change, enable or disable a telemetry source")
def change_source(
    source_id: str, body: SourceChange, viewer: Annotated[Viewer, permit(Permission.SOURCE_WRITE)], deps: Deps
) -> SourceView:
    """When this answers, no request that starts later on this host is taken on the old terms."""
    terms = Terms(body.name, body.description, body.agents, body.events_per_second, body.is_enabled)
    if terms == Terms():
        raise InputError(
            "nothing to change.", where="body", remedy=f"Give one of {', '.join(SourceChange.model_fields)}."
        )
    with deps.control.tx(viewer.id) as tx:
        return _view(registry.change(tx, source_id, terms))


@router.delete("/{source_id}", status_code=204, summary="Delete a telemetry source")
def delete_source(source_id: str, viewer: Annotated[Viewer, permit(Permission.SOURCE_WRITE)], deps: Deps) -> None:
    """Its token is refused from now on; what it sent stays."""
    with deps.control.tx(viewer.id) as tx:
        registry.delete(tx, source_id)


@router.post("/{source_id}/token", summary="Give a telemetry source a new token")
def renew_token(source_id: str, viewer: Annotated[Viewer, permit(Permission.SOURCE_WRITE)], deps: Deps) -> IssuedView:
    """Shown once; the token before it is refused from now on."""
    with deps.control.tx(viewer.id) as tx:
        return _issued(registry.renew_token(tx, source_id))
