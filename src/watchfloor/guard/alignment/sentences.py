"""Texts taken apart into what can be compared: sentences, lines, clauses; and the words in them.

Linear in the text. Nothing is left out: what is too long for one piece becomes several.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

LONGEST: Final = 300
"""Characters of one piece: about what the encoder looks at."""
_SHORTEST: Final = 8
_END: Final = re.compile(r"(?<=[.!?;:。！？])\s+|\n+|, (?:and|then|und|et|y) |(?<=[。！？])")  # noqa: RUF001 (full-width marks)
_WORD: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[^\W\d_a-zA-Z]+|\d{2,}")
_ENDING: Final = re.compile(r"(?:ing|ed|es|s|e)$")
_SMALL: Final = frozenset(
    (
        "the", "an", "of", "to", "in", "for", "and", "or", "on", "with", "by", "is", "are", "be", "from", "this",
        "that", "it", "as", "at", "my", "me", "you", "your", "please", "can", "could", "would", "get", "set", "if",
        "not", "will", "should", "returns", "return", "given",
    )
)  # fmt: skip
"""Words that say nothing about what a call does."""


def sentences(text: str) -> Iterator[str]:
    """The sentences of ``text``, those with fewer than 8 characters left out."""
    for piece in _END.split(text):
        piece = piece.strip()
        while len(piece) > LONGEST:
            cut = piece.rfind(" ", LONGEST // 2, LONGEST)
            cut = cut if cut > 0 else LONGEST
            yield piece[:cut]
            piece = piece[cut:].strip()
        if len(piece) >= _SHORTEST:
            yield piece


@lru_cache(maxsize=8_192)
def words(text: str) -> frozenset[str]:
    """The words of ``text`` that say something, their endings taken off. ``send_email`` and ``sendEmail`` are two."""
    found = (word.lower() for word in _WORD.findall(text))
    return frozenset(_ENDING.sub("", word) for word in found if len(word) > 1 and word not in _SMALL)
