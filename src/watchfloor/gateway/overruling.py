"""What a door makes of a verdict: blocked for a reason of its own, what it cannot redact, what comes late.

Pure. ``enforce.py`` applies it before the verdict is put on record, so that the record says what the caller was told.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from watchfloor.gateway.calls import CallRequest
from watchfloor.guard import codec, steps
from watchfloor.guard.case import Case
from watchfloor.guard.content import Limits, examine
from watchfloor.guard.engine import combine
from watchfloor.guard.policy import PolicySet
from watchfloor.model.activity import Invocation
from watchfloor.model.agents import ToolEffect
from watchfloor.model.facts import Facts
from watchfloor.model.verdicts import Effect, Mode, Reason, Severity, Verdict

_NO_CONTENT: Final = examine({}, (), Limits())
_OPERATORS_ACTS: Final = frozenset(
    {
        "session_revoked", "user_disabled", "user_risk", "password_reset_required", "agent_blocked", "agent_risk",
        "handover_revoked", "server_blocked", "tool_blocked", "held", "hold_revoked",
        "access_blocked", "mfa_required", "reauthentication_required",
    }
)  # fmt: skip
"""What somebody has decided about this very user, agent, tool or call: no door that only watches lets it out."""


def as_the_door_can(verdict: Verdict, request: CallRequest) -> Verdict:
    """``verdict`` for a door that cannot redact, or that only watches."""
    if verdict.effect is Effect.REDACT and not request.can_redact:
        verdict = dataclasses.replace(verdict, effect=Effect.BLOCK, would_be=Effect.BLOCK, redactions=())
    if not request.is_audit or verdict.effect is Effect.ALLOW:
        return verdict
    kept = [r for r in verdict.reasons if r.code in _OPERATORS_ACTS and r.effect is Effect.BLOCK]
    if any(reason.mode is Mode.ENFORCE for reason in kept):
        return verdict
    reasons = tuple(dataclasses.replace(reason, mode=Mode.AUDIT) for reason in verdict.reasons)
    return dataclasses.replace(verdict, effect=Effect.ALLOW, would_be=verdict.effect, reasons=reasons, redactions=())


def late_verdict(invocation: Invocation, facts: Facts, policies: PolicySet) -> Verdict:
    """The verdict where the guard's time is over: that of the facts alone, and a block for being late.

    The block is only flagged where the tool reads and an administrator has chosen that.
    """
    case = Case(invocation, facts, policies, _NO_CONTENT, "")
    for step in (steps.check_session, steps.check_agent, steps.check_tool, steps.check_access):
        step(case)
    tool = facts.tool
    is_lenient = tool is not None and tool.effect is ToolEffect.READ and tool.allow_when_stale
    case.refuse("deadline", "detectors", Mode.AUDIT if is_lenient else Mode.ENFORCE)
    return combine(case, codec.input_hash(invocation, facts, policies.hash, policies.fragments))


def overruled(verdict: Verdict, code: str, step: str, message: str) -> Verdict:
    """``verdict`` as a block, for what only the door can know."""
    reason = Reason(code, step, Effect.BLOCK, Mode.ENFORCE, Severity.HIGH, message)
    return dataclasses.replace(
        verdict, effect=Effect.BLOCK, would_be=Effect.BLOCK, reasons=(reason, *verdict.reasons), redactions=()
    )
