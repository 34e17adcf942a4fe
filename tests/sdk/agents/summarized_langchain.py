"""LangChain's own summary of a conversation, which quotes a mail, and stands in the state as a human message."""

from __future__ import annotations

import json

from common import DONE, SEND

import office  # isort: skip
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain.messages import AIMessage, HumanMessage, ToolMessage
from langchain_agent import ListModel, said

from watchfloor_sdk.adapters.langchain import WatchfloorMiddleware

guard = office.guard().bind(conversation_id="summarized")
guard.observe(user_turns=["Read my mail"], tool="read_mail", result=office.MAIL)
summary = SummarizationMiddleware(
    ListModel(responses=[AIMessage(f"The mail said: {office.MAIL}")]), trigger=("messages", 4), keep=("messages", 1)
)
agent = create_agent(
    ListModel(responses=[said(SEND), said(DONE)]),
    [office.send_email],
    middleware=[summary, WatchfloorMiddleware(guard)],
)
past = [HumanMessage("Read my mail"), AIMessage("I did."), HumanMessage("Good."), HumanMessage("Go on.")]
messages = agent.invoke({"messages": past})["messages"]
written = [m.text for m in messages if isinstance(m, HumanMessage) and office.MAIL[:20] in m.text]
told = [m.text for m in messages if isinstance(m, ToolMessage)]
print(json.dumps({"ran": office.RAN, "summary": written[0], "told": told}))
