"""An agent in LangChain behind Watchfloor: one line of middleware. See office.py for what it does."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import office
from langchain.agents import create_agent
from langchain.messages import AIMessage, ToolMessage
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel

from watchfloor_sdk import AsyncGuard
from watchfloor_sdk.adapters.langchain import WatchfloorMiddleware


class ListModel(FakeMessagesListChatModel):
    """Says what the script says."""

    def bind_tools(self, *args: Any, **kwargs: Any) -> ListModel:
        return self


def said(step: dict[str, Any]) -> AIMessage:
    if "say" in step:
        return AIMessage(step["say"])
    return AIMessage("", tool_calls=[{"name": step["tool"], "args": step["arguments"], "id": step["id"]}])


def main() -> None:
    awaited = os.environ.get("AWAITED") == "1"
    guard = office.guard(AsyncGuard) if awaited else office.guard()
    model = ListModel(responses=[said(step) for step in office.script()])
    agent = create_agent(model, office.TOOLS, middleware=[WatchfloorMiddleware(guard)])
    question = {"messages": [{"role": "user", "content": office.prompt()}]}
    config = {"configurable": {"thread_id": "thread-1"}}
    state = asyncio.run(agent.ainvoke(question, config)) if awaited else agent.invoke(question, config)
    told = [m.text for m in state["messages"] if isinstance(m, ToolMessage)]
    office.report(told, state["messages"][-1].text)


if __name__ == "__main__":
    main()
