"""Connecting to the database of control state, the same way for both engines.

``control`` works with a ``Database`` and need not know which engine it has: how transactions begin, what durability
means, and what the driver's errors mean to a caller. It knows nothing of tables but ``revision`` and Alembic's.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import orjson
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.pool import NullPool

from watchfloor.model.errors import Conflict, Corrupt, InputError, Unavailable, WatchfloorError
from watchfloor.storage import migrations
from watchfloor.storage.projection import DatabaseAddress

_BUSY_SECONDS: Final = 10.0
_REVISION: Final = sa.text("SELECT value FROM revision WHERE id = 1")
_MIGRATION_LOCK: Final = 0x57464C4F4F52  # the writers' lock: no write while the schema moves


def to_micros(at: datetime) -> int:
    """Unix microseconds, exactly."""
    delta = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


_DIGITS: Final = bytes(48 if 48 <= byte < 58 else 32 for byte in range(256))
_LONG_NUMBER: Final = b"0" * 19
"""What a long number looks like once every digit is a zero and all else a space: found much faster than by a pattern,
and every alert that is read passes here with all of its events."""


def _loads(text: str | bytes | float) -> Any:
    """What a JSON column holds. The quick reader would make floats of whole numbers beyond 64 bits, and takes no halves
    of characters: the standard library reads those. SQLite gives a number that stands alone as one."""
    if not isinstance(text, str | bytes):
        return text
    raw = text.encode() if isinstance(text, str) else text
    if _LONG_NUMBER not in raw.translate(_DIGITS):
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass
    return json.loads(raw)


def _dumps(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


class Database:
    """Engines for one database: one connection to write, a pool to read."""

    def __init__(self, address: DatabaseAddress, writer: sa.Engine | None, reader: sa.Engine) -> None:
        self._address = address
        self._writer = writer
        self._reader = reader
        self.label = address.label

    @property
    def url(self) -> str:
        """As ``DatabaseAddress.parse`` reads it."""
        return str(self._address.path.absolute()) if self._address.path is not None else self._address.uri

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A write transaction; commits on leaving."""
        assert self._writer is not None
        with self._writer.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A read-only transaction on one snapshot, taken by its first statement."""
        with self._reader.connect() as connection:
            yield connection

    @contextmanager
    def evidence(self) -> Iterator[sa.Connection]:
        """Reading what may have been tampered with, of a database that need not be in use; never writes or creates.

        Text that is no UTF-8 arrives as surrogates instead of an error.
        """
        path = self._address.path
        if path is None:
            with self.reading() as connection:
                yield connection
            return
        # Whoever has a WAL database open keeps this file. Without it nobody writes, and reading needs no side files:
        # evidence stays as it was found, and may lie on a medium that cannot be written to.
        in_use = path.with_name(f"{path.name}-wal").exists()
        uri = f"file:{quote(str(path.absolute()))}?{'mode=ro' if in_use else 'immutable=1'}"
        engine = sa.create_engine("sqlite://", creator=lambda: _lenient(uri), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()

    def revision(self, connection: sa.Connection) -> int:
        """The revision that ``connection`` sees."""
        value = connection.execute(_REVISION).scalar()
        if value is None:
            raise Corrupt(f"{self.label} has lost its revision. Restore it from your backup.")
        return int(value)

    def change_mark(self, connection: sa.Connection) -> int:
        """For ``has_changed``: taken when a transaction begins."""
        return _total_changes(connection) if connection.dialect.name == "sqlite" else 0

    def has_changed(self, connection: sa.Connection, mark: int) -> bool:
        """Whether the transaction has changed a row since ``mark``, whichever way. Asks the database, not our code."""
        if connection.dialect.name == "sqlite":
            return _total_changes(connection) != mark
        # PostgreSQL gives a transaction its number when it first changes something.
        return connection.execute(sa.text("SELECT pg_current_xact_id_if_assigned()")).scalar() is not None

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns what SQLAlchemy raises into errors of the model."""
        try:
            yield
        except (exc.DBAPIError, exc.TimeoutError) as error:
            translated = translate(error, self.label)
            if translated is None:
                raise
            raise translated from error

    def dispose(self) -> None:
        """Close every connection."""
        self._reader.dispose()
        if self._writer is not None:
            self._writer.dispose()


def _lenient(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    return connection


def _total_changes(connection: sa.Connection) -> int:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver.total_changes


def connect(address: DatabaseAddress, *, read_only: bool) -> Database:
    """Engines for ``address``; nothing is opened before the first transaction."""
    if address.path is None:
        return Database(address, None if read_only else _postgres(address, pool_size=1), _postgres_reader(address))
    _require_file(address)
    writer = None
    if not read_only:
        writer = _sqlite(address, begin="BEGIN IMMEDIATE", pool_size=1, max_overflow=0)
    return Database(address, writer, _sqlite(address, begin="BEGIN", read_only=True, pool_size=8, max_overflow=32))


def require_head(connection: sa.Connection, label: str) -> None:
    """Raise ``Unavailable`` unless the schema is of this version."""
    present = sa.inspect(connection).has_table("alembic_version")
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() if present else None
    migrations.require_head(found, label)


def migrate(address: DatabaseAddress) -> None:
    """Create or upgrade the schema, in one transaction, alone. Raises ``Unavailable``."""
    if address.path is None:
        engine = _postgres(address, poolclass=NullPool)
    else:
        _create_file(address)
        # Foreign keys off: later revisions rebuild tables, and are checked as a whole below.
        engine = _sqlite(address, begin="BEGIN IMMEDIATE", foreign_keys=False, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            if address.path is None:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            migrations.upgrade(connection, address.label)
            if address.path is not None and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                raise Corrupt(f"{address.label}: the upgrade would leave dangling references; nothing was changed")
    except (exc.DBAPIError, exc.TimeoutError) as error:
        raise translate(error, address.label) or Unavailable(f"cannot upgrade {address.label}: {error}") from error
    finally:
        engine.dispose()


def _create_file(address: DatabaseAddress) -> None:
    path = address.path
    assert path is not None
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite gives its side files the mode of the database.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Unavailable(f"cannot create {path}: {error.strerror}") from error


def _sqlite(
    address: DatabaseAddress, *, begin: str, read_only: bool = False, foreign_keys: bool = True, **pool: Any
) -> sa.Engine:
    path = address.path
    assert path is not None
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
        json_serializer=_dumps,
        json_deserializer=_loads,
        **pool,
    )

    @sa.event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say, not where the driver thinks
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        else:
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise Unavailable(f"{address.label}: this file system cannot hold a WAL database. Use a local disk.")
            connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")

    @sa.event.listens_for(engine, "begin")
    def start(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgres(address: DatabaseAddress, **options: Any) -> sa.Engine:
    return sa.create_engine(
        address.uri.replace("postgresql://", "postgresql+psycopg://", 1),
        connect_args={
            "connect_timeout": 5,
            "application_name": "watchfloor",
            # A writer that is stopped in the middle must not hold up the others for ever.
            "options": f"-c lock_timeout={_BUSY_SECONDS:.0f}s -c idle_in_transaction_session_timeout=60s",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        },
        json_serializer=_dumps,
        json_deserializer=_loads,
        pool_pre_ping=True,
        **options,
    )


def _postgres_reader(address: DatabaseAddress) -> sa.Engine:
    return _postgres(address, pool_size=8, max_overflow=32).execution_options(
        isolation_level="REPEATABLE READ", postgresql_readonly=True
    )


def _require_file(address: DatabaseAddress) -> None:
    if address.path is not None and not address.path.is_file():
        raise Unavailable(f"{address.label} does not exist. Start the server first: it creates it.")


_SQLITE_ERRORS: Final = {
    sqlite3.SQLITE_FULL: "the disk is full. Free some space; nothing was changed.",
    sqlite3.SQLITE_BUSY: f"another process has been writing for more than {_BUSY_SECONDS:.0f} s.",
    sqlite3.SQLITE_LOCKED: f"another process has been writing for more than {_BUSY_SECONDS:.0f} s.",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened. Is the directory there, and may this user write to it?",
    sqlite3.SQLITE_READONLY: "it may only be read. Is it owned by the user that Watchfloor runs as?",
    sqlite3.SQLITE_IOERR: "the disk reports an error.",
}
_SQLITE_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_POSTGRES_ERRORS: Final = {
    "53100": "its disk is full. Free some space; nothing was changed.",
    "53300": "it has no connection left.",
    "55P03": f"another process has been writing for more than {_BUSY_SECONDS:.0f} s.",
    "25006": "it only reads: is this a standby?",
    "3D000": "there is no such database. Create it first.",
    "28P01": "it refuses the password.",
    "28000": "it refuses this user.",
}


def translate(error: exc.SQLAlchemyError, label: str) -> WatchfloorError | None:
    """What ``error`` means to a caller; None if it is a mistake in our own code.

    The driver's own text is not repeated where it may quote values.
    """
    if isinstance(error, exc.IntegrityError):
        return Conflict("The change contradicts what is stored: something is there already, or not there (any more).")
    if isinstance(error, exc.DataError):
        return InputError("A value does not fit where it is stored: too long, or not allowed.")
    if isinstance(error, exc.TimeoutError):
        return Unavailable(f"{label} is busy: every connection is in use.")
    origin = error.orig if isinstance(error, exc.DBAPIError) else None
    if isinstance(origin, sqlite3.Error):
        code = getattr(origin, "sqlite_errorcode", 0) & 0xFF
        if code in _SQLITE_DAMAGE:
            return Corrupt(f"{label}: the file is damaged. Restore it from your backup.")
        if code in _SQLITE_ERRORS:
            return Unavailable(f"{label}: {_SQLITE_ERRORS[code]}")
        return None
    state = getattr(origin, "sqlstate", None)
    if state in _POSTGRES_ERRORS:
        return Unavailable(f"{label}: {_POSTGRES_ERRORS[state]}")
    if isinstance(error, exc.DBAPIError) and (
        error.connection_invalidated or state is None or state[:2] in ("08", "40", "53", "57", "58")
    ):
        return Unavailable(f"{label} does not answer, or broke off in the middle. Trying again may work.")
    return None
