"""OTLP in protobuf: an ``ExportTraceServiceRequest`` as spans.

Messages are those that OpenTelemetry publishes (opentelemetry-proto 1.x, "OTLP/Protobuf"). A request whose bytes are
damaged somewhere is taken apart by hand, so that one bad span never takes its neighbours along: whatever still parses
is a span, and what does not is quarantined as it came. The answers to a request are made here, too.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from watchfloor.gateway.telemetry.spans import Decoded, Reject, Span, SpanEvent, Unreadable

_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES: Final = ("unset", "ok", "error")
_MAX_DEPTH: Final = 32


def decode(body: bytes) -> Decoded:
    """The spans of ``body``. Raises ``Unreadable`` if it is no such request at all."""
    found = Decoded()
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        _salvage(body, found)
        if not found.spans:
            raise Unreadable(f"The body is no ExportTraceServiceRequest: {error}") from error
        return found
    for r, by_resource in enumerate(request.resource_spans):
        resource = _attributes(by_resource.resource.attributes)
        for s, by_scope in enumerate(by_resource.scope_spans):
            scope = by_scope.scope.name
            for n, message in enumerate(by_scope.spans):
                _add(found, message, resource, scope, (r, s, n))
    return found


def response(rejected: int = 0, message: str = "") -> bytes:
    """The answer to a request of which ``rejected`` spans were not taken."""
    answer = ExportTraceServiceResponse()
    if rejected:
        partial = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
        answer = ExportTraceServiceResponse(partial_success=partial)
    raw: bytes = answer.SerializeToString()
    return raw


# -- one span ---------------------------------------------------------------------------------------------------------


def _add(found: Decoded, message: trace_pb2.Span, resource: dict[str, Any], scope: str, at: tuple[int, ...]) -> None:
    trace_id, span_id = message.trace_id, message.span_id
    wrong = ""
    if len(trace_id) != 16 or not any(trace_id):
        wrong = "traceId must be 16 bytes that are not all zero."
    elif len(span_id) != 8 or not any(span_id):
        wrong = "spanId must be 8 bytes that are not all zero."
    elif message.parent_span_id and len(message.parent_span_id) != 8:
        wrong = "parentSpanId must be 8 bytes, or empty."
    if wrong:
        found.rejects.append(_reject(message.SerializeToString(), at, wrong, trace_id.hex(), span_id.hex()))
        return
    parent = message.parent_span_id
    found.spans.append(
        Span(
            trace_id.hex(),
            span_id.hex(),
            message.name,
            message.start_time_unix_nano,
            message.end_time_unix_nano,
            parent.hex() if parent and any(parent) else "",
            _KINDS[message.kind] if 0 <= message.kind < len(_KINDS) else "unspecified",
            _attributes(message.attributes),
            resource,
            scope,
            _STATUSES[message.status.code] if 0 <= message.status.code < len(_STATUSES) else "unset",
            message.status.message,
            [SpanEvent(e.name, e.time_unix_nano, _attributes(e.attributes)) for e in message.events],
            [
                {
                    "traceId": link.trace_id.hex(),
                    "spanId": link.span_id.hex(),
                    "attributes": _attributes(link.attributes),
                }
                for link in message.links
            ],
        )
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        value = pair.value
        # Nearly all values are texts: asking for one costs half of asking what there is.
        found[pair.key] = value.string_value or _value(value, 0)
    return found


def _value(value: AnyValue, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if kind == "array_value":
        return [_value(v, depth + 1) for v in value.array_value.values] if depth < _MAX_DEPTH else "…"
    if kind == "kvlist_value":
        pairs = value.kvlist_value.values
        return {pair.key: _value(pair.value, depth + 1) for pair in pairs} if depth < _MAX_DEPTH else "…"
    return getattr(value, kind)


def _reject(raw: bytes, at: tuple[int, ...], reason: str, trace_id: str = "", span_id: str = "") -> Reject:
    names = ("resourceSpans", "scopeSpans", "spans")
    place = ".".join(f"{name}[{n}]" for name, n in zip(names, at, strict=False)) or "body"
    original = {"protobuf": base64.b64encode(raw).decode()}
    return Reject(place, reason, original, trace_id, span_id, len(raw))


# -- what is left of a damaged request --------------------------------------------------------------------------------


def _salvage(body: bytes, found: Decoded) -> None:
    """Take a damaged request apart field by field: resourceSpans (1), in them resource (1) and scopeSpans (2), in
    those scope (1) and spans (2); see trace.proto."""
    for r, by_resource in enumerate(_parts(body, 1, found, ())):
        resources = [_parsed(Resource, raw) for raw in _parts(by_resource, 1, found, (r,))]
        attributes = _attributes(resources[-1].attributes) if resources and resources[-1] is not None else {}
        for s, by_scope in enumerate(_parts(by_resource, 2, found, (r,))):
            scopes = [_parsed(InstrumentationScope, raw) for raw in _parts(by_scope, 1, found, (r, s))]
            name = scopes[-1].name if scopes and scopes[-1] is not None else ""
            for n, raw in enumerate(_parts(by_scope, 2, found, (r, s))):
                message = _parsed(trace_pb2.Span, raw)
                if message is None:
                    found.rejects.append(_reject(raw, (r, s, n), "The span's bytes are damaged."))
                else:
                    _add(found, message, attributes, name, (r, s, n))


def _parsed(kind: Any, raw: bytes) -> Any:
    try:
        return kind.FromString(raw)
    except DecodeError:
        return None


def _parts(body: bytes, wanted: int, found: Decoded, at: tuple[int, ...]) -> list[bytes]:
    """The submessages with field number ``wanted``; where the framing ends, the rest is quarantined once."""
    parts: list[bytes] = []
    end = 0
    for number, content, end in _fields(body):  # noqa: B007 - the last end is where reading stopped
        if number == wanted and content is not None:
            parts.append(content)
    if end < len(body) and wanted == (1 if not at else 2):
        reason = f"The bytes from {end} on are no protobuf."
        found.rejects.append(_reject(body[end:], at, reason))
    return parts


def _fields(body: bytes) -> Iterator[tuple[int, bytes | None, int]]:
    """(field number, content of a length-delimited field, where it ends), as far as the framing holds."""
    at, size = 0, len(body)
    while at < size:
        tag, start = _varint(body, at)
        if start < 0:
            return
        number, wire = tag >> 3, tag & 7
        content: bytes | None = None
        if wire == 0:
            _, stop = _varint(body, start)
        elif wire == 1:
            stop = start + 8
        elif wire == 5:
            stop = start + 4
        elif wire == 2:
            length, begin = _varint(body, start)
            stop = begin + length if begin >= 0 else -1
            content = body[begin:stop] if 0 <= stop <= size else None
        else:
            return
        if number == 0 or not 0 <= stop <= size:
            return
        yield number, content, stop
        at = stop


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends); -1 where there is none."""
    value = shift = 0
    while at < len(body) and shift < 64:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, -1
