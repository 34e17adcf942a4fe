"""Reading the projection: what changed since revision N, in one statement, without SQLAlchemy.

Gateway workers call this synchronously, before a decision, when the epoch has moved; so it holds one connection open,
runs one prepared statement and has a deadline. Below is the database itself, so it works while the server is down. It
does not know what the rows mean. Also here: how a database URL is read, for everything in this room.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import orjson

from watchfloor.model.errors import Corrupt, InputError, Unavailable
from watchfloor.model.facts import Kind
from watchfloor.storage import migrations

Delta = tuple[int, list[tuple[Kind, str, dict[str, Any] | None]]]
"""The revision of the snapshot, and the rows that changed up to it, oldest change first; a None body means: gone."""

# One statement is one snapshot on both engines. The left join gives the revision even when nothing changed.
DELTA_SQL: Final = (
    "SELECT r.value, p.kind, p.key, {body} FROM revision AS r LEFT JOIN projection AS p ON p.revision > {after} "
    "WHERE r.id = 1 ORDER BY p.revision, p.kind, p.key"
)
_KINDS: Final = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """Where control state is: a SQLite file, or else a PostgreSQL connection URI."""

    path: Path | None
    uri: str

    @classmethod
    def parse(cls, url: str) -> DatabaseAddress:
        """``sqlite:///FILE``, a bare path, or ``postgresql://…`` (``postgresql+psycopg://``, ``postgres://``)."""
        scheme, separator, rest = url.partition("://")
        if not separator:
            return cls(Path(url), "")
        if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
            return cls(Path(rest[1:]), "")
        if scheme in ("postgresql", "postgres", "postgresql+psycopg") and rest:
            return cls(None, f"postgresql://{rest}")
        raise InputError(
            f"{scheme}:// is not a database Watchfloor can use.",
            where="database",
            remedy="Write sqlite:///PATH or postgresql://USER@HOST/NAME.",
        )

    @property
    def label(self) -> str:
        """Fit for messages: no password in it."""
        if self.path is not None:
            return str(self.path)
        parts = urlsplit(self.uri)
        return f"postgresql://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


class ProjectionReader(ABC):
    """Reads the projection of one database; safe between threads. Implementations: one for each engine."""

    label: str

    @staticmethod
    def open(url: str, *, timeout: float = 1.0, clock: Callable[[], float] = time.monotonic) -> ProjectionReader:
        """Connects and checks the schema's version. Raises ``Unavailable`` if it cannot be read or is another one.

        ``timeout``: seconds after which an answer that has not come counts as none.
        """
        address = DatabaseAddress.parse(url)
        if address.path is not None:
            return SqliteProjectionReader(address, timeout)
        # Imported where it is used: the driver weighs 25 MB in every worker that has SQLite.
        from watchfloor.storage.projection_postgres import PostgresProjectionReader

        return PostgresProjectionReader(address, timeout, clock)

    @abstractmethod
    def read(self, after: int) -> Delta:
        """What changed behind revision ``after``; 0 reads everything. Raises ``Unavailable``."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection."""


def delta(rows: Sequence[Sequence[Any]], after: int, label: str) -> Delta:
    """The answer that ``rows`` of ``DELTA_SQL`` stand for."""
    if not rows:
        raise Corrupt(f"{label} has lost its revision. Restore it from your backup.")
    changed: list[tuple[Kind, str, dict[str, Any] | None]] = []
    for _, kind, key, body in rows:
        # A kind that this version does not know belongs to a newer control plane. What is gone is no news to a reader
        # that has nothing yet.
        if (known := _KINDS.get(kind)) is not None and (body is not None or after > 0):
            changed.append((known, key, None if body is None else orjson.loads(body)))
    return int(rows[0][0]), changed


class SqliteProjectionReader(ProjectionReader):
    """One read-only connection to the file; it follows when the file is replaced (a restore)."""

    def __init__(self, address: DatabaseAddress, timeout: float) -> None:
        assert address.path is not None
        self._path = address.path
        self._timeout = timeout
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._sql = DELTA_SQL.format(body="p.body", after="?")
        self.label = address.label
        with self._lock:
            self._open()

    def read(self, after: int) -> Delta:
        """See ``ProjectionReader.read``."""
        with self._lock:
            connection = self._open()
            try:
                rows = connection.execute(self._sql, (after,)).fetchall()
            except sqlite3.Error as error:
                raise self._lost(error) from error
        return delta(rows, after, self.label)

    def close(self) -> None:
        """See ``ProjectionReader.close``."""
        with self._lock:
            self._disconnect()

    def _open(self) -> sqlite3.Connection:
        try:
            status = self._path.stat()
            identity = (status.st_dev, status.st_ino)
            if self._connection is None or identity != self._identity:
                self._disconnect()
                self._connection, self._identity = self._connect(), identity
            return self._connection
        except (sqlite3.Error, OSError) as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> Unavailable:
        self._disconnect()
        return Unavailable(f"cannot read control state in {self.label}: {error}")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=ro",
            uri=True,
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            present = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if present else None
            migrations.require_head(row[0] if row else None, self.label)
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
