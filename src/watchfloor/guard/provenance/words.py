"""How texts are compared: folded alike, found only between borders, addresses and dates recognised in them.

Everything here is linear in its input; patterns start at a literal or are bounded. It knows nothing of conversations.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final


class _Kept(dict[int, int | None]):
    """Which characters stay: those that nobody sees (format, private use, unassigned) do not. Filled as met."""

    def __missing__(self, code: int) -> int | None:
        kept = None if unicodedata.category(chr(code)) in ("Cf", "Co", "Cn", "Cs") else code
        self[code] = kept
        return kept


_KEPT: Final = _Kept()


def fold(text: str) -> str:
    """``text`` for comparing: compatibility forms, invisible characters, case and runs of white space evened out."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_KEPT))
    return " ".join(text.lower().split())


def squeeze(text: str) -> str:
    """Letters and digits of a folded text: for values that people write with other separators, as account numbers."""
    return "".join(filter(str.isalnum, text))


def _joins(text: str, at: int, step: int) -> bool:
    """Whether the character at ``at`` belongs to the same word or address as what ends beside it."""
    if not 0 <= at < len(text):
        return False
    mark = text[at]
    if mark.isalnum() or mark in "_@-":
        return True
    # The dot of zava.example.evil goes on; the one that ends a sentence does not.
    behind = at + step
    return mark == "." and 0 <= behind < len(text) and text[behind].isalnum()


def find(needle: str, text: str, start: int = 0) -> int:
    """Where ``needle`` stands in ``text`` as a word, name or address of its own; -1 if nowhere. Both are folded."""
    if not needle:
        return -1
    at = text.find(needle, start)
    while at >= 0:
        if not _joins(text, at - 1, -1) and not _joins(text, at + len(needle), 1):
            return at
        at = text.find(needle, at + 1)
    return -1


# -- addresses ----------------------------------------------------------------------------------------------------

_POINT: Final = re.compile(
    r"""(?P<url>(?:\b(?:https?|ftps?|wss?|sftp|ssh|git|file)://|\bwww\.)[^\s'"<>)\]}`|]{1,2048})
      | (?P<mail>[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})
      | (?P<iban>\b[A-Z]{2}\d{2}[A-Z0-9]{11,30}\b)
      | (?P<phone>(?<![\w+])\+\d[\d ().-]{6,18}\d)
      | (?P<wallet>\b(?:0x[0-9a-f]{40}|bc1[a-z0-9]{25,60})\b)
      | (?P<link>(?<![\w.@/-])(?:[\w-]{1,63}\.){1,5}[a-z]{2,24}/[^\s'"<>)\]}`|]{1,2048})
    """,
    re.IGNORECASE | re.VERBOSE,
)
_END_MARKS: Final = ".,;:!?*_"
_SCHEME: Final = re.compile(r"^[a-z][a-z0-9+.-]{1,15}://")
_MAY_HOLD_POINT: Final = re.compile(r"@|://|www\.|\d{4}|\+\d|/", re.IGNORECASE)


def points(text: str) -> Iterator[tuple[str, str]]:
    """(kind, value) of each address in ``text`` that something can be sent to: url, mail, iban, phone, wallet."""
    if _MAY_HOLD_POINT.search(text) is None:
        return
    for found in _POINT.finditer(text):
        kind = str(found.lastgroup)
        value = found[0].rstrip(_END_MARKS)
        if kind == "iban" and not found[0].isupper():
            continue
        yield ("url" if kind == "link" else kind), value


def is_point(text: str) -> str:
    """The kind of address that ``text`` is as a whole, or empty."""
    found = _POINT.fullmatch(text.strip())
    if found is None or (found.lastgroup == "iban" and not found[0].isupper()):
        return ""
    return "url" if found.lastgroup == "link" else str(found.lastgroup)


def bare_url(folded: str) -> str:
    """A URL without what makes no difference to where it leads: scheme, ``www.``, a slash at its end."""
    return _SCHEME.sub("", folded).removeprefix("www.").rstrip("/")


# -- dates --------------------------------------------------------------------------------------------------------

_MONTHS: Final = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH: Final = (
    r"\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
    r"(?:uary|ruary|ch|il|e|y|ust|t|tember|ober|ember)?\b\.?"
)
_ISO: Final = re.compile(r"\b\d{4}-(\d\d)-(\d\d)")
_MONTH_FIRST: Final = re.compile(rf"\b{_MONTH} (\d{{1,2}})(?:st|nd|rd|th)?\b")
_DAY_FIRST: Final = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?\.? (?:of )?{_MONTH}\b")


def dates(folded: str) -> frozenset[tuple[int, int]]:
    """(month, day) of each date written out in a folded text. Years are left out as often as not."""
    found = {(int(month), int(day)) for month, day in _ISO.findall(folded)}
    found |= {(_MONTHS.index(month) + 1, int(day)) for month, day in _MONTH_FIRST.findall(folded)}
    found |= {(_MONTHS.index(month) + 1, int(day)) for day, month in _DAY_FIRST.findall(folded)}
    return frozenset(found)
