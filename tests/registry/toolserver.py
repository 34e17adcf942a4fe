"""Tool servers for the registry's tests: one of the official SDK whose tools can change, and one that misbehaves."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mcp_types as types
import uvicorn
from mcp.server import Server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

SEND: dict[str, Any] = {
    "name": "send_email",
    "description": "Send a message.",
    "inputSchema": {"type": "object", "properties": {"to": {"type": "string", "default": None}, "n": {"maximum": 1.0}}},
}
SEARCH: dict[str, Any] = {
    "name": "search_mail",
    "description": "Search a mailbox.",
    "inputSchema": {"type": "object", "properties": {"words": {"type": "string"}}},
    "annotations": {"readOnlyHint": True, "title": "Search"},
}


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """``app`` on a free port; its base URL."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", ws="none"))
    started = threading.Event()
    startup = server.startup

    async def announce(*args: Any, **kwargs: Any) -> None:
        await startup(*args, **kwargs)
        started.set()

    server.startup = announce  # type: ignore[method-assign]  # tells when the port is open
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(20)


class ToolServer:
    """A server of the official SDK. ``tools`` is what it lists now; ``credentials`` what callers showed."""

    def __init__(self, *tools: dict[str, Any]) -> None:
        self.tools = list(tools)
        self.credentials: list[str | None] = []
        self.page_size = 100

    def app(self) -> Any:
        async def list_tools(context: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
            start = int(params.cursor) if params and params.cursor else 0
            end = start + self.page_size
            tools = [types.Tool.model_validate(t) for t in self.tools[start:end]]
            return types.ListToolsResult(tools=tools, next_cursor=str(end) if end < len(self.tools) else None)

        inner = Server("mail", on_list_tools=list_tools).streamable_http_app()

        async def asgi(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                found = dict(scope["headers"]).get(b"authorization")
                self.credentials.append(found.decode() if found else None)
            await inner(scope, receive, send)

        return asgi


class LegacyServer:
    """Speaks 2025-11-25 by hand, and what a test makes of it: ``listing`` gives the result of ``tools/list``."""

    def __init__(self, listing: Callable[[str | None], dict[str, Any]] = lambda cursor: {"tools": [SEND]}) -> None:
        self.listing = listing
        self.behaviour = "good"
        self.credentials: list[str | None] = []

    def app(self) -> Starlette:
        return Starlette(
            routes=[Route("/mcp", self._answer, methods=["GET", "POST", "DELETE"]), Route("/other", self._answer)]
        )

    async def _answer(self, request: Request) -> Response:
        self.credentials.append(request.headers.get("authorization"))
        if request.method != "POST":
            return Response(status_code=405)
        message = json.loads(await request.body())
        match self.behaviour:
            case "hangs":
                await asyncio.sleep(60)
            case "refuses":
                return Response(status_code=401)
            case "breaks":
                return Response(status_code=500)
            case "talks nonsense":
                return Response("<html>", media_type="text/html")
            case "redirects":
                return RedirectResponse("http://169.254.169.254/mcp", status_code=307)
            case "never stops":
                return StreamingResponse(self._endless(), media_type="application/json")
        if "id" not in message:
            return Response(status_code=202)
        return self._result(message)

    def _result(self, message: dict[str, Any]) -> Response:
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] == "initialize":
            answer["result"] = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "old", "version": "1"},
            }
        elif message["method"] == "tools/list":
            answer["result"] = self.listing(message.get("params", {}).get("cursor"))
        else:
            answer["error"] = {"code": -32601, "message": "Method not found"}
        return JSONResponse(answer)

    async def _endless(self) -> Any:
        for _ in range(64):  # endless enough, and it ends after the test
            yield b" " * 1_000_000
            await asyncio.sleep(0)
