"""Microsoft Agent Framework: middleware that asks the guard before a function tool runs.

    agent = Agent(client=client, tools=tools, middleware=[UserWords(), ..., WatchfloorMiddleware(guard)])

``UserWords`` hears what the user says; put it first, before middleware that writes messages of its own.
``WatchfloorMiddleware`` asks about each call; put it last: what middleware behind it changes in a call is not judged. A
call that may not be made gives its reason as the function's result, and the function is not called. The conversation is
the session's. Tools that run at the model's provider (hosted ones) do not pass here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from agent_framework import (
    AgentContext,
    AgentMiddleware,
    Content,
    FunctionInvocationContext,
    FunctionMiddleware,
    Message,
    MiddlewareFailure,
)

from watchfloor_sdk.adapters.asking import AnyGuard, Heard, NotRun, asked_later, awaited

_heard: ContextVar[Heard | None] = ContextVar("watchfloor_agent_framework_heard", default=None)


class UserWords(AgentMiddleware):
    """Hears what the user says to the agent, for ``WatchfloorMiddleware`` of the same run."""

    async def process(self, context: AgentContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """Called by the framework."""
        session = getattr(context.session, "session_id", None)
        # Not put back afterwards: a run that streams goes on when this has returned.
        _heard.set(Heard(tuple(_turns(context.messages)), str(session) if session else None))
        await call_next()


class WatchfloorMiddleware(FunctionMiddleware):
    """Asks ``guard`` about each function call."""

    def __init__(self, guard: AnyGuard) -> None:
        self._guard = guard

    async def process(self, context: FunctionInvocationContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """Called by the framework."""
        heard = _heard.get()
        if heard is None:
            # An ordinary exception would become a tool's error, and the agent would go on without a guard that hears.
            raise MiddlewareFailure("WatchfloorMiddleware needs UserWords() in the same agent's middleware.")
        arguments = context.arguments
        shown = arguments if isinstance(arguments, Mapping) else arguments.model_dump(mode="json")
        try:
            async with asked_later(awaited(self._guard), context.function.name, shown, heard) as running:
                if running.decision.is_redacted:
                    context.arguments = running.arguments
                await call_next()
                running.result = _read(context.result)
        except NotRun as refused:
            context.result = refused.text


def _turns(messages: Any) -> Iterator[str]:
    for message in [messages] if isinstance(messages, (str, Message)) else messages:
        if isinstance(message, str):
            yield message
        elif str(message.role) == "user" and "_attribution" not in message.additional_properties:
            yield str(message.text)


def _read(result: Any) -> Any:
    """What the model gets to read of a function's result."""
    contents = result if isinstance(result, list) else [result]
    return [content.to_dict() if isinstance(content, Content) else content for content in contents]
