"""JSON-RPC as the doors speak it: error codes, and the answers that carry them. Pure.

The codes from -32090 on are Watchfloor's own and documented in docs/gateway.md.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
HEADER_MISMATCH: Final = -32020
UNSUPPORTED_VERSION: Final = -32022
BLOCKED: Final = -32090
HELD: Final = -32091
STATE_UNAVAILABLE: Final = -32092
TOOL_SERVER_FAILED: Final = -32093
UNAUTHENTICATED: Final = -32094

RequestId = str | int | None

"""What JSON-RPC lets an id be; None where it could not be read."""


class Rejected(Exception):
    """The message is not one that may pass. ``status`` is the HTTP status of the answer."""

    def __init__(
        self, code: int, message: str, *, status: int = 400, request_id: RequestId = None, data: Any = None
    ) -> None:
        self.code, self.message, self.status, self.request_id, self.data = code, message, status, request_id, data
        super().__init__(message)


def error_body(request_id: RequestId, code: int, message: str, data: Any = None) -> bytes:
    """A JSON-RPC error."""
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return orjson.dumps({"jsonrpc": "2.0", "id": request_id, "error": error})


def sse_event(body: bytes) -> bytes:
    """One server-sent event that carries a JSON-RPC message."""
    return b"event: message\r\ndata: " + body + b"\r\n\r\n"
