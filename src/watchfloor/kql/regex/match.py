"""Finding what a regular expression matches, and saying it in the syntax of RE2.

A search prefers what Perl, RE2 and Rust prefer: the leftmost match, and there the earlier option. Two machines find it.
Python's own ``re`` is fast but may take exponential time; it is used only where the pattern and the length of the text
bound its steps. Otherwise a search keeps track of the places where it was before, so that its steps are at most the
size of the pattern times the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from math import log2
from typing import Final

from watchfloor.kql.regex import charset
from watchfloor.kql.regex.charset import Ranges
from watchfloor.kql.regex.syntax import (
    Assertion,
    Choice,
    Group,
    Node,
    Pattern,
    RegexError,
    Repeat,
    Sequence,
    Set,
    parse,
)

Spans = tuple[tuple[int, int] | None, ...]
"""Where a match is: first the whole, then each group, None for one that took no part."""

MAX_STEPS: Final = 20_000_000
"""Of a search with ``re``, by a pessimistic estimate; and of one that keeps track, exactly."""

MAX_RE2_RANGES: Final = 6_000
"""With more ranges, repetitions written out, RE2 is slow: it gets such a pattern in its ASCII form only."""

MAX_RE2_REPEAT: Final = 1_000

_WORD_ASSERTIONS: Final = {
    "word": r"(?:(?<=[W])(?![W])|(?<![W])(?=[W]))",
    "not word": r"(?:(?<=[W])(?=[W])|(?<![W])(?![W]))",
    "word start": r"(?<![W])(?=[W])",
    "word end": r"(?<=[W])(?![W])",
    "word start half": r"(?<![W])",
    "word end half": r"(?![W])",
    "ascii word": r"(?:(?<=[A])(?![A])|(?<![A])(?=[A]))",
    "not ascii word": r"(?:(?<=[A])(?=[A])|(?<![A])(?![A]))",
}


def check(text: str) -> str | None:
    """What is wrong with the pattern ``text``; None if nothing is."""
    try:
        compile(text)
    except RegexError as error:
        return str(error)
    return None


def quote(text: str) -> str:
    """A pattern that matches ``text`` and nothing else."""
    return re.sub(r"([\\.+*?()|\[\]{}^$#&\-~])", r"\\\1", text)


@lru_cache(maxsize=512)
def compile(text: str) -> Regex:
    """The regular expression ``text``. Raises RegexError if it is none."""
    return Regex(text, parse(text))


@dataclass(slots=True)
class Regex:
    """A regular expression, ready to search with."""

    text: str
    pattern: Pattern
    _python: re.Pattern[str] | None = None
    _program: _Program | None = None
    _cost: tuple[float, float] | None = field(default=None)

    @property
    def groups(self) -> int:
        """How many groups it has; the whole match is not counted."""
        return self.pattern.groups

    @property
    def names(self) -> dict[str, int]:
        """The numbers of the groups that have names."""
        return self.pattern.names

    # -- RE2 ----------------------------------------------------------------------------------------------------------

    @property
    def re2(self) -> str | None:
        """The pattern in the syntax of RE2, exactly; None if RE2 has no such or it would take it too long."""
        root = self.pattern.root
        if self.re2_ascii is None or not _is_exact_in_re2(root) or _ranges_count(root) > MAX_RE2_RANGES:
            return None
        return _re2_text(root, False)

    @property
    def re2_ascii(self) -> str | None:
        """The pattern in the syntax of RE2 for texts of ASCII characters only; None if RE2 has no such."""
        return _re2_text(self.pattern.root, True) if _is_known_to_re2(self.pattern.root, 1) else None

    @property
    def is_ascii_only(self) -> bool:
        """Whether RE2 can say it for texts of ASCII characters only."""
        return self.re2 is None and self.re2_ascii is not None

    # -- searching ----------------------------------------------------------------------------------------------------

    def search(self, subject: str, start: int = 0) -> Spans | None:
        """The first match in ``subject`` that begins at ``start`` or later. Raises RegexError if it takes too long."""
        if self._is_quick(len(subject)):
            if self._python is None:
                self._python = re.compile(_python_text(self.pattern.root))
            match = self._python.search(subject, start)
            if match is None:
                return None
            spans = (match.span(number) for number in range(self.groups + 1))
            return tuple(span if span[0] >= 0 else None for span in spans)
        if self._program is None:
            self._program = _Program(self.pattern)
        return self._program.search(subject, start)

    def find_all(self, subject: str, start: int = 0) -> Iterator[Spans]:
        """All matches from ``start`` on, one after the other. An empty one does not stand directly behind another."""
        at, last_end = start, -1
        while at <= len(subject):
            spans = self.search(subject, at)
            if spans is None:
                return
            assert spans[0] is not None
            low, high = spans[0]
            if low == high == last_end:
                at += 1
                continue
            yield spans
            last_end = high
            at = high if high > low else high + 1

    def matches(self, subject: str) -> bool:
        """Whether there is a match in ``subject``."""
        return self.search(subject) is not None

    def _is_quick(self, length: int) -> bool:
        if self._cost is None:
            self._cost = _cost(self.pattern.root)
        choices, loops = self._cost
        return choices + (loops + 1) * log2(length + 2) <= log2(MAX_STEPS)


# -- what a search with re may cost -----------------------------------------------------------------------------------


def _cost(node: Node) -> tuple[float, float]:
    """Of a backtracking search from one place: the logarithm of the number of combinations of choices, and the number
    of loops whose counts of rounds multiply. Infinite where rounds can be cut up in several ways."""
    if isinstance(node, Set | Assertion):
        return 0.0, 0.0
    if isinstance(node, Group):
        return _cost(node.part)
    if isinstance(node, Choice):
        costs = [_cost(option) for option in node.options]
        return log2(len(costs)) + max(c for c, _ in costs), max(loops for _, loops in costs)
    if isinstance(node, Repeat):
        return _cost_of_repeat(node)
    choices, loops = 0.0, 0.0
    for at, part in enumerate(node.parts):
        more_choices, more_loops = _cost(part)
        if _is_deterministic(part, node.parts[at + 1 :]):
            more_choices, more_loops = 0.0, 0.0
        choices, loops = choices + more_choices, loops + more_loops
    return choices, loops


def _cost_of_repeat(node: Repeat) -> tuple[float, float]:
    if _fixed_length(node.part) is None:
        if node.most is not None and node.most <= 4:
            choices, loops = _cost(node.part)
            return (choices + 1) * node.most, loops * node.most
        return float("inf"), 0.0
    if node.most is None:
        return 0.0, 1.0
    return log2(node.most - node.least + 1), 0.0


def _fixed_length(node: Node) -> int | None:
    """The length of all that ``node`` matches, if it has no choice at all; else None."""
    if isinstance(node, Set):
        return 1
    if isinstance(node, Group):
        return _fixed_length(node.part)
    if isinstance(node, Sequence):
        lengths = [_fixed_length(part) for part in node.parts]
        total = sum(length for length in lengths if length is not None)
        return None if None in lengths or not total else total
    if isinstance(node, Repeat) and node.least == node.most and node.least:
        length = _fixed_length(node.part)
        return None if length is None else length * node.least
    return None


def _is_deterministic(node: Node, rest: tuple[Node, ...]) -> bool:
    """Whether ``node`` repeats one set and what must follow is none of it: then giving rounds back never helps."""
    while isinstance(node, Group):
        node = node.part
    if not isinstance(node, Repeat) or not isinstance(node.part, Set) or not rest:
        return False
    following = _first(Sequence(rest))
    return following is not None and not charset.intersection(node.part.ranges, following)


def _first(node: Node) -> Ranges | None:
    """The characters that a match of ``node`` can begin with; None if it can be empty or that is not known."""
    if isinstance(node, Set):
        return node.ranges
    if isinstance(node, Group):
        return _first(node.part)
    if isinstance(node, Sequence):
        for part in node.parts:
            if not isinstance(part, Assertion):
                return _first(part)
        return None
    if isinstance(node, Choice):
        firsts = [_first(option) for option in node.options]
        return None if None in firsts else charset.union(*(first for first in firsts if first is not None))
    if isinstance(node, Repeat) and node.least:
        return _first(node.part)
    return None


# -- as text ----------------------------------------------------------------------------------------------------------


def _is_exact_in_re2(node: Node) -> bool:
    if isinstance(node, Assertion):
        return node.kind not in ("word", "not word")
    if isinstance(node, Set):
        return True
    return all(_is_exact_in_re2(part) for part in _parts(node))


def _is_known_to_re2(node: Node, times: int) -> bool:
    if isinstance(node, Assertion):
        return not node.kind.startswith("word ")
    if isinstance(node, Repeat):
        times *= max(node.least, node.most or 1, 1)
    return times <= MAX_RE2_REPEAT and all(_is_known_to_re2(part, times) for part in _parts(node))


def _ranges_count(node: Node) -> int:
    if isinstance(node, Set):
        return len(node.ranges)
    count = sum(map(_ranges_count, _parts(node)))
    if isinstance(node, Repeat):
        count *= max(node.least + 1 if node.most is None else node.most, 1)
    return count


def _parts(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Sequence):
        return node.parts
    if isinstance(node, Choice):
        return node.options
    return (node.part,) if isinstance(node, Group | Repeat) else ()


def _re2_text(node: Node, is_ascii: bool) -> str:
    if isinstance(node, Set):
        return _re2_set(node, is_ascii)
    if isinstance(node, Assertion):
        return {
            "start": r"\A",
            "end": r"\z",
            "line start": "(?m:^)",
            "line end": "(?m:$)",
            "word": r"\b",
            "not word": r"\B",
            "ascii word": r"\b",
            "not ascii word": r"\B",
        }[node.kind]
    return _joined_text(node, [_re2_text(part, is_ascii) for part in _parts(node)])


def _re2_set(node: Set, is_ascii: bool) -> str:
    if node.folded and node.folded.isascii():
        return f"(?i:{node.folded})"
    ranges = charset.intersection(node.ranges, charset.ASCII) if is_ascii else node.ranges
    if ranges == charset.ALL or (is_ascii and ranges == charset.ASCII):
        return "(?s:.)"
    if not ranges:
        return r"[^\x00-\x{10FFFF}]"
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        text = _re2_code(ranges[0][0])
        return rf"\{text}" if len(text) == 1 and not text.isalnum() else text
    return _re2_class(ranges)


@lru_cache(maxsize=512)
def _re2_class(ranges: Ranges) -> str:
    """``ranges`` in brackets, in the shortest way."""
    texts = [_re2_ranges(ranges)]
    if len(ranges) > 40:
        for sign, members in (("", ranges), ("^", charset.complement(ranges))):
            for known, symbol in _symbols():
                if not charset.difference(known, members):
                    texts.append(sign + symbol + _re2_ranges(charset.difference(members, known)))
    return f"[{min(texts, key=len)}]"


@cache
def _symbols() -> tuple[tuple[Ranges, str], ...]:
    categories = ("L", "Nl", "M", "Nd", "Pc")
    named = charset.union(*map(charset.category, categories))
    word = "".join(rf"\p{{{name}}}" for name in categories) + _re2_ranges(charset.difference(charset.word(), named))
    return ((charset.word(), word), (charset.category("L"), r"\p{L}"), (charset.category("Nd"), r"\p{Nd}"))


def _re2_ranges(ranges: Ranges) -> str:
    return "".join(_re2_code(a) if a == b else f"{_re2_code(a)}-{_re2_code(b)}" for a, b in ranges)


def _re2_code(code: int) -> str:
    """A character as it stands inside and, behind a backslash, outside of brackets."""
    character = chr(code)
    return character if character.isascii() and (character.isalnum() or character in "_.,:;@/=") else rf"\x{{{code:X}}}"


def _python_text(node: Node) -> str:
    if isinstance(node, Set):
        return _python_set(node.ranges)
    if isinstance(node, Assertion):
        simple = {"start": r"\A", "end": r"\Z", "line start": "(?m:^)", "line end": "(?m:$)"}
        if node.kind in simple:
            return simple[node.kind]
        word, ascii_word = _python_set(charset.word()), _python_set(charset.POSIX["word"])
        return _WORD_ASSERTIONS[node.kind].replace("[W]", word).replace("[A]", ascii_word)
    return _joined_text(node, [_python_text(part) for part in _parts(node)])


def _python_set(ranges: Ranges) -> str:
    if ranges == charset.ALL:
        return r"(?s:.)"
    if not ranges:
        return "(?!)"
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return re.escape(chr(ranges[0][0]))
    return "[" + "".join(rf"\U{a:08x}" if a == b else rf"\U{a:08x}-\U{b:08x}" for a, b in ranges) + "]"


def _joined_text(node: Node, parts: list[str]) -> str:
    if isinstance(node, Sequence):
        return "".join(parts)
    if isinstance(node, Choice):
        return "(?:" + "|".join(parts) + ")"
    if isinstance(node, Group):
        return f"({parts[0]})"
    assert isinstance(node, Repeat)
    if node.most == 0:
        return f"(?:{parts[0]}){{0}}"
    signs = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    sign = signs.get((node.least, node.most))
    if sign is None:
        most = "" if node.most is None else str(node.most)
        sign = f"{{{node.least}}}" if node.least == node.most else f"{{{node.least},{most}}}"
    part = parts[0] if isinstance(node.part, Set | Group) else f"(?:{parts[0]})"
    return f"{part}{sign}{'' if node.is_greedy else '?'}"


# -- the machine that keeps track -------------------------------------------------------------------------------------

_SET, _SPLIT, _JUMP, _SAVE, _PLACE, _DONE = range(6)


class _Program:
    """A pattern as instructions: (what, and up to two operands)."""

    def __init__(self, pattern: Pattern) -> None:
        self.code: list[tuple[int, int, int]] = []
        self.sets: list[tuple[int, Ranges]] = []
        self.places: list[str] = []
        self.slots = 2 * (pattern.groups + 1)
        self._known: dict[Ranges, int] = {}
        self._add(_SAVE, 0)
        self._emit(pattern.root)
        self._add(_SAVE, 1)
        self._add(_DONE)

    def _add(self, what: int, first: int = 0, second: int = 0) -> int:
        self.code.append((what, first, second))
        return len(self.code) - 1

    def _emit(self, node: Node) -> None:
        if isinstance(node, Set):
            if node.ranges not in self._known:
                self._known[node.ranges] = len(self.sets)
                bits = sum(1 << code for code in range(128) if charset.contains(node.ranges, code))
                self.sets.append((bits, node.ranges))
            self._add(_SET, self._known[node.ranges])
        elif isinstance(node, Assertion):
            self.places.append(node.kind)
            self._add(_PLACE, len(self.places) - 1)
        elif isinstance(node, Sequence):
            for part in node.parts:
                self._emit(part)
        elif isinstance(node, Group):
            self._add(_SAVE, 2 * node.number)
            self._emit(node.part)
            self._add(_SAVE, 2 * node.number + 1)
        elif isinstance(node, Choice):
            self._emit_choice(node)
        else:
            self._emit_repeat(node)

    def _emit_choice(self, node: Choice) -> None:
        exits = []
        for option in node.options[:-1]:
            split = self._add(_SPLIT)
            self._emit(option)
            exits.append(self._add(_JUMP))
            self.code[split] = (_SPLIT, split + 1, len(self.code))
        self._emit(node.options[-1])
        for jump in exits:
            self.code[jump] = (_JUMP, len(self.code), 0)

    def _emit_repeat(self, node: Repeat) -> None:
        if node.most is None:
            skip = self._add(_SPLIT) if not node.least else None
            for _ in range(node.least - 1):
                self._emit(node.part)
            begin = len(self.code)
            self._emit(node.part)
            end = self._add(_SPLIT) + 1
            self.code[-1] = (_SPLIT, begin, end) if node.is_greedy else (_SPLIT, end, begin)
            if skip is not None:
                self._split(skip, node.is_greedy, end)
            return
        for _ in range(node.least):
            self._emit(node.part)
        splits = []
        for _ in range(node.most - node.least):
            splits.append(self._add(_SPLIT))
            self._emit(node.part)
        for split in splits:
            self._split(split, node.is_greedy, len(self.code))

    def _split(self, at: int, is_greedy: bool, end: int) -> None:
        self.code[at] = (_SPLIT, at + 1, end) if is_greedy else (_SPLIT, end, at + 1)

    def search(self, subject: str, start: int) -> Spans | None:
        width = len(subject) + 1
        if len(self.code) * width > MAX_STEPS:
            raise RegexError("the text is too long for this regular expression")
        visited = bytearray(len(self.code) * width)
        for begin in range(start, width):
            slots = self._run(subject, begin, visited, width)
            if slots is not None:
                pairs = zip(slots[::2], slots[1::2], strict=True)
                return tuple((low, high) if low >= 0 and high >= 0 else None for low, high in pairs)
        return None

    def _run(self, subject: str, begin: int, visited: bytearray, width: int) -> list[int] | None:
        code, sets, length = self.code, self.sets, len(subject)
        slots = [-1] * self.slots
        waiting = [(0, begin, -1)]
        while waiting:
            counter, at, saved = waiting.pop()
            if saved >= 0:  # an assignment is taken back
                slots[saved] = at
                continue
            while True:
                mark = counter * width + at
                if visited[mark]:
                    break
                visited[mark] = 1
                what, first, second = code[counter]
                if what == _SET:
                    if at >= length:
                        break
                    character = ord(subject[at])
                    bits, ranges = sets[first]
                    if not (bits >> character & 1 if character < 128 else charset.contains(ranges, character)):
                        break
                    counter, at = counter + 1, at + 1
                elif what == _SPLIT:
                    waiting.append((second, at, -1))
                    counter = first
                elif what == _JUMP:
                    counter = first
                elif what == _SAVE:
                    waiting.append((0, slots[first], first))
                    slots[first] = at
                    counter += 1
                elif what == _PLACE:
                    if not _holds(self.places[first], subject, at):
                        break
                    counter += 1
                else:
                    return slots
        return None


def _holds(kind: str, subject: str, at: int) -> bool:
    """Whether the assertion ``kind`` holds at ``at``."""
    if kind == "start":
        return at == 0
    if kind == "end":
        return at == len(subject)
    if kind == "line start":
        return at == 0 or subject[at - 1] == "\n"
    if kind == "line end":
        return at == len(subject) or subject[at] == "\n"
    word = charset.POSIX["word"] if "ascii" in kind else charset.word()
    before = at > 0 and charset.contains(word, ord(subject[at - 1]))
    after = at < len(subject) and charset.contains(word, ord(subject[at]))
    return {
        "word": before != after,
        "ascii word": before != after,
        "not word": before == after,
        "not ascii word": before == after,
        "word start": not before and after,
        "word end": before and not after,
        "word start half": not before,
        "word end half": not after,
    }[kind]
