"""Watchfloor's own form of events: one flat object for each step, for programs without any SDK.

    POST /events/v1  {"events": [{"id": "42", "type": "tool_call", "time": "2026-01-31T12:30:00Z", "agent": "billing",
                                  "user": "griffin@zava.example", "tool": "send_mail", "arguments": {…}, …}]}

Only ``id``, ``type`` and ``agent`` are required. The fields are those of ``FIELDS``; anything else goes into
``attributes`` under names of OpenTelemetry's GenAI conventions. ``id`` makes the event the same however often it is
sent. ``trace`` and ``parent`` (ids of other events) make a tree of events.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

import orjson

from watchfloor.gateway.telemetry.json_spans import Wrong, add, parse, text
from watchfloor.gateway.telemetry.spans import Decoded, Span, Unreadable

TYPES: Final = {
    "agent_run": "invoke_agent",
    "inference": "chat",
    "tool_call": "execute_tool",
    "guardrail": "apply_guardrail",
    "retrieval": "retrieval",
    "message": "output_messages",
}
"""Types of events, and the GenAI operation that each is."""

FIELDS: Final = {
    "agent": "gen_ai.agent.id",
    "agent_name": "gen_ai.agent.name",
    "agent_version": "gen_ai.agent.version",
    "caller_agent": "microsoft.a365.caller.agent.id",
    "user": "user.id",
    "user_email": "user.email",
    "conversation": "gen_ai.conversation.id",
    "session": "microsoft.session.id",
    "channel": "microsoft.channel.name",
    "address": "client.address",
    "model": "gen_ai.request.model",
    "provider": "gen_ai.provider.name",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "tool": "gen_ai.tool.name",
    "tool_call": "gen_ai.tool.call.id",
    "arguments": "gen_ai.tool.call.arguments",
    "result": "gen_ai.tool.call.result",
    "prompt": "gen_ai.input.messages",
    "answer": "gen_ai.output.messages",
    "server": "server.address",
    "error": "error.type",
    "decision": "microsoft.security.decision.type",
    "reason": "microsoft.security.decision.reason",
}
"""Fields of an event, and the attribute that each stands for."""

_NUMBERS: Final = frozenset({"input_tokens", "output_tokens"})
_VALUES: Final = frozenset({"arguments", "result", "prompt", "answer"})
_OTHERS: Final = frozenset({"id", "type", "time", "end", "trace", "parent", "status", "attributes"})
_MAX_EVENTS: Final = 10_000


def decode(body: bytes) -> Decoded:
    """The events of ``body`` as spans. Raises ``Unreadable`` if it is no such request at all."""
    events = parse(body).get("events")
    if not isinstance(events, list):
        raise Unreadable('The body must be {"events": [ … ]}.')
    if len(events) > _MAX_EVENTS:
        raise Unreadable(f"A request takes at most {_MAX_EVENTS} events; send several.")
    found = Decoded()
    for number, event in enumerate(events):
        add(found, event, f"events[{number}]", _span)
    return found


def _span(event: Mapping[str, Any]) -> Span:
    unknown = sorted(event.keys() - FIELDS.keys() - _OTHERS)
    if unknown:
        raise Wrong(f"There is no field {unknown[0]}. Put it into attributes.")
    operation = TYPES.get(text(event, "type"))
    if operation is None:
        raise Wrong(f"type must be one of {', '.join(TYPES)}.")
    name, trace, parent = text(event, "id"), text(event, "trace"), text(event, "parent")
    if not name or not text(event, "agent"):
        raise Wrong("id and agent are required.")
    start = _time(event, "time")
    agent = text(event, "agent")
    group = trace or text(event, "conversation") or name
    status = text(event, "status") or "unset"
    if status not in ("unset", "ok", "error"):
        raise Wrong("status must be ok or error.")
    return Span(
        _id(16, agent, group),
        _id(8, agent, group, name),
        f"{operation} {text(event, 'tool') or text(event, 'agent_name') or agent}",
        start,
        _time(event, "end") or start,
        _id(8, agent, group, parent) if parent else "",
        attributes=_attributes(event, operation),
        status="error" if event.get("error") else status,
    )


def _attributes(event: Mapping[str, Any], operation: str) -> dict[str, Any]:
    more = event.get("attributes")
    if more is not None and not isinstance(more, dict):
        raise Wrong("attributes must be an object.")
    found: dict[str, Any] = {**(more or {}), "gen_ai.operation.name": operation}
    for name, attribute in FIELDS.items():
        value = event.get(name)
        if value is None:
            continue
        if name in _NUMBERS:
            if not isinstance(value, int) or isinstance(value, bool):
                raise Wrong(f"{name} must be a whole number.")
            found[attribute] = value
        elif name in _VALUES:
            found[attribute] = value if isinstance(value, str) else orjson.dumps(value).decode()
        else:
            found[attribute] = text(event, name)
    return found


def _id(size: int, *parts: str) -> str:
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


def _time(event: Mapping[str, Any], name: str) -> int:
    """Unix nanoseconds of a time: ISO 8601 with an offset, or Unix seconds; 0 where there is none."""
    value = event.get(name)
    if value is None:
        return 0
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**33:
        return int(value * 1_000_000) * 1000
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            at = None
        if at is not None and at.tzinfo is not None:
            since = at - datetime(1970, 1, 1, tzinfo=UTC)
            return max(0, (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000
    raise Wrong(f"{name} must be a time such as 2026-01-31T12:30:00Z, or Unix seconds.")
