"""Risk of users and agents: its words, what each detection weighs, and how that fades. Pure.

A *detection* is one thing that was seen. What those that are open add up to is the gravest of them, each as it has
faded by now: many faint hints never add up to a grave one, because what a high risk does (every call is refused) must
rest on something that somebody can be shown. Rules in ``detection`` count bursts and say so with one graver detection.
``storage.risks`` keeps the detections, and asks this module what they come to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from watchfloor.model.people import RiskLevel
from watchfloor.model.verdicts import Severity


class RiskState(StrEnum):
    """Graph's risk states, of a user, of an agent and of each detection."""

    NONE = "none"
    AT_RISK = "atRisk"
    CONFIRMED_COMPROMISED = "confirmedCompromised"
    CONFIRMED_SAFE = "confirmedSafe"
    DISMISSED = "dismissed"
    REMEDIATED = "remediated"


OPEN: Final = (RiskState.AT_RISK, RiskState.CONFIRMED_COMPROMISED)
"""States of detections that count."""

RANK: Final[Mapping[RiskLevel, int]] = {level: rank for rank, level in enumerate(RiskLevel)}

FADES: Final[Mapping[RiskLevel, timedelta]] = {
    RiskLevel.HIGH: timedelta(days=30),
    RiskLevel.MEDIUM: timedelta(days=14),
    RiskLevel.LOW: timedelta(days=7),
}
"""How long a detection stays at each level, from its last activity, before it counts one level less."""


@dataclass(frozen=True, slots=True)
class RiskKind:
    """What is known of a detection by its name: its words, and the most that it may weigh."""

    title: str
    at_most: RiskLevel = RiskLevel.HIGH


KINDS: Final[Mapping[str, RiskKind]] = {
    "securityAlert": RiskKind("A security alert of high severity names the account"),
    "adminConfirmedUserCompromised": RiskKind("An operator confirmed that the account is compromised"),
    "adminConfirmedAgentCompromised": RiskKind("An operator confirmed that the agent is compromised"),
    "threatIntelligenceAccount": RiskKind("Threat intelligence knows the account"),
    "providerRiskLevel": RiskKind("An identity provider says that the account is at risk"),
    "failedAccessAttempt": RiskKind("Many attempts of the agent to get access were refused", RiskLevel.MEDIUM),
    "signInSpike": RiskKind("The agent signed in far more often than it does", RiskLevel.MEDIUM),
    "unfamiliarResourceAccess": RiskKind("The agent turned to a resource that it has never used", RiskLevel.LOW),
    "riskyUserSignIn": RiskKind("The agent acted for a user at risk", RiskLevel.NONE),
}
"""Detections by name: Microsoft's, and ``securityAlert``. One that is not listed may weigh anything."""

OF_SEVERITY: Final[Mapping[Severity, RiskLevel]] = {
    Severity.HIGH: RiskLevel.MEDIUM,
    Severity.CRITICAL: RiskLevel.HIGH,
}
"""What an alert weighs for those that it is about; one of lesser severity weighs nothing.

An alert of high severity does not suspend anybody by itself: that takes a person, or a rule that says critical.
"""


@dataclass(frozen=True, slots=True)
class RiskDetection:
    """One thing that was seen about a user or an agent (``kind``: user or agent).

    ``source`` says who saw it (``alert``, ``admin``, ``rule``, an identity provider's issuer), ``key`` which occurrence
    it is: the same one noted twice counts once. ``first_at`` and ``last_at`` bound the activity.
    """

    id: str
    kind: str
    subject_id: str
    detection: str
    level: RiskLevel
    state: RiskState
    source: str
    detail: str
    key: str
    first_at: datetime
    last_at: datetime
    noted_at: datetime
    updated_at: datetime
    alert_id: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it is, in words."""
        kind = KINDS.get(self.detection)
        return kind.title if kind else self.detection

    @property
    def reason(self) -> str:
        """One sentence for whoever asks why."""
        weight = "does not raise the level" if self.level is RiskLevel.NONE else f"{self.level}"
        said = f": {self.detail}" if self.detail else ""
        return f"{self.title}{said} ({self.detection}, {weight}, {self.last_at:%Y-%m-%d %H:%M} UTC)"


@dataclass(frozen=True, slots=True)
class Risk:
    """The risk of a user or an agent now. ``reasons`` are sentences about the detections that count, gravest first.

    ``detail`` is Graph's word for how it came about, ``changes_at`` when it fades next if nothing else happens.
    """

    level: RiskLevel = RiskLevel.NONE
    state: RiskState = RiskState.NONE
    reasons: tuple[str, ...] = ()
    updated_at: datetime | None = None
    detail: str = "none"
    because: str = ""
    changes_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RiskChange:
    """One entry of the history of a risk. ``activity``: what happened, as an audit tag says it."""

    id: str
    kind: str
    subject_id: str
    at: datetime
    actor: str
    activity: str
    level: RiskLevel
    state: RiskState
    detail: str
    because: str
    detection_id: str | None = None


def limited(detection: str, level: RiskLevel) -> RiskLevel:
    """``level``, but no more than what detections of that name may weigh."""
    kind = KINDS.get(detection)
    return level if kind is None else min(level, kind.at_most, key=RANK.__getitem__)


def faded(level: RiskLevel, age: timedelta) -> tuple[RiskLevel, timedelta | None]:
    """What is left of ``level`` after ``age``, and at which age it fades next; None if never."""
    levels = list(RiskLevel)
    limit = timedelta(0)
    while level is not RiskLevel.NONE:
        limit += FADES[level]
        if age < limit:
            return level, limit
        level = levels[RANK[level] - 1]
    return level, None


def add_up(newest: Iterable[tuple[RiskLevel, datetime]], now: datetime) -> tuple[RiskLevel, datetime | None]:
    """What open detections come to at ``now``, and when that may change next if nothing else happens.

    ``newest``: the level of each and its last activity; of one level, the newest will do.
    """
    total, changes = RiskLevel.NONE, None
    for weight, last_at in newest:
        level, limit = faded(weight, max(now - last_at, timedelta(0)))
        total = max(total, level, key=RANK.__getitem__)
        if limit is not None:
            at = last_at + limit
            changes = at if changes is None else min(changes, at)
    return total, changes
