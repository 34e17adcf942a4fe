"""A span as rows: what each convention becomes, who acted for whom, and that nothing is lost or misplaced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchfloor.gateway.telemetry import conventions, mapping, redact
from watchfloor.gateway.telemetry.spans import Reject, Sender, Span, SpanEvent
from watchfloor.model.ids import new_id
from watchfloor.storage.rows import Rows
from watchfloor.storage.tables import TABLES

NOW = 1_795_413_390_000_000_000
SECOND = 1_000_000_000
SENDER = Sender("acme", "src-billing", "otlp-http", "192.0.2.1", "receiver-1")
TRACE, SPAN = "b82e44" + "0" * 26, "ed273e" + "0" * 10
ZERO = "00000000-0000-0000-0000-000000000000"
TOKEN = "ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"

ROWS = {name: Rows(TABLES[name]) for name in ("AgentActivity", "AgentContent", "TelemetryRejects")}


def span(attributes: Mapping[str, Any] | None = None, name: str = "step", **others: Any) -> Span:
    return Span(TRACE, SPAN, name, NOW - 2 * SECOND, NOW - SECOND, attributes=attributes or {}, **others)


def mapped(of: Span, sender: Sender = SENDER) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of the activity and the contents by kind, both checked against their tables."""
    found = mapping.rows(of, sender, NOW)
    assert ROWS["AgentActivity"].fault(found.activity) == ""
    for content in found.contents:
        assert ROWS["AgentContent"].fault(content) == ""
        for column in ("Timestamp", "TenantId", "ReportId", "TraceId", "SpanId", "AgentId"):
            assert content[column] == found.activity[column]
        assert content.get("ConversationId") == found.activity.get("ConversationId")
    kinds = [content["Kind"] for content in found.contents]
    assert len(set(kinds)) == len(kinds)
    return found.activity, {content["Kind"]: json.loads(content["Content"]) for content in found.contents}


def extra(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["AdditionalFields"])
    return found


# -- one case for each convention ---------------------------------------------------------------------------------

MESSAGES = [{"role": "user", "parts": [{"type": "text", "content": "Pay invoice 4711"}]}]
A365 = {
    "gen_ai.agent.id": "2222",
    "gen_ai.agent.name": "Customer Billing Agent",
    "gen_ai.agent.version": "1.4",
    "microsoft.a365.agent.blueprint.id": "3333",
    "microsoft.tenant.id": "1111",
    "gen_ai.conversation.id": "conv-19",
    "microsoft.session.id": "s-1",
    "microsoft.channel.name": "msteams",
    "user.id": "u-1",
    "user.email": "griffin@zava.example",
    "client.address": "198.51.100.7",
}
A365_COLUMNS = {
    "AgentId": "2222",
    "AgentName": "Customer Billing Agent",
    "AgentVersion": "1.4",
    "AgentBlueprintId": "3333",
    "ConversationId": "conv-19",
    "SessionId": "s-1",
    "ChannelName": "msteams",
    "UserId": "u-1",
    "AccountUpn": "griffin@zava.example",
    "ActingMode": "on-behalf-of",
    "IPAddress": "198.51.100.7",
    "TenantId": "acme",
}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "OpenTelemetry, today": (
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.response.model": "gpt-5-2026",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.conversation.id": "c",
            "gen_ai.system_instructions": '[{"type":"text","content":"Be kind"}]',
            "gen_ai.input.messages": json.dumps(MESSAGES),
            "gen_ai.output.messages": MESSAGES,
            "gen_ai.tool.definitions": "[]",
            "server.address": "api.openai.com",
            "server.port": 443,
        },
        {
            "ActionType": "InferenceCall",
            "OperationName": "chat",
            "Provider": "openai",
            "Model": "gpt-5-2026",
            "InputTokens": 10,
            "OutputTokens": 20,
            "ConversationId": "c",
            "ServerAddress": "api.openai.com:443",
            "Status": "ok",
        },
        {
            "system_instructions": [{"type": "text", "content": "Be kind"}],
            "input_messages": MESSAGES,
            "output_messages": MESSAGES,
            "tool_definitions": [],
        },
    ),
    "OpenTelemetry, of old": (
        {
            "gen_ai.operation.name": "text_completion",
            "gen_ai.system": "vertex_ai",
            "gen_ai.usage.prompt_tokens": 3,
            "gen_ai.usage.completion_tokens": "4",
            "gen_ai.prompt": "hello",
            "gen_ai.completion": "[not json",
            "gen_ai.prompt.name": "greeting",
            "gen_ai.thread.id": "thread_9",
            "enduser.id": "u",
        },
        {
            "ActionType": "InferenceCall",
            "Provider": "vertex_ai",
            "InputTokens": 3,
            "OutputTokens": 4,
            "ConversationId": "thread_9",
            "UserId": "u",
        },
        {"input_messages": "hello", "output_messages": "[not json"},
    ),
    "OpenTelemetry, a tool": (
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "SendEmailV2",
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": "call_1",
            "gen_ai.tool.call.arguments": '{"to":"x@evil.example"}',
            "gen_ai.tool.call.result": "sent",
            "error.type": "PermissionError",
        },
        {
            "ActionType": "ExecuteToolBySDK",
            "ToolName": "SendEmailV2",
            "ToolType": "function",
            "ToolCallId": "call_1",
            "ErrorType": "PermissionError",
            "Status": "error",
        },
        {"tool_arguments": {"to": "x@evil.example"}, "tool_result": "sent"},
    ),
    "OpenTelemetry, retrieval": (
        {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.retrieval.query.text": "capital of France",
            "gen_ai.retrieval.documents": '[{"id":"d1"}]',
        },
        {"ActionType": "Retrieval"},
        {"tool_arguments": "capital of France", "tool_result": [{"id": "d1"}]},
    ),
    "OpenTelemetry, embeddings": ({"gen_ai.operation.name": "embeddings"}, {"ActionType": "Embeddings"}, {}),
    "OpenTelemetry, an agent is made": (
        {"gen_ai.operation.name": "create_agent", "gen_ai.agent.id": "a1"},
        {"ActionType": "CreateAgent", "AgentId": "a1"},
        {},
    ),
    "OpenTelemetry, a workflow": (
        {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "crew"},
        {"ActionType": "Span", "OperationName": "invoke_workflow"},
        {},
    ),
    "Traceloop, indexed messages": (
        {
            "llm.request.type": "chat",
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": "hello",
            "gen_ai.completion.0.content": "hi",
            "llm.request.functions.0.name": "get_weather",
            "traceloop.association.properties.user_id": "u7",
            "traceloop.association.properties.session_id": "c7",
        },
        {"ActionType": "InferenceCall", "OperationName": "chat", "UserId": "u7", "ConversationId": "c7"},
        {
            "input_messages": {"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "hello"},
            "output_messages": "hi",
            "tool_definitions": "get_weather",
        },
    ),
    "Traceloop, a tool": (
        {
            "traceloop.span.kind": "tool",
            "traceloop.entity.name": "get_weather",
            "traceloop.entity.input": '{"inputs":{"city":"Paris"}}',
            "traceloop.entity.output": '{"output":"rain"}',
        },
        {"ActionType": "ExecuteToolBySDK", "OperationName": "tool", "ToolName": "get_weather"},
        {"tool_arguments": {"inputs": {"city": "Paris"}}, "tool_result": {"output": "rain"}},
    ),
    "Traceloop, an agent": (
        {"traceloop.span.kind": "agent", "traceloop.entity.name": "planner", "traceloop.entity.input": "do"},
        {"ActionType": "InvokeAgent", "AgentName": "planner"},
        {"input_messages": "do"},
    ),
    "Traceloop, a handoff": (
        {
            "traceloop.span.kind": "handoff",
            "gen_ai.operation.name": "handoff",
            "gen_ai.agent.name": "triage",
            "gen_ai.handoff.to_agent": "refunds",
        },
        {"ActionType": "InvokeAgent", "AgentName": "triage", "TargetAgentName": "refunds"},
        {},
    ),
    "Traceloop, a guard": (
        {
            "gen_ai.operation.name": "guard",
            "gen_ai.guardrail.name": "pii",
            "gen_ai.guardrail.status": "FAILED",
            "gen_ai.guardrail.input": '{"text":"x"}',
        },
        {"ActionType": "GuardrailDecision", "GuardianName": "pii", "WouldBe": "block"},
        {"guardrail_input": {"text": "x"}},
    ),
    "OpenInference, a model": (
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "claude-opus-5",
            "llm.provider": "anthropic",
            "llm.token_count.prompt": 5,
            "llm.token_count.completion": 6,
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "hello",
            "llm.output_messages.0.message.content": "hi",
            "llm.tools.0.tool.json_schema": '{"type":"function"}',
            "llm.invocation_parameters": '{"temperature":0.5}',
            "session.id": "s1",
            "user.id": "u1",
        },
        {
            "ActionType": "InferenceCall",
            "OperationName": "LLM",
            "Model": "claude-opus-5",
            "Provider": "anthropic",
            "InputTokens": 5,
            "OutputTokens": 6,
            "ConversationId": "s1",
            "SessionId": "s1",
            "UserId": "u1",
            "ActingMode": "on-behalf-of",
        },
        {
            "input_messages": {
                "llm.input_messages.0.message.role": "user",
                "llm.input_messages.0.message.content": "hello",
                "llm.invocation_parameters": {"temperature": 0.5},
            },
            "output_messages": "hi",
            "tool_definitions": {"type": "function"},
        },
    ),
    "OpenInference, a tool": (
        {
            "openinference.span.kind": "TOOL",
            "tool.name": "weather",
            "tool.parameters": '{"city":"Paris"}',
            "tool.id": "call_2",
            "input.value": "Paris",
            "input.mime_type": "text/plain",
            "output.value": '{"c":7}',
        },
        {"ActionType": "ExecuteToolBySDK", "ToolName": "weather", "ToolCallId": "call_2"},
        {"tool_arguments": {"tool.parameters": {"city": "Paris"}, "input.value": "Paris"}, "tool_result": {"c": 7}},
    ),
    "OpenInference, an agent": (
        {"openinference.span.kind": "AGENT", "agent.name": "researcher", "input.value": "go"},
        {"ActionType": "InvokeAgent", "AgentName": "researcher", "ActingMode": "agent"},
        {"input_messages": "go"},
    ),
    "OpenInference, a chain": (
        {"openinference.span.kind": "CHAIN", "input.value": "go"},
        {"ActionType": "Span", "OperationName": "CHAIN"},
        {"input_messages": "go"},
    ),
    "OpenInference, a retriever": (
        {"openinference.span.kind": "RETRIEVER", "retrieval.documents.0.document.content": "secret plan"},
        {"ActionType": "Retrieval"},
        {"tool_result": "secret plan"},
    ),
    "OpenInference, an embedding": (
        {
            "openinference.span.kind": "EMBEDDING",
            "embedding.model_name": "ada",
            "embedding.embeddings.0.embedding.text": "x",
        },
        {"ActionType": "Embeddings", "Model": "ada"},
        {"input_messages": "x"},
    ),
    "OpenInference, a guardrail": (
        {"openinference.span.kind": "GUARDRAIL", "input.value": "in", "output.value": "out"},
        {"ActionType": "GuardrailDecision"},
        {"guardrail_input": "in", "guardrail_output": "out"},
    ),
    "Agent 365 2.0, a model": (
        {
            **A365,
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages": json.dumps(MESSAGES),
            "microsoft.a365.agent.thought.process": "I should pay",
        },
        {**A365_COLUMNS, "ActionType": "InferenceCall"},
        {"input_messages": MESSAGES, "thought": "I should pay"},
    ),
    "Agent 365 1.0, a model": (
        {**A365, "gen_ai.operation.name": "TextCompletion"},
        {**A365_COLUMNS, "ActionType": "InferenceCall", "OperationName": "TextCompletion"},
        {},
    ),
    "Agent 365, an answer": (
        {**A365, "gen_ai.operation.name": "output_messages", "gen_ai.output.messages": '{"version":"0.1.0"}'},
        {**A365_COLUMNS, "ActionType": "OutputMessages"},
        {"output_messages": {"version": "0.1.0"}},
    ),
    "Agent 365, previews": (
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.id": "2222",
            "gen_ai.agent.applicationid": "3333",
            "gen_ai.caller.id": "u-1",
            "gen_ai.caller.upn": "griffin@zava.example",
            "gen_ai.caller.client.ip": "198.51.100.7",
            "gen_ai.caller.agent.id": "4444",
            "gen_ai.channel.name": "msteams",
            "gen_ai.tool.arguments": "{}",
            "gen_ai.event.content": "hello",
        },
        {
            "ActionType": "InvokeAgent",
            "AgentBlueprintId": "3333",
            "UserId": "u-1",
            "AccountUpn": "griffin@zava.example",
            "IPAddress": "198.51.100.7",
            "ParentAgentId": "4444",
            "ChannelName": "msteams",
        },
        {"tool_arguments": {}, "events": "hello"},
    ),
    "MCP, a list of tools": (
        {"mcp.method.name": "tools/list", "mcp.session.id": "m1", "mcp.protocol.version": "2025-11-25"},
        {"ActionType": "McpRequest", "OperationName": "tools/list", "ToolType": "mcp"},
        {},
    ),
    "MCP, a tool call": (
        {
            "mcp.method.name": "tools/call",
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "get_weather",
            "gen_ai.tool.call.arguments": {"city": "Paris"},
            "rpc.response.status_code": "-32602",
            "error.type": "-32602",
        },
        {
            "ActionType": "ExecuteToolBySDK",
            "OperationName": "execute_tool",
            "ToolName": "get_weather",
            "ToolType": "mcp",
            "ErrorCode": -32602,
            "Status": "error",
        },
        {"tool_arguments": {"city": "Paris"}},
    ),
    "MCP, names that some give": (
        {
            "mcp.method.name": "tools/call",
            "mcp.tool.name": "get_weather",
            "mcp.server.name": "weather",
            "mcp.request.argument.city": "Paris",
            "mcp.tool.result.content": "rain",
            "mcp.tool.result.content_count": 1,
        },
        {"ActionType": "McpRequest", "ToolName": "get_weather", "ServerId": "weather"},
        {"tool_arguments": "Paris", "tool_result": "rain"},
    ),
    "HTTP": (
        {"http.request.method": "POST", "url.full": "https://api.example/v1", "http.response.status_code": 503},
        {"ActionType": "Span", "HttpStatus": 503},
        {},
    ),
    "a name that nobody taught us": (
        {"acme.user_prompt": "hello", "acme.prompt": 7, "acme.tokens.output": 512, "acme.flag.input": True},
        {"ActionType": "Span"},
        {"input_messages": "hello"},
    ),
    "conventions that fill no columns": (
        {
            "ai.prompt.messages": "[]",
            "ai.response.text": "hi",
            "gcp.vertex.agent.llm_request": "{}",
            "pydantic_ai.all_messages": "[]",
            "final_result": "done",
        },
        {"ActionType": "Span"},
        {
            "input_messages": {
                "ai.prompt.messages": [],
                "gcp.vertex.agent.llm_request": {},
                "pydantic_ai.all_messages": [],
            },
            "output_messages": {"ai.response.text": "hi", "final_result": "done"},
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_convention_fills_the_columns_and_the_content_tier(case: str) -> None:
    attributes, columns, contents = CASES[case]
    row, found = mapped(span(attributes))
    assert {name: row.get(name) for name in columns} == columns
    assert found == contents


def test_a_row_tells_where_the_span_came_from_and_when() -> None:
    row, _ = mapped(span({}, parent_span_id="71300b", resource={"service.name": "billing"}, scope="sdk", kind="client"))
    assert row["ReportId"].startswith("evt_")
    assert {name: row[name] for name in row if name not in ("ReportId", "AdditionalFields")} == {
        "Timestamp": (NOW - 2 * SECOND) // 1000,
        "DurationMs": 1000.0,
        "TenantId": "acme",
        "ActionType": "Span",
        "TraceId": TRACE,
        "SpanId": SPAN,
        "ParentSpanId": "71300b",
        "AgentId": "",
        "ActingMode": "agent",
        "ServiceName": "billing",
        "SourceId": "src-billing",
        "SourceDoor": "otlp-http",
        "IPAddress": "192.0.2.1",
        "WorkerId": "receiver-1",
        "Status": "ok",
        "SchemaVersion": 1,
    }
    assert extra(row) == {
        "resource": {"service.name": "billing"},
        "scope": "sdk",
        "span": {"name": "step", "kind": "client"},
    }


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("invoke_agent Billing", "InvokeAgent"),
        ("chat gpt-5", "InferenceCall"),
        ("execute_tool x", "ExecuteToolBySDK"),
        ("apply_guardrail g tool_call", "GuardrailDecision"),
        ("POST /v1", "Span"),
        ("", "Span"),
    ],
)
def test_a_span_without_attributes_is_known_by_the_first_word_of_its_name(name: str, action: str) -> None:
    assert mapped(span({}, name))[0]["ActionType"] == action


# -- who acted ----------------------------------------------------------------------------------------------------

USER = {"user.id": "u-1", "user.email": "griffin@zava.example"}


@pytest.mark.parametrize(
    ("attributes", "mode", "user"),
    [
        ({}, "agent", None),
        (USER, "on-behalf-of", "u-1"),
        ({"user.email": "griffin@zava.example"}, "on-behalf-of", None),
        ({**USER, "microsoft.a365.caller.agent.id": "4444"}, "agent", "u-1"),
        ({**USER, "microsoft.agent.user.id": "au-1"}, "agent", "au-1"),
        ({"microsoft.agent.user.id": "au-1"}, "agent", "au-1"),
        ({**USER, "microsoft.a365.agent.blueprint.id": ZERO}, "human", "u-1"),
        (
            {**USER, "microsoft.a365.caller.agent.blueprint.id": ZERO, "microsoft.a365.caller.agent.id": "x"},
            "human",
            "u-1",
        ),
        ({**USER, "gen_ai.execution.type": "HumanToAgent"}, "human", "u-1"),
        ({**USER, "gen_ai.execution.type": "EventToAgent"}, "on-behalf-of", "u-1"),
        ({"microsoft.a365.agent.blueprint.id": "3333"}, "agent", None),
    ],
)
def test_the_acting_mode_says_who_acted_for_whom(attributes: dict[str, Any], mode: str, user: str | None) -> None:
    row, _ = mapped(span({"gen_ai.operation.name": "chat", **attributes}))
    assert (row["ActingMode"], row.get("UserId")) == (mode, user)


def test_an_agents_own_user_is_named_with_its_own_address() -> None:
    row, _ = mapped(span({**USER, "microsoft.agent.user.id": "au-1", "microsoft.agent.user.email": "bot@zava.example"}))
    assert row["AccountUpn"] == "bot@zava.example"
    assert extra(row)["attributes"]["user.email"] == "griffin@zava.example"


def test_an_agent_that_invokes_another_hands_over_to_it() -> None:
    target = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.id": "refunds",
        "gen_ai.agent.name": "Refunds",
        "gen_ai.agent.version": "2",
    }
    for sender, resource in (
        (SENDER, {"gen_ai.agent.id": "triage", "gen_ai.agent.name": "Triage"}),
        (Sender("acme", "s", "a365", "192.0.2.1", "w", agent_id="triage"), {"gen_ai.agent.name": "Triage"}),
    ):
        row, _ = mapped(span(target, resource=resource), sender)
        assert (row["AgentId"], row["AgentName"]) == ("triage", "Triage")
        assert (row["TargetAgentId"], row["TargetAgentName"]) == ("refunds", "Refunds")
        assert "AgentVersion" not in row
        assert extra(row)["attributes"]["gen_ai.agent.version"] == "2"


def test_a_persons_prompt_to_another_agent_is_the_persons() -> None:
    of = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.id": "b", "microsoft.a365.agent.blueprint.id": ZERO}
    assert mapped(span(of, resource={"gen_ai.agent.id": "a"}))[0]["ActingMode"] == "human"


def test_an_agent_that_tells_of_itself_hands_over_to_nobody() -> None:
    own = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.id": "triage", "gen_ai.agent.name": "Triage"}
    row, _ = mapped(span(own, resource={"gen_ai.agent.id": "triage"}))
    assert (row["AgentId"], row["AgentName"]) == ("triage", "Triage")
    assert "TargetAgentId" not in row


def test_what_a_program_says_of_its_own_agent_is_not_said_of_the_one_that_is_called() -> None:
    program = {"gen_ai.agent.id": "billing", "gen_ai.agent.version": "1.4", "gen_ai.agent.name": "Billing"}
    called = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.id": "refunds", "gen_ai.agent.name": "Refunds"}
    row, _ = mapped(span(called, resource=program))
    assert (row["AgentId"], row["AgentName"], row["AgentVersion"]) == ("billing", "Billing", "1.4")
    assert (row["TargetAgentId"], row["TargetAgentName"]) == ("refunds", "Refunds")


@pytest.mark.parametrize(
    ("attributes", "column", "told"),
    [
        ({"gen_ai.tool.name": "pay"}, "pay", None),
        ({"gen_ai.tool.name": "pay", "tool.name": "pay2"}, "pay", {"gen_ai.tool.name": "pay", "tool.name": "pay2"}),
        ({"tool.name": "pay2", "gen_ai.tool.name": "pay"}, "pay", {"gen_ai.tool.name": "pay", "tool.name": "pay2"}),
        ({"gen_ai.tool.name": "", "tool.name": "pay2"}, "pay2", {"gen_ai.tool.name": "", "tool.name": "pay2"}),
        ({"gen_ai.tool.name": 7}, "7", {"gen_ai.tool.name": 7}),
    ],
)
def test_an_attribute_is_left_out_only_where_its_own_column_says_all_of_it(
    attributes: dict[str, Any], column: str, told: dict[str, Any] | None
) -> None:
    row, _ = mapped(span(attributes))
    assert row["ToolName"] == column
    assert extra(row).get("attributes") == told


@pytest.mark.parametrize(("sent", "stored"), [(5, 5), ("5", 5), (5.0, 5), (2**64, None), ("many", None), (True, None)])
def test_a_column_of_numbers_holds_numbers_only(sent: Any, stored: int | None) -> None:
    row, _ = mapped(span({"gen_ai.usage.input_tokens": sent}))
    assert row.get("InputTokens") == stored
    assert ("attributes" in extra(row)) == (sent is not stored)


def test_a_step_that_is_no_invocation_is_of_the_agent_that_it_names() -> None:
    sender = Sender("acme", "s", "a365", "192.0.2.1", "w", agent_id="triage")
    assert mapped(span({"gen_ai.operation.name": "chat"}), sender)[0]["AgentId"] == "triage"
    assert mapped(span({"gen_ai.operation.name": "chat", "gen_ai.agent.id": "other"}), sender)[0]["AgentId"] == "other"


def test_a_conversation_that_was_handed_over_names_both() -> None:
    parent, child = "11111111-2222-4333-8444-555555555555", "66666666-7777-4888-9999-000000000000"
    row, _ = mapped(span({"gen_ai.conversation.id": f"{parent}_{child}"}))
    assert row["ConversationId"] == f"{parent}_{child}"
    assert extra(row)["handoff"] == {"parent": parent, "child": child}
    assert "handoff" not in extra(mapped(span({"gen_ai.conversation.id": "conv_5j66Up"}))[0])


# -- decisions of guardians ---------------------------------------------------------------------------------------


def decision(kind: str, events: list[SpanEvent] | None = None, **others: Any) -> dict[str, Any]:
    attributes = {
        "gen_ai.operation.name": "apply_guardrail",
        "microsoft.security.decision.type": kind,
        "microsoft.security.decision.code": "E42",
        "microsoft.security.decision.reason": "prompt injection",
        "microsoft.security.target.type": "tool_call",
        "microsoft.security.target.id": "call_1",
        "microsoft.security.policy.id": "P1",
        "microsoft.security.policy.version": "3",
        "microsoft.guardian.name": "agentsoc",
        **others,
    }
    return mapped(span(attributes, events=events or []))[0]


def finding(severity: str, score: float | None = None, **others: Any) -> SpanEvent:
    attributes: dict[str, Any] = {
        "microsoft.security.risk.category": f"c-{severity}",
        "microsoft.security.risk.severity": severity,
    }
    if score is not None:
        attributes["microsoft.security.risk.score"] = score
    return SpanEvent("microsoft.security.finding", NOW, {**attributes, **others})


@pytest.mark.parametrize(
    ("kind", "verdict", "would_be", "mode"),
    [
        ("allow", "allow", "allow", "enforce"),
        ("audit", "allow", "block", "audit"),
        ("deny", "block", "block", "enforce"),
        ("modify", "redact", "redact", "enforce"),
        ("warn", "allow", "allow", "audit"),
    ],
)
def test_a_guardians_decision_is_a_verdict(kind: str, verdict: str, would_be: str, mode: str) -> None:
    row = decision(kind)
    assert (row["ActionType"], row["Verdict"], row["WouldBe"]) == ("GuardrailDecision", verdict, would_be)
    assert (row["ReasonCode"], row["PolicyId"], row["PolicyVersion"]) == ("E42", "P1", 3)
    assert (row["GuardianName"], row["DecisionTarget"], row["ToolCallId"]) == ("agentsoc", "tool_call", "call_1")
    (reason,) = json.loads(row["Reasons"])
    assert reason == {
        "code": "E42",
        "step": "guardrail",
        "effect": would_be,
        "mode": mode,
        "severity": "",
        "message": "prompt injection",
        "policy_id": "P1",
        "policy_version": 3,
    }
    assert row["Status"] == "ok"


def test_an_unknown_decision_is_no_verdict() -> None:
    row = decision("shrug")
    assert "Verdict" not in row
    assert "WouldBe" not in row
    assert extra(row)["attributes"]["microsoft.security.decision.type"] == "shrug"


def test_the_gravest_finding_is_the_risk_and_all_are_signals() -> None:
    row = decision("deny", [finding("low", 0.99), finding("high", 0.5), finding("high", 0.93), finding("weird", 1)])
    assert (row["RiskCategory"], row["RiskSeverity"], row["RiskScore"]) == ("c-high", "high", 0.93)
    assert [s["category"] for s in json.loads(row["Signals"])] == ["c-low", "c-high", "c-high", "c-weird"]
    assert json.loads(row["Reasons"])[0]["severity"] == "high"


def test_a_policy_that_wanted_more_than_was_decided_shows_in_what_would_have_been() -> None:
    wanted = {"microsoft.security.policy.decision.type": "deny"}
    assert decision("warn", [finding("high", **wanted)])["WouldBe"] == "block"
    assert decision("warn", [finding("high")])["WouldBe"] == "allow"


def test_the_proposed_names_of_opentelemetry_mean_the_same() -> None:
    event = SpanEvent("gen_ai.security.finding", NOW, {"gen_ai.security.risk.category": "pii"})
    row, contents = mapped(
        span(
            {
                "gen_ai.operation.name": "apply_guardrail",
                "gen_ai.security.decision.type": "modify",
                "gen_ai.security.content.output.value": "[x]",
            },
            events=[event],
        )
    )
    assert (row["Verdict"], row["RiskCategory"]) == ("redact", "pii")
    assert contents == {"guardrail_output": "[x]"}


# -- status -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        ("unset", None, "ok"),
        ("ok", None, "ok"),
        ("error", None, "error"),
        ("unset", "tool_error", "error"),
        ("error", "TaskCanceledException", "cancelled"),
        ("error", "asyncio.exceptions.CancelledError", "cancelled"),
        ("error", "System.TimeoutException", "timeout"),
    ],
)
def test_the_status_is_that_of_the_span_or_of_its_error(status: str, error: str | None, outcome: str) -> None:
    row, _ = mapped(span({} if error is None else {"error.type": error}, status=status))
    assert row["Status"] == outcome


def test_a_failed_spans_exception_is_its_error_and_its_stack_trace_is_dropped() -> None:
    trace = (
        'Traceback (most recent call last):\n  File "/app/x.py", line 1, in run\n    pay()\nValueError: bad /app/y.py'
    )
    events = [
        SpanEvent("exception", NOW, {"exception.type": "ValueError", "exception.stacktrace": trace}),
        SpanEvent("note", NOW, {"a": 1}),
    ]
    row, contents = mapped(span({}, status="error", status_message=f"failed\n{trace}", events=events))
    assert row["ErrorType"] == "ValueError"
    first, second = extra(row)["events"]
    assert first["attributes"] == {
        "exception.type": "ValueError",
        "exception.stacktrace": f"[dropped: {len(trace)} characters]",
        "exception.message": "ValueError: bad <path>/y.py",
    }
    assert second == {"name": "note", "time": NOW, "attributes": {"a": 1}}
    assert extra(row)["span"]["message"] == "failed\nValueError: bad <path>/y.py"
    assert contents == {}


# -- times --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, NOW),
        (-5, NOW),
        (NOW, NOW - 1),
        (NOW, 0),
        (NOW + 86_400 * SECOND + 1, NOW + 86_400 * SECOND + 2),
        (NOW, 2**80),
        (-(2**80), NOW),
    ],
)
def test_impossible_times_are_replaced_by_the_time_of_receipt_and_kept(start: int, end: int) -> None:
    row, _ = mapped(Span(TRACE, SPAN, "x", start, end))
    assert row["Timestamp"] == NOW // 1000
    assert "DurationMs" not in row
    told = extra(row)["clock"]
    assert [int(v, 16) if isinstance(v, str) else v for v in (told["start"], told["end"])] == [start, end]


@pytest.mark.parametrize(("start", "end"), [(NOW, NOW), (1, NOW), (NOW + SECOND, NOW + 86_400 * SECOND)])
def test_possible_times_are_taken_as_they_are(start: int, end: int) -> None:
    row, _ = mapped(Span(TRACE, SPAN, "x", start, end))
    assert (row["Timestamp"], row["DurationMs"]) == (start // 1000, (end - start) / 1e6)
    assert "clock" not in extra(row)


# -- events, links, limits ----------------------------------------------------------------------------------------


def test_events_that_are_messages_go_to_the_content_tier_and_say_which_they_were() -> None:
    events = [
        SpanEvent("retry", NOW, {"attempt": 2}),
        SpanEvent("gen_ai.user.message", NOW + 1, {"content": "hello", "role": "user"}),
        SpanEvent("gen_ai.client.inference.operation.details", NOW + 2, {"gen_ai.input.messages": "[1]", "n": 1}),
    ]
    row, contents = mapped(
        span({}, events=events, links=[{"traceId": "t", "attributes": {"gen_ai.prompt": "p", "x": 1}}])
    )
    assert extra(row)["events"] == [
        {"name": "retry", "time": NOW, "attributes": {"attempt": 2}},
        {"name": "gen_ai.user.message", "time": NOW + 1, "attributes": {}},
        {"name": "gen_ai.client.inference.operation.details", "time": NOW + 2, "attributes": {"n": 1}},
    ]
    assert extra(row)["span"]["links"] == [{"traceId": "t", "attributes": {"x": 1}}]
    assert contents["events"]["span.links"] == [{"index": 0, "attributes": {"gen_ai.prompt": "p"}}]
    assert [(e["index"], e["attributes"]) for e in contents["events"]["span.events"]] == [
        (1, {"content": "hello", "role": "user"}),
        (2, {"gen_ai.input.messages": [1]}),
    ]


def test_too_many_attributes_are_dropped_and_counted_but_those_with_a_column_are_not() -> None:
    junk = {f"junk.{i}": i for i in range(400)}
    events = [SpanEvent("e", NOW, junk)] * 300
    row, _ = mapped(span({**junk, "gen_ai.conversation.id": "c", "user.id": "u"}, resource=junk, events=events))
    told = extra(row)
    assert (row["ConversationId"], row["UserId"]) == ("c", "u")
    assert len(told["attributes"]) == len(told["resource"]) == len(told["events"]) == mapping.MAX_ATTRIBUTES
    assert told["dropped"] == {
        "resource": 144,
        "events": 44,
        "attributes": 145,
        "attributes of events": 144 * mapping.MAX_ATTRIBUTES,
    }
    again, _ = mapped(span({}, resource=junk))
    assert extra(again)["dropped"] == {"resource": 144}


def test_a_secret_is_masked_wherever_it_stands() -> None:
    of = span(
        {
            "a": TOKEN,
            TOKEN: "b",
            "gen_ai.prompt": TOKEN,
            "gen_ai.agent.name": TOKEN,
            "user.id": TOKEN,
            "db": {"x": [TOKEN]},
        },
        name=TOKEN,
        resource={"r": TOKEN, "gen_ai.system_instructions": TOKEN},
        scope=TOKEN,
        status_message=TOKEN,
        events=[SpanEvent(TOKEN, NOW, {"x": TOKEN}), SpanEvent("gen_ai.choice", NOW, {"x": TOKEN})],
        links=[{"traceId": TOKEN, "attributes": {"x": TOKEN, "gen_ai.prompt": TOKEN}}],
    )
    found = mapping.rows(of, SENDER, NOW)
    assert "a1B2c3D4e5" not in json.dumps(found)
    assert json.dumps(found).count("[github_token]") >= 14
    reject = Reject("resourceSpans[0]", f"no span: {TOKEN}", {"a": TOKEN}, TOKEN, TOKEN)
    assert "a1B2c3D4e5" not in json.dumps(mapping.reject_rows(reject, SENDER, NOW))


def test_names_that_masking_makes_the_same_keep_their_values() -> None:
    other = TOKEN[:-1] + "9"
    row, contents = mapped(span({TOKEN: 1, other: 2, f"gen_ai.prompt.{TOKEN}": "a", f"gen_ai.prompt.{other}": "b"}))
    assert extra(row)["attributes"] == {"[github_token]": 1, "[github_token] [2]": 2}
    assert list(contents["input_messages"].values()) == ["a", "b"]


@pytest.mark.parametrize("name", ["http.request.header.authorization", "http.request.header.Cookie", "acme.api_key"])
def test_an_attribute_whose_name_says_secret_is_masked(name: str) -> None:
    kept = extra(mapped(span({"acme.word": "hunter2", name: "hunter2"}))[0])["attributes"]
    assert kept == {"acme.word": "hunter2", name: "[masked]"}


def test_attributes_that_count_tokens_are_not_taken_for_secrets() -> None:
    attributes = {"gen_ai.usage.cache_read.input_tokens": 5, "gen_ai.token.type": "input", "token.count": 9}
    assert extra(mapped(span(attributes))[0])["attributes"] == attributes


# -- rejects ------------------------------------------------------------------------------------------------------


def test_what_is_no_span_is_quarantined_with_its_original() -> None:
    reject = Reject("resourceSpans[0].scopeSpans[0].spans[3]", "traceId is missing", {"name": "x"}, "", "ed27", 12)
    row, content = mapping.reject_rows(reject, SENDER, NOW)
    assert ROWS["TelemetryRejects"].fault(row) == ""
    assert ROWS["AgentContent"].fault(content) == ""
    assert row.pop("ReportId") == content.pop("ReportId")
    common = {"Timestamp": NOW // 1000, "TenantId": "acme", "TraceId": "", "SpanId": "ed27"}
    assert row == {
        **common,
        "SourceId": "src-billing",
        "SourceDoor": "otlp-http",
        "Place": "resourceSpans[0].scopeSpans[0].spans[3]",
        "Reason": "traceId is missing",
        "SizeBytes": 12,
        "IPAddress": "192.0.2.1",
    }
    assert content == {**common, "Kind": "rejected", "Content": '{"name":"x"}'}


# -- laws ---------------------------------------------------------------------------------------------------------

TEXT = st.text(max_size=20) | st.sampled_from(
    [
        "chat",
        "AGENT",
        "tools/call",
        ZERO,
        "HumanToAgent",
        '{"a":[1,{"b":"c"}]}',
        "7",
        "deny",
        TOKEN,
        "/home/x/y",
        "\ud800",
    ]
)
PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXT
VALUES = PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(max_size=5), PLAIN, max_size=3)
KNOWN = sorted({*conventions.FILLS, *conventions.NO_CONTENTS, *(n for ns in conventions.CONTENTS.values() for n in ns)})
NAMES = st.sampled_from(KNOWN) | st.sampled_from(KNOWN).map(lambda n: f"{n}.0.content") | st.text(max_size=12)
ATTRIBUTES = st.dictionaries(NAMES, VALUES, max_size=12)
EVENT_NAMES = st.sampled_from(["exception", "microsoft.security.finding", *conventions.CONTENT_EVENTS]) | TEXT
EVENTS = st.lists(st.builds(SpanEvent, EVENT_NAMES, st.integers(), ATTRIBUTES), max_size=3)
SPANS = st.builds(
    Span,
    st.just(TRACE),
    st.just(SPAN),
    TEXT,
    st.integers() | st.just(NOW),
    st.integers() | st.just(NOW),
    kind=st.just("internal"),
    attributes=ATTRIBUTES,
    resource=ATTRIBUTES,
    scope=TEXT,
    status=st.sampled_from(["unset", "ok", "error"]),
    status_message=TEXT,
    events=EVENTS,
    links=st.lists(st.fixed_dictionaries({"traceId": TEXT, "attributes": ATTRIBUTES | VALUES}), max_size=2),
)


def is_content(name: str, value: Any, *, of_program: bool = False) -> bool:
    place = conventions.place(name)
    is_plain = value is None or isinstance(value, bool | int | float)
    return bool(place.kind) and not (place.is_guess and (of_program or is_plain))


def expected(attributes: Mapping[str, Any], *, of_program: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes after redaction: metadata and contents."""
    told, held = {}, {}
    for name, value in attributes.items():
        kept = redact.text(name)
        if is_content(name, value, of_program=of_program):
            held[kept] = json.loads(redact.content(value))
        else:
            told[kept] = redact.metadata(value, conventions.place(name).care)
    return told, held


def rebuilt(row: Mapping[str, Any], contents: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes and contents of the span, from its rows alone."""
    whole = extra(row)
    told, resource = dict(whole.get("attributes", {})), whole.get("resource", {})
    for column, owner in conventions.OWN.items():
        names = conventions.ORDERS[column]
        if column in row and not any(of.get(name) not in (None, "") for name in names for of in (told, resource)):
            if column == "ToolCallId" and row.get("DecisionTarget") == "tool_call" and named(told, "decided on"):
                continue
            if column in ("ToolName", "AgentName") and "traceloop.entity.name" in told:
                continue
            if column == "ToolType" and row[column] == "mcp" and named({**told, "": row}, "mcp"):
                continue
            told[owner] = row[column]
    held = {}
    for kind, names in whole.get("contents", {}).items():
        values = {names[0]: contents[kind]} if len(names) == 1 else contents[kind]
        held.update(values)
    return told, held


def named(told: Mapping[str, Any], role: str) -> bool:
    return any(name in told for name in conventions.ORDERS.get(role, ("mcp.method.name",)))


@pytest.mark.parametrize("case", CASES)
def test_the_attributes_of_each_convention_can_be_put_together_again(case: str) -> None:
    attributes = CASES[case][0]
    assert rebuilt(*mapped(span(attributes))) == expected(attributes)


@settings(deadline=None, max_examples=150)
@given(SPANS)
def test_nothing_that_a_span_says_is_lost_between_the_two_tables(of: Span) -> None:
    row, contents = mapped(of)
    told, held = rebuilt(row, contents)
    told_first, held_first = expected(of.attributes)
    assert told == told_first
    program, held_by_program = expected(of.resource, of_program=True)
    assert extra(row).get("resource", {}) == program
    parts = {name: held.pop(name, []) for name in ("span.events", "span.links")}
    assert held == {**held_first, **{f"resource.{name}": value for name, value in held_by_program.items()}}
    for index, event in enumerate(of.events):
        metadata, content = expected(event.attributes)
        kept = extra(row)["events"][index]
        assert kept["name"] == redact.text(event.name)
        found = [p["attributes"] for p in parts["span.events"] if p["index"] == index]
        if event.name in conventions.CONTENT_EVENTS:
            assert kept["attributes"] == {}
            assert set(found[0] if found else {}) == {redact.text(name) for name in event.attributes}
        else:
            assert metadata.items() <= kept["attributes"].items()
            assert set(found[0] if found else {}) == set(content)


@settings(deadline=None, max_examples=150)
@given(SPANS)
def test_no_content_stands_among_the_metadata(of: Span) -> None:
    row, _ = mapped(of)
    whole = extra(row)
    assert whole.get("attributes", {}).keys().isdisjoint(expected(of.attributes)[1])
    assert whole.get("resource", {}).keys().isdisjoint(expected(of.resource, of_program=True)[1])
    for event, kept in zip(of.events, whole.get("events", ()), strict=True):
        assert kept["attributes"].keys().isdisjoint(expected(event.attributes)[1])
    for link, kept in zip(of.links, whole["span"].get("links", ()), strict=True):
        if isinstance(link["attributes"], dict) and isinstance(kept.get("attributes"), dict):
            assert kept["attributes"].keys().isdisjoint(expected(link["attributes"])[1])


@settings(deadline=None)
@given(
    st.sampled_from(sorted(n for ns in conventions.CONTENTS.values() for n in ns)), st.sampled_from(["", ".0", ".a.b"])
)
def test_no_column_holds_what_a_content_attribute_says(name: str, below: str) -> None:
    marker = new_id("mark")
    for value in (marker, [marker], {"x": marker}, f'{{"x":"{marker}"}}'):
        found = mapping.rows(span({"gen_ai.operation.name": "chat", name + below: value}), SENDER, NOW)
        assert marker not in json.dumps(found.activity)
        assert marker in json.dumps(found.contents)


def test_every_name_stands_in_one_tier_only() -> None:
    for name in conventions.FILLS:
        assert conventions.place(name).kind == ""
    for kind, names in conventions.CONTENTS.items():
        for name in names:
            assert conventions.place(name).kind == conventions.place(f"{name}.0.content").kind == kind
    columns = {column.name: column.type for column in TABLES["AgentActivity"].columns}
    assert {columns[c] for c in conventions.NUMBERS} == {"long"}
    assert {columns[c] for c in conventions.COLUMNS if c not in conventions.NUMBERS} == {"string"}


def test_a_title_is_no_operation_and_the_conventions_own_words_are() -> None:
    for name, action in (("Agent Workflow", "Span"), ("Chat with us", "Span"), ("chat gpt-5", "InferenceCall")):
        assert mapped(span(name=name))[0]["ActionType"] == action


def test_the_id_of_a_run_is_taken_for_no_agent() -> None:
    attributes = {"gen_ai.agent.id": "0198f1de-run"}
    found, _ = mapped(span(attributes, scope="opentelemetry.instrumentation.langchain"))
    assert found["AgentId"] == ""
    assert "0198f1de-run" in found["AdditionalFields"]
    assert mapped(span(attributes))[0]["AgentId"] == "0198f1de-run"
