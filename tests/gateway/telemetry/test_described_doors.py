"""The telemetry doors held against their OpenAPI description: requests are made from it and sent through sockets.

Half of the requests are what the description allows, half are what it does not. Whatever they are, no answer is a
server error, each is one that is described, and a good event in the same batch is stored.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from watchfloor import content
from watchfloor.gateway.telemetry import events_json
from watchfloor.gateway.telemetry.http import _door

from .requests import START
from .test_doors import TOKEN, House, receiving

load_all_checks()
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SETTINGS = settings(
    max_examples=30, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
AS_DESCRIBED = content.described_doors()
LISTS = ("resourceSpans", "scopeSpans", "spans")


def _small(schema: Any) -> Any:
    """``schema`` without what makes examples large or empty: nothing unknown, short lists, spans in every trace."""
    if isinstance(schema, list):
        return [_small(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    small = {name: _small(part) for name, part in schema.items()}
    if "items" in small:
        small["maxItems"] = 2
    if isinstance(small.get("properties"), dict) and "type" in small:
        small.setdefault("additionalProperties", False)
        named = [
            name for name in (*LISTS, "events") if name in small["properties"] and "spanId" not in small["properties"]
        ]
        small["required"] = sorted({*small.get("required", ()), *named})
        for name in named:
            small["properties"][name]["minItems"] = 1
    return small


DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Telemetry doors", "version": "1"},
    "paths": {
        # Without security: else it makes requests that lack the token, behind which nothing can be seen.
        path: {"post": {name: part for name, part in item["post"].items() if name != "security"}}
        for path, item in AS_DESCRIBED["paths"].items()
    },
    "components": {**AS_DESCRIBED["components"], "schemas": _small(AS_DESCRIBED["components"]["schemas"])},
}
DOORS = schemathesis.openapi.from_dict(DOCUMENT)
REQUESTS = {
    path: st.one_of(*(DOORS[path]["POST"].as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode))
    for path in DOCUMENT["paths"]
}


def _neighbour(path: str, number: int) -> tuple[dict[str, Any], str]:
    """A good event for the door at ``path``, and the id of its span."""
    if path == "/events/v1":
        event = {"id": str(number), "type": "tool_call", "agent": "billing", "time": START / 1e9}
        (span,) = events_json.decode(orjson.dumps({"events": [event]})).spans
        return event, span.span_id
    told = {"gen_ai.operation.name": "execute_tool", "gen_ai.agent.id": "billing"}
    pairs = [{"key": key, "value": {"stringValue": value}} for key, value in told.items()]
    span = {"traceId": f"{number:032x}", "spanId": f"{number:016x}", "name": "x", "startTimeUnixNano": START}
    return {**span, "attributes": pairs if path == "/v1/traces" else told}, span["spanId"]


def _batches(body: Any) -> Iterator[list[Any]]:
    """The lists of events that ``body`` has where a door looks for them."""
    if not isinstance(body, dict):
        return
    for name in LISTS[:2]:
        for inner in body.get(name) if isinstance(body.get(name), list) else ():
            yield from _batches(inner)
    for name in ("spans", "events"):
        if isinstance(body.get(name), list):
            yield body[name]


def _send(house: House, case: Any) -> Any:
    return case.call(base_url=str(house.http.base_url), headers={"Authorization": f"Bearer {TOKEN}"})


@pytest.mark.parametrize("path", REQUESTS)
async def test_whatever_is_sent_no_answer_is_a_server_error_and_no_good_neighbour_is_lost(
    tmp_path: Path, path: str
) -> None:
    numbers, sent = itertools.count(1), set[str]()
    async with receiving(tmp_path) as house:
        house.source(agents=("*",), events_per_second=1_000_000)

        @SETTINGS
        @given(REQUESTS[path], st.integers(0, 2))
        def attack(case: Any, place: int) -> None:
            added = []
            for batch in _batches(case.body):
                event, span_id = _neighbour(path, next(numbers))
                batch.insert(place, event)
                added.append(span_id)
            if added and "agent" in case.path_parameters:
                case.path_parameters["agent"] = "billing"
            answer = _send(house, case)
            case.validate_response(answer, checks=CHECKS)
            if added and answer.request.headers["content-type"] == "application/json":
                assert answer.status_code == 200, answer.text
                sent.update(added)

        await asyncio.to_thread(attack)
        assert len(sent) > 5
        assert sent - {row["SpanId"] for row in house.rows()} == set()


async def test_what_is_described_as_right_is_taken_whole(tmp_path: Path) -> None:
    async with receiving(tmp_path) as house:
        house.source(agents=("*",), events_per_second=1_000_000)

        @SETTINGS
        @given(DOORS["/events/v1"]["POST"].as_strategy())
        def send(case: Any) -> None:
            answer = _send(house, case)
            assert answer.json() == {"accepted": len(case.body["events"]), "rejected": 0}

        await asyncio.to_thread(send)


def test_every_field_and_type_of_our_own_events_is_described_and_no_other() -> None:
    event = AS_DESCRIBED["components"]["schemas"]["TelemetryEvent"]
    assert event["properties"].keys() == events_json.FIELDS.keys() | events_json._OTHERS
    assert event["properties"]["type"]["enum"] == list(events_json.TYPES)


def test_every_described_address_is_a_door() -> None:
    doors = [_door(path, "application/json")[0] for path in AS_DESCRIBED["paths"]]
    assert doors == ["otlp-json", "a365", "a365", "events"]
