"""The durable event log, embedded: batches of events between the gateway workers and the store process.

``SqliteLog`` keeps one row a batch in a SQLite file (WAL, FULL): what ``append`` returned for survives power loss. The
spool appends, the store process reads and trims, any number of processes at once. The rows inside a batch, and whether
anybody has queried them, are not known here. ``log_postgres.py`` is the same for several hosts.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa

from watchfloor.model.errors import Corrupt, InputError, Unavailable
from watchfloor.storage.ports import Backlog, KeyedBatch, LogBatch, Seq

DEFAULT_PART: Final = "main"
"""The partition that one store process drains: IngestSeq follows the positions of one part."""

MAX_BATCH_ROWS: Final = 1 << 20
"""Rows that a position in the log has numbers for: IngestSeq is position * 2**20 + row."""

KEYS_KEPT: Final = timedelta(hours=24)
"""How long, at least, an event that is sent again is known to be stored. Senders give up within minutes or hours."""

DEDUP_KEPT: Final = timedelta(days=7)
PURGE_EVERY: Final = timedelta(seconds=10)


def utc_now() -> datetime:
    """The clock, where none is passed."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch as it is stored: an Arrow IPC message, lz4; its schema is stored once, by ``schema_hash``."""

    table: str
    rows: int
    raw_size: int
    checksum: int
    body: bytes
    schema: pa.Schema


def encode(batch: pa.RecordBatch) -> Encoded:
    """Raises ``InputError`` if the batch does not name its table or has too many rows."""
    table = (batch.schema.metadata or {}).get(b"table")
    if table is None:
        raise InputError("The batch does not name its table.", where="schema metadata", remedy="Set 'table'.")
    if batch.num_rows > MAX_BATCH_ROWS:
        raise InputError(
            f"A batch has at most {MAX_BATCH_ROWS} rows, this one has {batch.num_rows}.", where=table.decode()
        )
    raw = batch.serialize()
    body = pa.compress(raw, codec="lz4", asbytes=True)
    return Encoded(table.decode(), batch.num_rows, raw.size, zlib.crc32(body), body, batch.schema)


def decode(schema: pa.Schema, raw_size: int, checksum: int, body: bytes) -> pa.RecordBatch:
    """The batch. Raises ``Corrupt`` if it is not what was stored."""
    if zlib.crc32(body) != checksum:
        raise Corrupt("A batch of the event log fails its checksum.")
    try:
        return pa.ipc.read_record_batch(pa.decompress(body, decompressed_size=raw_size, codec="lz4"), schema)
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(f"A batch of the event log cannot be read: {error}.") from error


_BATCH: Final = """
    part TEXT NOT NULL, "table" TEXT NOT NULL, schema_id INTEGER NOT NULL, "rows" INTEGER NOT NULL,
    at INTEGER NOT NULL, raw_size INTEGER NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL
"""
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL) STRICT;
INSERT INTO identity SELECT hex(randomblob(8)) WHERE NOT EXISTS (SELECT * FROM identity);
CREATE TABLE IF NOT EXISTS schema (id INTEGER PRIMARY KEY, body BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE IF NOT EXISTS batch (seq INTEGER PRIMARY KEY, {_BATCH}) STRICT;
CREATE TABLE IF NOT EXISTS set_aside (seq INTEGER PRIMARY KEY, {_BATCH}, reason TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS dedup (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, at INTEGER NOT NULL
) STRICT;
"""
_KEY_PERIOD: Final = KEYS_KEPT // 2
_KEY_TABLES: Final = ("event_key_0", "event_key_1", "event_key_2")
# A table a period, the oldest is emptied as a whole: forgetting keys one by one would cost as much as storing them.
_SCHEMA_KEYS: Final = "".join(
    f"""
CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS {table}_period (period INTEGER NOT NULL) STRICT;
INSERT INTO {table}_period SELECT -1 WHERE NOT EXISTS (SELECT * FROM {table}_period);
"""
    for table in _KEY_TABLES
)
_KEYS_AT_ONCE: Final = 5000
# AUTOINCREMENT: a position is never given out twice, not even after the table was emptied.
_BATCH_COLUMNS: Final = 'part, "table", schema_id, "rows", at, raw_size, checksum, body'


def without(keyed: KeyedBatch, known: set[bytes]) -> pa.RecordBatch:
    """The rows of ``keyed`` whose key is not known yet."""
    return keyed.batch.filter(pa.array([key not in known for key in keyed.keys], pa.bool_()))


class SqliteLog:
    """The event log in one SQLite file, for one host. Safe for any number of threads and processes.

    ``min_free_bytes``: with less space than this on the disk, appends are refused, so that the store can still work.
    """

    def __init__(
        self,
        path: Path,
        *,
        min_free_bytes: int = 256 << 20,
        busy_seconds: float = 10.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._path, self._min_free, self._busy, self._now = path, min_free_bytes, busy_seconds, now
        self._purged: datetime | None = None
        self._schema_ids: list[tuple[pa.Schema, int]] = []
        self._schema_bodies: dict[int, pa.Schema] = {}
        with self._errors():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._writer = self._connect("FULL")
            self._reader = self._connect("FULL")
            # A trim need not wait for the disk: if a power cut undoes it, the store ignores what it already has.
            self._trimmer = self._connect("NORMAL")
            self._writer.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {_SCHEMA_KEYS} COMMIT;")
            (self._identity,) = self._writer.execute("SELECT id FROM identity").fetchone()
        self._writing, self._reading, self._trimming = threading.Lock(), threading.Lock(), threading.Lock()

    def append(self, part: str, batch: pa.RecordBatch, dedup: str) -> Seq:
        """See ``EventLog.append``."""
        return self.append_all(part, [(batch, dedup)])[0]

    def append_all(self, part: str, batches: Sequence[tuple[pa.RecordBatch, str]]) -> Sequence[Seq]:
        """See ``EventLog.append_all``."""
        self._require_space()
        encoded = [(encode(batch), dedup) for batch, dedup in batches]
        at = _micros(self._now())
        with self._writing, self._errors():
            ids = [self._schema_id(e) for e, _ in encoded]
            with _transaction(self._writer) as tx:
                return [
                    self._insert(tx, (part, e.table, schema, e.rows, at, e.raw_size, e.checksum, e.body), key)
                    for (e, key), schema in zip(encoded, ids, strict=True)
                ]

    def append_once(self, part: str, batches: Sequence[KeyedBatch]) -> Set[bytes]:
        """See ``EventLog.append_once``."""
        self._require_space()
        now = self._now()
        at, period = _micros(now), (now - datetime(1970, 1, 1, tzinfo=UTC)) // _KEY_PERIOD
        keys = list(dict.fromkeys(key for keyed in batches for key in keyed.keys))
        encoded = [encode(keyed.batch) for keyed in batches]
        with self._writing, self._errors():
            ids = [self._schema_id(e) for e in encoded]
            with _transaction(self._writer) as tx:
                known = self._remember(tx, keys, period)
                if len(known) == len(keys):
                    return known
                if known:
                    encoded = [encode(without(keyed, known)) for keyed in batches]
                for e, schema in zip(encoded, ids, strict=True):
                    if e.rows:
                        # Positions come from the table of dedup keys; this row only takes the next one.
                        name = f"once:{os.urandom(16).hex()}"
                        self._insert(tx, (part, e.table, schema, e.rows, at, e.raw_size, e.checksum, e.body), name)
        return known

    def _remember(self, tx: sqlite3.Connection, keys: Sequence[bytes], period: int) -> set[bytes]:
        """Note ``keys``; those that were noted before, in this period or one that is still remembered."""
        current = self._key_table(tx, period)
        known = set(keys)
        for some in _parts(keys):
            marks = ",".join(["(?)"] * len(some))
            sql = f"INSERT INTO {current} (key) VALUES {marks} ON CONFLICT DO NOTHING RETURNING key"
            known.difference_update(key for (key,) in tx.execute(sql, some))
        for table in _KEY_TABLES:
            if table != current and tx.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
                for some in _parts(keys):
                    marks = ",".join("?" * len(some))
                    known.update(key for (key,) in tx.execute(f"SELECT key FROM {table} WHERE key IN ({marks})", some))
        return known

    @staticmethod
    def _key_table(tx: sqlite3.Connection, period: int) -> str:
        """The table of this period, empty if it was last used for an earlier one."""
        table = _KEY_TABLES[period % len(_KEY_TABLES)]
        if not tx.execute(f"SELECT 1 FROM {table}_period WHERE period = ?", (period,)).fetchone():
            tx.execute(f"DELETE FROM {table}")
            tx.execute(f"UPDATE {table}_period SET period = ?", (period,))
        return table

    def read(self, part: str, after: Seq, max_rows: int) -> Sequence[LogBatch]:
        """See ``EventLog.read``. A batch that is damaged on disk is set aside."""
        found: list[LogBatch] = []
        damaged: list[tuple[Seq, str]] = []
        rows = 0
        with self._reading, self._errors():
            cursor = self._reader.execute(
                'SELECT seq, "table", schema_id, "rows", raw_size, checksum, body FROM batch '
                "WHERE seq > ? AND part = ? ORDER BY seq",
                (after, part),
            )
            try:
                for seq, table, schema_id, count, raw_size, checksum, body in cursor:
                    try:
                        batch = decode(self._schema(schema_id), raw_size, checksum, body)
                    except Corrupt as error:
                        damaged.append((seq, str(error)))
                        continue
                    found.append(LogBatch(part, seq, table, batch, self._identity))
                    rows += count
                    if rows >= max_rows:
                        break
            finally:
                cursor.close()
        for seq, reason in damaged:
            self.set_aside(part, seq, reason)
        return found

    def trim(self, part: str, upto: Seq) -> None:
        """See ``EventLog.trim``."""
        now = self._now()
        with self._trimming, self._errors(), _transaction(self._trimmer) as tx:
            tx.execute("DELETE FROM batch WHERE seq <= ? AND part = ?", (upto, part))
            if self._purged is None or now - self._purged >= PURGE_EVERY:
                tx.execute(
                    "DELETE FROM dedup WHERE seq IN (SELECT seq FROM dedup ORDER BY seq LIMIT 20000) AND at < ?",
                    (_micros(now - DEDUP_KEPT),),
                )
                self._purged = now

    def set_aside(self, part: str, seq: Seq, reason: str) -> None:
        """See ``EventLog.set_aside``."""
        with self._writing, self._errors(), _transaction(self._writer) as tx:
            tx.execute(
                f"INSERT OR IGNORE INTO set_aside (seq, {_BATCH_COLUMNS}, reason) "
                f"SELECT seq, {_BATCH_COLUMNS}, ? FROM batch WHERE seq = ? AND part = ?",
                (reason, seq, part),
            )
            tx.execute("DELETE FROM batch WHERE seq = ? AND part = ?", (seq, part))

    def backlog(self) -> Backlog:
        """See ``EventLog.backlog``."""
        with self._reading, self._errors():
            rows, size, oldest = self._reader.execute(
                'SELECT coalesce(sum("rows"), 0), coalesce(sum(length(body)), 0), min(at) FROM batch'
            ).fetchone()
            (aside,) = self._reader.execute("SELECT count(*) FROM set_aside").fetchone()
        age = 0.0 if oldest is None else max(0.0, (_micros(self._now()) - oldest) / 1e6)
        return Backlog(rows, size, age, aside)

    def close(self) -> None:
        """Close the file; other processes are not disturbed."""
        with self._writing, self._reading, self._trimming:
            for connection in (self._writer, self._reader, self._trimmer):
                connection.close()

    def _connect(self, synchronous: str) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=self._busy, isolation_level=None, check_same_thread=False)
        # Two processes that switch a new file to WAL at the same moment may refuse each other at once, whatever the
        # timeout says.
        deadline = time.monotonic() + self._busy
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        return connection

    def _insert(self, tx: sqlite3.Connection, row: tuple[object, ...], key: str) -> Seq:
        inserted = tx.execute("INSERT OR IGNORE INTO dedup (key, at) VALUES (?, ?)", (key, row[4]))
        if not inserted.rowcount:
            (seq,) = tx.execute("SELECT seq FROM dedup WHERE key = ?", (key,)).fetchone()
            return Seq(seq)
        seq = inserted.lastrowid
        assert seq is not None
        tx.execute(f"INSERT INTO batch (seq, {_BATCH_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)", (seq, *row))
        return Seq(seq)

    def _schema_id(self, encoded: Encoded) -> int:
        for schema, known in self._schema_ids:
            if schema.equals(encoded.schema, check_metadata=True):
                return known
        body = encoded.schema.serialize().to_pybytes()
        with _transaction(self._writer) as tx:
            tx.execute("INSERT OR IGNORE INTO schema (body) VALUES (?)", (body,))
            (found,) = tx.execute("SELECT id FROM schema WHERE body = ?", (body,)).fetchone()
        self._schema_ids.append((encoded.schema, found))
        return int(found)

    def _schema(self, schema_id: int) -> pa.Schema:
        if schema_id not in self._schema_bodies:
            row = self._reader.execute("SELECT body FROM schema WHERE id = ?", (schema_id,)).fetchone()
            if row is None:
                raise Corrupt(f"The event log has no schema {schema_id}.")
            self._schema_bodies[schema_id] = pa.ipc.read_schema(pa.py_buffer(row[0]))
        return self._schema_bodies[schema_id]

    def _require_space(self) -> None:
        try:
            disk = os.statvfs(self._path)
        except OSError as error:
            raise Unavailable(f"The event log {self._path} is gone: {error.strerror}.") from error
        free = disk.f_bavail * disk.f_frsize
        if free < self._min_free:
            raise Unavailable(
                f"The event log {self._path} takes nothing more: {free >> 20} MiB are free on its disk, "
                f"{self._min_free >> 20} MiB are kept in reserve.",
                retry_after=5.0,
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.ProgrammingError, OSError) as error:
            raise Unavailable(f"The event log {self._path} does not answer: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise Corrupt(f"The event log {self._path} is damaged: {error}.") from error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _parts(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """``keys``, as many at a time as a statement takes parameters."""
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        yield keys[start : start + _KEYS_AT_ONCE]


def _micros(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)
