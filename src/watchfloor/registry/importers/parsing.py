"""Text of other people's files to plain values, within walls: JSON, JSON with comments, YAML, and a little XML.

Below ``tree``. Every way in which a text can be wrong is an ``InputError`` that names the file; time is linear in its
length. It does not know what the values mean.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final
from xml.etree import ElementTree

from watchfloor.model.errors import InputError
from watchfloor.registry.document import plain, read_document
from watchfloor.registry.problems import ManifestInvalid

_JSON: Final = (".json", ".jsonc")
_MARK: Final = re.compile(r'["/]')
_STRING_STOP: Final = re.compile(r'[\\"]')
_TRAILING_COMMA: Final = re.compile(r",(?=\s*[}\]])")
_MAX_DEPTH: Final = 200


def parse(path: str, data: bytes) -> Any:
    """The value in ``data``, as JSON or YAML by what ``path`` ends with. Raises ``InputError``."""
    text = decode(path, data)
    return parse_json(path, text) if path.lower().endswith(_JSON) else parse_yaml(path, text)


def decode(path: str, data: bytes) -> str:
    """``data`` as text. Raises ``InputError`` for anything but UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text.", where=path) from error


def parse_yaml(path: str, text: str) -> Any:
    """One YAML document; a value with a tag is a mapping of the tag to the value."""
    try:
        return plain(read_document(text, keep_tags=True))
    except ManifestInvalid as error:
        problem = error.problems[0]
        where = f"{path}, line {problem.line}" if problem.line else path
        raise InputError(problem.message, where=where) from error


def parse_json(path: str, text: str) -> Any:
    """JSON; comments and commas behind the last item are forgiven, as editors forgive them."""
    try:
        try:
            return _loads(text)
        except json.JSONDecodeError:
            return _loads(without_comments(text))
    except (ValueError, RecursionError) as error:
        said = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"is not JSON: {said}.", where=path) from error


def _loads(text: str) -> Any:
    found = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
    _check_depth(found)
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no value")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        ((double, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the member {double[:60]!r} stands twice in one object")
    return found


def _check_depth(value: Any) -> None:
    """What is nested too deeply for whoever walks through it later is refused here."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
        inner = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list))
        level = [item for items in inner for item in items if isinstance(item, dict | list)]


def without_comments(text: str) -> str:
    """``text`` without ``//`` and ``/* */`` comments and without commas before a closing bracket."""
    bare = "".join(_uncommented(text))
    return "".join(piece if is_string else _TRAILING_COMMA.sub("", piece) for is_string, piece in _strings(bare))


def _uncommented(text: str) -> Iterator[str]:
    at = 0
    while mark := _MARK.search(text, at):
        start = mark.start()
        if mark[0] == '"':
            end = _string_end(text, start)
            yield text[at:end]
            at = end
        elif text.startswith("//", start):
            yield text[at:start]
            line_end = text.find("\n", start)
            at = len(text) if line_end < 0 else line_end
        elif text.startswith("/*", start):
            yield text[at:start]
            end = text.find("*/", start + 2)
            if end < 0:
                raise ValueError("a comment has no end")
            at = end + 2
        else:
            yield text[at : start + 1]
            at = start + 1
    yield text[at:]


def _strings(text: str) -> Iterator[tuple[bool, str]]:
    at = 0
    while (start := text.find('"', at)) >= 0:
        yield False, text[at:start]
        at = _string_end(text, start)
        yield True, text[start:at]
    yield False, text[at:]


def _string_end(text: str, start: int) -> int:
    """Behind the string that starts at ``start``; the end of the text if it has none."""
    at = start + 1
    while stop := _STRING_STOP.search(text, at):
        if stop[0] == '"':
            return stop.end()
        at = stop.end() + 1
    return len(text)


def parse_xml(path: str, data: bytes) -> ElementTree.Element:
    """The root element. Raises ``InputError`` for what is no XML, or has a document type (and so may have entities)."""
    text = decode(path, data)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError("has a document type, which is not taken.", where=path)
    try:
        return ElementTree.fromstring(text)  # noqa: S314 - without a document type there are no entities to expand
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"is not XML: {error}.", where=path) from error
