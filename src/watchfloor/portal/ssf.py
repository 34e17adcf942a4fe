"""The doors of the transmitter: SSF's configuration and stream management, and events that are fetched (RFC 8936).

Above ``identity.signals.streams`` and ``deliver``, which decide; this translates. No route here takes a portal session:
receivers have bearer tokens of their own, which operators gave them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from watchfloor.identity.signals import deliver, streams
from watchfloor.identity.signals.streams import MANAGE, POLL, PUSH, READ, Us, VerificationTooSoon
from watchfloor.model.errors import Conflict, Denied, InputError, NotFound, Unavailable, WatchfloorError
from watchfloor.portal.signals import later, read_object
from watchfloor.storage.control import ControlTx, SqlControlStore
from watchfloor.storage.streams import SignalReceiver, Stream, list_streams
from watchfloor.storage.vault import Vault

_WAIT_SECONDS: Final = 10.0
_LOOK_EVERY: Final = 0.5
_MOST_WAITING: Final = 20
"""Requests that wait for an event at a time; the others are answered at once."""


class _Unknown(Denied):
    """No receiver has this token."""


def build_ssf_router(store: SqlControlStore, vault: Vault, us: Us) -> APIRouter:
    """The routes, with their full paths."""
    router = APIRouter(tags=["shared signals"])
    waiting = asyncio.Semaphore(_MOST_WAITING)
    url = us.issuer

    @router.get("/.well-known/ssf-configuration", summary="What this transmitter of security events offers")
    async def configuration() -> Response:
        metadata = {
            "spec_version": "1_0",
            "issuer": us.issuer,
            "jwks_uri": us.jwks_uri,
            "delivery_methods_supported": [PUSH, POLL],
            "configuration_endpoint": f"{url}/ssf/streams",
            "status_endpoint": f"{url}/ssf/status",
            "add_subject_endpoint": f"{url}/ssf/subjects/add",
            "remove_subject_endpoint": f"{url}/ssf/subjects/remove",
            "verification_endpoint": f"{url}/ssf/verification",
            "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6750"}],
            "default_subjects": "ALL",
        }
        return JSONResponse(metadata, headers={"Cache-Control": "public, max-age=300"})

    async def run(request: Request, scope: str, work: Callable[[ControlTx, SignalReceiver], Any]) -> Any:
        """``work`` in a transaction, as the receiver whose token this is."""

        def inside() -> Any:
            with store.read() as tx:
                receiver = _receiver(tx, request, scope)
            if scope == READ:
                with store.read() as tx:
                    return work(tx, receiver)
            # An update may change nothing at all, and then leaves no audit entry.
            with store.tx(f"receiver:{receiver.id}", audited=False) as tx:
                return work(tx, _receiver(tx, request, scope))

        return await run_in_threadpool(inside)

    async def answered(status: int, work: Callable[[], Any]) -> Response:
        try:
            value = await work()
        except WatchfloorError as error:
            return _refusal(error)
        return Response(status_code=status) if value is None else JSONResponse(value, status_code=status)

    def shown(stream: Stream, receiver: SignalReceiver) -> dict[str, Any]:
        return streams.shown(stream, receiver, us.issuer)

    @router.post("/ssf/streams", status_code=201, summary="Make the stream of a receiver")
    async def create(request: Request) -> Response:
        async def work() -> Any:
            body = await read_object(request)
            return await run(request, MANAGE, lambda tx, r: shown(streams.create(tx, vault, r, body), r))

        return await answered(201, work)

    @router.get("/ssf/streams", summary="The stream of a receiver, or a list of it")
    async def read(request: Request, stream_id: str | None = None) -> Response:
        def one(tx: ControlTx, receiver: SignalReceiver) -> Any:
            if stream_id is not None:
                return shown(streams.own(tx, receiver, stream_id), receiver)
            return [shown(s, receiver) for s in list_streams(tx) if s.receiver_id == receiver.id]

        return await answered(200, lambda: run(request, READ, one))

    async def change(request: Request, *, replaces: bool) -> Response:
        async def work() -> Any:
            body = await read_object(request)

            def put(tx: ControlTx, receiver: SignalReceiver) -> Any:
                return shown(streams.update(tx, vault, receiver, body, replaces=replaces), receiver)

            return await run(request, MANAGE, put)

        return await answered(200, work)

    @router.patch("/ssf/streams", summary="Change what is named of a stream")
    async def update(request: Request) -> Response:
        return await change(request, replaces=False)

    @router.put("/ssf/streams", summary="Replace what a stream asks for")
    async def replace(request: Request) -> Response:
        return await change(request, replaces=True)

    @router.delete("/ssf/streams", status_code=204, response_class=Response, summary="Delete a stream")
    async def delete(request: Request, stream_id: str | None = None) -> Response:
        return await answered(204, lambda: run(request, MANAGE, lambda tx, r: streams.delete(tx, r, stream_id)))

    @router.get("/ssf/status", summary="Whether a stream is enabled, paused or disabled")
    async def read_status(request: Request, stream_id: str | None = None) -> Response:
        return await answered(200, lambda: run(request, READ, lambda tx, r: _status(streams.own(tx, r, stream_id))))

    @router.post("/ssf/status", summary="Enable, pause or disable a stream")
    async def write_status(request: Request) -> Response:
        async def work() -> Any:
            body = await read_object(request)
            return await run(request, MANAGE, lambda tx, r: _status(streams.set_status(tx, r, body)))

        return await answered(200, work)

    @router.post("/ssf/subjects/add", response_class=Response, summary="Be told of a subject again")
    async def add_subject(request: Request) -> Response:
        async def work() -> Any:
            body = await read_object(request)
            await run(request, MANAGE, lambda tx, r: streams.set_subject(tx, r, body, wanted=True))

        return await answered(200, work)

    @router.post(
        "/ssf/subjects/remove", status_code=204, response_class=Response, summary="Be told of a subject no more"
    )
    async def remove_subject(request: Request) -> Response:
        async def work() -> Any:
            body = await read_object(request)
            await run(request, MANAGE, lambda tx, r: streams.set_subject(tx, r, body, wanted=False))

        return await answered(204, work)

    @router.post("/ssf/verification", status_code=204, response_class=Response, summary="Ask for a verification event")
    async def verify(request: Request) -> Response:
        async def work() -> Any:
            body = await read_object(request)
            await run(request, MANAGE, lambda tx, r: streams.ask_for_verification(tx, r, body))

        return await answered(204, work)

    @router.post("/ssf/streams/{stream_id}/poll", summary="Fetch events, and acknowledge those before (RFC 8936)")
    async def poll(request: Request, stream_id: str) -> Response:
        async def work() -> Any:
            body = await read_object(request)
            stream = await run(request, READ, lambda tx, r: streams.own(tx, r, stream_id))
            if stream.method != POLL:
                raise InputError("is pushed, not fetched.", where="stream_id")
            sets, more = await run_in_threadpool(deliver.fetch, store, vault, us, stream, body)
            may_wait = body.get("returnImmediately") is not True and body.get("maxEvents") != 0
            if not sets and may_wait and stream.status == "enabled" and not waiting.locked():
                async with waiting:
                    asked = {"maxEvents": body.get("maxEvents", deliver.AT_ONCE)}
                    until = asyncio.get_running_loop().time() + _WAIT_SECONDS
                    while not sets and asyncio.get_running_loop().time() < until:
                        await asyncio.sleep(_LOOK_EVERY)
                        sets, more = await run_in_threadpool(deliver.fetch, store, vault, us, stream, asked)
            return {"sets": sets, **({"moreAvailable": True} if more else {})}

        return await answered(200, work)

    return router


def _receiver(tx: ControlTx, request: Request, scope: str) -> SignalReceiver:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    found = streams.authenticate(tx, token.strip(), scope) if scheme.lower() == "bearer" and token.strip() else None
    if found is None:
        raise _Unknown("Send the token that the operators gave you as bearer token.")
    return found


def _status(stream: Stream) -> dict[str, str]:
    reason = {"reason": stream.status_reason} if stream.status_reason else {}
    return {"stream_id": stream.id, "status": stream.status, **reason}


_STATUS: Final[tuple[tuple[type[WatchfloorError], int, str], ...]] = (
    (_Unknown, 401, "invalid_token"),
    (Denied, 403, "insufficient_scope"),
    (NotFound, 404, "not_found"),
    (Conflict, 409, "conflict"),
    (InputError, 400, "invalid_request"),
    (VerificationTooSoon, 429, "too_often"),
)


def _refusal(error: WatchfloorError) -> Response:
    for family, status, code in _STATUS:
        if isinstance(error, family):
            headers = {"WWW-Authenticate": f'Bearer realm="ssf", error="{code}"'} if status in (401, 403) else {}
            if isinstance(error, Unavailable):
                headers["Retry-After"] = str(round(error.retry_after))
            return JSONResponse({"err": code, "description": str(error)}, status_code=status, headers=headers)
    if isinstance(error, Unavailable):
        return later(error)
    raise error
