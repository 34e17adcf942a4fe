"""What every event log and every event store must do: two suites, run over each implementation.

``EventLogContract`` and ``EventStoreContract`` are bases of test classes in ``test_log.py``, ``test_events.py`` and
``test_remote.py``, which provide the fixtures. A PostgreSQL is expected at 127.0.0.1:5432
(``WATCHFLOOR_TEST_POSTGRES`` to say otherwise); a throw-away database is made for the run. Where there is none its half
is skipped, except in CI, where that is a failure.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pyarrow as pa
import pytest

from watchfloor.model.errors import Denied, InputError, Unavailable, WatchfloorError
from watchfloor.storage.events import DuckDbStore
from watchfloor.storage.ports import CompiledQuery, EventLog, EventStore, KeyedBatch, Limits, LogBatch, Scope, Seq
from watchfloor.storage.rows import is_packed, unpack
from watchfloor.storage.tables import AGENT_ACTIVITY, AGENT_CONTENT, TABLES

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that goes only when told to."""

    at: datetime = START

    def __call__(self) -> datetime:
        return self.at


def micros(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def activity(report_id: str, at: datetime = START, **columns: Any) -> dict[str, Any]:
    """A row of AgentActivity as a worker records it."""
    return {"Timestamp": micros(at), "TenantId": "default", "ReportId": report_id, **columns}


def activities(*report_ids: str, at: datetime = START, **columns: Any) -> pa.RecordBatch:
    return AGENT_ACTIVITY.batch([activity(report_id, at, **columns) for report_id in report_ids])


def contents(*report_ids: str, at: datetime = START, **columns: Any) -> pa.RecordBatch:
    return AGENT_CONTENT.batch([activity(report_id, at, **columns) for report_id in report_ids])


def logged(seq: int, batch: pa.RecordBatch, *, part: str = "main", log: str = "log-1") -> LogBatch:
    return LogBatch(part, Seq(seq), batch.schema.metadata[b"table"].decode(), batch, log)


def ids(batches: Iterable[pa.RecordBatch]) -> list[str]:
    """ReportIds in order, of typed and packed batches."""
    found: list[str] = []
    for batch in batches:
        if is_packed(batch):
            batch = unpack(TABLES[batch.schema.metadata[b"table"].decode()], [batch])
        found += batch.column("ReportId").to_pylist()
    return found


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition, bounded."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


class OpenLog(Protocol):
    """Opens the log under test anew, on the same storage; ``clock`` tells its time."""

    clock: Clock

    def __call__(self) -> EventLog: ...


class EventLogContract:
    """What ``SqliteLog`` and ``PostgresLog`` must do. Fixtures: ``open_log``, and ``log``, which it opened."""

    def test_what_was_appended_is_read_back_as_it_was(self, log: EventLog) -> None:
        batch = activities("a", "b", Verdict="block", HttpStatus=403, DurationMs=1.5, Facts='{"n": 1}')
        seq = log.append("main", batch, "k1")
        (found,) = log.read("main", Seq(0), 100)
        assert (found.part, found.seq, found.table) == ("main", seq, "AgentActivity")
        assert found.batch.schema.equals(batch.schema)
        assert found.batch.equals(batch)

    def test_positions_grow_and_reading_goes_on_behind_the_last(self, log: EventLog) -> None:
        seqs = [log.append("main", activities(f"e{n}"), f"k{n}") for n in range(5)]
        assert seqs == sorted(set(seqs))
        assert seqs[0] >= 1
        assert ids(b.batch for b in log.read("main", seqs[2], 100)) == ["e3", "e4"]
        assert log.read("main", seqs[-1], 100) == []

    def test_a_batch_is_read_whole_and_at_least_one_is(self, log: EventLog) -> None:
        log.append("main", activities("a", "b", "c"), "k1")
        log.append("main", activities("d", "e"), "k2")
        log.append("main", activities("f"), "k3")
        assert ids(b.batch for b in log.read("main", Seq(0), 1)) == ["a", "b", "c"]
        assert ids(b.batch for b in log.read("main", Seq(0), 4)) == ["a", "b", "c", "d", "e"]

    def test_the_same_key_twice_stores_once_and_gives_the_first_position(self, log: EventLog) -> None:
        first = log.append("main", activities("a"), "k")
        assert log.append("main", activities("a"), "k") == first
        assert len(log.read("main", Seq(0), 100)) == 1

    def test_an_event_that_is_sent_again_is_stored_once_with_all_of_its_rows(self, log: EventLog) -> None:
        first = [
            KeyedBatch(activities("a", "b"), [b"key-a", b"key-b"]),
            KeyedBatch(contents("a1", "a2", "b1"), [b"key-a", b"key-a", b"key-b"]),
        ]
        again = [
            KeyedBatch(activities("b", "c"), [b"key-b", b"key-c"]),
            KeyedBatch(contents("b1", "c1"), [b"key-b", b"key-c"]),
        ]
        assert log.append_once("main", first) == set()
        assert log.append_once("main", again) == {b"key-b"}
        assert log.append_once("main", again) == {b"key-b", b"key-c"}
        found = log.read("main", Seq(0), 100)
        assert ids(b.batch for b in found if b.table == "AgentActivity") == ["a", "b", "c"]
        assert ids(b.batch for b in found if b.table == "AgentContent") == ["a1", "a2", "b1", "c1"]
        assert [b.seq for b in found] == sorted({b.seq for b in found})

    def test_of_many_that_send_the_same_event_at_once_one_stores_it(self, open_log: OpenLog) -> None:
        logs = [open_log() for _ in range(4)]
        new: list[bool] = []

        def send(log: EventLog) -> None:
            for n in range(20):
                new.append(not log.append_once("main", [KeyedBatch(activities(f"e{n}"), [b"key-%d" % n])]))

        threads = [threading.Thread(target=send, args=(log,)) for log in logs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(new) == 20
        assert sorted(ids(b.batch for b in logs[0].read("main", Seq(0), 100))) == sorted(f"e{n}" for n in range(20))

    def test_an_event_is_remembered_for_a_day_and_forgotten_after_two(self, open_log: OpenLog, log: EventLog) -> None:
        def send() -> bool:
            return not log.append_once("main", [KeyedBatch(activities("a"), [b"key-a"])])

        assert send()
        for hours in range(4, 25, 4):
            open_log.clock.at = START + timedelta(hours=hours)
            assert not log.append_once("main", [KeyedBatch(activities("x"), [b"key-%d" % hours])])
            log.trim("main", Seq(0))
            assert not send()
        for hours in range(28, 73, 4):
            open_log.clock.at = START + timedelta(hours=hours)
            assert not log.append_once("main", [KeyedBatch(activities("x"), [b"key-%d" % hours])])
            log.trim("main", Seq(0))
        assert send()

    def test_a_key_is_remembered_after_its_batch_was_trimmed_and_forgotten_after_a_week(
        self, open_log: OpenLog, log: EventLog
    ) -> None:
        first = log.append("main", activities("a"), "k")
        log.trim("main", first)
        open_log.clock.at += timedelta(days=6)
        log.trim("main", first)
        assert log.append("main", activities("a"), "k") == first
        assert log.read("main", Seq(0), 100) == []
        open_log.clock.at += timedelta(days=2)
        log.trim("main", first)
        assert log.append("main", activities("a"), "k") > first

    def test_positions_are_never_given_out_again_even_when_all_is_trimmed_and_forgotten(
        self, open_log: OpenLog, log: EventLog
    ) -> None:
        last = log.append("main", activities("a"), "k1")
        open_log.clock.at += timedelta(days=30)
        log.trim("main", last)
        assert open_log().append("main", activities("b"), "k2") > last

    def test_parts_are_apart(self, log: EventLog) -> None:
        log.append("p1", activities("a"), "k1")
        second = log.append("p2", activities("b"), "k2")
        log.trim("p1", second)
        assert log.read("p1", Seq(0), 100) == []
        assert ids(b.batch for b in log.read("p2", Seq(0), 100)) == ["b"]

    def test_several_tables_in_one_append_keep_their_order(self, log: EventLog) -> None:
        seqs = log.append_all("main", [(activities("a"), "s:A"), (contents("a", Kind="invocation"), "s:C")])
        found = log.read("main", Seq(0), 100)
        assert [(b.seq, b.table) for b in found] == [(seqs[0], "AgentActivity"), (seqs[1], "AgentContent")]

    def test_of_a_repeated_append_only_what_is_new_is_stored(self, log: EventLog) -> None:
        (first,) = log.append_all("main", [(activities("a"), "s:A")])
        seqs = log.append_all("main", [(activities("a"), "s:A"), (contents("a"), "s:C")])
        assert seqs[0] == first
        assert [b.table for b in log.read("main", Seq(0), 100)] == ["AgentActivity", "AgentContent"]

    def test_a_batch_without_a_table_is_refused_and_nothing_of_its_append_is_stored(self, log: EventLog) -> None:
        nameless = activities("b").replace_schema_metadata({})
        with pytest.raises(InputError, match="table"):
            log.append_all("main", [(activities("a"), "k1"), (nameless, "k2")])
        assert log.read("main", Seq(0), 100) == []

    def test_the_backlog_says_how_much_waits_and_for_how_long(self, open_log: OpenLog, log: EventLog) -> None:
        assert (log.backlog().rows, log.backlog().bytes, log.backlog().oldest_age_seconds) == (0, 0, 0.0)
        first = log.append("main", activities("a", "b"), "k1")
        open_log.clock.at += timedelta(seconds=30)
        log.append("main", activities("c"), "k2")
        waiting = log.backlog()
        assert waiting.rows == 3
        assert waiting.bytes > 0
        assert waiting.oldest_age_seconds == pytest.approx(30.0)
        log.trim("main", first)
        assert log.backlog().rows == 1
        assert log.backlog().oldest_age_seconds == pytest.approx(0.0)

    def test_a_batch_set_aside_is_out_of_the_way_and_counted(self, log: EventLog) -> None:
        first = log.append("main", activities("a"), "k1")
        log.append("main", activities("b"), "k2")
        log.set_aside("main", first, "fits no table")
        log.set_aside("main", first, "fits no table")
        assert ids(b.batch for b in log.read("main", Seq(0), 100)) == ["b"]
        assert log.backlog().set_aside == 1

    def test_a_table_that_gained_a_column_is_read_back_in_both_shapes(self, log: EventLog) -> None:
        old = contents("a").drop_columns(["Kind"]).replace_schema_metadata({"table": "AgentContent"})
        log.append("main", old, "k1")
        log.append("main", contents("b"), "k2")
        shapes = [b.batch.schema.names for b in log.read("main", Seq(0), 100)]
        assert "Kind" not in shapes[0]
        assert "Kind" in shapes[1]

    def test_what_was_appended_is_there_when_the_log_is_opened_again(self, open_log: OpenLog, log: EventLog) -> None:
        log.append("main", activities("a"), "k1")
        (before,) = log.read("main", Seq(0), 100)
        (after,) = open_log().read("main", Seq(0), 100)
        assert (after.seq, after.log) == (before.seq, before.log)
        assert after.batch.equals(before.batch)

    def test_a_reader_that_follows_concurrent_writers_misses_nothing(self, open_log: OpenLog, log: EventLog) -> None:
        writers, each = 4, 25
        finished = threading.Event()
        faults: list[BaseException] = []

        def write(worker: int) -> None:
            try:
                own = open_log()
                for n in range(each):
                    own.append("main", activities(f"{worker}-{n}"), f"{worker}-{n}")
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
        for thread in threads:
            thread.start()

        def wait_for_all() -> None:
            for thread in threads:
                thread.join()
            finished.set()

        threading.Thread(target=wait_for_all).start()
        seen: list[str] = []
        position = Seq(0)
        while True:
            was_finished = finished.is_set()
            found = log.read("main", position, 10)
            for batch in found:
                assert batch.seq > position
                position = batch.seq
                seen += ids([batch.batch])
            if was_finished and not found:
                break
        assert faults == []
        assert sorted(seen) == sorted(f"{w}-{n}" for w in range(writers) for n in range(each))


@dataclass
class Stage:
    """An event store under test, and the engine behind it, which takes the events in."""

    store: EventStore
    engine: DuckDbStore
    clock: Clock

    def take_in(self, *batches: LogBatch) -> None:
        for table in dict.fromkeys(b.table for b in batches):
            self.engine.write(table, [b for b in batches if b.table == table])

    def query(
        self,
        sql: str,
        params: dict[str, Any] | None = None,
        *,
        tables: Iterable[str] = ("AgentActivity",),
        columns: tuple[tuple[str, str], ...] = (),
        scope: Scope | None = None,
        limits: Limits | None = None,
    ) -> list[pa.RecordBatch]:
        compiled = CompiledQuery(sql, params or {}, columns, frozenset(tables))
        return list(self.store.query(compiled, scope or Scope(), limits or Limits()))

    def rows(self, sql: str, params: dict[str, Any] | None = None, **options: Any) -> list[dict[str, Any]]:
        return [row for batch in self.query(sql, params, **options) for row in batch.to_pylist()]

    def ids(self, where: str = "true", **options: Any) -> list[str]:
        return sorted(row["ReportId"] for row in self.rows(f'SELECT * FROM "AgentActivity" WHERE {where}', **options))


REFUSED = (
    'DROP TABLE hot."AgentActivity"',
    'DELETE FROM hot."AgentActivity"',
    "SELECT 1; SELECT 2",
    "COPY (SELECT 1) TO '/tmp/x.parquet'",
    "ATTACH '/tmp/x.duckdb'",
    "SET threads = 8",
    "INSTALL httpfs",
    "PRAGMA show_tables",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM duckdb_tables()",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM (SHOW ALL TABLES)",
    'SELECT * FROM (DESCRIBE hot."AgentActivity")',
    "SELECT * FROM query('SELECT 1')",
    "FROM hot.ingest_cursor",
    "SELECT",
    "",
)
"""What no query may be."""

_ALL = 'SELECT "ReportId" FROM "AgentActivity"'


class EventStoreContract:
    """What ``DuckDbStore`` and ``RemoteStore`` must do. Fixture: ``stage``."""

    def test_what_was_taken_in_is_found_and_numbered(self, stage: Stage) -> None:
        stage.take_in(logged(3, activities("a", "b", Verdict="block", HttpStatus=403)), logged(7, activities("c")))
        rows = stage.rows('SELECT * FROM "AgentActivity" ORDER BY "IngestSeq"')
        assert [r["ReportId"] for r in rows] == ["a", "b", "c"]
        assert [r["IngestSeq"] for r in rows] == [3 << 20, (3 << 20) + 1, 7 << 20]
        assert {r["IngestTime"] for r in rows} == {stage.clock.at}
        assert (rows[0]["Timestamp"], rows[0]["Verdict"], rows[0]["HttpStatus"]) == (START, "block", 403)

    def test_text_that_was_not_given_is_empty_and_other_values_are_null(self, stage: Stage) -> None:
        stage.take_in(logged(1, activities("a")))
        (row,) = stage.rows('SELECT "Verdict", "HttpStatus", "Facts" FROM "AgentActivity"')
        assert row == {"Verdict": "", "HttpStatus": None, "Facts": None}

    def test_a_batch_that_comes_again_is_ignored(self, stage: Stage) -> None:
        batches = [logged(1, activities("a")), logged(2, activities("b"))]
        stage.take_in(*batches)
        stage.take_in(*batches, logged(3, activities("c")))
        assert stage.ids() == ["a", "b", "c"]

    def test_tables_that_share_a_partition_do_not_hide_each_others_batches(self, stage: Stage) -> None:
        stage.engine.write("AgentActivity", [logged(1, activities("a")), logged(3, activities("b"))])
        stage.engine.write("AgentContent", [logged(2, contents("a", Content="{}"))])
        assert stage.ids() == ["a", "b"]
        assert stage.rows('SELECT count(*) AS n FROM "AgentContent"', tables=["AgentContent"]) == [{"n": 1}]

    def test_values_travel_as_parameters_whatever_they_hold(self, stage: Stage) -> None:
        hostile = """x'; DROP TABLE "AgentActivity"; --\u2028\x00"""
        stage.take_in(logged(1, activities("a", AgentName=hostile)), logged(2, activities("b", HttpStatus=2**53 + 1)))
        assert stage.rows(f'{_ALL} WHERE "AgentName" = $v', {"v": hostile}) == [{"ReportId": "a"}]
        assert stage.rows(f'{_ALL} WHERE "HttpStatus" = $v', {"v": 2**53 + 1}) == [{"ReportId": "b"}]
        late = START + timedelta(microseconds=1)
        assert stage.rows(f'{_ALL} WHERE "Timestamp" < $v', {"v": late}) == [{"ReportId": "a"}, {"ReportId": "b"}]
        assert stage.rows(f'{_ALL} WHERE list_contains($v, "ReportId")', {"v": ["b", "z"]}) == [{"ReportId": "b"}]
        assert stage.rows("SELECT $v IS NULL AS n, $f AS f", {"v": None, "f": 1.5}, tables=[]) == [
            {"n": True, "f": 1.5}
        ]

    def test_columns_carry_the_names_that_the_query_promised(self, stage: Stage) -> None:
        (batch,) = stage.query(
            "SELECT 1 AS c1, 'x' AS c2", tables=[], columns=(("count_", "long"), ("Ærøskøbing", "string"))
        )
        assert batch.schema.names == ["count_", "Ærøskøbing"]

    def test_an_empty_result_has_its_columns_too(self, stage: Stage) -> None:
        (batch,) = stage.query(_ALL, columns=(("ReportId", "string"),))
        assert (batch.num_rows, batch.schema.names) == (0, ["ReportId"])

    def test_times_come_back_as_utc_to_the_microsecond(self, stage: Stage) -> None:
        at = datetime(2026, 3, 29, 1, 30, 0, 123457, tzinfo=UTC)  # a night when clocks change in Europe
        stage.take_in(logged(1, activities("a", at=at)))
        (batch,) = stage.query('SELECT "Timestamp" FROM "AgentActivity"')
        assert batch.schema.field(0).type == pa.timestamp("us", tz="UTC")
        assert batch.column(0).to_pylist() == [at]

    # -- scope ----------------------------------------------------------------------------------------------------

    def test_rows_of_other_tenants_are_not_there(self, stage: Stage) -> None:
        stage.take_in(logged(1, activities("a")), logged(2, activities("b", TenantId="other")))
        assert stage.ids() == ["a"]
        assert stage.ids(scope=Scope(("other",))) == ["b"]
        assert stage.ids(scope=Scope(("default", "other"))) == ["a", "b"]
        assert stage.ids(scope=Scope(())) == []
        assert stage.ids(scope=Scope(("x') OR ('1'='1",))) == []

    def test_no_sql_reaches_other_tenants(self, stage: Stage) -> None:
        stage.take_in(logged(1, activities("a", TenantId="other")))
        for sql in (
            'SELECT * FROM "AgentActivity" WHERE true OR "TenantId" = \'other\'',
            'SELECT * FROM (SELECT * FROM "AgentActivity") UNION ALL SELECT * FROM "AgentActivity"',
            'WITH x AS (SELECT * FROM "AgentActivity") SELECT * FROM x',
        ):
            assert [b.num_rows for b in stage.query(sql)] == [0]
        for sql in (
            'SELECT * FROM hot."AgentActivity"',
            'SELECT * FROM readable."AgentActivity"',
            'SELECT * FROM main."AgentActivity"',
            'WITH "AgentActivity" AS (SELECT * FROM hot."AgentActivity") SELECT * FROM "AgentActivity"',
            'SELECT (SELECT count(*) FROM readable."AgentActivity")',
        ):
            with pytest.raises(InputError):
                stage.query(sql)

    def test_rows_before_the_scope_begins_are_not_there(self, stage: Stage) -> None:
        stage.take_in(logged(1, activities("old", at=START - timedelta(days=2))), logged(2, activities("new")))
        assert stage.ids(scope=Scope(since=START - timedelta(days=1))) == ["new"]

    def test_a_table_outside_the_scope_is_denied_and_one_inside_is_not(self, stage: Stage) -> None:
        stage.take_in(logged(1, contents("a")), logged(2, activities("a")))
        scope = Scope(tables=frozenset({"AgentActivity"}))
        with pytest.raises(Denied, match="AgentContent"):
            stage.query('SELECT * FROM "AgentContent"', tables=["AgentContent"], scope=scope)
        assert stage.ids(scope=scope) == ["a"]

    def test_a_table_that_the_query_does_not_own_up_to_is_refused(self, stage: Stage) -> None:
        with pytest.raises(InputError, match="AgentContent"):
            stage.query(
                'SELECT * FROM "AgentActivity", "AgentContent"', scope=Scope(tables=frozenset({"AgentActivity"}))
            )

    def test_nothing_but_one_plain_select_over_known_tables_runs(self, stage: Stage) -> None:
        stage.take_in(logged(1, activities("a")))
        for sql in REFUSED:
            with pytest.raises(InputError):
                stage.query(sql)
        assert stage.ids() == ["a"]

    # -- limits ---------------------------------------------------------------------------------------------------

    def test_a_result_with_too_many_rows_is_refused_and_never_cut(self, stage: Stage) -> None:
        sql = "SELECT range AS n FROM range($n)"
        assert sum(b.num_rows for b in stage.query(sql, {"n": 1000}, tables=[], limits=Limits(max_rows=1000))) == 1000
        with pytest.raises(Unavailable, match="1000 rows"):
            stage.query(sql, {"n": 1001}, tables=[], limits=Limits(max_rows=1000))

    def test_a_result_that_is_too_large_is_refused(self, stage: Stage) -> None:
        sql = "SELECT repeat('x', 1000) AS x FROM range(5000)"
        with pytest.raises(Unavailable, match="bytes"):
            stage.query(sql, tables=[], limits=Limits(max_bytes=1_000_000))
        assert sum(b.num_rows for b in stage.query(sql, tables=[])) == 5000

    def test_a_query_that_takes_too_long_is_stopped_and_the_next_one_runs(self, stage: Stage) -> None:
        endless = "SELECT count(*) AS n FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range < 0"
        with pytest.raises(Unavailable, match=r"longer than 0\.2 s"):
            stage.query(endless, tables=[], limits=Limits(timeout_seconds=0.2))
        assert stage.rows("SELECT 1 AS n", tables=[], limits=Limits(timeout_seconds=5)) == [{"n": 1}]

    def test_what_the_engine_refuses_is_an_input_error_that_tells_nothing_of_the_sql(self, stage: Stage) -> None:
        with pytest.raises(InputError, match="the engine gave up on it"):
            stage.query('SELECT nosuchcolumn FROM "AgentActivity"')
        with pytest.raises(InputError, match="the engine gave up on it"):
            stage.query("SELECT CAST(9223372036854775807 AS BIGINT) + range FROM range(3)", tables=[])

    def test_many_queries_at_once_all_get_their_own_answer(self, stage: Stage) -> None:
        stage.take_in(*[logged(n, activities(*[f"{n}-{i}" for i in range(n)], HttpStatus=n)) for n in range(1, 13)])
        answers: dict[int, int] = {}

        def ask(n: int) -> None:
            sql = 'SELECT count(*) AS n FROM "AgentActivity" WHERE "HttpStatus" = $n'
            answers[n] = stage.rows(sql, {"n": n})[0]["n"]

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 13)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {n: n for n in range(1, 13)}

    # -- retention ------------------------------------------------------------------------------------------------

    def test_closed_days_move_to_cold_storage_and_are_still_found_once(self, stage: Stage) -> None:
        days = [START - timedelta(days=n) for n in range(12)]
        stage.take_in(*[logged(n + 1, activities(f"d{n}", at=day)) for n, day in enumerate(days)])
        before = stage.rows('SELECT * FROM "AgentActivity" ORDER BY "IngestSeq"')
        report = stage.store.maintain(START)
        assert dict(report.exported) == {f"AgentActivity/{days[n].date()}": 1 for n in (8, 9, 10, 11)}
        assert stage.rows('SELECT * FROM "AgentActivity" ORDER BY "IngestSeq"') == before
        assert dict(stage.store.maintain(START).exported) == {}
        assert stage.rows('SELECT * FROM "AgentActivity" ORDER BY "IngestSeq"') == before

    def test_a_late_event_of_a_day_that_was_exported_is_found_too(self, stage: Stage) -> None:
        old = START - timedelta(days=20)
        stage.take_in(logged(1, activities("a", at=old)))
        stage.store.maintain(START)
        stage.take_in(logged(2, activities("late", at=old)))
        assert stage.ids() == ["a", "late"]
        assert dict(stage.store.maintain(START).exported) == {f"AgentActivity/{old.date()}": 1}
        assert stage.ids() == ["a", "late"]

    def test_cold_days_are_dropped_when_their_time_is_up(self, stage: Stage) -> None:
        old, older = START - timedelta(days=20), START - timedelta(days=89)
        stage.take_in(logged(1, activities("old", at=old)), logged(2, activities("older", at=older)))
        stage.store.maintain(START)
        report = stage.store.maintain(START + timedelta(days=3))
        assert report.dropped == (f"AgentActivity/{older.date()}",)
        assert stage.ids() == ["old"]

    def test_tenants_stay_apart_in_cold_storage(self, stage: Stage) -> None:
        old = START - timedelta(days=20)
        names = ["default", "other", "../../escape", "quote'd", ""]
        for n, name in enumerate(names, 1):
            stage.take_in(logged(n, activities(f"t{n}", at=old, TenantId=name)))
        assert sum(stage.store.maintain(START).exported.values()) == len(names)
        for n, name in enumerate(names, 1):
            assert stage.ids(scope=Scope((name,))) == [f"t{n}"]

    def test_every_error_is_one_of_ours(self, stage: Stage) -> None:
        for sql in ("SELECT", "SELECT error('x')", "SELECT CAST('x' AS INT)"):
            with pytest.raises(WatchfloorError):
                stage.query(sql, tables=[])
