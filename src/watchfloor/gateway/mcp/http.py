"""MCP over streamable HTTP, both protocols: translates for ``enforce.py``, forwards, streams, cancels.

Above: ``app.py`` routes ``/mcp/{server}`` here. Below: ``protocol.py`` says what a message is, ``Enforcer`` what may go
out, ``Upstreams`` sends it. A request is parsed once and serialised anew, so that what was judged is what is sent; an
answer is forwarded as it arrives, unless it is a list of tools. It keeps no session: a session id carries its binding.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from watchfloor.gateway import asgi, challenges
from watchfloor.gateway.answers import PUBLIC_MESSAGES, Refusal, RefusalKind
from watchfloor.gateway.asgi import Addresses, BodyTooLarge, CallerGone, Receive, Scope, Send
from watchfloor.gateway.calls import Admission, CallRequest, Permit
from watchfloor.gateway.enforce import Enforcer
from watchfloor.gateway.flights import DISCONNECTED, DRAINING, Ended, Flights
from watchfloor.gateway.mcp import headers as wire
from watchfloor.gateway.mcp import protocol, rpc
from watchfloor.gateway.mcp.exchange import Exchange
from watchfloor.gateway.mcp.hearing import Hearing
from watchfloor.gateway.mcp.protocol import Era, Handling, Message
from watchfloor.gateway.mcp.relay import DOOR, AnswerRelay, Result, Tools
from watchfloor.gateway.mcp.rpc import Rejected, RequestId
from watchfloor.gateway.seals import Seal
from watchfloor.gateway.tokens import TokenError
from watchfloor.gateway.upstream import FAILURES, UpstreamError, Upstreams, failure
from watchfloor.model.agents import ToolEffect

_LOG: Final = logging.getLogger(__name__)

_RPC_CODES: Final = {
    RefusalKind.BLOCKED: rpc.BLOCKED,
    RefusalKind.HELD: rpc.HELD,
    RefusalKind.UNAVAILABLE: rpc.STATE_UNAVAILABLE,
}
_BOTH_TYPES: Final = "application/json, text/event-stream"


_LONGEST_CLIENT: Final = 200
"""Characters of a caller's User-Agent that are kept."""


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
        self._relay = AnswerRelay(enforcer, sessions)
        self._addresses, self._max_body, self._origins = addresses, max_body_bytes, allowed_origins
        self._metadata_url = f"{base_url}/.well-known/oauth-protected-resource/mcp/"

    async def handle(
        self, scope: Scope, receive: Receive, send: Send, server_id: str, *, takes_agent_token: bool = False
    ) -> None:
        """Serve one request. ``takes_agent_token``: the agent's own token is good as well (``agent365``)."""
        headers = wire.read_headers(scope["headers"])
        address = self._addresses.of(scope, headers.text(b"x-forwarded-for"))
        ex = Exchange(server_id, headers, address, receive, send, takes_agent_token=takes_agent_token)
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
            await ex.error(rpc.INVALID_REQUEST, f"The body is larger than {self._max_body} bytes.", status=413)
        except Refusal as refusal:
            await self._refuse(ex, refusal)
        except UpstreamError as error:
            await self._tool_server_failed(ex, error)
        except Exception:  # INVARIANT: whatever goes wrong before a permit ends here, and nothing went out
            _LOG.exception("a request failed")
            await ex.error(rpc.INTERNAL_ERROR, "The gateway failed.", status=500)

    async def _serve(self, ex: Exchange, method: str) -> None:
        if method not in ("POST", "GET", "DELETE"):
            await ex.whole(405, b"", [(b"allow", b"POST, GET, DELETE")])
            return
        origin = ex.headers.text(b"origin")
        if origin is not None and origin not in self._origins:
            # A browser that was talked into calling us (DNS rebinding) says where its page came from.
            self._refused(ex, "origin", origin)
            await ex.error(rpc.INVALID_REQUEST, "Requests from this origin are not accepted.", status=403)
            return
        authenticate = self._enforcer.authenticate_agent_at if ex.takes_agent_token else self._enforcer.authenticate
        ex.token = authenticate(ex.headers.values.get(b"authorization"), ex.server_id)
        if method == "POST":
            await self._post(ex)
        else:
            await self._session_request(ex, method)

    # -- messages of the client -----------------------------------------------------------------------------------

    async def _post(self, ex: Exchange) -> None:
        assert ex.token is not None
        raw = await asgi.read_body(ex.receive, self._max_body, ex.headers.values.get(b"content-length"))
        ex.message = message = protocol.classify(protocol.parse(raw), ex.headers)
        session = self._session(ex, message.era)
        nothing = protocol.empty_list(message)
        if nothing is not None and not self._enforcer.is_granted(ex.token, message.tool):
            # As with tools: who may not use what is there is shown a list without it.
            self._enforcer.admit(ex.token, ex.address, DOOR, needs_credential=False)
            await ex.whole(200, nothing, [asgi.JSON])
            return
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

    async def _call(self, ex: Exchange, message: Message, session: str | None) -> None:
        assert ex.token is not None and message.arguments is not None
        if ex.headers.params:
            wire.param_headers(ex.headers, message.arguments, message.arguments)
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
                trace_id=wire.trace_id(ex.headers, message.body.get("params")),
                pseudo_effect=ToolEffect.READ if message.handling is Handling.GOVERNED else None,
                noted=_client_of(ex),
            )
        )
        ex.invocation_id = permit.invocation.id
        is_stream = message.method == "subscriptions/listen"
        result = Result("error", 0)
        code = ""
        try:
            headers = self._upstream_headers(ex, message, session, permit.authorization)
            headers.update(wire.param_headers(ex.headers, message.arguments, permit.arguments))
            headers["watchfloor-invocation"] = permit.invocation.id
            body = message.with_arguments(permit.arguments)
            # An endless stream says that something has changed, not what it says now.
            hearing = None if is_stream else Hearing(self._enforcer, permit)
            result = await self._forward(ex, permit, "POST", headers, body, is_stream=is_stream, hearing=hearing)
            if hearing is not None:
                hearing.afterwards()
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

    async def _session_request(self, ex: Exchange, method: str) -> None:
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

    def _session(self, ex: Exchange, era: Era) -> str | None:
        """The tool server's session id behind the caller's. Raises ``Rejected`` for one that is not the caller's."""
        sealed = ex.headers.text(b"mcp-session-id")
        if sealed is None or era is Era.STATELESS:
            return None
        assert ex.token is not None
        session = self._sessions.open(sealed, ex.server_id, ex.token.agent_id, ex.token.user_id or "")
        if session is None:
            raise Rejected(rpc.INVALID_REQUEST, "Session not found.", status=404, request_id=ex.request_id)
        return session

    def _upstream_headers(
        self, ex: Exchange, message: Message | None, session: str | None, authorization: str | None
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

    def _tools_of(self, ex: Exchange) -> Tools:
        assert ex.token is not None
        return Tools(self._enforcer, ex.token)

    async def _forward(
        self,
        ex: Exchange,
        admission: Admission,
        method: str,
        headers: dict[str, str],
        body: bytes | None,
        *,
        tools: Tools | None = None,
        is_stream: bool = False,
        hearing: Hearing | None = None,
    ) -> Result:
        """Send upstream, give the answer to the caller. Raises ``UpstreamError``; ``Ended`` for a permitted call."""
        try:
            with self._flights.begin(ex.receive, admission.still_allowed, is_stream=is_stream) as flight:
                response = await self._upstreams.open(method, admission.server, headers, body, endless=is_stream)
                try:
                    return await self._relay.answer(ex, flight, response, tools, hearing)
                except FAILURES as error:
                    raise failure(error) from error
                finally:
                    response.close()  # returns the connection where the answer was read to its end
        except Ended as ended:
            if isinstance(admission, Permit):
                raise
            await self._after_end(ex, ended)
            return Result("cancelled", 0)

    # -- endings --------------------------------------------------------------------------------------------------

    async def _after_end(self, ex: Exchange, ended: Ended) -> None:
        """The request was ended from outside while the tool server worked on it."""
        if ended.why == DISCONNECTED:
            return
        is_draining = ended.why == DRAINING
        text = "The gateway is shutting down." if is_draining else PUBLIC_MESSAGES[ended.why]
        data: dict[str, Any] = {"code": "gateway_stopping" if is_draining else ended.why, "retryable": is_draining}
        if ex.invocation_id:
            text += " The call had gone out before; its result is withheld."
            data |= {"invocation": ex.invocation_id, "went_out": True, "retryable": False}
        if ex.request_id is None:
            if ex.has_begun:
                await ex.end()
            else:
                await ex.error(rpc.BLOCKED, text, data, status=503 if is_draining else 403)
            return
        await ex.error(rpc.TOOL_SERVER_FAILED if is_draining else rpc.BLOCKED, text, data)

    async def _tool_server_failed(self, ex: Exchange, error: UpstreamError) -> None:
        data = {"code": error.code, "retryable": not error.went_out, "went_out": error.went_out}
        if ex.invocation_id:
            data["invocation"] = ex.invocation_id
        status = 200 if ex.request_id is not None else 502
        await ex.error(rpc.TOOL_SERVER_FAILED, error.message, data, status=status)

    async def _refuse(self, ex: Exchange, refusal: Refusal) -> None:
        """Say no. A refused call is on record as a decision; anything else is recorded here."""
        if not refusal.invocation_id:
            self._refused(ex, refusal.code)
        else:
            ex.invocation_id = refusal.invocation_id
        message = ex.message
        is_call = message is not None and message.handling in (Handling.CALL, Handling.GOVERNED)
        challenge = challenges.challenge_to(refusal, ex.token, is_call=is_call)
        if challenge is not None:
            await self._challenged(ex, 401, challenge.parts, refusal.message, challenge.data)
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

    async def _find_request_id(self, ex: Exchange) -> RequestId:
        """The id of a request that is refused unread, so that its caller can tell what was refused."""
        try:
            raw = await asgi.read_body(ex.receive, self._max_body, ex.headers.values.get(b"content-length"))
            return protocol.classify(protocol.parse(raw), ex.headers).id
        except Rejected as rejected:
            return rejected.request_id
        except BodyTooLarge:
            return None

    async def _unauthenticated(self, ex: Exchange, error: TokenError) -> None:
        ex.token = error.token
        self._refused(ex, error.reason, error.description)
        await self._challenge(ex, 400 if error.code == "invalid_request" else 401, error.code, error.description)

    async def _challenge(self, ex: Exchange, status: int, error: str, description: str) -> None:
        """RFC 6750's answer, with RFC 9728's pointer to where a token can be had."""
        parts = [f'error="{error}"', f'error_description="{description}"'] if error else []
        await self._challenged(ex, status, parts, description, {"code": error or "token_missing", "retryable": False})

    async def _challenged(self, ex: Exchange, status: int, parts: list[str], text: str, data: dict[str, Any]) -> None:
        parts = [*parts, f'resource_metadata="{self._metadata_url}{ex.server_id}"']
        challenge = (b"www-authenticate", f"Bearer {', '.join(parts)}".encode("latin-1", "replace"))
        await ex.error(rpc.UNAUTHENTICATED, text, data, status=status, headers=[challenge])

    def _refused(self, ex: Exchange, code: str, detail: str = "") -> None:
        self._enforcer.refused(
            door=DOOR,
            address=ex.address,
            code=code,
            server_id=ex.server_id,
            token=ex.token,
            detail=detail,
            noted=_client_of(ex),
        )


def _client_of(ex: Exchange) -> dict[str, str]:
    """What the caller's program calls itself, for the record: anybody may say anything."""
    said = ex.headers.text(b"user-agent") or ""
    name = "".join(c for c in said[:_LONGEST_CLIENT] if c.isprintable())
    return {"userAgent": name} if name else {}
