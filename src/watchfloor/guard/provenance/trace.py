"""The way of each argument back to where its value came from: one pass over one call.

``trace`` is pure. It is asked before the engine, because what it needs (the conversation) is too large to be put on
record with each decision; its answer, a ``Trace``, is small, and is part of what was decided on.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from watchfloor.guard.alignment.alignment import Alignment
from watchfloor.guard.content import show_path
from watchfloor.guard.detectors.secrets import mask
from watchfloor.guard.provenance import rules
from watchfloor.guard.provenance.cards import effects_of, role_at, role_of
from watchfloor.guard.provenance.conversation import Conversation, Source
from watchfloor.guard.provenance.directory import Directory
from watchfloor.guard.provenance.labels import Label, Outcome, Role
from watchfloor.guard.provenance.rules import ALLOWED, Outcomes, Rule
from watchfloor.guard.provenance.words import dates, fold, is_point, points
from watchfloor.model.agents import ToolEffect
from watchfloor.model.facts import ToolCard

_MOST_FINDINGS: Final = 16
_MOST_VALUES: Final = 500
_MOST_POINTS: Final = 100
_SHOWN: Final = 80
_WHOLE: Final = 2_000
"""A value that is longer is running text itself, whatever its argument is called."""
_LINK_WORDS: Final = re.compile(
    r"https?://|www\.|\b(?:links?|urls?|web ?sites?|web ?pages?|pages?|sites?|articles?|blogs?|posts?|browse|visit|"
    r"seiten?|artikel|liens?|enlaces?|sitios?|paginas?)\b"
)


_STORIES: Final = {
    Label.USER: "said by the user",
    Label.DIRECTORY: "known to the organisation",
    Label.FIELD: "only in a record field",
    Label.NAMED: "only in text that the user asked for",
    Label.FREE: "only in running text",
    Label.NONE: "found nowhere",
    Label.UNSEEN: "not found in what is known of the conversation",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One argument whose origin is not good enough for some strictness.

    ``value`` and ``excerpt`` are cut to 80 characters and have secrets masked: they may stand in metadata.
    """

    rule: str
    argument: str
    role: Role
    label: Label
    value: str
    balanced: Outcome
    careful: Outcome
    strict: Outcome
    source: str = ""
    invocation: str = ""
    path: str = ""
    excerpt: str = ""

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Finding:
        """The finding that ``body`` describes. Raises ``ValueError`` or ``TypeError`` if it does not fit."""
        kinds: dict[str, Any] = {
            "role": Role,
            "label": Label,
            "balanced": Outcome,
            "careful": Outcome,
            "strict": Outcome,
        }
        known = {each.name for each in dataclasses.fields(cls)}
        return cls(**{name: kinds.get(name, str)(value) for name, value in body.items() if name in known})

    @property
    def story(self) -> str:
        """The way of the value, for people: what it is, where it stands, in whose words."""
        where = f" in {self.source} {self.path}: «{self.excerpt}»" if self.source else ""
        return f"{self.argument} = {self.value} ({_STORIES[self.label]}{where})"

    def outcome(self, strictness: str) -> Outcome:
        """What a tool of this strictness makes of it."""
        found: Outcome = getattr(self, strictness)
        return found


@dataclass(frozen=True, slots=True)
class Trace:
    """What tracing one call gave.

    ``sees_user``, ``sees_results``, ``is_complete`` say what the door could see; ``strictness`` is the tool's.
    ``findings`` are at most 16; ``balanced``, ``careful`` and ``strict`` the worst of all that there were.
    ``alignment``: whether the call fits what the user asked, where a door has worked that out; ``trace`` does not.
    """

    strictness: str
    sees_user: bool
    sees_results: bool
    is_complete: bool
    traced: int = 0
    findings: tuple[Finding, ...] = ()
    balanced: Outcome = Outcome.ALLOW
    careful: Outcome = Outcome.ALLOW
    strict: Outcome = Outcome.ALLOW
    alignment: Alignment | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Trace:
        """The trace that ``body`` describes. Raises ``ValueError``, ``TypeError``, ``KeyError`` if it does not fit."""
        known = {each.name for each in dataclasses.fields(cls)} - {"findings", "alignment"}
        members = {name: value for name, value in body.items() if name in known}
        if body.get("alignment") is not None:
            members["alignment"] = Alignment.from_json(body["alignment"])
        for strictness in ("balanced", "careful", "strict"):
            members[strictness] = Outcome(body[strictness])
        return cls(**members, findings=tuple(Finding.from_json(finding) for finding in body["findings"]))

    def outcome(self, strictness: str) -> Outcome:
        """The worst that a tool of this strictness makes of it."""
        found: Outcome = getattr(self, strictness)
        return found

    def worst(self, strictness: str) -> Finding | None:
        """The finding that ``outcome`` comes from; the first of equals."""
        found = max(self.findings, key=lambda finding: _rank(finding.outcome(strictness)), default=None)
        return found if found is not None and found.outcome(strictness) is not Outcome.ALLOW else None


def untraced(effect: ToolEffect, strictness: str) -> Trace:
    """The trace of a call that could not be traced: refused, unless the tool only reads."""
    outcome = Outcome.REFUSE if effect.has_side_effects else Outcome.ALLOW
    return Trace(strictness, False, False, False, 0, (), outcome, outcome, outcome)


def _rank(outcome: Outcome) -> int:
    return outcome.rank


def trace(
    tool: str,
    arguments: Mapping[str, Any],
    effect: ToolEffect,
    card: ToolCard | None,
    conversation: Conversation,
    directory: Directory,
    strictness: str,
) -> Trace:
    """Where the values of ``arguments`` came from, as far as it matters for ``tool`` with this effect."""
    tracer = _Tracer(tool, effect, card, conversation, directory)
    for count, (path, name, value) in enumerate(_values(arguments, (), "")):
        if count >= _MOST_VALUES:
            tracer.add(_TOO_MANY, path, Role.ENTITY, Label.UNSEEN, "", None, (Outcome.REFUSE,) * 3)
            break
        tracer.look(path, name, value)
    return Trace(
        strictness,
        conversation.knows_user,
        conversation.has_read,
        not conversation.is_partial,
        tracer.traced,
        tuple(tracer.findings),
        *tracer.worst,
    )


_TOO_MANY: Final = Rule("too-many", "There are too many values to trace.", Role.ENTITY, frozenset(ToolEffect), {})


def _values(value: Any, path: tuple[str | int, ...], name: str) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """(path, name of the argument, value) of every string and number."""
    if isinstance(value, str):
        if value:
            yield path, name, value
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int | float):
        yield path, name, str(value)
    elif type(value) is dict or isinstance(value, Mapping):
        for key, item in value.items():
            inner = str(key)
            yield from _values(item, (*path, inner), inner if not name or role_of(inner) is not Role.ENTITY else name)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _values(item, (*path, index), name)


class _Tracer:
    __slots__ = (
        "_conversation",
        "_directory",
        "_effect",
        "_effects",
        "_is_open_world",
        "_roles",
        "findings",
        "traced",
        "worst",
    )

    def __init__(
        self, tool: str, effect: ToolEffect, card: ToolCard | None, conversation: Conversation, directory: Directory
    ) -> None:
        self._effect, self._effects = effect, effects_of(tool, effect)
        self._roles: Mapping[str, str] = card.roles if card is not None else {}
        self._is_open_world = card is None or card.is_open_world
        self._conversation, self._directory = conversation, directory
        self.findings: list[Finding] = []
        self.worst: Outcomes = ALLOWED
        self.traced = 0

    def look(self, path: tuple[str | int, ...], name: str, value: str) -> None:
        role = role_at(name, self._roles.get(name), self._effect)
        if ToolEffect.READ in self._effects:
            if not self._is_open_world:
                return
            kind = is_point(value)
            if kind == "url" or (
                role is Role.DESTINATION and kind == "" and name.lower() in ("url", "uri", "link", "href")
            ):
                self._fetch(path, value)
            return
        if role is Role.CONTENT or len(value) > _WHOLE:
            self._content(path, value)
            return
        if role in (Role.ENTITY, Role.AMOUNT, Role.PATH, Role.ID) and is_point(value):
            role = Role.DESTINATION  # whatever the argument is called, this is an address
        if role is Role.TIME:
            self._time(path, value)
            return
        rule = rules.rule_for(role, self._effects)
        if rule is None:
            return
        self.traced += 1
        found = list(dict.fromkeys(points(value))) if role is Role.DESTINATION else []
        if found:
            for kind, point in found:
                self._judge(rule, path, role, point, is_url=kind == "url")
        else:
            self._judge(rule, path, role, value)

    def _judge(self, rule: Rule, path: tuple[str | int, ...], role: Role, value: str, *, is_url: bool = False) -> None:
        folded = fold(value)
        if is_url:
            label, source = self._conversation.label_url(folded, self._directory)
        else:
            counts = role not in (Role.DESTINATION, Role.SECRET)
            label, source = self._conversation.label(folded, self._directory, lines_count=counts)
        self.add(rule, path, role, label, value, source, self._outcomes(rule, label))

    def _outcomes(self, rule: Rule, label: Label) -> Outcomes:
        return rules.outcomes(rule, label, knows_user=self._conversation.knows_user)

    def _content(self, path: tuple[str | int, ...], value: str) -> None:
        if not self._effects & rules.CARRIED.effects:
            return
        for count, (kind, point) in enumerate(dict.fromkeys(points(value))):
            if count >= _MOST_POINTS:
                self.add(_TOO_MANY, path, Role.CONTENT, Label.UNSEEN, "", None, (Outcome.REFUSE,) * 3)
                break
            self.traced += 1
            self._judge(rules.CARRIED, path, Role.CONTENT, point, is_url=kind == "url")

    def _fetch(self, path: tuple[str | int, ...], value: str) -> None:
        self.traced += 1
        label, source = self._conversation.label_url(fold(value), self._directory)
        outcomes = self._outcomes(rules.FETCHED, label)
        if outcomes[0] is Outcome.ASK and self._conversation.speaks(_LINK_WORDS):
            outcomes = (Outcome.ALLOW, Outcome.ALLOW, outcomes[2])
        self.add(rules.FETCHED, path, Role.DESTINATION, label, value, source, outcomes)

    def _time(self, path: tuple[str | int, ...], value: str) -> None:
        named = self._conversation.named_dates
        if not named or not self._effects & rules.DATED.effects:
            return
        given = dates(fold(value))
        if given and not given & named:
            self.traced += 1
            label, source = self._conversation.label(fold(value), self._directory)
            self.add(rules.DATED, path, Role.TIME, label, value, source, self._outcomes(rules.DATED, label))

    def add(
        self,
        rule: Rule,
        path: tuple[str | int, ...],
        role: Role,
        label: Label,
        value: str,
        source: Source | None,
        outcomes: Outcomes,
    ) -> None:
        """Note what was found, unless everybody allows it."""
        if outcomes == ALLOWED:
            return
        balanced, careful, strict = (max(pair, key=_rank) for pair in zip(self.worst, outcomes, strict=True))
        self.worst = (balanced, careful, strict)
        if len(self.findings) >= _MOST_FINDINGS:
            return
        origin = source.origin(fold(value)) if source is not None else None
        self.findings.append(
            Finding(
                rule.id,
                mask(show_path(path)),
                role,
                label,
                _shown(value),
                *outcomes,
                source=origin.source if origin else "",
                invocation=origin.invocation if origin else "",
                path=mask(origin.path) if origin else "",
                excerpt=_shown(origin.excerpt) if origin else "",
            )
        )


def _shown(text: str) -> str:
    shown = mask(" ".join(text[:_WHOLE].split()))
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"
