"""Which incident to look at first, and why: a score of 0 to 100 with its reasons.

A pure function of the alerts and of what the directory says of the people in them; an analyst can add the points up.
It is stored with the incident for sorting and worked out anew for whoever may see only some of the alerts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from watchfloor.detection.evaluate import listed, plural
from watchfloor.detection.rules import TACTICS, progress
from watchfloor.detection.story import events_of, of_kind, severity_of
from watchfloor.model.cases import Alert, EntityKind
from watchfloor.model.verdicts import Severity
from watchfloor.storage import people

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx
    from watchfloor.storage.people import User

_OF_SEVERITY: Final = {
    Severity.INFORMATIONAL: 2,
    Severity.LOW: 8,
    Severity.MEDIUM: 20,
    Severity.HIGH: 40,
    Severity.CRITICAL: 60,
}
_FAR: Final = progress("Collection")
_OF_CRITICALITY: Final = {0: 10, 1: 6, 2: 3}
_LET_OUT: Final = 10
_PER_RULE: Final = 3
_MOST_FOR_RULES: Final = 9
_SEVERAL_USERS: Final = 5


@dataclass(frozen=True, slots=True)
class Reason:
    """So many points, for this."""

    points: int
    text: str


@dataclass(frozen=True, slots=True)
class Priority:
    """``score`` is the sum of the points, at most 100."""

    score: int
    reasons: tuple[Reason, ...]


def people_of(tx: ControlTx, alerts: Sequence[Alert]) -> dict[str, User]:
    """The users in ``alerts`` that the directory knows, by id."""
    ids = {entity.id for alert in alerts for entity in of_kind(alert, EntityKind.USER)}
    found = {user_id: people.find_user(tx, user_id) for user_id in sorted(ids)}
    return {user_id: user for user_id, user in found.items() if user is not None}


def weigh(alerts: Sequence[Alert], directory: Mapping[str, User]) -> Priority:
    """The priority of an incident of ``alerts`` (at least one)."""
    reasons = [
        _severity(alerts), _how_far(alerts), _let_out(alerts), _people(alerts, directory), _rules(alerts),
        _users(alerts),
    ]  # fmt: skip
    found = tuple(reason for reason in reasons if reason is not None)
    return Priority(min(100, sum(reason.points for reason in found)), found)


def _severity(alerts: Sequence[Alert]) -> Reason:
    severity = severity_of(alerts)
    return Reason(_OF_SEVERITY[severity], f"severity {severity.value}")


def _how_far(alerts: Sequence[Alert]) -> Reason | None:
    tactic = max((a.draft.detail.get("attempted_tactic") or a.draft.tactic for a in alerts), key=progress)
    position = progress(tactic)
    if position < 0:
        return None
    points = 10 if position >= _FAR else 10 * position // len(TACTICS)
    return Reason(points, f"tried to get as far as {tactic}") if points else None


def _let_out(alerts: Sequence[Alert]) -> Reason | None:
    calls = [e for e in events_of(alerts) if e.get("action") == "ToolCallDecided" and not e.get("stopped")]
    if not calls:
        return None
    verb = "was" if len(calls) == 1 else "were"
    return Reason(_LET_OUT, f"{plural(len(calls), 'suspect tool call')} {verb} let out")


def _people(alerts: Sequence[Alert], directory: Mapping[str, User]) -> Reason | None:
    ids = {entity.id for alert in alerts for entity in of_kind(alert, EntityKind.USER)}
    known = [directory[user_id] for user_id in sorted(ids) if user_id in directory]
    marked = [(user.criticality, user.upn or user.id) for user in known if user.criticality in _OF_CRITICALITY]
    if not marked:
        return None
    level = min(criticality for criticality, _ in marked if criticality is not None)
    names = [name for criticality, name in marked if criticality == level]
    return Reason(_OF_CRITICALITY[level], f"much depends on the account of {listed(names)} (criticality {level})")


def _rules(alerts: Sequence[Alert]) -> Reason | None:
    by_pair: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for alert in alerts:
        users = [entity.id for entity in of_kind(alert, EntityKind.USER)] or [""]
        for agent in of_kind(alert, EntityKind.AGENT):
            for user in users:
                by_pair[user, agent.id].add(alert.draft.rule_id)
    most = max((len(ids) for ids in by_pair.values()), default=0)
    if most < 2:
        return None
    return Reason(min(_MOST_FOR_RULES, _PER_RULE * (most - 1)), f"{most} rules agree on one user and agent")


def _users(alerts: Sequence[Alert]) -> Reason | None:
    users = {entity.id for alert in alerts for entity in of_kind(alert, EntityKind.USER)}
    return Reason(_SEVERAL_USERS, f"{len(users)} users are involved") if len(users) > 1 else None
