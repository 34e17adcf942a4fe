"""What conversations said and read, shared by the gateway workers of several hosts: rows in PostgreSQL.

The same promises as ``conversations.ConversationFiles``, for installations whose load balancer does not keep a
conversation on one host. A record is committed before its writer goes on, so whoever decides next finds it; that costs
a round trip at each look, for which a worker waits at most ``SECONDS``. A database that does not answer is
``Unavailable`` at once for the second after: the conversations that it knows of are then incomplete, which tightens.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Final, TypeVar

import psycopg

from watchfloor.model.errors import Unavailable
from watchfloor.storage.conversations import News, Place, Sealer

SECONDS: Final = 0.25
"""How long a worker waits for the database, during which it decides nothing else."""
_PAUSE: Final = 1.0
_SWEPT: Final = 5_000
_SCHEMA_LOCK: Final = 0x57F1_0003
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS conversation (
    name bytea PRIMARY KEY, generation bigint NOT NULL, last bigint NOT NULL, bytes bigint NOT NULL,
    is_lost boolean NOT NULL, at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS conversation_at ON conversation (at);
CREATE TABLE IF NOT EXISTS conversation_record (
    name bytea NOT NULL, generation bigint NOT NULL, n bigint NOT NULL, body bytea NOT NULL,
    PRIMARY KEY (name, generation, n)
);
ALTER TABLE conversation_record ALTER COLUMN body SET STORAGE EXTERNAL;
"""
_APPEND: Final = """
WITH head AS (
    INSERT INTO conversation AS c (name, generation, last, bytes, is_lost, at)
    VALUES (%(name)s, 1, 1, %(size)s, false, now())
    ON CONFLICT (name) DO UPDATE SET last = c.last + 1, bytes = c.bytes + %(size)s, at = now()
    RETURNING generation, last, bytes
), record AS (
    INSERT INTO conversation_record (name, generation, n, body)
    SELECT %(name)s, generation, last, %(body)s FROM head
)
SELECT generation, last, bytes FROM head
"""
_SET_ASIDE: Final = """
WITH gone AS (
    UPDATE conversation SET generation = generation + 1, last = 0, bytes = 0, is_lost = true
    WHERE name = %(name)s AND generation = %(generation)s RETURNING name
)
DELETE FROM conversation_record r USING gone WHERE r.name = gone.name AND r.generation <= %(generation)s
"""
_READ: Final = """
SELECT c.generation, c.last, c.is_lost, r.n, r.body
FROM conversation c LEFT JOIN conversation_record r
  ON r.name = c.name AND r.generation = c.generation
 AND r.n > CASE WHEN c.generation = %(generation)s THEN %(last)s ELSE 0 END
WHERE c.name = %(name)s ORDER BY r.n
"""
_IDLE: Final = """
UPDATE conversation SET generation = generation + 1, last = 0, bytes = 0, is_lost = true
WHERE name IN (SELECT name FROM conversation
               WHERE at < now() - make_interval(secs => %(idle)s) AND last > 0 LIMIT %(most)s)
RETURNING name
"""

T = TypeVar("T")


class ConversationTable:
    """Conversations in the database at ``url``. ``key``: 32 secret bytes, the same on every host. For any threads.

    A place is a generation of the conversation and how many records of it were read; a conversation that grew past
    ``max_bytes`` begins a new generation, whose readers know that something is lost.
    """

    def __init__(self, url: str, key: bytes, *, max_bytes: int = 4 * 1024 * 1024, seconds: float = SECONDS) -> None:
        self._url = url.replace("postgresql+psycopg://", "postgresql://")
        self._sealer, self._max_bytes, self._seconds = Sealer(key), max_bytes, seconds
        self._lock = threading.Lock()
        self._line = _Line(self._url)
        self._down_until = 0.0

    def append(self, name: str, record: bytes) -> tuple[Place, Place]:
        """Add ``record`` to the conversation: where it begins and ends. Raises ``Unavailable``."""
        body, digest = self._sealer.seal(name, record), _digest(name)

        def add(connection: psycopg.Connection) -> tuple[int, int]:
            row = connection.execute(_APPEND, {"name": digest, "size": len(body), "body": body}).fetchone()
            assert row is not None, "an upsert gives a row"
            generation, last, size = row
            if size > self._max_bytes:
                connection.execute(_SET_ASIDE, {"name": digest, "generation": generation})
            return generation, last

        generation, last = self._ask(add)
        return Place(generation, last - 1), Place(generation, last)

    def read(self, name: str, since: Place) -> News:
        """The records behind ``since``. Raises ``Unavailable``."""
        asked = {"name": _digest(name), "generation": since.file, "last": since.offset}
        rows = self._ask(lambda connection: connection.execute(_READ, asked).fetchall())
        if not rows:
            return News((), since if since.file == 0 else Place(), restarts=since.file != 0, lost=since.file != 0)
        generation, last, is_lost = rows[0][:3]
        is_same = generation == since.file
        records, lost = [], is_lost and not is_same
        expected = since.offset if is_same else 0
        for _, _, _, n, body in rows:
            if n is None:
                continue
            opened = self._sealer.open(name, bytes(body)) if n == expected + 1 else None
            expected = n
            if opened is None:
                lost = True
            else:
                records.append(opened)
        # Rows and their count come of one snapshot: what is counted and not there was removed.
        lost = lost or expected != last
        return News(tuple(records), Place(generation, last), restarts=since.file not in (0, generation), lost=lost)

    def sweep(self, *, idle_seconds: float, forget_seconds: float) -> None:
        """Empty what nobody has added to for ``idle_seconds``; forget that it was there after ``forget_seconds``."""

        def tidy(connection: psycopg.Connection) -> None:
            with connection.transaction():
                names = connection.execute(_IDLE, {"idle": idle_seconds, "most": _SWEPT}).fetchall()
                connection.execute(
                    "DELETE FROM conversation_record WHERE name = ANY(%s)", ([bytes(name) for (name,) in names],)
                )
                connection.execute(
                    "DELETE FROM conversation WHERE at < now() - make_interval(secs => %s) AND last = 0",
                    (forget_seconds,),
                )

        self._ask(tidy)

    def close(self) -> None:
        """Give the connection back."""
        self._line.abandon()

    def _ask(self, question: Callable[[psycopg.Connection], T]) -> T:
        with self._lock:
            if time.monotonic() < self._down_until:
                raise Unavailable("The conversations' database did not answer just now.", retry_after=_PAUSE)
            line = self._line
        try:
            return line.ask(question, self._seconds)
        except (psycopg.Error, FutureTimeout, RuntimeError) as error:
            with self._lock:
                if self._line is line:
                    # Whatever is under way there, nobody waits for it: its connection may be dead.
                    line.abandon()
                    self._line = _Line(self._url)
                self._down_until = time.monotonic() + _PAUSE
            raise Unavailable(f"The conversations' database does not answer: {type(error).__name__}.") from error


class _Line:
    """One connection in a thread of its own: a database that hangs must not hang whoever asks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = ThreadPoolExecutor(1, "conversations")
        self._connection: psycopg.Connection | None = None

    def ask(self, question: Callable[[psycopg.Connection], T], seconds: float) -> T:
        return self._thread.submit(self._answer, question).result(seconds)

    def _answer(self, question: Callable[[psycopg.Connection], T]) -> T:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=2,
                options="-c synchronous_commit=on -c statement_timeout=5000 -c TimeZone=UTC",
                application_name="watchfloor-conversations",
            )
            with self._connection.transaction():
                self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
                self._connection.execute(_SCHEMA)
        return question(self._connection)

    def abandon(self) -> None:
        """Take no more questions; what is under way ends by itself, if ever."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        connection = self._connection
        if connection is not None and not connection.closed:
            threading.Thread(target=connection.close, daemon=True).start()


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
