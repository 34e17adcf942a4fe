"""``/agents/…``: what Agent 365's tooling SDK asks its gateway, moved here by ``MCP_PLATFORM_ENDPOINT``.

    GET  /agents/v2/{agent}/mcpServers                           the tool servers at which the agent may use something
    *    /agents/servers/{server}                                 that server, by MCP: the same door as /mcp/{server}
    POST /agents/real-time-threat-protection/chat-message         what the user said in a conversation

Every request needs a gateway token: one for ``{gateway}/agents``, the agent's own, which counts at each of its servers
(docs/decisions/0012), or one for a tool server. Above is ``app.py``, below ``Enforcer`` and the MCP door.

INVARIANT: words count as the user's only where a token proves the agent, and the user where it names one; they count in
the conversation that they were said in, of this agent and this user. The SDK (2.0.0) itself sends no token along with
them: taken in like that, anybody could vouch for any address.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, Final

import orjson

from watchfloor.gateway import asgi, challenges
from watchfloor.gateway.answers import Refusal, RefusalKind
from watchfloor.gateway.asgi import JSON, Addresses, BodyTooLarge, CallerGone, Receive, Scope, Send
from watchfloor.gateway.calls import MODEL, PROMPT, CallRequest
from watchfloor.gateway.enforce import Enforcer
from watchfloor.gateway.mcp import protocol
from watchfloor.gateway.mcp.headers import Headers, read_headers
from watchfloor.gateway.mcp.http import McpDoor
from watchfloor.gateway.mcp.rpc import Rejected
from watchfloor.gateway.tokens import NO_SERVER, Token, TokenError
from watchfloor.model.agents import ToolEffect
from watchfloor.model.errors import Unavailable
from watchfloor.model.ids import is_name

_LOG: Final = logging.getLogger(__name__)
DOOR: Final = "agent365"
_CHAT: Final = "real-time-threat-protection/chat-message"
_ROLES: Final = frozenset({"user", "assistant", "system"})
_MOST_TURNS: Final = 64
"""Turns of the user that one message tells; of a longer history, the newest."""
_MOST_MESSAGES: Final = 2_000
_LONGEST_ID: Final = 256


class _Wrong(Exception):
    """The request cannot be understood. The text says what to mend."""


class Agent365Door:
    """``/agents/…`` of one worker."""

    def __init__(
        self, enforcer: Enforcer, mcp: McpDoor, addresses: Addresses, *, base_url: str, max_body_bytes: int
    ) -> None:
        self._enforcer, self._mcp, self._addresses, self._max_body = enforcer, mcp, addresses, max_body_bytes
        self._metadata_url = f"{base_url}/.well-known/oauth-protected-resource/agents"

    async def handle(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """Serve one request; ``path`` is what stands behind ``/agents/``."""
        kind, _, name = path.partition("/")
        if kind == "servers" and is_name(name):
            await self._mcp.handle(scope, receive, send, name, takes_agent_token=True)
            return
        agent_id = name.removesuffix("/mcpServers")
        if kind == "v2" and name.endswith("/mcpServers") and "/" not in agent_id:
            method, is_list = "GET", True
        elif path == _CHAT:
            method, is_list = "POST", False
        else:
            await asgi.answer_json(send, 404, {"error": "not_found"})
            return
        if scope["method"] != method:
            body = orjson.dumps({"error": "method_not_allowed"})
            await asgi.answer(send, 405, body, [JSON, (b"allow", method.encode())])
            return
        headers = read_headers(scope["headers"])
        address = self._addresses.of(scope, headers.text(b"x-forwarded-for"))
        token: Token | None = None
        try:
            if headers.duplicated:
                raise _Wrong(f"The header {headers.duplicated} appears more than once.")
            token = self._enforcer.authenticate_agent(headers.values.get(b"authorization"))
            if is_list:
                value = self._servers(address, token, agent_id)
            else:
                value = await self._listen(address, token, headers, receive)
            await asgi.answer(send, 200, orjson.dumps(value), [JSON, (b"cache-control", b"no-store")])
        except CallerGone:
            return
        except (_Wrong, Rejected) as error:
            self._refused(address, "malformed", token, str(error))
            await asgi.answer_json(send, 400, {"error": "invalid_request", "error_description": str(error)})
        except BodyTooLarge:
            self._refused(address, "too_large", token)
            await asgi.answer_json(send, 413, {"error": "too_large", "limit": self._max_body})
        except TokenError as error:
            self._refused(address, error.reason, error.token, error.description)
            status = 400 if error.code == "invalid_request" else 401
            await self._challenge(send, status, error.code, error.description)
        except Refusal as refusal:
            if not refusal.invocation_id:
                self._refused(address, refusal.code, token)
            await self._refuse(send, refusal, token)
        except Exception:  # INVARIANT: nobody is shown anything, and no words are taken in, by mistake
            _LOG.exception("a request failed")
            await asgi.answer_json(send, 500, {"error": "internal_error"})

    def _servers(self, address: str, token: Token, agent_id: str) -> dict[str, Any]:
        """What the SDK makes its configuration of: without a URL, it puts ``/agents/servers/`` before a name."""
        self._enforcer.admit_agent(token, address, DOOR)
        if agent_id != token.agent_id:
            raise Refusal(RefusalKind.BLOCKED, "agent_unknown")
        names = self._enforcer.open_servers(token, address, DOOR)
        offered = sum(agent == agent_id for agent, _ in self._enforcer.state.bindings)
        about = dataclasses.replace(token, server_id=NO_SERVER)
        self._enforcer.tool_lists.served(about, door=DOOR, address=address, offered=offered, kept=len(names))
        return {"mcpServers": [{"mcpServerName": name, "mcpServerUniqueName": name} for name in names]}

    async def _listen(self, address: str, token: Token, headers: Headers, receive: Receive) -> dict[str, Any]:
        """Keep the user's words for the decisions of this conversation, and decide on them as on a prompt."""
        self._enforcer.admit_agent(token, address, DOOR)
        raw = await asgi.read_body(receive, self._max_body, headers.values.get(b"content-length"))
        conversation, turns = _said_in(protocol.parse(raw))
        request = CallRequest(
            DOOR,
            dataclasses.replace(token, server_id=MODEL),
            PROMPT,
            {},
            address=address,
            conversation_id=conversation,
            user_turns=turns,
            pseudo_effect=ToolEffect.READ,
            goes_out_here=False,
            can_redact=False,
            is_prompt=True,
        )
        permit = await self._enforcer.decide(request)
        self._enforcer.complete(permit, status="ok")
        if token.user_id is not None:
            # MCP clients of the SDK name no conversation in their calls: those are made in the sign-in's own.
            try:
                self._enforcer.listen(request.token, "", turns)
            except Unavailable as error:
                raise Refusal(RefusalKind.UNAVAILABLE, "not_recorded") from error
        return {"recorded": True}

    async def _refuse(self, send: Send, refusal: Refusal, token: Token | None) -> None:
        challenge = challenges.challenge_to(refusal, token, is_call=False)
        if challenge is not None:
            error = "invalid_token" if refusal.step_up is None else "insufficient_user_authentication"
            said = {**challenge.data, "error": error, "error_description": refusal.code}
            await self._challenged(send, 401, challenge.parts, said)
            return
        value = {"error": refusal.code, "error_description": refusal.message}
        if refusal.invocation_id:
            value["invocation"] = refusal.invocation_id
        body = orjson.dumps(value)
        if refusal.kind is RefusalKind.UNAVAILABLE:
            await asgi.answer(send, 503, body, [JSON, (b"retry-after", b"1")])
        else:
            await asgi.answer(send, 403, body)

    async def _challenge(self, send: Send, status: int, error: str, description: str) -> None:
        parts = [f'error="{error}"', f'error_description="{description}"'] if error else []
        body = {"error": error or "token_missing", "error_description": description}
        await self._challenged(send, status, parts, body)

    async def _challenged(self, send: Send, status: int, parts: list[str], body: dict[str, Any]) -> None:
        parts = [*parts, f'resource_metadata="{self._metadata_url}"']
        challenge = (b"www-authenticate", f"Bearer {', '.join(parts)}".encode())
        await asgi.answer(send, status, orjson.dumps(body), [JSON, challenge])

    def _refused(self, address: str, code: str, token: Token | None, detail: str = "") -> None:
        self._enforcer.refused(door=DOOR, address=address, code=code, server_id=NO_SERVER, token=token, detail=detail)


def _said_in(body: Any) -> tuple[str, tuple[str, ...]]:
    """(conversation, the user's turns, oldest first) of a chat message. What others said in it is left out."""
    if not isinstance(body, dict):
        raise _Wrong("The body must be an object.")
    conversation = _text(body, "conversationId")
    if len(conversation) > _LONGEST_ID:
        raise _Wrong(f"'conversationId' must have at most {_LONGEST_ID} characters.")
    _text(body, "messageId")
    message = _text(body, "userMessage")
    history = body.get("chatHistory")
    if history is None:
        history = []
    if not isinstance(history, list) or len(history) > _MOST_MESSAGES:
        raise _Wrong(f"'chatHistory' must be a list of at most {_MOST_MESSAGES} messages.")
    turns = []
    for number, each in enumerate(history):
        if not isinstance(each, dict) or each.get("role") not in _ROLES or not isinstance(each.get("content"), str):
            raise _Wrong(
                f"'chatHistory[{number}]' must have a 'role' (user, assistant, system) and a 'content' of text."
            )
        if each["role"] == "user":
            turns.append(each["content"])
    # The message itself may stand at the end of the history as well: the conversation keeps a turn once.
    return conversation, (*turns, message)[-_MOST_TURNS:]


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise _Wrong(f"{name!r} must be a string that is not empty.")
    return value
