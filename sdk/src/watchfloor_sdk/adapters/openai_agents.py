"""OpenAI Agents SDK: function tools that ask the guard before they run.

    agent = protect(Agent(name="Billing", model=model, tools=[read_mail, send_email]), guard)

``protect`` copies an agent with all of its function tools guarded, those of agents that it hands over to included;
``guarded_tool`` does it for one tool. The guard is asked inside the tool, behind guardrails and approvals of the SDK:
what was judged is what runs. A call that may not be made gives its reason as the tool's output, and the function is not
called. The user's words are those of the run's input; the conversation is the ``group_id`` of its ``RunConfig``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from agents import Agent, FunctionTool, Handoff
from agents.tool_context import ToolContext

from watchfloor_sdk.adapters.asking import AnyGuard, Heard, NotRun, asked_later, awaited

_GUARDED = "_watchfloor_guarded"


def guarded_tool(tool: FunctionTool, guard: AnyGuard) -> FunctionTool:
    """A copy of ``tool`` that asks ``guard`` under the tool's name, with its namespace if it has one."""
    if getattr(tool, _GUARDED, False):
        return tool
    guarded = copy.copy(tool)
    inner, name = guarded.on_invoke_tool, tool.qualified_name

    async def invoke(context: ToolContext[Any], text: str) -> Any:
        try:
            async with asked_later(awaited(guard), name, _parsed(text), _heard(context)) as running:
                # Written anew: of doubled members another parser might have taken the other one.
                running.result = output = await inner(context, json.dumps(running.arguments))
        except NotRun as refused:
            return refused.text
        return output

    guarded.on_invoke_tool = invoke
    setattr(guarded, _GUARDED, True)
    return guarded


def protect(agent: Agent[Any], guard: AnyGuard, *, unguarded: Collection[str] = ()) -> Agent[Any]:
    """A copy of ``agent`` whose tools ask ``guard``, with copies of the agents that it hands over to.

    Tools that do not run here (hosted ones), and MCP servers, cannot be guarded: reach MCP servers through the gateway.
    Raises ``ValueError`` for each that is not named in ``unguarded``.
    """
    return _Protection(guard, frozenset(unguarded)).of(agent)


class _Protection:
    def __init__(self, guard: AnyGuard, unguarded: frozenset[str]) -> None:
        self._guard, self._unguarded = guard, unguarded
        self._done: dict[int, tuple[Agent[Any], Agent[Any]]] = {}

    def of(self, agent: Agent[Any]) -> Agent[Any]:
        """The one copy of ``agent``; agents may hand over in circles."""
        known = self._done.get(id(agent))
        if known is not None:
            return known[1]
        problems = [f"the MCP server {s.name}" for s in agent.mcp_servers if s.name not in self._unguarded]
        problems += [
            f"the tool {tool.name}"
            for tool in agent.tools
            if not isinstance(tool, FunctionTool) and tool.name not in self._unguarded
        ]
        if problems:
            raise ValueError(
                f"{agent.name}: {', '.join(problems)} cannot be guarded here. Reach MCP servers through the gateway; "
                "name in unguarded= what shall go unguarded."
            )
        protected = agent.clone()
        self._done[id(agent)] = agent, protected
        protected.tools = [guarded_tool(t, self._guard) if isinstance(t, FunctionTool) else t for t in agent.tools]
        protected.handoffs = [self._handoff(handoff) for handoff in agent.handoffs]
        return protected

    def _handoff(self, handoff: Any) -> Any:
        if isinstance(handoff, Agent):
            return self.of(handoff)
        if not isinstance(handoff, Handoff):
            raise ValueError(f"{handoff!r} is no agent and no handoff; it cannot be guarded.")
        inner = handoff.on_invoke_handoff

        async def invoke(*args: Any, **kwargs: Any) -> Any:
            return self.of(await inner(*args, **kwargs))

        return replace(handoff, on_invoke_handoff=invoke)


def _parsed(text: str) -> object:
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return None


def _heard(context: ToolContext[Any]) -> Heard:
    config = getattr(context, "run_config", None)
    group = getattr(config, "group_id", None)
    return Heard(tuple(_turns(context.turn_input)), str(group) if group else None)


def _turns(items: Any) -> Iterator[str]:
    for item in items:
        if not isinstance(item, dict) or item.get("role") != "user":
            continue
        content = item.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            yield "\n".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)
