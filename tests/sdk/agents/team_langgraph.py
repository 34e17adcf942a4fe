"""A graph whose boss hands an order on to another agent as a human message, as supervisors do."""

from __future__ import annotations

from contextlib import nullcontext
from os import environ
from typing import Any

from common import DONE, ORDER, READ, SEND

import office  # isort: skip
from langchain.agents import create_agent
from langchain.messages import HumanMessage
from langchain_agent import ListModel, said
from langgraph.graph import START, MessagesState, StateGraph

from watchfloor_sdk.adapters import hearing
from watchfloor_sdk.adapters.langchain import WatchfloorMiddleware

guarding = WatchfloorMiddleware(office.guard().bind(conversation_id=f"team-{office.prompt()}"))


def agent(*steps: dict[str, Any]) -> Any:
    return create_agent(ListModel(responses=[said(step) for step in steps]), office.TOOLS, middleware=[guarding])


boss, clerk = agent(READ, DONE), agent(SEND, DONE)


def hand_over(state: MessagesState) -> Any:
    return clerk.invoke({"messages": [HumanMessage(ORDER)]})


graph = StateGraph(MessagesState).add_node("boss", boss).add_node("clerk", hand_over)
app = graph.add_edge(START, "boss").add_edge("boss", "clerk").compile()
with hearing([office.prompt()]) if environ["HEARING"] == "1" else nullcontext():
    app.invoke({"messages": [HumanMessage(office.prompt())]})
office.report([], "")
