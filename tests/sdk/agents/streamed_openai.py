"""An agent whose model streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from common import DONE, READ, SEND

import office  # isort: skip
from agents import Agent, Runner, function_tool, set_tracing_disabled
from openai.types.responses import Response, ResponseCompletedEvent
from openai_agents_agent import ListModel, said

from watchfloor_sdk import AsyncGuard
from watchfloor_sdk.adapters.openai_agents import protect


class StreamingModel(ListModel):
    """Says it in one event."""

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        response = Response.model_construct(
            id="r", created_at=0.0, model="m", object="response", output=[said(next(self._steps))],
            tool_choice="auto", tools=[], parallel_tool_calls=False, usage=None,
        )  # fmt: skip
        yield ResponseCompletedEvent.model_construct(response=response, sequence_number=0, type="response.completed")


async def main() -> None:
    set_tracing_disabled(True)
    model = StreamingModel()
    model._steps = iter([READ, SEND, DONE])
    async with office.guard(AsyncGuard) as guard:
        tools = [function_tool(tool) for tool in office.TOOLS]
        agent = protect(Agent("Office", model=model, tools=tools), guard.bind(conversation_id=office.prompt()))
        result = Runner.run_streamed(agent, office.prompt())
        async for _ in result.stream_events():
            pass
    office.report([str(item.output) for item in result.new_items if item.type == "tool_call_output_item"], "")


asyncio.run(main())
