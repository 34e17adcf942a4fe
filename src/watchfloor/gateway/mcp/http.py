"""MCP over streamable HTTP, both protocols: translates for ``enforce.py``, forwards, streams, cancels.

Above: ``app.py`` routes ``/mcp/{server}`` here. Below: ``protocol.py`` says what a message is, ``Enforcer`` what may go
out, ``Upstreams`` sends it. A request is parsed once and serialised anew, so that what was judged is what is sent; an
answer is forwarded as it arrives, unless it is a list of tools. It keeps no session: a session id carries its binding.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

import orjson

from watchfloor.gateway import asgi
from watchfloor.gateway.answers import PUBLIC_MESSAGES, SIGN_IN_AGAIN, Refusal, RefusalKind
from watchfloor.gateway.asgi import Addresses, BodyTooLarge, CallerGone, RawHeaders, Receive, Scope, Send
from watchfloor.gateway.enforce import Admission, CallRequest, Enforcer, Permit
from watchfloor.gateway.flights import DISCONNECTED, DRAINING, Ended, Flight, Flights
from watchfloor.gateway.http1 import Response
from watchfloor.gateway.mcp import protocol
from watchfloor.gateway.mcp.protocol import Era, Handling, Headers, Message, MessageKind, Rejected
from watchfloor.gateway.seals import Seal
from watchfloor.gateway.tokens import Token, TokenError
from watchfloor.gateway.upstream import FAILURES, UpstreamError, Upstreams, failure
from watchfloor.model.agents import ToolEffect

_LOG: Final = logging.getLogger(__name__)
DOOR: Final = "mcp"

_MAX_LIST_BYTES: Final = 16 * 1024 * 1024
_MAX_ERROR_BYTES: Final = 64 * 1024
_WHOLE_BYTES: Final = 256 * 1024
"""An answer up to this size is read whole and checked once more before any of it is given to the caller."""

_RPC_CODES: Final = {
    RefusalKind.BLOCKED: protocol.BLOCKED,
    RefusalKind.HELD: protocol.HELD,
    RefusalKind.UNAVAILABLE: protocol.STATE_UNAVAILABLE,
}
_SSE: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
_BOTH_TYPES: Final = "application/json, text/event-stream"
_INVOCATION: Final = b"watchfloor-invocation"


@dataclass(slots=True)
class _Exchange:
    """One HTTP request and what is known of it so far."""

    server_id: str
    headers: Headers
    address: str
    receive: Receive
    send: Send
    token: Token | None = None
    message: Message | None = None
    invocation_id: str = ""
    has_begun: bool = False
    """Whether the head of the answer is out."""
    is_stream: bool = False

    @property
    def request_id(self) -> protocol.RequestId:
        """The id that an answer must carry."""
        return self.message.id if self.message is not None else None

    async def begin(self, status: int, headers: RawHeaders) -> None:
        if self.invocation_id:
            headers.append((_INVOCATION, self.invocation_id.encode()))
        self.has_begun = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def whole(self, status: int, body: bytes, headers: RawHeaders) -> None:
        headers.append((b"content-length", b"%d" % len(body)))
        await self.begin(status, headers)
        await self.send({"type": "http.response.body", "body": body})

    async def error(
        self, code: int, text: str, data: Any = None, *, status: int = 200, request_id: Any = None, headers: Any = ()
    ) -> None:
        """End the exchange with a JSON-RPC error, in whatever form its answer has begun."""
        body = protocol.error_body(request_id if request_id is not None else self.request_id, code, text, data)
        if not self.has_begun:
            await self.whole(status, body, [asgi.JSON, *headers])
        elif self.is_stream:
            await self.send({"type": "http.response.body", "body": protocol.sse_event(body)})
        # A JSON answer that has begun cannot be turned into an error: it is cut off by whoever serves us.


class _Tools:
    """Which tools of a list the caller is shown, and how many of how many it were."""

    __slots__ = ("_enforcer", "_token", "kept", "offered")

    def __init__(self, enforcer: Enforcer, token: Token) -> None:
        self._enforcer, self._token = enforcer, token
        self.offered = self.kept = 0

    def __call__(self, definition: dict[str, Any]) -> bool:
        self.offered += 1
        may_see = self._enforcer.may_list(self._token, definition, DOOR)
        self.kept += may_see
        return may_see


@dataclass(slots=True)
class _Result:
    """How an upstream answer ended."""

    status: str
    http_status: int
    error_code: int | None = None
    bytes_out: int = 0


class McpDoor:
    """``/mcp/{server}`` of one worker."""

    def __init__(
        self,
        enforcer: Enforcer,
        upstreams: Upstreams,
        flights: Flights,
        sessions: Seal,
        addresses: Addresses,
        *,
        base_url: str,
        max_body_bytes: int,
        allowed_origins: frozenset[str],
    ) -> None:
        self._enforcer, self._upstreams, self._flights, self._sessions = enforcer, upstreams, flights, sessions
        self._addresses, self._max_body, self._origins = addresses, max_body_bytes, allowed_origins
        self._metadata_url = f"{base_url}/.well-known/oauth-protected-resource/mcp/"

    async def handle(self, scope: Scope, receive: Receive, send: Send, server_id: str) -> None:
        """Serve one request."""
        headers = protocol.read_headers(scope["headers"])
        address = self._addresses.of(scope, headers.text(b"x-forwarded-for"))
        ex = _Exchange(server_id, headers, address, receive, send)
        try:
            await self._serve(ex, scope["method"])
        except CallerGone:
            return
        except TokenError as error:
            await self._unauthenticated(ex, error)
        except Rejected as error:
            self._refused(ex, "malformed", error.message)
            request_id = error.request_id
            await ex.error(error.code, error.message, error.data, status=error.status, request_id=request_id)
        except BodyTooLarge:
            self._refused(ex, "too_large")
            await ex.error(protocol.INVALID_REQUEST, f"The body is larger than {self._max_body} bytes.", status=413)
        except Refusal as refusal:
            await self._refuse(ex, refusal)
        except UpstreamError as error:
            await self._tool_server_failed(ex, error)
        except Exception:  # INVARIANT: whatever goes wrong before a permit ends here, and nothing went out
            _LOG.exception("a request failed")
            await ex.error(protocol.INTERNAL_ERROR, "The gateway failed.", status=500)

    async def _serve(self, ex: _Exchange, method: str) -> None:
        if method not in ("POST", "GET", "DELETE"):
            await ex.whole(405, b"", [(b"allow", b"POST, GET, DELETE")])
            return
        origin = ex.headers.text(b"origin")
        if origin is not None and origin not in self._origins:
            # A browser that was talked into calling us (DNS rebinding) says where its page came from.
            self._refused(ex, "origin", origin)
            await ex.error(protocol.INVALID_REQUEST, "Requests from this origin are not accepted.", status=403)
            return
        ex.token = self._enforcer.authenticate(ex.headers.values.get(b"authorization"), ex.server_id)
        if method == "POST":
            await self._post(ex)
        else:
            await self._session_request(ex, method)

    # -- messages of the client -----------------------------------------------------------------------------------

    async def _post(self, ex: _Exchange) -> None:
        assert ex.token is not None
        raw = await asgi.read_body(ex.receive, self._max_body, ex.headers.values.get(b"content-length"))
        ex.message = message = protocol.classify(protocol.parse(raw), ex.headers)
        session = self._session(ex, message.era)
        if message.handling in (Handling.CALL, Handling.GOVERNED):
            await self._call(ex, message, session)
            return
        admission = self._enforcer.admit(ex.token, ex.address, DOOR)
        if message.handling is Handling.ACCEPT:
            await ex.whole(202, b"", [])
            return
        headers = self._upstream_headers(ex, message, session, admission.authorization)
        is_stream = message.method == "subscriptions/listen"
        tools = self._tools_of(ex) if message.handling is Handling.LIST else None
        await self._forward(ex, admission, "POST", headers, message.encoded(), tools=tools, is_stream=is_stream)

    async def _call(self, ex: _Exchange, message: Message, session: str | None) -> None:
        assert ex.token is not None and message.arguments is not None
        hints = message.hints
        permit = await self._enforcer.decide(
            CallRequest(
                DOOR,
                ex.token,
                message.tool,
                message.arguments,
                address=ex.address,
                conversation_id=hints.conversation_id,
                user_turns=hints.user_turns,
                parent_agent=hints.parent_agent,
                retry_token=hints.retry_token,
                trace_id=protocol.trace_id(ex.headers),
                pseudo_effect=ToolEffect.READ if message.handling is Handling.GOVERNED else None,
            )
        )
        ex.invocation_id = permit.invocation.id
        is_stream = message.method == "subscriptions/listen"
        result = _Result("error", 0)
        code = ""
        try:
            headers = self._upstream_headers(ex, message, session, permit.authorization)
            headers.update(protocol.param_headers(ex.headers, message.arguments, permit.arguments))
            body = message.with_arguments(permit.arguments)
            result = await self._forward(ex, permit, "POST", headers, body, is_stream=is_stream)
        except UpstreamError as error:
            code = error.code
            result.status = "timeout" if error.is_timeout else "error"
            raise
        except Rejected:
            result.status = "refused"
            raise
        except Ended as ended:
            result.status, code = "cancelled", ended.why
            await self._after_end(ex, ended)
        except BaseException:
            result.status = "cancelled"
            raise
        finally:
            self._enforcer.complete(
                permit,
                status=result.status,
                http_status=result.http_status or None,
                error_code=result.error_code,
                bytes_out=result.bytes_out,
                code=code,
            )

    async def _session_request(self, ex: _Exchange, method: str) -> None:
        """GET opens the stream of a session, DELETE ends the session; the stateless protocol has neither."""
        assert ex.token is not None
        era = protocol.era_of(ex.headers)
        if era is Era.STATELESS:
            await ex.whole(405, b"", [(b"allow", b"POST")])
            return
        session = self._session(ex, era)
        admission = self._enforcer.admit(ex.token, ex.address, DOOR)
        headers = self._upstream_headers(ex, None, session, admission.authorization)
        is_stream = method == "GET"
        tools = self._tools_of(ex) if is_stream else None
        await self._forward(ex, admission, method, headers, None, tools=tools, is_stream=is_stream)

    # -- to the tool server and back ------------------------------------------------------------------------------

    def _session(self, ex: _Exchange, era: Era) -> str | None:
        """The tool server's session id behind the caller's. Raises ``Rejected`` for one that is not the caller's."""
        sealed = ex.headers.text(b"mcp-session-id")
        if sealed is None or era is Era.STATELESS:
            return None
        assert ex.token is not None
        session = self._sessions.open(sealed, ex.server_id, ex.token.agent_id, ex.token.user_id or "")
        if session is None:
            raise Rejected(protocol.INVALID_REQUEST, "Session not found.", status=404, request_id=ex.request_id)
        return session

    def _upstream_headers(
        self, ex: _Exchange, message: Message | None, session: str | None, authorization: str | None
    ) -> dict[str, str]:
        """Everything that the tool server is told besides the body. What is not listed here does not go upstream."""
        incoming = ex.headers
        accept = incoming.text(b"accept") or ""
        headers = {"accept": _BOTH_TYPES if "json" in accept and "event-stream" in accept else accept or _BOTH_TYPES}
        if message is not None:
            headers["content-type"] = "application/json"
            if message.era is Era.STATELESS:
                headers["mcp-method"] = message.method
                name = incoming.text(b"mcp-name")
                if name is not None:
                    headers["mcp-name"] = name
        for header in (b"mcp-protocol-version", b"traceparent", b"tracestate", b"last-event-id"):
            value = incoming.text(header)
            if value is not None:
                headers[header.decode()] = value
        if session is not None:
            headers["mcp-session-id"] = session
        if authorization is not None:
            headers["authorization"] = authorization
        return headers

    def _tools_of(self, ex: _Exchange) -> _Tools:
        assert ex.token is not None
        return _Tools(self._enforcer, ex.token)

    async def _forward(
        self,
        ex: _Exchange,
        admission: Admission,
        method: str,
        headers: dict[str, str],
        body: bytes | None,
        *,
        tools: _Tools | None = None,
        is_stream: bool = False,
    ) -> _Result:
        """Send upstream, give the answer to the caller. Raises ``UpstreamError``; ``Ended`` for a permitted call."""
        try:
            with self._flights.begin(ex.receive, admission.still_allowed, is_stream=is_stream) as flight:
                response = await self._upstreams.open(method, admission.server, headers, body, endless=is_stream)
                try:
                    return await self._relay(ex, flight, response, tools)
                except FAILURES as error:
                    raise failure(error) from error
                finally:
                    response.close()  # returns the connection where the answer was read to its end
        except Ended as ended:
            if isinstance(admission, Permit):
                raise
            await self._after_end(ex, ended)
            return _Result("cancelled", 0)

    async def _relay(
        self,
        ex: _Exchange,
        flight: Flight,
        response: Response,
        tools: _Tools | None,
    ) -> _Result:
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
            return await self._relay_events(ex, flight, response, tools, out)
        if kind != "application/json":
            return await self._relay_other(ex, flight, response, out)
        out.append(asgi.JSON)
        length = response.content_length
        if tools is not None:
            return await self._relay_list(ex, flight, response, tools, out)
        if response.is_whole or (length is not None and length <= _WHOLE_BYTES):
            body = await response.read()
            flight.check()
            await ex.whole(status, body, out)
            return _result(status, body)
        return await self._relay_chunks(ex, flight, response, out)

    async def _relay_events(
        self,
        ex: _Exchange,
        flight: Flight,
        response: Response,
        tools: _Tools | None,
        out: RawHeaders,
    ) -> _Result:
        """Events as they come: each chunk is passed on at once, after asking whether the call may still go on."""
        events = protocol.SseFilter(tools, _MAX_LIST_BYTES) if tools is not None else None
        ex.is_stream = True
        flight.check()
        await ex.begin(200, [*_SSE, *out])
        result = _Result("ok", 200)
        async for chunk in response.chunks():
            flight.check()
            result = _after(result, chunk)
            if events is not None:
                chunk = events.feed(chunk)
            if chunk:
                await ex.send({"type": "http.response.body", "body": chunk, "more_body": True})
        rest = events.close() if events is not None else b""
        await ex.send({"type": "http.response.body", "body": rest})
        if tools is not None:
            self._listed(ex, tools)
        return result

    async def _relay_chunks(self, ex: _Exchange, flight: Flight, response: Response, out: RawHeaders) -> _Result:
        """A large JSON answer, piece by piece."""
        length = response.content_length
        flight.check()
        if length is not None:
            out.append((b"content-length", b"%d" % length))
        await ex.begin(response.status, out)
        result = _Result("ok" if response.status < 400 else "error", response.status)
        async for chunk in response.chunks():
            flight.check()
            result = _after(result, chunk)
            await ex.send({"type": "http.response.body", "body": chunk, "more_body": True})
        await ex.send({"type": "http.response.body", "body": b""})
        return result

    async def _relay_list(
        self,
        ex: _Exchange,
        flight: Flight,
        response: Response,
        tools: _Tools,
        out: RawHeaders,
    ) -> _Result:
        """A tool list: read whole, filtered, written anew."""
        raw = await _read_at_most(response, _MAX_LIST_BYTES)
        flight.check()
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise UpstreamError(
                "tool_server_invalid_answer", "The tool server's answer is not JSON.", went_out=True
            ) from None
        protocol.filter_tools(answer, tools)
        self._listed(ex, tools)
        await ex.whole(response.status, orjson.dumps(answer), out)
        return _Result("ok", response.status)

    def _listed(self, ex: _Exchange, tools: _Tools) -> None:
        if ex.token is not None and ex.message is not None and tools.offered:
            self._enforcer.listed(ex.token, door=DOOR, address=ex.address, offered=tools.offered, kept=tools.kept)

    async def _relay_other(self, ex: _Exchange, flight: Flight, response: Response, out: RawHeaders) -> _Result:
        """An answer without a JSON-RPC message in it: its status is passed on, its body is not."""
        status = response.status
        if status < 300 and ex.message is not None and ex.message.kind is MessageKind.REQUEST:
            raise UpstreamError(
                "tool_server_invalid_answer", "The tool server's answer is neither JSON nor a stream.", went_out=True
            )
        flight.check()
        if status < 300:
            await ex.whole(status, b"", out)
            return _Result("ok", status)
        text = f"The tool server answered with HTTP status {status}."
        await ex.error(protocol.TOOL_SERVER_FAILED, text, {"code": "tool_server_failed"}, status=status, headers=out)
        return _Result("error", status)

    # -- endings --------------------------------------------------------------------------------------------------

    async def _after_end(self, ex: _Exchange, ended: Ended) -> None:
        """The request was ended from outside while the tool server worked on it."""
        if ended.why == DISCONNECTED:
            return
        if ended.why == DRAINING:
            if ex.has_begun:
                await ex.send({"type": "http.response.body", "body": b""})
            else:
                await ex.error(protocol.INTERNAL_ERROR, "The gateway is shutting down.", status=503)
            return
        text = PUBLIC_MESSAGES.get(ended.why, PUBLIC_MESSAGES["internal_error"])
        data: dict[str, Any] = {"code": ended.why, "retryable": False}
        if ex.invocation_id:
            text += " The call had gone out before; its result is withheld."
            data |= {"invocation": ex.invocation_id, "went_out": True}
        if ex.request_id is None:
            if ex.has_begun:
                await ex.send({"type": "http.response.body", "body": b""})
            else:
                await ex.error(protocol.BLOCKED, text, data, status=403)
            return
        await ex.error(protocol.BLOCKED, text, data)

    async def _tool_server_failed(self, ex: _Exchange, error: UpstreamError) -> None:
        data = {"code": error.code, "retryable": not error.went_out, "went_out": error.went_out}
        if ex.invocation_id:
            data["invocation"] = ex.invocation_id
        status = 200 if ex.request_id is not None else 502
        await ex.error(protocol.TOOL_SERVER_FAILED, error.message, data, status=status)

    async def _refuse(self, ex: _Exchange, refusal: Refusal) -> None:
        """Say no. A refused call is on record as a decision; anything else is recorded here."""
        if not refusal.invocation_id:
            self._refused(ex, refusal.code)
        else:
            ex.invocation_id = refusal.invocation_id
        message = ex.message
        is_call = message is not None and message.handling in (Handling.CALL, Handling.GOVERNED)
        if refusal.code in SIGN_IN_AGAIN and not is_call:
            await self._challenge(ex, 401, "invalid_token", refusal.code)
            return
        request_id = ex.request_id
        if message is None and refusal.kind is RefusalKind.UNAVAILABLE:
            request_id = await self._find_request_id(ex)
        code, data = _RPC_CODES[refusal.kind], refusal.to_json()
        if request_id is not None:
            await ex.error(code, refusal.message, data, request_id=request_id)
        elif refusal.kind is RefusalKind.UNAVAILABLE:
            await ex.error(code, refusal.message, data, status=503, headers=[(b"retry-after", b"1")])
        else:
            await ex.error(code, refusal.message, data, status=403)

    async def _find_request_id(self, ex: _Exchange) -> protocol.RequestId:
        """The id of a request that is refused unread, so that its caller can tell what was refused."""
        try:
            raw = await asgi.read_body(ex.receive, self._max_body, ex.headers.values.get(b"content-length"))
            return protocol.classify(protocol.parse(raw), ex.headers).id
        except Rejected as rejected:
            return rejected.request_id
        except BodyTooLarge:
            return None

    async def _unauthenticated(self, ex: _Exchange, error: TokenError) -> None:
        ex.token = error.token
        self._refused(ex, error.reason, error.description)
        await self._challenge(ex, 400 if error.code == "invalid_request" else 401, error.code, error.description)

    async def _challenge(self, ex: _Exchange, status: int, error: str, description: str) -> None:
        """RFC 6750's answer, with RFC 9728's pointer to where a token can be had."""
        parts = [f'error="{error}"', f'error_description="{description}"'] if error else []
        parts.append(f'resource_metadata="{self._metadata_url}{ex.server_id}"')
        challenge = (b"www-authenticate", f"Bearer {', '.join(parts)}".encode("latin-1", "replace"))
        data = {"code": error or "token_missing", "retryable": False}
        text = PUBLIC_MESSAGES.get(description, description)
        await ex.error(protocol.UNAUTHENTICATED, text, data, status=status, headers=[challenge])

    def _refused(self, ex: _Exchange, code: str, detail: str = "") -> None:
        self._enforcer.refused(
            door=DOOR, address=ex.address, code=code, server_id=ex.server_id, token=ex.token, detail=detail
        )


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
            raise UpstreamError("tool_server_invalid_answer", "The tool server's answer is too large.", went_out=True)
    return b"".join(chunks)


# Quotes inside JSON strings are escaped, so these can only stand where they are structure.
_ERROR_MARKS: Final = (b'"error":{', b'"error": {', b'"isError":true', b'"isError": true')


def _after(result: _Result, chunk: bytes) -> _Result:
    result.bytes_out += len(chunk)
    if result.status == "ok" and any(mark in chunk for mark in _ERROR_MARKS):
        result.status = "error"
    return result


def _result(status: int, body: bytes) -> _Result:
    """How a whole JSON answer ended; parsed only where it looks like an error."""
    result = _Result("ok" if status < 400 else "error", status, bytes_out=len(body))
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
