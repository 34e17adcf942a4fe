"""Detection rules as content: load, validate, and the meaning of reason codes.

A rule says which steps it looks at (``select``), which belong together (``group_by``), how many of them within which
time make an alert, and what that alert says; or it is a query (``kql_rule``). Validation names the file and the place,
all faults at once. This module knows files and words; it never sees an event.
"""

from __future__ import annotations

import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

import yaml
from pydantic import Field, ValidationError

from watchfloor.detection.kql_rule import KqlRule, check_rule
from watchfloor.detection.words import NEEDS_BOTH, TACTICS, Content, RuleRisk, Tactic, faults_of, progress
from watchfloor.model.cases import EntityRole
from watchfloor.model.errors import InputError
from watchfloor.model.verdicts import Severity

__all__ = ["TACTICS", "AnyRule", "KqlRule", "Rule", "Ruleset", "SessionRule", "parse", "progress", "shipped"]

PLACEHOLDERS: Final = frozenset(
    {"user", "Who", "agent", "tool", "server", "tools", "calls", "were", "them", "before", "stopped", "from_addresses",
     "span", "reason", "minutes", "times", "detail"}
)  # fmt: skip
"""What titles and descriptions of rules may name."""

GroupKey = Literal["agent", "user", "server", "tool", "reason"]


class ReasonMeaning(Content):
    """What a refusal with one reason code means."""

    severity: Severity
    tactic: Tactic
    techniques: tuple[str, ...]
    raises: bool = True
    configuration: bool = False


class StoppedMeaning(Content):
    """How far an attacker got whose attempt at a tactic was stopped."""

    tactic: Tactic
    techniques: tuple[str, ...]


class Reasons(Content):
    """``reasons.yaml``."""

    reasons: Mapping[str, ReasonMeaning]
    when_stopped: Mapping[Tactic, StoppedMeaning]


class Select(Content):
    """Which steps a rule looks at; every condition given must hold, an empty one holds always."""

    actions: tuple[str, ...]
    verdicts: tuple[Literal["allow", "redact", "hold", "block"], ...] = ()
    would_be: tuple[Literal["allow", "redact", "hold", "block"], ...] = ()
    reasons: tuple[str, ...] = ()
    except_reasons: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()
    except_signals: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    except_targets: tuple[str, ...] = ()
    min_severity: Severity = Severity.INFORMATIONAL


class Escalation(Content):
    """From how many steps on an alert is more severe."""

    at_least: int = Field(ge=2)
    severity: Severity


class Routine(Content):
    """What is milder than ``below`` by its own reasons is everyday work: its alert is no graver than ``severity``."""

    below: Severity
    severity: Severity


class Example(Content):
    """One test of a rule: steps given, alerts expected."""

    name: str
    given: tuple[Mapping[str, Any], ...] = Field(min_length=1)
    expect: tuple[Mapping[str, Any], ...]


class AnyRule(Content):
    """What every rule says of its alerts."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    title: str
    description: str
    severity: Severity | Literal["from_reason"]
    severity_if_configuration: Severity | None = None
    tactic: Tactic | Literal["from_reason"]
    techniques: tuple[str, ...] = ()
    group_by: tuple[GroupKey, ...] = Field(min_length=1)
    within_minutes: int = Field(default=0, ge=0, le=60)
    routine: Routine | None = None
    escalate: Escalation | None = None
    user_role: EntityRole = EntityRole.IMPACTED
    risk: RuleRisk | None = None
    actions: tuple[str, ...] = ()
    recommended_actions: tuple[str, ...] = Field(min_length=1)
    blind_spots: str
    tests: tuple[Example, ...] = Field(min_length=2)


class Rule(AnyRule):
    """A detection rule over single steps, as its content file says it."""

    select: Select
    at_least: int = Field(default=1, ge=1)

    @property
    def within(self) -> timedelta:
        """The window in which ``at_least`` steps must fall."""
        return timedelta(minutes=self.within_minutes)


class SessionRule(AnyRule):
    """A rule over what was done within a time: a KQL query that is asked again and again.

    The query finds ``Start`` and ``Now`` (the window of ``within_minutes``) and ``Learn`` (``learns_days`` before it).
    Each row that it answers is an alert: ``Evidence`` are the ids of its events, ``Detail`` what the alert says of them
    in words.
    """

    within_minutes: int = Field(ge=1, le=60)
    learns_days: int = Field(default=0, ge=0, le=30)
    query: str


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Every rule, and what reasons mean."""

    rules: tuple[Rule, ...]
    reasons: Reasons
    sessions: tuple[SessionRule, ...] = ()
    kql: tuple[KqlRule, ...] = ()

    def without(self, ids: Collection[str]) -> Ruleset:
        """What is left if these rules over steps and sessions are off; those in KQL keep their own state."""
        return replace(
            self,
            rules=tuple(rule for rule in self.rules if rule.id not in ids),
            sessions=tuple(rule for rule in self.sessions if rule.id not in ids),
        )

    @property
    def longest_window(self) -> timedelta:
        """How far back from a fresh step a rule may have to look."""
        return max((rule.within for rule in self.rules), default=timedelta(0))


def _check(rule: Rule | SessionRule, where: str) -> list[str]:
    faults = []
    for field in ("title", "description"):
        names = {name for _, name, _, _ in string.Formatter().parse(getattr(rule, field)) if name is not None}
        for name in sorted(names - PLACEHOLDERS):
            faults.append(f"{where}: {field}: unknown placeholder {{{name}}}. Known: {', '.join(sorted(PLACEHOLDERS))}")
    if isinstance(rule, Rule) and rule.at_least > 1 and not rule.within_minutes:
        faults.append(f"{where}: within_minutes: a rule with at_least {rule.at_least} needs a window")
    if not any(not example.expect for example in rule.tests) or not any(example.expect for example in rule.tests):
        faults.append(f"{where}: tests: {NEEDS_BOTH}")
    return faults


def _read(body: object) -> Rule | SessionRule | KqlRule:
    """The rule in a file, of whichever kind. Raises ``ValidationError``."""
    if isinstance(body, dict) and "kind" in body:
        return KqlRule.model_validate(body)
    if isinstance(body, dict) and "query" in body:
        return SessionRule.model_validate(body)
    return Rule.model_validate(body)


def parse(documents: Mapping[str, str]) -> Ruleset:
    """The ruleset in ``documents`` (file name to YAML text). Raises ``InputError`` with every fault and its place."""
    faults: list[str] = []
    rules: list[Rule] = []
    sessions: list[SessionRule] = []
    written: list[KqlRule] = []
    reasons: Reasons | None = None
    for name, text in sorted(documents.items()):
        try:
            body = yaml.safe_load(text)
            if name == "reasons.yaml":
                reasons = Reasons.model_validate(body)
                continue
            rule = _read(body)
        except yaml.YAMLError as error:
            faults.append(f"{name}: {error}")
        except ValidationError as error:
            faults.append(f"{name}: {faults_of(error)}")
        else:
            faults += check_rule(rule, name) if isinstance(rule, KqlRule) else _check(rule, name)
            if name != f"{rule.id}.yaml":
                faults.append(f"{name}: id: {rule.id!r} differs from the file's name")
            match rule:
                case KqlRule():
                    written.append(rule)
                case SessionRule():
                    sessions.append(rule)
                case _:
                    rules.append(rule)
    if reasons is None and not faults:
        faults.append("reasons.yaml: is missing")
    if faults or reasons is None:
        raise InputError("\n".join(faults), where="detections")
    return Ruleset(tuple(rules), reasons, tuple(sessions), tuple(written))


@cache
def shipped() -> Ruleset:
    """The rules that come with the product."""
    folder = resources.files("watchfloor").joinpath("content", "detections")
    return parse({f.name: f.read_text("utf-8") for f in folder.iterdir() if f.name.endswith(".yaml")})


def advice(rule_ids: Sequence[str], ruleset: Ruleset) -> tuple[str, ...]:
    """Recommended actions of several rules, each once, in order."""
    everything: tuple[AnyRule | KqlRule, ...] = (*ruleset.rules, *ruleset.sessions, *ruleset.kql)
    by_id = {rule.id: rule for rule in everything}
    seen: dict[str, None] = {}
    for rule_id in rule_ids:
        if rule_id in by_id:
            seen.update(dict.fromkeys(by_id[rule_id].recommended_actions))
    return tuple(seen)
