"""Sightings: agents and tool servers that were seen at work and that the registry does not know.

Above ``registry.sightings``; a job finds them. Adopting one registers it and lets it do nothing yet; dismissing one
says that it may stay unknown.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.model.errors import InputError
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.views import Page
from watchfloor.registry import sightings as registry
from watchfloor.storage import sightings
from watchfloor.storage.sightings import Place, Seen, Sighting, SightingKind, SightingState

router = APIRouter(prefix="/api/sightings", tags=["telemetry"])

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MOMENT: Final = 253_402_300_799_999_999


class SeenView(BaseModel):
    """Values in the order in which they turned up. ``more``: events that named another one than these; ``new``: those
    that turned up after the sighting was dismissed."""

    values: list[str]
    more: int
    new: list[str]


class SightingView(BaseModel):
    """A sighting. ``name``: an agent's name, a server's address; ``reason``: why it counted as a shadow when it was
    seen; ``updated_at`` is the last change of its state."""

    kind: SightingKind
    key: str
    name: str
    reason: str
    state: SightingState
    users: SeenView
    tools: SeenView
    sources: SeenView
    events: int
    first_seen: datetime
    last_seen: datetime
    updated_at: datetime
    updated_by: str


class AdoptBody(BaseModel):
    """``id``: what it is called in the registry, its own id unless given; ``url``: where a tool server's MCP endpoint
    is."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(default="", max_length=64)
    url: str = Field(default="", max_length=2000)


class DismissBody(BaseModel):
    """Why it may stay unknown."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(max_length=2000)


def _seen(seen: Seen, state: SightingState) -> SeenView:
    new = seen.values[seen.looked_at :] if state is SightingState.DISMISSED else ()
    return SeenView(values=list(seen.values), more=seen.more, new=list(new))


def _view(sighting: Sighting) -> SightingView:
    return SightingView(
        kind=sighting.kind,
        key=sighting.key,
        name=sighting.name,
        reason=registry.reason_of(sighting.kind, sighting.key, sighting.name),
        state=sighting.state,
        users=_seen(sighting.users, sighting.state),
        tools=_seen(sighting.tools, sighting.state),
        sources=_seen(sighting.sources, sighting.state),
        events=sighting.events,
        first_seen=sighting.first_seen,
        last_seen=sighting.last_seen,
        updated_at=sighting.updated_at,
        updated_by=sighting.updated_by,
    )


def _mark(sighting: Sighting) -> str:
    return f"{(sighting.first_seen - _EPOCH) // timedelta(microseconds=1)}/{sighting.kind.value}/{sighting.key}"


def _place(mark: str) -> Place | None:
    if not mark:
        return None
    micros, _, rest = mark.partition("/")
    kind, separator, key = rest.partition("/")
    if not (micros.isascii() and micros.isdecimal()) or not separator or int(micros) > _LAST_MOMENT:
        raise InputError("this is no place in the list.", where="before", remedy="Give `next` of the page before.")
    return Place(_EPOCH + timedelta(microseconds=int(micros)), kind, key)


@router.get("", summary="Shadow agents and tool servers")
def list_sightings(
    viewer: Annotated[Viewer, permit(Permission.SIGHTING_READ)],
    deps: Deps,
    kind: SightingKind | None = None,
    state: SightingState | None = None,
    before: Annotated[str, Query(max_length=400)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Page[SightingView]:
    """Those that were first seen latest come first; ``before`` takes ``next``."""
    place = _place(before)
    with deps.control.read() as tx:
        found = sightings.list_sightings(tx, kind=kind, state=state, before=place, limit=limit)
    return Page(items=[_view(s) for s in found], next=_mark(found[-1]) if len(found) >= limit else None)


@router.post("/{kind}/{key:path}/adopt", summary="Register what was seen")
def adopt_sighting(
    kind: SightingKind,
    key: str,
    body: AdoptBody,
    viewer: Annotated[Viewer, permit(Permission.REGISTRY_WRITE)],
    deps: Deps,
) -> SightingView:
    """An agent becomes a draft without tools, a tool server one without approved tools: the gateway refuses both until
    somebody says more. An agent that calls itself something that is no id here needs one."""
    with deps.control.tx(viewer.id) as tx:
        adopted = registry.adopt(tx, deps.vault, kind, key, registry_id=body.id, url=body.url)
    deps.nudge("refresh_tool_lists")
    return _view(adopted)


@router.post("/{kind}/{key:path}/dismiss", summary="Say that something seen may stay unknown")
def dismiss_sighting(
    kind: SightingKind,
    key: str,
    body: DismissBody,
    viewer: Annotated[Viewer, permit(Permission.SIGHTING_WRITE)],
    deps: Deps,
) -> SightingView:
    """It stays dismissed; users, tools and sources that turn up later are shown as new."""
    with deps.control.tx(viewer.id) as tx:
        return _view(registry.dismiss(tx, kind, key, body.reason))


@router.get("/{kind}/{key:path}", summary="One sighting")
def read_sighting(
    kind: SightingKind, key: str, viewer: Annotated[Viewer, permit(Permission.SIGHTING_READ)], deps: Deps
) -> SightingView:
    """Whatever became of it."""
    with deps.control.read() as tx:
        return _view(registry.get(tx, kind, key))
