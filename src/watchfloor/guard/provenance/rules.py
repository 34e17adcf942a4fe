"""Which label is good enough for which argument: one table, read by people and by ``trace.py``.

A rule holds for a role and some effects of tools; for each label it says what a balanced, a careful and a strict tool
make of it. What has no rule is not judged. Words of the user never refuse a call, and never make one stricter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from watchfloor.guard.provenance.labels import Label, Outcome, Role, Strictness
from watchfloor.model.agents import ToolEffect

_E = ToolEffect
_A, _Q, _R = Outcome.ALLOW, Outcome.ASK, Outcome.REFUSE
_ACTING: Final = frozenset(_E) - {_E.READ}

Outcomes = tuple[Outcome, Outcome, Outcome]
"""For a balanced, a careful and a strict tool."""

ALLOWED: Final[Outcomes] = (_A, _A, _A)
MODES: Final = (Strictness.BALANCED, Strictness.CAREFUL, Strictness.STRICT)


class Rule(NamedTuple):
    """What the labels of arguments in ``role`` mean for tools with these effects. Labels that are left out allow."""

    id: str
    sentence: str
    role: Role
    effects: frozenset[ToolEffect]
    outcomes: Mapping[Label, Outcomes]


_NAMED_BY_SOMEBODY: Final[Mapping[Label, Outcomes]] = {
    Label.FIELD: (_A, _Q, _R),
    Label.NAMED: (_Q, _Q, _R),
    Label.FREE: (_R, _R, _R),
    Label.NONE: (_R, _R, _R),
    Label.UNSEEN: (_R, _R, _R),
}

RULES: Final = (
    Rule(
        "destination",
        "Where something goes must come from the user or the directory.",
        Role.DESTINATION,
        _ACTING,
        _NAMED_BY_SOMEBODY,
    ),
    Rule(
        "secret",
        "A password, key or token must come from the user or the directory.",
        Role.SECRET,
        _ACTING,
        _NAMED_BY_SOMEBODY,
    ),
    Rule(
        "record",
        "Which record is changed must not be told by running text.",
        Role.ID,
        _ACTING - {_E.CREATE},
        {
            Label.FIELD: (_A, _A, _R),
            Label.NAMED: (_Q, _Q, _R),
            Label.FREE: (_R, _R, _R),
            Label.NONE: (_A, _A, _R),
            Label.UNSEEN: (_R, _R, _R),
        },
    ),
    Rule(
        "loss",
        "What is paid for or deleted must not be told by running text.",
        Role.ENTITY,
        frozenset({_E.PAY, _E.DELETE}),
        {Label.FREE: (_R, _R, _R), Label.UNSEEN: (_R, _R, _R)},
    ),
    Rule(
        "path",
        "Which file is deleted or sent must not be told by running text.",
        Role.PATH,
        frozenset({_E.DELETE, _E.SEND}),
        {Label.FREE: (_R, _R, _R), Label.UNSEEN: (_R, _R, _R)},
    ),
)


def rule_for(role: Role, effects: frozenset[ToolEffect]) -> Rule | None:
    """The rule for arguments in ``role`` of a tool with these effects, if any."""
    return next((rule for rule in RULES if rule.role is role and rule.effects & effects), None)


CARRIED: Final = Rule(
    "carried",
    "An address inside a text that goes out must come from somewhere better than running text.",
    Role.CONTENT,
    frozenset({_E.SEND, _E.PAY}),
    {
        Label.FIELD: (_A, _Q, _Q),
        Label.NAMED: (_A, _Q, _Q),
        Label.FREE: (_R, _R, _R),
        Label.NONE: (_R, _R, _R),
        Label.UNSEEN: (_R, _R, _R),
    },
)
FETCHED: Final = Rule(
    "fetched",
    "A URL that is fetched must not have been put together on the way.",
    Role.DESTINATION,
    frozenset({_E.READ}),
    {
        Label.FIELD: (_Q, _Q, _R),
        Label.NAMED: (_Q, _Q, _R),
        Label.FREE: (_Q, _Q, _R),
        Label.NONE: (_R, _R, _R),
        Label.UNSEEN: (_R, _R, _R),
    },
)
DATED: Final = Rule(
    "dated",
    "Where the user wrote out dates, a date that something is set to must be one of them.",
    Role.TIME,
    frozenset({_E.CREATE, _E.PAY, _E.UPDATE}),
    {
        Label.FIELD: (_R, _R, _R),
        Label.NAMED: (_R, _R, _R),
        Label.FREE: (_R, _R, _R),
        Label.NONE: (_R, _R, _R),
        Label.UNSEEN: (_R, _R, _R),
    },
)


WITHOUT_USER: Final[Mapping[Label, Label]] = {Label.NONE: Label.USER, Label.FREE: Label.NAMED}
"""Where the user's words do not reach the guard, a value of no known origin is taken for the user's, and one that
stands in running text may be: somebody is asked."""


def outcomes(rule: Rule, label: Label, *, knows_user: bool) -> Outcomes:
    """What ``rule`` makes of ``label``."""
    if not knows_user:
        label = WITHOUT_USER.get(label, label)
    return rule.outcomes.get(label, ALLOWED)
