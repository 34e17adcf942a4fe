"""What is measured of one call: how near it is to the user's words and to those of others, and where its values are.

``question`` takes a snapshot of what is needed, cheaply, where the conversation is; ``measure`` does the work, where
anybody likes: it is pure but for ``similar``, a function that says how alike two sentences are. ``head.py`` makes one
number of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from watchfloor.guard.alignment.sentences import sentences, words
from watchfloor.guard.provenance.cards import role_at
from watchfloor.guard.provenance.conversation import Conversation, Source
from watchfloor.guard.provenance.directory import Directory
from watchfloor.guard.provenance.labels import Label, Role
from watchfloor.guard.provenance.leaves import leaves
from watchfloor.guard.provenance.words import fold, is_point
from watchfloor.model.agents import ToolEffect
from watchfloor.model.facts import ToolCard

Similar = Callable[[str, str], float]
"""The cosine of two texts, -1 to 1. It may raise: then there is no answer."""

_EFFECTS: Final = (ToolEffect.SEND, ToolEffect.PAY, ToolEffect.DELETE, ToolEffect.UPDATE, ToolEffect.CREATE)
NAMES: Final = (
    "user_tool", "user_whole", "user_call", "name_words", "purpose_words", "value_words", "from_user", "from_field",
    "from_text", "from_nowhere", "points_text", "points_nowhere", "values", "text_call", "text_tool", "gap_call",
    "gap_tool", *(f"is_{effect.value}" for effect in _EFFECTS),
)  # fmt: skip
"""The measures in their order; ``docs/alignment.md`` says what each is."""

_MOST_USER: Final = 24
_MOST_TEXT: Final = 48
"""Sentences that are compared: of the user the newest, of others the newest few and those that share most with the
call."""
_NEWEST: Final = 8
_MOST_VALUES: Final = 60
_SHOWN_VALUE: Final = 60
_CALL: Final = 240
PURPOSE: Final = 300
"""Characters of a tool's description that count."""


class Question(NamedTuple):
    """A call to be measured, with everything of the conversation that this needs."""

    tool: str
    call: str
    purpose: str
    effect: ToolEffect
    turns: tuple[str, ...]
    texts: tuple[Source, ...]
    shares: tuple[float, ...]
    value_words: frozenset[str]
    is_complete: bool = True
    """Whether everything that was read is known: else what is nearest to the call may be what is not."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The measures, in the order of ``NAMES``, and what the call is nearest to: a turn of the user, a text."""

    values: tuple[float, ...]
    near_user: float
    near_text: float
    turn: int
    sentence: str
    source: Source | None


def question(
    tool: str,
    arguments: Mapping[str, Any],
    effect: ToolEffect,
    card: ToolCard | None,
    conversation: Conversation,
    directory: Directory,
) -> Question | None:
    """What to measure; None where there is nothing to ask: the call only reads here, or no outsider has said a word as
    far as is known, and all is.

    A call that only reads does reach out where it fetches an address.
    """
    values = list(_values(arguments))
    if not effect.has_side_effects and not any(is_point(value) == "url" for _, value in values):
        return None
    if not conversation.knows_user:
        return None
    texts = conversation.texts()
    if not texts and not conversation.is_partial:
        return None
    roles = card.roles if card is not None else {}
    found: list[Label] = []
    pointing: list[Label] = []
    shown = []
    for name, value in values[:_MOST_VALUES]:
        shown.append(value[:_SHOWN_VALUE])
        role = role_at(name, roles.get(name), effect)
        if role is Role.CONTENT:
            continue
        folded = fold(value)
        is_url = is_point(value) == "url"
        look = conversation.label_url if is_url else conversation.label
        label, _ = look(folded, directory)
        found.append(label)
        if role in (Role.DESTINATION, Role.SECRET) or is_url:
            pointing.append(label)
    return Question(
        _spaced(tool),
        f"{_spaced(tool)} {' '.join(shown)}"[:_CALL],
        card.purpose[:PURPOSE] if card is not None else "",
        effect,
        conversation.turns,
        texts,
        _shares(found, pointing),
        words(" ".join(shown)[: 4 * _CALL]),
        not conversation.is_partial,
    )


def _values(arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name of the argument, value) of each leaf, keys left out."""
    found = []
    for leaf in leaves(arguments):
        if leaf.path and leaf.value == leaf.path[-1]:
            continue
        found.append((next((part for part in reversed(leaf.path) if isinstance(part, str)), ""), leaf.value))
    return found


def _spaced(tool: str) -> str:
    """A tool's name as words."""
    out = []
    for at, mark in enumerate(tool):
        if mark in "_-./:":
            out.append(" ")
        elif mark.isupper() and at and tool[at - 1].islower():
            out += [" ", mark.lower()]
        else:
            out.append(mark.lower())
    return " ".join("".join(out).split())


_TEXTS: Final = (Label.NAMED, Label.FREE)
_NOWHERE: Final = (Label.NONE, Label.UNSEEN)


def _shares(found: list[Label], pointing: list[Label]) -> tuple[float, ...]:
    """Where the values stand, as shares; whether any that points somewhere stands in text or nowhere; how many."""
    count = max(1, len(found))
    groups = ((Label.USER, Label.DIRECTORY), (Label.FIELD,), _TEXTS, _NOWHERE)
    return (
        *(sum(label in group for label in found) / count for group in groups),
        float(any(label in _TEXTS for label in pointing)),
        float(any(label in _NOWHERE for label in pointing)),
        min(8.0, float(len(found))),
    )


def measure(asked: Question, similar: Similar) -> Measured:
    """The measures of ``asked``. Raises what ``similar`` raises."""
    purpose = f"{asked.tool}: {asked.purpose}"[:PURPOSE]
    said = [(turn, each) for turn in range(len(asked.turns) - 1, -1, -1) for each in _said(asked.turns[turn])]
    said = said[:_MOST_USER]
    user_call, turn = max(((similar(each, asked.call), turn) for turn, each in said), default=(0.0, -1))
    user_tool = max((similar(each, purpose) for _, each in said), default=0.0)
    whole = similar(asked.turns[-1][:1_000], purpose) if asked.turns else 0.0
    near, sentence, source, text_tool = 0.0, "", None, 0.0
    for each, where in _read(asked):
        likeness = similar(each, asked.call)
        text_tool = max(text_tool, similar(each, purpose))
        if likeness > near:
            near, sentence, source = likeness, each, where
    user_words = frozenset().union(*(words(each) for _, each in said)) if said else frozenset()
    values = (
        user_tool,
        whole,
        user_call,
        _share(words(asked.tool), user_words),
        _share(words(asked.purpose), user_words),
        _share(asked.value_words, user_words),
        *asked.shares,
        near,
        text_tool,
        near - user_call,
        text_tool - user_tool,
        *(float(asked.effect is effect) for effect in _EFFECTS),
    )
    return Measured(values, user_call, near, turn, sentence, source)


def _share(wanted: frozenset[str], known: frozenset[str]) -> float:
    return len(wanted & known) / max(1, len(wanted))


def _said(turn: str) -> list[str]:
    return list(sentences(turn)) or [turn]


def _read(asked: Question) -> list[tuple[str, Source]]:
    """The sentences of others that are compared: those that share most words with the call, and the newest."""
    every = [(each, source) for source in asked.texts for each in sentences(source.text)]
    if len(every) <= _MOST_TEXT:
        return every
    wanted = words(asked.tool) | asked.value_words | words(asked.purpose)
    ranked = sorted(range(_NEWEST, len(every)), key=lambda at: (-len(wanted & words(every[at][0])), at))
    return every[:_NEWEST] + [every[at] for at in ranked[: _MOST_TEXT - _NEWEST]]
