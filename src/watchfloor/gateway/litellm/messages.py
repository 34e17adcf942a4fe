"""What LiteLLM sends to a guardrail, as values. Pure.

The contract is that of LiteLLM's generic guardrail API (``GenericGuardrailAPIRequest``, 1.110): texts, messages in
OpenAI's form, tool calls, headers of the request that the proxy got. Whatever is not of that form raises ``Wrong``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

TOKEN_HEADER: Final = "x-watchfloor-token"  # noqa: S105  # the name of a header
CONVERSATION_HEADER: Final = "x-watchfloor-conversation-id"
_WITHHELD: Final = "[present]"  # what LiteLLM writes for the value of a header that it does not forward
_MOST: Final = 2_000
_LONGEST_ID: Final = 256
_MAKERS: Final = frozenset({"system", "developer", "assistant"})
_MOST_TURNS: Final = 64


class Wrong(Exception):
    """The request cannot be understood. The text says what to mend."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asks for. ``arguments`` is None where they are no JSON object."""

    id: str
    name: str
    arguments: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What a tool answered, as the history tells it."""

    call: str
    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question. ``judged``: numbers of the texts that are not the maker's or the model's own."""

    is_response: bool
    texts: list[str]
    judged: tuple[int, ...]
    user_turns: tuple[str, ...]
    tool_calls: tuple[ToolCall, ...]
    tool_answers: tuple[ToolAnswer, ...]
    conversation_id: str


def token_in(body: Any) -> bytes | None:
    """The ``Authorization`` that the agent's own token makes, where the proxy forwards it. Raises ``Wrong``."""
    headers = body.get("request_headers") if isinstance(body, dict) else None
    value = _header(headers, TOKEN_HEADER)
    if value is None:
        return None
    return value.encode() if value.lower().startswith("bearer ") else b"Bearer " + value.encode()


def read(body: Any) -> Asked:
    """The question in ``body``. Raises ``Wrong``."""
    if not isinstance(body, dict):
        raise Wrong("The body must be an object.")
    kind = body.get("input_type")
    if kind not in ("request", "response"):
        raise Wrong("'input_type' must be 'request' or 'response'.")
    texts = _list(body, "texts")
    if not all(isinstance(text, str) for text in texts):
        raise Wrong("'texts' must be a list of strings.")
    messages = _list(body, "structured_messages")
    users, own, answers = _history(messages)
    conversation = _header(body.get("request_headers"), CONVERSATION_HEADER) or body.get("litellm_trace_id") or ""
    if not isinstance(conversation, str) or len(conversation) > _LONGEST_ID:
        raise Wrong(f"The conversation must be a string of at most {_LONGEST_ID} characters.")
    return Asked(
        is_response=kind == "response",
        texts=texts,
        judged=tuple(number for number, text in enumerate(texts) if text not in own or text in users),
        user_turns=tuple(users)[-_MOST_TURNS:],
        # With a request come the calls of its history: those were decided on when the model asked for them.
        tool_calls=tuple(_tool_call(call) for call in _list(body, "tool_calls")) if kind == "response" else (),
        tool_answers=tuple(answers),
        conversation_id=conversation,
    )


def _history(messages: list[Any]) -> tuple[dict[str, None], set[str], list[ToolAnswer]]:
    """(the user's words, what maker and model wrote, what tools answered) of messages in OpenAI's form."""
    users: dict[str, None] = {}
    own: set[str] = set()
    answers = []
    names: dict[str, str] = {}
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Wrong("Each of 'structured_messages' must be an object with a 'role'.")
        role, texts = message["role"], _texts(message.get("content"))
        if role == "user":
            users |= dict.fromkeys(texts)
        elif role in _MAKERS:
            own.update(texts)
            names |= _names(message.get("tool_calls"))
        elif role in ("tool", "function"):
            call_id = message.get("tool_call_id")
            call_id = call_id if isinstance(call_id, str) else ""
            name = names.get(call_id) or message.get("name")
            answers.append(ToolAnswer(call_id, name if isinstance(name, str) and name else "unknown", tuple(texts)))
    return users, own, answers


def _names(calls: Any) -> dict[str, str]:
    """Tools by the id of their call, of calls that were made before; what is none is of no use and does no harm."""
    found = {}
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str) and isinstance(call.get("id"), str):
            found[call["id"]] = name
    return found


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    return [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]


def _tool_call(call: Any) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise Wrong("Each tool call must have a 'function' with a 'name'.")
    if len(name) > _LONGEST_ID:
        raise Wrong(f"The name of a tool must have at most {_LONGEST_ID} characters.")
    identity, raw = call.get("id"), function.get("arguments")
    arguments: Any = raw
    if isinstance(raw, str):
        try:
            arguments = orjson.loads(raw or "{}")
        except orjson.JSONDecodeError:
            arguments = None
    elif raw is None:
        arguments = {}
    return ToolCall(
        identity if isinstance(identity, str) else "", name, arguments if isinstance(arguments, dict) else None
    )


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > _MOST:
        raise Wrong(f"{name!r} must be a list of at most {_MOST}.")
    return value


def _header(headers: Any, name: str) -> str | None:
    """The value of a header that the proxy got. Raises ``Wrong`` where it has it, and does not forward it."""
    if not isinstance(headers, dict):
        return None
    values = [value for key, value in headers.items() if isinstance(key, str) and key.lower() == name]
    if not values:
        return None
    if len(values) > 1 or not isinstance(values[0], str):
        raise Wrong(f"The header {name} must be there once, as a string.")
    if values[0] == _WITHHELD:
        raise Wrong(f"LiteLLM does not forward the header {name}: add it to extra_headers of the guardrail.")
    return values[0]
