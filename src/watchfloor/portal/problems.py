"""Errors as HTTP answers: problem details (RFC 9457) that name the place and the remedy.

One table maps the families of ``model.errors`` to statuses. What nobody foresaw is logged under an id and answered with
that id alone, so that no internals leave.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from watchfloor.identity.operators import SecondFactorRequired, SignInFailed
from watchfloor.identity.second_factor import CodeWrong
from watchfloor.model.errors import (
    Conflict,
    Corrupt,
    Denied,
    InputError,
    NotFound,
    PastLimit,
    Unavailable,
    WatchfloorError,
)
from watchfloor.model.ids import new_id
from watchfloor.registry.problems import ManifestInvalid
from watchfloor.response.runner import TooOften
from watchfloor.storage.hunting import Cancelled
from watchfloor.storage.hunts import TooMany

_log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"


class Unauthenticated(Denied):
    """Nobody is signed in, or the token is not good."""

    code = "unauthenticated"

    def __init__(self, message: str = "Sign in, or send an API token as 'Authorization: Bearer …'.") -> None:
        super().__init__(message)


class TooLarge(InputError):
    """The request is larger than this door takes."""

    code = "too_large"


class Throttled(Unavailable):
    """Too many attempts; wait."""

    code = "throttled"


_STATUS: Final[tuple[tuple[type[WatchfloorError], int, str], ...]] = (
    (Unauthenticated, 401, "Not signed in"),
    (SignInFailed, 401, "Sign-in failed"),
    (SecondFactorRequired, 401, "A code is needed"),
    (CodeWrong, 401, "Wrong code"),
    (Denied, 403, "Not allowed"),
    (NotFound, 404, "Not found"),
    (Conflict, 409, "Not possible in this state"),
    (TooLarge, 413, "Too large"),
    (InputError, 422, "Not valid"),
    (TooOften, 429, "Too often"),
    (Throttled, 429, "Too many attempts"),
    (TooMany, 429, "Too many queries"),
    (Cancelled, 409, "Cancelled"),
    (PastLimit, 422, "More than the limit"),
    (Corrupt, 500, "Stored data is damaged"),
    (Unavailable, 503, "Not available at this moment"),
    (WatchfloorError, 500, "Failed"),
)
"""The first family that fits decides; specific ones stand first."""


def status_of(error: WatchfloorError) -> tuple[int, str]:
    """HTTP status and title."""
    return next((status, title) for family, status, title in _STATUS if isinstance(error, family))


def problem(
    status: int, title: str, detail: str, *, code: str, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """A problem details answer; empty members are left out."""
    body = {"type": f"urn:watchfloor:problem:{code}", "title": title, "status": status, "detail": detail, "code": code}
    body |= {name: value for name, value in members.items() if value not in ("", None, [])}
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def answer(error: WatchfloorError, instance: str = "") -> Response:
    """``error`` as an answer."""
    status, title = status_of(error)
    headers: dict[str, str] = {}
    members: dict[str, Any] = {"instance": instance}
    detail = str(error)
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="watchfloor"'
    if isinstance(error, InputError):
        detail = error.message
        members |= {"where": error.where, "remedy": error.remedy}
    if isinstance(error, ManifestInvalid):
        members["errors"] = [p.to_json() for p in error.problems]
    if isinstance(error, Unavailable) and not isinstance(error, PastLimit):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return problem(status, title, detail, code=error.code, headers=headers, **members)


def _place(location: tuple[int | str, ...]) -> str:
    place = ""
    for part in location[1:] if len(location) > 1 else location:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    return place


def _on_watchfloor_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, WatchfloorError)
    if isinstance(error, Corrupt):
        _log.error("%s %s: %s", request.method, request.url.path, error)
    return answer(error, request.url.path)


def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # What was sent is never repeated: it may hold a password.
    errors = [{"where": _place(e["loc"]), "message": e["msg"]} for e in error.errors()]
    detail = "; ".join(f"{e['where']}: {e['message']}" for e in errors)
    return problem(
        422,
        "Not valid",
        detail,
        code="invalid_input",
        instance=request.url.path,
        where=errors[0]["where"],
        errors=errors,
    )


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    names = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
    titles = {400: "Not valid", 404: "Not found", 405: "Method not allowed"}
    detail = {
        404: "There is nothing at this address.",
        405: f"{request.method} is not possible here.",
    }
    return problem(
        error.status_code,
        titles.get(error.status_code, "Failed"),
        detail.get(error.status_code, str(error.detail)),
        code=names.get(error.status_code, "http_error"),
        headers=error.headers,
        instance=request.url.path,
    )


def too_large(path: str) -> Response:
    """The answer to a body past the limit."""
    return answer(TooLarge("the request is larger than this door takes.", where="body"), path)


def unforeseen(method: str, path: str, error: Exception) -> Response:
    """The answer to an error that nobody foresaw; its details are in the log."""
    error_id = new_id("err")
    _log.error("%s: %s %s failed", error_id, method, path, exc_info=error)
    return problem(
        500,
        "Failed",
        f"Something went wrong here. The server's log has the details under {error_id}.",
        code="internal_error",
        instance=path,
        error_id=error_id,
    )


def install(app: FastAPI) -> None:
    """Answer every error that ``app`` foresees as problem details; ``walls`` answers the others."""
    app.add_exception_handler(WatchfloorError, _on_watchfloor_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
