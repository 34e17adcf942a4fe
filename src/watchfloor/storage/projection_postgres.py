"""The projection's reader for PostgreSQL; ``ProjectionReader.open`` chooses it. See ``projection``."""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg

from watchfloor.model.errors import Unavailable
from watchfloor.storage import migrations
from watchfloor.storage.projection import DELTA_SQL, DatabaseAddress, Delta, ProjectionReader, delta


class PostgresProjectionReader(ProjectionReader):
    """One connection in autocommit, spoken to through libpq's non-blocking calls.

    Those are what makes a deadline possible: a server that is paused keeps its socket open and would otherwise hold the
    caller for ever. After a failure, connecting is not tried again for ``BACKOFF`` seconds.
    """

    BACKOFF: Final = 0.25

    def __init__(self, address: DatabaseAddress, timeout: float, clock: Callable[[], float]) -> None:
        self._uri = address.uri
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._not_before: float | None = None
        self._sql = DELTA_SQL.format(body="p.body::text", after="$1").encode()
        self.label = address.label
        with self._lock:
            self._connect()

    def read(self, after: int) -> Delta:
        """See ``ProjectionReader.read``."""
        with self._lock:
            if self._connection is not None:
                try:
                    return self._answer(self._connection, after)
                except psycopg.Error:
                    # An idle connection may have been cut when the database restarted: one new one before giving up.
                    self._disconnect()
            connection = self._connect()
            try:
                return self._answer(connection, after)
            except psycopg.Error as error:
                raise self._lost(error) from error

    def close(self) -> None:
        """See ``ProjectionReader.close``."""
        with self._lock:
            self._disconnect()

    def _connect(self) -> psycopg.Connection[Any]:
        if self._not_before is not None and self._clock() < self._not_before:
            raise Unavailable(f"{self.label} did not answer a moment ago")
        try:
            connection = psycopg.connect(
                self._uri,
                autocommit=True,
                connect_timeout=max(2, math.ceil(self._timeout)),  # less than two, libpq takes as two
                application_name="watchfloor-projection",
            )
        except psycopg.Error as error:
            raise self._lost(error) from error
        self._connection = connection
        try:
            present = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
            row = (
                connection.execute("SELECT version_num FROM alembic_version").fetchone()
                if present and present[0]
                else None
            )
            migrations.require_head(row[0] if row else None, self.label)
            connection.pgconn.prepare(b"delta", self._sql)
        except psycopg.Error as error:
            raise self._lost(error) from error
        except Unavailable:
            self._disconnect()
            raise
        self._not_before = None
        return connection

    def _answer(self, connection: psycopg.Connection[Any], after: int) -> Delta:
        pgconn = connection.pgconn
        pgconn.send_query_prepared(b"delta", [str(after).encode()])
        deadline = time.monotonic() + self._timeout
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN)
        pgconn.flush()
        while pgconn.is_busy():
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise self._lost(TimeoutError(f"no answer within {self._timeout:g} s"))
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None or result.status != psycopg.pq.ExecStatus.TUPLES_OK:
            raise psycopg.OperationalError(result.get_error_message() if result else "the connection was cut")
        while pgconn.get_result() is not None:
            pass
        rows = [
            (
                result.get_value(n, 0),
                _text(result.get_value(n, 1)),
                _text(result.get_value(n, 2)),
                result.get_value(n, 3),
            )
            for n in range(result.ntuples)
        ]
        return delta(rows, after, self.label)

    def _lost(self, error: Exception) -> Unavailable:
        self._disconnect()
        self._not_before = self._clock() + self.BACKOFF
        return Unavailable(f"cannot read control state in {self.label}: {str(error).strip()}")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
