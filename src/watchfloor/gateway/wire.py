"""uvicorn's HTTP protocol with one change: the head of an answer leaves together with what follows it.

As it comes, uvicorn writes head and body one after the other: two system calls and two packets for every call. Only
the head is ever held back, and until the next part of the body: a door that begins an answer before it has anything to
say sends an empty part (``Exchange.begin_stream``). Everything else is uvicorn's.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_CONTINUE: Final = b"HTTP/1.1 100 "
"""How what uvicorn says before an answer begins: the caller waits for it."""


class _JoiningTransport:
    """Passes everything on to ``transport``, but joins the head of an answer with the next write."""

    __slots__ = ("_head", "_is_next_head", "_transport", "_write", "is_closing", "pause_reading", "resume_reading")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._write = transport, transport.write
        # What is asked at every call is bound once: ``__getattr__`` costs several times as much.
        self.is_closing = transport.is_closing
        self.pause_reading, self.resume_reading = transport.pause_reading, transport.resume_reading
        self._head = b""
        self._is_next_head = True

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif self._is_next_head and not data.startswith(_CONTINUE):
            self._is_next_head = False
            self._head = data
            return
        self._write(data)

    def ended(self) -> None:
        """The answer is complete: what is written next is the head of another."""
        if self._head:
            self.write(b"")  # it has no body
        self._is_next_head = True

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class JoiningProtocol(HttpToolsProtocol):
    """What a gateway worker speaks."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own does
        """Called by the event loop."""
        self._joining = _JoiningTransport(transport)
        super().connection_made(cast(asyncio.Transport, self._joining))

    def on_response_complete(self) -> None:
        """Called by uvicorn behind the last part of an answer."""
        self._joining.ended()
        super().on_response_complete()
