"""An agent on OpenAI's Agents SDK, with a model that answers from a list. What tells of it is named by INSTRUMENTOR."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pkgutil import resolve_name
from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage, function_tool, generation_span
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

CALL = ResponseFunctionToolCall(
    arguments='{"customer": "Fabrikam"}', call_id="call_1", name="look_up", type="function_call"
)
TEXT = ResponseOutputText(annotations=[], text="1250", type="output_text")
MESSAGE = ResponseOutputMessage(id="msg_1", content=[TEXT], role="assistant", status="completed", type="message")


class ListModel(Model):
    """Answers from a list, and traces it as models do that are not OpenAI's."""

    def __init__(self) -> None:
        self._answers = [(CALL, 31, 5), (MESSAGE, 44, 3)]

    async def get_response(
        self, system_instructions: str | None, input: Any, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        asked = [{"role": "user", "content": input}] if isinstance(input, str) else list(input)
        said, tokens_in, tokens_out = self._answers.pop(0)
        with generation_span(input=asked, model="gpt-5", model_config={"temperature": 0.25}) as span:
            span.span_data.output = [said.model_dump()]
            span.span_data.usage = {"input_tokens": tokens_in, "output_tokens": tokens_out}
        usage = Usage(requests=1, input_tokens=tokens_in, output_tokens=tokens_out, total_tokens=tokens_in + tokens_out)
        return ModelResponse(output=[said], usage=usage, response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


@function_tool
def look_up(customer: str) -> str:
    """Looks a customer up."""
    return f"{customer} owes 1250"


def main() -> None:
    """Answer one person."""
    resolve_name(os.environ["INSTRUMENTOR"])().instrument()
    agent = Agent("Ledger Agent", instructions="You know what customers owe.", model=ListModel(), tools=[look_up])
    about = RunConfig(workflow_name="Ledger", group_id="conversation-ledger", trace_metadata={"user_id": "griffin"})
    assert Runner.run_sync(agent, "What does Fabrikam owe us?", run_config=about).final_output == "1250"


if __name__ == "__main__":
    main()
