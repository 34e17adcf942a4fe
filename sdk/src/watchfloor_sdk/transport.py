"""What both clients do with httpx: no redirects, no proxies of the environment, bounded answers, ``NoAnswer``."""

from __future__ import annotations

import ssl
from typing import Any, Final

import httpx

from watchfloor_sdk.protocol import NoAnswer, Request

LARGEST_ANSWER: Final = 32 * 1024 * 1024
# The gateway closes idle connections after 75 s: ours are closed well before, so none is used that is going away.
LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0)


def options(verify: ssl.SSLContext | None) -> dict[str, Any]:
    """How a client is made. Certificates: ``verify``, else the system's trust store or ``SSL_CERT_FILE``."""
    # A decision says what an agent is about to do: it goes to the gateway, not to a proxy that a variable names.
    return {
        "verify": verify or ssl.create_default_context(),
        "trust_env": False,
        "follow_redirects": False,
        "limits": LIMITS,
    }


def arguments(request: Request, seconds: float) -> dict[str, Any]:
    """``request`` as httpx takes it."""
    return {
        "method": request.method,
        "url": request.url,
        "headers": dict(request.headers),
        "content": request.body or None,
        "timeout": seconds,
    }


def no_answer(error: Exception) -> NoAnswer:
    """``error`` of httpx in words that name no header and no body."""
    if isinstance(error, (httpx.TimeoutException, TimeoutError)):
        return NoAnswer("it took too long", is_timeout=True)
    if isinstance(error, httpx.ConnectError):
        return NoAnswer("it cannot be reached")
    return NoAnswer(f"{type(error).__name__}")


class Body:
    """An answer's bytes as they come in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> None:
        """Raises ``NoAnswer`` when it is longer than any good answer."""
        self._size += len(part)
        if self._size > LARGEST_ANSWER:
            raise NoAnswer("it is too long")
        self._parts.append(part)

    def whole(self) -> bytes:
        """All of them."""
        return b"".join(self._parts)
