"""Receivers of security events: who may ask us to be told. Tokens are shown once, where they are made.

Above ``identity.signals.streams``. Only those who may say whom the product believes manage whom it tells.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from watchfloor.identity.signals import streams
from watchfloor.identity.signals.streams import Issued
from watchfloor.model.people import Permission
from watchfloor.portal.auth import Viewer, permit
from watchfloor.portal.deps import Deps
from watchfloor.portal.views import Page
from watchfloor.storage import streams as storage
from watchfloor.storage.control import ControlTx
from watchfloor.storage.streams import SignalReceiver

router = APIRouter(prefix="/api/signals/receivers", tags=["shared signals"])


class NewReceiver(BaseModel):
    """``audience`` of its events (its id unless given), SSF scopes, and the hosts that events may be pushed to."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=64)
    audience: str = Field(default="", max_length=500)
    scopes: list[Annotated[str, Field(max_length=40)]] = Field(
        default=[streams.READ, streams.MANAGE], min_length=1, max_length=4
    )
    push_hosts: list[Annotated[str, Field(max_length=253)]] = Field(default=[], max_length=20)


class StreamView(BaseModel):
    """What a receiver asked for, and how it fares."""

    id: str
    method: str
    endpoint_url: str
    events_requested: list[str]
    status: str
    status_reason: str
    waiting: int
    failures: int
    next_try_at: datetime | None
    problem: str


class ReceiverView(BaseModel):
    """A receiver, with its stream if it has made one."""

    id: str
    audience: str
    scopes: list[str]
    push_hosts: list[str]
    is_enabled: bool
    created_at: datetime
    updated_at: datetime
    updated_by: str
    stream: StreamView | None = None


class IssuedReceiverView(ReceiverView):
    """A receiver with its new token: nobody can read it again."""

    token: str


def _view(tx: ControlTx, found: SignalReceiver) -> ReceiverView:
    view = ReceiverView(
        id=found.id,
        audience=found.audience,
        scopes=list(found.scopes),
        push_hosts=list(found.push_hosts),
        is_enabled=found.is_enabled,
        created_at=found.created_at,
        updated_at=found.updated_at,
        updated_by=found.updated_by,
    )
    stream = storage.find_stream_of(tx, found.id)
    if stream is None:
        return view
    shown = StreamView(
        id=stream.id,
        method=stream.method,
        endpoint_url=stream.endpoint_url,
        events_requested=list(stream.events_requested),
        status=stream.status,
        status_reason=stream.status_reason,
        waiting=storage.count_waiting(tx, stream.id),
        failures=stream.failures,
        next_try_at=stream.next_try_at,
        problem=stream.problem,
    )
    return view.model_copy(update={"stream": shown})


def _issued(tx: ControlTx, issued: Issued) -> IssuedReceiverView:
    return IssuedReceiverView(**_view(tx, issued.receiver).model_dump(), token=issued.token)


@router.get("", summary="Receivers of security events")
def list_receivers(viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps) -> Page[ReceiverView]:
    """All of them by id, with what waits for each and what went wrong."""
    with deps.control.read() as tx:
        return Page(items=[_view(tx, found) for found in storage.list_receivers(tx)])


@router.post("", status_code=201, summary="Let somebody ask to be told of security events")
def create_receiver(
    body: NewReceiver, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> IssuedReceiverView:
    """The answer holds its token, which is shown nowhere else and never again."""
    with deps.control.tx(viewer.id) as tx:
        made = streams.create_receiver(
            tx, body.id, audience=body.audience, scopes=body.scopes, push_hosts=body.push_hosts
        )
        return _issued(tx, made)


@router.post("/{receiver_id}/token", summary="Give a receiver a new token")
def renew_receiver_token(
    receiver_id: str, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps
) -> IssuedReceiverView:
    """Shown once; the token before it is refused from now on."""
    with deps.control.tx(viewer.id) as tx:
        return _issued(tx, streams.renew_token(tx, receiver_id))


@router.delete("/{receiver_id}", status_code=204, summary="Tell a receiver nothing any more")
def delete_receiver(receiver_id: str, viewer: Annotated[Viewer, permit(Permission.OPERATOR_WRITE)], deps: Deps) -> None:
    """Its token is refused from now on, its stream is gone with what waits for it."""
    with deps.control.tx(viewer.id) as tx:
        streams.delete_receiver(tx, receiver_id)
