"""A real MCP tool server for tests: journals each call that reaches it, then answers.

``toolserver.py PORT JOURNAL``. Callers need ``Authorization: Bearer $TOOL_SECRET``: nobody goes around the gateway.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PORT, JOURNAL = int(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

mcp = MCPServer("mail")


def _journal(tool: str, arguments: dict[str, Any]) -> None:
    os.write(JOURNAL, json.dumps({"at": time.time(), "tool": tool, **arguments}).encode() + b"\n")


@mcp.tool()
async def send_email(to: list[str], subject: str, body: str) -> str:
    """Send an e-mail."""
    _journal("send_email", {"to": to, "subject": subject})
    return "sent"


@mcp.tool()
async def lookup(key: str) -> str:
    """Look a customer up."""
    _journal("lookup", {"key": key})
    return f"record of {key}"


@mcp.tool()
async def watch(key: str, ctx: Context[Any, Any]) -> str:
    """Watch a customer for a minute, and tell of it twenty times a second."""
    _journal("watch", {"key": key})
    for tick in range(1200):
        await ctx.report_progress(tick, 1200)
        await asyncio.sleep(0.05)
    return f"nothing happened to {key}"


def guarded(app: ASGIApp) -> ASGIApp:
    """Refuse whoever does not know the secret."""
    expected = f"Bearer {os.environ['TOOL_SECRET']}".encode()

    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != expected:
            await PlainTextResponse("who are you?", 401)(scope, receive, send)
            return
        await app(scope, receive, send)

    return asgi


if __name__ == "__main__":
    uvicorn.run(guarded(mcp.streamable_http_app()), host="127.0.0.1", port=PORT, log_level="warning")
