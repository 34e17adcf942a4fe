"""The event store on DuckDB: every event, hot in one file and cold as Parquet, in answer to compiled queries.

``DuckDbStore`` has one owner process and is append-only: no keys, no indexes, no updates. ``drain.py`` feeds it from
the event log, ``remote.py`` serves it to other processes, ``retention.py`` moves closed days to Parquet. It knows the
event tables as data and never sees KQL.

INVARIANT: rows and the cursor of their log partition commit together, so a batch is stored exactly once.
INVARIANT: a query sees only tables and tenants of its scope, whatever its SQL says. Hot tables are in the schema
``hot``, what can be queried in ``readable``; a query's own connection shows it, unqualified, the permitted tables
filtered to the permitted tenants, and SQL that names anything else is refused before it runs.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

import duckdb
import orjson
import pyarrow as pa

from watchfloor.model.errors import Corrupt, Denied, InputError, Unavailable
from watchfloor.storage import events_sql as sql
from watchfloor.storage import retention as retaining
from watchfloor.storage.drain import Drain, drain
from watchfloor.storage.engine import HARDENING, Routines, run, translated
from watchfloor.storage.log import utc_now
from watchfloor.storage.ports import CompiledQuery, Limits, LogBatch, MaintenanceReport, Retention, Scope
from watchfloor.storage.rows import is_packed, unpack
from watchfloor.storage.tables import TABLES, Table

__all__ = ["CONCURRENT_QUERIES", "Drain", "DuckDbStore", "drain"]

CONCURRENT_QUERIES: Final = 4


class DuckDbStore:
    """The event store of one host. Any thread may use it; one process at a time may have it open.

    ``memory_limit`` is DuckDB's (``2GB``); None means half of the machine's memory. ``content_retention`` applies to
    content tables, ``retention`` where it is None. Raises ``Unavailable`` if another process owns ``path``.
    """

    dialect = "duckdb"

    def __init__(
        self,
        path: Path,
        cold_dir: Path,
        *,
        memory_limit: str | None = None,
        retention: Retention | None = None,
        content_retention: Retention | None = None,
        now: Callable[[], datetime] = utc_now,
        tables: Mapping[str, Table] = TABLES,
        threads: int | None = None,
    ) -> None:
        self._path, self._cold, self._now, self._tables = path, cold_dir.absolute(), now, tables
        self._retention = retention or Retention()
        self._content_retention = content_retention or self._retention
        self._cold.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._owner = _own(path)
        try:
            self._connection = self._open(memory_limit, threads)
        except BaseException:
            os.close(self._owner)
            raise
        self._routines = Routines(self._connection)
        self._writing = threading.Lock()
        self._maintaining = threading.Lock()
        self._opening = threading.Lock()
        self._slots = threading.BoundedSemaphore(CONCURRENT_QUERIES)
        self._active = 0
        self._cursors: dict[tuple[str, str, str], int] = {}
        self._bases: dict[str, int] = {}
        for log, part, table, seq, base in self._connection.execute(
            "SELECT log, part, tbl, seq, base FROM hot.ingest_cursor"
        ).fetchall():
            self._cursors[log, part, table] = seq
            self._bases[log] = base
        self._analyse = lru_cache(maxsize=512)(self._analyse_uncached)

    # -- writing --------------------------------------------------------------------------------------------------

    def write(self, table: str, batches: Sequence[LogBatch]) -> None:
        """See ``EventStore.write``."""
        if foreign := [b for b in batches if b.table != table]:
            raise InputError(f"A batch of {foreign[0].table} was handed in for {table}.", where=table)
        self.ingest(batches)

    def ingest(self, batches: Sequence[LogBatch]) -> int:
        """``write`` for batches of several tables in one transaction. Returns how many rows were new.

        Raises ``InputError`` if a batch does not fit its table; nothing is stored then.
        """
        for batch in batches:
            if batch.table not in self._tables:
                raise InputError("The event store has no such table.", where=batch.table)
        with self._writing, self._errors(), self._cursor() as cursor:
            fresh = self._fresh(batches)
            if not fresh:
                return 0
            moved = {(b.log, b.part, b.table): int(b.seq) for b in fresh}
            bases = self._bases | {log: self._end() for log in {b.log for b in fresh} - self._bases.keys()}
            ingest_time = self._now()
            with sql.transaction(cursor):
                for table in dict.fromkeys(b.table for b in fresh):
                    of_table = [b for b in fresh if b.table == table]
                    self._insert(cursor, self._tables[table], of_table, bases, ingest_time)
                for (log, part, table), seq in moved.items():
                    cursor.execute(
                        "DELETE FROM hot.ingest_cursor WHERE log = ? AND part = ? AND tbl = ?", [log, part, table]
                    )
                    cursor.execute(
                        "INSERT INTO hot.ingest_cursor VALUES (?, ?, ?, ?, ?)",
                        [log, part, table, seq, bases[log]],
                    )
            self._cursors.update(moved)
            self._bases = bases
            return sum(b.batch.num_rows for b in fresh)

    def _end(self) -> int:
        """Behind every position taken in so far. A log that is seen for the first time is numbered from here."""
        return max((self._bases[log] + seq for (log, _, _), seq in self._cursors.items()), default=0)

    def _fresh(self, batches: Sequence[LogBatch]) -> list[LogBatch]:
        fresh, seen = [], dict(self._cursors)
        for batch in batches:
            key = (batch.log, batch.part, batch.table)
            if batch.seq > seen.get(key, 0):
                seen[key] = batch.seq
                fresh.append(batch)
        return fresh

    def _insert(
        self,
        cursor: duckdb.DuckDBPyConnection,
        table: Table,
        batches: Sequence[LogBatch],
        bases: Mapping[str, int],
        ingest_time: datetime,
    ) -> None:
        start = 0
        while start < len(batches):  # batches of one shape at a time: an upgrade may have added columns between two
            shape = batches[start].batch.schema
            end = start + 1
            while end < len(batches) and batches[end].batch.schema.equals(shape):
                end += 1
            run = batches[start:end]
            typed = [unpack(table, (b.batch for b in run))] if is_packed(run[0].batch) else [b.batch for b in run]
            firsts = [((bases[b.log] + b.seq) << 20, b.batch.num_rows) for b in run]
            numbers = pa.array([number for n, rows in firsts for number in range(n, n + rows)], pa.int64())
            incoming = pa.Table.from_batches(typed)
            # Most columns of a wide table are empty in most slices. What is not named costs the engine nothing.
            names = tuple(name for name in incoming.schema.names if incoming[name].null_count < incoming.num_rows)
            cursor.register("incoming", incoming.select(names).append_column("__seq", numbers))
            cursor.execute(sql.insert(table, names), {"ingest_time": ingest_time})
            cursor.unregister("incoming")
            start = end

    # -- reading --------------------------------------------------------------------------------------------------

    def query(self, query: CompiledQuery, scope: Scope, limits: Limits) -> Iterator[pa.RecordBatch]:
        """See ``EventStore.query``. The whole result is fetched before this returns, so nobody holds the engine."""
        if query.dialect != self.dialect:
            raise InputError(f"This store speaks {self.dialect}, the query {query.dialect}.")
        visible = self._visible(query, scope)
        if not self._slots.acquire(timeout=limits.timeout_seconds):
            raise Unavailable(f"{CONCURRENT_QUERIES} queries are running already; try again.", retry_after=5.0)
        try:
            self._count(+1)
            with translated("The event store", Corrupt), self._cursor() as cursor:
                self._routines.ensure(query.routines)
                for table in visible:
                    cursor.execute(sql.scoped_view(table, scope))
                return iter(run(cursor, query, limits))
        finally:
            self._count(-1)
            self._slots.release()

    def _visible(self, query: CompiledQuery, scope: Scope) -> frozenset[str]:
        named = self._analyse(query.sql)
        if unlisted := named - query.tables:
            raise InputError(f"The query reads {min(unlisted)} but does not list it.", where="tables")
        if scope.tables is not None and (forbidden := query.tables - scope.tables):
            raise Denied(f"This query may not read {', '.join(sorted(forbidden))}.")
        if unknown := named - self._tables.keys():
            raise InputError(f"There is no table {min(unknown)}.", where="tables")
        return named

    def _analyse_uncached(self, text: str) -> frozenset[str]:
        """The tables that ``text`` reads; refuses everything but one SELECT over unqualified tables."""
        with self._errors(), self._cursor() as cursor:
            row = cursor.execute("SELECT json_serialize_sql($text::VARCHAR)", {"text": text}).fetchone()
        assert row is not None
        tree = orjson.loads(row[0])
        if tree["error"]:
            raise InputError(f"The event store does not run this: {tree['error_message']}.", where="sql")
        if len(tree["statements"]) != 1:
            raise InputError("The event store runs one statement at a time.", where="sql")
        return sql.tables_of(tree)

    # -- housekeeping ---------------------------------------------------------------------------------------------

    def maintain(self, now: datetime) -> MaintenanceReport:
        """See ``EventStore.maintain``."""
        with self._maintaining, self._errors(), self._cursor() as cursor:
            exported: dict[str, int] = {}
            dropped: list[str] = []
            for table in self._tables.values():
                keep = self._content_retention if table.is_content else self._retention
                exported |= retaining.export_closed_days(cursor, self._cold, table, (now - keep.hot).date())
                dropped += retaining.drop_old_days(cursor, self._cold, table, (now - keep.cold).date())
            with self._opening:
                is_idle = self._active == 0
            if is_idle:  # otherwise a query may still read them, and the next round removes them
                retaining.remove_dropped(cursor, self._cold)
            if exported:
                # Space of exported rows is reused after this; a query that still reads them only puts it off.
                with suppress(duckdb.TransactionException):
                    cursor.execute("CHECKPOINT")
            return MaintenanceReport(exported, tuple(dropped))

    def probe(self) -> None:
        """Raises ``Unavailable`` if the engine has given up; only a new process helps then."""
        with self._errors(), self._cursor() as cursor:
            cursor.execute("SELECT 1")

    def checkpoint(self) -> None:
        """Bring the write-ahead log into the file, so that the next start is quick."""
        with self._writing, self._errors(), self._cursor() as cursor:
            cursor.execute("CHECKPOINT")

    def close(self) -> None:
        """Close the file and let another process have it."""
        with self._writing, self._maintaining:
            self._connection.close()
            os.close(self._owner)

    def _open(self, memory_limit: str | None, threads: int | None) -> duckdb.DuckDBPyConnection:
        spill = self._path.with_name(self._path.name + ".spill")
        with self._errors():
            connection = duckdb.connect(str(self._path))
            connection.execute("LOAD icu; LOAD json; LOAD parquet")
            for setting in HARDENING:
                connection.execute(setting)
            connection.execute(f"SET memory_limit = {sql.literal(memory_limit or _half_of_memory())}")
            connection.execute("SET checkpoint_threshold = '256MB'")
            connection.execute(f"SET temp_directory = {sql.literal(str(spill))}")
            if threads is not None:
                connection.execute(f"SET threads = {int(threads)}")
            connection.execute(f"SET allowed_directories = [{sql.literal(str(self._cold))}]")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            with sql.transaction(connection):
                connection.execute(sql.SCHEMA)
                for table in self._tables.values():
                    sql.evolve(connection, table)
                    retaining.replace_view(connection, self._cold, table)
            retaining.sweep(connection, self._cold)
        return connection

    def _count(self, change: int) -> None:
        with self._opening:
            self._active += change

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._opening:
            cursor = self._connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def _errors(self) -> AbstractContextManager[None]:
        return translated(f"The event store {self._path}", Corrupt)


def _own(path: Path) -> int:
    """Take the file for this process until the returned descriptor is closed, or the process dies."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise Unavailable(
            f"The event store {path} belongs to process {owner}. Query it through that process's socket, or stop it."
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _half_of_memory() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{max(total // 2, 2 << 30) >> 20}MiB"
