"""Bodies as spans: the same trace whatever it comes as, and one bad span never takes its neighbours along."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from watchfloor.gateway.telemetry import a365, events_json, otlp_json, otlp_proto
from watchfloor.gateway.telemetry.spans import Decoded, Unreadable

from .requests import START, in_a365, in_json, in_protobuf, message, span_id, trace_id

RICH = {
    "text": "hé llo",
    "yes": True,
    "count": -(2**62),
    "share": 0.25,
    "list": ["a", 1, "b"],
    "bag": {"inner": {"deep": [True]}},
    "empty": "",
    "raw": b"\x00\xff",
}


def decode_all(*decoders: tuple[Callable[[bytes], Decoded], bytes]) -> list[Decoded]:
    return [decode(body) for decode, body in decoders]


def test_the_same_span_comes_out_of_protobuf_and_of_json() -> None:
    span = message(
        3,
        RICH,
        parent_span_id=span_id(1),
        kind=3,
        events=[{"name": "exception", "time_unix_nano": START, "attributes": []}],
        status={"code": 2, "message": "failed"},
    )
    from_protobuf, from_json = decode_all((otlp_proto.decode, in_protobuf(span)), (otlp_json.decode, in_json(span)))
    assert from_protobuf.rejects == from_json.rejects == []
    (found,) = from_protobuf.spans
    assert [found] == from_json.spans
    assert (found.trace_id, found.span_id, found.parent_span_id) == (
        trace_id(1).hex(),
        span_id(3).hex(),
        span_id(1).hex(),
    )
    assert (found.kind, found.status, found.status_message) == ("client", "error", "failed")
    assert found.attributes == RICH | {"raw": "AP8="}
    assert found.resource == {"service.name": "zava-billing"}
    assert [e.name for e in found.events] == ["exception"]


def test_agent_365s_own_form_is_read_as_it_is() -> None:
    found = a365.decode(in_a365({"kind": "CLIENT", "status": {"code": "ERROR", "message": "no"}}, {"events": []}))
    assert found.rejects == []
    assert [(s.kind, s.status, s.status_message, s.scope) for s in found.spans] == [
        ("client", "error", "no", "Agent365Sdk"),
        ("internal", "unset", "", "Agent365Sdk"),
    ]
    assert found.spans[0].attributes["gen_ai.agent.id"] == "billing"
    assert found.spans[0].start == START


def test_numbers_that_are_none_come_as_texts_and_take_no_span_along() -> None:
    body = in_a365({}, {"attributes": {"t": "HERE", "gen_ai.agent.id": "billing"}}).replace(b'"HERE"', b"NaN")
    found = a365.decode(body)
    assert [s.attributes.get("t") for s in found.spans] == [None, "NaN"]
    with pytest.raises(Unreadable):
        a365.decode(body[:-3])


def test_a_span_that_was_too_large_for_its_sender_is_still_a_span() -> None:
    found = a365.decode(in_a365({"attributes": "TRUNCATED"}))
    assert [s.attributes for s in found.spans] == [{}]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"traceId": ""}, "traceId"),
        ({"traceId": "0" * 32}, "all zero"),
        ({"spanId": "xyz"}, "spanId"),
        ({"startTimeUnixNano": "yesterday"}, "startTimeUnixNano"),
        ({"attributes": 7}, "attributes"),
        ({"events": {"a": 1}}, "events"),
        ({"name": 7}, "name"),
    ],
)
def test_a_bad_span_is_set_aside_with_its_place_and_its_neighbours_are_taken(wrong: Any, reason: str) -> None:
    found = a365.decode(in_a365({}, wrong, {}))
    assert len(found.spans) == 2
    (reject,) = found.rejects
    assert reject.place == "resourceSpans[0].scopeSpans[0].spans[1]"
    assert reason in reject.reason
    assert reject.original["name"] == wrong.get("name", "execute_tool SendEmailV2")


@pytest.mark.parametrize("decode", [otlp_json.decode, a365.decode, events_json.decode, otlp_proto.decode])
@pytest.mark.parametrize("body", [b"[", b"[]", b"7", b"\xff\xff\xff", b'{"other": 1}'])
def test_what_is_no_request_at_all_is_unreadable(decode: Callable[[bytes], Decoded], body: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(body)


def test_an_empty_request_is_none_but_a_request() -> None:
    assert otlp_proto.decode(b"").spans == []
    assert otlp_json.decode(b'{"resourceSpans": []}').spans == []


def test_ids_of_the_wrong_size_are_set_aside_in_protobuf_too() -> None:
    body = in_protobuf(message(1), message(2, span_id=b"short"), message(3, trace_id=bytes(16)), message(4))
    found = otlp_proto.decode(body)
    assert [s.span_id for s in found.spans] == [span_id(1).hex(), span_id(4).hex()]
    assert [r.place[-8:] for r in found.rejects] == ["spans[1]", "spans[2]"]


def test_a_span_whose_bytes_are_damaged_is_set_aside_and_its_neighbours_are_taken() -> None:
    body = in_protobuf(message(1), message(2, {"secret": "XXXX"}), message(3))
    at = body.index(b"XXXX")
    found = otlp_proto.decode(body[:at] + b"\xff\xfe\xfd\xfc" + body[at + 4 :])
    assert [s.span_id for s in found.spans] == [span_id(1).hex(), span_id(3).hex()]
    assert found.spans[1].resource == {"service.name": "zava-billing"}
    (reject,) = found.rejects
    assert reject.reason == "The span's bytes are damaged."
    assert reject.original["protobuf"]


def test_a_damaged_attribute_costs_its_span_and_no_other_and_that_is_kept_as_it_came() -> None:
    bad = message(2, {"secret": "XXXX"}, trace_state="kept=1").SerializeToString()
    at = bad.index(b"XXXX")
    damaged = bad[: at - 1] + b"\x7f" + bad[at:]  # a text that is longer than what it stands in
    body = in_protobuf(message(1), message(2, {"secret": "XXXX"}, trace_state="kept=1"), message(3))
    found = otlp_proto.decode(body.replace(bad, damaged))
    assert [s.span_id for s in found.spans] == [span_id(1).hex(), span_id(3).hex()]
    assert [base64.b64decode(r.original["protobuf"]) for r in found.rejects] == [damaged]


def test_a_program_whose_attributes_are_damaged_loses_no_spans() -> None:
    body = in_protobuf(message(1), resource={"service.name": "XXXX"})
    at = body.index(b"XXXX")
    (found,) = otlp_proto.decode(body[: at - 1] + b"\x7f" + body[at:]).spans
    assert found.resource == {}


def test_what_two_spans_say_alike_is_not_shared_where_it_could_be_changed() -> None:
    (one,), (two,) = (otlp_proto.decode(in_protobuf(message(1, RICH))).spans for _ in range(2))
    one.attributes["list"].append("more")
    one.attributes["bag"]["more"] = 1
    assert two.attributes == RICH | {"raw": "AP8="}


def test_a_body_that_ends_too_early_gives_what_was_whole_and_says_where_it_ends() -> None:
    whole = in_protobuf(message(1), message(2))
    inner = message(1).SerializeToString()
    # Two resources, the second cut off: the first is whole.
    found = otlp_proto.decode(whole + whole[: len(inner)])
    assert len(found.spans) == 2
    assert len(found.rejects) == 1
    assert "no protobuf" in found.rejects[0].reason


SPANS = [message(n, RICH if n % 2 else None) for n in range(1, 6)]
PROTOBUF = in_protobuf(*SPANS)
JSON = in_json(*SPANS)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(PROTOBUF) - 1), st.integers(0, 255)), max_size=8), st.integers(0, 50))
def test_whatever_happens_to_protobuf_it_is_read_set_aside_or_unreadable(
    changes: list[tuple[int, int]], cut: int
) -> None:
    body = bytearray(PROTOBUF)
    for at, byte in changes:
        body[at] = byte
    raw = bytes(body[: len(body) - cut])
    try:
        found = otlp_proto.decode(raw)
    except Unreadable:
        return
    try:
        published = ExportTraceServiceRequest.FromString(raw)
    except DecodeError:
        pass
    else:
        spans = [
            s
            for by_resource in published.resource_spans
            for by_scope in by_resource.scope_spans
            for s in by_scope.spans
        ]
        assert len(spans) == len(found.spans) + len(found.rejects)
        if not found.rejects:
            assert [list(s.attributes) for s in found.spans] == [
                list(dict.fromkeys(a.key for a in s.attributes)) for s in spans
            ]
    for span in found.spans:
        assert len(span.trace_id) == 32
        assert len(span.span_id) == 16


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
PLACES = (
    *("traceId", "spanId", "parentSpanId", "name", "kind"),
    *("startTimeUnixNano", "attributes", "events", "links", "status"),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), json_values, st.sampled_from(["otlp", "a365", "events"]))
def test_whatever_stands_in_json_only_that_span_is_lost(name: str, value: Any, form: str) -> None:
    if form == "events":
        good = {"id": "1", "type": "tool_call", "agent": "a"}
        whole = {"events": [good, {**good, "id": "2", name: value}]}
    else:
        whole = json.loads(JSON if form == "otlp" else in_a365({}, {}))
        whole["resourceSpans"][0]["scopeSpans"][0]["spans"][1][name] = value
    try:
        body = json.dumps(whole, allow_nan=False)
    except ValueError:
        return
    decode = {"otlp": otlp_json.decode, "a365": a365.decode, "events": events_json.decode}[form]
    try:
        found = decode(body.encode())
    except Unreadable as error:
        assert "not JSON" in str(error)  # lone surrogates, numbers that are none
        return
    count = {"otlp": 5, "a365": 2, "events": 2}[form]
    assert len(found.spans) + len(found.rejects) == count
    assert len(found.spans) >= count - 1


# -- our own events ---------------------------------------------------------------------------------------------------


def event(**fields: Any) -> dict[str, Any]:
    return {"id": "42", "type": "tool_call", "agent": "billing", "time": "2026-03-01T12:00:00Z", **fields}


def test_an_event_needs_little_and_says_who_did_what() -> None:
    body = json.dumps({"events": [event(tool="send_mail", arguments={"to": "x"}, user="griffin", error="Denied")]})
    (span,) = events_json.decode(body.encode()).spans
    assert span.start == span.end == START
    assert span.status == "error"
    assert span.attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.agent.id": "billing",
        "gen_ai.tool.name": "send_mail",
        "gen_ai.tool.call.arguments": '{"to":"x"}',
        "user.id": "griffin",
        "error.type": "Denied",
    }


def test_the_same_event_has_the_same_ids_and_parents_make_a_tree() -> None:
    first = {"events": [event(id="1", conversation="c"), event(id="2", conversation="c", parent="1")]}
    one, two = (events_json.decode(json.dumps(first).encode()).spans for _ in range(2))
    assert one == two
    assert one[1].parent_span_id == one[0].span_id
    assert one[0].trace_id == one[1].trace_id


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"id": None}, "required"),
        ({"agent": ""}, "required"),
        ({"type": "dance"}, "type must be one of"),
        ({"time": "2026-03-01T12:00:00"}, "time"),
        ({"toool": "x"}, "no field toool"),
        ({"input_tokens": "many"}, "whole number"),
    ],
)
def test_a_bad_event_says_what_to_mend(wrong: dict[str, Any], reason: str) -> None:
    found = events_json.decode(json.dumps({"events": [event(**wrong), event(id="43")]}).encode())
    assert len(found.spans) == 1
    assert reason in found.rejects[0].reason
    assert found.rejects[0].place == "events[0]"
