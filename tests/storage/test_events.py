"""The event store on DuckDB: the contract, and what only its owner sees: files, restarts, upgrades, retention."""

from __future__ import annotations

import dataclasses
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from watchfloor.model.errors import Corrupt, InputError, Unavailable
from watchfloor.storage.drain import Drain, drain
from watchfloor.storage.events import CONCURRENT_QUERIES, DuckDbStore
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.ports import CompiledQuery, Limits, LogBatch, Retention, Scope, Seq
from watchfloor.storage.rows import Rows
from watchfloor.storage.tables import AGENT_ACTIVITY, AGENT_CONTENT, TABLES, Column

from .contract_events import (
    START,
    Clock,
    EventStoreContract,
    Stage,
    activities,
    activity,
    contents,
    eventually,
    ids,
    logged,
    micros,
)


def open_store(directory: Path, **options: Any) -> DuckDbStore:
    defaults: dict[str, Any] = {"memory_limit": "256MB", "threads": 2, "now": Clock()}
    return DuckDbStore(directory / "events.duckdb", directory / "cold", **(defaults | options))


def found(store: DuckDbStore, table: str = "AgentActivity") -> list[str]:
    query = CompiledQuery(f'SELECT "ReportId" FROM "{table}"', {}, (("ReportId", "string"),), frozenset({table}))
    return sorted(ids(store.query(query, Scope(), Limits())))


def cold_files(directory: Path) -> list[Path]:
    return sorted((directory / "cold").rglob("*.parquet"))


class TestDuckDbStore(EventStoreContract):
    @pytest.fixture
    def stage(self, tmp_path: Path) -> Iterator[Stage]:
        clock = Clock()
        with closing(open_store(tmp_path, now=clock)) as store:
            yield Stage(store, store, clock)


# -- opening and closing ------------------------------------------------------------------------------------------


def test_what_was_taken_in_is_there_after_a_restart_and_is_not_taken_in_again(tmp_path: Path) -> None:
    batches = [logged(1, activities("a")), logged(2, activities("b"))]
    with closing(open_store(tmp_path)) as store:
        store.write("AgentActivity", batches)
    with closing(open_store(tmp_path)) as store:
        store.write("AgentActivity", [*batches, logged(3, activities("c"))])
        assert found(store) == ["a", "b", "c"]


def test_a_second_owner_is_told_who_has_the_file(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from watchfloor.storage.events import DuckDbStore\n"
        "p = Path(sys.argv[1]); s = DuckDbStore(p / 'events.duckdb', p / 'cold', memory_limit='128MB')\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(Unavailable, match=f"belongs to process {other.pid}"):
            open_store(tmp_path)
    finally:
        other.kill()
        other.communicate()
    with closing(open_store(tmp_path)) as store:
        assert found(store) == []


def test_a_store_that_could_not_be_opened_does_not_keep_the_file(tmp_path: Path) -> None:
    (tmp_path / "events.duckdb").write_bytes(b"this is not a database" * 1000)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"damaged|cannot"):
            open_store(tmp_path)
    (tmp_path / "events.duckdb").unlink()
    open_store(tmp_path).close()


def test_an_owner_in_any_time_zone_keeps_time_in_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with closing(open_store(tmp_path)) as store:
        query = CompiledQuery("SELECT current_setting('TimeZone') AS z", {}, (), frozenset())
        assert [b.to_pylist() for b in store.query(query, Scope(), Limits())] == [[{"z": "UTC"}]]


def test_a_query_for_another_engine_is_refused(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store, pytest.raises(InputError, match="clickhouse"):
        store.query(CompiledQuery("SELECT 1", {}, (), frozenset(), "clickhouse"), Scope(), Limits())


# -- taking in ----------------------------------------------------------------------------------------------------


def test_a_batch_for_an_unknown_table_is_refused_and_its_neighbours_are_not_stored_half(tmp_path: Path) -> None:
    strange = activities("x").replace_schema_metadata({"table": "Nonsense"})
    with closing(open_store(tmp_path)) as store:
        with pytest.raises(InputError, match="Nonsense"):
            store.ingest([logged(1, activities("a")), logged(2, strange)])
        assert found(store) == []


def test_a_batch_that_does_not_fit_its_table_stores_nothing_and_moves_no_cursor(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        wrong = (
            activities("x").set_column(4, "ReportId", [[[1, 2]]]).replace_schema_metadata({"table": "AgentActivity"})
        )
        wrong = wrong.set_column(0, "Timestamp", [["not a time"]]).replace_schema_metadata({"table": "AgentActivity"})
        with pytest.raises(InputError):
            store.ingest([logged(1, contents("a")), logged(2, wrong)])
        assert found(store, "AgentContent") == []
        store.ingest([logged(1, contents("a")), logged(2, activities("b"))])
        assert (found(store), found(store, "AgentContent")) == (["b"], ["a"])


def test_a_time_that_no_calendar_has_becomes_the_time_of_arrival(tmp_path: Path) -> None:
    clock = Clock()
    rows = [
        {"Timestamp": value, "TenantId": "default", "ReportId": str(value)} for value in (None, 2**63 - 1, -(2**63) + 1)
    ]
    with closing(open_store(tmp_path, now=clock)) as store:
        store.ingest([logged(1, AGENT_ACTIVITY.batch(rows))])
        query = CompiledQuery(
            'SELECT DISTINCT "Timestamp" AS t FROM "AgentActivity"', {}, (), frozenset({"AgentActivity"})
        )
        assert [r["t"] for b in store.query(query, Scope(), Limits()) for r in b.to_pylist()] == [clock.at]


def test_a_log_that_was_made_anew_is_taken_in_and_numbered_behind_the_old_one(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        store.ingest([logged(n, activities(f"old{n}"), log="first") for n in range(1, 6)])
        store.ingest([logged(1, activities("new"), log="second")])
    with closing(open_store(tmp_path)) as store:
        store.ingest([logged(1, activities("new"), log="second"), logged(2, activities("newer"), log="second")])
        query = CompiledQuery(
            'SELECT "ReportId" FROM "AgentActivity" ORDER BY "IngestSeq"', {}, (), frozenset({"AgentActivity"})
        )
        assert ids(store.query(query, Scope(), Limits())) == ["old1", "old2", "old3", "old4", "old5", "new", "newer"]


# -- draining -----------------------------------------------------------------------------------------------------


def test_draining_empties_the_log_into_the_store(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store, closing(SqliteLog(tmp_path / "log.db")) as log:
        for n in range(10):
            log.append_all("main", [(activities(f"a{n}"), f"{n}:A"), (contents(f"a{n}"), f"{n}:C")])
        assert drain(log, store) == 20
        assert drain(log, store) == 0
        assert len(found(store)) == len(found(store, "AgentContent")) == 10
        assert log.backlog().rows == 0


def test_a_drain_that_died_before_it_trimmed_doubles_nothing(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store, closing(SqliteLog(tmp_path / "log.db")) as log:
        log.append("main", activities("a"), "k")
        store.ingest(log.read("main", Seq(0), 100))  # and here it died
        assert drain(log, store) == 0
        assert found(store) == ["a"]
        assert log.backlog().rows == 0


def test_a_batch_that_fits_no_table_does_not_hold_up_the_others(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store, closing(SqliteLog(tmp_path / "log.db")) as log:
        log.append("main", activities("a"), "k1")
        log.append("main", activities("x").replace_schema_metadata({"table": "Nonsense"}), "k2")
        log.append("main", activities("b"), "k3")
        assert drain(log, store) == 2
        assert found(store) == ["a", "b"]
        assert (log.backlog().rows, log.backlog().set_aside) == (0, 1)


def test_a_drain_survives_a_log_that_does_not_answer_and_says_so_meanwhile(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.close()
    with closing(open_store(tmp_path)) as store:
        loop, stop = Drain(log, store), threading.Event()
        thread = threading.Thread(target=loop.run, args=(stop,))
        thread.start()
        eventually(lambda: "does not answer" in loop.fault)
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


class Pauses(threading.Event):
    """Is set at the first wait, and knows how long that would have been and how many rows the log held."""

    def __init__(self, log: SqliteLog) -> None:
        super().__init__()
        self.log, self.seconds, self.waiting = log, 0.0, -1

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self.seconds, self.waiting = timeout or 0.0, self.log.backlog().rows
        self.set()
        return True


@pytest.mark.parametrize("max_rows", [1, 2, 3, 100])
def test_rounds_keep_their_distance_unless_the_store_is_behind(tmp_path: Path, max_rows: int) -> None:
    with closing(open_store(tmp_path)) as store, closing(SqliteLog(tmp_path / "log.db")) as log:
        for name in "abc":
            log.append("main", activities(name), name)
        loop, pauses = Drain(log, store, max_rows=max_rows, interval=3600), Pauses(log)
        loop.run(pauses)
        assert pauses.waiting == 0  # what did not fit into one round was moved at once
        assert 3500 < pauses.seconds <= 3600
        assert found(store) == ["a", "b", "c"]


def test_batches_of_both_shapes_are_stored_alike_and_in_order(tmp_path: Path) -> None:
    shape = Rows(AGENT_ACTIVITY)

    def rows(*names: str) -> list[dict[str, Any]]:
        return [activity(name, HttpStatus=200) for name in names]

    with closing(open_store(tmp_path)) as store:
        store.ingest(
            [
                logged(1, shape.packed(rows("a", "b"))),
                logged(2, shape.packed(rows("c"))),
                logged(3, shape.typed(rows("d", "e"))),
                logged(4, shape.packed(rows("f"))),
            ]
        )
        query = CompiledQuery(
            'SELECT "ReportId", "IngestSeq" FROM "AgentActivity" WHERE "HttpStatus" = 200 ORDER BY "IngestSeq"',
            {},
            (),
            frozenset({"AgentActivity"}),
        )
        (batch,) = store.query(query, Scope(), Limits())
        seqs = [1 << 20, (1 << 20) + 1, 2 << 20, 3 << 20, (3 << 20) + 1, 4 << 20]
        assert batch.to_pydict() == {"ReportId": list("abcdef"), "IngestSeq": seqs}


def test_a_packed_row_from_a_newer_version_is_set_aside_and_its_neighbours_are_stored(tmp_path: Path) -> None:
    shape = Rows(AGENT_ACTIVITY)
    with closing(open_store(tmp_path)) as store, closing(SqliteLog(tmp_path / "log.db")) as log:
        for name, extra in [("a", {}), ("x", {"FromTheFuture": 1}), ("b", {})]:
            log.append("main", shape.packed([activity(name, **extra)]), name)
        assert drain(log, store) == 2
        assert found(store) == ["a", "b"]
        assert log.backlog().set_aside == 1


# -- upgrades -----------------------------------------------------------------------------------------------------


def with_column(name: str, type_: str) -> dict[str, Any]:
    table = dataclasses.replace(AGENT_CONTENT, columns=(*AGENT_CONTENT.columns, Column(name, type_, "New.")))
    return TABLES | {"AgentContent": table}


def test_a_column_added_to_a_table_is_added_to_the_store_hot_and_cold(tmp_path: Path) -> None:
    old = START - timedelta(days=20)
    with closing(open_store(tmp_path)) as store:
        store.ingest([logged(1, contents("cold", at=old)), logged(2, contents("hot"))])
        store.maintain(START)
    tables = with_column("Label", "string")
    with closing(open_store(tmp_path, tables=tables)) as store:
        store.ingest([logged(3, contents("sent by an old worker")), logged(4, contents("last"))])
        rows = tables["AgentContent"].batch(
            [{"Timestamp": micros(START), "TenantId": "default", "ReportId": "new", "Label": "secret"}]
        )
        store.ingest([logged(5, rows)])
        query = CompiledQuery(
            'SELECT "ReportId", "Label" FROM "AgentContent" ORDER BY 1', {}, (), frozenset({"AgentContent"})
        )
        labels = {r["ReportId"]: r["Label"] for b in store.query(query, Scope(), Limits()) for r in b.to_pylist()}
        assert labels == {"cold": "", "hot": "", "sent by an old worker": "", "last": "", "new": "secret"}
        store.maintain(START)
        assert len(found(store, "AgentContent")) == 5


def test_a_column_whose_type_changed_is_refused_with_its_name(tmp_path: Path) -> None:
    with closing(open_store(tmp_path, tables=with_column("Label", "string"))):
        pass
    with pytest.raises(Corrupt, match=r"AgentContent\.Label is stored as VARCHAR"):
        open_store(tmp_path, tables=with_column("Label", "long"))


# -- retention ----------------------------------------------------------------------------------------------------

OLD = START - timedelta(days=20)


def test_cold_files_are_private_zstd_parquet_by_table_day_and_tenant(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    with closing(open_store(tmp_path)) as store:
        store.ingest([logged(1, activities("a", "b", at=OLD))])
        store.maintain(START)
    (file,) = cold_files(tmp_path)
    assert file.parent == tmp_path / "cold" / "table=AgentActivity" / "dt=2026-02-09" / "tenant=default"
    assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_contents_have_their_own_retention(tmp_path: Path) -> None:
    brief = Retention(timedelta(days=1), timedelta(days=3))
    with closing(open_store(tmp_path, content_retention=brief)) as store:
        at = START - timedelta(days=5)
        store.ingest([logged(1, activities("a", at=at)), logged(2, contents("a", at=at))])
        report = store.maintain(START)
        assert report.dropped == (f"AgentContent/{at.date()}",)
        assert (found(store), found(store, "AgentContent")) == (["a"], [])


def test_a_day_is_closed_only_when_all_of_it_is_older_than_the_hot_days(tmp_path: Path) -> None:
    with closing(open_store(tmp_path, retention=Retention(hot=timedelta(days=2)))) as store:
        midnight = START.replace(hour=0) - timedelta(days=2)
        store.ingest([logged(1, activities("before", at=midnight - timedelta(microseconds=1)))])
        store.ingest([logged(2, activities("at", at=midnight))])
        assert dict(store.maintain(START).exported) == {"AgentActivity/2026-02-26": 1}
        assert found(store) == ["at", "before"]


def test_an_export_that_died_before_it_committed_leaves_nothing_that_counts(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        store.ingest([logged(1, activities("a", at=OLD))])
        store.maintain(START)
    (file,) = cold_files(tmp_path)
    orphan = file.with_name("0123456789abcdef.parquet")  # renamed, but its transaction did not commit
    orphan.write_bytes(file.read_bytes())
    torn = file.with_name("0123456789abcdee.parquet.tmp")
    torn.write_bytes(b"PAR1")
    with closing(open_store(tmp_path)) as store:
        assert found(store) == ["a"]
    assert cold_files(tmp_path) == [file]
    assert not torn.exists()
    assert orphan.with_name(orphan.name + ".orphan").exists()


def test_an_export_that_fails_leaves_the_rows_hot(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        store.ingest([logged(1, activities("a", at=OLD))])
        (tmp_path / "cold" / "table=AgentActivity").write_text("in the way")
        with pytest.raises(Unavailable):
            store.maintain(START)
        assert found(store) == ["a"]
        (tmp_path / "cold" / "table=AgentActivity").unlink()
        store.maintain(START)
        assert found(store) == ["a"]


def test_a_cold_file_that_was_taken_away_is_missed_aloud_and_found_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(open_store(tmp_path)) as store:
        store.ingest([logged(1, activities("cold", at=OLD)), logged(2, activities("hot"))])
        store.maintain(START)
    (file,) = cold_files(tmp_path)
    away = file.rename(tmp_path / "away")
    with closing(open_store(tmp_path)) as store:
        assert found(store) == ["hot"]
        assert "is gone" in caplog.text
    away.rename(file)
    with closing(open_store(tmp_path)) as store:
        assert found(store) == ["cold", "hot"]


def test_dropped_days_leave_no_file_behind(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        store.ingest([logged(1, activities("a", at=OLD))])
        store.maintain(START)
        assert len(cold_files(tmp_path)) == 1
        store.maintain(START + timedelta(days=90))
        assert cold_files(tmp_path) == []


def test_queries_during_ingest_and_export_see_every_row_exactly_once(tmp_path: Path) -> None:
    days, each = 12, 40
    with closing(open_store(tmp_path)) as store:
        stop = threading.Event()
        faults: list[object] = []
        stored = 0

        def maintain() -> None:
            day = 0
            while not stop.is_set():
                store.maintain(START + timedelta(days=day % days))
                day += 1

        def query() -> None:
            sql = 'SELECT count(*) AS n, count(DISTINCT "ReportId") AS d FROM "AgentActivity"'
            compiled = CompiledQuery(sql, {}, (), frozenset({"AgentActivity"}))
            while not stop.is_set():
                least = stored
                (row,) = next(store.query(compiled, Scope(), Limits())).to_pylist()
                if row["n"] != row["d"] or not least <= row["n"] <= stored + each:
                    faults.append((least, row, stored))

        def guarded(work: Any) -> None:
            try:
                work()
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=guarded, args=(work,)) for work in (maintain, query)]
        for thread in threads:
            thread.start()
        for seq in range(1, 26):
            at = START - timedelta(days=seq % days)
            store.ingest([logged(seq, activities(*[f"{seq}-{i}" for i in range(each)], at=at))])
            stored += each
        stop.set()
        for thread in threads:
            thread.join(30)
        assert faults == []
        assert len(found(store)) == 25 * each


# -- limits -------------------------------------------------------------------------------------------------------


def test_a_query_that_gets_no_turn_in_time_is_told_to_come_again(tmp_path: Path) -> None:
    endless = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range < 0"
    long, short = Limits(timeout_seconds=20), Limits(timeout_seconds=0.1)
    with closing(open_store(tmp_path)) as store:
        running = [
            threading.Thread(target=_swallow, args=(store, endless, Limits(timeout_seconds=1.5)))
            for _ in range(CONCURRENT_QUERIES)
        ]
        for thread in running:
            thread.start()
        eventually(lambda: store._active == CONCURRENT_QUERIES)
        with pytest.raises(Unavailable, match="running already"):
            store.query(CompiledQuery("SELECT 1", {}, (), frozenset()), Scope(), short)
        assert list(store.query(CompiledQuery("SELECT 1", {}, (), frozenset()), Scope(), long))
        for thread in running:
            thread.join()


def _swallow(store: DuckDbStore, sql: str, limits: Limits) -> None:
    with pytest.raises(Unavailable):
        store.query(CompiledQuery(sql, {}, (), frozenset()), Scope(), limits)


def test_a_query_beyond_the_memory_limit_fails_and_the_store_lives(tmp_path: Path) -> None:
    hungry = "SELECT count(DISTINCT md5(CAST(range AS VARCHAR)) || repeat('x', 200)) AS n FROM range(3000000)"
    with closing(open_store(tmp_path, memory_limit="40MB", threads=1)) as store:
        store.ingest([logged(1, activities("a"))])
        with suppress(Unavailable):  # out of memory or time, or spilled to disk: all are well
            store.query(CompiledQuery(hungry, {}, (), frozenset()), Scope(), Limits(timeout_seconds=1))
        assert found(store) == ["a"]


def test_batches_of_one_partition_may_come_in_any_number_of_rounds(tmp_path: Path) -> None:
    batches: list[LogBatch] = [logged(n, activities(f"e{n:02}")) for n in range(1, 21)]
    with closing(open_store(tmp_path)) as store:
        for start in range(0, 20, 3):
            store.ingest(batches[: start + 3])
        assert found(store) == [f"e{n:02}" for n in range(1, 21)]
