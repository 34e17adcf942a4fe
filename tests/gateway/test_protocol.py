"""Which messages may pass, and that filtering a stream never depends on how it was cut into pieces."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.world import MODERN, request, rpc
from watchfloor.gateway.mcp import headers as wire
from watchfloor.gateway.mcp import protocol
from watchfloor.gateway.mcp import rpc as rpc_codes
from watchfloor.gateway.mcp.filtering import SseFilter
from watchfloor.gateway.mcp.headers import Headers, trace_id
from watchfloor.gateway.mcp.protocol import Era, Handling, MessageKind
from watchfloor.gateway.mcp.rpc import Rejected

STATELESS = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "lookup"}


def headers(values: dict[str, str] | None = None) -> Headers:
    return wire.read_headers([(k.encode(), v.encode("latin-1")) for k, v in (values or {}).items()])


def session_request(method: str, params: Any = None, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method, **more}
    if params is not None:
        body["params"] = params
    return body


GOOD_CALL = rpc("lookup", {"key": "k"})


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([GOOD_CALL], rpc_codes.INVALID_REQUEST),
        ([], rpc_codes.INVALID_REQUEST),
        ("text", rpc_codes.INVALID_REQUEST),
        (None, rpc_codes.INVALID_REQUEST),
        ({}, rpc_codes.INVALID_REQUEST),
        ({**GOOD_CALL, "jsonrpc": "1.0"}, rpc_codes.INVALID_REQUEST),
        ({**GOOD_CALL, "id": None}, rpc_codes.INVALID_REQUEST),
        ({**GOOD_CALL, "id": True}, rpc_codes.INVALID_REQUEST),
        ({**GOOD_CALL, "id": 1.5}, rpc_codes.INVALID_REQUEST),
        ({**GOOD_CALL, "id": "x" * 300}, rpc_codes.INVALID_REQUEST),
        ({**GOOD_CALL, "method": 7}, rpc_codes.INVALID_REQUEST),
        ({**GOOD_CALL, "params": []}, rpc_codes.INVALID_PARAMS),
        ({**GOOD_CALL, "params": None}, rpc_codes.INVALID_PARAMS),
        ({**GOOD_CALL, "params": {**GOOD_CALL["params"], "_meta": []}}, rpc_codes.INVALID_PARAMS),
        ({**GOOD_CALL, "params": {**GOOD_CALL["params"], "arguments": "x"}}, rpc_codes.INVALID_PARAMS),
        ({**GOOD_CALL, "params": {**GOOD_CALL["params"], "arguments": []}}, rpc_codes.INVALID_PARAMS),
        ({**GOOD_CALL, "params": {**GOOD_CALL["params"], "task": {"ttl": 1}}}, rpc_codes.INVALID_PARAMS),
        ({**GOOD_CALL, "params": {**GOOD_CALL["params"], "x": 1}}, rpc_codes.INVALID_PARAMS),
        (rpc("lookup", {"mcp:inputResponses": {}}), rpc_codes.INVALID_PARAMS),
        (rpc("lookup", {}, meta={"dev.watchfloor/user-turns": "one"}), rpc_codes.INVALID_PARAMS),
        (rpc("lookup", {}, meta={"dev.watchfloor/user-turns": [1]}), rpc_codes.INVALID_PARAMS),
        (rpc("lookup", {}, meta={"dev.watchfloor/conversation-id": 5}), rpc_codes.INVALID_PARAMS),
        (rpc("lookup", {}, meta={"dev.watchfloor/retry-token": "x" * 300}), rpc_codes.INVALID_PARAMS),
        (rpc("lookup", {}, meta={"dev.watchfloor/mode": "maker"}), rpc_codes.INVALID_PARAMS),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, rpc_codes.INVALID_REQUEST),
    ],
)
def test_a_message_that_is_not_one_good_message_is_rejected(body: Any, code: int) -> None:
    with pytest.raises(Rejected) as rejected:
        protocol.classify(body, headers(STATELESS))
    assert rejected.value.code == code


def test_the_benign_twin_of_those_is_a_call() -> None:
    message = protocol.classify(json.loads(json.dumps(GOOD_CALL)), headers(STATELESS))
    assert (message.kind, message.handling, message.era) == (MessageKind.REQUEST, Handling.CALL, Era.STATELESS)
    assert (message.tool, message.arguments, message.id) == ("lookup", {"key": "k"}, 1)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mcp-method": "tools/list"}, rpc_codes.HEADER_MISMATCH),
        ({"mcp-method": None}, rpc_codes.HEADER_MISMATCH),
        ({"mcp-name": "send_email"}, rpc_codes.HEADER_MISMATCH),
        ({"mcp-name": None}, rpc_codes.HEADER_MISMATCH),
        ({"mcp-name": "=?base64?!!?="}, rpc_codes.HEADER_MISMATCH),
        ({"mcp-name": "=?base64?bG9va3VwMg==?="}, rpc_codes.HEADER_MISMATCH),
        ({"mcp-protocol-version": "2099-01-01"}, rpc_codes.UNSUPPORTED_VERSION),
    ],
)
def test_headers_that_say_something_else_than_the_body_are_refused(changes: dict[str, str | None], code: int) -> None:
    changed = {k: v for k, v in (STATELESS | changes).items() if v is not None}
    with pytest.raises(Rejected) as rejected:
        protocol.classify(rpc("lookup", {}), headers(changed))
    assert rejected.value.code == code and rejected.value.status == 400


def test_a_session_request_with_routing_headers_is_held_to_them_as_well() -> None:
    call = session_request("tools/call", {"name": "lookup"})
    assert protocol.classify(call, headers({})).tool == "lookup"
    assert protocol.classify(call, headers({"mcp-name": "lookup", "mcp-method": "tools/call"})).tool == "lookup"
    for wrong in ({"mcp-name": "send_email"}, {"mcp-method": "ping"}):
        with pytest.raises(Rejected):
            protocol.classify(call, headers(wrong))


def test_the_protocol_version_in_the_body_must_be_the_one_in_the_header() -> None:
    body = rpc("lookup", {})
    body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2025-11-25"
    with pytest.raises(Rejected) as rejected:
        protocol.classify(body, headers(STATELESS))
    assert rejected.value.code == rpc_codes.HEADER_MISMATCH


@pytest.mark.parametrize("name", ["mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "authorization"])
def test_a_routing_header_that_stands_twice_is_refused(name: str) -> None:
    raw = [(k.encode(), v.encode()) for k, v in STATELESS.items()] + [(name.encode(), b"x")] * 2
    with pytest.raises(Rejected) as rejected:
        protocol.classify(rpc("lookup", {}), wire.read_headers(raw))
    assert rejected.value.code == rpc_codes.HEADER_MISMATCH


@pytest.mark.parametrize(
    ("method", "era"),
    [
        ("tools/delete", Era.STATELESS),
        ("tools/delete", Era.SESSION),
        ("initialize", Era.STATELESS),
        ("ping", Era.STATELESS),
        ("logging/setLevel", Era.STATELESS),
        ("resources/subscribe", Era.STATELESS),
        ("server/discover", Era.SESSION),
        ("subscriptions/listen", Era.SESSION),
        ("tasks/get", Era.SESSION),
        ("tasks/result", Era.SESSION),
        ("sampling/createMessage", Era.SESSION),
        ("TOOLS/CALL", Era.SESSION),
        ("", Era.SESSION),
        ("notifications/initialized", Era.SESSION),
    ],
)
def test_a_method_that_is_not_in_the_table_does_not_pass(method: str, era: Era) -> None:
    with pytest.raises(Rejected) as rejected:
        protocol.classify_message(session_request(method, {}), era)
    assert rejected.value.code == rpc_codes.METHOD_NOT_FOUND and rejected.value.request_id == 1


@pytest.mark.parametrize("method", ["notifications/message", "notifications/tools/list_changed", "tools/call", "x"])
def test_a_notification_that_is_not_in_the_table_does_not_pass(method: str) -> None:
    for era in Era:
        with pytest.raises(Rejected):
            protocol.classify_message({"jsonrpc": "2.0", "method": method}, era)


def test_a_call_cannot_pose_as_what_is_decided_on_under_a_name_of_ours() -> None:
    with pytest.raises(Rejected):
        protocol.classify_message(session_request("tools/call", {"name": "mcp:resources/read"}), Era.SESSION)


def test_hints_are_taken_out_and_never_go_upstream() -> None:
    meta = {
        "dev.watchfloor/user-turns": ["please pay"],
        "dev.watchfloor/conversation-id": "c-1",
        "dev.watchfloor/parent-agent": "boss",
        "dev.watchfloor/retry-token": "t",
        "progressToken": 7,
    }
    message = protocol.classify_message(rpc("lookup", {"key": "k"}, meta=meta), Era.STATELESS)
    assert message.hints == protocol.Hints(("please pay",), "c-1", "boss", "t")
    sent = orjson.loads(message.with_arguments({"key": "k"}))
    assert "dev.watchfloor" not in json.dumps(sent) and sent["params"]["_meta"]["progressToken"] == 7


def test_answers_to_a_tool_servers_questions_are_judged_and_sent_as_judged() -> None:
    body = request("tools/call", {"name": "pay", "arguments": {"to": "x"}, "inputResponses": {"a": {"n": 1}}})
    message = protocol.classify_message(body, Era.STATELESS)
    assert message.arguments == {"to": "x", "mcp:inputResponses": {"a": {"n": 1}}}
    sent = orjson.loads(message.with_arguments({"to": "y", "mcp:inputResponses": {"a": {"n": 2}}}))
    assert sent["params"]["arguments"] == {"to": "y"} and sent["params"]["inputResponses"] == {"a": {"n": 2}}


def test_members_that_json_rpc_does_not_know_stay_behind() -> None:
    message = protocol.classify_message({**session_request("ping"), "extra": 1, "result": 2}, Era.SESSION)
    assert orjson.loads(message.encoded()) == {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def test_listening_for_resources_is_governed_and_for_lists_is_not() -> None:
    lists = {"notifications": {"toolsListChanged": True}}
    resources = {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["notes://plan"]}}
    for params, handling in ((lists, Handling.FORWARD), (resources, Handling.GOVERNED), ({}, Handling.GOVERNED)):
        body = session_request("subscriptions/listen", params)
        assert protocol.classify_message(body, Era.STATELESS).handling is handling


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(body=json_values, era=st.sampled_from(Era))
def test_whatever_json_is_sent_it_is_classified_or_rejected(body: Any, era: Era) -> None:
    with contextlib.suppress(Rejected):
        protocol.classify_message(body, era)


@given(raw=st.binary(max_size=200))
def test_whatever_bytes_are_sent_they_are_parsed_or_rejected(raw: bytes) -> None:
    try:
        protocol.parse(raw)
    except Rejected as rejected:
        assert rejected.code == rpc_codes.PARSE_ERROR


@given(arguments=st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_what_was_read_is_what_is_sent(arguments: dict[str, Any]) -> None:
    raw = json.dumps(session_request("tools/call", {"name": "t", "arguments": arguments})).encode()
    try:
        message = protocol.classify_message(protocol.parse(raw), Era.SESSION)
    except Rejected:
        assert "mcp:inputResponses" in arguments
        return
    sent = orjson.loads(message.with_arguments(message.arguments or {}))
    assert sent["params"] == {"name": "t", "arguments": message.arguments}


@given(text=st.text(max_size=40))
def test_a_header_value_survives_its_encoding(text: str) -> None:
    assert wire.decode_header(wire.encode_header(text)) == text
    assert wire.encode_header(text).isascii()


# -- headers that mirror arguments ------------------------------------------------------------------------------------


def test_a_mirrored_argument_must_stand_in_the_body_and_follows_its_redaction() -> None:
    given_headers = headers({"mcp-param-region": "eu", "mcp-param-key": "secret"})
    arguments = {"region": "eu", "deep": {"key": "secret"}}
    assert wire.param_headers(given_headers, arguments, arguments) == (
        ("mcp-param-region", "eu"),
        ("mcp-param-key", "secret"),
    )
    redacted = {"region": "eu", "deep": {"key": "[removed]"}}
    assert dict(wire.param_headers(given_headers, arguments, redacted))["mcp-param-key"] == "[removed]"
    with pytest.raises(Rejected) as rejected:
        wire.param_headers(headers({"mcp-param-key": "smuggled"}), arguments, arguments)
    assert rejected.value.code == rpc_codes.HEADER_MISMATCH


# -- streams ----------------------------------------------------------------------------------------------------------


def keep(tool: dict[str, Any]) -> bool:
    return str(tool.get("name", "")).startswith("good")


LISTED = orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "good"}, {"name": "bad"}]}})
PROGRESS = orjson.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}})


def events(stream: bytes) -> list[dict[str, Any]]:
    """A reader as the protocol describes it."""
    found = []
    for block in stream.replace(b"\r\n", b"\n").split(b"\n\n"):
        data = b"\n".join(line[5:].strip() for line in block.split(b"\n") if line.startswith(b"data:"))
        if data:
            found.append(orjson.loads(data))
    return found


@given(
    cuts=st.lists(st.integers(0, 400), max_size=10),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    bom=st.booleans(),
)
def test_a_tool_list_in_a_stream_is_filtered_however_it_is_cut(cuts: list[int], end: bytes, bom: bool) -> None:
    half = len(LISTED) // 2
    lines = [
        b": ping", b"",
        b"event: message", b"id: 1", b"data: " + PROGRESS, b"",
        b"data:" + LISTED, b"",
        b"data: " + LISTED[:half].replace(b",", b",", 1), b"data: " + LISTED[half:], b"",
    ]  # fmt: skip
    # JSON may be broken over data lines only between tokens: keep the second copy whole where it would not parse.
    lines[8:10] = [b"data: " + LISTED]
    stream = (b"\xef\xbb\xbf" if bom else b"") + b"".join(line + end for line in lines)
    edges = [0, *sorted(c for c in cuts if c < len(stream)), len(stream)]
    sieve = SseFilter(keep, 10_000)
    out = b"".join(sieve.feed(stream[a:b]) for a, b in itertools.pairwise(edges)) + sieve.close()
    assert b"bad" not in out
    read = events(out)
    assert read[0] == orjson.loads(PROGRESS)
    assert [e["result"]["tools"] for e in read[1:]] == [[{"name": "good"}]] * 2
    assert b"id: 1" in out


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"result": {"\\u0074ools": [{"name": "bad"}]}}\n\n',
        b'data: {"result":\ndata: {"tools": [{"name": "bad"}]}}\n\n',
        b'data: {"result": {"tools": [{"name": "bad"}]}, "result": {"tools": [{"name": "bad"}]}}\n\n',
        b'event: message\x0bdata: {"result": {"tools": [{"name": "bad"}]}}\ndata: {}\n\n',
        b'data: {"result": {"tools": [{"name": "bad"}]},}\n\n',
        b'id: {"result": {"tools": [{"name": "bad"}]}}\ndata: {}\n\n',
        b"retry: bad\ndata: {}\n\n",
        b'data: [{"result": {"tools": [{"name": "bad"}]}}]\n\n',
        b'data: {"result": {"tools": {"bad": {"name": "bad"}}}}\n\n',
    ],
    ids=["escaped", "two-lines", "twice", "vertical-tab", "lenient-json", "in-id", "in-retry", "batch", "object"],
)
def test_a_tool_list_cannot_hide_from_the_filter(event: bytes) -> None:
    sieve = SseFilter(keep, 10_000)
    assert b"bad" not in sieve.feed(event) + sieve.close()


def test_an_event_without_end_is_given_up_rather_than_kept_in_memory() -> None:
    sieve = SseFilter(keep, 1000)
    with pytest.raises(ValueError):
        sieve.feed(b"data: " + b"x" * 2000)


def test_a_trace_is_known_by_the_header_or_by_the_body_where_mcps_own_clients_put_it() -> None:
    def parent(digit: str) -> str:
        return f"00-{digit * 32}-00f067aa0ba902b7-01"

    in_body = {"_meta": {"traceparent": parent("b")}}
    assert trace_id(headers({"traceparent": parent("a")}), in_body) == "a" * 32
    assert trace_id(headers({}), in_body) == "b" * 32
    for wrong in (None, {}, {"_meta": None}, {"_meta": {"traceparent": 7}}, {"_meta": {"traceparent": "x"}}):
        assert trace_id(headers({}), wrong) == ""
