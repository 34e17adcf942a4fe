"""The outside end of mail: an SMTP server that accepts everything and keeps it, and a page that shows what arrived.

What is not in here never left the company. Knows nothing of who sent what for which reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import socket
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_KEPT: Final = 5_000


class MailSink:
    """Messages that were delivered, counted for good, the latest kept."""

    def __init__(self) -> None:
        self.total = 0
        self._messages: deque[dict[str, Any]] = deque(maxlen=_KEPT)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take one message (the method's name is the SMTP server's)."""
        message = email.message_from_bytes(envelope.original_content or b"", policy=email.policy.default)
        body = message.get_body(("plain",))
        self.total += 1
        self._messages.append(
            {
                "seq": self.total,
                "at": time.monotonic(),
                "from": envelope.mail_from,
                "to": list(envelope.rcpt_tos),
                "subject": str(message.get("subject", "")),
                "text": body.get_content() if body is not None else "",
            }
        )
        return "250 Message accepted"

    def messages(self, to: str = "", after: int = 0) -> list[dict[str, Any]]:
        """Kept messages after a sequence number, to recipients whose address contains ``to``."""
        return [m for m in self._messages if m["seq"] > after and (not to or any(to in r for r in m["to"]))]

    def view(self) -> Starlette:
        """``GET /_messages?to=&after=``: what arrived."""

        async def messages(request: Request) -> Response:
            query = request.query_params
            found = self.messages(query.get("to", ""), int(query.get("after", "0")))
            return JSONResponse({"total": self.total, "messages": found})

        return Starlette(routes=[Route("/_messages", messages)])

    @contextlib.asynccontextmanager
    async def receive(self, sock: socket.socket) -> AsyncIterator[None]:
        """Take mail on a bound socket until the block ends."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: SMTP(self, hostname="mail.zava.example", enable_SMTPUTF8=True, loop=loop), sock=sock
        )
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()
