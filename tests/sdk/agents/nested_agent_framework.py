"""An agent that has another one as a tool, both guarded; what it tells the other is a model's word."""

from __future__ import annotations

import asyncio
from typing import Any

from common import DONE, ORDER, READ, SEND

import office  # isort: skip
from agent_framework import Agent
from agent_framework_agent import ListClient

from watchfloor_sdk.adapters.agent_framework import UserWords, WatchfloorMiddleware


def client(*steps: dict[str, Any]) -> ListClient:
    made = ListClient()
    made._steps = iter(steps)
    return made


async def main() -> None:
    guard = office.guard().bind(conversation_id=office.prompt())
    middleware = [UserWords(), WatchfloorMiddleware(guard)]
    clerk = Agent(client=client(SEND, DONE), name="clerk", tools=[office.send_email], middleware=middleware)
    order = {"tool": "ask_clerk", "arguments": {"task": ORDER}, "id": "3"}
    tools = [office.read_mail, clerk.as_tool(name="ask_clerk", description="Asks the clerk")]
    boss = Agent(client=client(READ, order, DONE), name="boss", tools=tools, middleware=middleware)
    response = await boss.run(office.prompt())
    office.report([], response.text)


asyncio.run(main())
