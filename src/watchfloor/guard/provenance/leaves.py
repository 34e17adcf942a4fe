"""A tool's result taken apart: every value with its path, and whether it is a record field or running text.

Records are what tools build, running text is what people write: only a short value that is the whole of a field counts
as ``FIELD``. Text without structure is ``FREE``; a line ``key: value`` in it is a ``LINE``, good enough to know an id
from and never an address, for whoever writes the text writes such lines as well. Nothing here knows what is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from watchfloor.guard.content import Path

FIELD_CHARACTERS: Final = 64
FIELD_WORDS: Final = 6
_DEPTH: Final = 32
_KEY_CHARACTERS: Final = 40


class LeafKind(StrEnum):
    """What a leaf is; see the module."""

    FIELD = "field"
    LINE = "line"
    FREE = "free"


class Leaf(NamedTuple):
    """One value of a result, as it stands there."""

    path: Path
    value: str
    kind: LeafKind


def leaves(value: Any, path: Path = (), depth: int = _DEPTH) -> Iterator[Leaf]:
    """Every leaf of a JSON value; strings that hold JSON are taken apart as well. Below ``depth`` all is free text."""
    if isinstance(value, str):
        yield from _text(value, path, depth)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int | float):
        yield Leaf(path, str(value), LeafKind.FIELD)
    elif depth <= 0:
        yield Leaf(path, orjson.dumps(value, default=str).decode(), LeafKind.FREE)
    elif type(value) is dict or isinstance(value, Mapping):
        for key, item in value.items():
            # A key may be data as well, as in {"ann": {...}}; running text it may be just the same.
            yield Leaf((*path, str(key)), str(key), _kind(str(key)))
            yield from leaves(item, (*path, str(key)), depth - 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index), depth - 1)


def _kind(text: str) -> LeafKind:
    is_short = len(text) <= FIELD_CHARACTERS and "\n" not in text and len(text.split()) <= FIELD_WORDS
    return LeafKind.FIELD if is_short else LeafKind.FREE


def _text(text: str, path: Path, depth: int) -> Iterator[Leaf]:
    stripped = text.strip()
    if not stripped:
        return
    if stripped[0] in "{[" and stripped[-1] in "}]":
        try:
            yield from leaves(orjson.loads(stripped), path, depth - 1)
            return
        except orjson.JSONDecodeError:
            pass
    kind = _kind(stripped)
    yield Leaf(path, text, kind)
    if kind is LeafKind.FREE and "\n" in stripped:
        yield from _lines(stripped, path)


def _lines(text: str, path: Path) -> Iterator[Leaf]:
    """``key: value`` and ``- value`` lines of a text, as YAML and plain listings have them."""
    for line in text.split("\n"):
        bare = line.strip().removeprefix("- ").strip()
        if not bare or len(bare) > FIELD_CHARACTERS + _KEY_CHARACTERS:
            continue
        key, separator, value = bare.partition(": ")
        if not separator:
            if line.strip().startswith("- ") and _kind(bare) is LeafKind.FIELD:
                yield Leaf(path, bare.strip("'\""), LeafKind.LINE)
            continue
        value = value.strip().strip("'\"")
        if len(key) <= _KEY_CHARACTERS and value and _kind(value) is LeafKind.FIELD:
            yield Leaf((*path, key), value, LeafKind.LINE)
