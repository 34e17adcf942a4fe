"""The pipeline's health through the API: rates, lag, rejects; originals only for who may read contents."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from portal.house import NOON, ORIGIN, House
from storage.test_remote import served
from watchfloor.cli.store import StoreProcess
from watchfloor.model.ids import new_id
from watchfloor.model.people import Role
from watchfloor.portal.app import build_portal
from watchfloor.portal.pipeline import Reports
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.remote import RemoteStore, store_app
from watchfloor.storage.tables import TABLES


def report(source: str, minutes_ago: float, *, door: str = "otlp-http", **counts: Any) -> dict[str, Any]:
    at = NOON - timedelta(minutes=minutes_ago)
    nothing = dict.fromkeys(("Requests", "Received", "Stored", "Duplicates", "Rejected", "Throttled", "Bytes"), 0)
    return {
        "Timestamp": at, "TenantId": "default", "ReportId": new_id("evt"), "SourceId": source, "SourceDoor": door,
        "PeriodSeconds": 10.0, **nothing, **counts,
    }  # fmt: skip


def source(house: House, name: str = "crm") -> None:
    answer = house.client(Role.OWNER).post("/api/sources", json={"id": name, "name": name.upper(), "agents": ["*"]})
    assert answer.status_code == 201, answer.text


def flows(house: House, of: str = "crm") -> list[dict[str, Any]]:
    answer = house.client(Role.SOC_ANALYST).get("/api/pipeline")
    assert answer.status_code == 200, answer.text
    return next(s["flows"] for s in answer.json()["sources"] if s["id"] == of)


def test_rate_and_lag_are_of_five_minutes_and_counts_of_a_day(house: House) -> None:
    source(house)
    last = NOON - timedelta(seconds=90)
    house.stores.write(
        "PipelineHealth",
        [
            report("crm", 1, Requests=2, Received=600, Stored=590, Duplicates=8, Rejected=2, Bytes=9_000,
                   LagSeconds=0.5, LastEventTime=last),
            report("crm", 4, Requests=1, Received=900, Stored=900, Throttled=3, LagSeconds=2.5,
                   LastEventTime=last - timedelta(minutes=3)),
            report("crm", 60, Requests=1, Received=100, Stored=99, Rejected=1, LagSeconds=99.0),
            report("crm", 60 * 30, Requests=1, Received=7, Stored=7, Rejected=7),
            report("crm", 60 * 24 * 8, door="events", Received=1),
        ],
    )  # fmt: skip
    (flow,) = flows(house)
    assert (flow["door"], flow["events_per_second"], flow["lag_seconds"]) == ("otlp-http", 5.0, 2.5)
    assert (flow["received"], flow["stored"], flow["duplicates"], flow["rejected"], flow["throttled"]) == (
        1600, 1589, 8, 3, 3,
    )  # fmt: skip
    assert flow["last_event"].startswith(last.isoformat()[:19])
    assert flow["last_report"].startswith((NOON - timedelta(minutes=1)).isoformat()[:19])


def test_a_source_that_fell_silent_is_shown_without_a_rate(house: House) -> None:
    source(house)
    house.stores.write("PipelineHealth", [report("crm", 60 * 48, Received=5, LastEventTime=NOON - timedelta(days=2))])
    (flow,) = flows(house)
    assert (flow["events_per_second"], flow["lag_seconds"], flow["received"]) == (0.0, None, 0)
    assert flow["last_event"].startswith("2026-11-01")


def test_sources_that_never_sent_and_those_that_were_deleted_are_told_apart(house: House) -> None:
    source(house, "quiet")
    house.stores.write("PipelineHealth", [report("gone", 1, Received=5, door="otlp-grpc"), report("gone", 1)])
    shown = house.client(Role.IT_ADMIN).get("/api/pipeline").json()["sources"]
    assert [(s["id"], s["name"], s["is_known"], s["is_enabled"], [f["door"] for f in s["flows"]]) for s in shown] == [
        ("gone", "gone", False, False, ["otlp-grpc", "otlp-http"]),
        ("quiet", "QUIET", True, True, []),
    ]


def test_the_newest_event_of_the_store_is_shown_and_its_absence_too(house: House) -> None:
    client = house.client(Role.SOC_ANALYST)
    body = client.get("/api/pipeline").json()
    assert (body["newest"], body["backlog"], body["faults"]) == (None, None, [])
    house.call("mail", "lookup", {})
    newest = client.get("/api/pipeline").json()["newest"]
    assert newest["position"] == house.stores.activity.newest_seq() > 0
    assert newest["happened_at"].startswith(NOON.isoformat()[:19])


def test_what_waits_between_the_log_and_the_store_is_shown(house: House, tmp_path: Path) -> None:
    with closing(SqliteLog(tmp_path / "log.db")) as log:
        log.append("0", TABLES["PipelineHealth"].batch([report("crm", 1), report("hr", 1)]), "once")
        process = StoreProcess(house.stores.events, log, tmp_path / "unused")
        with served(store_app(house.stores.events, process.health), tmp_path / "s"), RemoteStore(tmp_path / "s") as far:
            assert isinstance(far, Reports)
            deps = replace(house.deps, events=far)
            token = {"authorization": f"Bearer {house.token(Role.SOC_ANALYST)}"}
            body = TestClient(build_portal(deps), base_url=ORIGIN, headers=token).get("/api/pipeline").json()
            deps.hunts.close()
    assert (body["backlog"]["rows"], body["backlog"]["set_aside"]) == (2, 0)
    assert body["backlog"]["bytes"] > 0 and body["backlog"]["oldest_seconds"] >= 0


# -- rejects ------------------------------------------------------------------------------------------------------


def reject(house: House, number: int, *, source: str = "crm", door: str = "otlp-json") -> str:
    """A quarantined span with its original, as a receiver stores them."""
    common = {"Timestamp": NOON, "TenantId": "default", "ReportId": new_id("evt"), "TraceId": f"{number:032x}"}
    house.stores.write(
        "TelemetryRejects",
        [{**common, "SourceId": source, "SourceDoor": door, "Place": f"spans[{number}]", "Reason": "no start time",
          "SizeBytes": 10, "IPAddress": "198.51.100.7"}],
    )  # fmt: skip
    original = json.dumps({"secret words": number})
    house.stores.write("AgentContent", [{**common, "Kind": "rejected", "Content": original}])
    return str(common["ReportId"])


def test_rejects_are_listed_newest_first_filtered_and_paged_without_their_originals(house: House) -> None:
    ids = [reject(house, n, source="crm" if n % 2 else "hr") for n in range(5)]
    client = house.client(Role.SOC_ANALYST)
    first = client.get("/api/pipeline/rejects", params={"limit": 3}).json()
    second = client.get("/api/pipeline/rejects", params={"limit": 3, "before": first["next"]}).json()
    assert [r["id"] for r in first["items"] + second["items"]] == ids[::-1]
    assert second["next"] is None
    assert first["items"][0] | {"id": "", "position": 0, "at": ""} == {
        "id": "", "position": 0, "at": "", "source_id": "hr", "door": "otlp-json", "trace_id": f"{4:032x}",
        "span_id": "", "place": "spans[4]", "reason": "no start time", "size_bytes": 10, "address": "198.51.100.7",
    }  # fmt: skip
    of_crm = client.get("/api/pipeline/rejects", params={"source": "crm", "door": "otlp-json"}).json()["items"]
    assert [r["id"] for r in of_crm] == [ids[3], ids[1]]
    assert client.get("/api/pipeline/rejects", params={"door": "events"}).json()["items"] == []
    assert "secret words" not in client.get("/api/pipeline/rejects").text


def test_reading_an_original_is_in_the_audit_log(house: House) -> None:
    wanted, _other = reject(house, 1), reject(house, 2)
    answer = house.client(Role.SOC_OPERATOR).get(f"/api/pipeline/rejects/{wanted}/content")
    assert [item["Content"] for item in answer.json()["items"]] == [{"secret words": 1}]
    (entry,) = house.client(Role.OWNER).get("/api/audit", params={"action": "content:read"}).json()["items"]
    assert (entry["actor"], entry["subject"]) == ("op-soc-operator", f"reject/{wanted}")


@pytest.mark.parametrize("role", [Role.SOC_ANALYST, Role.IT_ADMIN, Role.AUDITOR, Role.MAKER])
def test_who_may_not_read_contents_reads_no_original_and_leaves_no_entry(house: House, role: Role) -> None:
    wanted = reject(house, 1)
    answer = house.client(role).get(f"/api/pipeline/rejects/{wanted}/content")
    assert (answer.status_code, "secret words" in answer.text) == (403, False)
    assert house.client(Role.OWNER).get("/api/audit", params={"action": "content:read"}).json()["items"] == []


def test_other_contents_cannot_be_had_as_originals(house: House) -> None:
    house.call("mail", "lookup", {"key": "private"})
    (row,) = house.stores.activity.query("AgentContent | project ReportId", 10).to_pylist()
    owner = house.client(Role.OWNER)
    assert owner.get(f"/api/pipeline/rejects/{row['ReportId']}/content").status_code == 404
    assert owner.get('/api/pipeline/rejects/x" or true or "/content').status_code == 404
