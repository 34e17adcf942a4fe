"""How much a text resembles attacks on agents: a linear model over hashed words and pairs, learned from labelled texts.

The phrases of ``jailbreak`` are precise and know what they know; this sees wordings that nobody wrote down, and errs more
often. It is a score to alert on, never a verdict. What it was trained on, how, and where it fails is in
``docs/text-model.md``; ``bench/train_text.py`` makes the weights.

Pieces are the folded words and the pairs of neighbours, each counted once a window however often it stands there. A
window of text scores ``bias + sum of weights / sqrt(number of pieces)``; the text scores as its worst window. No numpy,
no pickle: the weights are one signed byte each.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import resources
from itertools import pairwise
from typing import Final, NamedTuple
from zlib import crc32

from watchfloor.guard.content import Content
from watchfloor.guard.detectors.finding import Finding
from watchfloor.guard.detectors.secrets import find_secrets
from watchfloor.guard.detectors.text import excerpt, folded_words, original_span
from watchfloor.model.verdicts import Severity, Signal

NAME: Final = "likeness"
CATEGORY: Final = "likely_attack"

WINDOW: Final = 48
STEP: Final = 24
"""Words of a window, and from one window to the next."""
LONGEST: Final = 65_536
"""Characters of one text that are looked at."""
_LONGEST_WORD: Final = 20
_A_WORD: Final = crc32(b"w ")
"""Where the hash of a word begins, so that a word and a pair that are spelt alike are two pieces."""
_FEWEST_WORDS: Final = 4
"""Shorter texts say too little to be likened to anything."""

HEADER: Final = struct.Struct("<4sHHffff")
"""``WFTM``, format (2), log2 of the number of weights, scale, bias, and the scores that 1 % and 0.1 % of ordinary texts
exceed. One signed byte a weight follows; the weight is the byte times the scale."""
MAGIC: Final = b"WFTM"
FORMAT: Final = 2
BITS: Final = 18


class Model(NamedTuple):
    """The weights as read, and the two thresholds."""

    weights: array[int]
    mask: int
    scale: float
    bias: float
    one_percent: float
    one_permille: float


def load(raw: bytes) -> Model:
    """The model in ``raw``. Raises ``ValueError`` where that is not one."""
    if len(raw) < HEADER.size:
        raise ValueError("the weights are shorter than their header")
    magic, version, bits, scale, bias, one_percent, one_permille = HEADER.unpack_from(raw)
    if magic != MAGIC or version != FORMAT:
        raise ValueError(f"the weights are of another form: {magic!r}, version {version}")
    if len(raw) != HEADER.size + (1 << bits):
        raise ValueError(f"the weights are {len(raw) - HEADER.size} bytes; their header says {1 << bits}")
    return Model(array("b", raw[HEADER.size :]), (1 << bits) - 1, scale, bias, one_percent, one_permille)


@cache
def shipped() -> Model:
    """The weights that come with the product, read once."""
    return load(resources.files("watchfloor.content").joinpath("weights", "text.bin").read_bytes())


class Pieces(NamedTuple):
    """Of each word of a text the numbers of two weights: the word's, and that of its pair with the next."""

    words: list[int]
    pairs: list[int]

    def between(self, start: int, end: int) -> set[int]:
        """Those of one window, each once."""
        return {*self.words[start:end], *self.pairs[start : end - 1]}


def pieces_of(words: Sequence[str], mask: int) -> Pieces:
    """The pieces of a text as numbers of weights; ``mask`` is one less than how many weights there are."""
    raw = [word[:_LONGEST_WORD].encode("utf-8", "replace") for word in words]
    return Pieces(
        [crc32(word, _A_WORD) & mask for word in raw],
        [crc32(b"%b %b" % pair) & mask for pair in pairwise(raw)],
    )


def windows(words: list[str]) -> list[tuple[int, int]]:
    """The windows of a text, as first and last-but-one word."""
    if len(words) <= WINDOW:
        return [(0, len(words))]
    starts = list(range(0, len(words) - WINDOW, STEP))
    return [(start, start + WINDOW) for start in starts] + [(len(words) - WINDOW, len(words))]


def score_words(words: list[str], model: Model) -> tuple[float, tuple[int, int]]:
    """The highest raw score of a window of ``words``, and which window that is."""
    weight, mask = model.weights.__getitem__, model.mask
    pieces = pieces_of(words, mask)
    best, where = -math.inf, (0, len(words))
    for start, end in windows(words):
        found = pieces.between(start, end)
        score = sum(map(weight, found)) / math.sqrt(max(1, len(found)))
        if score > best:
            best, where = score, (start, end)
    return model.bias + model.scale * best, where


def score(text: str, model: Model | None = None) -> float:
    """0 to 1: 0.5 is what 1 % of ordinary texts exceed, 0.8 what 0.1 % do."""
    model = model or shipped()
    words = folded_words(text[:LONGEST])
    if len(words) < _FEWEST_WORDS:
        return 0.0
    return graded(score_words(words, model)[0], model)


def graded(raw: float, model: Model) -> float:
    """A raw score on the scale of ``score``: a logistic curve through the two thresholds."""
    slope = math.log(4) / max(1e-6, model.one_permille - model.one_percent)
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, slope * (raw - model.one_percent)))))


@lru_cache(maxsize=256)
def _remembered(text: str) -> tuple[float, tuple[int, int]]:
    return _seen(text)


def _seen(text: str) -> tuple[float, tuple[int, int]]:
    """The graded score of ``text`` and the characters of the window that has it."""
    model = shipped()
    words = folded_words(text[:LONGEST])
    if len(words) < _FEWEST_WORDS:
        return 0.0, (0, 0)
    raw, (start, end) = score_words(words, model)
    found = graded(raw, model)
    if found < _LOW:
        return found, (0, 0)
    before = sum(map(len, words[:start])) + start
    inside = sum(map(len, words[start:end])) + end - start - 1
    return found, original_span(text[:LONGEST], (before, before + inside))


_LOW: Final = 0.5
_MEDIUM: Final = 0.8
ALERTED: Final = 0.8
"""From here on a decision has the signal: what one in a thousand of the ordinary texts held back exceeds."""
_SHORT: Final = 2_000
"""Texts up to this length are remembered: a conversation's words come again with each of its calls."""


def detect_in(text: str, path: str, *, in_arguments: bool = True, least: float = _LOW) -> list[Finding]:
    """At most one finding: ``text`` resembles attacks more than ordinary texts do, by ``least`` or more."""
    found, span = _remembered(text) if len(text) <= _SHORT else _seen(text)
    if found < least:
        return []
    shown = excerpt(text, span, [secret.span for secret in find_secrets(text)])
    severity = Severity.MEDIUM if found >= _MEDIUM else Severity.LOW
    return [Finding(Signal(NAME, CATEGORY, severity, round(found, 3), path, span, shown), None, in_arguments)]


def detect(content: Content) -> list[Finding]:
    """The user's words that clearly resemble attacks; what an agent wrote itself is not likened."""
    findings: list[Finding] = []
    for index, turn in enumerate(content.user_turns):
        findings += detect_in(turn, f"user_turns[{index}]", in_arguments=False, least=ALERTED)
    return findings
