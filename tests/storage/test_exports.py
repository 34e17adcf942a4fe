"""Exports: every row of the period once, in slices, in forms that read back as what was stored."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from watchfloor.model.errors import InputError, NotFound
from watchfloor.storage.activity import Activity
from watchfloor.storage.compiler import KqlCompiler, catalogue, described_views
from watchfloor.storage.events import DuckDbStore
from watchfloor.storage.exports import FORMATS, OCSF_TABLES, Export, begin, settled
from watchfloor.storage.ports import Scope
from watchfloor.storage.tables import TABLES

from .contract_events import START, activities, contents, logged
from .test_events import open_store

DAY = timedelta(days=1)
ROWS = 30


def _nodes() -> list[dict[str, Any]]:
    """Five things that there are, and one that is gone."""
    common = {"TenantId": "default", "Timestamp": START, "NodeLabel": "agent", "Edges": "[]"}
    return [{**common, "ReportId": f"x{n}", "NodeId": f"agent/{n}", "IsGone": n == 5} for n in (3, 1, 4, 0, 2, 5)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDbStore]:
    """Thirty steps, two an hour, in batches of one to six; some of them cold; one of another tenant among them."""
    directory: Path = tmp_path_factory.mktemp("exports")
    with closing(open_store(directory)) as opened:
        number = seq = 0
        while number < ROWS:
            size = min(seq % 6 + 1, ROWS - number)
            seq += 1
            at = START + timedelta(minutes=30 * number)
            names = [f"e{n:02}" for n in range(number, number + size)]
            action = ("ToolCallDecided", "InvokeAgent", "RequestRefused")[seq % 3]
            facts = {
                "ActionType": action,
                "Facts": '{"n": [1, "ü"]}',
                "DurationMs": 1.5,
                "Verdict": "allow",
                "HttpStatus": None,
            }
            opened.ingest([logged(seq, activities(*names, at=at, **facts))])
            number += size
        opened.ingest(
            [
                logged(seq + 1, activities("theirs", TenantId="other")),
                logged(seq + 1, contents("c1", Kind="invocation", Content='{"to": "x"}')),
                logged(seq + 1, TABLES["ExposureSnapshots"].batch(_nodes())),
            ]
        )
        opened.maintain(START + timedelta(days=8))  # most of it is cold then
        yield opened


def export(store: DuckDbStore, table: str = "AgentActivity", scope: Scope | None = None, **options: Any) -> Export:
    return begin(store, KqlCompiler(), scope or Scope(), table, **options)


def ids(export: Export) -> list[str]:
    return [report_id for batch in export.batches() for report_id in batch["ReportId"].to_pylist()]


@pytest.mark.parametrize("slice_rows", [6, 29, 30, 20_000])
def test_every_row_comes_once_whatever_the_size_of_slices(store: DuckDbStore, slice_rows: int) -> None:
    found = export(store, slice_rows=slice_rows)
    batches = list(found.batches())
    assert found.rows == ROWS
    assert sorted(r for b in batches for r in b["ReportId"].to_pylist()) == [f"e{n:02}" for n in range(ROWS)]
    assert max(batch.num_rows for batch in batches) <= slice_rows
    seqs = [seq for batch in batches for seq in batch["IngestSeq"].to_pylist()]
    assert seqs == sorted(seqs)


def test_a_period_begins_at_its_first_instant_and_ends_before_its_last(store: DuckDbStore) -> None:
    at = START + timedelta(hours=6)
    times = [t for b in export(store, since=at, until=at + DAY).batches() for t in b["Timestamp"].to_pylist()]
    assert times
    assert all(at <= t < at + DAY for t in times)
    everything = len(ids(export(store)))
    assert len(ids(export(store, until=at))) + len(ids(export(store, since=at))) == everything
    assert export(store, since=START + 99 * DAY).rows == 0
    with pytest.raises(InputError, match="ends before it begins"):
        export(store, since=at, until=at)


def test_what_arrives_after_the_beginning_is_not_part_of_it(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        store.ingest([logged(1, activities("early"))])
        begun = export(store)
        store.ingest([logged(2, activities("late"))])
        assert ids(begun) == ["early"]
        assert ids(export(store)) == ["early", "late"]


def test_other_tenants_and_tables_outside_the_scope_are_not_there(store: DuckDbStore) -> None:
    assert ids(export(store, scope=Scope(("other",)))) == ["theirs"]
    without = Scope(tables=frozenset(TABLES) - {"AgentContent"})
    assert export(store, "AgentContent").rows == 1
    for name in ("AgentContent", "Nothing", "CloudAppEvents | take 1", "AgentActivity | count"):
        with pytest.raises(NotFound, match="there is no table"):
            export(store, name, scope=without)


@pytest.mark.parametrize("name", described_views())
@pytest.mark.parametrize("slice_rows", [12, 20_000])
def test_a_view_leaves_whole_in_its_own_columns_and_types(store: DuckDbStore, name: str, slice_rows: int) -> None:
    wanted = Activity(store, KqlCompiler(), Scope()).query(f"{name} | count", 1)["Count"][0].as_py()
    begun = export(store, name, slice_rows=slice_rows)
    file = parquet.ParquetFile(io.BytesIO(b"".join(FORMATS["parquet"][1](begun))))
    assert file.metadata.num_rows == sum(begun.read) == begun.rows == wanted
    assert file.schema_arrow.names == [c.name for c in described_views()[name].columns]
    assert max(begun.read, default=0) <= slice_rows
    lines = b"".join(FORMATS["jsonl"][1](export(store, name))).splitlines()
    assert len(lines) == wanted
    keys = [json.loads(line)[_order_of(name)] for line in lines]
    assert keys == sorted(keys)
    with pytest.raises(InputError, match="no form in OCSF"):
        FORMATS["ocsf"][1](begun)


def _order_of(view: str) -> str:
    """The column that a view leaves in the order of: its time, or the name of what there is."""
    columns = [c.name for c in described_views()[view].columns]
    return "Timestamp" if "Timestamp" in columns else columns[0]


def test_a_view_without_times_leaves_whole_and_takes_no_period(store: DuckDbStore) -> None:
    whole = Activity(store, KqlCompiler(), Scope()).query("ExposureGraphNodes | count", 1)["Count"][0].as_py()
    assert whole == 5
    begun = export(store, "ExposureGraphNodes", slice_rows=2)
    found = [row["NodeId"] for batch in begun.batches() for row in batch.to_pylist()]
    assert found == sorted(set(found))
    assert len(found) == whole
    with pytest.raises(InputError, match="has no times") as refused:
        export(store, "ExposureGraphNodes", since=START)
    assert refused.value.where == "since"


def test_some_view_has_rows_in_these_tests(store: DuckDbStore) -> None:
    counts = {name: export(store, name).rows for name in described_views()}
    assert min(counts[name] for name in ("AIAgentToolEvents", "CloudAppEvents", "CopilotActivity", "BehaviorInfo")) > 5
    first = export(store, "CloudAppEvents", since=START, until=START + timedelta(hours=5))
    assert 0 < sum(b.num_rows for b in first.batches()) < counts["CloudAppEvents"]


def test_a_view_is_of_the_askers_tenant_and_only_for_who_sees_all_of_its_tables(store: DuckDbStore) -> None:
    whole = frozenset(TABLES)
    for name in described_views():
        reads = catalogue().views[name].reads
        assert export(store, name, scope=Scope(("nobody",))).rows == 0
        assert export(store, name, scope=Scope(tables=reads)).is_view
        for missing in reads:
            with pytest.raises(NotFound, match="there is no table"):
                export(store, name, scope=Scope(tables=whole - {missing}))


def test_a_settled_export_is_the_same_bytes_and_says_what_is_wrong_before_it_leaves() -> None:
    assert b"".join(settled(iter([b"a" * 3_000_000, b"b"]))) == b"a" * 3_000_000 + b"b"

    def broken() -> Iterator[bytes]:
        yield b"a"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        settled(broken())


def test_parquet_reads_back_as_what_is_stored(store: DuckDbStore) -> None:
    found = export(store, slice_rows=12)
    file = parquet.ParquetFile(io.BytesIO(b"".join(FORMATS["parquet"][1](found))))
    assert file.metadata.num_rows == found.rows == ROWS
    assert file.metadata.num_row_groups > 2
    assert file.schema_arrow.equals(TABLES["AgentActivity"].schema)
    table = file.read()
    stored = [row for batch in export(store).batches() for row in batch.to_pylist()]
    assert table.to_pylist() == stored
    empty = parquet.ParquetFile(io.BytesIO(b"".join(FORMATS["parquet"][1](export(store, since=START + 99 * DAY)))))
    assert (empty.metadata.num_rows, empty.schema_arrow.names) == (0, TABLES["AgentActivity"].schema.names)


def test_parquet_leaves_slice_by_slice(store: DuckDbStore) -> None:
    begun = export(store, slice_rows=12)
    pieces = FORMATS["parquet"][1](begun)
    assert next(pieces).startswith(b"PAR1")
    rest = list(pieces)
    assert len(rest) == len(list(begun.batches()))  # and the footer
    assert rest[-1].endswith(b"PAR1")


def test_json_lines_have_times_and_values_and_no_nulls(store: DuckDbStore) -> None:
    lines = b"".join(FORMATS["jsonl"][1](export(store, slice_rows=12))).splitlines()
    assert len(lines) == ROWS
    first = json.loads(lines[0])
    assert first["Timestamp"] == "2026-03-01T12:00:00Z"
    assert first["Facts"] == {"n": [1, "ü"]}
    assert "HttpStatus" not in first
    assert datetime.fromisoformat(first["IngestTime"]).tzinfo == UTC


def test_steps_leave_as_ocsf_and_other_tables_say_that_they_cannot(store: DuckDbStore) -> None:
    events = [json.loads(line) for line in b"".join(FORMATS["ocsf"][1](export(store))).splitlines()]
    assert len(events) == ROWS
    assert {event["class_uid"] for event in events} == {6003}
    assert {event["metadata"]["uid"] for event in events} == {f"e{n:02}" for n in range(ROWS)}
    with pytest.raises(InputError, match="AgentContent has no form in OCSF"):
        FORMATS["ocsf"][1](export(store, "AgentContent"))
    assert OCSF_TABLES == ("AgentActivity", "AlertInfo")


def test_alerts_leave_as_findings_with_their_newest_evidence(tmp_path: Path) -> None:
    common = {"Timestamp": START, "TenantId": "default", "AlertId": "alr_1"}
    alerts = [
        common | {"ReportId": "r1", "Title": "One", "Severity": "High", "Status": "New"},
        common | {"ReportId": "r2", "Title": "One", "Severity": "High", "Status": "Resolved"},
        common | {"ReportId": "r3", "Title": "Two", "AlertId": "alr_2"},
    ]
    evidence = [
        common | {"EntityType": "User", "EntityId": "griffin", "AccountUpn": "old"},
        common | {"EntityType": "User", "EntityId": "griffin", "AccountUpn": "new", "Timestamp": START + DAY},
        common | {"EntityType": "Ip", "EntityId": "203.0.113.7"},
    ]
    with closing(open_store(tmp_path)) as store:
        store.ingest(
            [
                logged(1, TABLES["AlertInfo"].batch(alerts)),
                logged(1, TABLES["AlertEvidence"].batch(evidence)),
            ]
        )
        events = [json.loads(line) for line in b"".join(FORMATS["ocsf"][1](export(store, "AlertInfo"))).splitlines()]
    assert [(e["class_uid"], e["activity_name"], len(e.get("evidences", ()))) for e in events] == [
        (2004, "Create", 2),
        (2004, "Close", 2),
        (2004, "Create", 0),
    ]
    assert "old" not in json.dumps(events)
