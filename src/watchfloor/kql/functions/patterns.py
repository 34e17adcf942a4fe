"""What parse and parse-kv look for in a text: the routines behind those operators.

Their names begin with ``__``: a query cannot call them. The pattern of parse is one regular expression that the binder
has put together; a column is one of its groups.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from watchfloor.kql import regex
from watchfloor.kql.functions.spec import Template, scalar

MAX_QUOTED: Final = 10_000
"""How long a quoted key or value may be: what is longer is not taken as quoted."""


def _template(arguments: Sequence[Any], text: str, **values: Any) -> Template | None:
    """``text`` with the pattern as RE2 reads it; where that holds for ASCII only, for ASCII only."""
    compiled = regex.compile(arguments[1].value)
    if compiled.re2 is not None:
        return Template(text, {"pattern": compiled.re2, **values})
    if compiled.re2_ascii is None:
        return None
    guarded = f"CASE WHEN strlen($a) = length($a) THEN {text} ELSE $routine END"
    return Template(guarded, {"pattern": compiled.re2_ascii, **values})


def _extract(arguments: Sequence[Any]) -> Template | None:
    names = [f"c{number}" for number in range(1, regex.compile(arguments[1].value).groups + 1)]
    text = f"struct_extract(regexp_extract($a, $pattern, $names), 'c{arguments[2].value}')"
    return _template(arguments, text, names=names)


def _matches(arguments: Sequence[Any]) -> Template | None:
    return _template(arguments, "regexp_matches($a, $pattern)")


@scalar("__parse", "string =string =long", "string", page="parse-operator", nulls="total", duckdb=_extract)
def parse_group(text: str, pattern: str, group: int) -> str:
    """What ``group`` of ``pattern`` holds in the first match; '' where there is none."""
    found = regex.compile(pattern).search(text or "")
    span = None if found is None else found[group]
    return "" if span is None else text[span[0] : span[1]]


@scalar("__parse_matches", "string =string", "bool", page="parse-where-operator", nulls="total", duckdb=_matches)
def parse_matches(text: str, pattern: str) -> bool:
    """Whether ``pattern`` is somewhere in ``text``."""
    return regex.compile(pattern).search(text or "") is not None


@scalar("__parse_kv", "string =string", "dynamic", page="parse-kv-operator", nulls="total")
def parse_kv(text: str, options: str) -> dict[str, str]:
    """The wanted keys that ``text`` has, each with its first value as text.

    ``options`` is JSON: ``keys``; and ``regex``, or ``pair`` and ``pairs`` (the delimiter between a key and its value,
    and that between pairs; both empty: anything that is neither letter nor digit), ``quotes`` (pairs of opening and
    closing), ``escapes``, ``greedy`` (a value goes on until the next key).
    """
    wanted = _options(options)
    found: dict[str, str] = {}
    if wanted["regex"]:
        pairs = _by_regex(text or "", wanted["regex"])
    elif wanted["pair"]:
        pairs = _by_delimiters(text or "", wanted)
    else:
        pairs = _by_any_sign(text or "", wanted)
    for key, value in pairs:
        if key in wanted["keys"]:
            found.setdefault(key, value)
    return found


@lru_cache(maxsize=256)
def _options(text: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(text)
    return read


def _by_regex(text: str, pattern: str) -> Iterator[tuple[str, str]]:
    compiled = regex.compile(pattern)
    start = 0
    while start <= len(text):
        found = compiled.search(text, start)
        if found is None or found[0] is None:
            return
        key, value = ("" if span is None else text[span[0] : span[1]].strip() for span in found[1:3])
        yield key, value
        start = max(found[0][1], start + 1) if found[0][1] > found[0][0] else found[0][1] + 1


def _quoted(text: str, start: int, options: dict[str, Any]) -> tuple[str, int] | None:
    """The quoted text that begins at ``start``, without its quotes, and where it ends; None if there is none."""
    for opening, closing in options["quotes"]:
        if not text.startswith(opening, start) or closing not in text[start + 1 : start + MAX_QUOTED]:
            continue
        signs: list[str] = []
        place = start + 1
        while place < min(len(text), start + MAX_QUOTED):
            if text[place] in options["escapes"] and place + 1 < len(text):
                signs.append(text[place + 1])
                place += 2
                continue
            if text[place] == closing:
                return "".join(signs), place + 1
            signs.append(text[place])
            place += 1
    return None


def _skip_blanks(text: str, place: int, delimiter: str) -> int:
    while place < len(text) and text[place].isspace() and not text.startswith(delimiter, place):
        place += 1
    return place


def _by_delimiters(text: str, options: dict[str, Any]) -> Iterator[tuple[str, str]]:
    pair, between = options["pair"], options["pairs"]
    place = 0
    while place < len(text):
        place = _skip_blanks(text, place, between)
        quoted = _quoted(text, place, options)
        if quoted is not None and text.startswith(pair, _skip_blanks(text, quoted[1], pair)):
            key, place = quoted[0], _skip_blanks(text, quoted[1], pair)
        else:
            ends = text.find(pair, place)
            if ends < 0:
                return
            stop = text.rfind(between, place, ends)
            key, place = text[place if stop < 0 else stop + len(between) : ends].strip(), ends
        place = _skip_blanks(text, place + len(pair), between)
        quoted = _quoted(text, place, options)
        if quoted is not None:
            value, place = quoted
            stop = text.find(between, place)
        else:
            stop = _end_of_value(text, place, options)
            value = text[place : len(text) if stop < 0 else stop].strip()
        yield key, value
        if stop < 0:
            return
        place = stop + len(between)


def _end_of_value(text: str, place: int, options: dict[str, Any]) -> int:
    """Where the value that begins at ``place`` ends: a delimiter between pairs, -1 for the end of the text."""
    pair, between = options["pair"], options["pairs"]
    stop = text.find(between, place)
    if not options["greedy"]:
        return stop
    following = text.find(pair, place)
    while stop >= 0:
        if following < 0:
            return -1
        later = text.find(between, stop + len(between))
        if following < (later if later >= 0 else len(text)) and following > stop:
            return stop
        stop = later
    return -1


def _by_any_sign(text: str, options: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Words are runs of letters and digits, or quoted; a wanted key's value is the word behind it."""
    place = 0
    key: str | None = None
    while place < len(text):
        quoted = _quoted(text, place, options)
        if quoted is not None:
            found, place = quoted
        elif text[place].isalnum():
            start = place
            while place < len(text) and text[place].isalnum():
                place += 1
            found = text[start:place]
        else:
            place += 1
            continue
        if key is not None:
            yield key, found
            key = None
        elif found in options["keys"]:
            key = found
