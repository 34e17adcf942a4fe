"""Jailbreaks and planted instructions: words meant to make an agent leave its instructions, or to give it others.

Runs the phrase families of ``phrases.py``, ``languages.py`` and, but for the user's own words, ``planted.py`` over folded
text. It finds plain and lightly disguised attempts; it is one signal among others, not a classifier, and says so:
paraphrases and languages without a family are not seen. Encodings are ``encoded.py``'s business.

A phrase that is talked about (quoted, or announced by words such as *phrases like*) counts as a mention, which weighs
little: security people and their tools quote attacks all day.
"""

from __future__ import annotations

import re
from typing import Final

from watchfloor.guard.content import Content, show_path
from watchfloor.guard.detectors import languages, phrases, planted
from watchfloor.guard.detectors.finding import Finding
from watchfloor.guard.detectors.phrases import Family
from watchfloor.guard.detectors.secrets import find_secrets
from watchfloor.guard.detectors.text import excerpt, fold, folded_words, original_span, shared_words
from watchfloor.model.verdicts import Severity, Signal

NAME: Final = "jailbreak"
MENTION: Final = "jailbreak_mention"

NOT_SCANNED: Final = "not_scanned"

SCANNED: Final = 131_072
"""Characters that are looked at in one call, the user's words first; what is left over is said so by a signal."""

_MOST_FINDINGS: Final = 20
_MOST_TRIES: Final = 8
"""Mentions of a phrase that are passed over in one text in search of one that is meant."""


FAMILIES: Final = (*phrases.FAMILIES, *planted.FAMILIES, *languages.LATIN)
"""Families that are found by their words; those of other scripts are added where such a script stands."""

_TRIGGERS: Final = frozenset("bcdfghjklmnpqrstvwxz").union(*(family.triggers[0] for family in FAMILIES))
"""Words that have to be looked at more closely: every phrase has one of them, spelt letter by letter or not."""

_BY_WORD: Final = {
    word: tuple(number for number, family in enumerate(FAMILIES) if word in family.triggers[0])
    for word in frozenset().union(*(family.triggers[0] for family in FAMILIES))
}
"""Trigger -> the families that it may begin."""

_MARKERS: Final = re.compile(
    r"<\|(?:im_start|im_end|system|start_header_id|endoftext)\|?>|<<SYS>>|\[/?INST\]|<\|start_header_id\|>",
    re.IGNORECASE,
)
"""Control tokens of chat templates: no person types them."""

_MANY_LETTERS: Final = 6
"""Words of one letter from which on a text may be spelt letter by letter."""

_SPACED: Final = re.compile(r"(?:\b[a-z] ){4,400}[a-z]\b")
_SQUEEZED: Final = re.compile(
    r"(?:ignore|disregard|forget|bypass|override)(?:all|any|your|the|of|my){0,3}"
    r"(?:previous|prior|above|earlier|system|safety)?(?:instructions?|prompts?|rules|guidelines)"
    r"|(?:reveal|show|print|repeat)(?:me|your|the){0,2}(?:system|hidden|initial)(?:prompt|instructions?)"
    r"|doanythingnow|developermodeenabled"
)

_TALKS_ABOUT: Final = re.compile(
    r"\b(?:phrases?|phrasing|wording|strings?|sentences?|examples?|such as|for example|prompt injections?|injections?"
    r"|jailbreaks?|attacks?|attackers?|attempts?|attempted|tried to|detect(?:s|ed|ion|or)?|filter(?:s|ed)?|blocked"
    r"|flag(?:s|ged)?|malicious|phishing|suspicious|article|blog|paper|training|awareness|teach|explain(?:s|ed)?"
    r"|literal(?:ly)?|analysts?|recogni[sz]e|refused|refuses|risky|unsafe|lesson|quiz|transcript|slide|workshop|students?"
    r"|learners?|postmortem|benchmark|classify|paraphrases?|should trigger|module|means?|meaning|definition|quot(?:e|es|ed)|says|said|saying|wrote|written|reads|contains?|containing"
    r"|beispiel|bedeutet|exemple|signifie|ejemplo|significa)\b"
)
_ANNOUNCES: Final = re.compile(
    r"\b(?:phrases?|attempts?|strings?|attacks?|injections?|jailbreaks?|messages|wording|commands|inputs)"
    r" (?:like|such as|that say|that tell|saying|e g|for example)(?: \w{1,24}){0,3} ?$"
)
_QUOTES: Final = '"`\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a\u2018\u2019\u300c\u300d'
_OPENS: Final = re.compile(r"(?:^|[\s(:,])'[^']{0,20}$")
_CLOSES: Final = re.compile(r"[^'\n]{0,40}'(?!\w)")
_ELSEWHERE: Final = re.compile(
    r" (?:that (?:appear|are|stand) )?(?:in|inside|within|from|contained in|embedded in|found in|on)"
    r" (?:the|this|that|any|an?|those|these|its|his|her|their|it)\b(?! (?:system|developer|above|prompt|initial))"
)
"""*Ignore any instructions in the attachment* protects; it does not attack."""

_CONTEXT: Final = 100


def detect(content: Content) -> list[Finding]:
    """Jailbreak phrases in the user's words and in the arguments: at most one finding a family and surface."""
    surfaces: list[tuple[str, str, bool]] | None = None
    joined = content.joined
    left_out = len(joined) - SCANNED
    if left_out > 0:
        surfaces = _first(_surfaces(content), SCANNED)
        joined = "\n".join(text for _, text, _ in surfaces)
    words = shared_words(joined)
    # One pass over the words settles it for nearly every call.
    hits = _TRIGGERS.intersection(words)
    is_clean = not hits
    suspects = _suspects(hits, words) if hits else []
    if not joined.isascii() and languages.SCRIPTS.search(joined):
        suspects += languages.OTHER
    is_spaced = not is_clean and list(map(len, words)).count(1) >= _MANY_LETTERS
    has_markers = ("<" in joined or "]" in joined or "##" in joined) and (
        _MARKERS.search(joined) or planted.MARKERS.search(joined)
    )
    findings: list[Finding] = []
    if suspects or has_markers or is_spaced:
        for path, text, in_arguments in surfaces or _surfaces(content):
            families = suspects if in_arguments else _of_users(suspects)
            signals = _scan(path, text, families, is_spaced, is_planted=in_arguments)
            findings += [Finding(signal, None, in_arguments) for signal in signals]
            if len(findings) >= _MOST_FINDINGS:
                break
    if left_out > 0:
        note = f"{left_out} characters were not looked at"
        findings.append(
            Finding(Signal(NAME, NOT_SCANNED, Severity.INFORMATIONAL, 0.0, "arguments", (0, 0), note), None, True)
        )
    return findings


def find(text: str, path: str = "text", *, is_planted: bool = True) -> list[Signal]:
    """The phrases in one text; ``is_planted`` is false for the user's own words."""
    words = folded_words(text)
    suspects = _suspects(_TRIGGERS.intersection(words), words)
    if not text.isascii() and languages.SCRIPTS.search(text):
        suspects += languages.OTHER
    if not is_planted:
        suspects = _of_users(suspects)
    is_spaced = list(map(len, words)).count(1) >= _MANY_LETTERS
    return _scan(path, text, suspects, is_spaced, is_planted=is_planted)


def _of_users(families: list[Family]) -> list[Family]:
    return [family for family in families if family.category != planted.INJECTION]


def _suspects(hits: frozenset[str], words: list[str]) -> list[Family]:
    """The families that may match: ``hits`` are those of ``words`` that are triggers."""
    numbers = {number for word in hits for number in _BY_WORD.get(word, ())}
    if not numbers:
        return []
    known = frozenset(words)
    found = [FAMILIES[number] for number in sorted(numbers)]
    return [family for family in found if not any(known.isdisjoint(trigger) for trigger in family.triggers[1:])]


def _surfaces(content: Content) -> list[tuple[str, str, bool]]:
    surfaces = [(f"user_turns[{index}]", turn, False) for index, turn in enumerate(content.user_turns)]
    surfaces += [(show_path(path), text, True) for path, text in content.strings]
    surfaces += [(f"{show_path(path[:-1])}.(key)", key, True) for path, key in content.keys]
    return surfaces


def _first(surfaces: list[tuple[str, str, bool]], room: int) -> list[tuple[str, str, bool]]:
    """The surfaces cut to ``room`` characters, short ones first: instructions are short, data is long."""
    kept = []
    for path, text, in_arguments in sorted(surfaces, key=lambda surface: (surface[2], len(surface[1]))):
        kept.append((path, text[: max(room, 0)], in_arguments))
        room -= len(text)
        if room <= 0:
            break
    return kept


def _scan(path: str, text: str, suspects: list[Family], is_spaced: bool, *, is_planted: bool) -> list[Signal]:
    signals = []
    folded = fold(text)
    hidden: list[tuple[int, int]] | None = None
    for family in suspects:
        match = _first_meant(family, folded, text)
        if match is None:
            continue
        span, is_mention = match
        if hidden is None:
            hidden = [secret.span for secret in find_secrets(text)]
        shown = excerpt(text, span, hidden)
        if is_mention:
            signals.append(Signal(NAME, MENTION, Severity.INFORMATIONAL, 0.3, path, span, shown))
        else:
            signals.append(Signal(NAME, family.category, family.severity, family.score, path, span, shown))
    marker = _MARKERS.search(text)
    if marker:
        shown = excerpt(text, marker.span(), [secret.span for secret in find_secrets(text)])
        signals.append(Signal(NAME, "jailbreak", Severity.HIGH, 0.8, path, marker.span(), shown))
    frame = planted.MARKERS.search(text) if is_planted else None
    if frame:
        shown = excerpt(text, frame.span(), [secret.span for secret in find_secrets(text)])
        signals.append(Signal(NAME, planted.INJECTION, Severity.MEDIUM, 0.65, path, frame.span(), shown))
    if is_spaced and not signals:
        signals += _spelt(path, text, folded)
    return signals


def _spelt(path: str, text: str, folded: str) -> list[Signal]:
    """Phrases spelt letter by letter: the letters put together, with and without the spaces between words."""
    runs = [run[0].replace(" ", "") for run in _SPACED.finditer(folded)]
    if not runs:
        return []
    joined = _SPACED.sub(lambda run: run[0].replace(" ", ""), folded)
    words = joined.split(" ")
    suspects = _suspects(_TRIGGERS.intersection(words), words)
    if any(_SQUEEZED.search(run) for run in runs) or any(f.pattern.search(f" {joined} ") for f in suspects):
        first = _SPACED.search(folded)
        assert first is not None
        span = original_span(text, first.span())
        shown = excerpt(text, span, [secret.span for secret in find_secrets(text)])
        return [Signal(NAME, "jailbreak", Severity.HIGH, 0.8, path, span, shown)]
    return []


def _first_meant(family: Family, folded: str, text: str) -> tuple[tuple[int, int], bool] | None:
    """The first phrase that is meant rather than mentioned, else the first mention: its span and which it is."""
    mention: tuple[int, int] | None = None
    for tried, match in enumerate(family.pattern.finditer(f" {folded} ")):
        if tried >= _MOST_TRIES:
            break
        at = (match.start(), match.end() - 1)  # without the space in front, in text without either
        if family.name == "override" and _ELSEWHERE.match(folded, at[1]):
            continue
        span = original_span(text, at)
        if not _is_mentioned(folded, at, text, span):
            return span, False
        mention = mention or span
    return (mention, True) if mention else None


def _is_mentioned(folded: str, at: tuple[int, int], text: str, span: tuple[int, int]) -> bool:
    """Whether the phrase is talked about: announced, or quoted in a text that speaks of phrases, attacks, detection."""
    before = folded[max(0, at[0] - _CONTEXT) : at[0]]
    if _ANNOUNCES.search(before):
        return True
    after = folded[at[1] : at[1] + _CONTEXT]
    is_quoted = any(mark in _QUOTES for mark in text[max(0, span[0] - _CONTEXT) : span[0]]) and any(
        mark in _QUOTES for mark in text[span[1] : span[1] + 2 * _CONTEXT]
    )
    # Apostrophes are everywhere: straight single quotes count where they stand close around the phrase.
    before_it = text[max(0, span[0] - 24) : span[0]]
    is_quoted = is_quoted or (_OPENS.search(before_it) is not None and _CLOSES.match(text, span[1]) is not None)
    return is_quoted and bool(_TALKS_ABOUT.search(before) or _TALKS_ABOUT.search(after))
