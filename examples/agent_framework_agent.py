"""An agent on Microsoft Agent Framework behind Watchfloor: two middlewares. See office.py for what it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import office
from agent_framework import (
    Agent,
    AgentSession,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
)

from watchfloor_sdk import AsyncGuard
from watchfloor_sdk.adapters.agent_framework import UserWords, WatchfloorMiddleware


class ListClient(FunctionInvocationLayer, ChatMiddlewareLayer, BaseChatClient):
    """Says what the script says."""

    def __init__(self) -> None:
        super().__init__()
        self._steps = iter(office.script())

    def _inner_get_response(self, *, stream: bool, **kwargs: Any) -> Any:
        async def whole() -> ChatResponse:
            return ChatResponse(messages=[Message(role="assistant", contents=[said(next(self._steps))])])

        async def updates() -> AsyncIterator[ChatResponseUpdate]:
            yield ChatResponseUpdate(role="assistant", contents=[said(next(self._steps))])

        return ResponseStream(updates(), finalizer=ChatResponse.from_updates) if stream else whole()


def said(step: dict[str, Any]) -> Any:
    if "say" in step:
        return Content.from_text(step["say"])
    return Content.from_function_call(step["id"], step["tool"], arguments=step["arguments"])


async def main() -> None:
    async with office.guard(AsyncGuard) as guard:
        middleware = [UserWords(), WatchfloorMiddleware(guard)]
        agent = Agent(client=ListClient(), name="office", tools=office.TOOLS, middleware=middleware)
        response = await agent.run(office.prompt(), session=AgentSession(session_id="thread-1"))
    contents = [content for message in response.messages for content in message.contents]
    told = [str(content.result) for content in contents if content.type == "function_result"]
    office.report(told, response.text)


if __name__ == "__main__":
    asyncio.run(main())
