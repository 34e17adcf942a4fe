"""What surrounds every route: a limit on bodies, headers that harden browsers, a count, an answer when all fails.

One ASGI layer around the portal. It knows paths, sizes and headers, nothing of what is behind them. The framework has a
limit of its own, but answers outside of every layer of ours, without our headers and not as problem details.
"""

from __future__ import annotations

import time
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from watchfloor.portal.health import Counts
from watchfloor.portal.problems import too_large, unforeseen

_PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_API_POLICY: Final = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_YEAR: Final = 31_536_000


class BodyTooLarge(Exception):
    """Raised inside the application when it reads past the limit."""


class Walls:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, is_https: bool, counts: Counts) -> None:
        self._app, self._most, self._is_https, self._counts = app, max_body_bytes, is_https, counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, received, has_begun = time.perf_counter(), 500, 0, False

        async def bounded_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                raise BodyTooLarge
            return message

        async def hardened_send(message: Message) -> None:
            nonlocal status, has_begun
            if message["type"] == "http.response.start":
                if received > self._most and not has_begun and message["status"] != 413:
                    # The framework takes the cut for a broken body and is about to say so: the wall answers instead.
                    raise BodyTooLarge
                status, has_begun = message["status"], True
                self._harden(MutableHeaders(scope=message))
            await send(message)

        try:
            length = Headers(scope=scope).get("content-length", "0")
            if not length.isdecimal() or int(length) > self._most:
                raise BodyTooLarge
            await self._app(scope, bounded_receive, hardened_send)
        except Exception as error:
            if has_begun:
                raise
            path = scope["path"]
            answer = too_large(path) if received > self._most or isinstance(error, BodyTooLarge) else None
            await (answer or unforeseen(scope["method"], path, error))(scope, receive, hardened_send)
        finally:
            # Not the path: whoever asks for many that do not exist must not fill the memory with counts.
            route = getattr(scope.get("route"), "path", "other")
            self._counts.add(scope["method"], route, status, time.perf_counter() - started)

    def _harden(self, headers: MutableHeaders) -> None:
        is_page = headers.get("content-type", "").startswith("text/html")
        headers.setdefault("Content-Security-Policy", _PAGE_POLICY if is_page else _API_POLICY)
        # Answers hold what only this viewer may see; the few that anybody may keep say so themselves.
        headers.setdefault("Cache-Control", "no-store")
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        if self._is_https:
            headers.setdefault("Strict-Transport-Security", f"max-age={_YEAR}; includeSubDomains")
