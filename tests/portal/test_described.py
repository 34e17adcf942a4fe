"""The API held against its own OpenAPI document, over a real socket, on traces, sources and the pipeline.

Half of the requests are what the document allows, half are what it does not. No answer is a server error, and what a
success brings has the described shape.
"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from portal.house import House
from watchfloor.content import described_doors
from watchfloor.model.people import Role

load_all_checks()
SETTINGS = settings(
    max_examples=12, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
OPERATIONS = [
    ("GET", "/api/traces"), ("GET", "/api/traces/{trace_id}"), ("GET", "/api/decisions"),
    ("GET", "/api/sources"), ("POST", "/api/sources"), ("GET", "/api/sources/{source_id}"),
    ("PATCH", "/api/sources/{source_id}"), ("DELETE", "/api/sources/{source_id}"),
    ("POST", "/api/sources/{source_id}/token"),
    ("GET", "/api/pipeline"), ("GET", "/api/pipeline/rejects"), ("GET", "/api/pipeline/rejects/{reject_id}/content"),
    ("GET", "/api/sightings"), ("GET", "/api/sightings/{kind}/{key}"), ("GET", "/api/exports/{table}"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_request_that_the_document_can_lead_to_makes_a_server_error(
    attacked: House, address: str, method: str, path: str
) -> None:
    token = attacked.client(Role.OWNER).headers["authorization"]
    document = schemathesis.openapi.from_url(f"{address}/api/openapi.json", headers={"Authorization": token})
    operation = document[path][method]

    @SETTINGS
    @given(st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)))
    def send(case: Any) -> None:
        answer = case.call(headers={"Authorization": token}, timeout=20)
        checks = [not_a_server_error, *([response_schema_conformance] if answer.status_code < 300 else [])]
        case.validate_response(answer, checks=checks)

    send()


NO_TIMES = ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1e400", "99999999999999999999", "NaN"]
TIMES = ["0001-01-01", "0001-01-01T00:00:00Z", "0999-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "-1"]
TAKE_TIMES = [("/api/traces", "since"), ("/api/decisions", "since"), ("/api/requests", "before"),
              ("/api/exports/AgentActivity", "since"),
              ("/api/exports/AgentActivity", "until"), ("/api/incidents/{incident_id}/graph", "from"),
              ("/api/incidents/{incident_id}/graph", "until"),
              ("/api/incidents/{incident_id}/graph/groups/{group_id}", "from"),
              ("/api/incidents/{incident_id}/graph/groups/{group_id}", "until")]  # fmt: skip


@pytest.mark.parametrize(("path", "name"), TAKE_TIMES)
def test_every_time_that_a_calendar_has_is_taken_and_any_other_is_refused_by_name(
    attacked: House, path: str, name: str
) -> None:
    client = attacked.client(Role.OWNER)
    (incident,) = client.get("/api/incidents").json()["items"]
    address = path.replace("{incident_id}", incident["id"])
    # What a group has in it depends on the time: there may be none of that name then.
    taken = {200, 404} if "{group_id}" in path else {200}
    assert {client.get(address, params={name: at}).status_code for at in TIMES} <= taken
    for at in NO_TIMES:
        answer = client.get(address, params={name: at})
        assert (answer.status_code, name in answer.text) == (422, True), answer.text


def test_no_other_route_takes_a_time(attacked: House) -> None:
    document = attacked.client(Role.OWNER).get("/api/openapi.json").json()
    taking = {
        (path.replace("{table}", "AgentActivity"), parameter["name"])
        for path, item in document["paths"].items()
        for operation in item.values()
        if isinstance(operation, dict)
        for parameter in operation.get("parameters", ())
        if "date-time" in str(parameter)
    }
    assert taking == set(TAKE_TIMES)


def test_a_time_without_a_zone_is_utc(attacked: House) -> None:
    client = attacked.client(Role.OWNER)
    found = [client.get("/api/decisions", params={"since": f"2026-11-03T12:08:00{zone}"}).json() for zone in ("", "Z")]
    assert found[0] == found[1]
    assert 0 < len(found[0]["items"]) < len(client.get("/api/decisions").json()["items"])


def test_the_document_describes_the_telemetry_doors(attacked: House) -> None:
    document = attacked.client(Role.OWNER).get("/api/openapi.json").json()
    assert described_doors()["paths"].keys() <= document["paths"].keys()
    assert document["paths"]["/events/v1"]["servers"][0]["variables"]["receiver"]["default"] == "127.0.0.1:4318"
