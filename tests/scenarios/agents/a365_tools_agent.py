"""An agent on Agent 365's tooling SDK 2.0. Prints, as JSON, which tool servers it has, and what came of its calls.

It knows Agent 365's SDK, the official MCP client, and how its company exchanges tokens; nothing else. What it is to do
stands in ``TASK``: agent, user's words, history, calls; whether to ask with an authorization context or the older way.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from microsoft_agents.activity import Activity, ConversationAccount
from microsoft_agents_a365.tooling import McpToolServerConfigurationService
from microsoft_agents_a365.tooling.models import ChatHistoryMessage, ChatMessageRequest
from microsoft_agents_a365.tooling.utils.utility import get_chat_history_endpoint

TASK = json.loads(os.environ["TASK"])


class CompanysAuthorization:
    """Exchanges the signed-in user's token, as the company has it: the scope names what the token is for."""

    async def exchange_token(self, context: Any, scopes: list[str], handler: str) -> Any:
        return SimpleNamespace(token=exchanged(scopes[0].removesuffix("/.default")))


def exchanged(resource: str) -> str:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": os.environ["USER_TOKEN"],
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "resource": resource,
    }
    secret = base64.b64encode(os.environ["AGENT_CREDENTIALS"].encode()).decode()
    request = Request(os.environ["TOKEN_URL"], urlencode(form).encode(), {"authorization": f"Basic {secret}"})
    with urlopen(request, timeout=20) as response:
        return str(json.load(response)["access_token"])


def tell(token: str, message: ChatMessageRequest) -> int:
    body = json.dumps(message.model_dump(by_alias=True, mode="json")).encode()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    try:
        with urlopen(Request(get_chat_history_endpoint(), body, headers), timeout=20) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code


async def call(url: str, headers: dict[str, str], tool: str, arguments: dict[str, Any]) -> str:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        try:
            result = await client.call_tool(tool, arguments)
        except Exception as error:
            return f"refused: {getattr(getattr(error, 'error', None), 'data', None) or error}"
        return "failed" if result.is_error else "done"


async def main() -> None:
    activity = Activity(
        type="message", id="message-1", text=TASK["words"], conversation=ConversationAccount(id="conversation-1")
    )
    context = SimpleNamespace(activity=activity)
    service, token = McpToolServerConfigurationService(), exchanged(f"{os.environ['MCP_PLATFORM_ENDPOINT']}/agents")
    history = [
        ChatHistoryMessage(id=str(number), role=role, content=text, timestamp=datetime.now(UTC))
        for number, (role, text) in enumerate(TASK["history"])
    ]
    told: dict[str, Any] = {}
    if TASK["tell"]:
        sent = await service.send_chat_history(context, history)
        told["by the package"] = sent.succeeded
        message = ChatMessageRequest(
            conversation_id="conversation-1", message_id="message-1", user_message=TASK["words"], chat_history=history
        )
        told["with a token"] = tell(token, message)
    servers, problem = [], ""
    try:
        if TASK["has_context"]:
            servers = await service.list_tool_servers(
                TASK["agent"],
                token,
                authorization=CompanysAuthorization(),
                auth_handler_name="company",
                turn_context=context,
            )
        else:
            servers = await service.list_tool_servers(TASK["agent"], token)
    except Exception as error:
        problem = str(error)
    urls = {server.mcp_server_name: (server.url, server.headers or {}) for server in servers}
    answers = []
    for server, tool, arguments in TASK["calls"]:
        url, headers = urls[server]
        answers.append(await call(url, headers or {"Authorization": f"Bearer {token}"}, tool, arguments))
    print(json.dumps({"servers": sorted(urls), "problem": problem, "told": told, "answers": answers}))


asyncio.run(main())
