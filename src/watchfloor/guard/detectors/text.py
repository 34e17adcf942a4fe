"""Text as an attacker means it: one folded form that hides no letters, and excerpts that show no secrets.

``fold`` undoes what makes a phrase look different without reading differently: case, accents, compatibility forms,
look-alike letters, digits for letters, punctuation between words, invisible characters, hidden tag characters. It knows
nothing of what to look for.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

_LEET: Final = {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s"}

_LOOK_ALIKES: Final = dict(
    zip(
        "абвгеёзикмнорстухіјѕһԁԛԝαβγειηκνορτυχωѵℓıɑɡⅼ",
        "abbreekikmhopctyxijshdqwaygeinkvoptuxwvliagl",
        strict=True,
    )
)
"""Cyrillic, Greek and other letters that pass for Latin ones."""

_TAGS: Final = 0xE0000
_PRECOMPUTED: Final = 0x2500


def _fold_character(code: int) -> str:
    if _TAGS < code <= _TAGS + 0x7F:
        # Tag characters are invisible and spell ASCII: show what they say.
        return _fold_character(code - _TAGS) if code >= _TAGS + 0x20 else ""
    character = chr(code)
    if code > 0x2E80 and code < 0xF900:
        return character
    category = unicodedata.category(character)
    if category in ("Cf", "Mn", "Me", "Co"):
        return ""
    pieces = []
    for piece in unicodedata.normalize("NFKD", character).casefold():
        piece = _LOOK_ALIKES.get(piece, piece)
        piece = _LEET.get(piece, piece)
        if piece.isalnum():
            pieces.append(piece)
        elif not unicodedata.combining(piece):
            pieces.append(" ")
    return "".join(pieces)


class _Fold(dict[int, str]):
    """The folding table; what is not in it is worked out and not kept, so that it cannot be made to grow."""

    def __missing__(self, code: int) -> str:
        return _fold_character(code)


_TABLE: Final = _Fold({code: _fold_character(code) for code in range(_PRECOMPUTED)})


def folded_words(text: str) -> list[str]:
    """The words of ``text`` in lower-case letters, other scripts as they are."""
    return text.translate(_TABLE).split()


@lru_cache(maxsize=1)
def _words_of(text: str) -> list[str]:
    return folded_words(text)


def shared_words(text: str) -> list[str]:
    """``folded_words`` for text that several detectors look at, one after the other: not to be changed."""
    return _words_of(text)


def fold(text: str) -> str:
    """``folded_words``, parted by single spaces."""
    return " ".join(folded_words(text))


def original_span(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """Where ``span`` of ``fold(text)`` stands in ``text``. Slow: only for what was found."""
    position = 0
    is_between = True  # at the start, and after a word: the next letter begins a new one
    start, end = len(text), len(text)
    for index, character in enumerate(text):
        for piece in _TABLE[ord(character)]:
            if piece == " ":
                is_between = True
                continue
            if is_between and position:
                position += 1
            is_between = False
            if position >= span[0]:
                start = min(start, index)
            position += 1
            if position >= span[1]:
                return (min(start, index), index + 1)
    return (min(start, end), end)


EXCERPT: Final = 80


def excerpt(text: str, span: tuple[int, int], hidden: list[tuple[int, int]]) -> str:
    """At most 80 characters of ``text`` around ``span``, on one line, the ``hidden`` spans blotted out."""
    length = min(span[1] - span[0], EXCERPT - 2)
    margin = (EXCERPT - 2 - length) // 2
    start = max(0, span[0] - margin)
    end = min(len(text), span[0] + length + margin)
    characters = list(text[start:end])
    for hidden_start, hidden_end in hidden:
        for index in range(max(hidden_start, start), min(hidden_end, end)):
            characters[index - start] = "•"
    shown = "".join(c if c.isprintable() else " " for c in characters)
    return ("…" if start > 0 else "") + shown + ("…" if end < len(text) else "")
