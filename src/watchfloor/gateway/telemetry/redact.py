"""What may not be stored as it came: secrets, stack traces, paths of people's machines, and too much of anything.

    metadata, text   values that everyone who may hunt can read: secrets masked, local paths shortened to
                     ``<path>/name``, stack traces dropped to what went wrong, long texts cut
    content          values that only some may read: secrets masked, and cut, later

What is a secret is the guard's to say (``guard/detectors/secrets.py``), here as in tool calls. Above is ``mapping``.
Every function is total: whatever a sender sends, it is answered with something that can be written as JSON. No value is
left out silently: what is cut, dropped or masked leaves a mark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Mapping
from typing import Any, Final

import orjson

from watchfloor.gateway.telemetry.conventions import Care
from watchfloor.guard.detectors import secrets

MAX_TEXT: Final = 4_096
"""Characters of a text in metadata, and of a structure's JSON."""
MAX_CONTENT: Final = 262_144
"""Characters of a content's JSON."""
MAX_DEPTH: Final = 16
"""Levels of nesting; what lies deeper is kept as text, down to ``_DEEPEST`` more."""
_DEEPEST: Final = 64

MASKED: Final = "[masked]"
_USUAL: Final = Care.USUAL
_LONG: Final = 2**63

# -- a quick look -------------------------------------------------------------------------------------------------

_RUN: Final = b"x" * 20


def _runs(characters: str) -> bytes:
    """Turns UTF-8 into runs of x wherever ASCII letters, digits and ``characters`` follow each other."""
    return bytes(
        ord("x") if code < 128 and (chr(code).isalnum() or chr(code) in characters) else ord(" ") for code in range(256)
    )


_TOKENS: Final = _runs("_-.=~")
_MARKS: Final = ("ecret", "Key=", "whsec_", "slack.com", "PRIVATE KEY")


def may_hold_secrets(text: str) -> bool:
    """Never no to a text with a secret in it, be it a value or the JSON of many values. (By test, against every kind
    that the guard knows.) Most texts are told apart at a fraction of what the search costs.

    A secret is a long run of certain characters; those in which a slash may break the run stand beside a mark, as do
    private keys; and there are passwords of URLs. JSON's escapes are no way around it: they only lengthen a run.
    """
    if not text.strip("0123456789abcdef-"):  # a GUID or the like: what begins every secret has other letters
        return False
    if not text.isascii() and secrets.INVISIBLE.search(text):  # the search looks through them, and so do we
        text = secrets.INVISIBLE.sub("", text)
    if "@" in text and "://" in text:
        return True
    for mark in _MARKS:
        if mark in text:
            return True
    return _RUN in text.encode("utf-8", "replace").translate(_TOKENS)


class _Clean(set[str]):
    """Short metadata texts that need nothing done: most values come again and again. Bounded; what is masked is never
    kept."""

    _MOST = 8_192
    _LONGEST = 80

    def learn(self, text: str) -> None:
        if len(text) <= self._LONGEST:
            if len(self) >= self._MOST:
                self.clear()
            self.add(text)


clean: Final = _Clean()
"""``value in clean``: nothing would be changed. Saves ``mapping`` a call for most values."""

# -- local paths --------------------------------------------------------------------------------------------------

_ROOTS: Final = "home|Users|root|usr|opt|var|tmp|etc|mnt|srv|private|Library|Volumes|nix|proc|workspaces?|Applications"
_STOP: Final = r"\s\"'<>|:;,()\[\]{}="
_NAME: Final = rf"[^{_STOP}\\/]+"
_BEFORE: Final = rf"(?<![^{_STOP}])"
"""A path starts where no name goes on: not behind the host of a URL, and no text is read twice in search of one."""

_FILE_URL: Final = rf"file:/{{1,3}}{_NAME}(?:/{_NAME})*/?"
_WINDOWS: Final = (
    r"(?<![A-Za-z0-9])[A-Za-z]:(?:\\{1,2}[^\\/:*?\"<>|\r\n]+?)*\\{1,2}[^\\/:*?\"'<>|\s,;()\[\]]*"
    r"|(?<![A-Za-z0-9])[A-Za-z]:(?:/[^\\/:*?\"'<>|\s]+)+"
    r"|(?<![\\\w:])\\\\[\w.$-]+(?:\\{1,2}[^\\/:*?\"<>|\s,;]+)+"
)
_UNIX: Final = rf"{_BEFORE}/(?:{_ROOTS})(?:/{_NAME})+/?|{_BEFORE}~[\w.\-]*(?:/{_NAME})+/?"
_ANY_FILE: Final = rf"{_BEFORE}(?:/{_NAME})*/[^{_STOP}\\/]+\.[A-Za-z]\w{{0,7}}(?![\w/])"
"""A path of a file, wherever it lies. In errors only: elsewhere it is as likely a route."""

_HOME: Final = re.compile(r"(?:/home|/Users|[A-Za-z]:[\\/]+Users)[\\/]+[^\\/]+[\\/]*", re.IGNORECASE)
"""A home directory itself: its name is a person's."""

_PATHS: Final = {
    Care.USUAL: re.compile(f"{_FILE_URL}|{_WINDOWS}|{_UNIX}"),
    Care.ADDRESS: re.compile(f"{_FILE_URL}|{_WINDOWS}"),
    Care.ERROR: re.compile(f"{_FILE_URL}|{_WINDOWS}|{_UNIX}|{_ANY_FILE}"),
}


def _shorten(match: re.Match[str]) -> str:
    path = match[0]
    if _HOME.fullmatch(path):
        return "<path>"
    return "<path>/" + re.split(r"[\\/]+", path.rstrip("\\/"))[-1]


def _without_paths(text: str, care: Care) -> str:
    if "/" not in text and "\\" not in text:
        return text
    return _PATHS[care].sub(_shorten, text)


# -- stack traces -------------------------------------------------------------------------------------------------

_PYTHON_FRAME: Final = re.compile(r"\s*(?:\|\s*)?File \"[^\"]*\", line \d+")
_FRAME: Final = re.compile(
    r"\s*(?:\|\s*)?Traceback \(most recent call last\):\s*"  # Python
    r"|[ \t]+[\^~][\^~ \t]*"
    r"|[ \t]+at (?:async |new )?[^\s(]+\(.*\)(?: in .*)?"  # Java, .NET
    r"|[ \t]+at (?:async |new )?(?:[^\s(]+ (?:\[as [^\s\]]+\] )?)?\(?(?:[^\s()\d][^\s()]*:\d+|<anonymous>)\)?"  # JS
    r"|[ \t]*\.\.\. \d+ (?:more|common frames omitted)"
    r"|[ \t]*--- End of .*"
    r"|goroutine \d+ \[.*"  # Go
    r"|[ \t]+\S+\.go:\d+.*"
    r"|[ \t]+from \S+:\d+:in .*"  # Ruby
    r"|[ \t]+\S+:\d+:in [`'].*"
)
_TRACE_MARKS: Final = ("Traceback (", "\n    at ", "\n\tat ", "\n   at ", "\n  at ", "goroutine ", ":in `", ":in '")


def without_trace(text: str) -> str:
    """``text`` without the lines of stack traces: the errors' types and messages remain."""
    if not any(mark in text for mark in _TRACE_MARKS):
        return text
    kept: list[str] = []
    is_source = False
    for line in text.splitlines():
        if _PYTHON_FRAME.match(line):
            is_source = True  # the frame's own line of source follows, indented more
        elif is_source and line.startswith(("    ", "  |     ")):
            is_source = False
        elif not _FRAME.fullmatch(line):
            is_source = False
            kept.append(line)
    return "\n".join(kept).strip()


# -- texts --------------------------------------------------------------------------------------------------------


def cut(text: str, limit: int) -> str:
    """``text``, of which at most ``limit`` characters and a mark with its length."""
    return text if len(text) <= limit else f"{text[:limit]}… [cut: {len(text)} characters]"


def _encodable(text: str) -> str:
    """Half surrogate pairs, which no encoding can write, become question marks."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def text(value: str, care: Care = Care.USUAL) -> str:
    """A metadata text, fit to be read by everyone who may hunt."""
    if care is _USUAL and value in clean:
        return value
    if care is Care.SECRET:
        return MASKED
    if care is Care.TRACE:
        return f"[dropped: {len(value)} characters]"
    found = _encodable(value)
    if may_hold_secrets(found):
        found = secrets.mask(found)
    if "\n" in found:
        found = without_trace(found)
    found = cut(_without_paths(found, care), MAX_TEXT)
    if care is _USUAL and found == value:
        clean.learn(value)
    return found


def error(value: str) -> str:
    """The text of an error."""
    return text(value, Care.ERROR)


def _content_text(value: str) -> str:
    found = _encodable(value)
    return secrets.mask(found) if may_hold_secrets(found) else found


# -- structures ---------------------------------------------------------------------------------------------------


def metadata(value: Any, care: Care = Care.USUAL) -> Any:
    """A metadata value, whatever it is."""
    if isinstance(value, str):
        return text(value, care)
    if value is None or isinstance(value, bool) or (type(value) is int and -_LONG <= value < _LONG):
        return MASKED if care is Care.SECRET and value is not None else value
    if care is Care.SECRET:
        return MASKED
    found = _walk(value, lambda item: text(item, care), MAX_DEPTH)
    if isinstance(found, dict | list):
        written = as_json(found)
        if len(written) > MAX_TEXT:
            return cut(written, MAX_TEXT)
    return found


def parsed(value: Any) -> Any:
    """``value``, or if it is the JSON of an object or array, what it says."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def content(value: Any) -> str:
    """A content, whatever it is, as JSON: what an attribute says, where that is JSON, and else the text itself."""
    return _cut_json(_content(value))


def contents(values: Mapping[str, Any]) -> str:
    """The content of several attributes as a JSON object of them; of one, that of its value."""
    if len(values) == 1:
        return content(*values.values())
    parts = [f"{as_json(name)}:{_content(value)}" for name, value in values.items()]
    return _cut_json("{" + ",".join(parts) + "}")


def _content(value: Any) -> str:
    if isinstance(value, str):
        # Written anew: escapes in what came may hide what a secret looks like.
        value = parsed(value)
        try:
            written = as_json(value)
        except (TypeError, RecursionError):
            pass
        else:
            brackets = written.count("{") + written.count("[")
            if not may_hold_secrets(written) and (brackets <= MAX_DEPTH or not _is_deeper(value, MAX_DEPTH)):
                return written
    return as_json(_walk(value, _content_text, MAX_DEPTH))


def _is_deeper(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return depth == 0 or any(_is_deeper(item, depth - 1) for item in value)


def _cut_json(written: str) -> str:
    return written if len(written) <= MAX_CONTENT else as_json(cut(written, MAX_CONTENT))


def as_json(value: Any) -> str:
    """``value``, which came from here, as JSON."""
    return orjson.dumps(value).decode()


def unique(name: str, taken: Container[str]) -> str:
    """``name``, which masking may have made the same as another."""
    found, count = name, 1
    while found in taken:
        count += 1
        found = f"{name} [{count}]"
    return found


def _walk(value: Any, of_text: Callable[[str], str], depth: int) -> Any:
    if isinstance(value, str):
        return of_text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # JSON readers differ on whole numbers beyond 64 bits; hexadecimal has no limit.
        return int(value) if -_LONG <= value < _LONG else hex(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if not isinstance(value, Mapping | list | tuple) or depth < -_DEEPEST:
        return f"[{type(value).__name__}]"
    if isinstance(value, Mapping):
        found: Any = {}
        for key, item in value.items():
            found[unique(_name(key), found)] = _walk(item, of_text, depth - 1)
    else:
        found = [_walk(item, of_text, depth - 1) for item in value]
    return as_json(found) if depth == 0 else found


def _name(key: Any) -> str:
    return cut(_content_text(key), MAX_TEXT) if isinstance(key, str) else f"[{type(key).__name__}]"
