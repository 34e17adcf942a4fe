"""The story of an incident, told from its alerts: title, severity, description, why each alert belongs.

Pure functions of a set of alerts: their order never matters. What is told is first brought down to a ``Gist``, out of
alerts here (also for somebody who may see only some of them), or out of what is kept of an incident (``tally``).

How an incident gets its name: among its most severe alerts, the tactic furthest along the kill chain. An analyst asks
first how far the attacker got; a count of alerts would only say how noisy each rule is.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from watchfloor.detection.evaluate import first_of, plural, when
from watchfloor.detection.rules import progress
from watchfloor.model.cases import Alert, AlertDraft, Entity, EntityKind, EntityRole
from watchfloor.model.verdicts import Severity
from watchfloor.storage.tallies import FEW, MOST_ENTITIES

WITHIN: Final = timedelta(hours=2)
"""Alerts further apart than this are not joined by what they share."""

ROLES: Final = (EntityRole.RELATED, EntityRole.IMPACTED, EntityRole.SUSPECTED)
_GRAVITY: Final = {role: place for place, role in enumerate(ROLES)}
_ORDER: Final = {kind: place for place, kind in enumerate(EntityKind)}
COUNTED: Final = (EntityKind.USER, EntityKind.AGENT, EntityKind.SERVER)
REVOKED: Final = "session_revoked"
SHOWN: Final = FEW
_MOST_PAIRS: Final = 200


@dataclass(frozen=True, slots=True)
class Names:
    """The first of a sorted set of names (as many as are ever listed), and how many there are."""

    first: tuple[str, ...] = ()
    total: int = 0

    def __str__(self) -> str:
        return first_of(self.first, self.total, SHOWN)


@dataclass(frozen=True, slots=True)
class Gist:
    """All that is told of an incident, worked out of its alerts or kept for it (``tally``): both give the same."""

    severity: Severity
    tactic: str
    attempted: str
    """The tactic furthest along the kill chain that any alert says was tried."""
    entities: tuple[Entity, ...]
    first_activity: datetime
    last_activity: datetime
    users: Names
    agents: Names
    addresses: Names
    counts: Mapping[EntityKind, int]
    """How many users, agents and tool servers."""
    tries: int = 0
    stopped: int = 0
    stopped_tools: Names = Names()
    let_out: int = 0
    let_out_tools: Names = Names()
    refused: int = 0
    guarded: int = 0
    changed: int = 0
    changed_tools: Names = Names()
    is_partial: bool = False
    """Whether an alert counted more events than it keeps: sums are lower bounds then."""
    most_rules: int = 0
    """How many rules agree on one user and agent."""


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


def of_kind(alert: AlertDraft, kind: EntityKind) -> list[Entity]:
    """The alert's entities of one kind."""
    return [e for e in alert.entities if e.kind is kind]


def correlation_key(alert: AlertDraft) -> str:
    """What an alert is joined by: its user; without one its agent; without either its tool server.

    Exactly one, so that two users of the same agent never end up in one incident because the agent itself misbehaved.
    """
    for kind in (EntityKind.USER, EntityKind.AGENT, EntityKind.SERVER):
        found = of_kind(alert, kind)
        if found:
            return f"{kind.value}/{found[0].id}"
    return f"rule/{alert.rule_id}"


def pairs_of(alert: AlertDraft) -> list[tuple[str, str]]:
    """Each user with each agent of the alert, by id; an agent alone where there is no user."""
    users = sorted({e.id for e in of_kind(alert, EntityKind.USER)}) or [""]
    agents = sorted({e.id for e in of_kind(alert, EntityKind.AGENT)})
    return list(itertools.islice(itertools.product(users, agents), _MOST_PAIRS))


def tactic_of(found: Iterable[tuple[int, str]]) -> str:
    """Of ranks of severity with tactics: among the most severe, the tactic furthest along the kill chain."""
    return max(found, key=lambda each: (each[0], progress(each[1]), each[1]))[1]


def ranked(counted: Mapping[str, int]) -> tuple[str, ...]:
    """The most frequent of ``counted``, in words."""
    order = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return tuple(f"{text} ({_times(n)})" for text, n in order[:SHOWN])


def merged_entities(entities: Iterable[Entity]) -> tuple[Entity, ...]:
    """Every entity once, in its gravest role."""
    found: dict[tuple[EntityKind, str], Entity] = {}
    for entity in entities:
        known = found.get((entity.kind, entity.id))
        if known is None or (_GRAVITY[known.role], known.name) < (_GRAVITY[entity.role], entity.name):
            found[entity.kind, entity.id] = entity
    return tuple(sorted(found.values(), key=lambda e: (_ORDER[e.kind], e.id))[:MOST_ENTITIES])


def events_of(alerts: Iterable[Alert]) -> list[dict[str, Any]]:
    """The events that the alerts point to, each once, in order of time."""
    found: dict[str, dict[str, Any]] = {}
    for alert in sorted(alerts, key=lambda a: order_of(a.draft)):
        for event in alert.draft.detail.get("events", ()):
            found.setdefault(event["id"], event)
    return sorted(found.values(), key=lambda e: (e["at"], e["id"]))


def order_of(alert: AlertDraft) -> tuple[datetime, str, str]:
    """What the alerts of an incident are told in the order of."""
    return alert.first_activity, alert.rule_id, alert.dedup_key


def _names(names: Iterable[str]) -> Names:
    found = sorted({name for name in names if name})
    return Names(tuple(found[:SHOWN]), len(found))


def gist_of(alerts: Sequence[Alert]) -> Gist:
    """What ``alerts`` (at least one) come to."""
    drafts = [a.draft for a in alerts]
    entities = [e for d in drafts for e in d.entities]
    rules: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    serious: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for draft in drafts:
        for pair in pairs_of(draft):
            rules[pair].add(draft.rule_id)
            if draft.severity.rank >= Severity.HIGH.rank:
                serious[pair].add(draft.rule_id)
    # Critical: serious alerts of two different rules fell on the same user and agent.
    is_critical = any(len(ids) > 1 for ids in serious.values())

    def named(kind: EntityKind) -> Names:
        return _names(e.name for e in entities if e.kind is kind)

    events = events_of(alerts)
    calls = [e for e in events if e["action"] == "ToolCallDecided"]
    stopped = Counter(tool_of(e) for e in calls if e["stopped"])
    let_out = Counter(tool_of(e) for e in calls if not e["stopped"])
    changed = [tool_of(e) or f"{e['server']}/" for e in events if e["action"] == "ToolChanged"]
    return Gist(
        severity=Severity.CRITICAL if is_critical else max((d.severity for d in drafts), key=lambda s: s.rank),
        tactic=tactic_of((d.severity.rank, d.tactic) for d in drafts),
        attempted=max((attempted(d) for d in drafts), key=lambda t: (progress(t), t)),
        entities=merged_entities(entities),
        first_activity=min(d.first_activity for d in drafts),
        last_activity=max(d.last_activity for d in drafts),
        users=named(EntityKind.USER),
        agents=named(EntityKind.AGENT),
        addresses=named(EntityKind.ADDRESS),
        counts={kind: len({e.id for e in entities if e.kind is kind}) for kind in COUNTED},
        tries=sum(bool(e["jailbreak"]) for e in calls),
        stopped=stopped.total(),
        stopped_tools=_ranked(stopped),
        let_out=let_out.total(),
        let_out_tools=_ranked(let_out),
        refused=sum(e["reason"] == REVOKED for e in events),
        guarded=sum(e["action"] == "GuardrailDecision" for e in events),
        changed=len(changed),
        changed_tools=_names(changed),
        is_partial=any(is_partial(d) for d in drafts),
        most_rules=max((len(ids) for ids in rules.values()), default=0),
    )


def attempted(alert: AlertDraft) -> str:
    """The tactic that was tried, whether or not it was reached."""
    return str(alert.detail.get("attempted_tactic") or alert.tactic)


def is_partial(alert: AlertDraft) -> bool:
    """Whether the alert counted more events than it keeps."""
    return bool(alert.detail.get("count", 0) > len(alert.detail.get("events", ())))


def tool_of(event: Mapping[str, Any]) -> str:
    """The event's tool as it is named in a story; empty if it has none."""
    return f"{event['server']}/{event['tool']}" if event["tool"] else ""


def _ranked(counted: Counter[str]) -> Names:
    named = {tool: n for tool, n in counted.items() if tool}
    return Names(ranked(named), len(named))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _title(gist: Gist) -> str:
    users, agents, servers = (gist.counts[kind] for kind in COUNTED)
    if users:
        return f"{gist.tactic} incident involving " + ("one user" if users == 1 else f"{users} users")
    if agents:
        return f"{gist.tactic} incident on " + ("one agent" if agents == 1 else f"{agents} agents")
    return f"{gist.tactic} incident on " + ("one tool server" if servers == 1 else f"{servers} tool servers")


def _description(gist: Gist) -> str:
    at_least = "at least " if gist.is_partial else ""
    sentences = []
    if gist.users.total or gist.agents.total:
        users, agents = str(gist.users), str(gist.agents)
        who = f"{users} used {agents}" if users and agents else users or f"{agents} acted"
        where = f" from {gist.addresses}" if gist.addresses.total else ""
        sentences.append(f"{who}{where} {when(gist.first_activity, gist.last_activity)}.")
    if gist.tries:
        sentences.append(
            f"Words of a jailbreak attempt stood in the conversation of {at_least}{plural(gist.tries, 'call')}."
        )
    if gist.stopped:
        were = "was" if gist.stopped == 1 and not at_least else "were"
        sentences.append(
            f"{at_least.capitalize()}{plural(gist.stopped, 'tool call')} {were} stopped before reaching a tool "
            f"server: {gist.stopped_tools}."
        )
    if gist.let_out:
        were = "was" if gist.let_out == 1 and not at_least else "were"
        count = plural(gist.let_out, "suspect tool call")
        sentences.append(f"{at_least.capitalize()}{count} {were} let out: {gist.let_out_tools}.")
    elif gist.stopped:
        sentences.append("None of the calls of these alerts got through.")
    if gist.refused:
        sentences.append(f"A revoked session was used {at_least}{_times(gist.refused)}, and refused.")
    if gist.guarded:
        sentences.append(f"By their own account, guardrails of agents intervened {at_least}{_times(gist.guarded)}.")
    if gist.changed:
        sentences.append(f"Definitions that changed after approval: {gist.changed_tools}.")
    return " ".join(sentences)


def tell(alerts: Sequence[Alert]) -> Story:
    """The story of ``alerts`` (at least one)."""
    return told(gist_of(alerts))


def told(gist: Gist) -> Story:
    """The story that a gist makes."""
    return Story(
        title=_title(gist),
        description=_description(gist),
        severity=gist.severity,
        tactic=gist.tactic,
        entities=gist.entities,
        first_activity=gist.first_activity,
        last_activity=gist.last_activity,
    )


_HOURS: Final = int(WITHIN.total_seconds() // 3600)
_SHARED: Final = {"user": "user", "agent": "agent", "server": "tool server"}
SAME_USER: Final = f"same user within {_HOURS} h"
SAME_USER_AND_AGENT: Final = f"same user and agent within {_HOURS} h"


def reason_of(alert: AlertDraft, *, shares_agent: bool) -> str:
    """Why an alert that is not the first one is part of its incident; ``shares_agent``: with another one near it."""
    kind = correlation_key(alert).partition("/")[0]
    if kind == "user" and shares_agent:
        return SAME_USER_AND_AGENT
    return f"same {_SHARED.get(kind, 'rule')} within {_HOURS} h"


def reason_of_first(follows: str | None) -> str:
    """What is said of an incident's first alert. ``follows``: a resolved incident that this one continues."""
    return "first alert of the incident" + (f"; follows resolved incident {follows}" if follows else "")


def join_reasons(alerts: Sequence[Alert], follows: str | None = None) -> dict[str, str]:
    """Why each alert is part of its incident, by alert id."""
    ordered = sorted(alerts, key=lambda a: order_of(a.draft))
    by_agent: defaultdict[str, list[Alert]] = defaultdict(list)
    for alert in ordered:
        for agent_id in {e.id for e in of_kind(alert.draft, EntityKind.AGENT)}:
            by_agent[agent_id].append(alert)
    sharing: set[str] = set()
    for group in by_agent.values():
        latest = group[0]  # of those before, the one that lasted longest: if any of them is near, it is
        for alert in group[1:]:
            if alert.draft.first_activity <= latest.draft.last_activity + WITHIN:
                sharing |= {alert.id, latest.id}
            latest = max(latest, alert, key=lambda a: a.draft.last_activity)
    reasons = {a.id: reason_of(a.draft, shares_agent=a.id in sharing) for a in ordered}
    return reasons | {ordered[0].id: reason_of_first(follows)} if ordered else {}
