"""The event logs: the contract over both engines, and what is particular to each."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from postgres import throw_away_database
from watchfloor.model.errors import Corrupt, InputError, Unavailable
from watchfloor.storage.log import MAX_BATCH_ROWS, SqliteLog
from watchfloor.storage.log_postgres import PostgresLog
from watchfloor.storage.ports import EventLog, Seq

from .contract_events import Clock, EventLogContract, OpenLog, activities, eventually, ids


class _Opener:
    """Opens logs on one place, and closes them all."""

    def __init__(self, make: type[SqliteLog] | type[PostgresLog], place: Path | str) -> None:
        self.clock, self._make, self._place = Clock(), make, place
        self._opened: list[SqliteLog | PostgresLog] = []

    def __call__(self) -> EventLog:
        self._opened.append(self._make(self._place, now=self.clock))
        return self._opened[-1]

    def close(self) -> None:
        for log in self._opened:
            log.close()


# -- SQLite -------------------------------------------------------------------------------------------------------


class TestSqliteLog(EventLogContract):
    @pytest.fixture
    def open_log(self, tmp_path: Path) -> Iterator[OpenLog]:
        opener = _Opener(SqliteLog, tmp_path / "log.db")
        yield opener
        opener.close()

    @pytest.fixture
    def log(self, open_log: OpenLog) -> EventLog:
        return open_log()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def test_the_file_is_private_and_every_append_waits_for_the_disk(path: Path) -> None:
    log = SqliteLog(path)
    log.append("main", activities("a"), "k")
    assert {stat.S_IMODE(f.stat().st_mode) for f in path.parent.iterdir()} == {0o600}
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert log._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    log.close()


def test_with_little_space_left_appends_are_refused_and_reading_goes_on(path: Path) -> None:
    roomy = SqliteLog(path)
    roomy.append("main", activities("a"), "k1")
    tight = SqliteLog(path, min_free_bytes=1 << 60)
    with pytest.raises(Unavailable, match="reserve") as refusal:
        tight.append("main", activities("b"), "k2")
    assert refusal.value.retry_after >= 1
    assert ids(b.batch for b in tight.read("main", Seq(0), 10)) == ["a"]
    roomy.close()
    tight.close()


def test_a_log_that_another_process_keeps_locked_is_unavailable_and_then_available_again(path: Path) -> None:
    log = SqliteLog(path, busy_seconds=0.05)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            log.append("main", activities("a"), "k")
        other.execute("ROLLBACK")
    assert log.append("main", activities("a"), "k") >= 1
    log.close()


def test_a_damaged_batch_is_set_aside_and_its_neighbours_are_read(path: Path) -> None:
    log = SqliteLog(path)
    seqs = [log.append("main", activities(name), name) for name in "abc"]
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE batch SET body = zeroblob(length(body)) WHERE seq = ?", (seqs[1],))
    assert ids(b.batch for b in log.read("main", Seq(0), 10)) == ["a", "c"]
    assert log.backlog().set_aside == 1
    assert ids(b.batch for b in log.read("main", Seq(0), 10)) == ["a", "c"]
    log.close()


def test_a_file_that_is_no_log_is_reported_as_damaged(path: Path) -> None:
    path.write_bytes(b"this is not a database" * 1000)
    with pytest.raises(Corrupt, match="damaged"):
        SqliteLog(path)


def test_a_log_that_cannot_be_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nowhere"):
        SqliteLog(tmp_path / "nowhere" / "log.db")


def test_a_closed_log_is_unavailable(path: Path) -> None:
    log = SqliteLog(path)
    log.close()
    with pytest.raises(Unavailable):
        log.append("main", activities("a"), "k")


def test_a_new_log_is_another_one_though_it_has_the_same_name(path: Path) -> None:
    first = SqliteLog(path)
    first.append("main", activities("a"), "k")
    (before,) = first.read("main", Seq(0), 10)
    first.close()
    for file in path.parent.iterdir():
        file.unlink()
    second = SqliteLog(path)
    second.append("main", activities("b"), "k")
    (after,) = second.read("main", Seq(0), 10)
    assert after.log != before.log
    second.close()


def test_a_batch_with_more_rows_than_a_position_has_numbers_is_refused(path: Path) -> None:
    log = SqliteLog(path)
    huge = pa.record_batch([pa.nulls(MAX_BATCH_ROWS + 1)], names=["x"]).replace_schema_metadata({"table": "T"})
    with pytest.raises(InputError, match="at most"):
        log.append("main", huge, "k")
    log.close()


def test_many_threads_that_open_a_new_log_at_once_all_succeed(path: Path) -> None:
    faults: list[BaseException] = []

    def use(n: int) -> None:
        try:
            log = SqliteLog(path)
            log.append("main", activities(f"e{n}"), f"k{n}")
            log.close()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    log = SqliteLog(path)
    assert log.backlog().rows == 8
    log.close()


# -- PostgreSQL ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with throw_away_database() as url:
        yield url


@pytest.fixture
def url(database: str) -> str:
    """The database, empty."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return database


class TestPostgresLog(EventLogContract):
    @pytest.fixture
    def open_log(self, url: str) -> Iterator[OpenLog]:
        opener = _Opener(PostgresLog, url)
        yield opener
        opener.close()

    @pytest.fixture
    def log(self, open_log: OpenLog) -> EventLog:
        return open_log()


def test_an_append_that_commits_late_makes_the_next_one_wait_so_that_no_reader_skips_it(url: str) -> None:
    slow, quick, reader = PostgresLog(url), PostgresLog(url), PostgresLog(url)
    first = slow.append("main", activities("a"), "k1")
    with psycopg.connect(url) as held:
        # Somebody has taken his turn (and would have taken a position) and has not committed yet.
        held.execute("SELECT pg_advisory_xact_lock(%s, hashtext('main'))", (0x57F1_0002,))
        done = threading.Event()
        positions: list[Seq] = []

        def append() -> None:
            positions.append(quick.append("main", activities("b"), "k2"))
            done.set()

        thread = threading.Thread(target=append)
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        eventually(lambda: held.execute(waiting).fetchone() != (0,))
        assert not done.is_set()
        assert ids(b.batch for b in reader.read("main", Seq(0), 10)) == ["a"]
        held.rollback()
    thread.join(10)
    assert positions[0] > first
    assert ids(b.batch for b in reader.read("main", first, 10)) == ["b"]
    for log in (slow, quick, reader):
        log.close()


def test_a_connection_that_was_cut_is_made_anew(url: str) -> None:
    log = PostgresLog(url)
    log.append("main", activities("a"), "k1")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'watchfloor-log' AND datname = current_database()"
        )
    with suppress(Unavailable):  # the first call may be the one that notices
        log.append("main", activities("b"), "k2")
    log.append("main", activities("b"), "k2")
    with suppress(Unavailable):
        log.read("main", Seq(0), 10)
    assert ids(b.batch for b in log.read("main", Seq(0), 10)) == ["a", "b"]
    log.close()


def test_a_database_that_is_not_there_is_unavailable_and_no_message_shows_the_password() -> None:
    log = PostgresLog("postgresql://joe:hunter2@127.0.0.1:9/none")
    with pytest.raises(Unavailable) as caught:
        log.append("main", activities("a"), "k")
    assert "hunter2" not in str(caught.value)
    log.close()


def test_a_damaged_batch_in_the_database_is_set_aside(url: str) -> None:
    log = PostgresLog(url)
    seqs = [log.append("main", activities(name), name) for name in "abc"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE event_log SET body = 'x' WHERE seq = %s", (seqs[1],))
    assert ids(b.batch for b in log.read("main", Seq(0), 10)) == ["a", "c"]
    assert log.backlog().set_aside == 1
    log.close()


def test_every_append_waits_for_the_disk_of_the_database(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET synchronous_commit = off')
    log = PostgresLog(url)
    log.append("main", activities("a"), "k")
    with log._appending.connection() as line:
        assert line.execute("SHOW synchronous_commit").fetchone() == ("on",)
    log.close()
