"""What a tool server lists: asked with the official MCP client, within walls.

Above the ``mcp`` package; ``registry.pinning`` compares and stores. Speaks protocol 2026-07-28 and, where a server does
not, 2025-11-25 and older, as the client negotiates it. It knows neither the database nor what was approved.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpcore2
import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import Implementation

from watchfloor.model.errors import Unavailable
from watchfloor.model.urls import address_problem, outbound_problem

MAX_TOOLS: Final = 2_000
MAX_PAGES: Final = 100
MAX_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Listing:
    """Definitions as listed, by name. ``doubled``: names listed twice, of which the first counts."""

    tools: Mapping[str, Mapping[str, Any]]
    protocol: str
    doubled: tuple[str, ...] = ()


class _Budget:
    def __init__(self, limit: int) -> None:
        self.left = limit


class _CountedStream(httpx2.AsyncByteStream):
    """A response body that counts against the listing's budget of bytes."""

    def __init__(self, inner: httpx2.AsyncByteStream, budget: _Budget) -> None:
        self._inner, self._budget = inner, budget

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            self._budget.left -= len(chunk)
            if self._budget.left < 0:
                raise httpx2.ReadError(f"the answers are longer than {MAX_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Resolving(httpcore2.AsyncNetworkBackend):
    """Looks a name up, once, and connects to what it stands for if all of that may be called."""

    def __init__(self) -> None:
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} cannot be found: {error}") from error
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        for address in addresses:
            if problem := address_problem(address):
                raise httpcore2.ConnectError(f"{host} stands for {address}. {problem}")
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


def _transport() -> httpx2.AsyncHTTPTransport:
    made = httpx2.AsyncHTTPTransport()
    # httpx2 offers no other way to look at addresses; a test notices should this one end.
    made._pool._network_backend = _Resolving()
    return made


class _WalledTransport(httpx2.AsyncBaseTransport):
    """Checks where each request really goes, and counts what comes back."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, budget: _Budget) -> None:
        self._inner, self._budget = inner, budget

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        problem = outbound_problem(str(request.url))
        if problem:
            raise httpx2.ConnectError(problem)
        response = await self._inner.handle_async_request(request)
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _CountedStream(response.stream, self._budget)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


async def list_tools(url: str, credential: str | None, *, timeout: float) -> Listing:
    """Every tool that the server at ``url`` lists.

    ``credential`` is sent as a bearer token, to this origin only. ``timeout``: seconds for all of it. Raises
    ``Unavailable``, saying what went wrong, fit to show; it never holds the credential.
    """
    headers = {"authorization": f"Bearer {credential}"} if credential else {}
    try:
        async with asyncio.timeout(timeout):
            transport = _WalledTransport(_transport(), _Budget(MAX_BYTES))
            async with httpx2.AsyncClient(
                transport=transport, headers=headers, timeout=timeout, trust_env=False, follow_redirects=False
            ) as http:
                client = Client(
                    streamable_http_client(url, http_client=http),
                    client_info=Implementation(name="watchfloor", version="1"),
                    read_timeout_seconds=timeout,
                    cache=None,
                )
                async with client:
                    return await _pages(client)
    except TimeoutError as error:
        raise Unavailable(f"the tool server did not list its tools within {timeout:g} s") from error
    except Exception as error:
        # The client reports through groups of whatever its parts raise. All of it means the same here: no listing.
        raise Unavailable(f"the tool server does not list its tools: {_cause(error)}") from error


async def _pages(client: Client) -> Listing:
    tools: dict[str, Mapping[str, Any]] = {}
    doubled: list[str] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            definition = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
            if tool.name in tools:
                doubled.append(tool.name)
            elif len(tools) >= MAX_TOOLS:
                raise ValueError(f"it lists more than {MAX_TOOLS} tools")
            else:
                tools[tool.name] = definition
        cursor = page.next_cursor
        if not cursor:
            return Listing(tools, client.protocol_version, tuple(doubled))
    raise ValueError(f"its list has more than {MAX_PAGES} pages")


def _cause(error: BaseException) -> str:
    """The innermost reason, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, httpx2.HTTPStatusError):
        return f"it answers {error.response.status_code}"
    if isinstance(error, MCPError | ValueError | httpx2.HTTPError):
        return " ".join(str(error).split())[:300] or type(error).__name__
    return type(error).__name__
