"""Envoy asks, before it sends MCP traffic on: ``envoy.service.auth.v3.Authorization/Check``.

The same token, guard, record and answers as at ``/mcp/{server}``; Envoy carries the call. What Envoy cannot do decides
what cannot pass: it does not rewrite bodies, so a call that would have to be redacted is refused; it shows no answers,
so the conversation counts as one in which something was read that is not known here, until somebody tells it
(``/guard/v1/complete``). Above: ``app.py`` starts it beside the other doors of a worker. Below: ``wire.py``,
``verbatim.py``, ``Enforcer``.

INVARIANT: every question is answered, and whatever fails is answered with a no. An error instead of an answer would be
Envoy's to interpret, and its operator may have told it to let such requests through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import orjson

from watchfloor.gateway import challenges
from watchfloor.gateway.answers import Refusal, RefusalKind
from watchfloor.gateway.calls import CallRequest, Permit
from watchfloor.gateway.enforce import Enforcer
from watchfloor.gateway.ext_authz import verbatim, wire
from watchfloor.gateway.ext_authz.wire import Check, Unreadable
from watchfloor.gateway.grpc_listen import listen
from watchfloor.gateway.mcp import headers as mcp_headers
from watchfloor.gateway.mcp import protocol, rpc
from watchfloor.gateway.mcp.headers import Headers
from watchfloor.gateway.mcp.protocol import META_PREFIX, Handling, Hints, Message
from watchfloor.gateway.mcp.rpc import Rejected
from watchfloor.gateway.tokens import Token, TokenError
from watchfloor.model.agents import ToolEffect
from watchfloor.model.errors import Unavailable
from watchfloor.model.ids import is_name
from watchfloor.model.verdicts import Effect

_LOG: Final = logging.getLogger(__name__)
DOOR: Final = "ext-authz"
SERVICE: Final = "envoy.service.auth.v3.Authorization"
_RPC_CODES: Final = {
    RefusalKind.BLOCKED: (rpc.BLOCKED, 403),
    RefusalKind.HELD: (rpc.HELD, 403),
    RefusalKind.UNAVAILABLE: (rpc.STATE_UNAVAILABLE, 503),
}
_INVOCATION: Final = "watchfloor-invocation"
_HINTS: Final = ("conversation-id", "parent-agent", "retry-token", "user-turns")
_END_HERE: Final = (
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-http-method-override",
    *(f"watchfloor-{name}" for name in _HINTS),
)
"""Headers of the caller that no tool server gets to see."""
_ROOM_FOR_HEADERS: Final = 256 * 1024
_REDACTED: Final = "The call holds what may not go out, and cannot be rewritten on this way. Leave it out."


@dataclass(slots=True)
class _Asked:
    """One question, and what is known of it so far."""

    check: Check
    headers: Headers
    server_id: str = ""
    token: Token | None = None
    message: Message | None = None
    invocation_id: str = ""

    @property
    def request_id(self) -> rpc.RequestId:
        return self.message.id if self.message is not None else None


class ExtAuthzDoor:
    """The gRPC server of one worker, on the event loop that starts it.

    ``remember`` is told of each permit, so that ``/guard/v1/complete`` can take in how the call ended.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        remember: Callable[[Token, Permit], None],
        host: str,
        port: int,
        *,
        base_url: str,
        max_body_bytes: int,
    ) -> None:
        self._enforcer, self._remember, self._max_body = enforcer, remember, max_body_bytes
        self._host, self._port = host, port
        self._metadata_url = f"{base_url}/.well-known/oauth-protected-resource/mcp/"
        self._server: Any = None
        self.port = 0

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen; workers share the port. Raises ``InputError`` if it is taken."""
        self._server, self.port = await listen(
            SERVICE,
            "Check",
            self._check,
            host=self._host,
            port=self._port,
            most_bytes=self._max_body + _ROOM_FOR_HEADERS,
        )

    async def stop(self, seconds: float) -> None:
        """Take no more questions; those under way have so many seconds."""
        if self._server is not None:
            await self._server.stop(seconds)

    # -- one question ---------------------------------------------------------------------------------------------

    async def _check(self, message: bytes, context: Any) -> bytes:
        try:
            check = wire.decode(message)
        except Unreadable as error:
            return _error(400, rpc.INVALID_REQUEST, str(error))
        except Exception:
            _LOG.exception("a question could not be read")
            return _error(500, rpc.INTERNAL_ERROR, "The gateway failed.")
        asked = _Asked(check, mcp_headers.read_headers(check.headers))
        try:
            return await self._answer(asked)
        except TokenError as error:
            asked.token = error.token
            self._refused(asked, error.reason, error.description)
            status = 400 if error.code == "invalid_request" else 401
            return self._challenge(asked, status, error.code, error.description)
        except Rejected as error:
            self._refused(asked, "malformed", error.message)
            request_id = error.request_id if error.request_id is not None else asked.request_id
            return _error(error.status, error.code, error.message, error.data, request_id)
        except Refusal as refusal:
            return self._refuse(asked, refusal)
        except Exception:  # INVARIANT: no answer is never an allow
            _LOG.exception("a question failed")
            return _error(500, rpc.INTERNAL_ERROR, "The gateway failed.", request_id=asked.request_id)

    async def _answer(self, asked: _Asked) -> bytes:
        check = asked.check
        asked.server_id = _server_id(check)
        asked.token = self._enforcer.authenticate(asked.headers.values.get(b"authorization"), asked.server_id)
        raw = self._body(check)
        asked.message = message = verbatim.read(raw, asked.headers)
        hints = _hints(check)
        nothing = protocol.empty_list(message)
        is_call = message.handling in (Handling.CALL, Handling.GOVERNED)
        if nothing is not None and not self._enforcer.is_granted(asked.token, message.tool):
            # As with tools: who may not use what is there is shown a list without it.
            self._enforcer.admit(asked.token, check.address, DOOR, needs_credential=False)
            return wire.denied(200, nothing, [("content-type", "application/json")], "an empty list")
        if is_call:
            return await self._call(asked, message, hints)
        self._enforcer.admit(asked.token, check.address, DOOR, needs_credential=False)
        if message.handling is Handling.ACCEPT:
            return wire.denied(202, b"", reason="acknowledged")
        return wire.allowed([], [*_END_HERE, _INVOCATION])

    async def _call(self, asked: _Asked, message: Message, hints: Hints) -> bytes:
        assert asked.token is not None and message.arguments is not None
        if asked.headers.params:
            mcp_headers.param_headers(asked.headers, message.arguments, message.arguments)
        permit = await self._enforcer.decide(
            CallRequest(
                DOOR,
                asked.token,
                message.tool,
                message.arguments,
                address=asked.check.address,
                conversation_id=hints.conversation_id,
                user_turns=hints.user_turns,
                parent_agent=hints.parent_agent,
                retry_token=hints.retry_token,
                trace_id=mcp_headers.trace_id(asked.headers, message.body.get("params")),
                pseudo_effect=ToolEffect.READ if message.handling is Handling.GOVERNED else None,
                goes_out_here=False,
            )
        )
        asked.invocation_id = permit.invocation.id
        if permit.verdict.effect is not Effect.ALLOW:
            self._enforcer.complete(permit, status="refused", code="redaction_impossible")
            data = {"code": "redaction_impossible", "retryable": False, "invocation": permit.invocation.id}
            return self._error(asked, 403, rpc.BLOCKED, _REDACTED, data)
        if message.method != "subscriptions/listen":  # an endless stream says that something has changed, no more
            try:
                self._enforcer.expect(permit)
            except Unavailable as error:
                self._enforcer.complete(permit, status="refused")
                raise Refusal(RefusalKind.UNAVAILABLE, "not_recorded", permit.invocation.id) from error
        self._remember(asked.token, permit)
        invocation = [(_INVOCATION, permit.invocation.id)]
        return wire.allowed(invocation, _END_HERE, invocation)

    def _body(self, check: Check) -> bytes:
        """The body, if it is all there and what arrived. Raises ``Rejected``."""
        if check.method != "POST":
            raise Rejected(
                rpc.INVALID_REQUEST, f"Through Envoy only POST passes, not {check.method[:20]!r}.", status=405
            )
        if (check.header(b"x-envoy-auth-partial-body") or "false").lower() != "false":
            raise Rejected(rpc.INVALID_REQUEST, "The body is larger than what is judged.", status=413)
        if check.body is None:
            raise Rejected(rpc.INVALID_REQUEST, "There is no body to judge. Envoy sends it with `with_request_body`.")
        if len(check.body) > self._max_body:
            raise Rejected(rpc.INVALID_REQUEST, f"The body is larger than {self._max_body} bytes.", status=413)
        declared = check.header(b"content-length")
        if declared is not None and declared != str(len(check.body)):
            raise Rejected(rpc.INVALID_REQUEST, "The body is not as long as its content-length says.")
        if (check.header(b"content-encoding") or "identity").lower() != "identity":
            raise Rejected(rpc.INVALID_REQUEST, "The body must not be compressed.", status=415)
        if "?" in check.path or "#" in check.path:
            raise Rejected(rpc.INVALID_REQUEST, "The address must not have a query: it would reach the tool unjudged.")
        if not check.is_verbatim:
            raise Rejected(
                rpc.INVALID_REQUEST,
                "The body holds '!', which Envoy also writes for what is no UTF-8. Set `pack_as_bytes: true`.",
            )
        return check.body

    # -- no ---------------------------------------------------------------------------------------------------------

    def _refuse(self, asked: _Asked, refusal: Refusal) -> bytes:
        if refusal.invocation_id:
            asked.invocation_id = refusal.invocation_id
        else:
            self._refused(asked, refusal.code)
        message = asked.message
        is_call = message is not None and message.handling in (Handling.CALL, Handling.GOVERNED)
        challenge = challenges.challenge_to(refusal, asked.token, is_call=is_call)
        if challenge is not None:
            return self._challenged(asked, 401, challenge.parts, refusal.message, challenge.data)
        code, status = _RPC_CODES[refusal.kind]
        return self._error(asked, status, code, refusal.message, refusal.to_json())

    def _challenge(self, asked: _Asked, status: int, error: str, description: str) -> bytes:
        """RFC 6750's answer, with RFC 9728's pointer to where a token can be had."""
        parts = [f'error="{error}"', f'error_description="{description}"'] if error else []
        data = {"code": error or "token_missing", "retryable": False}
        return self._challenged(asked, status, parts, description, data)

    def _challenged(self, asked: _Asked, status: int, parts: list[str], text: str, data: dict[str, Any]) -> bytes:
        if asked.server_id:
            parts = [*parts, f'resource_metadata="{self._metadata_url}{asked.server_id}"']
        challenge = ("www-authenticate", f"Bearer {', '.join(parts)}")
        return _error(status, rpc.UNAUTHENTICATED, text, data, asked.request_id, [challenge])

    def _error(self, asked: _Asked, status: int, code: int, text: str, data: Any) -> bytes:
        headers = [(_INVOCATION, asked.invocation_id)] if asked.invocation_id else []
        if status == 503:
            headers.append(("retry-after", "1"))
        return _error(status, code, text, data, asked.request_id, headers)

    def _refused(self, asked: _Asked, code: str, detail: str = "") -> None:
        self._enforcer.refused(
            door=DOOR,
            address=asked.check.address,
            code=code,
            server_id=asked.server_id,
            token=asked.token,
            detail=detail,
        )


def _error(
    status: int,
    code: int,
    text: str,
    data: Any = None,
    request_id: rpc.RequestId = None,
    headers: list[tuple[str, str]] | None = None,
) -> bytes:
    body = rpc.error_body(request_id, code, text, data)
    return wire.denied(status, body, [("content-type", "application/json"), *(headers or [])], text[:200])


def _server_id(check: Check) -> str:
    """The tool server: as the route says (extension or metadata ``server``), else as the path ``/mcp/{server}`` does.

    Raises ``Rejected``. Two that say different things are a mistake that nobody here can judge.
    """
    said = {name for name in (check.extensions.get("server"), check.route.get("server")) if name}
    path = check.path.partition("?")[0].partition("#")[0]
    if not said and path.startswith("/mcp/"):
        said = {unquote(path.removeprefix("/mcp/"))} if "%" not in path else set()
    if len(said) != 1 or not is_name(name := said.pop()):
        raise Rejected(
            rpc.INVALID_REQUEST,
            "Which tool server this is for is not known. Let the route say so: "
            "`context_extensions: {server: ID}` or metadata `watchfloor: {server: ID}`.",
            status=403,
        )
    return name


def _hints(check: Check) -> Hints:
    """What the caller tells Watchfloor, in headers. Raises ``Rejected``."""
    meta: dict[str, Any] = {}
    for name in _HINTS:
        value = mcp_headers.decode_header(check.header(f"watchfloor-{name}".encode()))
        if value is None:
            continue
        if name == "user-turns":
            try:
                meta[META_PREFIX + name] = orjson.loads(value)
            except orjson.JSONDecodeError:
                raise Rejected(rpc.INVALID_PARAMS, "watchfloor-user-turns must be a JSON list of strings.") from None
        else:
            meta[META_PREFIX + name] = value
    return protocol.take_hints(meta)
