"""What attributes are called, by whom, and where each belongs: conventions as data.

Agents tell of the same things under different names: OpenTelemetry's conventions for generative AI, today's and the old
ones, Agent 365 (1.0 and 2.0, and the previews before), OpenInference, Traceloop, MCP. The tables here say which names
fill a column, in order of preference, and which hold contents; ``place`` answers it for one name. ``mapping`` reads
them. Nothing here looks at a value.

To teach a new name: a word in ``COLUMNS`` or ``CONTENTS``, and a line in the test's table.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "OperationName": (
        "gen_ai.operation.name",
        "openinference.span.kind",
        "traceloop.span.kind",
        "llm.request.type",
        "mcp.method.name",
    ),
    "ConversationId": (
        "gen_ai.conversation.id",
        "gen_ai.thread.id",
        "session.id",
        "traceloop.association.properties.session_id",
    ),
    "SessionId": ("microsoft.session.id", "session.id"),
    "AgentName": ("gen_ai.agent.name", "agent.name"),
    "AgentVersion": ("gen_ai.agent.version",),
    "AgentBlueprintId": ("microsoft.a365.agent.blueprint.id", "gen_ai.agent.applicationid"),
    "ParentAgentId": ("microsoft.a365.caller.agent.id", "gen_ai.caller.agent.id"),
    "TargetAgentName": ("gen_ai.handoff.to_agent",),
    "ServerId": ("gen_ai.tool.server.name", "mcp.server.name"),
    "ToolName": ("gen_ai.tool.name", "mcp.tool.name", "tool.name"),
    "ToolCallId": ("gen_ai.tool.call.id", "tool.id", "tool_call.id"),
    "ToolType": ("gen_ai.tool.type",),
    "Model": (
        "gen_ai.response.model",
        "gen_ai.request.model",
        "llm.model_name",
        "llm.response.model_name",
        "llm.request.model_name",
        "llm.request.model",
        "embedding.model_name",
        "reranker.model_name",
    ),
    "Provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "llm.vendor"),
    "InputTokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "llm.usage.prompt_tokens",
    ),
    "OutputTokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "llm.usage.completion_tokens",
    ),
    "ReasonCode": ("microsoft.security.decision.code", "gen_ai.security.decision.code"),
    "PolicyId": ("microsoft.security.policy.id", "gen_ai.security.policy.id"),
    "PolicyVersion": ("microsoft.security.policy.version", "gen_ai.security.policy.version"),
    "GuardianName": ("microsoft.guardian.name", "gen_ai.guardian.name", "gen_ai.guardrail.name"),
    "DecisionTarget": ("microsoft.security.target.type", "gen_ai.security.target.type"),
    "ChannelName": ("microsoft.channel.name", "gen_ai.channel.name"),
    "HttpStatus": ("http.response.status_code", "http.status_code"),
    "ErrorCode": ("rpc.response.status_code", "rpc.jsonrpc.error_code"),
}
"""Columns that hold what an attribute says, and the attribute's names, the best first. Columns that take thought (who
acted, for whom, with which outcome) are worked out in ``mapping``."""

NUMBERS: Final = frozenset({"InputTokens", "OutputTokens", "PolicyVersion", "HttpStatus", "ErrorCode"})
"""Those of ``COLUMNS`` that hold whole numbers."""

OF_RESOURCES: Final = frozenset({"AgentName", "AgentVersion", "AgentBlueprintId", "ChannelName"})
"""Those of ``COLUMNS`` that the program which tells of a span may say once for all its spans."""

ROLES: Final[dict[str, tuple[str, ...]]] = {
    "agent": ("gen_ai.agent.id",),
    "caller's blueprint": ("microsoft.a365.caller.agent.blueprint.id",),
    "user": (
        "user.id",
        "enduser.id",
        "gen_ai.caller.id",
        "gen_ai.caller.userid",
        "gen_ai.user",
        "llm.user",
        "traceloop.association.properties.user_id",
    ),
    "user upn": ("user.email", "gen_ai.caller.upn"),
    "agent's user": ("microsoft.agent.user.id", "gen_ai.agent.user.id", "gen_ai.agent.userid"),
    "agent's user upn": ("microsoft.agent.user.email", "gen_ai.agent.upn"),
    "execution": ("gen_ai.execution.type",),
    "entity": ("traceloop.entity.name",),
    "entity kind": ("traceloop.span.kind",),
    "client": ("client.address", "gen_ai.caller.client.ip"),
    "server": ("server.address", "net.peer.name"),
    "server port": ("server.port", "net.peer.port"),
    "service": ("service.name",),
    "error": ("error.type", "gen_ai.guardrail.error.type"),
    "exception": ("exception.type",),
    "decision": ("microsoft.security.decision.type", "gen_ai.security.decision.type", "gen_ai.guardrail.status"),
    "decision reason": ("microsoft.security.decision.reason", "gen_ai.security.decision.reason"),
    "decided on": ("microsoft.security.target.id", "gen_ai.security.target.id"),
}
"""What those columns are worked out from, likewise."""

HUMAN_BLUEPRINT: Final = "00000000-0000-0000-0000-000000000000"
HUMAN_EXECUTION: Final = "HumanToAgent"
"""What blueprints, and the role ``execution``, say of a person's prompt."""

FINDINGS: Final = {"microsoft.security.finding": "microsoft.security.", "gen_ai.security.finding": "gen_ai.security."}
"""Events that hold what a guardian found, and what the names of their attributes begin with."""

ENTITY_COLUMNS: Final = {"tool": "ToolName", "agent": "AgentName"}
"""What Traceloop's entity is the name of, by its kind."""

OPERATIONS: Final = (
    "gen_ai.operation.name",
    "openinference.span.kind",
    "traceloop.span.kind",
    "llm.request.type",
)
"""Attributes that say what a step is, the most trusted first."""

MCP_METHOD: Final = "mcp.method.name"

ACTIONS: Final = {
    "invoke_agent": "InvokeAgent",
    "agent": "InvokeAgent",
    "handoff": "InvokeAgent",
    "chat": "InferenceCall",
    "text_completion": "InferenceCall",
    "textcompletion": "InferenceCall",  # Agent 365 1.0 writes Chat, TextCompletion, GenerateContent
    "generate_content": "InferenceCall",
    "generatecontent": "InferenceCall",
    "completion": "InferenceCall",
    "llm": "InferenceCall",
    "execute_tool": "ExecuteToolBySDK",
    "tool": "ExecuteToolBySDK",
    "apply_guardrail": "GuardrailDecision",
    "guardrail": "GuardrailDecision",
    "guard": "GuardrailDecision",
    "guardrail.run": "GuardrailDecision",
    "output_messages": "OutputMessages",
    "retrieval": "Retrieval",
    "retriever": "Retrieval",
    "vector_db_retrieve": "Retrieval",
    "embeddings": "Embeddings",
    "embedding": "Embeddings",
    "create_agent": "CreateAgent",
}
"""``ActionType`` by what an attribute of ``OPERATIONS`` says; small letters."""

NAMED: Final = frozenset(
    {
        *("invoke_agent", "create_agent", "execute_tool", "apply_guardrail", "output_messages"),
        *("chat", "text_completion", "generate_content", "embeddings", "retrieval"),
    }
)
"""First words of a span's name that say the operation where no attribute does: the conventions' own, as they write
them. ``Agent Workflow`` is somebody's title."""

RUN_ID_SCOPES: Final = frozenset({"opentelemetry.instrumentation.langchain"})
"""Instrumentations that write the id of a run, new each time, where the agent's id belongs."""

OUTCOMES: Final = {
    "taskcanceledexception": "cancelled",
    "operationcanceledexception": "cancelled",
    "cancellederror": "cancelled",
    "cancelled": "cancelled",
    "timeout": "timeout",
    "timeouterror": "timeout",
    "timeoutexception": "timeout",
    "deadline_exceeded": "timeout",
}
"""``Status`` by the error's class, without its package; of any other error it is ``error``."""

# -- contents -----------------------------------------------------------------------------------------------------

INPUT: Final = "input"
OUTPUT: Final = "output"
"""What goes into a step and comes out of it, where the name does not say whether of a model, a tool or a guardrail."""

KINDS: Final = {
    "ExecuteToolBySDK": {INPUT: "tool_arguments", OUTPUT: "tool_result"},
    "McpRequest": {INPUT: "tool_arguments", OUTPUT: "tool_result"},
    "Retrieval": {INPUT: "tool_arguments", OUTPUT: "tool_result"},
    "GuardrailDecision": {INPUT: "guardrail_input", OUTPUT: "guardrail_output"},
}
OTHER_KINDS: Final = {INPUT: "input_messages", OUTPUT: "output_messages"}
"""``AgentContent.Kind`` of them by ``ActionType``, and for all other actions."""

CONTENTS: Final[dict[str, tuple[str, ...]]] = {
    "input_messages": (
        "gen_ai.input.messages",
        "gen_ai.prompt",
        "gen_ai.execution.payload",
        "llm.prompts",
        "llm.messages",
        "llm.input_messages",
        "llm.invocation_parameters",  # some instrumentations leave the system prompt in it
        "llm.prompt_template.variables",
        "traceloop.prompt.template_variables",
        "embedding.embeddings",
        "embedding.text",
        "ai.prompt",
        "gcp.vertex.agent.llm_request",
        "all_messages_events",
        "pydantic_ai.all_messages",
    ),
    "output_messages": (
        "gen_ai.output.messages",
        "gen_ai.completion",
        "gen_ai.content.completion.chunk",
        "llm.completions",
        "llm.output_messages",
        "llm.choices",
        "llm.function_call",
        "llm.content.completion.chunk",
        "ai.response.text",
        "ai.response.object",
        "ai.response.toolCalls",
        "gcp.vertex.agent.llm_response",
        "final_result",
    ),
    "system_instructions": (
        "gen_ai.system_instructions",
        "llm.prompt_template.template",
        "traceloop.prompt.template",
    ),
    "tool_arguments": (
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.arguments",
        "gen_ai.tool.input",
        "tool.parameters",  # a schema by its definition, in most instrumentations the arguments
        "tool_call.function.arguments",
        "mcp.request.argument",
        "ai.toolCall.args",
        "gcp.vertex.agent.tool_call_args",
        "db.statement",
        "db.query.text",
        "db.query.parameter",
    ),
    "tool_result": (
        "gen_ai.tool.call.result",
        "gen_ai.tool.output",
        "mcp.response.value",
        "mcp.tool.result.content",
        "ai.toolCall.result",
        "gcp.vertex.agent.tool_response",
    ),
    "tool_definitions": (
        "gen_ai.tool.definitions",
        "llm.tools",
        "llm.request.functions",
        "llm.request.tools",
        "tool.json_schema",
        "ai.prompt.tools",
    ),
    "thought": ("microsoft.a365.agent.thought.process", "gen_ai.agent.thought.process"),
    "guardrail_input": (
        "microsoft.security.content.input.value",
        "gen_ai.security.content.input.value",
        "gen_ai.guardrail.input",
    ),
    "guardrail_output": (
        "microsoft.security.content.output.value",
        "gen_ai.security.content.output.value",
        "gen_ai.guardrail.output",
    ),
    "events": ("gen_ai.event.content",),
    INPUT: (
        "input.value",
        "input.images",
        "input.documents",
        "traceloop.entity.input",
        "gen_ai.task.input",
        "gen_ai.agent.invocation_input",
        "gen_ai.retrieval.query.text",
        "gen_ai.memory.query.text",
        "reranker.query",
        "reranker.input_documents",
    ),
    OUTPUT: (
        "output.value",
        "output.images",
        "output.documents",
        "traceloop.entity.output",
        "gen_ai.task.output",
        "gen_ai.agent.invocation_output",
        "gen_ai.retrieval.documents",
        "gen_ai.memory.records",
        "retrieval.documents",
        "document.content",
        "reranker.output_documents",
    ),
}
"""Attributes that hold contents, by kind. What lies below such a name (``gen_ai.prompt.0.content``) is content too. Of
conventions that fill no columns, those that are widely used stand here as well: their contents must not pass for
metadata."""

NO_CONTENTS: Final = frozenset({"gen_ai.prompt.name", "gen_ai.prompt.version"})
"""Metadata, in spite of what the tables say."""

CONTENT_WORDS: Final = {
    "prompt": INPUT,
    "prompts": INPUT,
    "question": INPUT,
    "input": INPUT,
    "inputs": INPUT,
    "arguments": INPUT,
    "args": INPUT,
    "instructions": "system_instructions",
    "message": INPUT,
    "messages": INPUT,
    "content": INPUT,
    "contents": INPUT,
    "body": INPUT,
    "transcript": INPUT,
    "completion": OUTPUT,
    "completions": OUTPUT,
    "output": OUTPUT,
    "outputs": OUTPUT,
    "answer": OUTPUT,
    "thought": "thought",
    "thoughts": "thought",
    "reasoning": "thought",
}
"""When in doubt, content: texts and structures under a name that nobody taught us and whose last word is one of these
(``acme.user_prompt``). Numbers and truth values are not (``acme.tokens.input``)."""

CONTENT_EVENTS: Final = frozenset(
    {
        "gen_ai.system.message",
        "gen_ai.user.message",
        "gen_ai.assistant.message",
        "gen_ai.tool.message",
        "gen_ai.choice",
        "gen_ai.content.prompt",
        "gen_ai.content.completion",
    }
)
"""Events of a span that are messages: all that they hold is content."""

# -- care ---------------------------------------------------------------------------------------------------------


class Care(Enum):
    """What a metadata attribute needs beyond the usual, judged by its name."""

    USUAL = "usual"
    ERROR = "error"
    """A text about an error: any path in it is a path of the machine that it happened on."""
    TRACE = "trace"
    """A stack trace: dropped."""
    ADDRESS = "address"
    """A URL or a part of one: its paths are no local paths."""
    SECRET = "secret"  # noqa: S105 - a word, not a secret
    """Holds a secret whatever it looks like."""


_ERROR_NAMES: Final = ("exception.message", "error.message", "error_message", "status.message")
_TRACE_NAMES: Final = ("stacktrace", "stack_trace", "error.stack", "exception.stack")
_ADDRESS_NAMES: Final = ("url.", "http.", "rpc.", "messaging.destination.")
_SECRET_NAMES: Final = (
    "authorization",
    "cookie",
    "api_key",
    "api-key",
    "apikey",
    "password",
    "passwd",
    "client_secret",
    "access_token",
    "refresh_token",
    "id_token",
    "gen_ai.headers",
    "llm.headers",
)


def _care(name: str) -> Care:
    name = name.lower()
    if name.endswith(_SECRET_NAMES):
        return Care.SECRET
    if name.endswith(_TRACE_NAMES):
        return Care.TRACE
    if name.endswith(_ERROR_NAMES):
        return Care.ERROR
    if name.startswith(_ADDRESS_NAMES):
        return Care.ADDRESS
    return Care.USUAL


# -- one name -----------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where an attribute belongs: the ``kind`` of its content (one of ``CONTENTS``), empty for metadata; ``is_guess``
    if that holds of texts and structures only; and the ``care`` that metadata needs."""

    kind: str = ""
    is_guess: bool = False
    care: Care = Care.USUAL


ORDERS: Final = {**COLUMNS, **ROLES}
"""By column and role, the names that fill it, the best first."""


def _fills() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for part, names in ORDERS.items():
        for name in names:
            found.setdefault(name, []).append(part)
    return {name: tuple(parts) for name, parts in found.items()}


FILLS: Final = _fills()
"""By an attribute's name, the columns and roles that it fills."""

OWN: Final = {column: names[0] if FILLS[names[0]] == (column,) else "" for column, names in COLUMNS.items()}
"""By column, the attribute whose own column it is: its best name, and good for nothing else. Empty if there is none."""

_KIND_OF: Final = {name: kind for kind, names in CONTENTS.items() for name in names}


def place(name: str) -> Place:
    """Where the attribute ``name`` belongs."""
    if name in FILLS or name in NO_CONTENTS:
        return Place(care=_care(name))
    for part in _beginnings(name):
        if part in _KIND_OF:
            return Place(_KIND_OF[part])
    care = _care(name)
    last = name.lower().replace("_", ".").replace("-", ".").rpartition(".")[2]
    if last in CONTENT_WORDS and care in (Care.USUAL, Care.ADDRESS):
        return Place(CONTENT_WORDS[last], is_guess=True)
    return Place(care=care)


def _beginnings(name: str) -> Iterator[str]:
    """``a.b.c``, ``a.b``, ``a``: the longest first."""
    while name:
        yield name
        name = name.rpartition(".")[0]
