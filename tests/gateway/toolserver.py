"""A real MCP tool server of the official SDK, and a tap before it that notes every request that reaches it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class Seen:
    """One HTTP request as it arrived."""

    method: str
    headers: dict[str, str]
    raw_headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def rpc(self) -> dict[str, Any]:
        value = json.loads(self.body) if self.body else {}
        assert isinstance(value, dict)
        return value


@dataclass
class Tap:
    """Notes requests, then lets them through. ``refuse_with`` answers instead."""

    app: ASGIApp
    seen: list[Seen] = field(default_factory=list)
    refuse_with: tuple[int, list[tuple[bytes, bytes]]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        messages: list[Message] = []
        body = b""
        while scope["method"] == "POST":
            message = await receive()
            messages.append(message)
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        raw = list(scope["headers"])
        self.seen.append(Seen(scope["method"], {k.decode(): v.decode("latin-1") for k, v in raw}, raw, body))

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        if self.refuse_with is not None:
            status, headers = self.refuse_with
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        await self.app(scope, replay, send)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The ``tools/call`` requests that reached the server."""
        return [s.rpc for s in self.seen if s.method == "POST" and s.rpc.get("method") == "tools/call"]


class Answer(BaseModel):
    """What ``ask`` asks for."""

    name: str


class ToolServer:
    """An MCP server with a handful of tools. ``journal`` counts what the tools themselves saw."""

    def __init__(self) -> None:
        self.journal: list[tuple[str, dict[str, Any]]] = []
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.server = server = MCPServer("tools")

        @server.tool()
        async def lookup(key: str) -> str:
            """Look a customer up."""
            self.journal.append(("lookup", {"key": key}))
            return f"record of {key}"

        @server.tool()
        async def send_email(to: list[str], body: str = "") -> str:
            """Send an e-mail."""
            self.journal.append(("send_email", {"to": to, "body": body}))
            return "sent"

        @server.tool()
        async def pay(amount: float, to: str) -> str:
            """Pay somebody."""
            self.journal.append(("pay", {"amount": amount, "to": to}))
            return "paid"

        @server.tool()
        async def fail(why: str) -> str:
            """Fail."""
            self.journal.append(("fail", {"why": why}))
            raise ToolError(why)

        @server.tool()
        async def wait() -> str:
            """Wait until released."""
            self.journal.append(("wait", {}))
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            return "released"

        @server.tool()
        async def count(to: int, ctx: Context) -> str:
            """Count, and say how far it is."""
            self.journal.append(("count", {"to": to}))
            for number in range(1, to + 1):
                await ctx.report_progress(number, to)
            return f"counted to {to}"

        @server.tool()
        async def drip(ctx: Context) -> str:
            """Report progress once, then wait until released."""
            self.journal.append(("drip", {}))
            try:
                await ctx.report_progress(1, 2)
                await self.release.wait()
                await ctx.report_progress(2, 2)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            return "dripped"

        @server.tool()
        async def ask(ctx: Context) -> str:
            """Ask the user who it is."""
            self.journal.append(("ask", {}))
            answer = await ctx.elicit("Who are you?", Answer)
            return f"hello {answer.data.name}" if answer.action == "accept" else "hello nobody"

        @server.tool()
        async def big(size: int) -> str:
            """Say much."""
            self.journal.append(("big", {"size": size}))
            return "x" * size

        @server.tool()
        async def secret_tool() -> str:
            """Nobody was granted this."""
            self.journal.append(("secret_tool", {}))
            return "secret"

        @server.resource("notes://{name}")
        async def note(name: str) -> str:
            """A note."""
            self.journal.append(("notes", {"name": name}))
            return f"note {name}"

        @server.prompt()
        async def greet(name: str) -> str:
            """Greet somebody."""
            self.journal.append(("greet", {"name": name}))
            return f"Hello {name}"

        security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        self.tap = Tap(server.streamable_http_app(transport_security=security))
