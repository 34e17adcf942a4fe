"""What an invocation says: its arguments and the user's words, read once, within bounds.

``examine`` walks the arguments a single time and gives detectors their surfaces and CEL a plain copy-free view. What
is not JSON, or is too deep, too many or too long to be looked at completely, is ``Unreadable``: a guard that cannot see
a call does not let it pass. It knows nothing of policies or verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

UNREADABLE_KEY: Final = "dev.watchfloor/unreadable"
"""Stands in records for arguments that could not be examined; arguments that carry it are unreadable themselves."""

Path = tuple[str | int, ...]
"""Keys and indexes below the arguments."""

USER_TEXT: Final = 65_536
"""Characters of the user's words that are looked at, counted from the newest: older turns were looked at before."""

_INT64: Final = 2**63
_UINT64: Final = 2**64


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a call the guard is prepared to look at, so that no call keeps a worker busy for long.

    ``depth`` counts nested lists and objects, ``values`` every key, string, number and container, ``text`` the
    characters of all strings and keys together.
    """

    depth: int = 32
    values: int = 10_000
    text: int = 1_048_576


class Unreadable(Exception):
    """The arguments cannot be examined completely. ``str(error)`` says why; it is one of ``UNREADABLE``."""


_NOT_JSON: Final = "they hold a value that is not JSON"
_NOT_TEXT: Final = "a string is not valid Unicode"
_TOO_LARGE: Final = "a whole number has more than 64 bits"
_TOO_DEEP: Final = "they are nested too deeply"
_TOO_MANY: Final = "they hold too many values"
_TOO_LONG: Final = "they hold too much text"
_NOT_RECORDED: Final = "they were not recorded"
UNREADABLE: Final = (_NOT_JSON, _NOT_TEXT, _TOO_LARGE, _TOO_DEEP, _TOO_MANY, _TOO_LONG, _NOT_RECORDED)
"""Every reason why arguments cannot be examined: fixed texts, because they stand in records in the arguments' place."""


class Content:
    """The surfaces of one invocation.

    ``strings`` are the string values with their paths in canonical order (keys sorted), ``keys`` the object keys that
    are long enough to hide something, ``user_turns`` the user's words, ``arguments`` what CEL sees: plain dictionaries
    and lists, whole numbers beyond 64 bits signed as floats.
    """

    __slots__ = ("_joined", "arguments", "items", "keys", "numbers", "strings", "user_turns")

    def __init__(
        self,
        arguments: dict[str, Any],
        strings: list[tuple[Path, str]],
        keys: list[tuple[Path, str]],
        numbers: list[tuple[Path, float]],
        user_turns: tuple[str, ...],
        items: int,
    ) -> None:
        self.arguments = arguments
        self.strings = strings
        self.keys = keys
        self.numbers = numbers
        self.user_turns = user_turns
        self.items = items
        """Members of all objects and lists together."""
        self._joined: str | None = None

    @property
    def longest(self) -> int:
        """Characters of the longest string."""
        return max(max([len(text) for _, text in self.strings], default=0), *map(len, self.user_turns), 0)

    @property
    def joined(self) -> str:
        """Every surface in one text, a line each: enough to rule out what is nowhere."""
        if self._joined is None:
            surfaces = [text for _, text in self.strings]
            surfaces += [key for _, key in self.keys]
            surfaces += self.user_turns
            self._joined = "\n".join(surfaces)
        return self._joined


LONG_KEY: Final = 16
"""Object keys from this length on are surfaces: nothing dangerous fits into less."""


class _Walk:
    __slots__ = ("keys", "limits", "needs_copy", "numbers", "strings", "text", "values")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.strings: list[tuple[Path, str]] = []
        self.keys: list[tuple[Path, str]] = []
        self.numbers: list[tuple[Path, float]] = []
        self.values = 0
        self.text = 0
        self.needs_copy = False

    def visit(self, value: Any, path: Path, room: int) -> None:
        """Take in ``value``, which is no plain string: those are most of all values, and taken in by their holders."""
        kind = type(value)
        if kind is bool or value is None:
            return
        if kind is int or kind is float:
            self._number(value, path)
        elif kind is dict or isinstance(value, Mapping):  # asking an ABC costs several times as much
            self._mapping(value, path, room - 1)
        elif isinstance(value, list | tuple):
            self._list(value, path, room - 1)
        elif isinstance(value, str):
            # A subclass may answer differently each time it is asked; what is examined must be what is sent.
            self.needs_copy = True
            text = str.__str__(value)
            text.encode()
            self.strings.append((path, text))
            self.text += len(text)
        else:
            raise Unreadable(_NOT_JSON)

    def _list(self, value: list[Any] | tuple[Any, ...], path: Path, room: int) -> None:
        if type(value) is not list:
            self.needs_copy = True
        self._count(len(value), room)
        for index, item in enumerate(value):
            if type(item) is str:
                if not item.isascii():
                    item.encode()  # half a surrogate pair is not text: no two readers agree on what it means
                self.strings.append(((*path, index), item))
                self.text += len(item)
            else:
                self.visit(item, (*path, index), room)

    def _mapping(self, value: Mapping[Any, Any], path: Path, room: int) -> None:
        if type(value) is not dict:
            self.needs_copy = True
        self._count(len(value), room)
        # INVARIANT: a decision does not depend on the order of keys, so that a record may store them in any order.
        for key in sorted(value):
            if type(key) is not str:
                raise Unreadable(_NOT_JSON)
            size = len(key)
            self.text += size
            if not key.isascii():
                key.encode()
            if size >= LONG_KEY:
                if key == UNREADABLE_KEY:
                    recorded = value[key]
                    raise Unreadable(recorded if recorded in UNREADABLE else _NOT_RECORDED)
                self.keys.append(((*path, key), key))
            item = value[key]
            if type(item) is str:
                if not item.isascii():
                    item.encode()
                self.strings.append(((*path, key), item))
                self.text += len(item)
            else:
                self.visit(item, (*path, key), room)
        if self.text > self.limits.text:
            raise Unreadable(_TOO_LONG)

    def _count(self, items: int, room: int) -> None:
        self.values += items
        if self.values > self.limits.values:
            raise Unreadable(_TOO_MANY)
        if room < 0:
            raise Unreadable(_TOO_DEEP)

    def _number(self, value: Any, path: Path) -> None:
        if isinstance(value, float):
            if not math.isfinite(value):
                raise Unreadable(_NOT_JSON)
        elif not -_INT64 <= value < _INT64:
            if value >= _UINT64 or value < -_INT64:
                raise Unreadable(_TOO_LARGE)
            self.needs_copy = True
        self.numbers.append((path, value))


def examine(arguments: Any, user_turns: tuple[str, ...], limits: Limits) -> Content:
    """Everything that can be read of an invocation. Raises ``Unreadable`` where that is not everything there is."""
    if type(arguments) is not dict and not isinstance(arguments, Mapping):
        raise Unreadable(_NOT_JSON)
    walk = _Walk(limits)
    try:
        walk.visit(arguments, (), limits.depth)
    except UnicodeEncodeError:
        raise Unreadable(_NOT_TEXT) from None
    except TypeError:  # keys of several types have no order
        raise Unreadable(_NOT_JSON) from None
    if walk.text > limits.text:
        raise Unreadable(_TOO_LONG)
    if len(walk.keys) > 1:
        walk.keys.sort(key=lambda found: [str(part) for part in found[0]])
    plain: Any = _plain(arguments) if walk.needs_copy else arguments
    return Content(plain, walk.strings, walk.keys, walk.numbers, _newest(user_turns), walk.values)


def _newest(turns: tuple[str, ...]) -> tuple[str, ...]:
    """The newest turns that fit into ``USER_TEXT``, oldest first, as valid Unicode."""
    kept: list[str] = []
    room = USER_TEXT
    for turn in reversed(turns):
        turn = turn[-room:]
        if not turn.isascii():
            turn = turn.encode("utf-8", "replace").decode()
        kept.append(turn)
        room -= len(turn)
        if room <= 0:
            break
    kept.reverse()
    return tuple(kept)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool) and not -_INT64 <= value < _INT64:
        return float(value)
    return value


def show_path(path: Path, root: str = "arguments") -> str:
    """``path`` as people read it: ``arguments.to[0]``, ``arguments["odd key"]``."""
    text = root
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier():
            text += f".{part}"
        else:
            text += f"[{part!r}]"
    return text
