"""Which incident to look at first, and why: a score of 0 to 100 with its reasons.

A pure function of what the alerts come to and of what the directory says of the people in them; an analyst can add the
points up. It is stored with the incident for sorting and worked out anew for whoever may see only some of the alerts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from watchfloor.detection.evaluate import listed, plural
from watchfloor.detection.rules import TACTICS, progress
from watchfloor.detection.story import Gist, gist_of
from watchfloor.model.cases import Alert, Entity, EntityKind
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


def people_of(tx: ControlTx, entities: Iterable[Entity]) -> dict[str, User]:
    """The users among ``entities`` that the directory knows, by id."""
    return people.find_users(tx, sorted({e.id for e in entities if e.kind is EntityKind.USER}))


def weigh_alerts(tx: ControlTx, alerts: Sequence[Alert]) -> Priority:
    """The priority of an incident of ``alerts`` (at least one)."""
    gist = gist_of(alerts)
    return weigh(gist, people_of(tx, gist.entities))


def weigh(gist: Gist, directory: Mapping[str, User]) -> Priority:
    """The priority of an incident that comes to ``gist``."""
    reasons = [
        _severity(gist), _how_far(gist), _let_out(gist), _people(gist, directory), _rules(gist), _users(gist)
    ]  # fmt: skip
    found = tuple(reason for reason in reasons if reason is not None)
    return Priority(min(100, sum(reason.points for reason in found)), found)


def _severity(gist: Gist) -> Reason:
    return Reason(_OF_SEVERITY[gist.severity], f"severity {gist.severity.value}")


def _how_far(gist: Gist) -> Reason | None:
    position = progress(gist.attempted)
    if position < 0:
        return None
    points = 10 if position >= _FAR else 10 * position // len(TACTICS)
    return Reason(points, f"tried to get as far as {gist.attempted}") if points else None


def _let_out(gist: Gist) -> Reason | None:
    if not gist.let_out:
        return None
    verb = "was" if gist.let_out == 1 else "were"
    return Reason(_LET_OUT, f"{plural(gist.let_out, 'suspect tool call')} {verb} let out")


def _people(gist: Gist, directory: Mapping[str, User]) -> Reason | None:
    ids = {entity.id for entity in gist.entities if entity.kind is EntityKind.USER}
    known = [directory[user_id] for user_id in sorted(ids) if user_id in directory]
    marked = [(user.criticality, user.upn or user.id) for user in known if user.criticality in _OF_CRITICALITY]
    if not marked:
        return None
    level = min(criticality for criticality, _ in marked if criticality is not None)
    names = [name for criticality, name in marked if criticality == level]
    return Reason(_OF_CRITICALITY[level], f"much depends on the account of {listed(names)} (criticality {level})")


def _rules(gist: Gist) -> Reason | None:
    if gist.most_rules < 2:
        return None
    points = min(_MOST_FOR_RULES, _PER_RULE * (gist.most_rules - 1))
    return Reason(points, f"{gist.most_rules} rules agree on one user and agent")


def _users(gist: Gist) -> Reason | None:
    count = gist.counts[EntityKind.USER]
    return Reason(_SEVERAL_USERS, f"{count} users are involved") if count > 1 else None
