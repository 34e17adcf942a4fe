"""What the doors need of HTTP, on raw ASGI: read a body within limits, send an answer, know the caller."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import orjson

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

BODY_SECONDS: Final = 30.0
"""How long a caller may take to send its body."""

JSON: Final = (b"content-type", b"application/json")


class BodyTooLarge(Exception):
    """The body is larger than this door takes."""


class CallerGone(Exception):
    """The caller closed the connection before it had sent everything, or was too slow."""


async def read_body(receive: Receive, limit: int, declared: bytes | None) -> bytes:
    """The whole body. Raises ``BodyTooLarge`` as soon as that is known, ``CallerGone``."""
    if declared is not None and (not declared.isdigit() or int(declared) > limit):
        raise BodyTooLarge
    message = await _next(receive)
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        chunks, size = [body], len(body)
        while message.get("more_body"):
            message = await _next(receive)
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > limit:
                raise BodyTooLarge
        body = b"".join(chunks)
    if len(body) > limit:
        raise BodyTooLarge
    return body


async def _next(receive: Receive) -> dict[str, Any]:
    task = asyncio.current_task()
    assert task is not None
    is_late = False

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        task.cancel()

    # As ``asyncio.timeout``, at a fifth of its price: nearly always the body is there already.
    timer = asyncio.get_running_loop().call_later(BODY_SECONDS, give_up)
    try:
        message = await receive()
    except asyncio.CancelledError:
        if is_late and task.uncancel() == 0:
            raise CallerGone from None
        raise
    finally:
        timer.cancel()
    if message["type"] == "http.disconnect":
        raise CallerGone
    return message


async def answer(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = (JSON,)) -> None:
    """One whole response."""
    raw = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def answer_json(send: Send, status: int, value: Any) -> None:
    """One whole response of JSON."""
    await answer(send, status, orjson.dumps(value))


class Addresses:
    """Who is calling: the peer, or behind proxies that we trust, whom the last of those names."""

    def __init__(self, trusted_proxies: Iterable[str]) -> None:
        self._trusted = tuple(ipaddress.ip_network(p, strict=False) for p in trusted_proxies)

    def is_trusted(self, address: str) -> bool:
        """Whether this is one of our proxies."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted)

    def of(self, scope: Scope, forwarded_for: str | None) -> str:
        """The caller's address."""
        client = scope.get("client")
        address = str(client[0]) if client else ""
        if not self._trusted or forwarded_for is None or not self.is_trusted(address):
            return address
        for hop in reversed(forwarded_for.split(",")):
            hop = hop.strip()
            try:
                ipaddress.ip_address(hop)
            except ValueError:
                return address
            address = hop
            if not self.is_trusted(hop):
                return hop
        return address
