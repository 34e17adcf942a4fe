"""What is wrong with a manifest, all of it at once, with place, line and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from watchfloor.model.errors import InputError


@dataclass(frozen=True, slots=True)
class Problem:
    """``where`` is the place (``agents[3].tools[0].server``), ``line`` counts from 1 (0: not known)."""

    where: str
    message: str
    remedy: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = self.where + (f" (line {self.line})" if self.line else "")
        return f"{place}: {self.message}" + (f" {self.remedy}" if self.remedy else "")

    def to_json(self) -> dict[str, Any]:
        """For the API."""
        return {"where": self.where, "line": self.line, "message": self.message, "remedy": self.remedy}


class ManifestInvalid(InputError):
    """The manifest cannot be applied. ``problems`` are in the order of the file; ``str`` lists them, one a line."""

    code = "invalid_manifest"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: p.line))
        if len(self.problems) == 1:
            only = self.problems[0]
            super().__init__(only.message, where=str(only).partition(": ")[0], remedy=only.remedy)
        else:
            lines = "\n".join(f"  {problem}" for problem in self.problems)
            super().__init__(f"{len(self.problems)} problems:\n{lines}", where="manifest")


@dataclass(slots=True)
class Problems:
    """Collects problems; ``lines`` knows on which line a place stands."""

    lines: dict[str, int] = field(default_factory=dict)
    found: list[Problem] = field(default_factory=list)

    def add(self, where: str, message: str, remedy: str = "", line: int = 0) -> None:
        """Note a problem; its line is looked up unless given."""
        self.found.append(Problem(where, message, remedy, line or self.line_of(where)))

    def line_of(self, where: str) -> int:
        """The line of ``where``, or of the nearest thing around it."""
        while where:
            if where in self.lines:
                return self.lines[where]
            cut = max(where.rfind("."), where.rfind("["))
            where = where[:cut] if cut > 0 else ""
        return self.lines.get("", 0)

    def raise_if_any(self) -> None:
        """Raises ``ManifestInvalid`` if something was noted."""
        if self.found:
            raise ManifestInvalid(self.found)


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """``Did you mean 'x'?`` or the few names there are, or nothing."""
    names = sorted(known)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"There is: {', '.join(names)}." if 0 < len(names) <= 8 else ""
