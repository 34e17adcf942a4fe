"""What a detector of a single text hands back, and the way from there to findings about a whole invocation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from watchfloor.guard.content import Content, Path, show_path
from watchfloor.guard.detectors.finding import Finding
from watchfloor.guard.detectors.text import excerpt
from watchfloor.model.verdicts import Redaction, Severity, Signal

MOST_FINDINGS: Final = 50
"""Findings of one detector in one invocation; for what is beyond, nothing can be replaced."""


class Surface(StrEnum):
    """Where a text stands: who wrote it, and who will read it."""

    USER = "user"
    ARGUMENTS = "arguments"
    RESULT = "result"
    TOOL_DESCRIPTION = "tool_description"
    ANSWER = "answer"


class Hit(NamedTuple):
    """``note`` is for operators and shows nothing of a secret; an empty one is made from the text around ``span``.

    ``decoded`` is what the passage really says; ``is_hidden`` asks for the passage to be blotted out in excerpts,
    ``replacement`` is what could stand in its place.
    """

    category: str
    severity: Severity
    score: float
    span: tuple[int, int]
    note: str
    decoded: str
    replacement: str | None = None
    is_hidden: bool = False


class TextDetector(NamedTuple):
    """``may_hold`` never says no to a text in which ``find`` would find something, and is fast."""

    name: str
    may_hold: Callable[[str], bool]
    find: Callable[[str], list[Hit]]


def signal_of(detector: str, hit: Hit, text: str, path: str, hide: Callable[[str], str]) -> Signal:
    """The signal for ``hit``; ``hide`` masks secrets in what is shown."""
    blotted = [hit.span] if hit.is_hidden else []
    if hit.note and not hit.is_hidden:
        shown = hide(hit.note)
        shown = "".join(c if c.isprintable() else " " for c in shown)[:80]
    else:
        shown = excerpt(text, hit.span, blotted)
        shown = (f"{hit.note}: {shown}" if hit.note else hide(shown))[:80]
    return Signal(detector, hit.category, hit.severity, hit.score, path, hit.span, shown)


def surfaces_of(content: Content) -> Iterator[tuple[str, str, Path | None, bool]]:
    """(shown path, text, path that can be replaced, in the arguments) of each surface."""
    for path, text in content.strings:
        yield show_path(path), text, path, True
    for path, key in content.keys:
        yield f"{show_path(path[:-1])}.(key)", key, None, True
    for index, turn in enumerate(content.user_turns):
        yield f"user_turns[{index}]", turn, None, False


def over(detector: TextDetector, hide: Callable[[str], str], room: int) -> Callable[[Content], list[Finding]]:
    """``detector`` for whole invocations: looks at the first ``room`` characters of each surface, and of all together."""
    name, may_hold, find = detector

    def detect(content: Content) -> list[Finding]:
        if not may_hold(content.joined):
            return []
        findings: list[Finding] = []
        left = room
        for shown, text, path, in_arguments in surfaces_of(content):
            looked_at = text[:left]
            left -= len(looked_at)
            if may_hold(looked_at):
                for hit in find(looked_at):
                    redaction = None
                    if hit.replacement is not None and path is not None and len(findings) < MOST_FINDINGS:
                        redaction = Redaction(path, hit.span, hit.replacement)
                    signal = signal_of(name, hit, looked_at, shown, hide)
                    findings.append(Finding(signal, redaction, in_arguments, hit.decoded))
            if len(findings) > MOST_FINDINGS or left <= 0:
                break
        return findings[: MOST_FINDINGS + 1]

    return detect
