"""Transmitters of security events: whom we believe about users' sessions, passwords and risk.

Above ``identity.signals.transmitters``. Only those who may say whom the product believes at all manage them; secrets
are shown to nobody.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.identity.signals import transmitters
from watchfloor.identity.signals.transmitters import Terms
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.views import Page
from watchfloor.storage import signals
from watchfloor.storage.signals import Transmitter

router = APIRouter(prefix="/api/signals/transmitters", tags=["shared signals"])

Url = Annotated[str, Field(max_length=2000)]


class TransmitterBody(BaseModel):
    """``secret``: what both sides share; left out, the one that is stays, empty, there is none.

    ``speaks_for``: issuers whose users it may speak of; left out, its own.
    """

    model_config = ConfigDict(extra="forbid")

    issuer: str = Field(max_length=500)
    jwks_uri: Url
    audience: str = Field(max_length=500)
    speaks_for: list[Annotated[str, Field(max_length=500)]] = Field(default=[], max_length=50)
    poll_url: Url = ""
    verification_url: Url = ""
    stream_id: str = Field(default="", max_length=200)
    secret: str | None = Field(default=None, max_length=1000, repr=False)
    is_enabled: bool = True


class TransmitterView(BaseModel):
    """A transmitter, and how it fares."""

    id: str
    issuer: str
    jwks_uri: str
    audience: str
    speaks_for: list[str]
    poll_url: str
    verification_url: str
    stream_id: str
    has_secret: bool
    is_enabled: bool
    created_at: datetime
    updated_at: datetime
    updated_by: str
    verified_at: datetime | None
    received_at: datetime | None
    problem: str


class ReceivedView(BaseModel):
    """A security event that was taken, and what came of it."""

    jti: str
    event: str
    outcome: str
    received_at: datetime


class AskedView(BaseModel):
    """The state that the verification event has to come with."""

    state: str


def _view(found: Transmitter) -> TransmitterView:
    return TransmitterView(
        id=found.id,
        issuer=found.issuer,
        jwks_uri=found.jwks_uri,
        audience=found.audience,
        speaks_for=list(found.speaks_for),
        poll_url=found.poll_url,
        verification_url=found.verification_url,
        stream_id=found.stream_id,
        has_secret=found.sealed is not None,
        is_enabled=found.is_enabled,
        created_at=found.created_at,
        updated_at=found.updated_at,
        updated_by=found.updated_by,
        verified_at=found.verified_at,
        received_at=found.received_at,
        problem=found.problem,
    )


@router.get("", summary="Transmitters of security events")
def list_transmitters(
    viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> Page[TransmitterView]:
    """All of them, by id."""
    with deps.control.read() as tx:
        return Page(items=[_view(found) for found in signals.list_transmitters(tx)])


@router.put("/{transmitter_id}", summary="Believe a transmitter, or change how")
def put_transmitter(
    transmitter_id: str,
    body: TransmitterBody,
    viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)],
    deps: Deps,
) -> TransmitterView:
    """What is left out is as if it had never been set, but the secret, which stays."""
    with deps.control.tx(viewer.id) as tx:
        return _view(transmitters.put(tx, deps.vault, transmitter_id, Terms(**body.model_dump())))


@router.get("/{transmitter_id}", summary="One transmitter of security events")
def read_transmitter(
    transmitter_id: str, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> TransmitterView:
    """Without its secret."""
    with deps.control.read() as tx:
        return _view(transmitters.get(tx, transmitter_id))


@router.delete("/{transmitter_id}", status_code=204, summary="Believe a transmitter no more")
def delete_transmitter(
    transmitter_id: str, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> None:
    """What it told has been done; what it tells from now on is refused."""
    with deps.control.tx(viewer.id) as tx:
        transmitters.delete(tx, transmitter_id)


@router.get("/{transmitter_id}/events", summary="What a transmitter has told, and what came of it")
def list_events(
    transmitter_id: str, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> Page[ReceivedView]:
    """The newest hundred."""
    with deps.control.read() as tx:
        found = signals.list_received(tx, transmitters.get(tx, transmitter_id).id)
        return Page(items=[ReceivedView.model_validate(each, from_attributes=True) for each in found])


@router.post("/{transmitter_id}/verification", status_code=202, summary="Ask a transmitter for a verification event")
def verify_transmitter(
    transmitter_id: str, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> AskedView:
    """``verified_at`` shows when it came."""
    return AskedView(state=transmitters.ask_for_verification(deps.control, deps.vault, transmitter_id, viewer.id))
