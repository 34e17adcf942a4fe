"""The shape of a policy as its author writes it: members, allowed values, message templates, test rows.

One table says what may stand where; ``check`` reports everything that does not fit, with its place and the nearest
right word. It reads plain dictionaries (a YAML file or a JSON column) and makes no policy objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from watchfloor.guard import expression, names
from watchfloor.guard.alignment.alignment import AlignmentState
from watchfloor.guard.detectors.sensitive import TYPE_IDS
from watchfloor.guard.problems import Problem, did_you_mean
from watchfloor.guard.provenance.labels import Outcome
from watchfloor.model.agents import CredentialOwner, PinState, Scope, TokenMode, ToolEffect
from watchfloor.model.ids import is_name
from watchfloor.model.people import RiskLevel
from watchfloor.model.verdicts import Effect, Mode, Severity

STEPS: Final = {
    "detectors": "detector",
    "provenance": "untraced_argument",
    "policies": "policy",
    "budget": "rate_exceeded",
}
"""Where a policy may count, and the reason code that it gives there."""

REDACTING_DETECTORS: Final = ("secrets", "sensitive")
"""Detectors that can say what to replace."""

REDACTABLE: Final = (*REDACTING_DETECTORS, *TYPE_IDS)
"""What ``redact`` may name: all findings of a detector, or those of one sensitive information type."""

SURFACES: Final = ("call", "result", "answer")
"""What a policy looks at: a call before it goes out, what a tool gave back, what an agent answers."""

TACTICS: Final = (
    "Reconnaissance", "Resource Development", "Initial Access", "Execution", "Persistence", "Privilege Escalation",
    "Defense Evasion", "Credential Access", "Discovery", "Lateral Movement", "Collection", "Command and Control",
    "Exfiltration", "Impact",
)  # fmt: skip

_TECHNIQUE: Final = re.compile(r"(?:AML\.)?T\d{4}(?:\.\d{3})?")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_EFFECT_WORDS: Final = ("*", "side_effects", *(effect.value for effect in ToolEffect))


class Member(NamedTuple):
    """A member of a policy's body: what it is for, and the check of its value."""

    name: str
    doc: str
    check: Callable[[Any, str], list[Problem]]
    is_required: bool = False


def effects(words: Iterable[str]) -> frozenset[ToolEffect]:
    """``*`` is every effect, ``side_effects`` every effect but ``read``."""
    found: set[ToolEffect] = set()
    for word in words:
        if word == "*":
            found.update(ToolEffect)
        elif word == "side_effects":
            found.update(effect for effect in ToolEffect if effect.has_side_effects)
        else:
            found.add(ToolEffect(word))
    return frozenset(found)


def placeholders(message: str) -> list[str]:
    """The names between braces in a message."""
    return [found.strip() for found in _PLACEHOLDER.findall(message)]


def fill(message: str, show: Callable[[str], str]) -> str:
    """``message`` with each name between braces replaced by what ``show`` gives for it."""
    return _PLACEHOLDER.sub(lambda found: show(found[1].strip()), message)


def check(body: Any) -> list[Problem]:
    """Everything that is wrong with ``body``."""
    if not isinstance(body, Mapping):
        return [Problem("policy", "a policy is a mapping of members.", "Start with `id:` and `title:`.")]
    problems = _check_members(body, MEMBERS, "")
    problems += _check_together(body)
    return problems


def _check_members(body: Mapping[Any, Any], members: tuple[Member, ...], at: str) -> list[Problem]:
    known = {member.name: member for member in members}
    problems = []
    for key, value in body.items():
        member = known.get(key) if isinstance(key, str) else None
        if member is None:
            remedy = did_you_mean(str(key), known) or f"Members are: {', '.join(known)}."
            problems.append(Problem(f"{at}{key}", "there is no such member.", remedy))
        else:
            problems += member.check(value, f"{at}{key}")
    problems += [
        Problem(f"{at}{member.name}", "is missing.", f"It is {member.doc[0].lower()}{member.doc[1:]}")
        for member in members
        if member.is_required and member.name not in body
    ]
    return problems


def _check_together(body: Mapping[Any, Any]) -> list[Problem]:
    """Members that must fit each other."""
    problems = []
    if body.get("effect") == Effect.REDACT and not body.get("redact"):
        message = "is missing: an `effect: redact` policy says whose findings it replaces."
        problems.append(Problem("redact", message, f"Name detectors: {', '.join(REDACTING_DETECTORS)}."))
    if body.get("effect") != Effect.REDACT and body.get("redact"):
        problems.append(Problem("redact", "is for `effect: redact` only.", "Remove it or change the effect."))
    if body.get("effect") != Effect.HOLD:
        problems += [
            Problem(name, "is for `effect: hold` only.", "Remove it or change the effect.")
            for name in ("approvers", "approvals")
            if name in body
        ]
    if body.get("effect") == Effect.HOLD and body.get("surface", "call") != "call":
        problems.append(Problem("effect", "only a call can be held.", "Use `block` or `redact`, or `surface: call`."))
    when = body.get("when")
    if body.get("step") == "detectors" and isinstance(when, str) and "signals." not in when:
        problems.append(
            Problem("step", "a policy of the step `detectors` asks for `signals.*`.", "Use `step: policies`.")
        )
    return problems


# -- checks of single values --------------------------------------------------------------------------------------


def _text(value: Any, where: str, *, most: int = 10_000) -> list[Problem]:
    if not isinstance(value, str) or not value.strip():
        return [Problem(where, "must be a text that is not empty.")]
    return [Problem(where, f"is longer than {most} characters.")] if len(value) > most else []


def _optional_text(value: Any, where: str) -> list[Problem]:
    return [] if value in ("", None) else _text(value, where)


def _id(value: Any, where: str) -> list[Problem]:
    if isinstance(value, str) and is_name(value):
        return []
    return [Problem(where, "is not an id.", "Use 1 to 64 lower-case letters, digits, `.`, `_` and `-`.")]


def _version(value: Any, where: str) -> list[Problem]:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return []
    return [Problem(where, "must be a whole number from 1 on.")]


def _one_of(allowed: Iterable[str]) -> Callable[[Any, str], list[Problem]]:
    choices = tuple(allowed)

    def check_choice(value: Any, where: str) -> list[Problem]:
        if isinstance(value, str) and value in choices:
            return []
        remedy = did_you_mean(str(value), choices) or f"It is one of {', '.join(choices)}."
        return [Problem(where, f"`{value}` is not known here.", remedy)]

    return check_choice


def _list_of(check_item: Callable[[Any, str], list[Problem]]) -> Callable[[Any, str], list[Problem]]:
    def check_list(value: Any, where: str) -> list[Problem]:
        if not isinstance(value, list | tuple) or not value:
            return [Problem(where, "must be a list that is not empty.", "Write it as `[a, b]`.")]
        return [problem for index, item in enumerate(value) for problem in check_item(item, f"{where}[{index}]")]

    return check_list


def _technique(value: Any, where: str) -> list[Problem]:
    if isinstance(value, str) and _TECHNIQUE.fullmatch(value):
        return []
    return [Problem(where, f"`{value}` is not a MITRE technique.", "They look like T1048, T1552.001 or AML.T0051.")]


def _condition(value: Any, where: str) -> list[Problem]:
    return _text(value, where) or expression.check_condition(value, where)


def _message(value: Any, where: str) -> list[Problem]:
    problems = _text(value, where, most=1_000)
    if problems:
        return problems
    for found in placeholders(value):
        if expression.declared_name(found) is None or (found not in names.BY_NAME and not found.startswith("args.")):
            remedy = did_you_mean(found, names.BY_NAME) or "Use a name of docs/policies.md, or args.NAME."
            problems.append(Problem(where, f"`{{{found}}}` is not a name that policies know.", remedy))
    return problems


def _scope(value: Any, where: str) -> list[Problem]:
    if not isinstance(value, Mapping):
        return [Problem(where, "must be a mapping.", "Write `{servers: [...], tools: [...], effects: [...]}`.")]
    return _check_members(value, SCOPE_MEMBERS, f"{where}.")


def _tests(value: Any, where: str) -> list[Problem]:
    if not isinstance(value, list | tuple):
        return [Problem(where, "must be a list of rows.", "Write `- {name: ..., given: {...}, expect: block}`.")]
    problems = []
    for index, row in enumerate(value):
        at = f"{where}[{index}]"
        if not isinstance(row, Mapping):
            problems.append(Problem(at, "must be a mapping with name, given and expect."))
        else:
            problems += _check_members(row, TEST_MEMBERS, f"{at}.")
    return problems


def _given(value: Any, where: str) -> list[Problem]:
    if not isinstance(value, Mapping):
        return [Problem(where, "must be a mapping.", "Write `{args: {...}, tool: {...}}`.")]
    problems = []
    for key, inner in value.items():
        at = f"{where}.{key}"
        if key == "content":
            continue  # anything
        if key not in GIVEN:
            problems.append(Problem(at, "there is no such member.", did_you_mean(str(key), GIVEN) or _known(GIVEN)))
        elif key in ("user_turns", "directory"):
            problems += _list_of(_text)(inner, at)
        elif key == "read":
            problems += _list_of(_read)(inner, at)
        elif key == "user" and inner is None:
            continue  # the agent acts as itself
        elif not isinstance(inner, Mapping):
            problems.append(Problem(at, "must be a mapping."))
        elif key != "args":
            problems += _check_members(inner, GIVEN[key], f"{at}.")
    return problems


def _known(words: Iterable[str]) -> str:
    return f"Members are: {', '.join(words)}."


def _whole_number(value: Any, where: str) -> list[Problem]:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return []
    return [Problem(where, "must be a whole number from 0 on.")]


def _approvals(value: Any, where: str) -> list[Problem]:
    if value in (1, 2) and not isinstance(value, bool):
        return []
    return [Problem(where, "must be 1 or 2.")]


def _truth(value: Any, where: str) -> list[Problem]:
    return [] if isinstance(value, bool) else [Problem(where, "must be true or false.")]


def _read(value: Any, where: str) -> list[Problem]:
    if isinstance(value, Mapping) and set(value) <= {"tool", "arguments", "result"} and "result" in value:
        return []
    return [Problem(where, "must be a mapping.", "Write `{tool: NAME, arguments: {...}, result: ...}`.")]


def _facts(**checks: Callable[[Any, str], list[Problem]]) -> tuple[Member, ...]:
    return tuple(Member(name, "", check) for name, check in checks.items())


GIVEN: Final[dict[str, tuple[Member, ...]]] = {
    "args": (),
    "content": (),
    "user_turns": (),
    "read": (),
    "directory": (),
    "alignment": _facts(outcome=_one_of((Outcome.ALLOW, Outcome.ASK)), state=_one_of(AlignmentState)),
    "organization": _facts(name=_optional_text, domains=_list_of(_text)),
    "agent": _facts(
        id=_text,
        name=_text,
        version=_text,
        risk=_one_of(RiskLevel),
        maker_id=_text,
        owner_id=_text,
        platform=_text,
        model=_text,
    ),
    "user": _facts(id=_text, upn=_text, name=_text, risk=_one_of(RiskLevel), groups=_list_of(_text)),
    "server": _facts(id=_text, name=_text, url=_text, is_trusted=_truth),
    "tool": _facts(name=_text, effect=_one_of(ToolEffect), pin_state=_one_of(PinState)),
    "binding": _facts(credential_owner=_one_of(CredentialOwner), scope=_one_of(Scope), tool=_text),
    "token": _facts(mode=_one_of(TokenMode)),
    "counters": _facts(
        calls_last_minute=_whole_number, blocked_last_10_minutes=_whole_number, same_tool_last_minute=_whole_number
    ),
    "invocation": _facts(door=_text, address=_text, parent_agent_id=_text),
}
"""What a test row may set; everything else is an ordinary, permitted call."""

SCOPE_MEMBERS: Final = (
    Member("servers", "Ids of tool servers; `*` stands for any characters.", _list_of(_text)),
    Member("tools", "Names of tools; `*` stands for any characters.", _list_of(_text)),
    Member("agents", "Ids of agents; `*` stands for any characters.", _list_of(_text)),
    Member(
        "effects",
        "Effects of tools: `*`, `side_effects` (all but read), or read, create, update, delete, send, pay, unknown.",
        _list_of(_one_of(_EFFECT_WORDS)),
    ),
)

TEST_MEMBERS: Final = (
    Member("name", "What the row shows.", _text, is_required=True),
    Member("given", "What differs from an ordinary, permitted call.", _given, is_required=True),
    Member(
        "expect",
        "The effect that the policy has on it: allow, redact, hold or block.",
        _one_of(Effect),
        is_required=True,
    ),
)

MEMBERS: Final = (
    Member("id", "The policy's name in verdicts and alerts; never reused.", _id, is_required=True),
    Member("title", "What it stops, in a few words.", _text, is_required=True),
    Member("description", "Why it exists, and what to do when it fires.", _optional_text),
    Member("version", "Set when the policy is published; shipped files carry their own.", _version),
    Member("mode", "`enforce` (default) or `audit`: recorded and shown, but the call goes on.", _one_of(Mode)),
    Member(
        "effect",
        "What happens to a call that matches: block, hold (ask an operator) or redact.",
        _one_of((Effect.BLOCK, Effect.HOLD, Effect.REDACT)),
        is_required=True,
    ),
    Member("severity", "Of the reason and of alerts made from it; medium unless said.", _one_of(Severity)),
    Member("tactic", "MITRE ATT&CK tactic, such as Exfiltration.", _one_of(TACTICS)),
    Member("techniques", "MITRE ATT&CK or ATLAS techniques.", _list_of(_technique)),
    Member(
        "step",
        "When it counts: `policies` (default), `detectors` (for `signals.*`), `provenance` (for `provenance.*` and "
        "`alignment.*`, reason code untraced_argument), `budget` (reason code rate_exceeded).",
        _one_of(STEPS),
    ),
    Member(
        "on_error",
        "What it means when the condition has no answer: `block` (default) or `flag` (allow and record).",
        _one_of(("block", "flag")),
    ),
    Member(
        "surface",
        "What it looks at: `call` (default) with the user's words, the `result` of a tool before the agent sees it, an "
        "agent's `answer`.",
        _one_of(SURFACES),
    ),
    Member("scope", "Which calls it looks at; every call unless said.", _scope),
    Member("when", "The condition, in CEL: true when the policy applies.", _condition, is_required=True),
    Member(
        "redact",
        "With `effect: redact`: detectors (`secrets`, `sensitive`) or sensitive information types whose findings are "
        "replaced.",
        _list_of(_one_of(REDACTABLE)),
    ),
    Member(
        "approvers",
        "With `effect: hold`: who may answer, roles or sign-in names; whoever has hold.decide unless said.",
        _list_of(_text),
    ),
    Member("approvals", "With `effect: hold`: how many people have to approve, 1 (default) or 2.", _approvals),
    Member(
        "message",
        "For operators; `{name}` shows a value. It never reaches the agent.",
        _message,
        is_required=True,
    ),
    Member("blind_spots", "What it is known to miss.", _optional_text),
    Member("tests", "Rows that must match and rows that must not.", _tests),
)
