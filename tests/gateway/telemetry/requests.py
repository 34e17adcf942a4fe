"""Requests as real senders make them: one trace in OTLP's protobuf, in its JSON, and in Agent 365's own form."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span

START = 1_772_366_400_000_000_000
"""2026-03-01T12:00:00Z in nanoseconds."""

Attributes = dict[str, Any]


def any_value(value: Any) -> AnyValue:
    """``value`` as OTLP has it."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[any_value(v) for v in value]))
    if isinstance(value, dict):
        return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
    return AnyValue(string_value=value)


def pairs(attributes: Attributes) -> list[KeyValue]:
    """Keys and values."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def trace_id(number: int) -> bytes:
    """An id of a trace."""
    return b"trace" + number.to_bytes(11)


def span_id(number: int) -> bytes:
    """An id of a span."""
    return b"span" + number.to_bytes(4)


def message(number: int, attributes: Attributes | None = None, **fields: Any) -> Span:
    """A span of trace 1: an agent's tool call, unless ``attributes`` say otherwise."""
    given = {"gen_ai.operation.name": "execute_tool", "gen_ai.agent.id": "billing", "gen_ai.tool.name": "send_mail"}
    fields = {
        "trace_id": trace_id(1),
        "span_id": span_id(number),
        "name": "execute_tool send_mail",
        "kind": Span.SPAN_KIND_INTERNAL,
        "start_time_unix_nano": START + number * 1_000_000,
        "end_time_unix_nano": START + number * 1_000_000 + 250_000,
        **fields,
    }
    return Span(attributes=pairs(given if attributes is None else attributes), **fields)


def request(*spans: Span, resource: Attributes | None = None, scope: str = "agent-lib") -> ExportTraceServiceRequest:
    """One request with ``spans``."""
    found = ExportTraceServiceRequest()
    by_resource = found.resource_spans.add()
    by_resource.resource.attributes.extend(pairs(resource or {"service.name": "zava-billing"}))
    by_scope = by_resource.scope_spans.add()
    by_scope.scope.name = scope
    by_scope.spans.extend(spans)
    return found


def in_protobuf(*spans: Span, **options: Any) -> bytes:
    """The request as protobuf."""
    raw: bytes = request(*spans, **options).SerializeToString()
    return raw


def in_json(*spans: Span, **options: Any) -> bytes:
    """The request in OTLP's JSON: ids in hex, which protobuf's own mapping does not do."""
    value = MessageToDict(request(*spans, **options))
    for by_resource in value["resourceSpans"]:
        for by_scope in by_resource["scopeSpans"]:
            for made, span in zip(by_scope["spans"], spans, strict=True):
                made |= {"traceId": span.trace_id.hex(), "spanId": span.span_id.hex(), "kind": int(span.kind)}
                if span.parent_span_id:
                    made["parentSpanId"] = span.parent_span_id.hex()
    return json.dumps(value).encode()


def in_a365(*items: Attributes) -> bytes:
    """A request of Agent 365's SDK."""
    spans = [
        {
            "traceId": trace_id(1).hex(),
            "spanId": span_id(n).hex(),
            "parentSpanId": None,
            "name": "execute_tool SendEmailV2",
            "kind": "INTERNAL",
            "startTimeUnixNano": START,
            "endTimeUnixNano": START + 10_000_000,
            "attributes": {"gen_ai.operation.name": "execute_tool", "gen_ai.agent.id": "billing"},
            "events": None,
            "links": None,
            "status": {"code": "UNSET", "message": ""},
            **item,
        }
        for n, item in enumerate(items, 1)
    ]
    scope = {"name": "Agent365Sdk", "version": ""}
    resource = {"attributes": {"service.name": "zava-billing"}}
    return json.dumps(
        {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]}
    ).encode()
