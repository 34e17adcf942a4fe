"""Sets of characters, as sorted ranges of code points, and the named ones of Unicode.

The tables are those of Python's ``unicodedata``; the scripts are listed here, as the standard library has none.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from functools import cache
from itertools import groupby
from typing import Final

Ranges = tuple[tuple[int, int], ...]

LAST: Final = 0x10FFFF
ALL: Final[Ranges] = ((0, LAST),)
NONE: Final[Ranges] = ()
ASCII: Final[Ranges] = ((0, 0x7F),)
NEWLINE: Final[Ranges] = ((10, 10),)


def union(*sets: Iterable[tuple[int, int]]) -> Ranges:
    """All characters of any."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(pair for ranges in sets for pair in ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def complement(ranges: Ranges) -> Ranges:
    """All other characters."""
    found, start = [], 0
    for low, high in ranges:
        if low > start:
            found.append((start, low - 1))
        start = high + 1
    if start <= LAST:
        found.append((start, LAST))
    return tuple(found)


def intersection(left: Ranges, right: Ranges) -> Ranges:
    """The characters of both."""
    found: list[tuple[int, int]] = []
    at = other = 0
    while at < len(left) and other < len(right):
        low, high = max(left[at][0], right[other][0]), min(left[at][1], right[other][1])
        if low <= high:
            found.append((low, high))
        if left[at][1] < right[other][1]:
            at += 1
        else:
            other += 1
    return tuple(found)


def difference(left: Ranges, right: Ranges) -> Ranges:
    """The characters of ``left`` that are not of ``right``."""
    return intersection(left, complement(right))


def contains(ranges: Ranges, code: int) -> bool:
    """Whether ``code`` is a character of ``ranges``."""
    at = bisect_right(ranges, (code, LAST)) - 1
    return at >= 0 and code <= ranges[at][1]


def of(text: str) -> Ranges:
    """The characters of ``text``."""
    return union((ord(c), ord(c)) for c in text)


# -- letter case ------------------------------------------------------------------------------------------------------


def simple_fold(character: str) -> str:
    """``character`` without letter case, as one character (Unicode's simple case folding)."""
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return folded
    return character


@cache
def _orbits() -> dict[int, Ranges]:
    """Characters that differ by letter case only, for each that has such."""
    groups: dict[str, set[int]] = {}
    for code in range(0x1E944):
        character = chr(code)
        folded = simple_fold(character)
        if folded != character:
            groups.setdefault(folded, {ord(folded)}).add(code)
    return {code: union((c, c) for c in group) for group in groups.values() for code in group}


def without_case(ranges: Ranges) -> Ranges:
    """``ranges`` with every character that differs from one of them by letter case only."""
    if ranges == ALL:
        return ranges
    orbits = _orbits()
    if sum(high - low for low, high in ranges) < len(orbits):
        codes = (code for low, high in ranges for code in range(low, high + 1) if code in orbits)
    else:
        codes = (code for code in orbits if contains(ranges, code))
    return union(ranges, *{orbits[code] for code in codes})


# -- named sets -------------------------------------------------------------------------------------------------------

POSIX: Final[dict[str, Ranges]] = {
    "alnum": ((48, 57), (65, 90), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "ascii": ASCII,
    "blank": of("\t "),
    "cntrl": ((0, 31), (127, 127)),
    "digit": ((48, 57),),
    "graph": ((33, 126),),
    "lower": ((97, 122),),
    "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),),
    "word": ((48, 57), (65, 90), (95, 95), (97, 122)),
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}

WHITE_SPACE: Final[Ranges] = (
    (0x09, 0x0D), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
)  # fmt: skip

_OTHER_ALPHABETIC: Final[Ranges] = ((0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189))
"""Beside letters, letter numbers and marks."""

CATEGORIES: Final[dict[str, str]] = {
    "other": "C", "control": "Cc", "cntrl": "Cc", "format": "Cf", "unassigned": "Cn", "privateuse": "Co",
    "letter": "L", "casedletter": "LC", "lowercaseletter": "Ll", "modifierletter": "Lm", "otherletter": "Lo",
    "titlecaseletter": "Lt", "uppercaseletter": "Lu", "mark": "M", "spacingmark": "Mc", "enclosingmark": "Me",
    "nonspacingmark": "Mn", "number": "N", "decimalnumber": "Nd", "letternumber": "Nl", "othernumber": "No",
    "punctuation": "P", "punct": "P", "connectorpunctuation": "Pc", "dashpunctuation": "Pd",
    "closepunctuation": "Pe", "finalpunctuation": "Pf", "initialpunctuation": "Pi", "otherpunctuation": "Po",
    "openpunctuation": "Ps", "symbol": "S", "currencysymbol": "Sc", "modifiersymbol": "Sk", "mathsymbol": "Sm",
    "othersymbol": "So", "separator": "Z", "lineseparator": "Zl", "paragraphseparator": "Zp", "spaceseparator": "Zs",
}  # fmt: skip
"""Long names, without blanks and hyphens, to short ones."""

_SHORT: Final = {short.lower(): short for short in CATEGORIES.values()}

_SCRIPTS: Final[dict[str, str]] = {
    "arabic": "600-604 606-60B 60D-61A 61C-61E 620-63F 641-64A 656-66F 671-6DC 6DE-6FF 750-77F 870-88E 890-891 898-8E1"
    " 8E3-8FF FB50-FBC2 FBD3-FD3D FD40-FD8F FD92-FDC7 FDCF FDF0-FDFF FE70-FE74 FE76-FEFC 10E60-10E7E 10EFD-10EFF"
    " 1EE00-1EE03 1EE05-1EE1F 1EE21-1EE22 1EE24 1EE27 1EE29-1EE32 1EE34-1EE37 1EE39 1EE3B 1EE42 1EE47 1EE49 1EE4B"
    " 1EE4D-1EE4F 1EE51-1EE52 1EE54 1EE57 1EE59 1EE5B 1EE5D 1EE5F 1EE61-1EE62 1EE64 1EE67-1EE6A 1EE6C-1EE72"
    " 1EE74-1EE77 1EE79-1EE7C 1EE7E 1EE80-1EE89 1EE8B-1EE9B 1EEA1-1EEA3 1EEA5-1EEA9 1EEAB-1EEBB 1EEF0-1EEF1",
    "armenian": "531-556 559-58A 58D-58F FB13-FB17",
    "bengali": "980-983 985-98C 98F-990 993-9A8 9AA-9B0 9B2 9B6-9B9 9BC-9C4 9C7-9C8 9CB-9CE 9D7 9DC-9DD 9DF-9E3"
    " 9E6-9FE",
    "cyrillic": "400-484 487-52F 1C80-1C88 1D2B 1D78 2DE0-2DFF A640-A69F FE2E-FE2F 1E030-1E06D 1E08F",
    "devanagari": "900-950 955-963 966-97F A8E0-A8FF 11B00-11B09",
    "georgian": "10A0-10C5 10C7 10CD 10D0-10FA 10FC-10FF 1C90-1CBA 1CBD-1CBF 2D00-2D25 2D27 2D2D",
    "greek": "370-373 375-377 37A-37D 37F 384 386 388-38A 38C 38E-3A1 3A3-3E1 3F0-3FF 1D26-1D2A 1D5D-1D61 1D66-1D6A"
    " 1DBF 1F00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FC4 1FC6-1FD3"
    " 1FD6-1FDB 1FDD-1FEF 1FF2-1FF4 1FF6-1FFE 2126 AB65 10140-1018E 101A0 1D200-1D245",
    "han": "2E80-2E99 2E9B-2EF3 2F00-2FD5 3005 3007 3021-3029 3038-303B 3400-4DBF 4E00-9FFF F900-FA6D FA70-FAD9"
    " 16FE2-16FE3 16FF0-16FF1 20000-2A6DF 2A700-2B739 2B740-2B81D 2B820-2CEA1 2CEB0-2EBE0 2F800-2FA1D 30000-3134A"
    " 31350-323AF",
    "hangul": "1100-11FF 302E-302F 3131-318E 3200-321E 3260-327E A960-A97C AC00-D7A3 D7B0-D7C6 D7CB-D7FB FFA0-FFBE"
    " FFC2-FFC7 FFCA-FFCF FFD2-FFD7 FFDA-FFDC",
    "hebrew": "591-5C7 5D0-5EA 5EF-5F4 FB1D-FB36 FB38-FB3C FB3E FB40-FB41 FB43-FB44 FB46-FB4F",
    "hiragana": "3041-3096 309D-309F 1B001-1B11F 1B132 1B150-1B152 1F200",
    "katakana": "30A1-30FA 30FD-30FF 31F0-31FF 32D0-32FE 3300-3357 FF66-FF6F FF71-FF9D 1AFF0-1AFF3 1AFF5-1AFFB"
    " 1AFFD-1AFFE 1B000 1B120-1B122 1B155 1B164-1B167",
    "latin": "41-5A 61-7A AA BA C0-D6 D8-F6 F8-2B8 2E0-2E4 1D00-1D25 1D2C-1D5C 1D62-1D65 1D6B-1D77 1D79-1DBE 1E00-1EFF"
    " 2071 207F 2090-209C 212A-212B 2132 214E 2160-2188 2C60-2C7F A722-A787 A78B-A7CA A7D0-A7D1 A7D3 A7D5-A7D9"
    " A7F2-A7FF AB30-AB5A AB5C-AB64 AB66-AB69 FB00-FB06 FF21-FF3A FF41-FF5A 10780-10785 10787-107B0 107B2-107BA"
    " 1DF00-1DF1E 1DF25-1DF2A",
    "tamil": "B82-B83 B85-B8A B8E-B90 B92-B95 B99-B9A B9C B9E-B9F BA3-BA4 BA8-BAA BAE-BB9 BBE-BC2 BC6-BC8 BCA-BCD BD0"
    " BD7 BE6-BFA 11FC0-11FF1 11FFF",
    "thai": "E01-E3A E40-E5B",
}


_PROPERTIES: Final[dict[str, Ranges]] = {
    "any": ALL,
    "ascii": ASCII,
    "whitespace": WHITE_SPACE,
    "space": WHITE_SPACE,
    "joincontrol": ((0x200C, 0x200D),),
}


_SCANNED: Final = ((0, 0x33FFF), (0xE0000, 0xE0FFF))
"""Where single characters are looked at; every other plane is of one category, and its last two are no characters."""


@cache
def _all_categories() -> dict[str, Ranges]:
    found: dict[str, list[tuple[int, int]]] = {
        "Cn": [(0x34000, 0xDFFFF), (0xE1000, 0xEFFFF), (0xFFFFE, 0xFFFFF), (0x10FFFE, 0x10FFFF)],
        "Co": [(0xF0000, 0xFFFFD), (0x100000, 0x10FFFD)],
    }
    for first, last in _SCANNED:
        start = first
        for name, run in groupby(map(unicodedata.category, map(chr, range(first, last + 1)))):
            end = start + sum(1 for _ in run)
            found.setdefault(name, []).append((start, end - 1))
            start = end
    return {name: union(ranges) for name, ranges in found.items()}


@cache
def category(name: str) -> Ranges:
    """The characters of a general category by its short name: ``L``, ``Lu``, ``LC``."""
    if name == "LC":
        return union(category("Lu"), category("Ll"), category("Lt"))
    return union(*(ranges for short, ranges in _all_categories().items() if short.startswith(name)))


@cache
def word() -> Ranges:
    r"""What ``\w`` means: alphabetic characters, marks, digits, connecting punctuation and the two joiners."""
    categories = (category(name) for name in ("L", "Nl", "M", "Nd", "Pc"))
    return union(*categories, _OTHER_ALPHABETIC, ((0x200C, 0x200D),))


@cache
def named(name: str) -> Ranges | None:
    r"""What ``\p{name}`` means: a general category, a script or one of a few properties; None if it is none of them."""
    key = name.lower().replace(" ", "").replace("_", "").replace("-", "")
    for prefix in ("gc=", "generalcategory=", "sc=", "script=", "scx=", "scriptextensions="):
        key = key.removeprefix(prefix)
    if short := CATEGORIES.get(key) or _SHORT.get(key):
        return category(short)
    if key in _SCRIPTS:
        pairs = (part.split("-") for part in _SCRIPTS[key].split())
        return tuple((int(pair[0], 16), int(pair[-1], 16)) for pair in pairs)
    return _PROPERTIES.get(key)
