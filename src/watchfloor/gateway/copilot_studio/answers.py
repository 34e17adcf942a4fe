"""What the door says: three shapes, and the number that stands for each reason.

Nobody is shown a reason in Copilot Studio; it is for its logs and for whoever reads them. Policies are never quoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from watchfloor.gateway.answers import Refusal

VALID: Final = orjson.dumps({"isSuccessful": True, "status": "OK"})
ALLOW: Final = orjson.dumps({"blockAction": False})

REASON_CODES: Final[Mapping[str, int]] = {
    "token_expired": 100, "session_revoked": 101, "user_unknown": 102, "user_disabled": 103, "user_risk": 104,
    "password_reset_required": 105, "access_blocked": 106, "mfa_required": 107, "reauthentication_required": 108,
    "agent_unknown": 200, "agent_not_published": 201, "agent_blocked": 202, "agent_revoked": 203, "agent_risk": 204,
    "handover_revoked": 205,
    "server_unknown": 300, "server_blocked": 301, "tool_unknown": 302, "tool_blocked": 303, "tool_changed": 304,
    "not_granted": 305, "scope_exceeded": 306,
    "arguments_unreadable": 400, "content_unreadable": 401, "detector": 402, "untraced_argument": 403, "policy": 404,
    "policy_error": 405, "rate_exceeded": 406, "held": 407, "hold_expired": 408,
    "hold_limit": 409, "hold_used": 410, "hold_revoked": 411, "retry_token_invalid": 412,
    "state_stale": 500, "not_recorded": 501, "internal_error": 502, "deadline": 503, "decision_timeout": 504,
    "malformed": 600, "too_large": 601, "other_tenant": 602,
}  # fmt: skip
"""``reasonCode`` by reason: never renumbered. From 600 on the question itself is at fault."""

MESSAGES: Final[Mapping[str, str]] = {
    "malformed": "The question could not be understood, so the call must not be made.",
    "too_large": "The question is too large to be examined, so the call must not be made.",
    "other_tenant": "The question is about an agent of another tenant.",
}

ERROR_CODES: Final[Mapping[str, int]] = {
    "not_found": 4040, "method_not_allowed": 4050, "tls_required": 4030, "wrong_caller": 4031, "wrong_tenant": 4032,
    "invalid_token": 4010, "token_missing": 4011, "token_expired": 4012, "token_not_yet_valid": 4013,
    "wrong_algorithm": 4014, "unknown_key": 4015, "wrong_signature": 4016, "wrong_issuer": 4017,
    "wrong_audience": 4018, "unsupported_version": 4000, "malformed": 4001, "internal_error": 5000,
    "keys_unavailable": 5031, "state_unavailable": 5032,
}  # fmt: skip
"""``errorCode`` by reason, below the HTTP status that it belongs to."""


def block(reason: str, message: str, diagnostics: Mapping[str, Any]) -> bytes:
    """The call must not be made."""
    code = REASON_CODES.get(reason, REASON_CODES["internal_error"])
    told = orjson.dumps({"code": reason, **diagnostics}).decode()
    return orjson.dumps({"blockAction": True, "reasonCode": code, "reason": message, "diagnostics": told})


def refused(refusal: Refusal) -> bytes:
    """What the guard has refused. A held call is told apart: it can be made once an operator has approved it."""
    about: dict[str, Any] = {"retryable": refusal.is_retryable}
    message = refusal.message
    if refusal.invocation_id:
        about["invocation"] = refusal.invocation_id
    if refusal.hold is not None:
        about["hold"] = {"id": refusal.hold.id, "expires_at": refusal.hold.expires_at.isoformat()}
        message = "The call waits for the approval of an operator. Ask again when it was given."
    return block(refusal.code, message, about)


def error(reason: str, message: str, status: int, diagnostics: Mapping[str, Any]) -> bytes:
    """There is no answer to the question."""
    body = {
        "errorCode": ERROR_CODES[reason],
        "message": message,
        "httpStatus": status,
        "diagnostics": orjson.dumps({"code": reason, **diagnostics}).decode(),
    }
    return orjson.dumps(body)
