"""LangGraph's own node for tools, in a graph without an agent."""

from __future__ import annotations

from common import READ, SEND

import office  # isort: skip
from langchain.messages import HumanMessage
from langchain.tools import tool
from langchain_agent import said
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from watchfloor_sdk.adapters.langchain import WatchfloorMiddleware

guarding = WatchfloorMiddleware(office.guard().bind(conversation_id="graph"))
tools = [tool(each) for each in office.TOOLS]
node = ToolNode(tools, wrap_tool_call=guarding.wrap_tool_call, awrap_tool_call=guarding.awrap_tool_call)
graph = StateGraph(MessagesState).add_node("tools", node).add_edge(START, "tools").compile()
for step in (READ, SEND):
    graph.invoke({"messages": [HumanMessage(office.prompt()), said(step)]})
office.report([], "")
