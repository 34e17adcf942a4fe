"""An agent that has another one as a tool, both guarded; what it tells the other is a model's word."""

from __future__ import annotations

import asyncio
from typing import Any

from common import DONE, ORDER, READ, SEND

import office  # isort: skip
from agents import Agent, Runner, function_tool, set_tracing_disabled
from openai_agents_agent import ListModel

from watchfloor_sdk.adapters.openai_agents import protect


def model(*steps: dict[str, Any]) -> ListModel:
    made = ListModel()
    made._steps = iter(steps)
    return made


async def main() -> None:
    set_tracing_disabled(True)
    guard = office.guard().bind(conversation_id=office.prompt())
    clerk = protect(Agent("Clerk", model=model(SEND, DONE), tools=[function_tool(office.send_email)]), guard)
    order = {"tool": "ask_clerk", "arguments": {"input": ORDER}, "id": "3"}
    tools = [function_tool(office.read_mail), clerk.as_tool("ask_clerk", "Asks the clerk")]
    boss = protect(Agent("Boss", model=model(READ, order, DONE), tools=tools), guard)
    result = await Runner.run(boss, office.prompt())
    office.report([str(item.output) for item in result.new_items if item.type == "tool_call_output_item"], "")


asyncio.run(main())
