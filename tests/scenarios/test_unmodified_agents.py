"""Agents as others write them, moved here by environment variables alone; what they tell of is hunted for.

They are programs of their own (``agents/``) in environments of their own (`make agents`), which know nothing of
Watchfloor and get nothing of the environment of the tests. Beside telling us, each prints the spans that it tells of by
OpenTelemetry's own console exporter: that is the truth that is compared with.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from scenarios.company import Company, running, wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

COLUMNS = {
    "client.address": "IPAddress",
    "error.type": "ErrorType",
    "gen_ai.agent.id": "AgentId",
    "gen_ai.agent.name": "AgentName",
    "gen_ai.agent.version": "AgentVersion",
    "gen_ai.conversation.id": "ConversationId",
    "gen_ai.operation.name": "OperationName",
    "gen_ai.provider.name": "Provider",
    "gen_ai.response.model": "Model",
    "gen_ai.tool.call.id": "ToolCallId",
    "gen_ai.tool.name": "ToolName",
    "gen_ai.tool.type": "ToolType",
    "gen_ai.usage.input_tokens": "InputTokens",
    "gen_ai.usage.output_tokens": "OutputTokens",
    "microsoft.a365.agent.blueprint.id": "AgentBlueprintId",
    "microsoft.a365.caller.agent.id": "ParentAgentId",
    "microsoft.channel.name": "ChannelName",
    "microsoft.guardian.name": "GuardianName",
    "microsoft.security.decision.code": "ReasonCode",
    "microsoft.security.policy.id": "PolicyId",
    "microsoft.security.target.type": "DecisionTarget",
    "microsoft.session.id": "SessionId",
}
"""Columns that hold an attribute where ``AdditionalFields`` does not."""

OTLP_HTTP = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_TRACES_EXPORTER": "otlp,console"}
OTLP_JSON = {"OTEL_TRACES_EXPORTER": "otlp_json_http,console"}
OTLP_GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_TRACES_EXPORTER": "otlp,console"}
LEDGER = OTLP_HTTP | {
    "OTEL_RESOURCE_ATTRIBUTES": "gen_ai.agent.id=zava-ledger-agent",
    # OpenTelemetry's own instrumentations tell contents only if asked.
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
}


@dataclass(frozen=True)
class Agent:
    """A program, the door that it comes to, and how it is told so. ``said``: words that metadata must not hold."""

    script: str
    door: str
    said: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    environment: str = ".venv-agents"


def _billing(environment: str) -> Agent:
    said = ("What does Fabrikam owe us?", "The ledger first", "evil.example", "Invoice 4711", "since March")
    return Agent("a365_agent.py", "a365", said, environment=environment)


def _travel(door: str, variables: Mapping[str, str]) -> Agent:
    return Agent("otel_agent.py", door, ("to Graz", "You book trains.", "no seats left"), variables)


def _ledger(script: str, instrumentor: str) -> Agent:
    return Agent(script, "otlp-http", ("Fabrikam", "owes 1250"), LEDGER | {"INSTRUMENTOR": instrumentor})


AGENTS = {
    "Agent 365 2.0": _billing(".venv-agents"),
    "Agent 365 1.0": _billing(".venv-agents-1"),
    "OpenTelemetry, http/protobuf": _travel("otlp-http", OTLP_HTTP),
    "OpenTelemetry, http/json": _travel("otlp-json", OTLP_JSON),
    "OpenTelemetry, gRPC": _travel("otlp-grpc", OTLP_GRPC),
    "LangChain by OpenInference": _ledger(
        "langchain_agent.py", "openinference.instrumentation.langchain:LangChainInstrumentor"
    ),
    "LangChain by Traceloop": _ledger(
        "langchain_agent.py", "opentelemetry.instrumentation.langchain:LangchainInstrumentor"
    ),
    "LangChain by OpenTelemetry": _ledger(
        "langchain_agent.py", "opentelemetry.instrumentation.genai.langchain:LangChainInstrumentor"
    ),
    "OpenAI Agents by OpenInference": _ledger(
        "openai_agent.py", "openinference.instrumentation.openai_agents:OpenAIAgentsInstrumentor"
    ),
    "OpenAI Agents by Traceloop": _ledger(
        "openai_agent.py", "opentelemetry.instrumentation.openai_agents:OpenAIAgentsInstrumentor"
    ),
    "OpenAI Agents by OpenTelemetry": _ledger(
        "openai_agent.py", "opentelemetry.instrumentation.genai.openai_agents:OpenAIAgentsInstrumentor"
    ),
}


# -- what an agent printed --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Printed:
    """A span as OpenTelemetry's console exporter writes it."""

    body: Mapping[str, Any]

    @property
    def trace_id(self) -> str:
        return str(self.body["context"]["trace_id"]).removeprefix("0x")

    @property
    def span_id(self) -> str:
        return str(self.body["context"]["span_id"]).removeprefix("0x")

    @property
    def parent(self) -> str:
        return (self.body["parent_id"] or "").removeprefix("0x")

    @property
    def attributes(self) -> dict[str, Any]:
        return dict(self.body["attributes"])

    @property
    def resource(self) -> dict[str, Any]:
        return dict(self.body["resource"]["attributes"])

    @property
    def start(self) -> datetime:
        return datetime.fromisoformat(self.body["start_time"])

    @property
    def milliseconds(self) -> float:
        return (datetime.fromisoformat(self.body["end_time"]) - self.start).total_seconds() * 1000


def _printed(text: str) -> list[Printed]:
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        body, end = decoder.raw_decode(text)
        found.append(Printed(body))
        text = text[end:]
    return found


# -- what is found of it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What hunting finds of one span: its row of ``AgentActivity``, and its contents by kind."""

    row: Mapping[str, Any]
    contents: Mapping[str, Any]

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """All attributes, wherever they are."""
        extra = self.row["AdditionalFields"]
        columns = {name: self.row[column] for name, column in COLUMNS.items() if self.row[column] not in ("", None)}
        found = columns | extra.get("attributes", {})
        for kind, names in extra.get("contents", {}).items():
            found |= self.contents[kind] if len(names) > 1 else {names[0]: self.contents[kind]}
        return found

    def __getitem__(self, columns: str) -> Any:
        """The value of a column; of several, a tuple."""
        values = tuple(self.row[column] for column in columns.split())
        return values if len(values) > 1 else values[0]


@dataclass(frozen=True)
class Told:
    """One run of an agent."""

    printed: list[Printed]
    found: dict[str, Found]

    def steps(self, **columns: Any) -> list[Found]:
        """The steps whose columns have these values, by time."""
        found = [f for f in self.found.values() if all(f.row[name] == value for name, value in columns.items())]
        return sorted(found, key=lambda step: step.row["Timestamp"])

    def step(self, **columns: Any) -> Found:
        """The one step whose columns have these values."""
        [step] = self.steps(**columns)
        return step

    def above(self, step: Found) -> list[tuple[str, str]]:
        """Action and tool of the steps that ``step`` is part of, the nearest first."""
        parent = self.found.get(step.row["ParentSpanId"])
        return [parent["ActionType ToolName"], *self.above(parent)] if parent else []


def _rows(company: Company, query: str) -> list[dict[str, Any]]:
    answer = company.api("POST", "/api/hunting/run", json={"query": query})
    names = [column["name"] for column in answer["columns"]]
    return [dict(zip(names, row, strict=True)) for row in answer["rows"]]


def _among(printed: list[Printed]) -> str:
    """The condition of being told of by these spans."""
    return f"TraceId in ({', '.join(sorted({repr(span.trace_id) for span in printed}))})"


def _hunted(company: Company, printed: list[Printed]) -> dict[str, Found]:
    """What is found of the printed spans, once everything of them can be."""
    among = _among(printed)

    def complete() -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
        rows = _rows(company, f"AgentActivity | where {among}")
        contents = _rows(company, f"AgentContent | where {among}")
        wanted = sum(len(row["AdditionalFields"].get("contents", {})) for row in rows)
        return (rows, contents) if len(rows) >= len(printed) and len(contents) >= wanted else None

    rows, contents = wait_until(complete, 60, what=f"{len(printed)} steps and their contents")
    assert len({row["SpanId"] for row in rows}) == len(rows)
    return {
        row["SpanId"]: Found(row, {c["Kind"]: c["Content"] for c in contents if c["SpanId"] == row["SpanId"]})
        for row in rows
    }


# -- running ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Office:
    """A running company with a source, and a home for the agents."""

    company: Company
    token: str
    home: Path

    def run(self, agent: Agent, token: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """Run ``agent`` as its user would who was told our address and a token."""
        # Agent 365's SDK sets itself up; the others have OpenTelemetry's launcher do it.
        launcher = [] if agent.door == "a365" else ["opentelemetry-instrument"]
        port = self.company.grpc_port if agent.door == "otlp-grpc" else self.company.receiver_port
        token = token or self.token
        environment = {
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PATH": f"{ROOT / agent.environment / 'bin'}{os.pathsep}{os.defpath}",
            "AGENT_TOKEN": token,
            "ENABLE_A365_OBSERVABILITY": "true",
            "ENABLE_A365_OBSERVABILITY_EXPORTER": "true",
            "A365_OBSERVABILITY_DOMAIN_OVERRIDE": self.company.receiver,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={quote(f'Bearer {token}')}",
            "OTEL_SERVICE_NAME": "zava-agents",
            # Instrumentors are chosen by the agents: several of one framework are installed.
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "langchain,openai_agents",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }
        return subprocess.run(
            [*launcher, "python", str(Path(__file__).with_name("agents") / agent.script)],
            env=environment | agent.variables | more,
            cwd=self.home,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    def told(self, done: subprocess.CompletedProcess[str]) -> Told:
        """What was found of a run."""
        assert done.returncode == 0, done.stderr
        printed = _printed(done.stdout)
        return Told(printed, _hunted(self.company, printed))


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    for environment in {agent.environment for agent in AGENTS.values()}:
        if not (ROOT / environment / ".complete").exists():
            if os.environ.get("CI"):
                pytest.fail("the agents are not installed: make agents")
            pytest.skip("make agents")
    with running(tmp_path_factory.mktemp("company"), workers=1) as company:
        source = company.api("POST", "/api/sources", json={"id": "agents", "agents": ["*"]})
        yield Office(company, source["token"], tmp_path_factory.mktemp("home"))


Runs = Callable[[str], Told]


@pytest.fixture(scope="module")
def runs(office: Office) -> Iterator[Runs]:
    """Gives what an agent told. All of them are started at once, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        running_agents = {name: pool.submit(office.run, agent) for name, agent in AGENTS.items()}
        told: dict[str, Told] = {}

        def of(name: str) -> Told:
            if name not in told:
                told[name] = office.told(running_agents[name].result())
            return told[name]

        yield of


# -- everything arrives -----------------------------------------------------------------------------------------------


@pytest.mark.claim("telemetry-unmodified")
@pytest.mark.parametrize("name", AGENTS)
def test_every_span_arrives_in_its_trace_with_every_attribute(runs: Runs, name: str) -> None:
    told = runs(name)
    assert told.found.keys() == {span.span_id for span in told.printed}
    for span in told.printed:
        found = told.found[span.span_id]
        extra = found["AdditionalFields"]
        assert found["TraceId ParentSpanId"] == (span.trace_id, span.parent)
        assert found["SourceDoor SourceId"] == (AGENTS[name].door, "agents")
        assert abs((datetime.fromisoformat(found["Timestamp"]) - span.start).total_seconds()) < 2e-6
        assert found["DurationMs"] == pytest.approx(span.milliseconds, abs=0.003)
        assert (found["Status"] == "ok") == (span.body["status"]["status_code"] != "ERROR")
        assert _missing(_parsed(span.attributes), _parsed(found.attributes)) == {}
        assert _missing(span.resource, extra["resource"]) == {}
        assert (extra["span"]["name"], f"SpanKind.{extra['span']['kind'].upper()}") == (
            span.body["name"],
            span.body["kind"],
        )
        assert [(event["name"], event["attributes"]) for event in extra.get("events", [])] == _events(span)
        assert extra["span"].get("links", []) == [
            {
                "traceId": link["context"]["trace_id"].removeprefix("0x"),
                "spanId": link["context"]["span_id"].removeprefix("0x"),
                "attributes": link["attributes"],
            }
            for link in span.body["links"]
        ]


def _missing(sent: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What was sent and is not found so."""
    return {name: (value, found.get(name)) for name, value in sent.items() if name not in found or found[name] != value}


def _parsed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Contents that are JSON are kept as what it says."""

    def parsed(value: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, str) and value[:1] in ("{", "[") else value
        except ValueError:
            return value

    return {name: parsed(value) for name, value in attributes.items()}


def _events(span: Printed) -> list[tuple[str, dict[str, Any]]]:
    """Events as they should be found: of a stack trace, only that there was one."""
    events = []
    for event in span.body["events"]:
        attributes = dict(event["attributes"])
        if "exception.stacktrace" in attributes:
            attributes["exception.stacktrace"] = f"[dropped: {len(attributes['exception.stacktrace'])} characters]"
        events.append((event["name"], attributes))
    return events


@pytest.mark.parametrize("name", AGENTS)
def test_what_was_said_is_found_in_contents_and_nowhere_else(runs: Runs, name: str) -> None:
    told = runs(name)
    metadata = json.dumps([found.row for found in told.found.values()], ensure_ascii=False)
    contents = json.dumps([found.contents for found in told.found.values()], ensure_ascii=False)
    for words in AGENTS[name].said:
        assert words in contents
        assert words not in metadata
    assert str(ROOT) not in metadata


def test_nothing_was_quarantined(runs: Runs, office: Office) -> None:
    assert all(runs(name).found for name in AGENTS)
    assert _rows(office.company, "TelemetryRejects") == []


# -- Agent 365 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_scopes_of_agent_365_are_one_trace_that_says_who_did_what_for_whom(runs: Runs, version: str) -> None:
    told = runs(f"Agent 365 {version}")
    steps = told.steps(ConversationId="conversation-person")
    assert len({step["TraceId"] for step in steps}) == 1
    for step in steps:
        assert step["AgentId AgentName AgentVersion AgentBlueprintId"] == (
            "zava-billing-agent", "Customer Billing Agent", "1.4.2", "33333333-3333-4333-8333-333333333333"
        )  # fmt: skip
        assert step["UserId AccountUpn ActingMode"] == ("griffin", "griffin@zava.example", "on-behalf-of")
        assert step["IPAddress SessionId ChannelName"] == ("198.51.100.7", "session-9", "msteams")
        assert step["ServiceName Provider"] == ("zava-billing", "openai")

    root = ("InvokeAgent", "")
    looked_up, sent = (("ExecuteToolBySDK", tool) for tool in ("lookup_customer", "send_email"))
    guardrails = [(("GuardrailDecision", ""), [tool, root]) for tool in (looked_up, sent) if version == "2.0"]
    assert [(step["ActionType ToolName"], told.above(step)) for step in steps] == [
        (root, []),
        (("InferenceCall", ""), [root]),
        (looked_up, [root]),
        *guardrails[:1],
        (sent, [root]),
        *guardrails[1:],
        (("OutputMessages", ""), [root]),
    ]


@pytest.mark.parametrize(
    ("version", "model", "operation"), [("1.0", "gpt-5", "Chat"), ("2.0", "gpt-5-2026-08-01", "chat")]
)
def test_an_inference_of_agent_365_says_its_model_and_tokens(
    runs: Runs, version: str, model: str, operation: str
) -> None:
    step = runs(f"Agent 365 {version}").step(ConversationId="conversation-person", ActionType="InferenceCall")
    assert step["Model OperationName InputTokens OutputTokens"] == (model, operation, 812, 47)
    assert step["ServerAddress"] == "models.example:8443"
    assert step.contents.keys() == {"input_messages", "output_messages", "thought"}
    assert step.contents["thought"] == "The ledger first, then a reminder."


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_tool_of_agent_365_keeps_its_call_and_how_it_ended(runs: Runs, version: str) -> None:
    told = runs(f"Agent 365 {version}")
    looked_up = told.step(ConversationId="conversation-person", ToolName="lookup_customer")
    assert looked_up["ToolCallId ToolType Status ErrorType"] == ("call_1", "function", "ok", "")
    assert looked_up.contents == {
        "tool_arguments": {"customer": "Fabrikam"},
        "tool_result": {"owes": 1250, "since": "March"},
    }

    sent = told.step(ConversationId="conversation-person", ToolName="send_email")
    assert sent["ToolCallId ToolType Status ErrorType"] == ("call_2", "extension", "error", "PermissionError")
    assert sent["ServerAddress"] == "mail.example:8025"
    assert sent["AdditionalFields"]["span"]["message"] == "the recipient is not ours"


def test_a_guardrail_of_agent_365_is_a_verdict_with_its_reasons(runs: Runs) -> None:
    allowed, step = runs("Agent 365 2.0").steps(ConversationId="conversation-person", ActionType="GuardrailDecision")
    assert allowed["Verdict WouldBe ToolCallId"] == ("allow", "allow", "call_1")
    assert allowed["RiskCategory RiskSeverity RiskScore"] == ("", "", None)
    assert allowed.contents == {"guardrail_input": "What does Fabrikam owe us?"}

    assert step["Verdict WouldBe ToolCallId"] == ("block", "block", "call_2")
    assert step["GuardianName DecisionTarget"] == ("Mail Guard", "tool_call")
    assert [reason["message"] for reason in step["Reasons"]] == ["The recipient is not a customer."]
    assert step["RiskCategory RiskSeverity RiskScore"] == ("prompt_injection", "high", 0.93)
    assert step["ReasonCode PolicyId PolicyVersion"] == ("external-recipient", "no-strangers", 7)
    assert [(signal["category"], signal["severity"]) for signal in step["Signals"]] == [
        ("data_leak", "medium"),
        ("prompt_injection", "high"),
    ]
    assert step.contents == {"guardrail_input": "What does Fabrikam owe us?", "guardrail_output": "Nothing was sent."}


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_an_agent_that_another_agent_calls_acts_as_itself(runs: Runs, version: str) -> None:
    step = runs(f"Agent 365 {version}").step(ConversationId="conversation-agent", ActionType="InvokeAgent")
    assert step["AgentId ParentAgentId"] == ("zava-billing-agent", "zava-dunning-agent")
    assert step["UserId AccountUpn ActingMode"] == ("billing", "billing@zava.example", "agent")


# -- OpenTelemetry and frameworks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["http/protobuf", "http/json", "gRPC"])
def test_each_transport_fills_the_same_columns(runs: Runs, transport: str) -> None:
    told = runs(f"OpenTelemetry, {transport}")
    for step in told.steps():
        assert step["AgentId AgentName AgentVersion"] == ("fabrikam-travel-agent", "Travel Agent", "7")
        assert step["UserId AccountUpn ActingMode"] == ("mona", "mona@fabrikam.example", "on-behalf-of")
        assert step["ConversationId IPAddress ServiceName"] == ("conversation-travel", "203.0.113.9", "zava-agents")
    inference = told.step(ActionType="InferenceCall")
    assert inference["Model Provider InputTokens OutputTokens"] == ("claude-x-20260901", "anthropic", 3_000_000_000, 18)
    tool = told.step(ActionType="ExecuteToolBySDK")
    assert tool["ToolName ToolCallId Status ErrorType"] == ("book_train", "call_7", "timeout", "TimeoutError")
    assert tool.contents == {"tool_arguments": {"to": "Graz", "seats": 2}, "tool_result": "no seats left"}
    assert told.step(ActionType="Retrieval").contents == {
        "tool_arguments": "trains to Graz",
        "tool_result": [{"id": "t-1", "score": 0.75}],
    }
    root = ("InvokeAgent", "")
    assert [told.above(step) for step in told.steps()] == [[], [root], [root], [root]]


LEDGERS = {
    # What each tells of its first inference: model, provider, tokens; and of the tool: its call's id.
    "LangChain by OpenInference": (("gpt-5", "openai", 31, 5), ""),
    "LangChain by Traceloop": (("unknown", "langchain", 31, 5), ""),
    "LangChain by OpenTelemetry": (("gpt-5", "openai", 31, 5), "call_1"),
    "OpenAI Agents by OpenInference": (("gpt-5", "openai", 31, 5), ""),
    "OpenAI Agents by Traceloop": (("gpt-5", "openai", None, None), ""),
    "OpenAI Agents by OpenTelemetry": (None, ""),
}


@pytest.mark.parametrize("name", LEDGERS)
def test_instrumentations_of_frameworks_fill_the_columns_that_they_tell_of(runs: Runs, name: str) -> None:
    told, (inference, call) = runs(name), LEDGERS[name]
    assert {step["AgentId ServiceName"] for step in told.steps()} == {("zava-ledger-agent", "zava-agents")}
    inferences = [step["Model Provider InputTokens OutputTokens"] for step in told.steps(ActionType="InferenceCall")]
    assert inferences[:1] == ([inference] if inference else [])
    tool = told.step(ActionType="ExecuteToolBySDK")
    assert tool["ToolName ToolCallId"] == ("look_up", call)
    assert {"tool_arguments", "tool_result"} <= tool.contents.keys()
    assert ("InvokeAgent", "") in told.above(tool)


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_spans_that_come_through_two_doors_are_stored_once(office: Office) -> None:
    source = office.company.api("POST", "/api/sources", json={"id": "twice", "agents": ["*"]})
    told = office.told(office.run(AGENTS["Agent 365 2.0"], source["token"], ENABLE_OTLP_EXPORTER="true"))
    count = len(told.printed)
    query = (
        "PipelineHealth | where SourceId == 'twice' | summarize Doors = dcount(SourceDoor), Received = sum(Received), "
        "Stored = sum(Stored), Duplicates = sum(Duplicates), Rejected = sum(Rejected)"
    )

    def counted() -> dict[str, Any] | None:
        [row] = _rows(office.company, query)
        return row if row["Received"] == 2 * count else None

    health = wait_until(counted, 30, what="the health of both doors")
    assert health == {"Doors": 2, "Received": 2 * count, "Stored": count, "Duplicates": count, "Rejected": 0}
    # Whatever was received came before these figures: nothing is on its way any more.
    assert len(_hunted(office.company, told.printed)) == count


REFUSALS = {
    # What each SDK makes of it.
    "Agent 365 1.0": "HTTP 401 non-retryable error",
    "Agent 365 2.0": "HTTP 401 non-retryable error",
    "OpenTelemetry, http/protobuf": "code: 401",
    "OpenTelemetry, http/json": "code: 401",
    "OpenTelemetry, gRPC": "UNAUTHENTICATED",
}


def test_agents_with_a_wrong_token_are_refused_and_live_on(office: Office) -> None:
    with ThreadPoolExecutor(2) as pool:
        refused = dict(
            zip(REFUSALS, pool.map(lambda name: office.run(AGENTS[name], f"{office.token}x"), REFUSALS), strict=True)
        )
    for name, says in REFUSALS.items():
        assert refused[name].returncode == 0
        assert says in refused[name].stderr
    # What came later is there; what was refused is not.
    assert office.told(office.run(AGENTS["OpenTelemetry, gRPC"])).found
    printed = [span for done in refused.values() for span in _printed(done.stdout)]
    assert len({span.trace_id for span in printed}) == 7
    assert _rows(office.company, f"AgentActivity | where {_among(printed)}") == []
