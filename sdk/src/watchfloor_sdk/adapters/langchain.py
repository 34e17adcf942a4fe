"""LangChain: a middleware for agents of ``langchain.agents.create_agent`` (1.x).

    agent = create_agent(model, tools, middleware=[..., WatchfloorMiddleware(guard)])

Every tool call of the agent passes it, blocking or awaited. Put it last: what middleware behind it changes in a call is
not judged. A call that may not be made becomes a ``ToolMessage`` that says so, and the tool is not invoked. The
conversation is the run's ``thread_id``; the user's words are the human messages of the state, without those that other
middleware wrote (summaries carry what tools said).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ToolCallRequest
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from watchfloor_sdk.adapters.asking import AnyGuard, Heard, NotRun, asked, asked_later, awaited, blocking


class WatchfloorMiddleware(AgentMiddleware):
    """Asks ``guard`` about each tool call. For agents that are invoked blocking, give it a ``Guard``."""

    def __init__(self, guard: AnyGuard) -> None:
        super().__init__()
        self._guard = guard

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Any]) -> Any:
        """Called by LangChain."""
        call = request.tool_call
        try:
            with asked(blocking(self._guard), call["name"], call["args"], _heard(request)) as running:
                outcome = handler(_changed(request, running.arguments))
                running.result = _read(outcome)
        except NotRun as refused:
            return _refusal(request, refused)
        return outcome

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Any]]
    ) -> Any:
        """Called by LangChain."""
        call = request.tool_call
        try:
            async with asked_later(awaited(self._guard), call["name"], call["args"], _heard(request)) as running:
                outcome = await handler(_changed(request, running.arguments))
                running.result = _read(outcome)
        except NotRun as refused:
            return _refusal(request, refused)
        return outcome


def _changed(request: ToolCallRequest, arguments: dict[str, Any]) -> ToolCallRequest:
    return request.override(tool_call={**request.tool_call, "args": arguments})


def _refusal(request: ToolCallRequest, refused: NotRun) -> ToolMessage:
    call = request.tool_call
    return ToolMessage(refused.text, name=call["name"], tool_call_id=call["id"] or "", status="error")


def _heard(request: ToolCallRequest) -> Heard:
    config = getattr(request.runtime, "config", None) or {}
    thread = config.get("configurable", {}).get("thread_id")
    return Heard(tuple(_turns(request.state)), str(thread) if thread else None)


def _turns(state: Any) -> Iterator[str]:
    messages = state if isinstance(state, list) else None
    if messages is None:
        messages = state.get("messages", []) if isinstance(state, dict) else getattr(state, "messages", [])
    for message in messages:
        if isinstance(message, HumanMessage) and not message.additional_kwargs.get("lc_source"):
            yield str(message.text)


def _read(outcome: Any) -> Any:
    """What the model gets to read of a tool's outcome: a message, or a command whose update holds messages."""
    if isinstance(outcome, BaseMessage):
        return outcome.content
    update = getattr(outcome, "update", None)
    messages = update.get("messages", []) if isinstance(update, dict) else []
    return [message.content for message in messages if isinstance(message, BaseMessage)] or str(update)
