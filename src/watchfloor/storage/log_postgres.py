"""The durable event log on PostgreSQL: the hand-over of several gateway hosts to one event store.

The same promises as ``SqliteLog``, kept by a database that those hosts share. An identity column does not grow in
commit order, so a reader that asks for "behind the last I saw" could skip a batch for good; therefore a transaction
takes its partition's lock before it takes a position, and holds it until it is committed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from datetime import datetime

import psycopg
import pyarrow as pa

from watchfloor.model.errors import Corrupt, InputError, Unavailable
from watchfloor.storage.log import DEDUP_KEPT, KEYS_KEPT, PURGE_EVERY, Encoded, decode, encode, utc_now, without
from watchfloor.storage.ports import Backlog, KeyedBatch, LogBatch, Seq

_SCHEMA = """
CREATE TABLE IF NOT EXISTS event_log_identity (id text NOT NULL);
INSERT INTO event_log_identity SELECT md5(random()::text || clock_timestamp()::text)
    WHERE NOT EXISTS (SELECT FROM event_log_identity);
CREATE TABLE IF NOT EXISTS event_log_schema (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL, hash text NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS event_log_dedup (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL UNIQUE, at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS event_log_key (key bytea PRIMARY KEY, at timestamptz NOT NULL);
CREATE INDEX IF NOT EXISTS event_log_key_at ON event_log_key (at);
CREATE TABLE IF NOT EXISTS event_log (
    seq bigint PRIMARY KEY, part text NOT NULL, "table" text NOT NULL, schema_id bigint NOT NULL,
    "rows" bigint NOT NULL, at timestamptz NOT NULL, raw_size bigint NOT NULL, checksum bigint NOT NULL,
    body bytea NOT NULL
);
ALTER TABLE event_log ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS event_log_set_aside (LIKE event_log INCLUDING ALL, reason text NOT NULL);
"""
_COLUMNS = 'seq, part, "table", schema_id, "rows", at, raw_size, checksum, body'
_SCHEMA_LOCK = 0x57F1_0001
_PART_LOCK = 0x57F1_0002


class PostgresLog:
    """The event log in a PostgreSQL database, for several hosts. Safe for any number of threads and processes.

    ``url``: ``postgresql://…``. Connects on first use, and anew after the connection was lost.
    """

    def __init__(self, url: str, *, now: Callable[[], datetime] = utc_now) -> None:
        self._url, self._now = url.replace("postgresql+psycopg://", "postgresql://"), now
        self._identity = ""
        self._purged: datetime | None = None
        self._schema_ids: list[tuple[pa.Schema, int]] = []
        self._schemas: dict[int, pa.Schema] = {}
        self._appending, self._serving = _Line(self), _Line(self)

    def append(self, part: str, batch: pa.RecordBatch, dedup: str) -> Seq:
        """See ``EventLog.append``."""
        return self.append_all(part, [(batch, dedup)])[0]

    def append_all(self, part: str, batches: Sequence[tuple[pa.RecordBatch, str]]) -> Sequence[Seq]:
        """See ``EventLog.append_all``."""
        encoded = [(encode(batch), dedup) for batch, dedup in batches]
        with self._appending.connection() as connection:
            ids = [self._schema_id(connection, e) for e, _ in encoded]
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_PART_LOCK, part))
                return [
                    self._insert(connection, part, e, schema, key)
                    for (e, key), schema in zip(encoded, ids, strict=True)
                ]

    def append_once(self, part: str, batches: Sequence[KeyedBatch]) -> Set[bytes]:
        """See ``EventLog.append_once``."""
        keys = sorted({key for keyed in batches for key in keyed.keys})
        encoded = [encode(keyed.batch) for keyed in batches]
        with self._appending.connection() as connection:
            ids = [self._schema_id(connection, e) for e in encoded]
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_PART_LOCK, part))
                rows = connection.execute(
                    "INSERT INTO event_log_key (key, at) SELECT unnest(%s::bytea[]), %s ON CONFLICT DO NOTHING"
                    " RETURNING key",
                    (keys, self._now()),
                ).fetchall()
                new = {bytes(key) for (key,) in rows}
                known = set(keys) - new
                if known:
                    encoded = [encode(without(keyed, known)) for keyed in batches]
                for e, schema in zip(encoded, ids, strict=True):
                    if e.rows:
                        self._insert(connection, part, e, schema, f"once:{os.urandom(16).hex()}")
        return known

    def read(self, part: str, after: Seq, max_rows: int) -> Sequence[LogBatch]:
        """See ``EventLog.read``. A batch that is damaged is set aside."""
        found: list[LogBatch] = []
        damaged: list[tuple[Seq, str]] = []
        with self._serving.connection() as connection, connection.transaction():
            # Which batches make up max_rows is decided in the database: their bodies may be large.
            chosen = connection.execute(
                'SELECT seq, "table", schema_id, raw_size, checksum, body FROM event_log JOIN ('
                '  SELECT seq AS s, sum("rows") OVER (ORDER BY seq) - "rows" AS before FROM ('
                '    SELECT seq, "rows" FROM event_log WHERE part = %s AND seq > %s ORDER BY seq LIMIT 4096) AS next'
                ") AS counted ON seq = s WHERE before < %s ORDER BY seq",
                (part, after, max_rows),
            ).fetchall()
            for seq, table, schema_id, raw_size, checksum, body in chosen:
                try:
                    batch = decode(self._schema(connection, schema_id), raw_size, checksum, body)
                except Corrupt as error:
                    damaged.append((seq, str(error)))
                    continue
                found.append(LogBatch(part, Seq(seq), table, batch, self._identity))
        for seq, reason in damaged:
            self.set_aside(part, seq, reason)
        return found

    def trim(self, part: str, upto: Seq) -> None:
        """See ``EventLog.trim``."""
        now = self._now()
        with self._serving.connection() as connection, connection.transaction():
            connection.execute("SET LOCAL synchronous_commit = off")  # a trim that is lost is repeated
            connection.execute("DELETE FROM event_log WHERE part = %s AND seq <= %s", (part, upto))
            if self._purged is None or now - self._purged >= PURGE_EVERY:
                connection.execute(
                    "DELETE FROM event_log_dedup WHERE seq IN"
                    " (SELECT seq FROM event_log_dedup ORDER BY seq LIMIT 20000) AND at < %s",
                    (now - DEDUP_KEPT,),
                )
                connection.execute(
                    "DELETE FROM event_log_key WHERE key IN"
                    " (SELECT key FROM event_log_key WHERE at < %s ORDER BY at LIMIT 20000)",
                    (now - KEYS_KEPT,),
                )
                self._purged = now

    def set_aside(self, part: str, seq: Seq, reason: str) -> None:
        """See ``EventLog.set_aside``."""
        with self._serving.connection() as connection, connection.transaction():
            connection.execute(
                f"WITH taken AS (DELETE FROM event_log WHERE part = %s AND seq = %s RETURNING {_COLUMNS})"
                f" INSERT INTO event_log_set_aside ({_COLUMNS}, reason) SELECT {_COLUMNS}, %s FROM taken"
                " ON CONFLICT DO NOTHING",
                (part, seq, reason),
            )

    def backlog(self) -> Backlog:
        """See ``EventLog.backlog``."""
        with self._serving.connection() as connection, connection.transaction():
            row = connection.execute(
                'SELECT coalesce(sum("rows"), 0), coalesce(sum(length(body)), 0), min(at),'
                " (SELECT count(*) FROM event_log_set_aside) FROM event_log"
            ).fetchone()
        assert row is not None
        rows, size, oldest, aside = row
        age = 0.0 if oldest is None else max(0.0, (self._now() - oldest).total_seconds())
        return Backlog(int(rows), int(size), age, aside)

    def close(self) -> None:
        """Drop the connections."""
        self._appending.close()
        self._serving.close()

    def prepare(self, connection: psycopg.Connection) -> None:
        """Make the tables, once, whoever comes first; called for each new connection."""
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            found = connection.execute("SELECT to_regclass('event_log_set_aside') IS NOT NULL").fetchone()
            if not found or not found[0]:
                connection.execute(_SCHEMA)
            row = connection.execute("SELECT id FROM event_log_identity").fetchone()
            assert row is not None
            self._identity = row[0]

    def _insert(self, connection: psycopg.Connection, part: str, batch: Encoded, schema: int, key: str) -> Seq:
        at = self._now()
        new = connection.execute(
            "INSERT INTO event_log_dedup (key, at) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING RETURNING seq",
            (key, at),
        ).fetchone()
        if new is None:
            known = connection.execute("SELECT seq FROM event_log_dedup WHERE key = %s", (key,)).fetchone()
            assert known is not None
            return Seq(known[0])
        connection.execute(
            f"INSERT INTO event_log ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (new[0], part, batch.table, schema, batch.rows, at, batch.raw_size, batch.checksum, batch.body),
        )
        return Seq(new[0])

    def _schema_id(self, connection: psycopg.Connection, batch: Encoded) -> int:
        for schema, known in self._schema_ids:
            if schema.equals(batch.schema, check_metadata=True):
                return known
        body = batch.schema.serialize().to_pybytes()
        with connection.transaction():
            connection.execute(
                "INSERT INTO event_log_schema (body, hash) VALUES (%s, md5(%s)) ON CONFLICT DO NOTHING", (body, body)
            )
            row = connection.execute("SELECT id FROM event_log_schema WHERE hash = md5(%s)", (body,)).fetchone()
        assert row is not None
        self._schema_ids.append((batch.schema, row[0]))
        return int(row[0])

    def _schema(self, connection: psycopg.Connection, schema_id: int) -> pa.Schema:
        if schema_id not in self._schemas:
            row = connection.execute("SELECT body FROM event_log_schema WHERE id = %s", (schema_id,)).fetchone()
            if row is None:
                raise Corrupt(f"The event log has no schema {schema_id}.")
            self._schemas[schema_id] = pa.ipc.read_schema(pa.py_buffer(row[0]))
        return self._schemas[schema_id]

    @property
    def url(self) -> str:
        """Where the database is."""
        return self._url


class _Line:
    """One connection for one kind of work, taken by one thread at a time, made anew when it breaks."""

    def __init__(self, log: PostgresLog) -> None:
        self._log, self._lock = log, threading.Lock()
        self._connection: psycopg.Connection | None = None

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection]:
        with self._lock:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(
                        self._log.url,
                        autocommit=True,
                        connect_timeout=5,
                        options="-c synchronous_commit=on -c TimeZone=UTC",
                        application_name="watchfloor-log",
                    )
                    self._log.prepare(self._connection)
                yield self._connection
            except psycopg.Error as error:
                if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
                    raise InputError(f"The event log refuses this batch: {_first_line(error)}") from error
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
                raise Unavailable(f"The event log's database does not answer: {_first_line(error)}") from error

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
