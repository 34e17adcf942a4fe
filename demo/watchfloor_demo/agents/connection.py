"""One agent's connections to tool servers: the official MCP client, a gateway token in every request.

Speaks protocol 2026-07-28 (stateless) or 2025-11-25 (with sessions), as the agent was built. Turns what comes back into
``Outcome``s and never raises for a refusal. Requests leave from a loopback address of the caller's own where the system
has more than one, so that addresses in records are real.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Final

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED, CallToolResult, TextContent

from watchfloor_demo.agents.planner import Outcome
from watchfloor_demo.agents.signin import SignIn
from watchfloor_demo.agents.tokens import TokenRefused, Tokens

META: Final = "dev.watchfloor/"
_BLOCKED: Final = -32090
_HELD: Final = -32091
_UNAVAILABLE: Final = -32092
_UNAUTHORIZED: Final = "unauthorized"
_LOST: Final = "connection_lost"
_MODERN: Final = "2026-07-28"
_TIMEOUT: Final = 30.0


@cache
def _can_use(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


@cache
def _no_tls() -> ssl.SSLContext:
    # One context for all: building one costs 20 ms, and these addresses are http.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def source(address: str) -> str | None:
    """``address`` if requests can leave from it on this system, else None (the system chooses)."""
    return address if address and _can_use(address) else None


class _Bearer(httpx2.Auth):
    """Puts the current token into each request, and the step that it is made for (W3C Trace Context); remembers how the
    gateway refused the last one."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.traceparent = ""
        self.refusal = ""

    def auth_flow(self, request: httpx2.Request) -> Any:
        request.headers["authorization"] = f"Bearer {self.token}"
        if self.traceparent:
            request.headers["traceparent"] = self.traceparent
        response = yield request
        self.refusal = response.headers.get("www-authenticate", "invalid_token") if response.status_code == 401 else ""


class _Link:
    """An open connection to one tool server.

    Lives in a task of its own, because the client's scopes must be left in the task and in the order that they were
    entered in; calls come from other tasks.
    """

    def __init__(self, transport: Any, http: httpx2.AsyncClient, bearer: _Bearer, mode: str) -> None:
        self.bearer = bearer
        self.tools: frozenset[str] = frozenset()
        self.is_dead = False
        self._client = Client(transport, mode=mode, read_timeout_seconds=_TIMEOUT)
        self._http = http
        self._is_open, self._may_close = asyncio.Event(), asyncio.Event()
        self._error: Exception | None = None
        self._task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        try:
            async with self._http, self._client:
                listed = await self._client.list_tools()
                self.tools = frozenset(tool.name for tool in listed.tools)
                self._is_open.set()
                await self._may_close.wait()
        except Exception as error:  # also what the client throws while it closes: nobody needs it any more
            self._error = error
        finally:
            self.is_dead = True
            self._is_open.set()

    async def open(self) -> None:
        """Wait until the tools are listed. Raises whatever went wrong."""
        await self._is_open.wait()
        if self.is_dead:
            raise self._error or RuntimeError("the connection closed at once")

    async def call(self, tool: str, arguments: dict[str, Any], meta: Any) -> CallToolResult:
        """Call a tool. Raises ``MCPError``, or whatever went wrong with the connection."""
        return await self._client.call_tool(tool, arguments, meta=meta, read_timeout_seconds=_TIMEOUT)

    async def close(self) -> None:
        """Leave, whatever state it is in."""
        self._may_close.set()
        await asyncio.wait([self._task], timeout=2.0)
        if not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class ToolBelt:
    """The tool servers that one agent reaches in one conversation: a context manager, used by one task at a time."""

    def __init__(
        self, tokens: Tokens, agent_id: str, person: SignIn | None, *, protocol: str = _MODERN, address: str = ""
    ) -> None:
        self._tokens, self._agent_id, self._person = tokens, agent_id, person
        self._mode = _MODERN if protocol == _MODERN else "legacy"
        self._address = source(address)
        self._links: dict[str, _Link] = {}

    async def __aenter__(self) -> ToolBelt:
        """Nothing is opened before it is used."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close every connection."""
        await asyncio.gather(*(link.close() for link in self._links.values()))
        self._links.clear()

    async def tools(self, server: str) -> frozenset[str] | Outcome:
        """``server.tool`` of each tool that the gateway shows this agent, or why it shows none."""
        link = await self._link(server)
        return link if isinstance(link, Outcome) else frozenset(f"{server}.{name}" for name in link.tools)

    async def _link(self, server: str) -> _Link | Outcome:
        """An open connection with a current token, or why there is none."""
        link = self._links.get(server)
        if link is not None and link.is_dead:
            await self._drop(server)
            link = None
        for is_last in (False, True):
            try:
                token = await self._tokens.get(self._agent_id, server, self._person)
            except TokenRefused as refused:
                return _of_refused_token(refused)
            if link is not None:
                link.bearer.token = token
                return link
            bearer = _Bearer(token)
            # One HTTP client a connection: a transport and a few headers, no TLS to set up.
            http = httpx2.AsyncClient(
                transport=httpx2.AsyncHTTPTransport(local_address=self._address, verify=_no_tls()),
                auth=bearer,
                timeout=_TIMEOUT,
                trust_env=False,
            )
            transport = streamable_http_client(self._tokens.resource(server), http_client=http)
            opening = _Link(transport, http, bearer, self._mode)
            try:
                await opening.open()
            except Exception as error:  # whatever the client makes of it, the agent goes without this server
                await opening.close()
                outcome = _of_error(error, bearer)
                if outcome.code == _UNAUTHORIZED and not is_last:
                    self._tokens.forget(self._agent_id, server, self._person)
                    continue
                # Nothing was called yet, so whatever broke, trying again does no harm.
                return replace(outcome, status="unavailable") if outcome.code == _LOST else outcome
            except asyncio.CancelledError:
                await opening.close()
                raise
            self._links[server] = opening
            return opening
        raise AssertionError("unreachable")

    async def _drop(self, server: str) -> None:
        await self._links.pop(server).close()

    async def call(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, Any],
        meta: Mapping[str, Any] | None = None,
        traceparent: str = "",
    ) -> Outcome:
        """Call a tool once; a token that has died is replaced once. ``meta`` keys get Watchfloor's prefix."""
        for is_last in (False, True):
            link = await self._link(server)
            if isinstance(link, Outcome):
                return link
            link.bearer.refusal, link.bearer.traceparent = "", traceparent
            try:
                result = await link.call(tool, dict(arguments), _prefixed(meta))
            except Exception as error:
                outcome = _of_error(error, link.bearer)
                if outcome.code in (_UNAUTHORIZED, _LOST):
                    await self._drop(server)
                if outcome.code == _UNAUTHORIZED and not is_last:
                    self._tokens.forget(self._agent_id, server, self._person)
                    continue
                return outcome
            return _of_result(result)
        raise AssertionError("unreachable")


def _prefixed(meta: Mapping[str, Any] | None) -> Any:
    return {f"{META}{name}": value for name, value in (meta or {}).items() if value}


def _of_refused_token(refused: TokenRefused) -> Outcome:
    status = "unavailable" if refused.status >= 500 else "refused"
    return Outcome(status, text=refused.description, code=f"token:{refused.code}")


def _of_error(error: Exception, bearer: _Bearer) -> Outcome:
    if bearer.refusal:
        return Outcome("refused", text=bearer.refusal, code=_UNAUTHORIZED)
    if isinstance(error, BaseExceptionGroup):
        first = error.exceptions[0]
        return _of_error(first if isinstance(first, Exception) else RuntimeError(str(first)), bearer)
    if not isinstance(error, MCPError) or error.error.code == CONNECTION_CLOSED:
        # Nobody knows whether the tool did it: a careful agent does not simply do it again.
        return Outcome("failed", text=f"{type(error).__name__}: {error}", code=_LOST)
    data = error.error.data if isinstance(error.error.data, dict) else {}
    hold = data.get("hold")
    token = hold.get("retry_token") if isinstance(hold, dict) else None
    status = {_BLOCKED: "refused", _HELD: "held", _UNAVAILABLE: "unavailable"}.get(error.error.code, "failed")
    code = str(data.get("code", error.error.code))
    return Outcome(status, None, error.error.message, code, str(data.get("invocation", "")), token)


def _of_result(result: CallToolResult) -> Outcome:
    text = "\n".join(block.text for block in result.content if isinstance(block, TextContent))
    if result.is_error:
        return Outcome("failed", text=text, code="tool_error")
    if result.structured_content is not None:
        return Outcome("ok", result.structured_content, text)
    try:
        return Outcome("ok", json.loads(text), text)
    except ValueError:
        return Outcome("ok", text, text)


def user_turns(turns: Sequence[str]) -> list[str]:
    """The user's words of a conversation as the gateway takes them: newest last, the latest fifty."""
    return list(turns)[-50:]
