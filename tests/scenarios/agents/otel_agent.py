"""An agent that tells of itself by OpenTelemetry's conventions for generative AI, with nothing but its API.

It asks its model, searches, and calls a tool that fails. Every type that an attribute may have occurs.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind

AGENT = {
    "gen_ai.agent.id": "fabrikam-travel-agent",
    "gen_ai.agent.name": "Travel Agent",
    "gen_ai.agent.version": "7",
    "gen_ai.conversation.id": "conversation-travel",
    "user.id": "mona",
    "user.email": "mona@fabrikam.example",
    "client.address": "203.0.113.9",
}
ASKED = [{"role": "user", "parts": [{"type": "text", "content": "A train to Graz, please."}]}]
CALL = {"type": "tool_call", "id": "call_7", "name": "book_train", "arguments": {"to": "Graz", "seats": 2}}
ANSWERED = [{"role": "assistant", "parts": [CALL], "finish_reason": "tool_call"}]

tracer = trace.get_tracer("fabrikam.travel", "7.0.1")


def ask_model() -> None:
    """A call of a model, told of while it runs and at its end."""
    operation = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-x",
    }
    with tracer.start_as_current_span("chat claude-x", kind=SpanKind.CLIENT, attributes=AGENT | operation) as span:
        span.set_attributes(
            {
                "gen_ai.request.temperature": 0.25,
                "gen_ai.request.max_tokens": 1024,
                "gen_ai.request.stop_sequences": ["###", "END"],
                "gen_ai.response.finish_reasons": ["tool_call"],
                "gen_ai.response.model": "claude-x-20260901",
                "gen_ai.response.id": "msg_01",
                "gen_ai.usage.input_tokens": 3_000_000_000,
                "gen_ai.usage.output_tokens": 18,
                "gen_ai.usage.reasoning.output_tokens": 7,
                "gen_ai.system_instructions": [{"type": "text", "content": "You book trains."}],
                "gen_ai.tool.definitions": [{"type": "function", "name": "book_train", "strict": True}],
                "gen_ai.input.messages": ASKED,
                "gen_ai.output.messages": ANSWERED,
                "server.address": "models.example",
                "server.port": 443,
            }
        )
        span.add_event("first token", {"fabrikam.seconds": 0.125, "fabrikam.is_cached": False})


def search() -> None:
    """A retrieval."""
    with tracer.start_as_current_span("retrieval timetable", attributes=AGENT) as span:
        span.set_attributes(
            {
                "gen_ai.operation.name": "retrieval",
                "gen_ai.data_source.id": "timetable",
                "gen_ai.retrieval.query.text": "trains to Graz",
                "gen_ai.retrieval.documents": [{"id": "t-1", "score": 0.75}],
                "fabrikam.pages": [1, 2, 3],
                "fabrikam.weights": [0.5, 0.25],
                "fabrikam.flags": [True, False],
            }
        )


def book(asked_by: trace.SpanContext) -> None:
    """A tool call that fails."""
    with tracer.start_as_current_span(
        "execute_tool book_train", attributes=AGENT, links=[Link(asked_by, {"fabrikam.link": "asked by"})]
    ) as span:
        span.set_attributes(
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "book_train",
                "gen_ai.tool.type": "function",
                "gen_ai.tool.call.id": "call_7",
                "gen_ai.tool.description": "Books a train.",
                "gen_ai.tool.call.arguments": CALL["arguments"],
                "gen_ai.tool.call.result": "no seats left",
                "error.type": "TimeoutError",
            }
        )
        raise TimeoutError("the railway did not answer")


def main() -> None:
    """Answer one person."""
    with tracer.start_as_current_span("invoke_agent Travel Agent", attributes=AGENT) as span:
        span.set_attribute("gen_ai.operation.name", "invoke_agent")
        ask_model()
        search()
        try:
            book(span.get_span_context())
        except TimeoutError:
            span.set_attribute("gen_ai.output.messages", "No train could be booked.")


if __name__ == "__main__":
    main()
