"""Canaries: values and tools that nobody has a reason to touch, and that tell when somebody does.

A value was put where only somebody who reads what he should not would find it: a row, a page, a password. It is known
here by how it begins, its length and a digest, so that nobody learns it from facts or records. Pure and linear: a text
is hashed only where a value could begin. What is found shows the canary's id, never the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final

from watchfloor.guard.content import Content
from watchfloor.guard.detectors.finding import Finding
from watchfloor.guard.detectors.hit import surfaces_of
from watchfloor.model.activity import Invocation
from watchfloor.model.facts import CanaryFacts
from watchfloor.model.verdicts import Severity, Signal

NAME: Final = "canary"
SHORTEST: Final = 12
"""Characters of a value; a shorter one might stand somewhere by chance."""
LONGEST: Final = 200
_LEAST_DIFFERENT: Final = 6
"""Different characters of a value: ``xxxxxxxxxxxx`` stands in many texts."""
_START: Final = 4
_DIGEST_BYTES: Final = 16
_MOST_TRIES: Final = 10_000
"""Places of one invocation at which a value could begin that are looked at."""
_MOST_FINDINGS: Final = 50
_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def facts_of(canary_id: str, *, tool: str = "", value: str = "") -> CanaryFacts:
    """What gateways are told of a canary. A value has ``SHORTEST`` to ``LONGEST`` characters; the caller has checked."""
    if tool:
        return CanaryFacts(canary_id, tool=tool)
    lowered = _lower(value)
    return CanaryFacts(canary_id, "", lowered[:_START], len(lowered), _digest(lowered))


def problem_of(value: str) -> str:
    """What keeps ``value`` from being a canary's; empty if nothing does."""
    if not SHORTEST <= len(value) <= LONGEST or not value.isprintable():
        return f"must have {SHORTEST} to {LONGEST} characters, all of them printable."
    if len(set(value.translate(_LOWER))) < _LEAST_DIFFERENT:
        return f"must have {_LEAST_DIFFERENT} different characters; this may stand somewhere by chance."
    return ""


def detect(content: Content, canaries: Sequence[CanaryFacts]) -> list[Finding]:
    """Every surface that holds a value of a canary, each canary once a surface."""
    values = [canary for canary in canaries if canary.length]
    if not values:
        return []
    found: list[Finding] = []
    tries = [_MOST_TRIES]
    for shown, text, _, in_arguments in surfaces_of(content):
        lowered = _lower(text) if len(text) >= SHORTEST else ""
        for canary in values:
            span = next(_spans(lowered, canary, tries), None) if lowered else None
            if span is not None:
                found.append(Finding(_signal(canary, shown, span), None, in_arguments))
        if len(found) >= _MOST_FINDINGS or tries[0] <= 0:
            break
    return found


def touched(invocation: Invocation, canaries: Sequence[CanaryFacts]) -> list[Finding]:
    """The canary that the called tool is, if it is one."""
    name = f"{invocation.server_id}/{invocation.tool}"
    return [Finding(_signal(canary, "tool", (0, 0)), None, False) for canary in canaries if canary.tool == name]


def _spans(lowered: str, canary: CanaryFacts, tries: list[int]) -> Iterator[tuple[int, int]]:
    at = lowered.find(canary.start)
    while at >= 0 and at + canary.length <= len(lowered) and tries[0] > 0:
        tries[0] -= 1
        end = at + canary.length
        if _digest(lowered[at:end]) == canary.digest:
            yield at, end
        at = lowered.find(canary.start, at + 1)


def _signal(canary: CanaryFacts, path: str, span: tuple[int, int]) -> Signal:
    return Signal(NAME, NAME, Severity.HIGH, 1.0, path, span, f"canary {canary.id}")


def _lower(text: str) -> str:
    """``text`` with A to Z in lower case, and as long as it was."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
