"""OTLP in protobuf: an ``ExportTraceServiceRequest`` as spans.

Messages are those that OpenTelemetry publishes (opentelemetry-proto 1.x, "OTLP/Protobuf"). A request whose bytes are
damaged somewhere is taken apart by hand, so that one bad span never takes its neighbours along: whatever still parses
is a span, and what does not is quarantined as it came. The answers to a request are made here, too.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from watchfloor.gateway.telemetry.spans import Decoded, Reject, Span, SpanEvent, Unreadable

_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES: Final = ("unset", "ok", "error")
_MAX_DEPTH: Final = 32
_NO_TRACE: Final = bytes(16)
_NO_SPAN: Final = bytes(8)


# -- attributes that are known already --------------------------------------------------------------------------------


def _with_attributes_as_bytes() -> DescriptorPool:
    """OTLP's messages as published, but that every attribute is left in bytes, unread.

    To protobuf a message and bytes look the same. Most attributes of a span say what those of the span before said, so
    one look at the bytes saves taking them apart.
    """
    pool = DescriptorPool()
    for published in (common_pb2, resource_pb2, trace_pb2, trace_service_pb2):
        file = FileDescriptorProto()
        published.DESCRIPTOR.CopyToProto(file)
        waiting: list[DescriptorProto] = list(file.message_type)
        while waiting:
            message = waiting.pop()
            waiting += message.nested_type
            for field in message.field:
                if field.name == "attributes" and field.type_name.endswith(".KeyValue"):
                    field.type = FieldDescriptorProto.TYPE_BYTES
                    field.ClearField("type_name")
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL: Final = _with_attributes_as_bytes()
_Request, _Resource, _Span = (
    GetMessageClass(_POOL.FindMessageTypeByName(published.DESCRIPTOR.full_name))
    for published in (ExportTraceServiceRequest, resource_pb2.Resource, trace_pb2.Span)
)


class _Pairs(dict[bytes, tuple[str, Any]]):
    """``_pairs[raw]``: the name and value of an attribute. Short ones are remembered. Bounded; forgetting costs time
    and changes nothing. Raises ``DecodeError`` if ``raw`` is no attribute."""

    _MOST = 16_384
    _LONGEST = 128

    def __missing__(self, raw: bytes) -> tuple[str, Any]:
        pair = KeyValue.FromString(raw)
        value = pair.value
        # Nearly all values are texts: asking for one costs half of asking what there is.
        found = pair.key, value.string_value or _value(value, 0)
        if len(raw) <= self._LONGEST and type(found[1]) in _PLAIN:
            if len(self) >= self._MOST:
                self.clear()
            self[raw] = found
        return found


_PLAIN: Final = frozenset({str, bool, int, float})
"""Values that nobody can change, and so may be shared."""
_pairs: Final = _Pairs()


def _attributes(raw: Iterable[bytes]) -> dict[str, Any]:
    return dict(map(_pairs.__getitem__, raw))


# -- a request --------------------------------------------------------------------------------------------------------


def decode(body: bytes) -> Decoded:
    """The spans of ``body``. Raises ``Unreadable`` if it is no such request at all."""
    found = Decoded()
    try:
        for r, by_resource in enumerate(_Request.FromString(body).resource_spans):
            resource = _attributes(by_resource.resource.attributes)
            for s, by_scope in enumerate(by_resource.scope_spans):
                scope = by_scope.scope.name
                for n, message in enumerate(by_scope.spans):
                    _add(found, message, resource, scope, (r, s, n))
    except DecodeError as error:
        found = Decoded()
        _salvage(body, found)
        if not found.spans:
            raise Unreadable(f"The body is no ExportTraceServiceRequest: {error}") from error
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


def _add(found: Decoded, message: Any, resource: dict[str, Any], scope: str, at: tuple[int, ...]) -> None:
    """Take ``message``, a span whose attributes are bytes. Raises ``DecodeError`` if one of these is damaged."""
    trace_id, span_id, parent = message.trace_id, message.span_id, message.parent_span_id
    wrong = ""
    if len(trace_id) != 16 or trace_id == _NO_TRACE:
        wrong = "traceId must be 16 bytes that are not all zero."
    elif len(span_id) != 8 or span_id == _NO_SPAN:
        wrong = "spanId must be 8 bytes that are not all zero."
    elif parent and len(parent) != 8:
        wrong = "parentSpanId must be 8 bytes, or empty."
    if wrong:
        found.rejects.append(_reject(message.SerializeToString(), at, wrong, trace_id.hex(), span_id.hex()))
        return
    kind, status, status_message = message.kind, 0, ""
    if message.HasField("status"):
        status, status_message = message.status.code, message.status.message
    found.spans.append(
        Span(
            trace_id.hex(),
            span_id.hex(),
            message.name,
            message.start_time_unix_nano,
            message.end_time_unix_nano,
            parent.hex() if parent and parent != _NO_SPAN else "",
            _KINDS[kind] if 0 <= kind < len(_KINDS) else "unspecified",
            _attributes(message.attributes),
            resource,
            scope,
            _STATUSES[status] if 0 <= status < len(_STATUSES) else "unset",
            status_message,
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
        resources = _parts(by_resource, 1, found, (r,))
        attributes = _resource(resources[-1]) if resources else {}
        for s, by_scope in enumerate(_parts(by_resource, 2, found, (r,))):
            scopes = _parts(by_scope, 1, found, (r, s))
            name = _scope(scopes[-1]) if scopes else ""
            for n, raw in enumerate(_parts(by_scope, 2, found, (r, s))):
                try:
                    _add(found, _Span.FromString(raw), attributes, name, (r, s, n))
                except DecodeError:
                    found.rejects.append(_reject(raw, (r, s, n), "The span's bytes are damaged."))


def _resource(raw: bytes) -> dict[str, Any]:
    try:
        return _attributes(_Resource.FromString(raw).attributes)
    except DecodeError:
        return {}


def _scope(raw: bytes) -> str:
    try:
        name: str = InstrumentationScope.FromString(raw).name
    except DecodeError:
        return ""
    return name


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
