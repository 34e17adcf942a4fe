"""The way out: one pool of connections and one TLS context for all tool servers, nothing followed, nothing repeated.

Where a request goes is decided by the registry alone; headers are those that the door built. It knows HTTP and its
failures, and nothing of MCP: a failure is told as ``UpstreamError``, and whether the call may have gone out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from watchfloor.gateway.http1 import BadAnswer, Broken, ConnectFailed, Origin, Pool, Response
from watchfloor.model.facts import ServerFacts
from watchfloor.model.urls import outbound_problem

_CONNECT_SECONDS: Final = 10.0
_POOL_SIZE: Final = 2000


class UpstreamError(Exception):
    """The tool server did not answer as it should. ``went_out``: whether the request may have reached it."""

    def __init__(self, code: str, message: str, *, went_out: bool, is_timeout: bool = False) -> None:
        self.code, self.message, self.went_out, self.is_timeout = code, message, went_out, is_timeout
        super().__init__(message)


FAILURES: Final = (ConnectFailed, Broken, BadAnswer, TimeoutError)
"""What reading an answer may raise; ``failure`` explains each."""


def failure(error: Exception) -> UpstreamError:
    """What one of ``FAILURES`` means. Addresses and texts of the tool server stay here."""
    if isinstance(error, ConnectFailed):
        return UpstreamError("tool_server_unreachable", "The tool server cannot be reached.", went_out=False)
    if isinstance(error, BadAnswer):
        return UpstreamError("tool_server_invalid_answer", "The tool server's answer is not HTTP.", went_out=True)
    if isinstance(error, TimeoutError):
        return UpstreamError(
            "tool_server_timeout",
            "The tool server did not answer in time. The call did go out and may still take effect.",
            went_out=True,
            is_timeout=True,
        )
    return UpstreamError(
        "tool_server_failed",
        "The connection to the tool server broke. The call did go out and may have taken effect.",
        went_out=True,
    )


class _Address:
    """A tool server's URL, read once: where to connect, and how every request to it begins."""

    __slots__ = ("host", "origin", "target")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        port = parts.port or (443 if is_tls else 80)
        host = parts.hostname or ""
        self.origin = Origin(host, port, is_tls)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.target = target.encode("ascii")
        named = f"[{host}]" if ":" in host else host
        self.host = (named if port == (443 if is_tls else 80) else f"{named}:{port}").encode(
            "idna" if not named.isascii() else "ascii"
        )


class Upstreams:
    """Requests to tool servers. ``start`` inside the event loop, ``close`` in the end."""

    def __init__(self) -> None:
        self._pool: Pool | None = None
        self._addresses: dict[str, _Address] = {}

    def start(self) -> None:
        """Make the pool."""
        self._pool = Pool(limit=_POOL_SIZE, connect_seconds=_CONNECT_SECONDS)

    def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _address(self, url: str) -> _Address:
        address = self._addresses.get(url)
        if address is None:
            try:
                if outbound_problem(url) is not None:
                    raise ValueError
                address = _Address(url)
            except ValueError:
                raise UpstreamError(
                    "tool_server_address",
                    "The tool server has no http or https address that the gateway may call.",
                    went_out=False,
                ) from None
            if len(self._addresses) >= 10_000:
                self._addresses.clear()
            self._addresses[url] = address
        return address

    async def open(
        self, method: str, server: ServerFacts, headers: Mapping[str, str], body: bytes | None, *, endless: bool = False
    ) -> Response:
        """Send a request and return the answer once its head is here; the caller reads and closes it.

        ``endless``: a stream that may be silent for as long as it likes. Raises ``UpstreamError``.
        """
        assert self._pool is not None, "start was not called"
        address = self._address(server.url)
        told = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")
        length = b"" if body is None else b"content-length: %d\r\n" % len(body)
        request = b"%b %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%b%b\r\n%b" % (
            method.encode(), address.target, address.host, told, length, body or b"",
        )  # fmt: skip
        try:
            if not endless:
                response = await self._pool.request(address.origin, request, server.timeout_seconds)
            else:
                async with asyncio.timeout(server.timeout_seconds):
                    response = await self._pool.request(address.origin, request, None)
        except FAILURES as error:
            raise failure(error) from error
        if response.headers.get(b"content-encoding", b"identity") != b"identity":
            response.close()
            raise UpstreamError(
                "tool_server_invalid_answer", "The tool server compresses what it was asked not to.", went_out=True
            )
        return response
