"""What does a tool do to the world? Worked out from its definition, where nobody has declared it.

Pure: a definition as ``tools/list`` answers it in, an effect out. The tool server wrote everything that is read here,
so its words are believed in one direction only: whatever hints at side effects counts, from anybody; a claim to be
harmless counts if nothing else contradicts it, and ``readOnlyHint`` from a trusted server only. In doubt the answer is
``unknown``, which is treated as having side effects.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from watchfloor.model.agents import ToolEffect

_E = ToolEffect


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VERBS: Final[Mapping[ToolEffect, frozenset[str]]] = {
    _E.PAY: _words("pay payment transfer refund charge purchase buy wire invoice_pay payout withdraw checkout"),
    _E.SEND: _words(
        "send reply forward mail email sms notify publish post tweet broadcast invite share message submit upload "
        "dispatch deliver"
    ),
    _E.DELETE: _words(
        "delete remove drop purge erase destroy wipe truncate clear revoke cancel terminate kill uninstall reset "
        "archive disable close"
    ),
    _E.UPDATE: _words(
        "update set edit change modify patch write replace rename move merge assign approve reject enable put save "
        "append tag label grant configure execute run invoke trigger start stop restart deploy install apply sync "
        "reconcile import call eval exec command"
    ),
    _E.CREATE: _words("create add insert make new register book schedule order open generate draft copy"),
}
"""Words in a name that stand for side effects, by effect."""

READING: Final = _words(
    "get list read search find fetch query lookup look show describe count view browse check retrieve summarize "
    "summarise explain download resolve validate compare status ping whoami help calculate translate"
)
"""Words that a name begins with when a tool only reads."""

# In running text "open invoices" or "new orders" say nothing; these say what somebody does.
_TELLING: Final[Mapping[ToolEffect, re.Pattern[str]]] = {
    effect: re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)
    for effect, words in {
        _E.PAY: (
            "pays",
            "(?:make|execute|initiate|order)s? (?:a )?(?:payment|transfer)",
            "transfers? (?:money|funds)",
            "refunds",
        ),
        _E.SEND: (
            "sends?",
            "e-?mails? (?:it|them|to|a copy)",
            "forwards?",
            "posts? (?:it|to|a)",
            "notif(?:y|ies)",
            "publish(?:es)?",
            "uploads?",
        ),
        _E.DELETE: ("deletes?", "removes?", "erases?", "purges?", "drops?", "wipes?", "destroys?", "overwrites?"),
        _E.UPDATE: (
            "updates?",
            "modif(?:y|ies)",
            "changes the",
            "writes?",
            "edits?",
            "renames?",
            "executes?",
            "runs? (?:a|the|any) (?:shell|command|script|code)",
        ),
        _E.CREATE: ("creates?", "inserts?", "registers? a", "adds? (?:a|an|the)"),
    }.items()
}
_NEGATED: Final = re.compile(
    r"\b(?:does not|doesn't|do not|don't|never|without|not|no longer|cannot|can't)\b[^.;,]{0,40}", re.IGNORECASE
)
_WORD: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


def infer_effect(definition: Mapping[str, Any], *, is_trusted: bool) -> ToolEffect:
    """The effect of the tool that ``definition`` describes. ``is_trusted``: whether its server's hints may loosen."""
    hints = definition.get("annotations")
    hints = hints if isinstance(hints, Mapping) else {}
    claims_to_read = hints.get("readOnlyHint") is True
    if claims_to_read and is_trusted:
        return _E.READ
    effect = _from_words(definition)
    if effect in (_E.READ, _E.UNKNOWN, _E.CREATE, _E.UPDATE) and hints.get("destructiveHint") is True:
        # The default of this hint is true, so only a server that says it means it. Not with a claim to read only:
        # then MCP gives it no meaning.
        return effect if claims_to_read else _E.DELETE
    if effect is _E.READ and hints.get("readOnlyHint") is False:
        return _E.UNKNOWN
    return effect


def platform_tool_effect(tool: Mapping[str, Any]) -> ToolEffect:
    """The effect of a tool that an agent's platform calls for it, as a manifest describes it: by its operation."""
    described = {"name": tool.get("operation") or tool["name"], "description": tool.get("description", "")}
    return infer_effect(described, is_trusted=False)


def _from_words(definition: Mapping[str, Any]) -> ToolEffect:
    words = [word.lower() for word in _WORD.findall(str(definition.get("name", "")))]
    first = words[0] if words else ""
    if first in READING:
        # list_open_orders reads; read_and_forward does not.
        also = [word for before, word in itertools.pairwise(words) if before in ("and", "then", "or")]
        return _named(also) or _told(definition) or _E.READ
    if effect := (_E.PAY if VERBS[_E.PAY] & set(words) else _named(words)) or _told(definition):
        return effect
    return _E.READ if words and words[-1] in READING else _E.UNKNOWN


def _named(words: list[str]) -> ToolEffect | None:
    """The effect of the first word that stands for one: create_message creates, message_customer sends."""
    for word in words:
        for effect, verbs in VERBS.items():
            if word in verbs:
                return effect
    return None


def _told(definition: Mapping[str, Any]) -> ToolEffect | None:
    """The side effect that the description, or a description in the schema, admits; None if there is none."""
    texts = [_NEGATED.sub(" ", text) for text in _texts(definition)]
    for effect, pattern in _TELLING.items():
        if any(pattern.search(text) for text in texts):
            return effect
    return None


def _texts(definition: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(definition.get("description"), str):
        yield definition["description"]
    pending: list[Any] = [definition.get("inputSchema")]
    while pending:
        node = pending.pop()
        if isinstance(node, Mapping):
            if isinstance(node.get("description"), str):
                yield node["description"]
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
