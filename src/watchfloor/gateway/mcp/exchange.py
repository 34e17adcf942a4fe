"""One HTTP request of an MCP client while it is served, and how its answer is written.

Knows ASGI and JSON-RPC's errors, not why an answer is what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from watchfloor.gateway import asgi
from watchfloor.gateway.asgi import RawHeaders, Receive, Send
from watchfloor.gateway.mcp.headers import Headers
from watchfloor.gateway.mcp.protocol import Message
from watchfloor.gateway.mcp.rpc import RequestId, error_body, sse_event
from watchfloor.gateway.tokens import Token

_INVOCATION: Final = b"watchfloor-invocation"


@dataclass(slots=True)
class Exchange:
    """One HTTP request and what is known of it so far."""

    server_id: str
    headers: Headers
    address: str
    receive: Receive
    send: Send
    token: Token | None = None
    message: Message | None = None
    invocation_id: str = ""
    has_begun: bool = False
    """Whether the head of the answer is out."""
    is_stream: bool = False
    takes_agent_token: bool = False
    """Whether the agent's own token is good here, beside one for this very server."""

    @property
    def request_id(self) -> RequestId:
        """The id that an answer must carry."""
        return self.message.id if self.message is not None else None

    async def begin(self, status: int, headers: RawHeaders) -> None:
        """Send the head of the answer."""
        if self.invocation_id:
            headers.append((_INVOCATION, self.invocation_id.encode()))
        self.has_begun = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def begin_stream(self, headers: RawHeaders) -> None:
        """Send the head of a stream of events at once: the caller waits for it, and what follows may take long."""
        self.is_stream = True
        await self.begin(200, headers)
        await self.more(b"")

    async def whole(self, status: int, body: bytes, headers: RawHeaders) -> None:
        """Send the whole answer."""
        headers.append((b"content-length", b"%d" % len(body)))
        await self.begin(status, headers)
        await self.send({"type": "http.response.body", "body": body})

    async def error(
        self, code: int, text: str, data: Any = None, *, status: int = 200, request_id: Any = None, headers: Any = ()
    ) -> None:
        """End the exchange with a JSON-RPC error, in whatever form its answer has begun."""
        body = error_body(request_id if request_id is not None else self.request_id, code, text, data)
        if not self.has_begun:
            await self.whole(status, body, [asgi.JSON, *headers])
        elif self.is_stream:
            await self.send({"type": "http.response.body", "body": sse_event(body)})
        # A JSON answer that has begun cannot be turned into an error: it is cut off by whoever serves us.

    async def more(self, chunk: bytes) -> None:
        """Send a part of the body."""
        await self.send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self, rest: bytes = b"") -> None:
        """Send the end of the body."""
        await self.send({"type": "http.response.body", "body": rest})
