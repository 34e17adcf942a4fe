"""Text as the encoder reads it: numbers of word pieces, as BERT's uncased vocabulary has them.

Characters without meaning go, case and accents go, punctuation and ideographs stand alone, and each word is cut into
the longest pieces that the vocabulary has. It gives what the published tokenizer gives (``bench.alignment_model``
compares), in a few lines and without its dependencies. It is linear in the text, and remembers words.
"""

from __future__ import annotations

import unicodedata
from typing import Final

MOST_TOKENS: Final = 128
"""Pieces of one text that are looked at, its two ends included: what the encoder was trained on."""
_LONGEST_WORD: Final = 100
_REMEMBERED: Final = 16_384
_IDEOGRAPHS: Final = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class _Marks(dict[int, str | None]):
    """What becomes of each character; filled as characters are met."""

    def __missing__(self, code: int) -> str | None:
        self[code] = kept = _mark(code)
        return kept


def _mark(code: int) -> str | None:
    mark = chr(code)
    kind = unicodedata.category(mark)
    if mark in "\t\n\r" or kind == "Zs":
        return " "
    if code in (0, 0xFFFD) or kind[0] == "C":
        return None
    if any(low <= code <= high for low, high in _IDEOGRAPHS):
        return f" {mark} "
    return mark


class _Plain(dict[int, str | None]):
    """After taking letters and accents apart: accents go, punctuation stands alone."""

    def __missing__(self, code: int) -> str | None:
        mark = chr(code)
        kind = unicodedata.category(mark)
        is_sign = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
        self[code] = kept = None if kind == "Mn" else f" {mark} " if is_sign or kind[0] == "P" else mark
        return kept


class WordPieces:
    """The tokenizer for one vocabulary."""

    def __init__(self, vocabulary: str) -> None:
        """``vocabulary``: one piece a line. Raises ``ValueError`` where it is not BERT's."""
        self._pieces = {piece: number for number, piece in enumerate(vocabulary.split("\n")) if piece}
        try:
            self._start, self._end, self._unknown = (self._pieces[mark] for mark in ("[CLS]", "[SEP]", "[UNK]"))
        except KeyError as error:
            raise ValueError(f"the vocabulary has no {error}") from error
        self._words: dict[str, list[int]] = {}
        self._marks, self._plain = _Marks(), _Plain()

    def encode(self, text: str) -> list[int]:
        """The numbers of the pieces of ``text``, cut to ``MOST_TOKENS``."""
        # No piece is longer than the text that it stands for, and no word of it longer than what is looked at.
        clean = text[: MOST_TOKENS * _LONGEST_WORD].translate(self._marks)
        if not clean.isascii():
            clean = unicodedata.normalize("NFD", clean)
        numbers = [self._start]
        for word in clean.translate(self._plain).lower().split():
            numbers += self._cut(word)
            if len(numbers) >= MOST_TOKENS:
                break
        return [*numbers[: MOST_TOKENS - 1], self._end]

    def _cut(self, word: str) -> list[int]:
        known = self._words.get(word)
        if known is not None:
            return known
        found: list[int] = []
        start = 0 if len(word) <= _LONGEST_WORD else len(word)
        while start < len(word):
            end, lead = len(word), "##" if start else ""
            while end > start and (number := self._pieces.get(lead + word[start:end])) is None:
                end -= 1
            if end == start:
                found = []
                break
            assert number is not None
            found.append(number)
            start = end
        if not found:
            found = [self._unknown]
        if len(self._words) >= _REMEMBERED:
            self._words.clear()
        self._words[word] = found
        return found
