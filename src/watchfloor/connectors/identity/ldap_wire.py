"""LDAP v3 on the wire (RFC 4511): requests to bytes, bytes to responses, as far as the connector asks.

Pure: no socket, no clock. BER in the form that LDAP demands, lengths definite. What cannot be read raises
``BadMessage`` and nothing else, whatever a server sends. Filters are made of values, so that no name becomes syntax.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MAX_MESSAGE: Final = 8 * 1024 * 1024
"""Bytes of one message; a longer one is not read."""

_INTEGER, _OCTETS, _ENUM, _BOOLEAN, _SEQUENCE, _SET = 0x02, 0x04, 0x0A, 0x01, 0x30, 0x31
_PAGED: Final = b"1.2.840.113556.1.4.319"
_START_TLS: Final = b"1.3.6.1.4.1.1466.20037"

BIND, SEARCH_ENTRY, SEARCH_DONE, SEARCH_REFERENCE, MODIFIED, EXTENDED = 0x61, 0x64, 0x65, 0x73, 0x67, 0x78
"""Tags of responses."""

ADD, DELETE, REPLACE = 0, 1, 2
"""What a modification does with the values of an attribute."""


class BadMessage(ValueError):
    """The bytes are no LDAP message."""


@dataclass(frozen=True, slots=True)
class Equal:
    """Entries whose ``attribute`` has ``value``."""

    attribute: str
    value: str


@dataclass(frozen=True, slots=True)
class All:
    """Entries that fit every part."""

    parts: tuple[Equal | All, ...]


Filter = Equal | All


@dataclass(frozen=True, slots=True)
class Response:
    """A message of the server. ``code`` is the result's, 0 for entries; ``cookie`` asks for the next page."""

    id: int
    tag: int
    code: int = 0
    text: str = ""
    dn: str = ""
    attributes: Mapping[str, tuple[bytes, ...]] | None = None
    cookie: bytes = b""


# -- writing ------------------------------------------------------------------------------------------------------


def _tlv(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + body


def _integer(value: int, tag: int = _INTEGER) -> bytes:
    return _tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, signed=True))


def _text(value: str | bytes, tag: int = _OCTETS) -> bytes:
    return _tlv(tag, value.encode() if isinstance(value, str) else value)


def _boolean(value: bool) -> bytes:
    return _tlv(_BOOLEAN, b"\xff" if value else b"\0")


def _filter(asked: Filter) -> bytes:
    if isinstance(asked, Equal):
        return _tlv(0xA3, _text(asked.attribute) + _text(asked.value))
    return _tlv(0xA0, b"".join(map(_filter, asked.parts)))


def _message(number: int, operation: bytes, controls: bytes = b"") -> bytes:
    return _tlv(_SEQUENCE, _integer(number) + operation + (_tlv(0xA0, controls) if controls else b""))


def bind(number: int, dn: str, password: str) -> bytes:
    """Sign in by name and password."""
    return _message(number, _tlv(0x60, _integer(3) + _text(dn) + _text(password, 0x80)))


def unbind(number: int) -> bytes:
    """Say good-bye; nobody answers."""
    return _message(number, bytes((0x42, 0)))


def start_tls(number: int) -> bytes:
    """Ask to go on over TLS."""
    return _message(number, _tlv(0x77, _text(_START_TLS, 0x80)))


def search(
    number: int,
    base: str,
    asked: Filter,
    attributes: Iterable[str],
    *,
    page: int,
    cookie: bytes = b"",
    seconds: int = 0,
) -> bytes:
    """One page of the entries at or below ``base``; of ``attributes``, those that there are."""
    body = _text(base) + _integer(2, _ENUM) + _integer(0, _ENUM) + _integer(0) + _integer(seconds) + _boolean(False)
    body += _filter(asked) + _tlv(_SEQUENCE, b"".join(map(_text, attributes)))
    paged = _tlv(_SEQUENCE, _integer(page) + _text(cookie))
    return _message(number, _tlv(0x63, body), _tlv(_SEQUENCE, _text(_PAGED) + _boolean(False) + _text(paged)))


def modify(number: int, dn: str, changes: Sequence[tuple[int, str, Sequence[str]]]) -> bytes:
    """Change attributes of ``dn``, all or none: (what, attribute, values) each."""
    parts = b"".join(
        _tlv(_SEQUENCE, _integer(what, _ENUM) + _tlv(_SEQUENCE, _text(name) + _tlv(_SET, b"".join(map(_text, values)))))
        for what, name, values in changes
    )
    return _message(number, _tlv(0x66, _text(dn) + _tlv(_SEQUENCE, parts)))


# -- reading ------------------------------------------------------------------------------------------------------


def frame(buffer: bytes | bytearray) -> int:
    """How many bytes the first message in ``buffer`` has, or 0 while that cannot be told. Raises ``BadMessage``."""
    if not buffer:
        return 0
    if buffer[0] != _SEQUENCE:
        raise BadMessage("no LDAP message begins like this")
    if len(buffer) < 2:
        return 0
    if buffer[1] < 0x80:
        return 2 + buffer[1]
    count = buffer[1] & 0x7F
    if not 0 < count <= 4:
        raise BadMessage("a length that LDAP does not allow")
    if len(buffer) < 2 + count:
        return 0
    size = 2 + count + int.from_bytes(buffer[2 : 2 + count])
    if size > MAX_MESSAGE:
        raise BadMessage(f"a message of more than {MAX_MESSAGE} bytes")
    return size


class _Reader:
    """Elements of a piece of BER, one after the other."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: memoryview) -> None:
        self._data, self._at, self._end = data, 0, len(data)

    def __bool__(self) -> bool:
        return self._at < self._end

    def next(self) -> tuple[int, memoryview]:
        """Tag and content of the next element."""
        data, at = self._data, self._at
        if at + 2 > self._end:
            raise BadMessage("it breaks off")
        tag, size = data[at], data[at + 1]
        at += 2
        if size >= 0x80:
            count = size & 0x7F
            if not 0 < count <= 4 or at + count > self._end:
                raise BadMessage("a length that LDAP does not allow")
            size = int.from_bytes(data[at : at + count])
            at += count
        if at + size > self._end:
            raise BadMessage("it breaks off")
        self._at = at + size
        return tag, data[at : at + size]

    def take(self, tag: int) -> memoryview:
        """The content of the next element, which must have ``tag``."""
        found, content = self.next()
        if found != tag:
            raise BadMessage(f"tag {found:#x} where {tag:#x} must stand")
        return content

    def number(self, tag: int = _INTEGER) -> int:
        """The next element as a number."""
        content = self.take(tag)
        if not 0 < len(content) <= 8:
            raise BadMessage("a number that is none")
        return int.from_bytes(content, signed=True)

    def text(self) -> str:
        """The next element as text; what is not UTF-8 shows as such."""
        return bytes(self.take(_OCTETS)).decode("utf-8", "replace")


def parse(message: bytes) -> Response:
    """What one message says. Raises ``BadMessage``."""
    outer = _Reader(memoryview(message))
    body = _Reader(outer.take(_SEQUENCE))
    if outer:
        raise BadMessage("more than one message")
    number = body.number()
    tag, content = body.next()
    inner = _Reader(content)
    if tag == SEARCH_ENTRY:
        return Response(number, tag, dn=inner.text(), attributes=_attributes(_Reader(inner.take(_SEQUENCE))))
    if tag == SEARCH_REFERENCE:
        return Response(number, tag)
    if tag not in (BIND, SEARCH_DONE, MODIFIED, EXTENDED):
        raise BadMessage(f"an operation {tag:#x} that nobody asked for")
    code, dn, text = inner.number(_ENUM), inner.text(), inner.text()
    cookie = b""
    if body:
        controls = _Reader(body.take(0xA0))
        while controls:
            cookie = _cookie(_Reader(controls.take(_SEQUENCE))) or cookie
    return Response(number, tag, code, text, dn, None, cookie)


def _attributes(items: _Reader) -> dict[str, tuple[bytes, ...]]:
    found: dict[str, tuple[bytes, ...]] = {}
    while items:
        item = _Reader(items.take(_SEQUENCE))
        name, values, kept = item.text(), _Reader(item.take(_SET)), []
        while values:
            kept.append(bytes(values.take(_OCTETS)))
        # Names come back as the server likes to write them.
        found[name.lower()] = tuple(kept)
    return found


def _cookie(control: _Reader) -> bytes:
    if bytes(control.take(_OCTETS)) != _PAGED:
        return b""
    while control:
        tag, content = control.next()
        if tag == _OCTETS:
            paged = _Reader(_Reader(content).take(_SEQUENCE))
            paged.number()
            return bytes(paged.take(_OCTETS))
    return b""
