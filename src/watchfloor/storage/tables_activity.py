"""What agents did: the tables that the gateway and the telemetry doors fill.

Column names follow Microsoft's where a column of theirs exists.
"""

from __future__ import annotations

from typing import Final

from watchfloor.storage.table_shape import COMMON, Column, Table

AGENT_ACTIVITY: Final = Table(
    "AgentActivity",
    "One row for each observed step of an agent. Message contents are in AgentContent.",
    (
        *COMMON,
        Column(
            "ActionType",
            "string",
            "Seen by the gateway: ToolCallDecided, ToolResultDecided, ToolCallCompleted, ContentDecided, "
            "ToolListServed, RequestRefused, ToolChanged, ToolFlagged; EnforcementProof, asked by the control plane. "
            "Of held calls: HoldCreated, HoldEndorsed, HoldApproved, HoldDeclined, HoldRevoked, HoldExpired, HoldUsed, "
            "HoldLimited, HoldDelegated, HoldDelegationEnded. "
            "Told by agents: InvokeAgent, InferenceCall, ExecuteToolBySDK, GuardrailDecision, OutputMessages, "
            "Retrieval, Embeddings, CreateAgent, McpRequest, Span.",
        ),
        Column("InvocationId", "string", "The attempt to call a tool (inv_…); joins decision and completion."),
        Column("TraceId", "string", "W3C trace id, where the caller sent one."),
        Column("SpanId", "string", "Id of the span that told of it."),
        Column("ParentSpanId", "string", "Span of the step that this one is part of."),
        Column("ConversationId", "string", "The user-agent thread."),
        Column("SessionId", "string", "The sign-in session."),
        Column("AgentId", "string", "The agent."),
        Column("AgentName", "string", "Its name at the time."),
        Column("AgentVersion", "string", "Its version at the time."),
        Column("AgentBlueprintId", "string", "The blueprint that it was made from."),
        Column("ParentAgentId", "string", "The agent that handed over to this one."),
        Column("TargetAgentId", "string", "The agent that it handed over to."),
        Column("TargetAgentName", "string", "Its name."),
        Column("UserId", "string", "The user on whose behalf it acted; empty when it acted as itself."),
        Column("AccountUpn", "string", "The user's principal name."),
        Column("ActingMode", "string", "human, agent or on-behalf-of."),
        Column("CredentialOwner", "string", "Whose credentials the tool saw: user, maker or app."),
        Column("ServerId", "string", "The tool server."),
        Column("ToolName", "string", "The tool."),
        Column("ToolEffect", "string", "read, create, update, delete, send, pay or unknown."),
        Column("Verdict", "string", "What was enforced: allow, redact, hold or block."),
        Column("WouldBe", "string", "What would have been, had every policy been enforced."),
        Column("ReasonCode", "string", "Code of the deciding reason."),
        Column("Reasons", "dynamic", "Every reason: code, step, effect, mode, severity, message, policy and version."),
        Column("Signals", "dynamic", "What the detectors saw."),
        Column("PolicyId", "string", "The deciding policy."),
        Column("PolicyVersion", "long", "Its version."),
        Column("PolicySet", "string", "Hash of all policies in force."),
        Column("InputHash", "string", "SHA-256 of everything that was decided on."),
        Column("Facts", "dynamic", "The facts that the decision used, for replay."),
        Column("OperationName", "string", "What the span calls itself: chat, execute_tool, invoke_agent, …"),
        Column("Model", "string", "The model that answered, or was asked for."),
        Column("Provider", "string", "Whose model it is."),
        Column("InputTokens", "long", "Tokens that went into the model."),
        Column("OutputTokens", "long", "Tokens that came out of it."),
        Column(
            "ToolCallId",
            "string",
            "The model's id of a tool call; joins the call with the inference that asked for it.",
        ),
        Column("ToolType", "string", "function, extension, datastore or mcp."),
        Column("GuardianName", "string", "Who took a guardrail decision that an agent told of."),
        Column("DecisionTarget", "string", "What it was about: llm_input, llm_output, tool_call, message, …"),
        Column("RiskCategory", "string", "Category of the gravest finding behind it."),
        Column("RiskSeverity", "string", "Its severity: none, low, medium, high or critical."),
        Column("RiskScore", "real", "Its score, 0 to 1."),
        Column("ChannelName", "string", "Where the conversation takes place: msteams, web, …"),
        Column("ServiceName", "string", "The program that told of it."),
        Column("ServerAddress", "string", "Host and port that were called."),
        Column("ErrorType", "string", "The error's class, if it failed."),
        Column("SourceId", "string", "The telemetry source that told of it; empty for what the gateway saw itself."),
        Column("IPAddress", "string", "The caller's address."),
        Column(
            "SourceDoor",
            "string",
            "The door: mcp, stdio, decide, a365, otlp-http, otlp-json, otlp-grpc, events; holds: what operators did.",
        ),
        Column("Status", "string", "ok, error, cancelled, refused or timeout."),
        Column("HttpStatus", "long", "The tool server's HTTP status."),
        Column("ErrorCode", "long", "JSON-RPC error code, if any."),
        Column("DurationMs", "real", "Milliseconds from request to end of answer."),
        Column("DecisionUs", "real", "Microseconds that the guard took."),
        Column("BytesOut", "long", "Size of the answer."),
        Column("HoldId", "string", "The hold that this call waits for or was released by, or that the row tells of."),
        Column("WorkerId", "string", "The gateway worker."),
        Column("SchemaVersion", "long", "Version of this row's shape."),
        Column("AdditionalFields", "dynamic", "Anything else."),
    ),
)

AGENT_CONTENT: Final = Table(
    "AgentContent",
    "Message contents: arguments of calls, prompts, answers. Kept apart, with their own permission and retention.",
    (
        *COMMON,
        Column("InvocationId", "string", "The attempt to call a tool."),
        Column("TraceId", "string", "The trace of the step that said it."),
        Column("SpanId", "string", "The step's span."),
        Column("ConversationId", "string", "The user-agent thread."),
        Column("AgentId", "string", "The agent."),
        Column(
            "Kind",
            "string",
            "invocation: as decided on. Of spans: input_messages, output_messages, system_instructions, "
            "tool_arguments, tool_result, tool_definitions, thought, guardrail_input, guardrail_output, events, "
            "rejected.",
        ),
        Column("Content", "dynamic", "The content."),
    ),
    is_content=True,
)


TELEMETRY_REJECTS: Final = Table(
    "TelemetryRejects",
    "One row for each span or event that a door could not take; its original is in AgentContent (Kind rejected).",
    (
        *COMMON,
        Column("SourceId", "string", "The telemetry source that sent it."),
        Column("SourceDoor", "string", "The door that refused it."),
        Column("TraceId", "string", "Its trace, as far as it could be read."),
        Column("SpanId", "string", "Its span, as far as it could be read."),
        Column("Place", "string", "Where in the request it stood."),
        Column("Reason", "string", "Why it was refused, and what to mend."),
        Column("SizeBytes", "long", "Size of the original."),
        Column("IPAddress", "string", "The sender's address."),
    ),
)

PIPELINE_HEALTH: Final = Table(
    "PipelineHealth",
    "How each telemetry source fares: one row for each source, door and period in which something came.",
    (
        *COMMON,
        Column("SourceId", "string", "The telemetry source."),
        Column("SourceDoor", "string", "The door."),
        Column("PeriodSeconds", "real", "Length of the period that ends at Timestamp."),
        Column("Requests", "long", "Requests that were taken."),
        Column("Received", "long", "Spans and events in them."),
        Column("Stored", "long", "Of these, stored."),
        Column("Duplicates", "long", "Of these, stored before."),
        Column("Rejected", "long", "Of these, quarantined (TelemetryRejects)."),
        Column("Throttled", "long", "Requests that were sent away for a while."),
        Column("Bytes", "long", "Size of what came, as sent."),
        Column("LastEventTime", "datetime", "Newest time of an event in the period."),
        Column("LagSeconds", "real", "Longest time from an event's end to its being stored."),
        Column("WorkerId", "string", "The receiver."),
    ),
)
