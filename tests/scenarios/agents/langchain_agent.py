"""An agent in LangChain, with a model that answers from a list. What tells of it is named by INSTRUMENTOR."""

from __future__ import annotations

import os
from pkgutil import resolve_name
from typing import Any

from langchain.agents import create_agent
from langchain.messages import AIMessage
from langchain.tools import tool
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel

CALL = {"name": "look_up", "args": {"customer": "Fabrikam"}, "id": "call_1"}


class Model(FakeMessagesListChatModel):
    """Takes tools, and says what model it is, as models of vendors do."""

    model_name: str = "gpt-5"

    def bind_tools(self, *args: Any, **kwargs: Any) -> Model:
        return self

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": self.model_name, "ls_model_type": "chat"}

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name}


@tool
def look_up(customer: str) -> str:
    """Looks a customer up."""
    return f"{customer} owes 1250"


def main() -> None:
    """Answer one person."""
    resolve_name(os.environ["INSTRUMENTOR"])().instrument()
    usage = {"input_tokens": 31, "output_tokens": 5, "total_tokens": 36}
    said = [AIMessage("", tool_calls=[CALL], usage_metadata=usage), AIMessage("1250", usage_metadata=usage)]
    agent = create_agent(
        Model(responses=said), [look_up], system_prompt="You know what customers owe.", name="Ledger Agent"
    )
    question = {"messages": [{"role": "user", "content": "What does Fabrikam owe us?"}]}
    about = {"metadata": {"session_id": "conversation-ledger", "user_id": "griffin"}}
    assert agent.invoke(question, config=about)["messages"][-1].text == "1250"


if __name__ == "__main__":
    main()
