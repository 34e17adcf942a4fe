"""Every name that a policy may use: its CEL type, its meaning, the values it may have, and where it comes from.

One table feeds the CEL environment, the publish-time check, message templates, test rows and ``docs/policies.md``.
It does not evaluate anything.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from watchfloor.guard.alignment.alignment import AlignmentState
from watchfloor.guard.detectors.catalogue import BY_CATEGORY
from watchfloor.guard.detectors.sensitive import CONFIDENT, LABELS, label_of
from watchfloor.guard.provenance.labels import Label, Outcome, Strictness
from watchfloor.model.agents import (
    ActingMode,
    CredentialOwner,
    PinState,
    Scope,
    TokenMode,
    ToolEffect,
)
from watchfloor.model.people import RiskLevel
from watchfloor.model.verdicts import Severity

if TYPE_CHECKING:
    from watchfloor.guard.case import Case

STRING: Final = "string"
STRINGS: Final = "list<string>"
INT: Final = "int"
DOUBLE: Final = "double"
BOOL: Final = "bool"
TIMESTAMP: Final = "timestamp"
ARGUMENTS: Final = "map<string, dyn>"


class Name(NamedTuple):
    """A variable of the policy language. ``values`` lists every value it can have, where that is known.

    ``fact`` is set where the value depends on nothing but this member of the facts about agent, server, tool, binding
    or organization: things that stay the same from call to call, so that conditions on them can be settled in advance.
    """

    name: str
    type: str
    doc: str
    read: Callable[[Case], Any]
    values: tuple[str, ...] = ()
    fact: str = ""


def _values(kind: type[StrEnum]) -> tuple[str, ...]:
    return tuple(member.value for member in kind)


CATEGORIES: Final = tuple(BY_CATEGORY)
"""Categories of signals that the built-in detectors give."""

_SEVERITY_ORDER: Final = tuple(Severity)


def _highest_severity(case: Case) -> str:
    found = [signal.severity for signal in case.signals]
    return max(found, key=_SEVERITY_ORDER.index).value if found else ""


def _categories(case: Case, *, in_arguments: bool | None) -> list[str]:
    if not case.findings:
        return []
    return sorted({f.signal.category for f in case.findings if in_arguments is None or f.in_arguments is in_arguments})


def _outcome_at(strictness: Strictness) -> Callable[[Case], str]:
    return lambda case: case.trace.outcome(strictness) if case.trace is not None else "allow"


def _story(case: Case) -> str:
    if case.trace is None:
        return ""
    worst = case.trace.worst(case.trace.strictness)
    if worst is None:
        return "" if case.trace.outcome(case.trace.strictness) == "allow" else "the arguments could not be traced"
    unseen = "" if case.trace.sees_user else "the user's words were not to be seen: "
    return unseen + ("" if case.trace.is_complete else "not everything read is known: ") + worst.story


def _alignment(case: Case, member: str, otherwise: Any) -> Any:
    alignment = case.trace.alignment if case.trace is not None else None
    return otherwise if alignment is None else getattr(alignment, member)


def _user(case: Case, member: str) -> str:
    user = case.facts.user
    return str(getattr(user, member)) if user is not None else ""


def _settled(
    name: str,
    fact: str,
    doc: str,
    kind: str = STRING,
    values: tuple[str, ...] = (),
    convert: Callable[[Any], Any] | None = None,
) -> Name:
    """A name that shows one member of the facts, perhaps converted."""
    # Policies run only when agent, server, tool and binding are known; see judgement.matches.
    member = attrgetter(f"facts.{fact}")
    read = member if convert is None else lambda case: convert(member(case))
    return Name(name, kind, doc, read, values, fact)


def _or_empty(value: str | None) -> str:
    return value or ""


NAMES: Final[tuple[Name, ...]] = (
    Name("args", ARGUMENTS, "The tool call's arguments, as sent.", attrgetter("content.arguments")),
    _settled("agent.id", "agent.id", "The agent that calls."),
    _settled("agent.name", "agent.name", "Its display name."),
    _settled("agent.version", "agent.version", "Its published version."),
    _settled("agent.risk", "agent.risk", "Its risk level.", values=_values(RiskLevel)),
    _settled("agent.maker", "agent.maker_id", "User id of whoever built it; empty when unknown.", convert=_or_empty),
    _settled(
        "agent.owner", "agent.owner_id", "User id of whoever answers for it; empty when unknown.", convert=_or_empty
    ),
    _settled("agent.platform", "agent.platform", "Where it was built, such as `Copilot Studio`."),
    _settled("agent.model", "agent.model", "The model it runs on."),
    Name(
        "agent.parent",
        STRING,
        "The agent that handed over to this one; empty when none did.",
        lambda c: c.invocation.parent_agent_id or "",
    ),
    Name("user.is_known", BOOL, "Whether the call is made for a user.", lambda c: c.facts.user is not None),
    Name("user.id", STRING, "The user; empty when the agent acts as itself.", lambda c: _user(c, "id")),
    Name("user.upn", STRING, "The user's principal name.", lambda c: _user(c, "upn")),
    Name("user.name", STRING, "The user's display name.", lambda c: _user(c, "name")),
    Name("user.risk", STRING, "The user's risk level.", lambda c: _user(c, "risk"), ("", *_values(RiskLevel))),
    Name(
        "user.groups",
        STRINGS,
        "Groups that the user is in.",
        lambda c: list(c.facts.user.groups) if c.facts.user is not None else [],
    ),
    _settled("server.id", "server.id", "The tool server."),
    _settled("server.name", "server.name", "Its display name."),
    _settled("server.url", "server.url", "Its address."),
    _settled("server.is_trusted", "server.is_trusted", "Whether an administrator trusts its tool hints.", BOOL),
    _settled("tool.name", "tool.name", "The tool that is called."),
    _settled("tool.effect", "tool.effect", "What the tool does to the world.", values=_values(ToolEffect)),
    _settled(
        "tool.has_side_effects",
        "tool.effect",
        "False for `read` tools only.",
        BOOL,
        convert=attrgetter("has_side_effects"),
    ),
    _settled(
        "tool.pin_state", "tool.pin_state", "Whether the tool still is what was approved.", values=_values(PinState)
    ),
    _settled(
        "binding.credential_owner",
        "binding.credential_owner",
        "Whose credentials the tool sees.",
        values=_values(CredentialOwner),
    ),
    _settled("binding.scope", "binding.scope", "How far the agent may go with the tool.", values=_values(Scope)),
    _settled("binding.is_wildcard", "binding.tool", "Whether the binding covers every tool.", BOOL, convert="*".__eq__),
    Name(
        "token.mode",
        STRING,
        "What the caller's token stands for.",
        attrgetter("facts.token.mode"),
        _values(TokenMode),
    ),
    Name(
        "token.acting_mode",
        STRING,
        "On whose behalf the step is taken.",
        lambda c: c.facts.token.mode.acting_mode,
        _values(ActingMode),
    ),
    Name(
        "session.age_seconds",
        INT,
        "Seconds since the user signed in; -1 when the token does not say.",
        lambda c: (
            -1 if c.facts.token.auth_time is None else int((c.facts.now - c.facts.token.auth_time).total_seconds())
        ),
    ),
    Name("invocation.door", STRING, "The door that the call came through.", attrgetter("invocation.door")),
    Name(
        "invocation.address", STRING, "The caller's IP address; empty when unknown.", attrgetter("invocation.address")
    ),
    Name(
        "invocation.user_turns",
        STRINGS,
        "The user's own words, newest last; empty when the door cannot see them.",
        lambda c: list(c.content.user_turns),
    ),
    _settled("organization.name", "organization.name", "The company."),
    _settled("organization.domains", "organization.domains", "The company's own domains.", STRINGS, convert=list),
    Name(
        "destinations.emails",
        STRINGS,
        "E-mail addresses anywhere in the arguments, also in running text.",
        attrgetter("destinations.emails"),
    ),
    Name("destinations.domains", STRINGS, "The domains of those addresses.", attrgetter("destinations.domains")),
    Name(
        "destinations.recipients",
        STRINGS,
        "Addresses that the call would send to: in fields such as `to`, `cc`, `recipients`, in strings that hold "
        "nothing but addresses, and in `To:` lines.",
        attrgetter("destinations.recipients"),
    ),
    Name("destinations.urls", STRINGS, "URLs anywhere in the arguments.", attrgetter("destinations.urls")),
    Name("destinations.hosts", STRINGS, "The hosts of those URLs.", attrgetter("destinations.hosts")),
    Name(
        "destinations.external",
        STRINGS,
        "Addresses and hosts outside the company's domains, anywhere in the arguments.",
        attrgetter("destinations.external"),
    ),
    Name(
        "destinations.external_recipients",
        STRINGS,
        "Recipients outside the company's domains.",
        attrgetter("destinations.external_recipients"),
    ),
    Name(
        "destinations.external_hosts",
        STRINGS,
        "Hosts outside the company's domains.",
        attrgetter("destinations.external_hosts"),
    ),
    Name(
        "amounts.largest",
        DOUBLE,
        "The largest sum in fields such as `amount`, `total`, `price`; 0 when there is none.",
        attrgetter("amounts.largest"),
    ),
    Name("amounts.is_known", BOOL, "Whether such a field holds a number.", attrgetter("amounts.is_known")),
    Name(
        "amounts.has_unreadable",
        BOOL,
        "Whether such a field holds something that is not one number.",
        attrgetter("amounts.has_unreadable"),
    ),
    Name(
        "signals.categories",
        STRINGS,
        "Categories of everything that the detectors saw.",
        lambda c: _categories(c, in_arguments=None),
        CATEGORIES,
    ),
    Name(
        "signals.in_user_turns",
        STRINGS,
        "Categories of what they saw in the user's words.",
        lambda c: _categories(c, in_arguments=False),
        CATEGORIES,
    ),
    Name(
        "signals.in_arguments",
        STRINGS,
        "Categories of what they saw in the arguments.",
        lambda c: _categories(c, in_arguments=True),
        CATEGORIES,
    ),
    Name(
        "signals.confident",
        STRINGS,
        "Categories of what they saw with medium or high confidence (a score of 0.6 or more).",
        lambda c: sorted({f.signal.category for f in c.findings if f.signal.score >= CONFIDENT}),
        CATEGORIES,
    ),
    Name(
        "signals.label",
        STRING,
        "The highest sensitivity label of what they saw; empty when nothing sensitive.",
        lambda c: label_of(frozenset(f.signal.category for f in c.findings)),
        ("", *LABELS),
    ),
    Name(
        "signals.severity",
        STRING,
        "The highest severity among the signals; empty when there are none.",
        _highest_severity,
        ("", *_values(Severity)),
    ),
    Name(
        "provenance.outcome",
        STRING,
        "What the origins of the arguments suggest, at the tool's own strictness; `allow` where nobody traced them.",
        lambda c: c.trace.outcome(c.trace.strictness) if c.trace is not None else "allow",
        _values(Outcome),
    ),
    *(
        Name(
            f"provenance.{strictness.value}",
            STRING,
            f"The same for a tool that is {strictness.value}, whatever this one is.",
            _outcome_at(strictness),
            _values(Outcome),
        )
        for strictness in Strictness
    ),
    Name(
        "provenance.labels",
        STRINGS,
        "Where arguments came from that are not good enough for every tool.",
        lambda c: sorted({finding.label.value for finding in c.trace.findings}) if c.trace is not None else [],
        _values(Label),
    ),
    Name(
        "provenance.arguments",
        STRINGS,
        "Their paths, such as `arguments.to[0]`.",
        lambda c: [finding.argument for finding in c.trace.findings] if c.trace is not None else [],
    ),
    Name(
        "provenance.sees_user",
        BOOL,
        "Whether the user's words were known when the arguments were traced.",
        lambda c: c.trace is not None and c.trace.sees_user,
    ),
    Name(
        "provenance.is_complete",
        BOOL,
        "Whether everything that the agent has read through the gateway was known.",
        lambda c: c.trace is not None and c.trace.is_complete,
    ),
    Name(
        "provenance.story",
        STRING,
        "The way of the worst argument, for messages: tool result, field, excerpt, argument.",
        _story,
    ),
    Name(
        "alignment.outcome",
        STRING,
        "`ask` where the call looks like one that somebody else's words asked for, and where that is not known in time;"
        " `allow` else, and where nobody worked it out ([alignment.md](alignment.md)).",
        lambda c: _alignment(c, "outcome", Outcome.ALLOW),
        (Outcome.ALLOW.value, Outcome.ASK.value),
    ),
    Name(
        "alignment.score",
        DOUBLE,
        "0 to 1: how much it looks like that; 0 where nobody worked it out, 1 where it is not known.",
        lambda c: _alignment(c, "score", 0.0),
    ),
    Name(
        "alignment.state",
        STRING,
        "Whether there is a score, and why not; empty where nobody worked it out.",
        lambda c: _alignment(c, "state", ""),
        ("", *_values(AlignmentState)),
    ),
    Name(
        "alignment.story",
        STRING,
        "What the call is nearest to, for messages: tool result, field, sentence.",
        lambda c: _alignment(c, "story", ""),
    ),
    Name(
        "counters.calls_last_minute",
        INT,
        "Calls of this agent in the last minute.",
        attrgetter("facts.counters.calls_last_minute"),
    ),
    Name(
        "counters.same_tool_last_minute",
        INT,
        "Calls of this agent to this tool in the last minute.",
        attrgetter("facts.counters.same_tool_last_minute"),
    ),
    Name(
        "counters.blocked_last_10_minutes",
        INT,
        "Blocked calls of this agent in the last ten minutes.",
        attrgetter("facts.counters.blocked_last_10_minutes"),
    ),
    Name("now", TIMESTAMP, "The time of the decision, UTC.", attrgetter("facts.now")),
)

BY_NAME: Final = {name.name: name for name in NAMES}


class Function(NamedTuple):
    """A function of ours beside CEL's own. It must be total: whatever string comes in, an answer goes out."""

    name: str
    result: str
    doc: str
    call: Callable[[str], Any]


FUNCTIONS: Final[tuple[Function, ...]] = (
    Function("lower", STRING, '`"Abc".lower()` is `"abc"`: for comparing without regard to case.', str.lower),
    Function(
        "domain",
        STRING,
        '`"ann@mail.zava.example".domain()` is `"mail.zava.example"`: what stands behind the last `@`, in lower case; '
        "empty when there is none.",
        lambda text: text.rpartition("@")[2].lower() if "@" in text else "",
    ),
)
