"""The stable, public codes of reasons: callers act on them, alerts group by them, so none is ever renamed.

``is_retryable`` says whether the same call may succeed later without anybody changing what it says; doors pass it on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from watchfloor.model.verdicts import Severity


class Code(NamedTuple):
    """What a reason code means, how serious it is, and the message that operators see."""

    severity: Severity
    message: str
    is_retryable: bool = False


CODES: Final[dict[str, Code]] = {
    "state_stale": Code(
        Severity.HIGH, "This worker has lost the control plane for longer than its lease.", is_retryable=True
    ),
    "token_expired": Code(Severity.INFORMATIONAL, "The gateway token has expired.", is_retryable=True),
    "session_revoked": Code(Severity.HIGH, "The user's sessions were revoked after this token was issued."),
    "user_unknown": Code(Severity.HIGH, "The user that the call is made for is not known."),
    "user_disabled": Code(Severity.HIGH, "The user is disabled."),
    "agent_unknown": Code(Severity.HIGH, "The agent is not in the registry."),
    "agent_not_published": Code(Severity.MEDIUM, "The agent is not published."),
    "agent_blocked": Code(Severity.HIGH, "An administrator has blocked the agent."),
    "agent_revoked": Code(Severity.HIGH, "The agent's tokens were revoked after this one was issued."),
    "handover_revoked": Code(
        Severity.HIGH, "An agent that handed the work over is blocked, at high risk, or had its tokens revoked."
    ),
    "server_unknown": Code(Severity.MEDIUM, "The tool server is not in the registry."),
    "server_blocked": Code(Severity.MEDIUM, "An administrator has blocked the tool server."),
    "tool_unknown": Code(Severity.MEDIUM, "The tool is not in the registry."),
    "tool_blocked": Code(Severity.MEDIUM, "An administrator has blocked the tool."),
    "tool_changed": Code(Severity.HIGH, "The tool's description or schema has changed since it was approved."),
    "not_granted": Code(Severity.MEDIUM, "The agent has not been granted this tool."),
    "scope_exceeded": Code(Severity.MEDIUM, "The agent may only read with this tool, and the tool has side effects."),
    "user_risk": Code(Severity.HIGH, "The user's risk is high."),
    "password_reset_required": Code(Severity.HIGH, "The user must reset the password first."),
    "agent_risk": Code(Severity.HIGH, "The agent's risk is high."),
    "access_blocked": Code(Severity.HIGH, "A policy of conditional access blocks this access."),
    "mfa_required": Code(Severity.MEDIUM, "Conditional access asks for a sign-in with several factors."),
    "reauthentication_required": Code(Severity.LOW, "Conditional access asks for a fresher sign-in."),
    "arguments_unreadable": Code(Severity.MEDIUM, "The arguments cannot be examined completely."),
    "content_unreadable": Code(Severity.MEDIUM, "What came back cannot be examined completely."),
    "detector": Code(Severity.HIGH, "A policy about what the detectors saw applies."),
    "untraced_argument": Code(
        Severity.HIGH, "An argument comes from nowhere that may say it: neither the user nor the directory named it."
    ),
    "policy": Code(Severity.MEDIUM, "A policy of the organisation applies."),
    "policy_error": Code(Severity.HIGH, "A policy could not be evaluated.", is_retryable=True),
    "rate_exceeded": Code(Severity.MEDIUM, "The agent calls more often than it may.", is_retryable=True),
    "held": Code(Severity.MEDIUM, "An operator has to approve this call.", is_retryable=True),
    "hold_expired": Code(Severity.MEDIUM, "The approval of this call has expired.", is_retryable=True),
    "hold_limit": Code(
        Severity.MEDIUM, "Operators were asked about this agent too often of late; nobody is asked about this call."
    ),
    "hold_used": Code(Severity.LOW, "The approval of this call was used before."),
    "hold_revoked": Code(Severity.MEDIUM, "The approval of this call was taken back."),
    "retry_token_invalid": Code(Severity.MEDIUM, "The retry token was not given out for this agent and user."),
    "deadline": Code(
        Severity.HIGH, "The guard did not answer in the time that the caller gives it.", is_retryable=True
    ),
    "internal_error": Code(Severity.HIGH, "The guard failed; the call is refused.", is_retryable=True),
    "decision_timeout": Code(Severity.HIGH, "The guard did not come to an end in time; the call is refused."),
    "not_recorded": Code(Severity.HIGH, "The verdict could not be recorded; the call is refused.", is_retryable=True),
}
"""``not_recorded`` and ``deadline`` are given by doors, the others by the guard."""
