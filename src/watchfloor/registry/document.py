"""YAML text to nodes that know their lines, with walls around what a text may be.

Above PyYAML's parser, below ``registry.shape``. Only the JSON part of YAML is taken: mappings with text keys, lists,
scalars. Refused before any value is built: tags, several documents, texts too long, too deep or with too many values
(an alias counts as all that it stands for), a key that stands twice. It knows no manifests; importers read other
people's files with it, in which tags may stand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from watchfloor.registry.problems import ManifestInvalid, Problem

MAX_CHARS: Final = 2_000_000
MAX_DEPTH: Final = 24
MAX_NODES: Final = 200_000

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Final[Any] = yaml.resolver.Resolver()
_CONSTRUCTOR: Final = yaml.constructor.SafeConstructor()
_STR: Final = "tag:yaml.org,2002:str"
_TYPED: Final[dict[str, Callable[[Any], Any]]] = {
    "tag:yaml.org,2002:null": _CONSTRUCTOR.construct_yaml_null,
    "tag:yaml.org,2002:bool": _CONSTRUCTOR.construct_yaml_bool,
    "tag:yaml.org,2002:int": _CONSTRUCTOR.construct_yaml_int,
    "tag:yaml.org,2002:float": _CONSTRUCTOR.construct_yaml_float,
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar: as written, and as YAML reads it (text, number, boolean or None). ``start``/``end`` are offsets."""

    text: str
    value: str | int | float | bool | None
    line: int
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """A list."""

    items: tuple[Node, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping, in the order of the text. ``start`` is the offset of its first key."""

    members: dict[str, Node]
    line: int
    start: int = 0


Node = Scalar | Listing | Mapping


def read_document(text: str, *, keep_tags: bool = False) -> Node:
    """The one document in ``text``. Raises ``ManifestInvalid``.

    ``keep_tags``: a value with a tag of its own (``!Ref x``) is a mapping of the tag to the value, and not refused.
    """
    if len(text) > MAX_CHARS:
        raise _invalid(f"the text has {len(text)} characters; {MAX_CHARS} is the most.", "Split it.", 0)
    try:
        builder = _Builder(yaml.parse(text, Loader=_LOADER), keep_tags)
        builder.next()  # the stream
        if isinstance(builder.next(), yaml.StreamEndEvent):
            raise _invalid("the text is empty.", "Start with apiVersion: watchfloor/v1", 1)
        node = builder.build(builder.next(), 0)
        builder.next()  # the document's end
        event = builder.next()
        if isinstance(event, yaml.DocumentStartEvent):
            raise _invalid("a second document starts here.", "One manifest has one document.", _line(event))
        return node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(part for part in (error.context, error.problem) if part)
        raise _invalid(f"this is not YAML: {message}.", "", mark.line + 1 if mark else 0) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise _invalid(f"this is not YAML: {' '.join(str(error).split())}.", "", 0) from error


def plain(node: Node) -> Any:
    """``node`` as dictionaries, lists and scalars."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.members.items()}
    if isinstance(node, Listing):
        return [plain(item) for item in node.items]
    return node.value


def _invalid(message: str, remedy: str, line: int) -> ManifestInvalid:
    return ManifestInvalid([Problem("manifest", message, remedy, line)])


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


class _Builder:
    """Events to nodes, within the limits."""

    def __init__(self, events: Iterator[Any], keep_tags: bool) -> None:
        self._events = events
        self._keep_tags = keep_tags
        self._count = 0
        self._anchors: dict[str, tuple[Node, int]] = {}

    def next(self) -> Any:
        """The next event."""
        return next(self._events)

    def build(self, event: Any, depth: int) -> Node:
        """The node that starts with ``event``."""
        before = self._count
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _invalid(f"*{event.anchor} stands for nothing above it.", "Write the value out.", _line(event))
            node, size = self._anchors[event.anchor]
            self._add(size, event)
            return node
        self._add(1, event)
        is_tagged = event.tag is not None and event.tag != "!"
        if is_tagged and not self._keep_tags:
            raise _invalid(f"tags ({event.tag}) are not taken.", "Write the plain value.", _line(event))
        node = self._node(event, depth)
        if is_tagged and event.tag.startswith("!"):
            node = Mapping({event.tag: node}, _line(event))
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._count - before)
        return node

    def _add(self, count: int, event: Any) -> None:
        self._count += count
        if self._count > MAX_NODES:
            raise _invalid(f"the text stands for more than {MAX_NODES} values.", "Split it.", _line(event))

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if depth == MAX_DEPTH:
            raise _invalid(f"this is nested more than {MAX_DEPTH} deep.", "", _line(event))
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := self.next(), yaml.SequenceEndEvent):
                items.append(self.build(inner, depth + 1))
            return Listing(tuple(items), _line(event))
        members: dict[str, Node] = {}
        start = 0
        while not isinstance(key := self.next(), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise _invalid("a key must be a word.", "", _line(key))
            name = str(key.value)
            if name in members:
                raise _invalid(f"the key {name[:60]!r} stands twice in one mapping.", "Remove one.", _line(key))
            start = start if members or key.start_mark is None else key.start_mark.index
            members[name] = self.build(self.next(), depth + 1)
        return Mapping(members, _line(event), start)


def _scalar(event: Any) -> Scalar:
    text = str(event.value)
    start, end = event.start_mark.index, event.end_mark.index
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, event.implicit) if event.implicit[0] else _STR
    # Dates and the like count as the text that they are: JSON has no such values, and nobody expects them here.
    if tag not in _TYPED:
        return Scalar(text, text, _line(event), start, end)
    node = yaml.ScalarNode(tag, text, event.start_mark, event.end_mark)
    try:
        value = _TYPED[tag](node)
    except ValueError:  # 0b, 1__, sexagesimal: matched as a number, but none; or thousands of digits
        return Scalar(text, text, _line(event), start, end)
    if isinstance(value, float) and not math.isfinite(value):
        raise _invalid(f"{text} is not a number here.", "", _line(event))
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        raise _invalid(f"the number {text[:30]} is too large.", 'Quote it if it is text: "…".', _line(event))
    return Scalar(text, value, _line(event), start, end)
