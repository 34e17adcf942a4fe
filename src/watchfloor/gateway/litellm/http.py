"""``POST /beta/litellm_basic_guardrail_api``: a LiteLLM proxy asks before texts go to a model and come back.

    a request    its texts are decided on as a call of the tool ``llm:prompt``; what the user said and what tools
                 answered becomes known to the conversation
    a response   each tool call that the model asks for is decided on as that call; its texts are judged as an answer

The agent's own token comes with each request to the proxy, in a header that the proxy forwards. Above is ``app.py``;
below ``messages.py`` (the contract), ``Enforcer`` and ``Contents``.

INVARIANT: the answer is always a verdict, with HTTP status 200; whatever fails is BLOCKED. An error is the proxy's to
interpret, and its operator may have told it to go on without a guardrail.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from typing import Final

from watchfloor.gateway import admission, asgi
from watchfloor.gateway.answers import Refusal, RefusalKind
from watchfloor.gateway.asgi import Addresses, BodyTooLarge, CallerGone, Receive, Scope, Send
from watchfloor.gateway.calls import MODEL, PROMPT, CallRequest
from watchfloor.gateway.contents import Contents
from watchfloor.gateway.conversations import LARGEST_RESULT
from watchfloor.gateway.enforce import Enforcer
from watchfloor.gateway.litellm import messages
from watchfloor.gateway.litellm.messages import Asked, ToolCall, Wrong
from watchfloor.gateway.mcp import protocol
from watchfloor.gateway.mcp.headers import read_headers
from watchfloor.gateway.mcp.rpc import Rejected
from watchfloor.gateway.tokens import NO_SERVER, Token, TokenError
from watchfloor.guard.provenance.conversation import TOLD_AGAIN
from watchfloor.model.agents import ToolEffect
from watchfloor.model.errors import Unavailable
from watchfloor.model.verdicts import Effect

_LOG: Final = logging.getLogger(__name__)
PATH: Final = "/beta/litellm_basic_guardrail_api"
DOOR: Final = "litellm"
ANSWER: Final = "llm:answer"
_SEPARATORS: Final = ("-", "__", "_", ".", "/", ":")
_REDACTED: Final = "The call holds what may not go out, and cannot be rewritten on this way."


class _Blocked(Exception):
    """The text says why, to whoever uses the agent."""


class LiteLlmDoor:
    """The guardrail of one worker."""

    def __init__(self, enforcer: Enforcer, contents: Contents, addresses: Addresses, *, max_body_bytes: int) -> None:
        self._enforcer, self._contents, self._addresses = enforcer, contents, addresses
        self._max_body = max_body_bytes

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = read_headers(scope["headers"])
        address = self._addresses.of(scope, headers.text(b"x-forwarded-for"))
        if scope["method"] != "POST":
            await asgi.answer_json(send, 405, {"error": "method_not_allowed"})
            return
        token: Token | None = None
        try:
            raw = await asgi.read_body(receive, self._max_body, headers.values.get(b"content-length"))
            body = protocol.parse(raw)
            if headers.duplicated:
                raise Wrong(f"The header {headers.duplicated} appears more than once.")
            authorization = messages.token_in(body) or headers.values.get(b"authorization")
            token = self._enforcer.authenticate_agent(authorization)
            asked = messages.read(body)
            texts = await (self._response if asked.is_response else self._request)(token, asked, address)
            if texts != asked.texts:
                await asgi.answer_json(send, 200, {"action": "GUARDRAIL_INTERVENED", "texts": texts})
            else:
                await asgi.answer_json(send, 200, {"action": "NONE"})
            return
        except CallerGone:
            return
        except (Wrong, Rejected) as error:
            self._refused(address, "malformed", token, str(error))
            reason = f"Watchfloor does not understand the request: {error}"
        except BodyTooLarge:
            self._refused(address, "too_large", token)
            reason = f"The request is larger than {self._max_body} bytes."
        except TokenError as error:
            self._refused(address, error.reason, error.token, error.description)
            reason = f"{error.description} Send the agent's gateway token in the header {messages.TOKEN_HEADER}."
        except Refusal as refusal:
            if not refusal.invocation_id:
                self._refused(address, refusal.code, token)
            reason = _reason(refusal)
        except _Blocked as blocked:
            reason = str(blocked)
        except Exception:  # INVARIANT: no answer is never an allow
            _LOG.exception("a guardrail request failed")
            reason = "The gateway failed."
        await asgi.answer_json(send, 200, {"action": "BLOCKED", "blocked_reason": reason})

    # -- to the model ---------------------------------------------------------------------------------------------

    async def _request(self, token: Token, asked: Asked, address: str) -> list[str]:
        request = CallRequest(
            DOOR,
            dataclasses.replace(token, server_id=MODEL),
            PROMPT,
            {"texts": [asked.texts[number] for number in asked.judged]},
            address=address,
            conversation_id=asked.conversation_id,
            user_turns=asked.user_turns,
            pseudo_effect=ToolEffect.READ,
            goes_out_here=False,
            is_prompt=True,
        )
        permit = await self._enforcer.decide(request)
        self._enforcer.complete(permit, status="ok")
        self._tell_answers(dataclasses.replace(request, token=token), asked)
        if permit.verdict.effect is not Effect.REDACT:
            return asked.texts
        changed = dict(zip(asked.judged, permit.arguments["texts"], strict=True))
        return [changed.get(number, text) for number, text in enumerate(asked.texts)]

    def _tell_answers(self, about: CallRequest, asked: Asked) -> None:
        """What tools answered. A history is told anew with each request, so each answer is named by its content."""
        results = []
        is_all = True
        for answer in asked.tool_answers:
            said = "\0".join((answer.call, *answer.texts)).encode("utf-8", "surrogatepass")
            if len(said) > LARGEST_RESULT:
                is_all = False
                continue
            found = self._find(about.token, answer.name)
            server_id, tool = found[0] if len(found) == 1 else (MODEL, answer.name)
            name = TOLD_AGAIN + hashlib.sha256(said).hexdigest()
            results.append((name, server_id, tool, list(answer.texts)))
        try:
            self._enforcer.hear_again(about, results, is_all=is_all)
        except Unavailable as error:
            raise Refusal(RefusalKind.UNAVAILABLE, "not_recorded") from error

    # -- from the model -------------------------------------------------------------------------------------------

    async def _response(self, token: Token, asked: Asked, address: str) -> list[str]:
        about = dataclasses.replace(token, server_id=MODEL)
        if asked.tool_calls:
            self._enforcer.admit_agent(token, address, DOOR)
            if not self._enforcer.knows(about, asked.conversation_id):
                # The model has read something to come to these calls, and nobody told it here.
                self._enforcer.listen(about, asked.conversation_id, (), PROMPT, None, is_known=False)
        for call in asked.tool_calls:
            await self._call(token, call, asked, address)
        if not asked.texts:
            return asked.texts
        passed = self._contents.answer(about, asked.texts, ANSWER, asked.conversation_id, address, DOOR)
        if not isinstance(passed, list) or not all(isinstance(text, str) for text in passed):
            raise Refusal(RefusalKind.BLOCKED, "internal_error")
        return passed

    async def _call(self, token: Token, call: ToolCall, asked: Asked, address: str) -> None:
        """Decide on a call that the model asks for. Raises ``_Blocked`` and ``Refusal``."""
        found = self._find(token, call.name)
        if len(found) != 1:
            code = "not_granted" if not found else "tool_ambiguous"
            self._refused(address, code, token, call.name)
            why = "The agent has not been granted" if not found else "Several tool servers have"
            raise _Blocked(f"{why} the tool {call.name[:100]!r}.")
        if call.arguments is None:
            self._refused(address, "arguments_unreadable", token, call.name)
            raise _Blocked(f"The arguments of the tool {call.name[:100]!r} are no JSON object.")
        server_id, tool = found[0]
        permit = await self._enforcer.decide(
            CallRequest(
                DOOR,
                admission.at_server(self._enforcer.state, token, server_id),
                tool,
                call.arguments,
                address=address,
                conversation_id=asked.conversation_id,
                user_turns=asked.user_turns,
                goes_out_here=False,
            )
        )
        if permit.verdict.effect is not Effect.ALLOW:
            self._enforcer.complete(permit, status="refused", code="redaction_impossible")
            raise _Blocked(_REDACTED)
        self._enforcer.complete(permit, status="ok")

    def _find(self, token: Token, name: str) -> list[tuple[str, str]]:
        """(server, tool) that a function of a model may be: that tool, or ``{server}{separator}{tool}``."""
        state = self._enforcer.state
        if token.server_id != NO_SERVER:
            servers = {token.server_id}
        else:
            servers = {server for agent, server in state.bindings if agent == token.agent_id}
        found = set()
        for server_id in servers:
            names = [name, *(name.removeprefix(server_id + s) for s in _SEPARATORS if name.startswith(server_id + s))]
            found |= {
                (server_id, tool)
                for tool in names
                if (server_id, tool) in state.tools and state.binding(token.agent_id, server_id, tool) is not None
            }
        return sorted(found)

    def _refused(self, address: str, code: str, token: Token | None, detail: str = "") -> None:
        self._enforcer.refused(door=DOOR, address=address, code=code, server_id=MODEL, token=token, detail=detail)


def _reason(refusal: Refusal) -> str:
    """Shown to whoever uses the agent: what happened, and under which code and record it is found."""
    about = f"{refusal.code}, {refusal.invocation_id}" if refusal.invocation_id else refusal.code
    return f"{refusal.message} ({about})"
