"""What Copilot Studio asks, read tolerantly: members may be missing, null or unknown; the others must fit.

Pure. ``read`` turns a parsed body into a ``Question``, or says where it does not fit. Only a body that is no question
at all is refused here; whether agent, user and tool are known is asked elsewhere. What a tool answered is kept whatever
its shape: it is somebody else's text, and all of it may matter.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from watchfloor.guard.provenance.conversation import TOLD_AGAIN

MOST_TURNS: Final = 64
"""Turns of the user that one question brings along; older ones were in earlier questions."""
_LONGEST_ID: Final = 256
_RESULTS: Final = ("previousToolsOutputs", "previousToolOutputs")
"""Documents and traffic differ in how they spell it."""


class Unreadable(Exception):
    """The body is no question. ``where`` is the place, the text says what is wrong with it."""

    def __init__(self, where: str, problem: str) -> None:
        self.where = where
        super().__init__(f"{where} {problem}")


@dataclass(frozen=True, slots=True)
class Answered:
    """What a tool has answered before. ``invocation`` is made of its content: told again, it is the same."""

    invocation: str
    tool_id: str
    tool_name: str
    value: Any
    size: int = 0
    """Bytes of it, as JSON."""
    is_readable: bool = True


@dataclass(frozen=True, slots=True)
class Question:
    """May this tool be called? Ids are as sent, empty where nothing is said; ``user_turns`` oldest first."""

    tool_id: str
    arguments: Mapping[str, Any]
    tool_name: str = ""
    tool_type: str = ""
    user_turns: tuple[str, ...] = ()
    answered: tuple[Answered, ...] = ()
    agent_id: str = ""
    agent_name: str = ""
    agent_version: str = ""
    tenant_id: str = ""
    environment_id: str = ""
    user_id: str = ""
    conversation_id: str = ""
    message_id: str = ""
    channel_id: str = ""
    plan_id: str = ""
    plan_step_id: str = ""
    parent_component: str = ""
    trigger: str = ""
    address: str = ""


def read(body: Any) -> Question:
    """The question in ``body``. Raises ``Unreadable``."""
    if not isinstance(body, dict):
        raise Unreadable("The body", "must be an object.")
    planner = _object(body, "plannerContext")
    tool = _object(body, "toolDefinition")
    about = _object(body, "conversationMetadata")
    agent = _object(about, "agent", "conversationMetadata.")
    user = _object(about, "user", "conversationMetadata.")
    trigger = _object(about, "trigger", "conversationMetadata.")
    tool_id = _text(tool, "id", "toolDefinition.")
    if not tool_id:
        raise Unreadable("toolDefinition.id", "is missing: nobody knows which tool is meant.")
    question = Question(
        tool_id=tool_id,
        arguments=_object(body, "inputValues"),
        tool_name=_text(tool, "name", "toolDefinition."),
        tool_type=_text(tool, "type", "toolDefinition."),
        user_turns=_user_turns(planner),
        answered=_answered(planner),
        agent_id=_text(agent, "id", "conversationMetadata.agent."),
        agent_name=_text(agent, "name", "conversationMetadata.agent."),
        agent_version=_text(agent, "version", "conversationMetadata.agent."),
        tenant_id=_text(agent, "tenantId", "conversationMetadata.agent."),
        environment_id=_text(agent, "environmentId", "conversationMetadata.agent."),
        user_id=_text(user, "id", "conversationMetadata.user."),
        conversation_id=_key(_text(about, "conversationId", "conversationMetadata.")),
        message_id=_text(about, "messageId", "conversationMetadata."),
        channel_id=_text(about, "channelId", "conversationMetadata."),
        plan_id=_text(about, "planId", "conversationMetadata."),
        plan_step_id=_text(about, "planStepId", "conversationMetadata."),
        parent_component=_text(about, "parentAgentComponentId", "conversationMetadata."),
        trigger=_text(trigger, "schemaName", "conversationMetadata.trigger.")
        or _text(trigger, "id", "conversationMetadata.trigger."),
        address=_address(_text(about, "incomingClientIp", "conversationMetadata.")),
    )
    return question if question.user_id or not question.trigger else _begun_by_an_event(question)


def _begun_by_an_event(question: Question) -> Question:
    """Nobody sits there who could have said anything: what stands for the user's words came with the event."""
    # Running text, however short: a line alone would count as a field of a record.
    said = ["\n".join(("Begun by:", *question.user_turns))] if question.user_turns else []
    given = (Answered(_name("", said)[0], "trigger", question.trigger, said),) if said else ()
    values = {name: getattr(question, name) for name in Question.__slots__}
    return Question(**(values | {"user_turns": (), "answered": (*question.answered, *given)}))


def _object(parent: Mapping[str, Any], name: str, prefix: str = "") -> Mapping[str, Any]:
    value = parent.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unreadable(f"{prefix}{name}", "must be an object.")
    return value


def _text(parent: Mapping[str, Any], name: str, prefix: str) -> str:
    value = parent.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unreadable(f"{prefix}{name}", "must be a string.")
    return value


def _list(parent: Mapping[str, Any], name: str, prefix: str) -> list[Any]:
    value = parent.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Unreadable(f"{prefix}{name}", "must be a list.")
    return value


def _key(text: str) -> str:
    """An id that tells things apart, however long it is."""
    return text if len(text) <= _LONGEST_ID else "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def _user_turns(planner: Mapping[str, Any]) -> tuple[str, ...]:
    """The user's own words. What the assistant said is not the user's, whatever it repeats."""
    turns: list[str] = []
    # The history is newest first.
    for index, entry in reversed(list(enumerate(_list(planner, "chatHistory", "plannerContext.")))):
        where = f"plannerContext.chatHistory[{index}]"
        if entry is None:
            continue
        if not isinstance(entry, dict):
            raise Unreadable(where, "must be an object.")
        if _text(entry, "role", f"{where}.").lower() == "user":
            turns.append(_text(entry, "content", f"{where}."))
    turns.append(_text(planner, "userMessage", "plannerContext."))
    return tuple(dict.fromkeys(turn for turn in turns if turn.strip()))[-MOST_TURNS:]


def _answered(planner: Mapping[str, Any]) -> tuple[Answered, ...]:
    found: list[Answered] = []
    for spelling in _RESULTS:
        for entry in _list(planner, spelling, "plannerContext."):
            if isinstance(entry, dict):
                tool_id, tool_name = (entry[n] if isinstance(entry.get(n), str) else "" for n in ("toolId", "toolName"))
                # Everything else in it: documents name its members, and nobody promises that there are no others.
                rest = {k: v for k, v in entry.items() if k not in ("toolId", "toolName", "timestamp", "outputs")}
                value = [_outputs(entry.get("outputs")), *([rest] if rest else [])]
            elif entry is not None:
                tool_id, tool_name, value = "", "", [entry]
            else:
                continue
            try:
                invocation, size = _name(tool_id, entry)
                found.append(Answered(invocation, tool_id, tool_name, value, size))
            except TypeError:  # nested too deeply to be written down
                found.append(Answered("unreadable", tool_id, tool_name, None, is_readable=False))
    return tuple(found)


def _outputs(outputs: Any) -> Any:
    """Named outputs as fields; anything else as it is."""
    if not isinstance(outputs, list):
        return outputs
    named: dict[str, Any] = {}
    others: list[Any] = []
    for output in outputs:
        name = output.get("name") if isinstance(output, dict) else None
        if isinstance(name, str) and "value" in output and name not in named:
            named[name] = output["value"]
            output = {k: v for k, v in output.items() if k not in ("name", "value")}
            if not output:
                continue
        others.append(output)
    return [named, *others] if others else named


def _name(tool_id: str, value: Any) -> tuple[str, int]:
    """A name that is made of the content, and its size. Raises ``TypeError`` for what is nested too deeply."""
    text = orjson.dumps([tool_id, value])
    return TOLD_AGAIN + hashlib.blake2b(text, digest_size=16).hexdigest(), len(text)
