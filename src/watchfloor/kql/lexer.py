"""KQL text to tokens.

One compiled expression, tried at each position; every token keeps its place and, for a literal, its value in the form
of ``values.py``. Keywords are not told from names here: in KQL only the place decides. Names with a hyphen, such as
``project-away``, are several tokens: ``a-b`` may as well be a difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from watchfloor.kql.errors import MAX_ERRORS, KqlError, Span, raise_all
from watchfloor.kql.values import (
    MAX_DATETIME,
    MAX_INT,
    MAX_LONG,
    MIN_INT,
    MIN_LONG,
    TICKS_PER_MICROSECOND,
    TICKS_PER_UNIT,
    parse_datetime,
    parse_guid,
    parse_timespan,
    timespan_of,
)

MAX_TEXT: Final = 128 * 1024
MAX_TOKENS: Final = 40_000


@dataclass(slots=True)
class Token:
    """``kind`` is name, sign, literal, bad (already reported) or end. A literal has a KQL ``type`` and a ``value``
    (None: null). ``text`` is as written, so no literal's text is that of a name or sign."""

    kind: str
    text: str
    start: int
    end: int
    type: str = ""
    value: Any = None

    @property
    def span(self) -> Span:
        """Where it stands."""
        return Span(self.start, self.end)


LITERAL_TYPES: Final = {
    "bool": "bool",
    "date": "datetime",
    "datetime": "datetime",
    "decimal": "decimal",
    "double": "real",
    "guid": "guid",
    "int": "int",
    "int32": "int",
    "int64": "long",
    "long": "long",
    "real": "real",
    "time": "timespan",
    "timespan": "timespan",
}
"""What may stand directly before ``(`` to make a typed literal, with its type."""


def _either(words: Any) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_BOOLS: Final = frozenset({"true", "True", "TRUE", "false", "False", "FALSE"})
_WORD_END: Final = r"(?![A-Za-z0-9_])"
_HEX: Final = "[0-9a-fA-F]"
_BLANK: Final = r"[\s\u200b\u180e\ufeff]*+"
_TOKEN: Final = re.compile(
    rf"""
    {_BLANK} (?: //[^\r\n]*+ {_BLANK} )*+
    (?:
    (?P<name> [A-Za-z_$][A-Za-z0-9_]*+ (?![("'@`~-]) )
  | (?P<sign> [|(),\[\]{{}};:+*%?-] | =[=~>]? | \.\.? )
  | (?P<string> [hH]? (?: "(?:[^"\\\r\n]|\\.)*+" | '(?:[^'\\\r\n]|\\.)*+'
                        | @"(?:[^"\r\n]|"")*+" | @'(?:[^'\r\n]|'')*+' | ```[\s\S]*?``` | ~~~[\s\S]*?~~~ ) )
  | (?P<guid> {_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}} {_WORD_END} )
  | (?P<typed> (?:{_either(LITERAL_TYPES)})\([^)\r\n]*+\)? )
  | (?P<real> [0-9]+ (?: \.(?!\.(?!\.))[0-9]*(?:[eE][+-]?[0-9]+)? | [eE][+-]?[0-9]+ ) {_WORD_END} )
  | (?P<timespan> [0-9]+(?:\.[0-9]+)?(?:{_either(TICKS_PER_UNIT)}) {_WORD_END} )
  | (?P<long> (?: 0[xX]{_HEX}+ | [0-9]+ ) {_WORD_END} )
  | (?P<word> (?!in~)[A-Za-z_$][A-Za-z0-9_]*+ | [0-9]++[A-Za-z_][A-Za-z0-9_]*+ )
  | (?P<mark> !(?: in~ | (?:in|between|(?:has|contains|startswith|endswith|hasprefix|hassuffix)(?:_cs)?){_WORD_END}
                 | [=~] )
            | in~ | < [=>]? | >=? | [/@] )
  | (?P<end> \Z )
  | (?P<unclosed> [hH]?@?["'][^\r\n]* | [hH]?(?:```|~~~)[\s\S]* )
  | (?P<stray> && | [\s\S] )
    )
    """,
    re.VERBOSE,
)


def tokenize(text: str) -> list[Token]:
    """The tokens of ``text``, ended by one of kind ``end``. Raises ``KqlError``."""
    tokens, errors = scan(text)
    if errors:
        raise_all(errors, text)
    return tokens


def scan(text: str) -> tuple[list[Token], list[KqlError]]:
    """The tokens of ``text``, ended by one of kind ``end``, and what is wrong with it."""
    size = len(text)
    if size > MAX_TEXT:
        message = f"A query has at most {MAX_TEXT} characters, this one has {size}."
        return [_end(0)], [KqlError(message, Span(0, 0), kind="limit")]
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = "This text holds half a character (a lone surrogate)."
        return [_end(0)], [KqlError(message, Span(error.start, error.start + 1), kind="syntax")]
    tokens: list[Token] = []
    errors: list[KqlError] = []
    add = tokens.append
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        start, end = match.span(kind)
        if kind == "sign" or kind == "mark":
            add(Token("sign", match[kind], start, end))
        elif kind == "name" or kind == "word":
            word = match[kind]
            if word in _BOOLS:
                add(Token("literal", word, start, end, "bool", word[0] in "tT"))
            else:
                add(Token("name", word, start, end))
        elif kind == "end":
            break
        else:
            try:
                type_, value = _LITERALS[kind](match[kind])
            except _Wrong as wrong:
                errors.append(KqlError(wrong.message, Span(start, end), remedy=wrong.remedy, kind="syntax"))
                if kind == "unclosed":  # what is text and what is not can no longer be told: the query ends here
                    add(_end(start))
                    return tokens, errors
                add(Token("bad", match[kind], start, end))
                if len(errors) >= MAX_ERRORS:
                    break
            else:
                add(Token("literal", match[kind], start, end, type_, value))
    if len(tokens) > MAX_TOKENS:
        message = f"A query has at most {MAX_TOKENS} words and signs."
        return [_end(0)], [KqlError(message, tokens[MAX_TOKENS].span, kind="limit")]
    add(_end(size))
    return tokens, errors


def _end(at: int) -> Token:
    return Token("end", "the end of the query", at, at)


class _Wrong(Exception):
    """A literal that has no value."""

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message, self.remedy = message, remedy


# -- strings ----------------------------------------------------------------------------------------------------------

_ESCAPE: Final = re.compile(
    rf"\\(?:u({_HEX}{{4}})|U({_HEX}{{8}})|x({_HEX}{{2}})|([0-3][0-7]{{2}}|[0-7]{{1,2}})|(.))", re.DOTALL
)
_SIMPLE_ESCAPES: Final = {
    "\\": "\\", "'": "'", '"': '"', "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
}  # fmt: skip


def _string(text: str) -> tuple[str, str]:
    body = text[1:] if text[0] in "hH" else text
    if body[0] in "`~":
        return "string", body[3:-3]
    if body[0] == "@":
        return "string", body[2:-1].replace(body[1] * 2, body[1])
    return "string", _unescaped(body[1:-1]) if "\\" in body else body[1:-1]


def _unescaped(body: str) -> str:
    value = _ESCAPE.sub(_escaped, body)
    try:
        return value.encode("utf-16", "surrogatepass").decode("utf-16")  # a pair of surrogates is one character
    except UnicodeDecodeError:
        raise _Wrong("This string holds half a character (a lone surrogate).") from None


def _escaped(match: re.Match[str]) -> str:
    four, eight, two, octal, sign = match.groups()
    if sign is not None:
        if sign not in _SIMPLE_ESCAPES:
            raise _Wrong(f"\\{sign} is not an escape.", r"Write \\ for a backslash, or @ before the string.")
        return _SIMPLE_ESCAPES[sign]
    code = int(octal, 8) if octal else int(four or eight or two, 16)
    if code > 0x10FFFF:
        raise _Wrong(f"{match[0]} is not a character.")
    return chr(code)


def _unclosed(text: str) -> tuple[str, str]:
    raise _Wrong("This string is not closed.")


_REMEDIES: Final = {
    "&": "Write and.",
    "&&": "Write and.",
    "!": "Write not(...), or != for 'not equal'.",
    "#": "A comment begins with //.",
    "`": "A name with blanks is written ['the name'].",
}


def _stray(text: str) -> tuple[str, str]:
    raise _Wrong(f"{text!r} has no meaning here.", _REMEDIES.get(text, ""))


# -- numbers and times ------------------------------------------------------------------------------------------------


def _long(text: str) -> tuple[str, int]:
    """Not checked for its range: a sign before it, or the dynamic literal around it, may make it fit."""
    return "long", int(text, 16) if text[:2] in ("0x", "0X") else _digits(text)


def _digits(text: str) -> int:
    if len(text) > 300:  # beyond any real, and slow to read
        raise _Wrong("This number is larger than a long.")
    return int(text)


def _real(text: str) -> tuple[str, float]:
    value = float(text)
    if value == float("inf"):
        raise _Wrong(f"{text[:40]} is larger than a real.")
    return "real", value


def _timespan(text: str) -> tuple[str, int]:
    unit = text.lstrip("0123456789.")
    number = text[: len(text) - len(unit)]
    if "." in number and TICKS_PER_UNIT[unit] <= TICKS_PER_MICROSECOND:  # Kusto drops the fraction of some, not of all
        raise _Wrong(f"{text[:40]} is no whole number of {unit}.", "Write it in ticks of 100 ns.")
    ticks = timespan_of(number, unit)
    if ticks is None:
        raise _Wrong(f"{text[:40]} is longer than a timespan can be.")
    return "timespan", ticks


def _raw_guid(text: str) -> tuple[str, str]:
    return "raw guid", text.lower()


# -- typed literals ---------------------------------------------------------------------------------------------------

_EXAMPLES: Final = {
    "datetime": "datetime(2025-01-31 12:30:00)",
    "timespan": "timespan(1.12:30:00) or 90m",
    "guid": "guid(74be27de-1e4e-49d9-b579-fe0b331d3642)",
}


def _typed(text: str) -> tuple[str, Any]:
    word, _, rest = text.partition("(")
    type_ = LITERAL_TYPES[word]
    if not rest.endswith(")"):
        raise _Wrong(f"This {type_} is not closed.", "Write ')' on the same line.")
    body = rest[:-1].strip()
    if type_ in _EXAMPLES and body[:1] in ("'", '"', "@"):
        body = _quoted(body).strip()
    if body == "null":
        return type_, None
    value = _LEAST_AND_GREATEST.get((type_, body))
    if value is None:
        try:
            value = _READERS[type_](body)
        except (ValueError, OverflowError, InvalidOperation):
            value = None
    if value is None:
        example = _EXAMPLES.get(type_)
        article = "an" if type_ == "int" else "a"
        raise _Wrong(f"{body[:40] or 'Nothing'} is not {article} {type_}.", f"Write {example}." if example else "")
    return type_, value


def _quoted(body: str) -> str:
    match = _TOKEN.fullmatch(body)
    return _string(body)[1] if match and match.lastgroup == "string" else body


def _read_bool(body: str) -> bool | None:
    return {"true": True, "false": False, "1": True, "0": False}.get(body.lower())


def _read_int(body: str) -> int | None:
    value = _read_long(body)
    return value if value is not None and MIN_INT <= value <= MAX_INT else None


_LONG: Final = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]{1,30})")
_REAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def _read_long(body: str) -> int | None:
    if not _LONG.fullmatch(body):
        return None
    value = int(body, 16) if "x" in body.lower() else int(body)
    return value if MIN_LONG <= value <= MAX_LONG else None


def _read_real(body: str) -> float | None:
    folded = body.lower()
    if folded in ("nan", "inf", "+inf", "-inf"):
        return float(folded)
    if not _REAL.fullmatch(body):
        return None
    value = float(body)
    return value if abs(value) != float("inf") else None


def _read_decimal(body: str) -> Decimal | None:
    return Decimal(body) if _REAL.fullmatch(body) else None


def _read_datetime(body: str) -> Any:
    return NOW if not body else parse_datetime(body)


NOW: Final = "now"
"""The value of ``datetime()``: the one literal that only the binder can tell."""

_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "bool": _read_bool,
    "datetime": _read_datetime,
    "decimal": _read_decimal,
    "guid": parse_guid,
    "int": _read_int,
    "long": _read_long,
    "real": _read_real,
    "timespan": parse_timespan,
}
_LEAST_AND_GREATEST: Final[dict[tuple[str, str], Any]] = {
    ("datetime", "min"): 0,
    ("datetime", "max"): MAX_DATETIME,
    ("int", "min"): MIN_INT,
    ("int", "max"): MAX_INT,
    ("long", "min"): MIN_LONG,
    ("long", "max"): MAX_LONG,
    ("timespan", "min"): MIN_LONG,
    ("timespan", "max"): MAX_LONG,
    ("real", "min"): -1.7976931348623157e308,
    ("real", "max"): 1.7976931348623157e308,
}
_LITERALS: Final[dict[str, Callable[[str], tuple[str, Any]]]] = {
    "string": _string,
    "guid": _raw_guid,
    "typed": _typed,
    "real": _real,
    "timespan": _timespan,
    "long": _long,
    "unclosed": _unclosed,
    "stray": _stray,
}
