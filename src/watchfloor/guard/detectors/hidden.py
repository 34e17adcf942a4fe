"""Hidden Unicode: characters that no reader sees and a model reads all the same.

Tag characters and variation selectors spell whole messages in nothing (*ASCII smuggling*); runs of zero-width
characters carry bits; direction overrides show another text than the one that is there. What tags and selectors say is
decoded. Single joiners (emoji, Persian, Indic scripts), flags of regions and byte order marks at the start are ordinary.
"""

from __future__ import annotations

import re
from typing import Final

from watchfloor.guard.detectors.hit import Hit
from watchfloor.model.verdicts import Severity

NAME: Final = "hidden_text"

_TAG_RUN: Final = re.compile("[\U000e0000-\U000e007f]+")
_FLAG: Final = re.compile("\U0001f3f4[\U000e0061-\U000e007a\U000e0030-\U000e0039]{1,7}\U000e007f")
"""The flags of England, Scotland, Wales and others are spelt in tag characters."""
_SELECTOR_RUN: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{3,}")
_ZERO_WIDTH_RUN: Final = re.compile("[\u200b-\u200f\u2060-\u2064\u180e\ufeff\u034f\u3164\uffa0]{4,}")
_ZERO_WIDTH_IN_WORD: Final = re.compile("(?<=[A-Za-z])[\u200b\u2060-\u2064\u00ad\u180e\ufeff]+(?=[A-Za-z])")
_OVERRIDE: Final = re.compile("[\u202a\u202b\u202d\u202e\u2066-\u2068]")
_RIGHT_TO_LEFT: Final = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]")
_PRIVATE_RUN: Final = re.compile("[\ue000-\uf8ff\U000f0000-\U0010fffd]{12,}")

_MANY_IN_WORDS: Final = 4
"""Words cut by invisible characters from which on it is no accident of typesetting."""


def may_hold(text: str) -> bool:
    """Plain ASCII hides nothing."""
    return not text.isascii()


def find(text: str) -> list[Hit]:
    """The hidden passages of ``text``, at most one of each kind, what they say decoded where it can be."""
    hits: list[Hit] = []
    flags = [found.span() for found in _FLAG.finditer(text)]
    for found in _TAG_RUN.finditer(text):
        if any(start <= found.start() and found.end() <= end for start, end in flags):
            continue
        said = "".join(chr(ord(c) - 0xE0000) for c in found[0] if 0xE0020 <= ord(c) < 0xE007F)
        hits.append(Hit(NAME, Severity.HIGH, 0.98, found.span(), f"tag characters: {said}", said))
        break
    for found in _SELECTOR_RUN.finditer(text):
        said = _bytes_of_selectors(found[0])
        hits.append(Hit(NAME, Severity.HIGH, 0.95, found.span(), f"variation selectors: {said}", said))
        break
    zero_width = _ZERO_WIDTH_RUN.search(text)
    if zero_width and len(set(zero_width[0])) > 1:
        hits.append(Hit(NAME, Severity.MEDIUM, 0.85, zero_width.span(), "a run of zero-width characters", ""))
    in_words = [found.span() for found in _ZERO_WIDTH_IN_WORD.finditer(text)]
    if len(in_words) >= _MANY_IN_WORDS:
        span = (in_words[0][0], in_words[-1][1])
        said = _ZERO_WIDTH_IN_WORD.sub("", text[max(0, span[0] - 40) : span[1] + 40])
        hits.append(Hit(NAME, Severity.MEDIUM, 0.8, span, f"invisible characters in words: {said}", said))
    override = _OVERRIDE.search(text)
    if override and not _RIGHT_TO_LEFT.search(text):
        hits.append(Hit(NAME, Severity.MEDIUM, 0.8, override.span(), "a direction override in left-to-right text", ""))
    private = _PRIVATE_RUN.search(text)
    if private:
        hits.append(Hit(NAME, Severity.LOW, 0.5, private.span(), "a run of characters for private use", ""))
    return hits


def _bytes_of_selectors(run: str) -> str:
    """Each selector stands for a byte: 0-15 in the plane of signs, 16-255 in the supplementary one."""
    values = [ord(c) - 0xFE00 if ord(c) < 0xE0000 else ord(c) - 0xE0100 + 16 for c in run]
    return bytes(values).decode("utf-8", "replace")
