"""The one error of this package: what is wrong with a query, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` to ``end`` of the query."""

    start: int
    end: int

    def to(self, other: Span) -> Span:
        """From here to the end of ``other``."""
        return Span(self.start, other.end)


class KqlError(ValueError):
    """A query that cannot be answered. ``line`` and ``column`` count from 1; ``remedy`` says what to write instead."""

    def __init__(self, message: str, span: Span, *, remedy: str = "") -> None:
        self.message, self.span, self.remedy = message, span, remedy
        self.line = self.column = 0
        super().__init__(message)

    def locate(self, text: str) -> KqlError:
        """This error, knowing its line and column in ``text``."""
        before = text[: self.span.start]
        self.line = before.count("\n") + 1
        self.column = self.span.start - (before.rfind("\n") + 1) + 1
        return self

    @property
    def where(self) -> str:
        """The place in words."""
        return f"line {self.line}, column {self.column}"

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" {self.remedy}" if self.remedy else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy that names the known name closest to ``name``; empty if none is close."""
    by_folded = {k.casefold(): k for k in known}
    found = get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return f"Did you mean {by_folded[found[0]]}?" if found else ""
