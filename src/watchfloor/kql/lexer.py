"""KQL text to tokens.

One compiled expression, tried at each position; every token keeps its span and, for a literal, its value. Keywords are
not told from names here: in KQL only the place decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from watchfloor.kql.errors import KqlError, Span

MAX_TEXT: Final = 64 * 1024
MAX_TOKENS: Final = 20_000

_UNITS: Final[dict[str, int]] = {  # in microseconds
    "d": 86_400_000_000,
    "day": 86_400_000_000,
    "days": 86_400_000_000,
    "h": 3_600_000_000,
    "hr": 3_600_000_000,
    "hrs": 3_600_000_000,
    "hour": 3_600_000_000,
    "hours": 3_600_000_000,
    "m": 60_000_000,
    "min": 60_000_000,
    "minute": 60_000_000,
    "minutes": 60_000_000,
    "s": 1_000_000,
    "sec": 1_000_000,
    "second": 1_000_000,
    "seconds": 1_000_000,
    "ms": 1_000,
    "milli": 1_000,
    "millis": 1_000,
    "millisecond": 1_000,
    "milliseconds": 1_000,
    "micro": 1,
    "micros": 1,
    "microsecond": 1,
    "microseconds": 1,
}
_LONG_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Token:
    """``kind`` is name, literal, operator or end. A literal has a KQL ``type`` and a ``value`` (None: null)."""

    kind: str
    text: str
    span: Span
    type: str = ""
    value: Any = None


_TOKEN: Final = re.compile(
    r"""
    (?P<blank> [\s\u200b\ufeff]+ | //[^\n]* )
  | (?P<typed> (?:datetime|date|timespan|time|long|int|real|double|bool|boolean)\s*\(\s*
               (?: null | [0-9+.-][^()"'|]* | true | false )\s*\) )
  | (?P<string> [hH]?@"(?:[^"\n]|"")*" | [hH]?@'(?:[^'\n]|'')*'
              | [hH]?"(?:[^"\\\n]|\\.)*" | [hH]?'(?:[^'\\\n]|\\.)*'
              | [hH]?```[\s\S]*?``` | [hH]?~~~[\s\S]*?~~~ )
  | (?P<span> [0-9]+(?:\.[0-9]+)?[A-Za-z]+ \b )
  | (?P<real> [0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)? | [0-9]+[eE][+-]?[0-9]+ )
  | (?P<long> 0[xX][0-9a-fA-F]+ | [0-9]+ )
  | (?P<operator> !(?:in~|in\b|has_cs\b|has\b|contains_cs\b|contains\b|startswith_cs\b|startswith\b|endswith_cs\b
                     |endswith\b|hasprefix_cs\b|hasprefix\b|hassuffix_cs\b|hassuffix\b|between\b|~|=)
                | in~ | == | =~ | <= | >= | <> | \.\. | => | [|()\[\]{},.;:=<>+\-*/%$@#?&^!~`] )
  | (?P<name> [A-Za-z_][A-Za-z0-9_]* )
    """,
    re.VERBOSE,
)
_ESCAPES: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_SIMPLE_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f", "v": "\v", "a": "\a"}


def tokenize(text: str) -> list[Token]:
    """The tokens of ``text``, ended by one of kind ``end``. Raises ``KqlError``."""
    if len(text) > MAX_TEXT:
        raise KqlError(f"A query has at most {MAX_TEXT} characters, this one has {len(text)}.", Span(0, 0))
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _stray(text, at)
        at = match.end()
        kind = match.lastgroup
        if kind == "blank":
            continue
        assert kind is not None
        tokens.append(_token(kind, match.group(), Span(match.start(), at)))
        if len(tokens) > MAX_TOKENS:
            raise KqlError(f"A query has at most {MAX_TOKENS} words and signs.", tokens[-1].span)
    tokens.append(Token("end", "the end of the query", Span(len(text), len(text))))
    return tokens


def _stray(text: str, at: int) -> KqlError:
    if text[at] in "\"'":
        return KqlError("This string is not closed.", Span(at, at + 1))
    return KqlError(f"{text[at]!r} has no meaning here.", Span(at, at + 1))


def _token(kind: str, text: str, span: Span) -> Token:
    if kind in ("name", "operator"):
        return Token(kind, text, span)
    type_, value = _LITERALS[kind](text, span)
    return Token("literal", text, span, type_, value)


def _string(text: str, span: Span) -> tuple[str, str]:
    body = text[1:] if text[0] in "hH" else text
    if body.startswith(("```", "~~~")):
        return "string", body[3:-3]
    if body[0] == "@":
        return "string", body[2:-1].replace(body[1] * 2, body[1])

    def unescape(match: re.Match[str]) -> str:
        code = match.group(1) or match.group(2)
        if code:
            return chr(int(code, 16))
        sign = match.group(3)
        if sign in "\\\"'":
            return str(sign)
        if sign not in _SIMPLE_ESCAPES:
            raise KqlError(f"\\{sign} is not an escape.", span, remedy="Write \\\\ for a backslash.")
        return _SIMPLE_ESCAPES[sign]

    value = _ESCAPES.sub(unescape, body[1:-1])
    try:
        value = value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise KqlError("This string holds half a character (a lone surrogate).", span) from None
    return "string", value


def _long(text: str, span: Span) -> tuple[str, int]:
    value = int(text, 16) if text[:2] in ("0x", "0X") else int(text)
    if value > _LONG_MAX:
        raise KqlError(f"{text} is larger than a long.", span)
    return "long", value


def _real(text: str, span: Span) -> tuple[str, float]:
    value = float(text)
    if value == float("inf"):
        raise KqlError(f"{text} is larger than a real.", span)
    return "real", value


def _span(text: str, span: Span) -> tuple[str, int]:
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]+)", text)
    unit = _UNITS.get(match.group(2)) if match else None
    if match is None or unit is None:
        known = "d, h, m, s, ms or microsecond"
        raise KqlError(f"{text} is neither a name nor a number.", span, remedy=f"Units of time are {known}.")
    microseconds = float(match.group(1)) * unit if "." in match.group(1) else int(match.group(1)) * unit
    return "timespan", _in_range(int(microseconds), text, span)


def _in_range(microseconds: int, text: str, span: Span) -> int:
    if abs(microseconds) * 10 > _LONG_MAX:  # a timespan is a long of 100 ns ticks
        raise KqlError(f"{text} is longer than a timespan can be.", span)
    return microseconds


_CLOCK: Final = re.compile(
    r"(?P<sign>-?)(?:(?P<d>\d+)\.)?(?P<h>\d{1,2}):(?P<m>\d{1,2})(?::(?P<s>\d{1,2})(?:\.(?P<f>\d{1,7}))?)?"
)


def _typed(text: str, span: Span) -> tuple[str, Any]:
    name, _, rest = text.partition("(")
    body = rest[:-1].strip()
    type_ = {"date": "datetime", "time": "timespan", "double": "real", "boolean": "bool"}.get(
        name.strip(), name.strip()
    )
    if body == "null":
        return type_, None
    try:
        return type_, _TYPED[type_](body, span)
    except (ValueError, OverflowError):
        raise KqlError(f"{body} is not a {type_}.", span) from None


def _datetime(body: str, span: Span) -> datetime:
    value = datetime.fromisoformat(body)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _timespan(body: str, span: Span) -> int:
    if clock := _CLOCK.fullmatch(body):
        parts = {key: int(clock.group(key) or 0) for key in "dhms"}
        fraction = int((clock.group("f") or "").ljust(7, "0")[:6] or 0)
        value = timedelta(days=parts["d"], hours=parts["h"], minutes=parts["m"], seconds=parts["s"])
        microseconds = value // timedelta(microseconds=1) + fraction
        return _in_range(-microseconds if clock.group("sign") else microseconds, body, span)
    if body.isdigit():
        return _in_range(int(body) * _UNITS["d"], body, span)
    sign, digits = (-1, body[1:]) if body.startswith("-") else (1, body)
    return sign * _span(digits, span)[1]


def _bool(body: str, span: Span) -> bool:
    return {"true": True, "false": False, "1": True, "0": False}[body]


def _int(body: str, span: Span) -> int:
    value = int(body)
    if not -(2**31) <= value < 2**31:
        raise ValueError
    return value


def _signed_long(body: str, span: Span) -> int:
    value = int(body, 16) if body[:2] in ("0x", "0X") else int(body)
    if not -_LONG_MAX - 1 <= value <= _LONG_MAX:
        raise ValueError
    return value


_LITERALS: Final[dict[str, Callable[[str, Span], tuple[str, Any]]]] = {
    "typed": _typed,
    "string": _string,
    "span": _span,
    "real": _real,
    "long": _long,
}
_TYPED: Final[dict[str, Callable[[str, Span], Any]]] = {
    "datetime": _datetime,
    "timespan": _timespan,
    "bool": _bool,
    "int": _int,
    "long": _signed_long,
    "real": lambda body, _: float(body),
}
