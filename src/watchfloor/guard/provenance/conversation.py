"""What was said and read so far: the user's words and the tools' results, indexed once, asked at every call.

The gateway keeps one ``Conversation`` for each conversation and feeds it in order; ``trace.py`` asks it. It is bounded:
what does not fit is not kept, and from then on ``is_partial`` says so, and a value that is found nowhere counts as
``UNSEEN``, which is never better than running text. So forgetting can only tighten a decision.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from watchfloor.guard.content import Path, show_path
from watchfloor.guard.provenance.directory import Directory
from watchfloor.guard.provenance.labels import Label
from watchfloor.guard.provenance.leaves import Leaf, LeafKind, leaves
from watchfloor.guard.provenance.words import bare_url, dates, find, fold, squeeze

TOLD_AGAIN: Final = "res_"
"""What the invocation of a result begins with that is named by its content, because its door tells it with every call:
however often it is read, it is one."""

_SEPARATOR: Final = "\x00"
_SQUEEZED: Final = 8
"""From this length on a value with digits is also looked for without its separators."""
_NAMING: Final = 4
"""Characters from which on an argument that the user said names what the call reads."""
_EXCERPT: Final = 80
_LOST_SPACE: Final = re.compile(r"\.(?=[A-Z][a-z]{1,20}\s)")
"""Where a sentence of the user ends and the next begins without a space: not the dot of an address."""


_NEWEST: Final = 16
_NEWEST_TEXT: Final = 32_768


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of one conversation is kept: results, their leaves and characters; the user's turns and characters."""

    results: int = 400
    leaves: int = 20_000
    text: int = 1_048_576
    turns: int = 200
    turn_text: int = 131_072


@dataclass(frozen=True, slots=True)
class ToolResult:
    """One result as it passed. ``is_named``: the user asked for it by name (``Conversation.names``).

    ``trusted_fields`` are patterns of field names that an administrator vouches for: nobody outside can write them.
    """

    invocation: str
    server: str
    tool: str
    value: Any
    is_named: bool = False
    trusted_fields: tuple[str, ...] = ()


class Origin(NamedTuple):
    """Where a value was found, the whole way: ``source`` is ``user_turns``, ``directory`` or the tool's result."""

    source: str
    invocation: str = ""
    path: str = ""
    excerpt: str = ""


class Source(NamedTuple):
    """A leaf that a value was found in."""

    result: ToolResult
    path: Path
    text: str

    def origin(self, folded: str) -> Origin:
        """Its place, with at most 80 characters around the folded value."""
        at = find(folded, fold(self.text)) if len(self.text) > _EXCERPT else 0
        start = max(0, at - 20)
        excerpt = " ".join(self.text[start : start + _EXCERPT].split())
        result = self.result
        return Origin(f"{result.server}/{result.tool}", result.invocation, show_path(self.path, "result"), excerpt)


class _Texts:
    """Running texts, searched as one."""

    __slots__ = ("_joined", "_sources", "_starts", "_waiting")

    def __init__(self) -> None:
        self._joined = ""
        self._waiting: list[str] = []
        self._starts: list[int] = []
        self._sources: list[Source] = []

    def add(self, folded: str, source: Source) -> None:
        self._waiting.append(folded)
        self._sources.append(source)

    @property
    def sources(self) -> list[Source]:
        """The texts as they stand, oldest first."""
        return self._sources

    def find(self, folded: str) -> Source | None:
        if self._waiting:
            at = len(self._joined)
            for text in self._waiting:
                self._starts.append(at)
                at += len(text) + 1
            self._joined += _SEPARATOR.join([*self._waiting, ""])
            self._waiting.clear()
        at = find(folded, self._joined)
        return None if at < 0 else self._sources[bisect_right(self._starts, at) - 1]


class Conversation:
    """One conversation between a user and an agent, as far as this gateway saw it."""

    __slots__ = (
        "_bounds",
        "_dates",
        "_expected",
        "_fields",
        "_free",
        "_heard",
        "_leaves",
        "_lines",
        "_lost",
        "_named",
        "_pending",
        "_results",
        "_short",
        "_squeezed",
        "_text",
        "_trusted",
        "_turn_text",
        "_turns",
        "_user",
        "_waiting",
    )

    def __init__(self, bounds: Bounds = Bounds()) -> None:
        self._bounds = bounds
        self._turns: dict[str, None] = {}
        self._user = self._squeezed = ""
        self._turn_text = 0
        self._dates: frozenset[tuple[int, int]] = frozenset()
        self._fields: dict[str, Source] = {}
        self._lines: dict[str, Source] = {}
        self._trusted: dict[str, Source] = {}
        self._free, self._named, self._short = _Texts(), _Texts(), _Texts()
        self._pending: list[ToolResult] = []
        self._results = self._leaves = self._text = self._waiting = 0
        self._lost = False
        self._expected: set[str] = set()
        self._heard: set[str] = set()

    # -- what was said and read -----------------------------------------------------------------------------------

    def say(self, turns: Iterable[str]) -> list[str]:
        """Take in the user's words; those that are new. Words that do not fit leave values without origin, no more."""
        new = []
        for turn in turns:
            if turn in self._turns:
                continue
            folded = fold(_LOST_SPACE.sub(". ", turn))
            self._dates |= dates(folded)  # they only ever tighten, so none is forgotten
            if len(self._turns) >= self._bounds.turns or self._turn_text + len(turn) > self._bounds.turn_text:
                continue
            self._turns[turn] = None
            self._turn_text += len(turn)
            new.append(turn)
            self._user += folded + _SEPARATOR
            self._squeezed += squeeze(folded) + _SEPARATOR
        return new

    def read(self, result: ToolResult) -> None:
        """Take in a tool's result. It is indexed when the next call asks."""
        self._expected.discard(result.invocation)
        if result.invocation in self._heard:
            return
        if result.invocation.startswith(TOLD_AGAIN):
            self._heard.add(result.invocation)
        if self._results >= self._bounds.results:
            self._lost = True
            return
        self._results += 1
        self._pending.append(result)
        self._waiting += _weight(result.value)

    def expect(self, invocation: str) -> None:
        """A result is on its way to the agent, and is not known here before ``read``."""
        self._expected.add(invocation)

    def has_heard(self, invocation: str) -> bool:
        """Whether a result that is named by its content was read."""
        return invocation in self._heard

    def forget(self) -> None:
        """Something was read that is not known here."""
        self._lost = True

    @property
    def is_partial(self) -> bool:
        """Whether something that was read is not known here."""
        return self._lost or bool(self._expected)

    # -- what is asked --------------------------------------------------------------------------------------------

    @property
    def knows_user(self) -> bool:
        """Whether any of the user's words are known."""
        return bool(self._turns)

    @property
    def newest_turns(self) -> tuple[str, ...]:
        """What the user said last, oldest first: so many turns and characters as detectors can look at."""
        newest: list[str] = []
        room = _NEWEST_TEXT
        for turn in reversed(self._turns):
            room -= len(turn)
            if len(newest) >= _NEWEST or (room < 0 and newest):
                break
            newest.append(turn)
        return tuple(reversed(newest))

    @property
    def has_read(self) -> bool:
        """Whether any result is known, or was lost."""
        return self._results > 0 or self.is_partial

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        return 4_000 + 4 * (self._text + self._turn_text) + 300 * self._leaves + self._waiting

    @property
    def turns(self) -> tuple[str, ...]:
        """The user's turns that are kept, oldest first."""
        return tuple(self._turns)

    def texts(self) -> tuple[Source, ...]:
        """The running texts that were read, newest first; those that the user asked for by name behind the others."""
        self._index()
        return (*reversed(self._free.sources), *reversed(self._named.sources))

    @property
    def named_dates(self) -> frozenset[tuple[int, int]]:
        """(month, day) of the dates that the user wrote out."""
        return self._dates

    def user_says(self, folded: str) -> bool:
        """Whether the user named this value."""
        if find(folded, self._user) >= 0:
            return True
        if len(folded) < _SQUEEZED or "@" in folded or not any(map(str.isdigit, folded)):
            return False
        bare = squeeze(folded)
        return len(bare) >= _SQUEEZED and not bare.isalpha() and bare in self._squeezed

    def user_says_url(self, folded: str) -> bool:
        """Whether the user named this URL, however it was written."""
        return find(bare_url(folded), self._user) >= 0

    def speaks(self, pattern: Any) -> bool:
        """Whether a compiled pattern occurs in the user's words."""
        return pattern.search(self._user) is not None

    def names(self, arguments: Mapping[str, Any]) -> bool:
        """Whether the user named what a call with these arguments reads: a file, a page, a record."""
        if not self._turns:
            return False
        for leaf in leaves(arguments):
            if leaf.path and leaf.value == leaf.path[-1]:
                continue  # a key
            folded = fold(leaf.value)
            if len(folded) >= _NAMING and (self.user_says(folded) or self.user_says_url(folded)):
                return True
        return False

    def label(self, folded: str, directory: Directory, *, lines_count: bool = False) -> tuple[Label, Source | None]:
        """The most trusted place where the folded value stands. ``lines_count``: lines of plain text are fields too."""
        if self.user_says(folded):
            return Label.USER, None
        if directory.knows(folded):
            return Label.DIRECTORY, None
        # Only now: most honest calls name what the user named, and need nothing of what tools answered.
        self._index()
        if folded in self._trusted:
            return Label.DIRECTORY, None
        source = self._fields.get(folded) or (self._lines.get(folded) if lines_count else None)
        if source is not None:
            return Label.FIELD, source
        source = self._free.find(folded)
        if source is not None:
            return Label.FREE, source
        source = self._named.find(folded)
        if source is not None:
            return (Label.FREE if self.is_partial else Label.NAMED), source
        if not self.knows_user and not self.is_partial and (source := self._short.find(folded)) is not None:
            # A value of no known origin would be taken for the user's: not one that somebody has put into a short line.
            return Label.FREE, source
        return (Label.UNSEEN if self.is_partial else Label.NONE), None

    def label_url(self, folded: str, directory: Directory) -> tuple[Label, Source | None]:
        """``label`` for a URL, which may be written with or without scheme and ``www.``."""
        if self.user_says_url(folded):
            return Label.USER, None
        label, origin = self.label(folded, directory)
        if label in (Label.NONE, Label.UNSEEN, Label.FREE, Label.NAMED):
            bare = bare_url(folded)
            for written in (bare, "www." + bare, "https://" + bare, "http://" + bare, bare + "/"):
                if written != folded and (source := self._fields.get(written)) is not None:
                    return Label.FIELD, source
            if label in (Label.NONE, Label.UNSEEN) and bare != folded:
                # Found only after what makes no difference is taken off: less than a whole value, so never a field.
                loose, where = self.label(bare, directory)
                if loose in (Label.FREE, Label.NAMED):
                    return loose, where
        return label, origin

    # -- indexing -------------------------------------------------------------------------------------------------

    def _index(self) -> None:
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        self._waiting = 0
        for result in pending:
            for leaf in leaves(result.value):
                if self._leaves >= self._bounds.leaves or self._text + len(leaf.value) > self._bounds.text:
                    self._lost = True
                    break
                self._leaves += 1
                self._text += len(leaf.value)
                self._keep(leaf, result)

    def _keep(self, leaf: Leaf, result: ToolResult) -> None:
        folded = fold(leaf.value)
        if not folded:
            return
        source = Source(result, leaf.path, leaf.value)
        if leaf.kind is LeafKind.FIELD:
            if _is_trusted(leaf, result):
                self._trusted.setdefault(folded, source)
            elif not folded.isalnum():
                self._short.add(folded, source)
            self._fields.setdefault(folded, source)
        elif leaf.kind is LeafKind.LINE:
            self._lines.setdefault(folded, source)
        else:
            (self._named if result.is_named else self._free).add(folded, source)


def _is_trusted(leaf: Leaf, result: ToolResult) -> bool:
    """Whether an administrator vouches for the field that ``leaf`` stands in."""
    if not result.trusted_fields:
        return False
    name = next((part for part in reversed(leaf.path) if isinstance(part, str)), "")
    return any(fnmatchcase(name, pattern) for pattern in result.trusted_fields)


def _weight(value: Any) -> int:
    """About how many bytes a result takes before it is indexed; exact where texts make it large."""
    if isinstance(value, str):
        return 100 + len(value)
    if isinstance(value, list):
        return 100 + sum(map(_weight, value))
    return 1_000
