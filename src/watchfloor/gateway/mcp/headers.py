"""The HTTP headers of an MCP request: which mean something, how values are encoded, which may be sent on. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from watchfloor.gateway.mcp.rpc import HEADER_MISMATCH, Rejected

_ROUTING: Final = frozenset(
    {b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"mcp-session-id", b"authorization", b"last-event-id"}
)
_KEPT: Final = _ROUTING | {
    b"accept",
    b"content-type",
    b"content-length",
    b"traceparent",
    b"tracestate",
    b"origin",
    b"x-forwarded-for",
    b"user-agent",
}
_BASE64_VALUE: Final = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


@dataclass(frozen=True, slots=True)
class Headers:
    """The headers of a request that mean something here; all others end here."""

    values: Mapping[bytes, bytes]
    params: tuple[tuple[str, str], ...] = ()
    duplicated: str | None = None

    def text(self, name: bytes) -> str | None:
        """A header's value, or None."""
        value = self.values.get(name)
        return None if value is None else value.decode("latin-1")


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Keep what matters of raw ASGI header lines and note a routing header that appears twice."""
    values: dict[bytes, bytes] = {}
    params: list[tuple[str, str]] | None = None
    duplicated = None
    for name, value in raw:
        if name in _KEPT:
            if name in values and name in _ROUTING:
                duplicated = name.decode()
            if name in values and name == b"x-forwarded-for":
                value = values[name] + b"," + value
            values[name] = value
        elif name.startswith(b"mcp-param-"):
            params = params or []
            params.append((name.decode("latin-1"), value.decode("latin-1")))
    return Headers(values, tuple(params) if params else (), duplicated)


def decode_header(value: str | None) -> str | None:
    """A header's value as the protocol encodes it: verbatim, or ``=?base64?…?=``; None where that is malformed."""
    if value is None:
        return None
    match = _BASE64_VALUE.fullmatch(value)
    if match is None:
        return value
    try:
        decoded = base64.b64decode(match[1], validate=True)
        text = decoded.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return text if base64.b64encode(decoded).decode("ascii") == match[1] else None


def encode_header(value: str) -> str:
    """Inverse of ``decode_header``."""
    if value.isascii() and value.isprintable() and value == value.strip() and not _BASE64_VALUE.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode('ascii')}?="


def _rendered(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def _scalars(value: Any, path: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _scalars(inner, (*path, key))
    elif (rendered := _rendered(value)) is not None:
        yield path, rendered


def param_headers(
    headers: Headers, arguments: Mapping[str, Any], sent: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    """``Mcp-Param-*`` headers to send with ``sent``, the arguments after redaction.

    Each must carry a value that stands in ``arguments``: nothing may reach a tool beside what was decided on. Raises
    ``Rejected``.
    """
    if not headers.params:
        return ()
    paths: dict[str, tuple[str, ...]] = {}
    for path, rendered in _scalars(dict(arguments)):
        paths.setdefault(rendered, path)
    answer: dict[str, str] = {}
    for name, raw in headers.params:
        value = decode_header(raw)
        if name in answer or value is None or value not in paths:
            raise Rejected(HEADER_MISMATCH, f"The header {name[:100]} does not match an argument in the body.")
        now: Any = sent
        for key in paths[value]:
            now = now.get(key) if isinstance(now, Mapping) else None
        answer[name] = encode_header(_rendered(now) or "")
    return tuple(answer.items())


def trace_id(headers: Headers, params: Any) -> str:
    """The W3C trace id of a request, or nothing: of the header, else of ``params._meta``, where MCP's SDKs put it."""
    meta = params.get("_meta") if isinstance(params, dict) else None
    in_body = meta.get("traceparent") if isinstance(meta, dict) else None
    text = headers.text(b"traceparent") or (in_body if isinstance(in_body, str) else "")
    if not text:
        return ""
    match = _TRACEPARENT.fullmatch(text)
    return match[1] if match else ""
