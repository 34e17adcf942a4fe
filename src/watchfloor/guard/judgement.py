"""The steps of a decision that look at content and policies, and the one that asks a human.

Detectors always run and their signals are always recorded, also when the call is refused for another reason: repeated
attempts are a finding of their own. Policies run when every fact that they may ask for is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from watchfloor.guard import expression, names
from watchfloor.guard.case import Case
from watchfloor.guard.codec import payload_hash
from watchfloor.guard.detectors import DETECTORS, canary
from watchfloor.guard.detectors.secrets import mask
from watchfloor.guard.policy import Group, Policy, Reach
from watchfloor.guard.policy_body import STEPS as POLICY_STEPS
from watchfloor.guard.policy_body import fill
from watchfloor.guard.provenance.labels import Outcome
from watchfloor.guard.provenance.trace import Trace
from watchfloor.guard.reasons import CODES
from watchfloor.model.activity import Answer
from watchfloor.model.verdicts import Effect, Mode, Reason

_SHOWN_VALUE: Final = 120
"""Characters of one value in a message for operators."""

_REFUSED: Final = {
    Answer.DECLINED: "",
    Answer.USED: "hold_used",
    Answer.REVOKED: "hold_revoked",
    Answer.LIMITED: "hold_limit",
    Answer.INVALID: "retry_token_invalid",
}
"""Reason codes of calls that were asked about and do not go out; a declined one keeps ``held``."""

_READ_VALUE: Final = 4_000
"""Characters of it that are looked through for secrets before it is cut."""


def run_detectors(case: Case) -> None:
    """What is in the content? Then the policies that ask for it."""
    if case.unreadable:
        case.refuse("arguments_unreadable", "detectors", detail={"because": case.unreadable})
    for detector in DETECTORS:
        found = detector.detect(case.content)
        if found:
            case.findings += found
    if case.facts.canaries:
        case.findings += canary.detect(case.content, case.facts.canaries)
        case.findings += canary.touched(case.invocation, case.facts.canaries)
    if case.findings:
        case.signals = tuple(
            dataclasses.replace(finding.signal, path=mask(finding.signal.path)) for finding in case.findings
        )
    case.matches = matches(case)
    case.reasons += case.matches.get("detectors", ())


def check_provenance(case: Case) -> None:
    """Did somebody who may say so say what the arguments say?"""
    if case.matches:
        case.reasons += case.matches.get("provenance", ())


def apply_policies(case: Case) -> None:
    """What does the organisation not want?"""
    if case.matches:
        case.reasons += case.matches.get("policies", ())


def check_budget(case: Case) -> None:
    """Is this more than the agent may do in this time?"""
    if case.matches:
        case.reasons += case.matches.get("budget", ())


def resolve_holds(case: Case) -> None:
    """Has a human answered already? An approval lifts holds of exactly this payload, and never a block."""
    held = [
        index
        for index, reason in enumerate(case.reasons)
        if reason.effect is Effect.HOLD and reason.mode is Mode.ENFORCE
    ]
    approval = case.facts.approval
    if not held and (approval is None or approval.approved or approval.why_not is not Answer.USED):
        return
    fingerprint = payload_hash(case.invocation)
    effect, code = Effect.HOLD, ""
    note: dict[str, str] = {"payload_hash": fingerprint}
    if approval is not None and approval.payload_hash == fingerprint:
        if approval.expires_at <= case.facts.now:
            # Held again rather than refused: a new question may be asked, the old answer counts no more.
            note["expired_hold"] = approval.hold_id
            if approval.approved:
                case.reasons.insert(held[0], _hold_expired(note))
                held = [index + 1 for index in held]
        elif approval.approved:
            note["lifted_by"] = approval.hold_id
            effect = Effect.ALLOW
        else:
            note["declined_by"] = approval.hold
            effect = Effect.BLOCK
            code = _REFUSED[approval.why_not]
            if not held:  # whatever the policies say by now: it went out once
                case.refuse(code, "hold", detail=note)
    for index in held:
        reason = case.reasons[index]
        detail = {**reason.detail, **note}
        case.reasons[index] = dataclasses.replace(reason, code=code or reason.code, effect=effect, detail=detail)


def _hold_expired(note: dict[str, str]) -> Reason:
    about = CODES["hold_expired"]
    return Reason(
        "hold_expired", "hold", Effect.HOLD, Mode.ENFORCE, about.severity, about.message, None, None, dict(note)
    )


# -- policies -----------------------------------------------------------------------------------------------------


def matches(case: Case) -> dict[str, list[Reason]]:
    """Reasons of the policies that apply, by step."""
    facts = case.facts
    if facts.agent is None or facts.server is None or facts.tool is None or facts.binding is None or case.unreadable:
        return {}  # refused already: each of these is a reason of its own
    selection = case.policies.select(case)
    if not selection.every.policies:
        return {}
    values = {name: read(case) for name, read in selection.readers}
    every = selection.every
    reach = _reach(case, values) if every.depth else _SMALL
    if (reach is _SMALL or every.is_within(reach)) and len(every.programs) == 1:
        try:
            if not expression.evaluate_once(every.programs[0], values):
                return {}
        except expression.EvaluationError:
            pass  # one of them has no answer: ask each
    bound = expression.activation(values)
    found: dict[str, list[Reason]] = {}
    for group in selection.groups:
        if _may_apply(group, bound, reach):
            for policy in group.policies:
                reason = _try(policy, case, bound, reach)
                if reason is not None:
                    found.setdefault(policy.step, []).append(reason)
    return found


def _may_apply(group: Group, bound: Any, reach: Reach) -> bool:
    """False when every condition of the group is false and none failed; see ``expression.fuse``."""
    if reach is not _SMALL and not group.is_within(reach):
        return True
    try:
        return any(expression.evaluate(program, bound) for program in group.programs)
    except expression.EvaluationError:
        return True


_SMALL: Final = Reach(items=600, longest=2_000)
"""Within this, no condition costs too much; nearly every call is."""
assert expression.cost(expression.MAX_COMPREHENSION_DEPTH, *_SMALL) <= expression.MAX_COST


def _reach(case: Case, values: dict[str, Any]) -> Reach:
    """How much a comprehension can meet in this call, at most."""
    content = case.content
    length = len(content.joined)
    if length <= _SMALL.longest:
        # No more addresses or URLs than a quarter of the characters, no more of the rest than is counted here.
        user = case.facts.user
        others = len(case.facts.organization.domains) + (len(user.groups) if user is not None else 0)
        if content.items + length // 4 + others <= _SMALL.items:
            return _SMALL
    items = max([len(value) for value in values.values() if type(value) is list], default=0)
    return Reach(max(items, content.items), content.longest)


def _try(policy: Policy, case: Case, bound: Any, reach: Reach) -> Reason | None:
    try:
        if not reach.allows(policy.condition):
            raise expression.EvaluationError("the arguments are too large for its condition")
        return _reason(policy, case) if expression.evaluate(policy.condition.program, bound) else None
    except expression.EvaluationError as error:
        return _failure(policy, str(error))


def _failure(policy: Policy, error: str) -> Reason:
    """A policy without an answer. One that is only being tried out (audit) never blocks, whatever it says of errors."""
    is_enforced = policy.on_error == "block" and policy.mode is Mode.ENFORCE
    return Reason(
        "policy_error",
        policy.step,
        Effect.BLOCK,
        Mode.ENFORCE if is_enforced else Mode.AUDIT,
        CODES["policy_error"].severity,
        f"{policy.title}: could not be evaluated: {mask(error)[:200]}",
        policy.id,
        policy.version,
        policy.detail,
    )


def _reason(policy: Policy, case: Case) -> Reason:
    effect = policy.effect
    detail: Mapping[str, Any] = policy.detail
    if effect is Effect.REDACT:
        wanted = [
            finding
            for finding in case.findings
            if finding.in_arguments and not {finding.signal.detector, finding.signal.category}.isdisjoint(policy.redact)
        ]
        redactions = [finding.redaction for finding in wanted if finding.redaction is not None]
        if not redactions or len(redactions) != len(wanted):
            # What should go and cannot be taken out does not go out at all.
            effect = Effect.BLOCK
            detail = {**detail, "redaction": "not possible"}
        elif policy.mode is Mode.ENFORCE:
            case.redactions += redactions
    if case.trace is not None and any(name.startswith("provenance.") for name in policy.condition.names):
        detail = {**detail, "provenance": _evidence(case.trace)}
    if case.trace is not None and case.trace.alignment is not None and policy.asks_alignment:
        detail = {**detail, "alignment": dataclasses.asdict(case.trace.alignment)}
    return Reason(
        "held" if effect is Effect.HOLD else POLICY_STEPS[policy.step],
        policy.step,
        effect,
        policy.mode,
        policy.severity,
        _message(policy, case),
        policy.id,
        policy.version,
        detail,
    )


def _evidence(trace: Trace) -> dict[str, Any]:
    """The way of each argument that was not good enough, and what could not be seen: fit to stand in metadata."""
    return {
        "sees_user": trace.sees_user,
        "sees_results": trace.sees_results,
        "is_complete": trace.is_complete,
        "strictness": trace.strictness,
        "findings": [
            dataclasses.asdict(finding)
            for finding in trace.findings
            if finding.outcome(trace.strictness) is not Outcome.ALLOW
        ],
    }


def _message(policy: Policy, case: Case) -> str:
    """The policy's message with the values that it shows, each shortened and with secrets masked."""
    return fill(policy.message, lambda placeholder: _shown(placeholder, case))


def _shown(placeholder: str, case: Case) -> str:
    name = expression.declared_name(placeholder)
    if name is None:
        return ""
    value = names.BY_NAME[name].read(case)
    if placeholder != name:
        for part in placeholder[len(name) + 1 :].split("."):
            value = value.get(part, "") if isinstance(value, dict) else ""
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    shown = mask(shown[:_READ_VALUE])
    return shown if len(shown) <= _SHOWN_VALUE else f"{shown[: _SHOWN_VALUE - 1]}…"
