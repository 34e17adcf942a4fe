"""A tool server's answer on its way to the caller: whole, piece by piece or event by event, and tool lists filtered.

``http.py`` above has sent the request and holds the flight; here the answer is read, and before any part of it is given
out the flight is asked whether it still may be. It does not decide about anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from watchfloor.gateway import asgi
from watchfloor.gateway.asgi import RawHeaders
from watchfloor.gateway.enforce import Enforcer
from watchfloor.gateway.flights import Flight
from watchfloor.gateway.http1 import Response
from watchfloor.gateway.mcp.exchange import Exchange
from watchfloor.gateway.mcp.filtering import SseFilter, filter_tools
from watchfloor.gateway.mcp.hearing import Hearing
from watchfloor.gateway.mcp.protocol import MessageKind
from watchfloor.gateway.mcp.rpc import TOOL_SERVER_FAILED, sse_event
from watchfloor.gateway.seals import Seal
from watchfloor.gateway.tokens import Token
from watchfloor.gateway.upstream import UpstreamError
from watchfloor.gateway.withheld import LARGEST

DOOR: Final = "mcp"

_MAX_LIST_BYTES: Final = 16 * 1024 * 1024
_WHOLE_BYTES: Final = 256 * 1024
"""An answer up to this size is read whole and checked once more before any of it is given to the caller."""

_SSE: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class Tools:
    """Which tools of a list the caller is shown, and how many of how many it were."""

    __slots__ = ("_enforcer", "_token", "kept", "offered")

    def __init__(self, enforcer: Enforcer, token: Token) -> None:
        self._enforcer, self._token = enforcer, token
        self.offered = self.kept = 0

    def __call__(self, definition: dict[str, Any]) -> bool:
        self.offered += 1
        may_see = self._enforcer.tool_lists.may_see(self._token, definition, DOOR)
        self.kept += may_see
        return may_see


@dataclass(slots=True)
class Result:
    """How an upstream answer ended."""

    status: str
    http_status: int
    error_code: int | None = None
    bytes_out: int = 0


class AnswerRelay:
    """Passes answers on. ``sessions`` seals the tool servers' session ids."""

    def __init__(self, enforcer: Enforcer, sessions: Seal) -> None:
        self._enforcer, self._sessions = enforcer, sessions

    async def answer(
        self,
        ex: Exchange,
        flight: Flight,
        response: Response,
        tools: Tools | None,
        heard: Hearing | None = None,
    ) -> Result:
        """Give ``response`` to the caller of ``ex``; ``tools`` is set where it may hold a list of tools.

        ``heard`` takes in what the tool says, before the caller gets it.
        """
        status = response.status
        if 300 <= status < 400 or status in (401, 403, 407):
            raise _unusable_answer(status)
        kind = response.content_type
        out: RawHeaders = []
        session = response.headers.get(b"mcp-session-id")
        if session is not None and ex.token is not None:
            sealed = self._sessions.seal(
                session.decode("latin-1"), ex.server_id, ex.token.agent_id, ex.token.user_id or ""
            )
            out.append((b"mcp-session-id", sealed.encode()))
        if status == 200 and kind == "text/event-stream":
            return await self._events(ex, flight, response, tools, out, heard)
        if kind != "application/json":
            return await self._other(ex, flight, response, out)
        out.append(asgi.JSON)
        length = response.content_length
        if tools is not None:
            return await self._list(ex, flight, response, tools, out)
        if response.is_whole or (length is not None and length <= _WHOLE_BYTES):
            body = await response.read()
            flight.check()
            if heard is not None:
                if heard.is_judged:
                    body = heard.judged(body) if len(body) <= LARGEST else heard.withheld(ex.request_id, "too_large")
                heard.whole(body)
            await ex.whole(status, body, out)
            return _result(status, body)
        if heard is not None and heard.is_judged:
            return await self._judged(ex, flight, response, out, heard)
        return await self._chunks(ex, flight, response, out, heard)

    async def _judged(
        self, ex: Exchange, flight: Flight, response: Response, out: RawHeaders, heard: Hearing
    ) -> Result:
        """A large JSON answer that a policy looks at: read whole, up to a limit, before any of it goes out."""
        chunks, size = [], 0
        async for chunk in response.chunks():
            flight.check()
            chunks.append(chunk)
            size += len(chunk)
            if size > LARGEST:
                break
        body = heard.withheld(ex.request_id, "too_large") if size > LARGEST else heard.judged(b"".join(chunks))
        flight.check()
        heard.whole(body)
        await ex.whole(response.status, body, out)
        return _result(response.status, body)

    async def _events(
        self,
        ex: Exchange,
        flight: Flight,
        response: Response,
        tools: Tools | None,
        out: RawHeaders,
        heard: Hearing | None,
    ) -> Result:
        """Events as they come: each chunk is passed on at once, after asking whether the call may still go on."""
        events = None
        if tools is not None:
            events = SseFilter(tools, _MAX_LIST_BYTES, self._unjudged)
        elif heard is not None and heard.is_judged:
            events = SseFilter(lambda _: True, LARGEST, heard.judged_message)
        flight.check()
        await ex.begin_stream([*_SSE, *out])
        result = Result("ok", 200)
        async for chunk in response.chunks():
            flight.check()
            result = _after(result, chunk)
            if events is not None:
                try:
                    chunk = events.feed(chunk)
                except ValueError as error:
                    if tools is None and heard is not None:
                        await ex.end(sse_event(heard.withheld(ex.request_id, "too_large")))
                        return Result("error", 200)
                    raise _invalid("The tool server's answer is too large to filter.") from error
            if heard is not None and chunk:
                heard.event_bytes(chunk)
            if chunk:
                await ex.more(chunk)
        rest = events.close() if events is not None else b""
        if heard is not None:
            if rest:
                heard.event_bytes(rest)
            heard.end()
        await ex.end(rest)
        if tools is not None:
            self._listed(ex, tools)
        return result

    def _unjudged(self, message: Any) -> Any:
        """On a stream of tool lists, nothing else that answers a call: no policy would have looked at it."""
        result = message.get("result") if isinstance(message, dict) else None
        is_list = not isinstance(message, dict) or "result" not in message
        is_list = is_list or (isinstance(result, dict) and "tools" in result)
        return message if is_list or not self._enforcer.results.are_judged(None) else None

    async def _chunks(
        self, ex: Exchange, flight: Flight, response: Response, out: RawHeaders, heard: Hearing | None
    ) -> Result:
        """A large JSON answer, piece by piece."""
        length = response.content_length
        flight.check()
        if length is not None:
            out.append((b"content-length", b"%d" % length))
        await ex.begin(response.status, out)
        result = Result("ok" if response.status < 400 else "error", response.status)
        async for chunk in response.chunks():
            flight.check()
            result = _after(result, chunk)
            if heard is not None:
                heard.json_bytes(chunk)
            await ex.more(chunk)
        if heard is not None:
            heard.end()
        await ex.end()
        return result

    async def _list(
        self,
        ex: Exchange,
        flight: Flight,
        response: Response,
        tools: Tools,
        out: RawHeaders,
    ) -> Result:
        """A tool list: read whole, filtered, written anew."""
        raw = await _read_at_most(response, _MAX_LIST_BYTES)
        flight.check()
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError:
            answer = None
        if not filter_tools(answer, tools):
            raise _invalid("The tool server's answer is not one JSON-RPC message.")
        self._listed(ex, tools)
        await ex.whole(response.status, orjson.dumps(answer), out)
        return Result("ok", response.status)

    def _listed(self, ex: Exchange, tools: Tools) -> None:
        if ex.token is not None and ex.message is not None and tools.offered:
            self._enforcer.tool_lists.served(
                ex.token, door=DOOR, address=ex.address, offered=tools.offered, kept=tools.kept
            )

    async def _other(self, ex: Exchange, flight: Flight, response: Response, out: RawHeaders) -> Result:
        """An answer without a JSON-RPC message in it: its status is passed on, its body is not."""
        status = response.status
        if status < 300 and ex.message is not None and ex.message.kind is MessageKind.REQUEST:
            raise _invalid("The tool server's answer is neither JSON nor a stream.")
        flight.check()
        if status < 300:
            await ex.whole(status, b"", out)
            return Result("ok", status)
        text = f"The tool server answered with HTTP status {status}."
        await ex.error(TOOL_SERVER_FAILED, text, {"code": "tool_server_failed"}, status=status, headers=out)
        return Result("error", status)


def _invalid(message: str) -> UpstreamError:
    return UpstreamError("tool_server_invalid_answer", message, went_out=True)


def _unusable_answer(status: int) -> UpstreamError:
    if status in (401, 403, 407):
        return UpstreamError(
            "tool_server_refused_credential", "The tool server refused the gateway's credential.", went_out=True
        )
    return UpstreamError(
        "tool_server_redirected", "The tool server redirects elsewhere; that is not followed.", went_out=True
    )


async def _read_at_most(response: Response, limit: int) -> bytes:
    chunks, size = [], 0
    async for chunk in response.chunks():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise _invalid("The tool server's answer is too large.")
    return b"".join(chunks)


# Quotes inside JSON strings are escaped, so these can only stand where they are structure.
_ERROR_MARKS: Final = (b'"error":{', b'"error": {', b'"isError":true', b'"isError": true')


def _after(result: Result, chunk: bytes) -> Result:
    result.bytes_out += len(chunk)
    if result.status == "ok" and any(mark in chunk for mark in _ERROR_MARKS):
        result.status = "error"
    return result


def _result(status: int, body: bytes) -> Result:
    """How a whole JSON answer ended; parsed only where it looks like an error."""
    result = Result("ok" if status < 400 else "error", status, bytes_out=len(body))
    if any(mark in body for mark in _ERROR_MARKS):
        try:
            answer = orjson.loads(body)
            error, outcome = answer.get("error"), answer.get("result")
        except (orjson.JSONDecodeError, AttributeError):
            return result
        if isinstance(error, dict):
            result.status = "error"
            result.error_code = error.get("code") if isinstance(error.get("code"), int) else None
        elif isinstance(outcome, dict) and outcome.get("isError") is True:
            result.status = "error"
    return result
