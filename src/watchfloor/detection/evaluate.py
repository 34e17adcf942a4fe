"""Rules applied to steps: which alerts does this slice give rise to?

Pure. A slice is a table that holds the fresh rows and, for everybody who appears in them, the rows around them; what
comes out depends on the set of rows alone, never on their order, on how they were batched or on what this process saw
before. ``runner`` gathers the tables and stores the drafts.

How steps become one alert: they are grouped by the rule's keys and by the hour in which they happened. A rule with a
threshold asks whether, at some step of that hour, enough steps lie within its window; the window may begin in the hour
before.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from watchfloor.detection.rules import TACTICS, AnyRule, ReasonMeaning, Reasons, Rule, Ruleset, progress
from watchfloor.detection.steps import GUARDRAIL, Step, clean, read
from watchfloor.model.cases import AlertDraft, Entity, EntityKind, EntityRole
from watchfloor.model.verdicts import Severity
from watchfloor.storage.ports import Seq

HOUR: Final = timedelta(hours=1)
EVIDENCE_LIMIT: Final = 200
"""Most events that one alert points to: the first and the last hundred; their number is kept in ``detail.count``."""

_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_UNKNOWN_REASON: Final = ReasonMeaning(severity=Severity.LOW, tactic="Execution", techniques=())


_GUARDRAIL: Final = ReasonMeaning(severity=Severity.MEDIUM, tactic="Defense Evasion", techniques=("AML.T0054",))
"""What it means that an agent's own guardrail intervened; it says itself how severe that is, up to high."""

_JUDGED_BY_POLICY: Final = frozenset({"policy", "detector", "untraced_argument", "rate_exceeded"})
"""Codes of reasons that carry a policy's own severity, tactic and techniques."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one step means: how bad, which tactic it reached, which it was after."""

    severity: Severity
    tactic: str
    techniques: tuple[str, ...]
    attempted: str
    is_configuration: bool
    raises: bool


def meaning(step: Step, reasons: Reasons) -> Meaning:
    """What ``step`` means by all the reasons that count: the worst severity, the tactic that is furthest along.

    A call that several things speak against is judged by all of them, whichever the guard happened to name first.
    """
    found = [_meaning_of(reason, step.was_stopped, reasons) for reason in step.reasons]
    if not found:
        found = [_meaning_of({"code": step.reason_code}, step.was_stopped, reasons)]
    if len(found) == 1:
        return found[0]
    furthest = max(found, key=_how_far)
    return replace(
        furthest,
        severity=max((m.severity for m in found), key=lambda s: s.rank),
        is_configuration=all(m.is_configuration for m in found),
        raises=any(m.raises for m in found),
    )


def _meaning_of(reason: Mapping[str, Any], was_stopped: bool, reasons: Reasons) -> Meaning:
    """One reason's meaning: its policy's own where the record has it, else its code's."""
    code = str(reason.get("code", ""))
    if code.startswith(GUARDRAIL):
        severity = min(_severity(reason.get("severity"), _GUARDRAIL.severity), Severity.HIGH, key=lambda s: s.rank)
        return Meaning(severity, _GUARDRAIL.tactic, _GUARDRAIL.techniques, _GUARDRAIL.tactic, False, True)
    base = reasons.reasons.get(code, _UNKNOWN_REASON)
    detail = reason.get("detail") or {}
    severity, tactic, techniques = base.severity, base.tactic, base.techniques
    if code in _JUDGED_BY_POLICY and reason.get("policy_id"):
        severity = _severity(reason.get("severity"), severity)
        if detail.get("tactic") in TACTICS:
            tactic = detail["tactic"]
            techniques = tuple(str(t) for t in detail.get("techniques") or ())
    attempted = tactic
    if was_stopped and tactic in reasons.when_stopped:
        stopped = reasons.when_stopped[tactic]
        tactic, techniques = stopped.tactic, stopped.techniques
    return Meaning(severity, tactic, techniques, attempted, base.configuration, base.raises)


def _how_far(m: Meaning) -> tuple[int, int, int, tuple[str, ...]]:
    return progress(m.tactic), progress(m.attempted), m.severity.rank, m.techniques


def _severity(value: object, default: Severity) -> Severity:
    try:
        return Severity(str(value))
    except ValueError:
        return default


def _wants(rule: Rule, step: Step, reasons: Reasons) -> bool:
    select = rule.select
    if step.action not in select.actions:
        return False
    if select.verdicts and step.verdict not in select.verdicts:
        return False
    if select.would_be and step.would_be not in select.would_be:
        return False
    if select.reasons and step.reason_code not in select.reasons:
        return False
    if step.reason_code in select.except_reasons:
        return False
    if select.targets and step.target not in select.targets:
        return False
    if step.target in select.except_targets:
        return False
    if select.signals:
        found = {category for category, _ in step.signals}
        return not found.isdisjoint(select.signals) and found.isdisjoint(select.except_signals)
    meant = meaning(step, reasons)
    return (meant.raises or not step.was_stopped) and meant.severity.rank >= select.min_severity.rank


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


_KEYS: Final[dict[str, Callable[[Step], str]]] = {
    "agent": lambda s: s.agent_id,
    "user": lambda s: s.user_id,
    "server": lambda s: s.server_id,
    "tool": lambda s: s.tool,
    "reason": lambda s: f"{s.reason_code}/{s.policy_id}",
}


def _group(rule: AnyRule, step: Step) -> tuple[str, ...]:
    return (step.tenant, *(_KEYS[key](step) for key in rule.group_by))


def _new_attempts(steps: Sequence[Step], categories: Sequence[str]) -> list[Step]:
    """The steps that bring an attempt which no earlier one brought."""
    known: set[tuple[str, str]] = set()
    fresh = []
    for step in steps:
        attempts = {signal for signal in step.signals if signal[0] in categories}
        if not attempts <= known:
            fresh.append(step)
            known |= attempts
    return fresh


def _enough(members: Sequence[Step], rule: Rule, start: datetime) -> list[Step]:
    """The steps that justify an alert in the hour from ``start``: all windows that hold enough, joined."""
    end = start + HOUR
    steps = [s for s in members if s.at < end and (s.at >= start or s.at > start - rule.within)]
    if rule.select.signals:
        steps = _new_attempts(steps, rule.select.signals)
    chosen: dict[str, Step] = {}
    first = 0
    for last, step in enumerate(steps):
        while rule.within and steps[first].at <= step.at - rule.within:
            first += 1
        if step.at < start:
            continue
        if rule.at_least == 1:
            chosen[step.report_id] = step
        elif last - first + 1 >= rule.at_least:
            chosen.update((s.report_id, s) for s in steps[first : last + 1])
    return sorted(chosen.values(), key=lambda s: (s.at, s.report_id))


def capped(items: Sequence[Any]) -> list[Any]:
    """``items`` without those in the middle, if there are more than an alert keeps."""
    half = EVIDENCE_LIMIT // 2
    return list(items) if len(items) <= EVIDENCE_LIMIT else [*items[:half], *items[-half:]]


def plural(count: int, noun: str) -> str:
    """``1 call``, ``2 calls``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: Iterable[str], limit: int = 4) -> str:
    """``a``, ``a and b``, ``a, b and 3 others``."""
    unique = list(dict.fromkeys(n for n in names if n))
    return first_of(unique[:limit], len(unique), limit)


def first_of(names: Sequence[str], total: int, limit: int = 4) -> str:
    """As ``listed`` says it, from the first ``limit`` of ``total`` different names."""
    if total > limit:
        names = [*names[: limit - 1], plural(total - limit + 1, "other")]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def _day(at: datetime) -> str:
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}"


def when(first: datetime, last: datetime) -> str:
    """``between 14:02 and 14:31 UTC on 3 November 2026``."""
    if first.replace(second=0, microsecond=0) == last.replace(second=0, microsecond=0):
        return f"at {first:%H:%M} UTC on {_day(first)}"
    if first.date() == last.date():
        return f"between {first:%H:%M} and {last:%H:%M} UTC on {_day(first)}"
    return f"between {first:%H:%M} on {_day(first)} and {last:%H:%M} UTC on {_day(last)}"


def _sentence(text: str) -> str:
    """``text`` with a full stop."""
    return text if not text or text.endswith((".", "!", "?", "…")) else f"{text}."


def _texts(rule: AnyRule, steps: Sequence[Step], told: str = "") -> dict[str, str]:
    last = steps[-1]
    count, stopped = len(steps), sum(s.was_stopped for s in steps)
    user = clean(last.upn or last.user_id)
    addresses = listed(sorted({clean(s.address) for s in steps if s.address}))
    tools = sorted({clean(s.tool_id, 120) for s in steps if s.tool_id})
    if stopped == count:
        outcome = "it was stopped" if count == 1 else "all of them were stopped"
    elif stopped:
        outcome = f"{stopped} of them {'was' if stopped == 1 else 'were'} stopped, the others were let out"
    else:
        outcome = "it was let out" if count == 1 else "none of them was stopped"
    return {
        "user": user or "a user who is not known",
        "Who": f"{user} was acting" if user else "No user was involved; the agent acted as itself",
        "agent": clean(last.agent_name or last.agent_id) or "an agent that is not known",
        "tool": listed(tools) or "a tool that is not known",
        "server": listed(sorted({clean(s.server_id) for s in steps})),
        "tools": listed(tools, 6) or "not known",
        "calls": plural(count, "call"),
        "times": "once" if count == 1 else f"{count} times",
        "were": "was" if count == 1 else "were",
        "them": "it" if count == 1 else "them",
        "before": " before reaching the tool server",
        "stopped": outcome,
        "from_addresses": f"from {addresses}" if addresses else "from an address that is not known",
        "span": when(steps[0].at, last.at),
        "reason": _sentence(clean(last.message, 300)),
        "minutes": str(rule.within_minutes),
        "detail": clean(told, 300),
    }


def _entities(rule: AnyRule, steps: Sequence[Step]) -> tuple[Entity, ...]:
    found: dict[tuple[EntityKind, str], Entity] = {}

    def add(kind: EntityKind, id_: str, name: str, role: EntityRole) -> None:
        if id_:
            found[kind, id_] = Entity(kind, id_, clean(name), role)

    for s in steps:
        add(EntityKind.USER, s.user_id, s.upn or s.user_id, rule.user_role)
        add(EntityKind.AGENT, s.agent_id, s.agent_name or s.agent_id, EntityRole.IMPACTED)
        if s.tool:
            add(EntityKind.TOOL, f"{s.server_id}/{s.tool}", s.tool, EntityRole.RELATED)
        add(EntityKind.SERVER, s.server_id, s.server_id, EntityRole.RELATED)
        add(EntityKind.ADDRESS, s.address, s.address, EntityRole.SUSPECTED)
        add(EntityKind.SESSION, s.session_id, s.session_id, EntityRole.SUSPECTED)
    order = list(EntityKind)
    ranked = sorted(found.values(), key=lambda e: (order.index(e.kind), e.id))
    return tuple(ranked[:EVIDENCE_LIMIT])


def _judge(rule: AnyRule, steps: Sequence[Step], reasons: Reasons) -> Meaning:
    meanings = [meaning(s, reasons) for s in steps]
    furthest = max(meanings, key=_how_far)
    only_configuration = all(m.is_configuration for m in meanings)
    if rule.severity == "from_reason":
        severity = max((m.severity for m in meanings), key=lambda s: s.rank)
    else:
        severity = rule.severity
    if only_configuration and rule.severity_if_configuration:
        severity = rule.severity_if_configuration
    if rule.routine and severity.rank < rule.routine.below.rank:
        severity = min(severity, rule.routine.severity, key=lambda s: s.rank)
    if rule.escalate and len(steps) >= rule.escalate.at_least:
        severity = max(severity, rule.escalate.severity, key=lambda s: s.rank)
    if rule.tactic == "from_reason":
        tactic, techniques, attempted = furthest.tactic, furthest.techniques, furthest.attempted
    else:
        tactic, techniques, attempted = rule.tactic, rule.techniques, rule.tactic
    return Meaning(severity, tactic, techniques, attempted, only_configuration, True)


def event(step: Step) -> dict[str, Any]:
    """What an alert keeps of one of its events, so that it can be shown after the event itself has been deleted."""
    return {
        "id": step.report_id,
        "at": step.at.isoformat(),
        "invocation": step.invocation_id,
        "action": step.action,
        "user": clean(step.upn or step.user_id),
        "user_id": step.user_id,
        "agent": clean(step.agent_name or step.agent_id),
        "agent_id": step.agent_id,
        "session": step.session_id,
        "server": clean(step.server_id),
        "tool": clean(step.tool),
        "verdict": step.verdict,
        "reason": step.reason_code,
        "address": clean(step.address),
        "stopped": step.was_stopped,
        "jailbreak": step.is_jailbreak,
    }


def _draft(
    rule: AnyRule, group: tuple[str, ...], start: datetime, steps: Sequence[Step], reasons: Reasons, told: str = ""
) -> AlertDraft:
    texts, judged, last = _texts(rule, steps, told), _judge(rule, steps, reasons), steps[-1]
    digest = hashlib.sha256("\x00".join(group).encode()).hexdigest()[:32]
    return AlertDraft(
        rule_id=rule.id,
        dedup_key=f"{start:%Y-%m-%dT%H}/{digest}",
        title=" ".join(rule.title.format_map(texts).split()),
        description=" ".join(rule.description.format_map(texts).split()),
        severity=judged.severity,
        tactic=judged.tactic,
        techniques=judged.techniques,
        entities=_entities(rule, steps),
        evidence=tuple(s.report_id for s in capped(steps)),
        first_activity=steps[0].at,
        last_activity=last.at,
        recommended_actions=rule.recommended_actions,
        detail={
            "count": len(steps),
            "stopped": sum(s.was_stopped for s in steps),
            "attempted_tactic": judged.attempted,
            "reason_code": last.reason_code,
            "policy_id": last.policy_id,
            "actions": list(rule.actions),
            "events": [event(s) for s in capped(steps)],
            **({"risk": rule.risk.told} if rule.risk else {}),
        },
    )


def draft_alert(rule: AnyRule, steps: Sequence[Step], reasons: Reasons, told: str = "") -> AlertDraft:
    """The alert that ``rule`` raises about ``steps``, without asking whether they are enough; ``told``: in words."""
    return _draft(rule, _group(rule, steps[0]), _hour(steps[0].at), steps, reasons, told)


class SliceRunner:
    """Implements ``ports.RuleRunner`` over a ruleset."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._ruleset = ruleset

    def run_slice(self, table: pa.Table, seq: Seq) -> Sequence[AlertDraft]:
        """Alerts of every hour that a fresh row (behind ``seq``) of ``table`` touches; the other rows are context."""
        steps = read(table)
        drafts = []
        for rule in self._ruleset.rules:
            groups: defaultdict[tuple[str, ...], list[Step]] = defaultdict(list)
            for step in steps:
                if _wants(rule, step, self._ruleset.reasons):
                    groups[_group(rule, step)].append(step)
            for group, members in sorted(groups.items()):
                touched = {_hour(t) for s in members if s.seq > seq for t in (s.at, s.at + rule.within)}
                for start in sorted(touched):
                    chosen = _enough(members, rule, start)
                    if chosen:
                        drafts.append(_draft(rule, group, start, chosen, self._ruleset.reasons))
        return drafts
