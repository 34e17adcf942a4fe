"""No regular expression of a detector can be kept busy: each is run over texts made of its own parts, again and again.

The parts are drawn from the expression itself, whole, cut off and spoilt at the end: what nearly matches is what makes an
expression try everything. An expression whose time grows with the square of the text takes seconds here.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import random
import re
import time
from collections.abc import Iterator
from re import _parser  # type: ignore[attr-defined]  # the only way to read an expression as the engine does
from typing import Any

import pytest

from watchfloor.guard import detectors

LENGTH = 20_000
SECONDS = 0.5
_CATEGORIES = {
    "CATEGORY_DIGIT": "1",
    "CATEGORY_SPACE": " ",
    "CATEGORY_WORD": "a",
    "CATEGORY_NOT_DIGIT": "a",
    "CATEGORY_NOT_SPACE": "a",
    "CATEGORY_NOT_WORD": " ",
}


def _patterns() -> dict[str, re.Pattern[str]]:
    found: dict[str, re.Pattern[str]] = {}

    def look_at(value: Any, depth: int) -> None:
        if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
            found.setdefault(value.pattern, value)
        elif isinstance(value, list | tuple | set | frozenset) and depth:
            for item in value:
                look_at(item, depth - 1)
        elif isinstance(value, dict) and depth:
            look_at(list(value.values()), depth)

    for module in pkgutil.iter_modules(detectors.__path__):
        for value in vars(importlib.import_module(f"{detectors.__name__}.{module.name}")).values():
            look_at(value, 5)
    return found


def _one_of(choice: Any, dice: random.Random) -> str:
    members, is_negated = [], False
    for kind, value in choice:
        if str(kind) == "LITERAL":
            members.append(chr(value))
        elif str(kind) == "RANGE":
            members.append(chr(dice.randint(*value)))
        elif str(kind) == "CATEGORY":
            members.append(_CATEGORIES[str(value)])
        elif str(kind) == "NEGATE":
            is_negated = True
    return next(c for c in "aQ1 \n;é" if c not in members) if is_negated else dice.choice(members)


def _sample(tree: Any, dice: random.Random) -> str:
    """A text that ``tree`` is likely to match, or nearly."""
    text = ""
    for kind, value in tree:
        name = str(kind)
        if name == "LITERAL":
            text += chr(value)
        elif name == "NOT_LITERAL":
            text += "b" if value == ord("a") else "a"
        elif name == "ANY":
            text += "a"
        elif name == "IN":
            text += _one_of(value, dice)
        elif name.endswith("REPEAT"):
            least, most, inner = value
            times = dice.choice((least, min(int(most), least + 1), min(int(most), least + 6)))
            text += "".join(_sample(inner, dice) for _ in range(min(times, 40)))
        elif name in ("SUBPATTERN", "ATOMIC_GROUP"):
            text += _sample(value[-1] if name == "SUBPATTERN" else value, dice)
        elif name == "BRANCH":
            text += _sample(dice.choice(value[1]), dice)
    return text


def _texts(pattern: re.Pattern[str]) -> Iterator[str]:
    dice = random.Random(pattern.pattern)
    tree = _parser.parse(pattern.pattern, pattern.flags)
    for _ in range(10):
        sample = _sample(tree, dice)
        if sample:
            cut = sample[: dice.randint(1, len(sample))]
            yield from (sample, cut, f"{cut} ", f"{sample[:-1]}!")
    yield from ("a", "1", " ", "\n", "%", "=", "<")


@pytest.mark.slow
def test_no_pattern_takes_long_over_text_made_of_its_own_parts() -> None:
    patterns = _patterns()
    assert len(patterns) > 200
    slow = {}
    for source, pattern in patterns.items():
        for unit in _texts(pattern):
            text = (unit * (LENGTH // len(unit) + 1))[:LENGTH]
            before = time.process_time()
            for _ in itertools.islice(pattern.finditer(text), LENGTH):
                pass
            took = time.process_time() - before
            if took > SECONDS:
                slow[source] = (took, unit)
                break
    assert not slow
