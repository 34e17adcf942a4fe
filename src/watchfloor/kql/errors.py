"""The one error of this package: what is wrong with a query, where, and what to write instead.

A query is read to its end whatever is wrong with it, so an error may bring others with it: the first in the text is
the one that is raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final, Literal, NoReturn

from watchfloor.kql.records import dataclass

Kind = Literal["syntax", "semantic", "unsupported", "limit"]
"""``syntax``: not KQL. ``semantic``: KQL without meaning here. ``unsupported``: KQL that is not answered. ``limit``:
too much of it."""

MAX_ERRORS: Final = 50
"""How many errors of one query are told; reading stops there."""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` to ``end`` of the query."""

    start: int
    end: int

    def to(self, other: Span) -> Span:
        """From here to the end of ``other``."""
        return Span(self.start, other.end)


class KqlError(ValueError):
    """A query that cannot be answered. ``line`` and ``column`` count from 1 and are 0 until ``locate``; ``remedy`` says
    what to write instead; ``others`` are the further errors of the same query, in the order of the text."""

    def __init__(self, message: str, span: Span, *, remedy: str = "", kind: Kind = "semantic") -> None:
        self.message, self.span, self.remedy, self.kind = message, span, remedy, kind
        self.line = self.column = 0
        self.others: tuple[KqlError, ...] = ()
        super().__init__(message)

    def locate(self, text: str) -> KqlError:
        """This error and the others, knowing their lines and columns in ``text``."""
        for error in (self, *self.others):
            before = text[: error.span.start]
            error.line = before.count("\n") + 1
            error.column = error.span.start - (before.rfind("\n") + 1) + 1
        return self

    @property
    def where(self) -> str:
        """The place in words."""
        return f"line {self.line}, column {self.column}"

    def snippet(self, text: str) -> str:
        """The line of ``text`` where the error is, and a second line with carets under the place."""
        start = min(self.span.start, len(text))
        first = text.rfind("\n", 0, start) + 1
        last = text.find("\n", start)
        line = text[first : last if last >= 0 else len(text)].rstrip("\r")
        width = max(1, min(self.span.end - start, len(line) - (start - first)))
        indent = "".join("\t" if sign == "\t" else " " for sign in text[first:start])
        return f"{line}\n{indent}{'^' * width}"

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" {self.remedy}" if self.remedy else "")


def unsupported(message: str, span: Span, *, remedy: str = "") -> KqlError:
    """A refusal of something that is KQL."""
    return KqlError(message, span, remedy=remedy, kind="unsupported")


def raise_all(errors: Sequence[KqlError], text: str) -> NoReturn:
    """Raise the first of ``errors`` in the order of the text, with the rest as its others. ``errors`` is not empty."""
    first, *others = sorted(errors, key=lambda error: (error.span.start, error.span.end))
    first.others = tuple(others)
    raise first.locate(text)


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy that names the known name closest to ``name``; empty if none is close."""
    if len(name) > 100:
        return ""
    by_folded = {k.casefold(): k for k in known}
    found = get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return f"Did you mean {by_folded[found[0]]}?" if found else ""
