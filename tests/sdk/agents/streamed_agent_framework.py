"""An agent whose model streams."""

from __future__ import annotations

import asyncio

from common import DONE, READ, SEND

import office  # isort: skip
from agent_framework import Agent
from agent_framework_agent import ListClient

from watchfloor_sdk import AsyncGuard
from watchfloor_sdk.adapters.agent_framework import UserWords, WatchfloorMiddleware


async def main() -> None:
    client = ListClient()
    client._steps = iter([READ, SEND, DONE])
    async with office.guard(AsyncGuard) as guard:
        middleware = [UserWords(), WatchfloorMiddleware(guard.bind(conversation_id=office.prompt()))]
        agent = Agent(client=client, name="office", tools=office.TOOLS, middleware=middleware)
        async for _ in agent.run(office.prompt(), stream=True):
            pass
    office.report([], "")


asyncio.run(main())
