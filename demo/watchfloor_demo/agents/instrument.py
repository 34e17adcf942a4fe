"""What an instrumented agent tells of its work: every run is one trace of spans.

    invoke_agent                        the run, with who asked, from where, in which conversation and session
      embeddings, retrieval             its handbook was searched (agents with a knowledge base)
      apply_guardrail                   what its own guardian said: of the prompt, of what was found, of a tool call
      chat                              the model chose what to do next; now and then the first try fails
      execute_tool                      the call through the gateway; below it, for one agent, its MCP client's span
      invoke_agent                      it handed over; the other agent's run hangs below
      output_messages                   the answer

There is no model: words, tokens and guardians are made up, the same way each time; who, when, what was called and what
came of it are real. Names follow OpenTelemetry's conventions and Agent 365's. Above ``telemetry``; ``worker`` calls it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from watchfloor_demo import company
from watchfloor_demo.agents.obedience import orders
from watchfloor_demo.agents.planner import Call, Outcome
from watchfloor_demo.telemetry import Event, Program, Span, Value

A365_AGENT: Final = "customer-billing"
"""Built with Agent 365's SDK, which knows fewer operations than OpenTelemetry and sends them in its own way."""
MCP_AGENT: Final = "supplier-onboarding"
"""Its MCP client is instrumented, too."""

_PROVIDERS: Final = {"gpt": "azure.ai.openai", "claude": "anthropic", "llama": "aws.bedrock"}
_CHANNELS: Final = {"Copilot Studio": "msteams", "Microsoft Agent Framework": "msteams"}
_RPC_CODES: Final = {"refused": -32090, "held": -32091, "unavailable": -32092}
_EMBEDDER: Final = "text-embedding-3-small"
_GUARDIAN: Final = {
    "microsoft.guardian.id": "zava-content-guard",
    "microsoft.guardian.name": "Zava Content Guard",
    "microsoft.guardian.version": "2.1",
    "microsoft.guardian.provider.name": "zava",
}
_MOST_TEXT: Final = 2_000
_MOST_MESSAGES: Final = 12
_MODEL_FAILS_EVERY: Final = 25
_PRIVATE_EVERY: Final = 6
_STACK: Final = (
    "Traceback (most recent call last):\n"
    '  File "/home/zava/agents/{agent}/loop.py", line 88, in ask\n'
    "    return client.chat(messages)\n"
    "openai.RateLimitError: the deployment {model} has no room, try again in 2 s"
)


def _nothing(span: Span) -> None:
    """Nobody listens."""


class Instrument:
    """The instrumentation of all agents of one process. ``tell`` takes each span when it has ended."""

    def __init__(self, tell: Callable[[Span], None] = _nothing) -> None:
        self.tell = tell
        self._programs: dict[str, Program] = {}
        self._counted: dict[str, int] = {}

    def program(self, agent: company.Agent) -> Program:
        """The program that the agent runs in."""
        if agent.id not in self._programs:
            resource = {
                "service.name": f"zava-{agent.id}",
                "service.namespace": "zava",
                "service.version": agent.version,
                "telemetry.sdk.language": "python",
                "gen_ai.agent.id": agent.id,
                "gen_ai.agent.name": agent.name,
            }
            a365 = agent.id == A365_AGENT
            scope = "Agent365Sdk" if a365 else f"zava.{agent.platform.lower().replace(' ', '-')}"
            self._programs[agent.id] = Program(resource, scope, agent.id if a365 else "")
        return self._programs[agent.id]

    def is_turn(self, what: str, every: int) -> bool:
        """True at the first of ``every`` times that it is asked about ``what``."""
        count = self._counted.get(what, 0)
        self._counted[what] = count + 1
        return count % every == 0


SILENT: Final = Instrument()
"""Of agents that tell nobody."""


class Step:
    """A step under way: a tool call, or a hand-over. ``traceparent`` goes with the request that it makes."""

    def __init__(self, run: Run, spans: list[Span]) -> None:
        self._run, self._spans = run, spans

    @property
    def traceparent(self) -> str:
        """The innermost span, for whoever is called."""
        return self._spans[-1].traceparent

    def end(self, outcome: Outcome) -> None:
        """It is over."""
        self._run.end_step(self._spans, outcome)


class Run:
    """One run of an agent for one request: ``words``, if somebody asks.

    ``common`` are attributes of every span. Where another agent handed over, that is ``caller``, and ``traceparent``
    names its step that this run is part of. Used by one task; ``end`` comes last.
    """

    def __init__(
        self,
        instrument: Instrument,
        agent: company.Agent,
        common: Mapping[str, str],
        words: str = "",
        caller: company.Agent | None = None,
        traceparent: str = "",
    ) -> None:
        self._instrument, self._agent = instrument, agent
        self._common = {
            **{name: value for name, value in common.items() if value},
            "microsoft.tenant.id": company.TENANT,
            "gen_ai.agent.id": agent.id,
            "gen_ai.agent.name": agent.name,
            "gen_ai.agent.version": agent.version,
            "microsoft.channel.name": _CHANNELS.get(agent.platform, "web") if common.get("user.id") else "schedule",
        }
        ids = agent.described.get("platformIds", {})
        for name, member in (("blueprint.id", "blueprint"), ("platform.id", "agent")):
            if member in ids:
                self._common[f"microsoft.a365.agent.{name}"] = ids[member]
        self._trace_id, parent_id = traceparent.split("-")[1:3] if traceparent else (secrets.token_hex(16), "")
        self._messages: list[dict[str, Any]] = []
        self._chat_since = 0
        self._failure: Outcome | None = None
        self._root = self._begin(
            f"invoke_agent {agent.name}", "invoke_agent", "server" if traceparent else "client", parent_id
        )
        self._root.attributes["gen_ai.agent.description"] = agent.description
        if caller is not None:
            self._root.attributes |= {
                "microsoft.a365.caller.agent.id": caller.id,
                "microsoft.a365.caller.agent.name": caller.name,
            }
        if words:
            self._hear("user", words)
            self._root.attributes["gen_ai.input.messages"] = _json(self._messages)
            risk = "data_exfiltration" if agent.is_gullible and orders(words) else ""
            self._guard("llm_input", words, risk)
        if words and agent.id != A365_AGENT and any(grant.server == "knowledge" for grant in agent.grants):
            self._look_up(words)

    # -- what the agent does ----------------------------------------------------------------------------------------

    def think(self) -> None:
        """The model is asked what to do next."""
        self._chat_since = time.time_ns()

    def use(self, call: Call, url: str) -> Step:
        """It chose a tool, which is called at ``url`` now."""
        call_id = f"call_{secrets.token_hex(8)}"
        part = {"type": "tool_call", "id": call_id, "name": call.tool, "arguments": dict(call.arguments)}
        self._answer_of_model([part], "tool_calls")
        if call.obeys is not None:
            self._guard("tool_call", _json(call.arguments), "prompt_injection", call_id)
        place = urlsplit(url)
        where: dict[str, Value] = {"server.address": place.hostname or "", "server.port": place.port or 80}
        used = self._begin(f"execute_tool {call.tool}", "execute_tool", "internal")
        used.attributes |= {
            "gen_ai.tool.name": call.tool,
            "gen_ai.tool.type": "function" if self._agent.id == A365_AGENT else "extension",
            "gen_ai.tool.call.id": call_id,
            "gen_ai.tool.call.arguments": _json(call.arguments),
            "gen_ai.tool.server.name": call.server,
            **where,
        }
        spans = [used]
        if self._agent.id == MCP_AGENT:
            request = self._begin(f"tools/call {call.tool}", "", "client", used.id)
            request.attributes |= {
                "mcp.method.name": "tools/call",
                "mcp.protocol.version": self._agent.protocol,
                "mcp.server.name": call.server,
                "gen_ai.tool.name": call.tool,
                "network.transport": "tcp",
                **where,
            }
            spans.append(request)
        return Step(self, spans)

    def hand_over(self, to: company.Agent) -> Step:
        """It hands over to another agent, whose run hangs below this step."""
        self._answer_of_model([{"type": "text", "content": f"I hand over to {to.name}."}], "stop")
        handed = self._begin(f"invoke_agent {to.name}", "invoke_agent", "client")
        for own in (name for name in self._common if name.startswith("microsoft.a365.agent.")):
            del handed.attributes[own]
        handed.attributes |= {
            "gen_ai.agent.id": to.id,
            "gen_ai.agent.name": to.name,
            "gen_ai.agent.version": to.version,
        }
        return Step(self, [handed])

    def end_step(self, spans: list[Span], outcome: Outcome) -> None:
        """A step is over; its spans, the innermost last."""
        used, *inner = spans
        if inner and not outcome.is_ok and outcome.status in _RPC_CODES:
            inner[0].attributes["rpc.response.status_code"] = str(_RPC_CODES[outcome.status])
        if used.attributes["gen_ai.operation.name"] == "execute_tool":
            result = _cut(outcome.text if outcome.text or outcome.value is None else _json(outcome.value))
            if outcome.is_ok:
                used.attributes["gen_ai.tool.call.result"] = result
            self._hear("tool", result or outcome.code, used.attributes["gen_ai.tool.call.id"])
        if not outcome.is_ok:
            self._failure = outcome
        for span in reversed(spans):
            self._end(span, None if outcome.is_ok else outcome)

    def end(self, is_done: bool, said: list[str]) -> None:
        """The run is over; ``said`` is what the agent told its user."""
        text = "\n".join(said) or ("Done." if is_done else "I could not do all of that.")
        self.think()
        self._answer_of_model([{"type": "text", "content": _cut(text)}], "stop")
        answer = _json(self._messages[-1:])
        told = self._begin("output_messages", "output_messages", "internal")
        told.attributes["gen_ai.output.messages"] = answer
        self._end(told)
        self._root.attributes["gen_ai.output.messages"] = answer
        self._end(self._root, None if is_done else self._failure or Outcome("failed", code="not_done"))

    # -- spans ------------------------------------------------------------------------------------------------------

    def _begin(self, name: str, operation: str, kind: str, parent_id: str | None = None) -> Span:
        """A span that begins now, below the run's own unless another is named."""
        attributes: dict[str, Value] = dict(self._common)
        if operation:
            attributes["gen_ai.operation.name"] = operation
        return Span(
            self._instrument.program(self._agent),
            name,
            kind,
            self._trace_id,
            time.time_ns(),
            parent_id=self._root.id if parent_id is None else parent_id,
            attributes=attributes,
        )

    def _end(self, span: Span, failure: Outcome | None = None) -> None:
        span.end = time.time_ns()
        if failure is not None:
            span.attributes["error.type"] = failure.code or failure.status
            span.error = failure.text[:300] or failure.status
        self._instrument.tell(span)

    def _hear(self, role: str, text: str, call_id: Value = "") -> None:
        part = {"type": "text", "content": _cut(text)}
        if role == "tool":
            part = {"type": "tool_call_response", "id": str(call_id), "response": _cut(text)}
        self._messages.append({"role": role, "parts": [part]})

    def _answer_of_model(self, parts: list[dict[str, Any]], reason: str) -> None:
        """The span of the inference that began with ``think``; every so often, its first try found no room."""
        asked = _json(self._messages[-_MOST_MESSAGES:])
        chat = self._begin(f"chat {self._agent.model}", "chat", "client")
        chat.start = self._chat_since or chat.start
        self._chat_since = 0
        chat.attributes |= {
            "gen_ai.request.model": self._agent.model,
            "gen_ai.provider.name": _PROVIDERS.get(self._agent.model.partition("-")[0], "custom"),
            "gen_ai.system_instructions": _json([{"type": "text", "content": self._agent.instructions}]),
            "gen_ai.input.messages": asked,
        }
        if self._instrument.is_turn("model", _MODEL_FAILS_EVERY):
            self._tell_failed_try(chat)
        answer = [{"role": "assistant", "parts": parts, "finish_reason": reason}]
        chat.attributes |= {
            "gen_ai.response.model": self._agent.model,
            "gen_ai.response.finish_reasons": _json([reason]),
            "gen_ai.usage.input_tokens": len(self._agent.instructions + asked) // 4,
            "gen_ai.usage.output_tokens": max(1, len(_json(parts)) // 4),
            "gen_ai.output.messages": _json(answer),
        }
        self._messages += answer
        self._end(chat)

    def _tell_failed_try(self, chat: Span) -> None:
        now = time.time_ns()
        failed = self._begin(chat.name, "chat", chat.kind)
        failed.attributes |= chat.attributes
        failed.start, failed.end = chat.start, chat.start + (now - chat.start) // 4
        chat.start = failed.end
        failed.attributes["error.type"] = "RateLimitError"
        failed.error = f"the deployment {self._agent.model} has no room"
        told: dict[str, Value] = {
            "exception.type": "openai.RateLimitError",
            "exception.message": failed.error,
            "exception.stacktrace": _STACK.format(agent=self._agent.id, model=self._agent.model),
        }
        failed.events.append(Event("exception", failed.end, told))
        self._instrument.tell(failed)

    def _look_up(self, words: str) -> None:
        """The agent's handbook is searched for what the user asks."""
        embedded = self._begin(f"embeddings {_EMBEDDER}", "embeddings", "client")
        embedded.attributes |= {
            "gen_ai.request.model": _EMBEDDER,
            "gen_ai.provider.name": "azure.ai.openai",
            "gen_ai.usage.input_tokens": max(1, len(words) // 4),
        }
        self._end(embedded)
        found = self._begin("retrieval zava-handbook", "retrieval", "client")
        documents = [
            {"id": "handbook-12", "score": 0.83, "content": "Whom to ask, and in which order."},
            {"id": "handbook-31", "score": 0.64, "content": "Colleagues who are on leave, with their home addresses."},
        ]
        found.attributes |= {
            "gen_ai.data_source.id": "zava-handbook",
            "gen_ai.retrieval.query.text": _cut(words),
            "gen_ai.retrieval.documents": _json(documents),
        }
        self._end(found)
        if self._instrument.is_turn(f"private page of {self._agent.id}", _PRIVATE_EVERY):
            self._guard("knowledge_result", documents[1]["content"], "sensitive_data", "handbook-31")

    def _guard(self, target: str, content: Any, risk: str = "", target_id: str = "") -> None:
        """What the agent's own guardian says. It keeps private pages from the model; orders in a text it only notes."""
        is_private = risk == "sensitive_data"
        decision = "allow" if not risk else "deny" if is_private else "audit"
        span = self._begin(
            f"apply_guardrail {_GUARDIAN['microsoft.guardian.name']} {target}", "apply_guardrail", "internal"
        )
        span.attributes |= {
            **_GUARDIAN,
            "microsoft.security.target.type": target,
            "microsoft.security.decision.type": decision,
            "microsoft.security.content.input.value": _cut(str(content)),
        }
        if target_id:
            span.attributes["microsoft.security.target.id"] = target_id
        if risk:
            policy: dict[str, Value] = {
                "microsoft.security.policy.id": "zava-privacy" if is_private else "zava-orders-in-text",
                "microsoft.security.policy.name": "Private pages" if is_private else "Orders in texts",
                "microsoft.security.policy.version": "4",
            }
            span.attributes |= policy | {
                "microsoft.security.decision.code": risk,
                "microsoft.security.decision.reason": (
                    "The page holds private addresses." if is_private else "The text tells the agent what to do."
                ),
            }
            finding: dict[str, Value] = {
                "microsoft.security.risk.category": risk,
                "microsoft.security.risk.severity": "medium" if is_private else "high",
                "microsoft.security.risk.score": 0.71 if is_private else 0.93,
                **policy,
            }
            span.events.append(Event("microsoft.security.finding", span.start, finding))
        self._end(span)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "…"
