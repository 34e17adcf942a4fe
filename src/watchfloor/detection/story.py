"""The story of an incident, told from its alerts: title, severity, description, why each alert belongs.

Pure functions of a set of alerts: their order never matters, and the story stays true as alerts join, because it is
always told anew from all of them. It is also how an incident is retold to somebody who may see only some of its alerts.

How an incident gets its name: among its most severe alerts, the tactic furthest along the kill chain. An analyst asks
first how far the attacker got; a count of alerts would only say how noisy each rule is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from watchfloor.detection.evaluate import listed, plural, when
from watchfloor.detection.rules import progress
from watchfloor.model.cases import Alert, Entity, EntityKind, EntityRole
from watchfloor.model.verdicts import Severity

WITHIN: Final = timedelta(hours=2)
"""Alerts further apart than this are not joined by what they share."""

_ROLES: Final = (EntityRole.RELATED, EntityRole.IMPACTED, EntityRole.SUSPECTED)
_MOST_ENTITIES: Final = 500


@dataclass(frozen=True, slots=True)
class Story:
    """What an incident says about itself."""

    title: str
    description: str
    severity: Severity
    tactic: str
    entities: tuple[Entity, ...]
    first_activity: datetime
    last_activity: datetime


def of_kind(alert: Alert, kind: EntityKind) -> list[Entity]:
    """The alert's entities of one kind."""
    return [e for e in alert.draft.entities if e.kind is kind]


def correlation_key(alert: Alert) -> str:
    """What an alert is joined by: its user; without one its agent; without either its tool server.

    Exactly one, so that two users of the same agent never end up in one incident because the agent itself misbehaved.
    """
    for kind in (EntityKind.USER, EntityKind.AGENT, EntityKind.SERVER):
        found = of_kind(alert, kind)
        if found:
            return f"{kind.value}/{found[0].id}"
    return f"rule/{alert.draft.rule_id}"


def dominant_tactic(alerts: Sequence[Alert]) -> str:
    """Among the most severe alerts, the tactic furthest along the kill chain."""
    worst = max(a.draft.severity.rank for a in alerts)
    return max((a.draft.tactic for a in alerts if a.draft.severity.rank == worst), key=lambda t: (progress(t), t))


def severity_of(alerts: Sequence[Alert]) -> Severity:
    """The highest of the alerts; critical if serious alerts of two different rules fell on the same user and agent."""
    rules: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for alert in alerts:
        if alert.draft.severity.rank >= Severity.HIGH.rank:
            users = [e.id for e in of_kind(alert, EntityKind.USER)] or [""]
            for agent in of_kind(alert, EntityKind.AGENT):
                for user in users:
                    rules[user, agent.id].add(alert.draft.rule_id)
    if any(len(ids) > 1 for ids in rules.values()):
        return Severity.CRITICAL
    return max((a.draft.severity for a in alerts), key=lambda s: s.rank)


def entities_of(alerts: Iterable[Alert]) -> tuple[Entity, ...]:
    """Every entity once, in its gravest role."""
    found: dict[tuple[EntityKind, str], Entity] = {}
    for alert in alerts:
        for entity in alert.draft.entities:
            known = found.get((entity.kind, entity.id))
            if known is None or (_ROLES.index(known.role), known.name) < (_ROLES.index(entity.role), entity.name):
                found[entity.kind, entity.id] = entity
    order = list(EntityKind)
    return tuple(sorted(found.values(), key=lambda e: (order.index(e.kind), e.id))[:_MOST_ENTITIES])


def events_of(alerts: Iterable[Alert]) -> list[dict[str, Any]]:
    """The events that the alerts point to, each once, in order of time."""
    found: dict[str, dict[str, Any]] = {}
    for alert in sorted(alerts, key=_by_activity):
        for event in alert.draft.detail.get("events", ()):
            found.setdefault(event["id"], event)
    return sorted(found.values(), key=lambda e: (e["at"], e["id"]))


def _by_activity(alert: Alert) -> tuple[datetime, str, str]:
    return alert.draft.first_activity, alert.draft.rule_id, alert.draft.dedup_key


def _names(alerts: Sequence[Alert], kind: EntityKind) -> list[str]:
    return sorted({e.name for a in alerts for e in of_kind(a, kind)})


def _title(alerts: Sequence[Alert], tactic: str) -> str:
    users = {e.id for a in alerts for e in of_kind(a, EntityKind.USER)}
    agents = {e.id for a in alerts for e in of_kind(a, EntityKind.AGENT)}
    if users:
        return f"{tactic} incident involving " + ("one user" if len(users) == 1 else f"{len(users)} users")
    if agents:
        return f"{tactic} incident on " + ("one agent" if len(agents) == 1 else f"{len(agents)} agents")
    servers = {e.id for a in alerts for e in of_kind(a, EntityKind.SERVER)}
    return f"{tactic} incident on " + ("one tool server" if len(servers) == 1 else f"{len(servers)} tool servers")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _tools(events: Sequence[dict[str, Any]]) -> str:
    counted = Counter(f"{e['server']}/{e['tool']}" for e in events if e["tool"])
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return listed([f"{tool} ({_times(n)})" for tool, n in ranked])


def _description(alerts: Sequence[Alert]) -> str:
    events = events_of(alerts)
    # An alert keeps a bounded number of events; if it counted more than it keeps, the sum is a lower bound.
    is_partial = any(a.draft.detail.get("count", 0) > len(a.draft.detail.get("events", ())) for a in alerts)
    at_least = "at least " if is_partial else ""
    calls = [e for e in events if e["action"] == "ToolCallDecided"]
    tries = [e for e in calls if e["jailbreak"]]
    stopped = [e for e in calls if e["stopped"]]
    let_out = [e for e in calls if not e["stopped"]]
    refused = [e for e in events if e["reason"] == "session_revoked"]
    changed = [e for e in events if e["action"] == "ToolChanged"]
    guarded = [e for e in events if e["action"] == "GuardrailDecision"]
    users, agents = _names(alerts, EntityKind.USER), _names(alerts, EntityKind.AGENT)
    addresses = _names(alerts, EntityKind.ADDRESS)
    first = min(a.draft.first_activity for a in alerts)
    last = max(a.draft.last_activity for a in alerts)

    sentences = []
    if users or agents:
        who = (
            f"{listed(users)} used {listed(agents)}" if users and agents else listed(users) or f"{listed(agents)} acted"
        )
        where = f" from {listed(addresses)}" if addresses else ""
        sentences.append(f"{who}{where} {when(first, last)}.")
    if tries:
        sentences.append(
            f"Words of a jailbreak attempt stood in the conversation of {at_least}{plural(len(tries), 'call')}."
        )
    if stopped:
        were = "was" if len(stopped) == 1 and not at_least else "were"
        sentences.append(
            f"{at_least.capitalize()}{plural(len(stopped), 'tool call')} {were} stopped before reaching a tool "
            f"server: {_tools(stopped)}."
        )
    if let_out:
        were = "was" if len(let_out) == 1 and not at_least else "were"
        count = plural(len(let_out), "suspect tool call")
        sentences.append(f"{at_least.capitalize()}{count} {were} let out: {_tools(let_out)}.")
    elif stopped:
        sentences.append("None of the calls of these alerts got through.")
    if refused:
        sentences.append(f"A revoked session was used {at_least}{_times(len(refused))}, and refused.")
    if guarded:
        sentences.append(f"By their own account, guardrails of agents intervened {at_least}{_times(len(guarded))}.")
    if changed:
        tools = sorted({f"{e['server']}/{e['tool']}" for e in changed})
        sentences.append(f"Definitions that changed after approval: {listed(tools)}.")
    return " ".join(sentences)


def tell(alerts: Sequence[Alert]) -> Story:
    """The story of ``alerts`` (at least one)."""
    tactic = dominant_tactic(alerts)
    return Story(
        title=_title(alerts, tactic),
        description=_description(alerts),
        severity=severity_of(alerts),
        tactic=tactic,
        entities=entities_of(alerts),
        first_activity=min(a.draft.first_activity for a in alerts),
        last_activity=max(a.draft.last_activity for a in alerts),
    )


def are_near(a: Alert, b: Alert) -> bool:
    """Whether the activity of two alerts lies within the correlation window."""
    return (
        a.draft.first_activity <= b.draft.last_activity + WITHIN
        and b.draft.first_activity <= a.draft.last_activity + WITHIN
    )


_HOURS: Final = int(WITHIN.total_seconds() // 3600)


def join_reasons(alerts: Sequence[Alert], follows: str | None = None) -> dict[str, str]:
    """Why each alert is part of its incident, by alert id. ``follows``: a resolved incident that this one continues."""
    ordered = sorted(alerts, key=_by_activity)
    reasons = {}
    for position, alert in enumerate(ordered):
        if position == 0:
            after = f"; follows resolved incident {follows}" if follows else ""
            reasons[alert.id] = f"first alert of the incident{after}"
            continue
        near = [other for other in ordered if other is not alert and are_near(alert, other)]
        kind = correlation_key(alert).partition("/")[0]
        agents = {e.id for e in of_kind(alert, EntityKind.AGENT)}
        if kind == "user" and any(agents & {e.id for e in of_kind(other, EntityKind.AGENT)} for other in near):
            reasons[alert.id] = f"same user and agent within {_HOURS} h"
        else:
            shared = {"user": "user", "agent": "agent", "server": "tool server"}.get(kind, "rule")
            reasons[alert.id] = f"same {shared} within {_HOURS} h"
    return reasons
