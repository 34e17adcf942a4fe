"""The text of a regular expression, read into a tree.

The syntax is that of Rust's regex crate, as Kusto's documentation gives it, with two liberties that are
older Kusto's: a hyphen behind a class inside brackets (``[\\w-.]``) and a brace that opens no repetition stand for
themselves. Letter case is resolved here: under ``(?i)`` a character is the set of its forms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NoReturn

from watchfloor.kql.regex import charset
from watchfloor.kql.regex.charset import Ranges

MAX_LENGTH: Final = 10_000
MAX_NESTING: Final = 50
MAX_REPEAT: Final = 1_000
MAX_SIZE: Final = 20_000
"""Characters and sets of a pattern once its repetitions are written out."""


class RegexError(ValueError):
    """A pattern that cannot be read, or a text that it would take too long to search."""


@dataclass(frozen=True, slots=True)
class Set:
    """One character of ``ranges``. ``folded``: the character of which these are the forms of either case, or ''."""

    ranges: Ranges
    folded: str = ""


@dataclass(frozen=True, slots=True)
class Assertion:
    r"""A place: ``start`` and ``end`` of the text, ``line start``, ``line end``, ``word`` (``\b``), ``not word``,
    ``word start``, ``word end``, ``word start half``, ``word end half``, and ``ascii word``, ``not ascii word``."""

    kind: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other. Without parts: the empty text."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these; an earlier one is preferred."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """``least`` to ``most`` times (None: without end)."""

    part: Node
    least: int
    most: int | None
    is_greedy: bool


@dataclass(frozen=True, slots=True)
class Group:
    """What is matched here is remembered as ``number``."""

    number: int
    part: Node


Node = Set | Assertion | Sequence | Choice | Repeat | Group


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that was read: its tree, how many groups it has and what some of them are called."""

    root: Node
    groups: int
    names: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Flags:
    ignores_case: bool = False
    is_multiline: bool = False
    dot_is_all: bool = False
    is_swapped: bool = False
    is_verbose: bool = False
    is_unicode: bool = True


_FLAGS: Final = {
    "i": "ignores_case",
    "m": "is_multiline",
    "s": "dot_is_all",
    "U": "is_swapped",
    "x": "is_verbose",
    "u": "is_unicode",
}
_CONTROL: Final = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_QUANTITY: Final = re.compile(r"\{\s*([0-9]+)\s*(?:(,)\s*([0-9]*)\s*)?\}")
_NAME: Final = re.compile(r"[^\W\d][\w.\[\]]*")
_FLAG_GROUP: Final = re.compile(r"\?([A-Za-z]*)(?:-([A-Za-z]+))?([:)])")
_HEXADECIMAL: Final = re.compile(r"\{\s*([0-9A-Fa-f]+)\s*\}")
_BOUNDARY: Final = re.compile(r"\{(start|end|start-half|end-half)\}")
_PROPERTY: Final = re.compile(r"\{(\^?)([^{}]*)\}|([A-Za-z])")
_POSIX: Final = re.compile(r"\[:(\^?)([a-z]+):\]")


def parse(text: str) -> Pattern:
    """The pattern that ``text`` is. Raises RegexError, saying what is wrong and where."""
    if len(text) > MAX_LENGTH:
        raise RegexError(f"a regular expression has at most {MAX_LENGTH} characters")
    parser = _Parser(text)
    root = parser.choice(_Flags(), 0)
    if parser.at < len(text):
        parser.fail("a parenthesis is closed that was not opened")
    if size(root) > MAX_SIZE:
        raise RegexError("the regular expression is too large once its repetitions are written out")
    return Pattern(root, parser.groups, parser.names)


def size(node: Node) -> int:
    """How many characters, sets and places ``node`` has once its repetitions are written out."""
    if isinstance(node, Sequence):
        return sum(map(size, node.parts))
    if isinstance(node, Choice):
        return sum(map(size, node.options)) + len(node.options)
    if isinstance(node, Group):
        return size(node.part) + 2
    if isinstance(node, Repeat):
        times = node.least + 1 if node.most is None else node.most
        return min(max(times, 1) * (size(node.part) + 1), MAX_SIZE + 1)
    return 1


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.at, self.groups = text, 0, 0
        self.names: dict[str, int] = {}

    def fail(self, why: str) -> NoReturn:
        raise RegexError(f"{why}, at character {self.at + 1} of the regular expression")

    def looking_at(self, prefix: str) -> bool:
        return self.text.startswith(prefix, self.at)

    def taken(self, prefix: str) -> bool:
        if not self.looking_at(prefix):
            return False
        self.at += len(prefix)
        return True

    def skip_blanks(self, flags: _Flags) -> None:
        while flags.is_verbose and self.at < len(self.text):
            if self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif self.text[self.at].isspace():
                self.at += 1
            else:
                break

    # -- structure ----------------------------------------------------------------------------------------------------

    def choice(self, flags: _Flags, depth: int) -> Node:
        """Up to the end or a closing parenthesis. Flags set inside hold until there."""
        if depth > MAX_NESTING:
            self.fail(f"groups are nested more than {MAX_NESTING} deep")
        options: list[Node] = []
        parts: list[Node] = []
        while True:
            self.skip_blanks(flags)
            if self.at >= len(self.text) or self.looking_at(")"):
                break
            if self.taken("|"):
                options.append(_sequence(parts))
                parts = []
            elif (changed := self.inline_flags(flags)) is not None:
                flags = changed
            else:
                part = self.atom(flags, depth)
                parts.append(self.repeated(part, flags))
        options.append(_sequence(parts))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def inline_flags(self, flags: _Flags) -> _Flags | None:
        """``(?i)``: the flags from here on; None if it is none of these."""
        if not self.looking_at("(?"):
            return None
        match = _FLAG_GROUP.match(self.text, self.at + 1)
        if match is None or match.group(3) != ")":
            return None
        self.at = match.end()
        return self.changed(flags, match)

    def changed(self, flags: _Flags, match: re.Match[str]) -> _Flags:
        on, off = match.group(1), match.group(2) or ""
        if not on and not off and match.group(3) == ")":
            self.fail("there is no flag in the parentheses")
        values = {name: getattr(flags, name) for name in _FLAGS.values()}
        for letters, value in ((on, True), (off, False)):
            for letter in letters:
                if letter not in _FLAGS:
                    self.fail(f"there is no flag {letter}")
                values[_FLAGS[letter]] = value
        return _Flags(**values)

    def atom(self, flags: _Flags, depth: int) -> Node:
        character = self.text[self.at]
        if character == "(":
            return self.group(flags, depth)
        if character == "[":
            return Set(self.bracket(flags, 0))
        if character == "\\":
            return self.escape(flags)
        self.at += 1
        if character == ".":
            return Set(charset.ALL if flags.dot_is_all else charset.complement(charset.NEWLINE))
        if character == "^":
            return Assertion("line start" if flags.is_multiline else "start")
        if character == "$":
            return Assertion("line end" if flags.is_multiline else "end")
        if character in "*+?":
            self.at -= 1
            self.fail("there is nothing to repeat")
        return _literal(ord(character), flags)

    def group(self, flags: _Flags, depth: int) -> Node:
        opened = self.at
        self.at += 1
        number = 0
        if self.taken("?P<") or (self.looking_at("?<") and not self.looking_at("?<=") and not self.looking_at("?<!")):
            self.taken("?<")
            name = _NAME.match(self.text, self.at)
            if name is None or not self.text.startswith(">", name.end()):
                self.fail("the name of a group is missing or is none")
            if name.group() in self.names:
                self.fail(f"there are two groups {name.group()}")
            self.at = name.end() + 1
            self.groups += 1
            number = self.names[name.group()] = self.groups
        elif self.looking_at("?"):
            if any(self.looking_at(sign) for sign in ("?=", "?!", "?<=", "?<!")):
                self.fail("look-around is not supported")
            match = _FLAG_GROUP.match(self.text, self.at)
            if match is None:
                self.fail("the parenthesis opens no kind of group")
            self.at = match.end()
            flags = self.changed(flags, match)
        else:
            self.groups += 1
            number = self.groups
        part = self.choice(flags, depth + 1)
        if not self.taken(")"):
            self.at = opened
            self.fail("a parenthesis is not closed")
        return Group(number, part) if number else part

    def repeated(self, part: Node, flags: _Flags) -> Node:
        while True:
            self.skip_blanks(flags)
            if self.at >= len(self.text):
                return part
            character = self.text[self.at]
            if character in "*+?":
                least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[character]
                self.at += 1
            elif character == "{" and (quantity := _QUANTITY.match(self.text, self.at)):
                low, comma, high = quantity.groups()
                least = int(low[:9])
                most = least if not comma else int(high[:9]) if high else None
                if least > MAX_REPEAT or (most or 0) > MAX_REPEAT:
                    self.fail(f"a repetition is of {MAX_REPEAT} times at most")
                if most is not None and most < least:
                    self.fail("a repetition has more times at least than at most")
                self.at = quantity.end()
            else:
                return part
            is_lazy = self.taken("?")
            part = Repeat(part, least, most, is_lazy == flags.is_swapped)

    # -- characters ---------------------------------------------------------------------------------------------------

    def escape(self, flags: _Flags) -> Node:
        """A backslash and what it means, outside of brackets."""
        following = self.text[self.at + 1 : self.at + 2]
        if following in ("A", "z", "b", "B", "<", ">") and following:
            self.at += 2
            if following == "b" and (boundary := _BOUNDARY.match(self.text, self.at)):
                self.at = boundary.end()
                return Assertion("word " + boundary.group(1).replace("-", " "))
            kinds = {"A": "start", "z": "end", "b": "word", "B": "not word", "<": "word start", ">": "word end"}
            kind = kinds[following]
            if not flags.is_unicode and kind in ("word", "not word"):
                kind = kind.replace("word", "ascii word")
            return Assertion(kind)
        if (found := self.escaped_set(flags)) is not None:
            return Set(charset.without_case(found) if flags.ignores_case else found)
        return _literal(self.escaped_character(), flags)

    def escaped_set(self, flags: _Flags) -> Ranges | None:
        r"""``\d``, ``\pL`` and their kin; None if it is none of these."""
        letter = self.text[self.at + 1 : self.at + 2]
        if letter and letter in "dDsSwW":
            self.at += 2
            if flags.is_unicode:
                kind = letter.lower()
                found = (
                    charset.category("Nd") if kind == "d" else charset.WHITE_SPACE if kind == "s" else charset.word()
                )
            else:
                found = charset.POSIX[{"d": "digit", "s": "space", "w": "word"}[letter.lower()]]
            return charset.complement(found) if letter.isupper() else found
        if letter and letter in "pP":
            match = _PROPERTY.match(self.text, self.at + 2)
            name = (match.group(2) or match.group(3) or "") if match else ""
            named = charset.named(name)
            if match is None or named is None:
                self.fail(f"there is no class of characters {name}" if name else "a class of characters is not named")
            self.at = match.end()
            return charset.complement(named) if (letter == "P") != (match.group(1) == "^") else named
        return None

    def escaped_character(self) -> int:
        """The code point that a backslash and what follows it stand for."""
        start = self.at
        letter = self.text[self.at + 1 : self.at + 2]
        self.at += 2
        if not letter:
            self.at = start
            self.fail("a backslash stands at the end")
        if letter in _CONTROL:
            return _CONTROL[letter]
        if letter in "xuU":
            return self.hexadecimal(letter)
        if letter.isdigit():
            octal = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}").match(self.text, self.at - 1)
            if octal is None:
                self.at = start
                self.fail("references back to a group are not supported")
            self.at = octal.end()
            return int(octal.group(), 8)
        if letter.isalpha() and letter.isascii():
            self.at = start
            self.fail(f"\\{letter} is not known")
        return ord(letter)

    def hexadecimal(self, letter: str) -> int:
        match = _HEXADECIMAL.match(self.text, self.at)
        if match is not None:
            digits, self.at = match.group(1), match.end()
        else:
            length = {"x": 2, "u": 4, "U": 8}[letter]
            digits = self.text[self.at : self.at + length]
            if len(digits) < length or not re.fullmatch("[0-9A-Fa-f]+", digits):
                self.fail(f"\\{letter} wants {length} hexadecimal digits")
            self.at += length
        code = int(digits, 16) if len(digits) <= 8 else charset.LAST + 1
        if code > charset.LAST or 0xD800 <= code <= 0xDFFF:
            self.fail("this is not the code of a character")
        return code

    # -- brackets -----------------------------------------------------------------------------------------------------

    def bracket(self, flags: _Flags, depth: int) -> Ranges:
        """``[...]``, with sets inside it and ``&&``, ``--`` and ``~~`` between them."""
        opened = self.at
        if depth > MAX_NESTING:
            self.fail(f"brackets are nested more than {MAX_NESTING} deep")
        self.at += 1
        is_negated = self.taken("^")
        total: Ranges | None = None
        operator = ""
        items: list[Ranges] = []
        is_first = True
        while True:
            self.skip_blanks(flags)
            if self.at >= len(self.text):
                self.at = opened
                self.fail("a bracket is not closed")
            if self.looking_at("]") and not is_first:
                self.at += 1
                break
            sign = self.text[self.at : self.at + 2]
            if sign in ("&&", "--", "~~") and not is_first:
                self.at += 2
                total = _combined(total, operator, charset.union(*items))
                operator, items = sign, []
            else:
                items.append(self.item(flags, depth))
            is_first = False
        found = _combined(total, operator, charset.union(*items))
        if flags.ignores_case:
            found = charset.without_case(found)
        return charset.complement(found) if is_negated else found

    def item(self, flags: _Flags, depth: int) -> Ranges:
        """A character, a range of characters or a set."""
        if self.looking_at("[:") and (posix := _POSIX.match(self.text, self.at)):
            if posix.group(2) not in charset.POSIX:
                self.fail(f"there is no class [:{posix.group(2)}:]")
            self.at = posix.end()
            ranges = charset.POSIX[posix.group(2)]
            return charset.complement(ranges) if posix.group(1) else ranges
        if self.looking_at("["):
            return self.bracket(flags, depth + 1)
        if self.looking_at("\\") and (found := self.escaped_set(flags)) is not None:
            return found
        low = self.bracket_character()
        before = self.at
        self.skip_blanks(flags)
        if not self.looking_at("-") or self.text[self.at + 1 : self.at + 2] in ("]", "", "-"):
            return ((low, low),)
        self.at += 1
        self.skip_blanks(flags)
        if self.looking_at("[") or re.compile(r"\\[dDsSwWpP]").match(self.text, self.at):
            self.at = before  # the hyphen stands for itself
            return ((low, low),)
        high = self.bracket_character()
        if high < low:
            self.fail("a range of characters ends before it begins")
        return ((low, high),)

    def bracket_character(self) -> int:
        if self.looking_at("\\"):
            return self.escaped_character()
        if self.at >= len(self.text):
            self.fail("a bracket is not closed")
        self.at += 1
        return ord(self.text[self.at - 1])


def _sequence(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else Sequence(tuple(parts))


def _literal(code: int, flags: _Flags) -> Set:
    if flags.ignores_case:
        ranges = charset.without_case(((code, code),))
        if ranges != ((code, code),):
            return Set(ranges, folded=chr(code))
    return Set(((code, code),))


def _combined(total: Ranges | None, operator: str, items: Ranges) -> Ranges:
    if total is None:
        return items
    if operator == "&&":
        return charset.intersection(total, items)
    if operator == "--":
        return charset.difference(total, items)
    return charset.difference(charset.union(total, items), charset.intersection(total, items))
