"""What encoded passages say: base64, base32, hex, percent and character escapes, ROT13, reversed text, gzip.

``readings`` takes a text apart, layer by layer, and says for each passage that could be decoded how, and where in the
original text it stands. Bounded whatever the text: at most ``DEPTH`` layers, ``OUT`` characters and ``MOST`` passages.
It knows nothing of what to look for in them; disguises that keep the letters (look-alikes, digits for letters,
invisible characters) are ``text.fold``'s business.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import contextlib
import html
import re
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from watchfloor.guard.detectors.text import shared_words

DEPTH: Final = 3
OUT: Final = 65_536
"""Characters that all readings of one text may have together."""
MOST: Final = 24
"""Passages that are tried in one text."""

_SHORTEST: Final = 12
"""Characters of a reading: no instruction is shorter."""


class Reading(NamedTuple):
    """``text`` is what the characters ``span`` of the original say, decoded in the order ``how``."""

    text: str
    span: tuple[int, int]
    how: tuple[str, ...]


class _Code(NamedTuple):
    """``may_hold`` rules a text out at once; ``passages`` finds what may be encoded; ``decode`` says no by ``None``."""

    name: str
    may_hold: Callable[[str], bool]
    passages: re.Pattern[str]
    decode: Callable[[str], str | None]


def _as_text(raw: bytes) -> str | None:
    """``raw`` where it reads as text, unpacked where it is packed."""
    if raw[:2] == b"\x1f\x8b" or raw[:1] == b"\x78":
        with contextlib.suppress(zlib.error):  # text may begin so, too
            raw = zlib.decompressobj(wbits=47).decompress(raw, OUT)
    for encoding in ("utf-8", "utf-16-le"):
        if encoding == "utf-16-le" and raw[1:8:2].strip(b"\0"):
            continue
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        return text if _reads_as_text(text) else None
    return None


def _reads_as_text(text: str) -> bool:
    sample = text[:400]
    if len(sample) < _SHORTEST:
        return False
    good = sum(1 for c in sample if c.isalnum() or c in " \n\t.,;:!?'\"-_/@()%=+&#<>[]{}\\")
    letters = sum(1 for c in sample if c.isalpha())
    return good >= 0.9 * len(sample) and letters >= 0.35 * len(sample)


def _base64(passage: str) -> str | None:
    squeezed = re.sub(r"\s+", "", passage).rstrip("=").translate({45: "+", 95: "/"})
    if len(squeezed) % 4 == 1:
        squeezed = squeezed[:-1]
    try:
        return _as_text(binascii.a2b_base64(squeezed + "=" * (-len(squeezed) % 4)))
    except binascii.Error:
        return None


def _base32(passage: str) -> str | None:
    squeezed = passage.rstrip("=")
    try:
        return _as_text(base64.b32decode(squeezed + "=" * (-len(squeezed) % 8)))
    except (binascii.Error, ValueError):
        return None


def _hex(passage: str) -> str | None:
    digits = re.sub(r"\\x|0x|[^0-9A-Fa-f]", "", passage)
    return _as_text(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _bits(passage: str) -> str | None:
    bits = re.sub(r"[^01]", "", passage)
    return _as_text(bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits) - 7, 8)))


def _numbers(passage: str) -> str | None:
    numbers = [int(found) for found in re.findall(r"\d{2,3}", passage)]
    return _as_text(bytes(numbers)) if all(number < 256 for number in numbers) else None


def _percent(passage: str) -> str | None:
    return urllib.parse.unquote_plus(passage, errors="replace")


def _entities(passage: str) -> str | None:
    return html.unescape(passage)


def _escapes(passage: str) -> str | None:
    return re.sub(r"\\(?:u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}|U([0-9A-Fa-f]{8}))", _escaped, passage)


def _escaped(found: re.Match[str]) -> str:
    code = int(found[1] or found[2] or found[3], 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else " "


def _rot13(passage: str) -> str | None:
    return codecs.encode(passage, "rot13")


def _reversed(passage: str) -> str | None:
    return passage[::-1]


class Runs(NamedTuple):
    """What kinds of runs stand in a text; found in one go, because nearly every text has none of them."""

    is_long: bool
    """16 letters, digits, ``+/-_=``: no base64 of an instruction does without, and no key."""
    has_digits: bool
    """7 digits with nothing but separators and hexadecimal letters between them."""


_ALNUM: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_LONG_CLASS: Final = bytes(97 if chr(code) in _ALNUM + "+/-_=" else 32 for code in range(256))
_DIGIT_CLASS: Final = bytes(97 if chr(code) in "0123456789" else 32 for code in range(256))


@lru_cache(maxsize=1)
def runs_in(text: str) -> Runs:
    """The kinds of runs in ``text``."""
    raw = text.encode("utf-8", "replace")
    return Runs(
        b"aaaaaaaaaaaaaaaa" in raw.translate(_LONG_CLASS),
        b"aaaaaaa" in raw.translate(_DIGIT_CLASS, b" -./(),:;\\x\n\rabcdefABCDEF"),
    )


def has_long_run(text: str) -> bool:
    """See ``Runs``."""
    return runs_in(text).is_long


def has_digits(text: str) -> bool:
    """See ``Runs``."""
    return runs_in(text).has_digits


def may_hold_code(text: str) -> bool:
    """A quick look that never says no to a text of which ``readings`` could be had."""
    runs = runs_in(text)
    if runs.is_long or runs.has_digits or "%" in text or "&#" in text or "\\" in text:
        return True
    return not _TURNED_WORDS.isdisjoint(shared_words(text))


_TURNED_WORDS: Final = frozenset(
    {
        "vafgehpgvba", "vafgehpgvbaf", "cerivbhf", "flfgrz", "cebzcg", "vtaber", "erirny", "qvfertneq", "cnffjbeq",
        "bireevqr", "noitcurtsni", "snoitcurtsni", "suoiverp", "metsys", "tpmorp", "erongi", "laever", "dragersid",
        "drowssap", "edirrevo",
    }
)  # fmt: skip
"""Words of instructions in ROT13 and backwards."""

_ROT13_WORDS: Final = re.compile(
    r"\b(?:vafgehpgvbaf?|cerivbhf|flfgrz|cebzcg|vtaber|erirny|qvfertneq|cnffjbeq|bireevqr)\b",
    re.IGNORECASE,
)
_REVERSED_WORDS: Final = re.compile(
    r"\b(?:s?noitcurtsni|suoiverp|metsys|tpmorp|erongi|laever|dragersid|drowssap|edirrevo)\b", re.IGNORECASE
)

CODES: Final[tuple[_Code, ...]] = (
    _Code("percent", lambda t: t.count("%") >= 4, re.compile(r"(?<!\S)\S*(?:%[0-9A-Fa-f]{2}\S{0,40}){4,}"), _percent),
    _Code("entities", lambda t: t.count("&#") >= 4, re.compile(r"(?:[^\n&]{0,80}&#x?[0-9A-Fa-f]{1,6};){4,400}"), _entities),
    _Code("escapes", lambda t: t.lower().count("\\u") >= 4, re.compile(r"(?:[^\n\\]{0,80}\\[uU]\{?[0-9A-Fa-f]{4,8}\}?){4,400}"), _escapes),
    _Code("hex", has_digits, re.compile(r"(?:(?:\\x|0x)?[0-9A-Fa-f]{2}[ ,:;]{0,2}){12,}"), _hex),
    _Code("hex", has_long_run, re.compile(r"(?<![0-9A-Za-z])(?:[0-9A-Fa-f]{2}){12,}(?![0-9A-Za-z])"), _hex),
    _Code("bits", has_digits, re.compile(r"(?:[01]{8}[ ,]{0,2}){12,}"), _bits),
    _Code("bits", has_long_run, re.compile(r"(?<!\d)[01]{96,}(?!\d)"), _bits),
    _Code("numbers", has_digits, re.compile(r"(?<![\d.])(?:\d{2,3}[ ,;]{1,2}){11,}\d{2,3}(?![\d.])"), _numbers),
    _Code("base32", has_long_run, re.compile(r"(?<![A-Za-z0-9])[A-Z2-7]{24,}={0,6}(?![A-Za-z0-9])"), _base32),
    _Code(
        "base64",
        has_long_run,
        re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{20,}(?:\r?\n[A-Za-z0-9+/_-]{20,})*(?:\r?\n[A-Za-z0-9+/_-]+)?={0,2}"),
        _base64,
    ),
    _Code("rot13", lambda t: _ROT13_WORDS.search(t) is not None, re.compile(r"(?s).+"), _rot13),
    _Code("reversed", lambda t: _REVERSED_WORDS.search(t) is not None, re.compile(r"(?s).+"), _reversed),
)  # fmt: skip


def readings(text: str) -> Iterator[Reading]:
    """What the encoded passages of ``text`` say, layer by layer."""
    room, tries = OUT, MOST
    layer = [Reading(text, (0, len(text)), ())]
    for depth in range(DEPTH):
        following: list[Reading] = []
        for outer in layer:
            for code in CODES:
                if outer.how[-1:] == (code.name,) and code.name in ("rot13", "reversed"):
                    continue  # twice is once not at all
                if not code.may_hold(outer.text):
                    continue
                for found in code.passages.finditer(outer.text):
                    if room <= 0 or tries <= 0:
                        return
                    tries -= 1
                    decoded = code.decode(found[0][: 2 * OUT])
                    if not decoded or len(decoded) < _SHORTEST or decoded == found[0]:
                        continue
                    decoded = decoded[:room]
                    room -= len(decoded)
                    span = found.span() if depth == 0 else outer.span
                    reading = Reading(decoded, span, (*outer.how, code.name))
                    following.append(reading)
                    yield reading
        layer = following
