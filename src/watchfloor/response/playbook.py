"""Playbooks as content: which incidents they answer to, about whom, and what they would do. Pure.

A playbook says which incidents it is for (``when``), which of those involved it is about (``about``, ``if``), and which
actions of the catalogue it takes (``do``), by itself or once an operator has said yes. Validation names every fault at
once. This module knows files and values; ``playbooks`` runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from watchfloor import content
from watchfloor.detection.words import NEEDS_BOTH, Content, Tactic, faults_of
from watchfloor.model.agents import AgentState, ServerState
from watchfloor.model.cases import EntityRole, IncidentStatus
from watchfloor.model.errors import InputError
from watchfloor.model.people import RiskLevel
from watchfloor.model.verdicts import Severity
from watchfloor.response.catalog import ACTIONS

Kind = Literal["user", "agent", "server"]
Approval = Literal["required", "automatic"]

MOST_SUBJECTS: Final = 5
"""Of an incident with more of them, nobody is acted on unasked: that many are rather a mistake than thieves."""


# -- what a playbook looks at -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody or something that an incident involves, as it is now; what its kind has not keeps its default."""

    kind: str
    id: str
    role: str = EntityRole.RELATED.value
    risk: RiskLevel = RiskLevel.NONE
    criticality: int | None = None
    groups: tuple[str, ...] = ()
    state: str = ""
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class IncidentFacts:
    """An incident as playbooks look at it."""

    id: str
    severity: Severity
    status: IncidentStatus = IncidentStatus.ACTIVE
    priority: int = 0
    rules: frozenset[str] = frozenset()
    tactics: frozenset[str] = frozenset()
    subjects: tuple[Subject, ...] = ()


# -- what a playbook says -----------------------------------------------------------------------------------------


class When(Content):
    """Which incidents; every condition given must hold, an empty one holds always."""

    severity: tuple[Severity, ...] = ()
    status: tuple[IncidentStatus, ...] = (IncidentStatus.ACTIVE, IncidentStatus.IN_PROGRESS)
    rules: tuple[str, ...] = ()
    tactics: tuple[Tactic, ...] = ()
    min_priority: int = Field(default=0, ge=0, le=100)

    @property
    def asks_for_alerts(self) -> bool:
        """Whether it depends on the incident's alerts, and not only on the incident."""
        return bool(self.rules or self.tactics)

    def may_hold(self, severity: Severity, status: IncidentStatus, priority: int) -> bool:
        """Whether the incident alone speaks for it."""
        return (
            (not self.severity or severity in self.severity)
            and (not self.status or status in self.status)
            and priority >= self.min_priority
        )

    def holds(self, incident: IncidentFacts) -> bool:
        """Whether the incident is one of them: of ``rules`` and ``tactics``, one of its alerts' is enough."""
        return (
            self.may_hold(incident.severity, incident.status, incident.priority)
            and (not self.rules or not incident.rules.isdisjoint(self.rules))
            and (not self.tactics or not incident.tactics.isdisjoint(self.tactics))
        )


class If(Content):
    """About which of those involved; every condition given must hold, an empty one holds always."""

    roles: tuple[EntityRole, ...] = ()
    risk: tuple[RiskLevel, ...] = ()
    criticality: tuple[int, ...] = ()
    except_criticality: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()
    except_groups: tuple[str, ...] = ()
    states: tuple[AgentState | ServerState, ...] = ()

    def holds(self, subject: Subject) -> bool:
        """Whether the subject is one of them."""
        return (
            (not self.roles or subject.role in self.roles)
            and (not self.risk or subject.risk in self.risk)
            and (not self.criticality or subject.criticality in self.criticality)
            and subject.criticality not in self.except_criticality
            and (not self.groups or not set(self.groups).isdisjoint(subject.groups))
            and set(self.except_groups).isdisjoint(subject.groups)
            and (not self.states or subject.state in self.states)
        )


class Do(Content):
    """An action of the catalogue, with the options that are wanted."""

    action: str
    options: tuple[str, ...] = ()


class Row(Content):
    """A test: an incident, in few words, and the ids of those whom the playbook is then about."""

    name: str
    incident: Mapping[str, Any] = Field(default_factory=dict)
    subjects: tuple[Mapping[str, Any], ...] = ()
    expect: tuple[str, ...]

    def facts(self) -> IncidentFacts:
        """The incident of this row. Raises ``InputError`` for one that is none."""
        try:
            given = _Given.model_validate({**self.incident, "subjects": self.subjects})
        except ValidationError as error:
            raise InputError(faults_of(error), where=f"tests/{self.name}") from error
        return IncidentFacts(
            "inc_test",
            given.severity,
            given.status,
            given.priority,
            frozenset(given.rules),
            frozenset(given.tactics),
            tuple(Subject(**each.model_dump()) for each in given.subjects),
        )


class _GivenSubject(Content):
    kind: Kind
    id: str
    role: EntityRole = EntityRole.RELATED
    risk: RiskLevel = RiskLevel.NONE
    criticality: int | None = None
    groups: tuple[str, ...] = ()
    state: str = ""


class _Given(Content):
    severity: Severity = Severity.HIGH
    status: IncidentStatus = IncidentStatus.ACTIVE
    priority: int = 0
    rules: tuple[str, ...] = ()
    tactics: tuple[str, ...] = ()
    subjects: tuple[_GivenSubject, ...] = ()


class Playbook(Content):
    """A playbook as its file says it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")
    title: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=2000)
    when: When
    about: Kind
    if_: If = Field(default=If(), alias="if")
    do: tuple[Do, ...] = Field(min_length=1, max_length=5)
    approval: Approval = "required"
    enabled: bool = True
    cooldown_hours: float = Field(default=24, ge=0, le=24 * 90)
    tests: tuple[Row, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for number, each in enumerate(self.do):
            action = ACTIONS.get(each.action)
            if action is None:
                known = ", ".join(a.id for a in ACTIONS.values() if a.subject == self.about)
                raise ValueError(f"do.{number}: there is no action {each.action!r}; about a {self.about}: {known}")
            if action.subject != self.about:
                raise ValueError(f"do.{number}: {each.action} is about a {action.subject}, not about a {self.about}")
            unknown = set(each.options) - {option.name for option in action.options}
            if unknown:
                raise ValueError(f"do.{number}: {each.action} has no option {', '.join(sorted(unknown))}")
        expected = [bool(row.expect) for row in self.tests]
        if not self.tests or all(expected) or not any(expected):
            raise ValueError(f"tests: {NEEDS_BOTH}")
        return self

    def subjects(self, incident: IncidentFacts) -> list[Subject]:
        """Those whom it is about in this incident, by id; none where it is not for such an incident."""
        if not self.when.holds(incident):
            return []
        found = {s.id: s for s in incident.subjects if s.kind == self.about and self.if_.holds(s)}
        return [found[name] for name in sorted(found)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a row of ``tests`` came out."""

    name: str
    expected: tuple[str, ...]
    got: tuple[str, ...]

    @property
    def is_passed(self) -> bool:
        """Whether it is about exactly those that the row expects."""
        return sorted(self.expected) == sorted(self.got)


def parse(body: Any, where: str = "playbook") -> Playbook:
    """The playbook that ``body`` is. Raises ``InputError`` with every fault."""
    if not isinstance(body, Mapping):
        raise InputError("a playbook is a mapping.", where=where, remedy="Begin with id, title, when, about, do.")
    try:
        found = Playbook.model_validate(body)
    except ValidationError as error:
        raise InputError(faults_of(error), where=str(body.get("id") or where)) from error
    for row in found.tests:
        row.facts()
    return found


def run_tests(playbook: Playbook) -> list[Outcome]:
    """What every row of its tests comes to."""
    return [
        Outcome(row.name, row.expect, tuple(s.id for s in playbook.subjects(row.facts()))) for row in playbook.tests
    ]


@cache
def shipped() -> Mapping[str, Playbook]:
    """The playbooks that come with the product, by id."""
    return {body["id"]: parse(body, f"content/playbooks/{body['id']}.yaml") for body in content.playbooks()}


def permissions_of(playbook: Playbook) -> Sequence[str]:
    """What its actions take, each once."""
    return list(dict.fromkeys(ACTIONS[each.action].permission.value for each in playbook.do))
