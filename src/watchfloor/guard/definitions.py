"""Is a tool's definition poisoned? What it says of itself, read as the model will read it.

``inspect`` looks at every text of a definition that reaches a model: names and descriptions, of the tool and of each
parameter, defaults and choices. The registry asks before a definition is approved, the gateway before an unapproved one
is shown. Pure, bounded, and remembered by the definition's hash, because lists of tools come again and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from watchfloor.guard.detectors import tool_poisoning
from watchfloor.guard.detectors.hit import signal_of
from watchfloor.guard.detectors.secrets import mask
from watchfloor.model.pins import pinned_definition
from watchfloor.model.verdicts import Severity, Signal

_MOST_TEXT: Final = 65_536
_MOST_TEXTS: Final = 2_000
_DEPTH: Final = 24
_SHORTEST: Final = 12
"""Characters: no order is shorter."""
_MOST_SIGNALS: Final = 10


def inspect(definition: Mapping[str, Any]) -> tuple[Signal, ...]:
    """What does not belong into a definition, by its place; empty for an honest one. Never raises on parsed JSON.

    A definition that is too large or too deep to be read completely is one signal itself.
    """
    try:
        return _inspect(orjson.dumps(pinned_definition(definition), option=orjson.OPT_SORT_KEYS))
    except (TypeError, RecursionError):
        return (_too_much(),)


@lru_cache(maxsize=1024)
def _inspect(raw: bytes) -> tuple[Signal, ...]:
    found: list[Signal] = []
    room = _MOST_TEXT
    for count, (path, text) in enumerate(_texts(orjson.loads(raw), "", _DEPTH)):
        room -= len(text)
        if room < 0 or count >= _MOST_TEXTS:
            found.append(_too_much())
            break
        found += [signal_of(tool_poisoning.NAME, hit, text, path, mask) for hit in tool_poisoning.find(text)]
    found.sort(key=lambda signal: (-signal.severity.rank, -signal.score, signal.path, signal.span))
    return tuple(found[:_MOST_SIGNALS])


def _texts(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth < 0:
        raise RecursionError
    if isinstance(value, str):
        if len(value) >= _SHORTEST:
            yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            here = f"{path}.{key}" if path else key
            if len(key) >= 3 * _SHORTEST:
                yield f"{path}.(key)", key
            yield from _texts(item, here[:200], depth - 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]", depth - 1)


def _too_much() -> Signal:
    excerpt = "the definition is too large or too deep to be read"
    return Signal(tool_poisoning.NAME, tool_poisoning.NAME, Severity.MEDIUM, 0.5, "definition", (0, 0), excerpt)
