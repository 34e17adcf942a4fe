"""An agent on OpenAI's Agents SDK behind Watchfloor: one call of ``protect``. See office.py for what it does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import office
from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from watchfloor_sdk import AsyncGuard
from watchfloor_sdk.adapters.openai_agents import protect


class ListModel(Model):
    """Says what the script says."""

    def __init__(self) -> None:
        self._steps = iter(office.script())

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        return ModelResponse(output=[said(next(self._steps))], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


def said(step: dict[str, Any]) -> Any:
    if "say" in step:
        text = ResponseOutputText(annotations=[], text=step["say"], type="output_text")
        return ResponseOutputMessage(id="msg", content=[text], role="assistant", status="completed", type="message")
    return ResponseFunctionToolCall(
        arguments=json.dumps(step["arguments"]), call_id=step["id"], name=step["tool"], type="function_call"
    )


async def main() -> None:
    set_tracing_disabled(True)
    async with office.guard(AsyncGuard) as guard:
        agent = protect(Agent("Office", model=ListModel(), tools=[function_tool(tool) for tool in office.TOOLS]), guard)
        result = await Runner.run(agent, office.prompt(), run_config=RunConfig(group_id="thread-1"))
    told = [str(item.output) for item in result.new_items if item.type == "tool_call_output_item"]
    office.report(told, str(result.final_output))


if __name__ == "__main__":
    asyncio.run(main())
