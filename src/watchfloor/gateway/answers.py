"""What a caller is told when a call does not go out: stable codes and plain sentences, never a policy's text.

The table is complete: every reason code of the guard has its sentence (checked by test). Doors put a ``Refusal`` into
the words of their protocol; nothing here knows a protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from watchfloor.gateway.access import StepUp, step_up_of
from watchfloor.gateway.holds import Hold
from watchfloor.guard.reasons import CODES
from watchfloor.model.verdicts import Verdict


class RefusalKind(Enum):
    """Why a call does not go out, as far as callers must tell the cases apart."""

    BLOCKED = "blocked"
    HELD = "held"
    UNAVAILABLE = "unavailable"
    """Nothing could be decided or recorded; the very same call may be allowed in a moment."""


PUBLIC_MESSAGES: Final[dict[str, str]] = {
    "state_stale": "Watchfloor cannot confirm the current state and refuses calls until it can.",
    "token_expired": "The token has expired.",
    "session_revoked": "The user's sessions were revoked. The user has to sign in again.",
    "user_unknown": "The user is not known.",
    "user_disabled": "The user is disabled.",
    "user_risk": "The user's access is suspended because of risk.",
    "password_reset_required": "The user has to reset the password first.",
    "agent_unknown": "The agent is not registered.",
    "agent_not_published": "The agent is not published.",
    "agent_blocked": "The agent is blocked.",
    "agent_revoked": "The agent's tokens were revoked.",
    "handover_revoked": "The agent that handed this over may not act any more.",
    "agent_risk": "The agent's access is suspended because of risk.",
    "server_unknown": "The tool server is not registered.",
    "server_blocked": "The tool server is blocked.",
    "tool_unknown": "The tool is not registered.",
    "tool_blocked": "The tool is blocked.",
    "tool_changed": "The tool's definition has changed since it was approved.",
    "not_granted": "The agent has not been granted this tool.",
    "scope_exceeded": "The agent may only read, and this tool has side effects.",
    "access_blocked": "The access is blocked by the organisation.",
    "mfa_required": "The user has to sign in with more than one factor.",
    "reauthentication_required": "The user has to sign in again: the last sign-in is too long ago.",
    "arguments_unreadable": "The arguments cannot be examined completely.",
    "content_unreadable": "What came back cannot be examined completely.",
    "detector": "The call was refused because of its content.",
    "untraced_argument": "The call was refused because an argument comes from nobody who may say it. Ask the user.",
    "policy": "The call was refused by a policy of the organisation.",
    "policy_error": "The call was refused because a policy could not be evaluated.",
    "rate_exceeded": "The agent calls more often than it may.",
    "held": "The call waits for the approval of an operator. Make it again with the retry token.",
    "hold_expired": "The approval has expired. The call waits for a new one; make it again with the retry token.",
    "hold_limit": "Operators were asked about this agent too often of late. Make the call again in an hour.",
    "hold_used": "The approval was used already. To make the call once more, make it without the retry token.",
    "hold_revoked": "The approval of this call was taken back.",
    "retry_token_invalid": "The retry token is not this agent's and user's. Make the call without it.",
    "deadline": "The call was refused because the decision took too long.",
    "internal_error": "The call was refused because of an internal error.",
    "decision_timeout": "The call was refused because it could not be examined in time. Make it smaller.",
    "not_recorded": "The call was refused because its decision could not be recorded.",
}
"""By reason code. They say what to do where the caller can do something, and nothing about how it was noticed."""

SIGN_IN_AGAIN: Final = frozenset(
    {
        "token_expired",
        "session_revoked",
        "user_unknown",
        "user_disabled",
        "user_risk",
        "password_reset_required",
        "agent_revoked",
        "handover_revoked",
    }
)
"""Codes that end the token: asked for anything but a call, the gateway answers them as RFC 6750 says (401)."""


@dataclass(frozen=True)
class Refusal(Exception):
    """A call that does not go out. ``code`` is a reason code, ``invocation_id`` the record of it where there is one."""

    kind: RefusalKind
    code: str
    invocation_id: str = ""
    hold: Hold | None = None
    step_up: StepUp | None = None
    """What the user's sign-in must be for the call to be allowed, where that can end the refusal."""

    @property
    def message(self) -> str:
        """Fit to show to the caller."""
        if self.code == "held" and self.kind is RefusalKind.BLOCKED:
            return "An operator has declined this call."
        return PUBLIC_MESSAGES.get(self.code, PUBLIC_MESSAGES["internal_error"])

    @property
    def is_retryable(self) -> bool:
        """Whether the same call may succeed later without anybody changing what it says."""
        if self.kind is not RefusalKind.BLOCKED:
            return True
        code = CODES.get(self.code)
        return code is not None and code.is_retryable and self.code not in ("held", "hold_expired")

    def to_json(self) -> dict[str, Any]:
        """The machine-readable part."""
        data: dict[str, Any] = {"code": self.code, "retryable": self.is_retryable}
        if self.invocation_id:
            data["invocation"] = self.invocation_id
        if self.hold is not None:
            data["hold"] = self.hold.to_json()
        if self.step_up is not None:
            data |= self.step_up.to_json()
        return data


def refusal_of(verdict: Verdict, invocation_id: str, hold: Hold | None = None) -> Refusal:
    """What a caller is told of a verdict that lets nothing out."""
    code = verdict.reasons[0].code if verdict.reasons else "internal_error"
    if hold is not None:
        return Refusal(RefusalKind.HELD, code, invocation_id, hold)
    kind = RefusalKind.UNAVAILABLE if code == "state_stale" else RefusalKind.BLOCKED
    max_age = verdict.reasons[0].detail.get("max_age") if verdict.reasons else None
    return Refusal(kind, code, invocation_id, step_up=step_up_of(code, max_age))
