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


def test_the_document_describes_the_telemetry_doors(attacked: House) -> None:
    document = attacked.client(Role.OWNER).get("/api/openapi.json").json()
    assert described_doors()["paths"].keys() <= document["paths"].keys()
    assert document["paths"]["/events/v1"]["servers"][0]["variables"]["receiver"]["default"] == "127.0.0.1:4318"
