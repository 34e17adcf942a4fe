"""Exports through the API: what the viewer may see, on record before it leaves."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from pyarrow import parquet

from portal.house import NOON, House
from watchfloor.model.people import Role
from watchfloor.storage import actions
from watchfloor.storage.tables import TABLES

pytestmark = pytest.mark.slow


def rows_of(house: House, kql: str) -> int:
    answer = house.client(Role.OWNER).post("/api/hunting/run", json={"query": f"{kql} | count"})
    return int(answer.json()["rows"][0][0])


def test_a_table_leaves_as_parquet_that_reads_back(attacked: House) -> None:
    answer = attacked.client(Role.SOC_ANALYST).get("/api/exports/AgentActivity")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert answer.headers["content-disposition"] == 'attachment; filename="AgentActivity.parquet"'
    file = parquet.ParquetFile(io.BytesIO(answer.content))
    assert file.metadata.num_rows == int(answer.headers["x-watchfloor-rows"]) == rows_of(attacked, "AgentActivity") > 5
    assert file.schema_arrow.equals(TABLES["AgentActivity"].schema)
    assert "block" in file.read()["Verdict"].to_pylist()


def test_a_period_leaves_as_lines(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    until = (NOON + timedelta(minutes=2)).isoformat()
    lines = client.get("/api/exports/AgentActivity", params={"format": "jsonl", "until": until}).text.splitlines()
    assert len(lines) == rows_of(attacked, f"AgentActivity | where Timestamp < datetime({until})") > 0
    assert all(json.loads(line)["Timestamp"] < until for line in lines)
    events = client.get("/api/exports/AgentActivity", params={"format": "ocsf", "since": until}).text.splitlines()
    assert {json.loads(event)["class_uid"] for event in events} == {6003}


def test_a_view_leaves_with_its_rows_counted_and_on_record(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    answer = client.get("/api/exports/AIAgentToolEvents", params={"format": "jsonl"})
    assert answer.status_code == 200, answer.text
    rows = int(answer.headers["x-watchfloor-rows"])
    assert rows == len(answer.text.splitlines()) == rows_of(attacked, "AIAgentToolEvents") > 5
    with attacked.stores.control.read() as tx:
        entry = actions.list_audit(tx, action="export:run", limit=1)[0]
    assert (entry.subject, entry.detail["rows"]) == ("table/AIAgentToolEvents", rows)
    assert client.get("/api/exports/AIAgentToolEvents", params={"format": "ocsf"}).status_code == 422


def test_every_export_is_in_the_audit_log_before_it_leaves(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    answer = client.get("/api/exports/AgentActivity", params={"format": "jsonl", "since": NOON.isoformat()})
    with attacked.stores.control.read() as tx:
        entry = actions.list_audit(tx, action="export:run", limit=1)[0]
    assert (entry.actor, entry.subject) == ("op-soc-analyst", "table/AgentActivity")
    assert entry.detail["rows"] == int(answer.headers["x-watchfloor-rows"])
    assert (entry.detail["format"], entry.detail["since"]) == ("jsonl", NOON.isoformat())


@pytest.mark.asvs("8.2.3")
def test_contents_leave_only_for_who_may_read_them(attacked: House) -> None:
    refused = attacked.client(Role.SOC_ANALYST).get("/api/exports/AgentContent")
    assert refused.status_code == 404
    unknown = attacked.client(Role.SOC_ANALYST).get("/api/exports/Nothing")
    assert refused.json()["detail"] == unknown.json()["detail"].replace("Nothing", "AgentContent")
    answer = attacked.client(Role.SOC_OPERATOR).get("/api/exports/AgentContent", params={"format": "jsonl"})
    assert "drop@evil.example" in answer.text
    with attacked.stores.control.read() as tx:
        assert actions.list_audit(tx, action="export:run", limit=1)[0].detail["is_content"] is True


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("AgentActivity?format=csv", 422, "format"),
        ("AgentContent?format=ocsf", 422, "OCSF"),
        ("AgentActivity?since=2026-11-04&until=2026-11-03", 422, "ends before it begins"),
        ("AgentActivity?since=9999-12-31T23:59:59-14:00", 422, "calendar"),
        ("AgentActivity%20%7C%20take%201", 404, "there is no table"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_a_reason(attacked: House, path: str, status: int, word: str) -> None:
    answer = attacked.client(Role.OWNER).get(f"/api/exports/{path}")
    assert answer.status_code == status
    assert word in answer.text
    assert attacked.deps.exporting.acquire(blocking=False), "a refused export kept its place"
    attacked.deps.exporting.release()


def test_exports_beyond_two_at_once_are_told_to_wait(attacked: House) -> None:
    client = attacked.client(Role.SOC_ANALYST)
    places = attacked.deps.exporting
    assert places.acquire(blocking=False)
    assert places.acquire(blocking=False)
    try:
        answer = client.get("/api/exports/AgentActivity")
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
    finally:
        places.release(2)
    for _ in range(5):  # each gives its place back
        assert client.get("/api/exports/AgentActivity").status_code == 200


def test_who_may_not_hunt_exports_nothing(attacked: House) -> None:
    assert attacked.client(Role.IT_ADMIN).get("/api/exports/AgentActivity").status_code == 403
    assert attacked.stranger().get("/api/exports/AgentActivity").status_code == 401
