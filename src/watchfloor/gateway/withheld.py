"""What a caller is told whose call was made, and whose result is withheld. Words only; ``results.py`` decides."""

from __future__ import annotations

from typing import Any, Final

from watchfloor.gateway.mcp.rpc import BLOCKED

LARGEST: Final = 4 * 1024 * 1024
"""Bytes of one message that is judged; a larger one is withheld."""

_WITHHELD: Final = {
    "content_unreadable": "it cannot be examined completely",
    "decision_timeout": "it could not be examined in time",
    "policy_error": "a policy about it could not be evaluated",
    "internal_error": "it could not be examined",
    "too_large": f"it is larger than {LARGEST} bytes and cannot be examined",
    "state_stale": "Watchfloor cannot confirm the current state",
}
_BY_POLICY: Final = "a policy of the organisation does not let it pass"


def withheld_text(code: str) -> str:
    """What the caller is told."""
    return f"The call was made; its result is withheld: {_WITHHELD.get(code, _BY_POLICY)}."


def withheld(request_id: Any, code: str, invocation_id: str) -> dict[str, Any]:
    """The JSON-RPC error in place of a result."""
    data = {"code": code, "invocation": invocation_id, "went_out": True, "withheld": True, "retryable": False}
    error = {"code": BLOCKED, "message": withheld_text(code), "data": data}
    return {"jsonrpc": "2.0", "id": request_id, "error": error}
