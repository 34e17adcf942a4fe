"""The doors for security events of others: pushed SETs (RFC 8935), and global token revocation.

Above ``identity.signals.receive``, which decides; this translates. No route here takes a portal session: what is sent
is signed by a transmitter that operators named.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from watchfloor.identity.signals.receive import Receiver, SubjectUnknown
from watchfloor.identity.signals.tokens import SetRefused
from watchfloor.model.errors import InputError, Unavailable

MAX_BODY_BYTES: Final = 64 * 1024
_SET: Final = "application/secevent+jwt"
REVOCATION_PATH: Final = "/global-token-revocation"


def build_signals_router(receiver: Receiver, public_url: str) -> APIRouter:
    """The routes, with their full paths."""
    router = APIRouter(tags=["shared signals"])

    @router.post(
        "/ssf/receive",
        status_code=202,
        response_class=Response,
        summary="Take a security event token (RFC 8935)",
        responses={400: {"description": "It is not taken: err and description say why."}},
    )
    async def receive(request: Request) -> Response:
        try:
            if media_type(request) != _SET:
                raise SetRefused("invalid_request", f"Send the token as {_SET}.")
            token = await _text(request)
            authorization = request.headers.get("authorization", "")
            await run_in_threadpool(receiver.take_pushed, token, authorization)
        except SetRefused as refused:
            return JSONResponse({"err": refused.err, "description": str(refused)}, status_code=400)
        except Unavailable as error:
            return later(error)
        return Response(status_code=202)

    @router.post(
        REVOCATION_PATH,
        status_code=204,
        response_class=Response,
        summary="End every session and token of a user, at the word of a transmitter",
        responses={
            400: {"description": "The subject is none."},
            401: {"description": "The bearer token is not accepted."},
            404: {"description": "Nobody of that name is known."},
        },
    )
    async def revoke(request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return _unauthorized("Send a signed JWT as bearer token.")
        try:
            body = await read_object(request)
            await run_in_threadpool(receiver.revoke, token.strip(), public_url + REVOCATION_PATH, body.get("sub_id"))
        except SetRefused as refused:
            if refused.err == "access_denied":
                return JSONResponse({"error": "access_denied", "error_description": str(refused)}, status_code=403)
            return _unauthorized(str(refused))
        except InputError as error:
            status = 404 if isinstance(error, SubjectUnknown) else 400
            return JSONResponse({"error": "invalid_request", "error_description": str(error)}, status_code=status)
        except Unavailable as error:
            return later(error)
        return Response(status_code=204)

    return router


def media_type(request: Request) -> str:
    """The media type of the request's body, without parameters."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def read_bytes(request: Request, most: int = MAX_BODY_BYTES) -> bytes:
    """The body. Raises ``InputError`` if it is longer than ``most`` bytes."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise InputError(f"is longer than {most} bytes.", where="body")
    return body


async def read_object(request: Request, most: int = MAX_BODY_BYTES) -> dict[str, Any]:
    """The body as a JSON object. Raises ``InputError``."""
    try:
        value = orjson.loads(await read_bytes(request, most))
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise InputError("must be a JSON object.", where="body")
    return value


def later(error: Unavailable) -> Response:
    """Not now: try again."""
    headers = {"Retry-After": str(max(1, round(error.retry_after)))}
    return JSONResponse({"err": "unavailable", "description": str(error)}, status_code=503, headers=headers)


async def _text(request: Request) -> str:
    try:
        return (await read_bytes(request)).decode("ascii").strip()
    except (InputError, UnicodeDecodeError):
        raise SetRefused("invalid_request", "The body is no security event token.") from None


def _unauthorized(description: str) -> Response:
    headers = {"WWW-Authenticate": 'Bearer realm="watchfloor", error="invalid_token"'}
    body = {"error": "invalid_token", "error_description": description}
    return JSONResponse(body, status_code=401, headers=headers)
