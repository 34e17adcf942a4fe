"""``decide``: one invocation and its context in, one verdict out.

Doors call it with what they heard and the facts as they stand; it walks ``STEPS`` in order and combines the reasons:
the strictest enforced one wins, the others stay on record. It is pure: no clock, no I/O, no randomness, and the same
input gives the same verdict years later (``replay``).
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from watchfloor.guard import codec, judgement, steps
from watchfloor.guard.case import Case
from watchfloor.guard.content import UNREADABLE_KEY, Unreadable, examine
from watchfloor.guard.context import Context
from watchfloor.guard.policy import PolicySet
from watchfloor.guard.provenance.trace import Trace
from watchfloor.guard.reasons import CODES
from watchfloor.model.activity import Invocation
from watchfloor.model.facts import BindingFacts, Facts, granted
from watchfloor.model.verdicts import Effect, Mode, Reason, Verdict


class Overrun(BaseException):
    """Raised into a decision from outside, because it takes too long. No ``Exception``: detectors do not catch it."""


class Step(NamedTuple):
    """One question of a decision."""

    name: str
    question: str
    run: Callable[[Case], None]


STEPS: Final[tuple[Step, ...]] = (
    Step("session", "Is our state current, is the token good, is its user known and not revoked?", steps.check_session),
    Step("agent", "Is the agent published and not blocked?", steps.check_agent),
    Step("tool", "Is the tool what was approved, and granted to this agent so far?", steps.check_tool),
    Step("access", "Are user and agent safe enough?", steps.check_access),
    Step("detectors", "What is in the content, and which policies mind?", judgement.run_detectors),
    Step("provenance", "Where did the arguments come from?", judgement.check_provenance),
    Step("policies", "What does the organisation not want?", judgement.apply_policies),
    Step("budget", "Is it too much in this time?", judgement.check_budget),
    Step("hold", "Has a human answered?", judgement.resolve_holds),
)
"""The order of reasons in a verdict, and so which of two equally strict ones is named first."""

_RUN: Final = tuple(step.run for step in STEPS)
_NO_POLICIES: Final = PolicySet.build(())


def decide(invocation: Invocation, context: Context) -> Verdict:
    """The verdict on ``invocation``. Never raises, unless it is interrupted a second time.

    INVARIANT: whatever goes wrong in here is a block. No answer is never an allow.
    """
    try:
        return _decide(invocation, context.facts, context.policies, context.trace)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # see the invariant: nothing may escape, whatever a detector thinks of raising
        return failed(invocation, context, error)


def replay(
    invocation: bytes | str | Mapping[str, Any],
    facts: bytes | str | Mapping[str, Any],
    policies: PolicySet,
    *,
    grants: Sequence[BindingFacts] | None = None,
) -> Verdict:
    """The verdict on a recorded invocation with recorded facts, under ``policies``.

    With the policy set that the record names, it equals the recorded verdict. ``grants``: what the agent may use, in
    place of the binding on record. Raises ``ValueError``, ``TypeError`` or ``KeyError`` when the record cannot be read.
    """
    trace, call, known = codec.load_trace(invocation), codec.load_invocation(invocation), codec.load_facts(facts)
    if grants is not None:
        known = replace(known, binding=granted(grants, call.server_id, call.tool))
    return decide(call, Context(known, policies, trace))


def _decide(invocation: Invocation, facts: Facts, policies: PolicySet | None, trace: Trace | None) -> Verdict:
    known_policies = policies if policies is not None else _NO_POLICIES
    unreadable = ""
    try:
        content = examine(invocation.arguments, invocation.user_turns, known_policies.limits)
    except Unreadable as error:
        unreadable = str(error)
        content = examine({}, invocation.user_turns, known_policies.limits)
        invocation = replace(invocation, arguments={UNREADABLE_KEY: unreadable})
    input_hash = codec.input_hash(invocation, facts, known_policies.hash, known_policies.fragments, trace)
    case = Case(invocation, facts, known_policies, content, unreadable, trace)
    if policies is None:
        case.refuse("policy_error", "policies", detail={"because": "no policies are loaded"})
    for run in _RUN:
        run(case)
    return combine(case, input_hash)


def combine(case: Case, input_hash: str) -> Verdict:
    """The strictest enforced reason wins and stands first; the others keep the order of the steps."""
    if not case.reasons:
        return Verdict(Effect.ALLOW, Effect.ALLOW, (), case.signals, (), input_hash, case.policies.hash)
    enforced = [reason for reason in case.reasons if reason.mode is Mode.ENFORCE]
    deciding = max(enforced, key=lambda reason: reason.effect.strictness, default=None)
    effect = deciding.effect if deciding is not None else Effect.ALLOW
    would_be = max((reason.effect for reason in case.reasons), key=lambda found: found.strictness, default=effect)
    reasons = case.reasons
    if deciding is not None and deciding.effect is not Effect.ALLOW:
        reasons = [deciding, *(reason for reason in reasons if reason is not deciding)]
    redactions = tuple(dict.fromkeys(case.redactions)) if effect is Effect.REDACT else ()
    return Verdict(effect, would_be, tuple(reasons), case.signals, redactions, input_hash, case.policies.hash)


def failed(invocation: Invocation, context: Context, error: BaseException) -> Verdict:
    """A block that names the kind of failure, never its text: that may quote contents."""
    traceback.clear_frames(error.__traceback__)  # what it was busy with is no longer needed
    if isinstance(error, MemoryError):
        gc.collect()
    code = "decision_timeout" if isinstance(error, Overrun) else "internal_error"
    about = CODES[code]
    reason = Reason(
        code,
        "session",
        Effect.BLOCK,
        Mode.ENFORCE,
        about.severity,
        about.message,
        None,
        None,
        {"error": type(error).__name__},
    )
    policy_set = getattr(getattr(context, "policies", None), "hash", "")
    try:
        digest = codec.input_hash(codec.readable(invocation), context.facts, policy_set, trace=context.trace)
    except Exception:
        digest = ""  # what cannot even be written down cannot be decided again
    return Verdict(Effect.BLOCK, Effect.BLOCK, (reason,), (), (), digest, policy_set)
