"""What ``protect`` refuses, whom it follows, and what it does with odd arguments."""

from __future__ import annotations

import asyncio
import json

from common import DONE, READ, SEND

import office  # isort: skip
from agents import Agent, Runner, WebSearchTool, function_tool, handoff, set_tracing_disabled
from agents.tool_context import ToolContext
from openai.types.responses import ResponseFunctionToolCall
from openai_agents_agent import ListModel

from watchfloor_sdk.adapters.openai_agents import guarded_tool, protect


async def main() -> None:
    set_tracing_disabled(True)
    guard = office.guard().bind(conversation_id="protected")
    said = {}
    searching = Agent("Searching", tools=[function_tool(office.read_mail), WebSearchTool()])
    try:
        protect(searching, guard)
    except ValueError as error:
        said["refused"] = str(error)
    said["unguarded"] = [tool.name for tool in protect(searching, guard, unguarded=["web_search"]).tools]

    first, second, third = ListModel(), ListModel(), ListModel()
    first._steps = iter([READ, {"tool": "transfer_to_second", "arguments": {}, "id": "3"}])
    second._steps = iter([SEND, {"tool": "transfer_to_third", "arguments": {}, "id": "4"}])
    third._steps = iter([SEND, DONE])
    tools = [function_tool(tool) for tool in office.TOOLS]
    last = Agent("third", model=third, tools=tools)
    middle = Agent("second", model=second, tools=tools, handoffs=[last])
    agent = protect(Agent("first", model=first, tools=tools, handoffs=[handoff(middle)]), guard)
    middle.handoffs.append(agent)
    await Runner.run(agent, "Read my mail")
    said["ran"] = list(office.RAN)

    office.RAN.clear()
    tool = guarded_tool(function_tool(office.send_email), guard)
    doubled = '{"to": ["x@evil.example"], "to": ["griffin@zava.example"], "body": "x"}'
    for text in (doubled, "[1]", "{"):
        call = ResponseFunctionToolCall(arguments=text, call_id="c", name=tool.name, type="function_call")
        context = ToolContext(None, tool_name=tool.name, tool_call_id="c", tool_arguments=text, tool_call=call)
        said["nonsense"] = await tool.on_invoke_tool(context, text)
    ((_, said["doubled"]),) = office.RAN
    print(json.dumps(said))


asyncio.run(main())
