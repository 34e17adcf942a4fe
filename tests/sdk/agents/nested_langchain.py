"""An agent with a tool that invokes another agent, both guarded; what it tells the other is a model's word."""

from __future__ import annotations

from typing import Any

from common import DONE, ORDER, READ, SEND

import office  # isort: skip
from langchain.agents import create_agent
from langchain_agent import ListModel, said

from watchfloor_sdk.adapters.langchain import WatchfloorMiddleware

guard = WatchfloorMiddleware(office.guard().bind(conversation_id=office.prompt()))


def model(*steps: dict[str, Any]) -> ListModel:
    return ListModel(responses=[said(step) for step in steps])


clerk = create_agent(model(SEND, DONE), [office.send_email], middleware=[guard])


def ask_clerk(order: str) -> str:
    """Asks the clerk."""
    return str(clerk.invoke({"messages": [{"role": "user", "content": order}]})["messages"][-1].text)


order = {"tool": "ask_clerk", "arguments": {"order": ORDER}, "id": "3"}
boss = create_agent(model(READ, order, DONE), [office.read_mail, ask_clerk], middleware=[guard])
state = boss.invoke({"messages": [{"role": "user", "content": office.prompt()}]})
office.report([], state["messages"][-1].text)
