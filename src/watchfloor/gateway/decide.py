"""``/guard/v1/…``: decisions for callers that make the call themselves (``mcp wrap``, frameworks, other gateways).

    POST /guard/v1/decide     may this call go out? The caller must not make it without an ``allow`` or ``redact``.
    POST /guard/v1/complete   how a call ended that was allowed here, and what it answered
    POST /guard/v1/observe    what the user said, and what tools answered that were not asked about here
    POST /guard/v1/tools      which of these tools may the agent see?

Same token, same guard, same record as MCP calls; only the call itself is somebody else's. A refused call is an answer
(HTTP 200 with its verdict); HTTP errors mean that nothing was decided, which callers must take for a no.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from watchfloor.gateway import asgi
from watchfloor.gateway.answers import Refusal, RefusalKind
from watchfloor.gateway.asgi import JSON, Addresses, BodyTooLarge, CallerGone, Receive, Scope, Send
from watchfloor.gateway.calls import CallRequest, Permit
from watchfloor.gateway.enforce import Enforcer
from watchfloor.gateway.mcp import protocol
from watchfloor.gateway.mcp.headers import read_headers
from watchfloor.gateway.mcp.hearing import said_by
from watchfloor.gateway.mcp.rpc import Rejected
from watchfloor.gateway.results import Judged, noted
from watchfloor.gateway.tokens import Token, TokenError
from watchfloor.gateway.withheld import withheld_text
from watchfloor.model.agents import ToolEffect
from watchfloor.model.errors import Unavailable
from watchfloor.model.ids import is_name
from watchfloor.model.verdicts import Effect, Mode

_LOG: Final = logging.getLogger(__name__)
_DOORS: Final = frozenset({"decide", "stdio"})
_STATUSES: Final = frozenset({"ok", "error", "cancelled", "timeout"})
_MAX_OPEN: Final = 10_000
"""Allowed calls whose end is still awaited; the oldest is forgotten first, its decision stays on record."""
_MAX_TOOLS: Final = 5_000
_VERDICTS: Final = {RefusalKind.BLOCKED: "block", RefusalKind.HELD: "hold", RefusalKind.UNAVAILABLE: "block"}


class _Wrong(Exception):
    """The request cannot be understood. The text says what to mend."""


def _text(body: Mapping[str, Any], name: str, *, longest: int = 256, required: bool = False) -> str:
    value = body.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or len(value) > longest or (required and not value):
        raise _Wrong(f"{name!r} must be a string of at most {longest} characters.")
    return value


def _turns(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("user_turns", [])
    if not isinstance(value, list) or len(value) > 64 or not all(isinstance(turn, str) for turn in value):
        raise _Wrong("'user_turns' must be a list of at most 64 strings.")
    return tuple(value)


def _arguments(body: Mapping[str, Any]) -> dict[str, Any]:
    value = body.get("arguments", {})
    if not isinstance(value, dict):
        raise _Wrong("'arguments' must be an object.")
    return value


class DecideDoor:
    """The decision API of one worker."""

    def __init__(self, enforcer: Enforcer, addresses: Addresses, *, base_url: str, max_body_bytes: int) -> None:
        self._enforcer, self._addresses, self._max_body = enforcer, addresses, max_body_bytes
        self._metadata_url = f"{base_url}/.well-known/oauth-protected-resource/mcp/"
        self._open: OrderedDict[str, tuple[Token, Permit]] = OrderedDict()
        self._routes: dict[str, Callable[[str, Token, Mapping[str, Any]], Awaitable[dict[str, Any]]]] = {
            "decide": self._decide,
            "complete": self._complete,
            "observe": self._observe,
            "tools": self._tools,
        }

    async def handle(self, scope: Scope, receive: Receive, send: Send, verb: str) -> None:
        """Serve one request."""
        headers = read_headers(scope["headers"])
        address = self._addresses.of(scope, headers.text(b"x-forwarded-for"))
        route = self._routes.get(verb)
        if route is None or scope["method"] != "POST":
            await asgi.answer_json(send, 404 if route is None else 405, {"error": "not_found"})
            return
        server_id, token = "", None
        try:
            if headers.duplicated:
                raise _Wrong(f"The header {headers.duplicated} appears more than once.")
            raw = await asgi.read_body(receive, self._max_body, headers.values.get(b"content-length"))
            body = protocol.parse(raw)
            if not isinstance(body, dict):
                raise _Wrong("The body must be an object.")
            server_id = _text(body, "server", required=True)
            if not is_name(server_id):
                raise _Wrong("'server' must be the id of a tool server.")
            token = self._enforcer.authenticate(headers.values.get(b"authorization"), server_id)
            value = await route(address, token, body)
            await asgi.answer(send, 200, orjson.dumps(value))
        except CallerGone:
            return
        except (_Wrong, Rejected) as error:
            self._refused(address, "malformed", server_id, token, str(error))
            await asgi.answer_json(send, 400, {"error": "invalid_request", "error_description": str(error)})
        except BodyTooLarge:
            self._refused(address, "too_large", server_id, token)
            await asgi.answer_json(send, 413, {"error": "too_large", "limit": self._max_body})
        except TokenError as error:
            self._refused(address, error.reason, server_id, error.token, error.description)
            await self._challenge(send, error, server_id)
        except Refusal as refusal:
            self._refused(address, refusal.code, server_id, token)
            value = {"error": refusal.code, "error_description": refusal.message}
            await asgi.answer_json(send, 503 if refusal.kind is RefusalKind.UNAVAILABLE else 403, value)
        except Exception:  # INVARIANT: no answer is never an allow
            _LOG.exception("a decision request failed")
            await asgi.answer_json(send, 500, {"error": "internal_error"})

    async def _decide(self, address: str, token: Token, body: Mapping[str, Any]) -> dict[str, Any]:
        tool = _text(body, "tool", required=True)
        door = _text(body, "door") or "decide"
        if door not in _DOORS:
            raise _Wrong(f"'door' must be one of {', '.join(sorted(_DOORS))}.")
        if tool in protocol.LIST_TOOLS and not self._enforcer.is_granted(token, tool):
            # No attempt, only a look: the caller answers with an empty list, and nothing is on record as refused.
            self._enforcer.admit(token, address, door, needs_credential=False)
            return {"invocation": "", "verdict": "block", "reasons": ["not_granted"], "retryable": False}
        request = CallRequest(
            door,
            token,
            tool,
            _arguments(body),
            address=address,
            conversation_id=_text(body, "conversation_id"),
            user_turns=_turns(body),
            parent_agent=_text(body, "parent_agent") or None,
            retry_token=_text(body, "retry_token") or None,
            trace_id=_text(body, "trace_id", longest=32),
            pseudo_effect=ToolEffect.READ if tool.startswith(protocol.PSEUDO_TOOL) else None,
            goes_out_here=False,
        )
        try:
            permit = await self._enforcer.decide(request)
        except Refusal as refusal:
            answer = {
                "invocation": refusal.invocation_id,
                "verdict": _VERDICTS[refusal.kind],
                "reasons": [refusal.code],
                "message": refusal.message,
                "retryable": refusal.is_retryable,
            }
            if refusal.hold is not None:
                answer["hold"] = refusal.hold.to_json()
            return answer
        self.remember(token, permit)
        enforced = [r.code for r in permit.verdict.reasons if r.mode is Mode.ENFORCE]
        value: dict[str, Any] = {
            "invocation": permit.invocation.id,
            "verdict": permit.verdict.effect.value,
            "reasons": enforced,
        }
        if permit.verdict.effect is Effect.REDACT:
            value["arguments"] = permit.arguments
        if self._enforcer.results.are_judged(permit.facts):
            value["judges_result"] = True
        return value

    def remember(self, token: Token, permit: Permit) -> None:
        """Await the end of a call that was allowed here, or at another door whose calls are made elsewhere."""
        if len(self._open) >= _MAX_OPEN:
            self._open.popitem(last=False)
        # Without what it said: that is on record, and could fill this memory.
        bare = dataclasses.replace(permit.invocation, arguments={}, user_turns=())
        self._open[bare.id] = (token, dataclasses.replace(permit, invocation=bare, arguments={}))

    async def _complete(self, address: str, token: Token, body: Mapping[str, Any]) -> dict[str, Any]:
        invocation_id = _text(body, "invocation", required=True)
        status = _text(body, "status", required=True)
        if status not in _STATUSES:
            raise _Wrong(f"'status' must be one of {', '.join(sorted(_STATUSES))}.")
        found = self._open.get(invocation_id)
        if found is not None and (found[0].agent_id, found[0].user_id) != (token.agent_id, token.user_id):
            found = None
        answer: dict[str, Any] = {}
        if "result" in body:
            answer = self._judge_result(token, body, invocation_id, found)
            self._hear(token, {**body, "result": answer.get("result", body["result"])}, found)
        if found is None:
            # Another worker decided it, or it is forgotten: its decision is on record, its end will not be.
            return {"recorded": False, **answer}
        del self._open[invocation_id]
        error_code, size = body.get("error_code"), body.get("bytes_out", 0)
        self._enforcer.complete(
            found[1],
            status=status,
            error_code=error_code if isinstance(error_code, int) and -(2**31) <= error_code < 2**31 else None,
            bytes_out=size if isinstance(size, int) and 0 <= size < 2**53 else 0,
        )
        return {"recorded": True, **answer}

    def _judge_result(
        self, token: Token, body: Mapping[str, Any], invocation_id: str, found: tuple[Token, Permit] | None
    ) -> dict[str, Any]:
        """What may become of the result: ``verdict``, and what to use instead. The caller must heed it."""
        results = self._enforcer.results
        if found is not None:
            invocation, facts = found[1].invocation, found[1].facts
        else:
            tool = _text(body, "tool", required=True)
            conversation = _text(body, "conversation_id")
            invocation, facts = self._enforcer.call_of(token, tool, conversation, invocation_id)
        if not results.are_judged(facts):
            results.look_at(invocation, facts, said_by(body["result"]) if body["result"] is not None else None)
            return {"verdict": "allow"}
        if body["result"] is None:
            judged = Judged(None, "too_large")
        else:
            judged = results.judge(invocation, facts, body["result"])
        if judged.code:
            text = withheld_text(judged.code)
            return {"verdict": "block", "reasons": [judged.code], "message": text, "result": None}
        if judged.replaced:
            return {"verdict": "redact", "result": noted(judged, invocation.id)}
        return {"verdict": "allow"}

    def _hear(self, token: Token, body: Mapping[str, Any], found: tuple[Token, Permit] | None) -> None:
        """Keep a result, so that calls that follow from it can be traced. ``null``: too large to be told."""
        said = body["result"]
        value = said_by(said) if said is not None else None
        try:
            if found is not None and (found[0].agent_id, found[0].user_id) == (token.agent_id, token.user_id):
                self._enforcer.heard(found[1], value, is_known=value is not None)
            else:
                tool = _text(body, "tool", required=True)
                conversation = _text(body, "conversation_id")
                invocation = _text(body, "invocation")
                self._enforcer.listen(token, conversation, (), tool, value, invocation, is_known=value is not None)
        except Unavailable as error:
            raise Refusal(RefusalKind.UNAVAILABLE, "not_recorded") from error

    async def _observe(self, address: str, token: Token, body: Mapping[str, Any]) -> dict[str, Any]:
        self._enforcer.admit(token, address, "decide", needs_credential=False)
        try:
            self._enforcer.listen(token, _text(body, "conversation_id"), _turns(body))
        except Unavailable as error:
            raise Refusal(RefusalKind.UNAVAILABLE, "not_recorded") from error
        if "result" in body:
            self._hear(token, body, None)
        return {"recorded": True}

    async def _tools(self, address: str, token: Token, body: Mapping[str, Any]) -> dict[str, Any]:
        tools = body.get("tools")
        if not isinstance(tools, list) or len(tools) > _MAX_TOOLS:
            raise _Wrong(f"'tools' must be a list of at most {_MAX_TOOLS} definitions.")
        self._enforcer.admit(token, address, "stdio", needs_credential=False)
        kept = [
            index
            for index, tool in enumerate(tools)
            if isinstance(tool, dict) and self._enforcer.tool_lists.may_see(token, tool, "stdio")
        ]
        self._enforcer.tool_lists.served(token, door="stdio", address=address, offered=len(tools), kept=len(kept))
        return {"keep": kept}

    async def _challenge(self, send: Send, error: TokenError, server_id: str) -> None:
        parts = [f'error="{error.code}"', f'error_description="{error.description}"'] if error.code else []
        parts.append(f'resource_metadata="{self._metadata_url}{server_id}"')
        body = orjson.dumps({"error": error.code or "token_missing", "error_description": error.description})
        status = 400 if error.code == "invalid_request" else 401
        await asgi.answer(send, status, body, [JSON, (b"www-authenticate", f"Bearer {', '.join(parts)}".encode())])

    def _refused(self, address: str, code: str, server_id: str, token: Token | None, detail: str = "") -> None:
        self._enforcer.refused(
            door="decide", address=address, code=code, server_id=server_id, token=token, detail=detail
        )
