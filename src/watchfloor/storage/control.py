"""Control state: serialised write transactions, snapshots to read, leases, and the projection that gateways live on.

Above: the repositories beside this file, which take a ``ControlTx`` first, and ``app``, which opens the one store of a
process. Below: SQLAlchemy Core on SQLite or PostgreSQL; no caller can tell which. It does not know what the tables mean
beyond ``revision``, ``projection``, ``audit`` and ``lease``.

INVARIANT: commit, then raise the epoch, then return. Who has been told that a change is done can rely on every worker
of this host looking at it before its next decision.
INVARIANT: a change without an audit entry is not committed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from watchfloor.model.errors import InputError, Unavailable
from watchfloor.model.facts import Kind, Projected
from watchfloor.model.ids import new_id
from watchfloor.storage import audit, audit_files, engines, schema
from watchfloor.storage.audit import Signer
from watchfloor.storage.audit_files import Checkpoints
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.follow import follow
from watchfloor.storage.projection import DatabaseAddress, Delta, ProjectionReader

CHANNEL: Final = "watchfloor_state"
"""PostgreSQL's notification channel; the payload is the revision."""

_WRITER_LOCK: Final = 0x57464C4F4F52  # "WFLOOR": the advisory lock that all writers of one database share
_LOCK_SECONDS: Final = 15.0


def utc_now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)


class UnauditedChange(RuntimeError):
    """A programming mistake: a transaction changed state and left no audit entry. It was rolled back."""


class ControlTx:
    """One transaction. ``now`` is the same throughout; ``actor`` is who does it, as it stands in the audit log."""

    __slots__ = ("_audited", "_may_write", "_revision", "_tail", "actor", "connection", "now")

    def __init__(self, connection: sa.Connection, *, now: datetime, actor: str, may_write: bool) -> None:
        self.connection = connection
        self.now = now
        self.actor = actor
        self._may_write = may_write
        self._revision: int | None = None
        self._audited = False
        self._tail: tuple[int, str] | None = None

    @property
    def revision(self) -> int | None:
        """When reading: the snapshot's. When writing: the one that this transaction makes, None if it makes none."""
        return self._revision

    def audit(self, action: str, subject: str, detail: Mapping[str, Any] | None = None) -> int:
        """Add an entry to the audit log and return its number.

        ``action`` is a tag ``subject:verb`` (``agent:block``), ``subject`` what it was done to (``agent/mail-bot``).
        ``detail`` is JSON and never holds secrets or message contents. Raises ``TypeError`` for what is no JSON.
        """
        self._must_write()
        if self._tail is None:
            newest = sa.select(schema.audit.c.seq, schema.audit.c.hash).order_by(schema.audit.c.seq.desc()).limit(1)
            row = self.connection.execute(newest).one_or_none()
            self._tail = (row.seq, row.hash) if row else (0, audit.GENESIS)
        seq, prev_hash = self._tail[0] + 1, self._tail[1]
        entry = {
            "seq": seq,
            "at": engines.to_micros(self.now),
            "actor": audit.visible(self.actor),
            "action": audit.visible(action),
            "subject": audit.visible(subject),
            "detail": audit.plain(detail or {}),
            "prev_hash": prev_hash,
        }
        entry_hash = audit.entry_hash(**entry)
        self.connection.execute(sa.insert(schema.audit).values(**{**entry, "at": self.now}, hash=entry_hash))
        self._tail = (seq, entry_hash)
        self._audited = True
        return seq

    def project(self, kind: Kind, key: str, value: Projected | None) -> None:
        """Give gateway workers ``value`` under ``kind`` and ``key``; None takes it away from them.

        Raises ``InputError`` for text that is not Unicode: a worker that cannot read one value could not go on.
        """
        self._must_write()
        body = None if value is None else value.to_json()
        try:
            orjson.dumps([key, body])
        except (TypeError, ValueError) as error:
            raise InputError(f"cannot be handed to the gateways: {error}.", where=f"{kind.value}/{key!r}") from error
        if self._revision is None:
            table = schema.revision
            self._revision = self.connection.execute(
                sa.update(table).where(table.c.id == 1).values(value=table.c.value + 1).returning(table.c.value)
            ).scalar_one()
        values = {"kind": kind.value, "key": key, "body": body, "revision": self._revision}
        statement = _insert(self.connection, schema.projection).values(**values)
        self.connection.execute(
            statement.on_conflict_do_update(
                index_elements=["kind", "key"],
                set_={"body": statement.excluded.body, "revision": statement.excluded.revision},
            )
        )

    def _must_write(self) -> None:
        if not self._may_write:
            raise RuntimeError("this transaction only reads; open one with tx()")


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    """``INSERT`` that knows ``ON CONFLICT``: both dialects have it, SQLAlchemy's common one does not."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


class SqlControlStore:
    """``ports.ControlStore`` over SQLAlchemy Core. One a process; safe between threads."""

    def __init__(
        self,
        database: engines.Database,
        *,
        epoch: EpochFile | None,
        now: Callable[[], datetime],
        checkpoints: Checkpoints | None,
        may_write: bool,
    ) -> None:
        self._database = database
        self._epoch = epoch
        self._now = now
        self._checkpoints = checkpoints
        self._may_write = may_write
        self._writing = threading.Lock()
        self._writer_thread: int | None = None
        self._follow_problem: str | None = None
        self._reader: ProjectionReader | None = None
        self._reader_lock = threading.Lock()

    @classmethod
    def open(
        cls,
        url: str,
        *,
        epoch: EpochFile | None,
        now: Callable[[], datetime] = utc_now,
        checkpoints: Checkpoints | None = None,
        migrate: bool = True,
    ) -> Self:
        """Open the database at ``url`` (see ``DatabaseAddress.parse``).

        With ``migrate`` (the server): bring the schema up to date and the epoch level with the database, whatever a
        crash left behind. Without (gateways, inspection): read only, and ``Unavailable`` if the schema's version is not
        this one's. ``checkpoints`` makes the store vouch for its audit log.
        """
        address = DatabaseAddress.parse(url)
        if migrate:
            engines.migrate(address)
        database = engines.connect(address, read_only=not migrate)
        store = cls(database, epoch=epoch, now=now, checkpoints=checkpoints, may_write=migrate)
        try:
            if migrate:
                store._level_epoch()
                store.checkpoint(force=True)
            else:
                with database.errors(), database.reading() as connection:
                    engines.require_head(connection, database.label)
        except BaseException:
            database.dispose()
            raise
        return store

    @property
    def label(self) -> str:
        """Where the database is, fit for messages."""
        return self._database.label

    @property
    def audit_problem(self) -> str | None:
        """Why the audit log is no longer being vouched for, if so: for health pages."""
        return self._checkpoints.problem if self._checkpoints else None

    @property
    def signer(self) -> Signer | None:
        """The key that vouches for the audit log; None where nobody does."""
        return self._checkpoints.signer if self._checkpoints else None

    @property
    def follow_problem(self) -> str | None:
        """Why ``follow`` has stopped beating, if so: for health pages."""
        return self._follow_problem

    @contextmanager
    def tx(self, actor: str = "system", *, audited: bool = True) -> Iterator[ControlTx]:
        """A write transaction, alone among all writers of the database.

        Commits on leaving, rolls back on an exception. Whoever changes something calls ``ControlTx.audit``, or else it
        is rolled back with ``UnauditedChange``; ``audited=False`` is for bookkeeping that means nothing to anybody
        (cursors, heartbeats) and may not project. Raises ``Unavailable`` if nothing could be done, ``Conflict`` if it
        contradicts what is stored.
        """
        with self._alone(), self._database.errors():
            with self._database.writing() as connection:
                self._lock_out_writers(connection)
                tx = ControlTx(connection, now=self._now(), actor=actor, may_write=True)
                mark = self._database.change_mark(connection)
                yield tx
                self._require_audit(tx, audited, mark)
                if tx.revision is not None:
                    self._notify(connection, tx.revision)
            if tx.revision is not None and self._epoch is not None:
                self._epoch.raise_to(tx.revision)
            if tx._tail is not None:
                self._vouch(tx._tail[0], force=False)

    @contextmanager
    def read(self, actor: str = "system") -> Iterator[ControlTx]:
        """A read-only transaction: everything in it sees the state of one moment."""
        with self._database.errors(), self._database.reading() as connection:
            tx = ControlTx(connection, now=self._now(), actor=actor, may_write=False)
            # The snapshot is taken by the first statement; and the revision tells the caller which one it is.
            tx._revision = self._database.revision(connection)
            yield tx

    def lease(self, name: str, ttl: float) -> SqlLease | None:
        """The lease ``name`` for ``ttl`` seconds, or None while somebody else has it.

        Holders are compared by this store's clock: on several hosts, keep ``ttl`` well above their clocks' difference.
        """
        taken = SqlLease(self, name, new_id("lse"), ttl)
        return taken if taken._take() else None

    def read_projection(self, after: int) -> Delta:
        """The revision, and what changed behind ``after``, in order: one snapshot. Raises ``Unavailable``.

        Fast enough to be called before a decision; needs no server. A None body means: gone.
        """
        with self._reader_lock:
            if self._reader is None:
                self._reader = ProjectionReader.open(self._database.url)
            reader = self._reader
        return reader.read(after)

    def follow(self, epoch: EpochFile, stop: threading.Event, poll: float = 0.25) -> None:
        """Keep ``epoch`` level with the database and beat it while the database answers, until ``stop`` is set.

        Blocks: give it a thread of its own. The server runs it as its heartbeat, a gateway host without a server as its
        only news; it also makes checkpoints fall due on time.
        """
        follow(self._database.url, epoch, stop, poll=poll, channel=CHANNEL, on_round=self._after_round)

    def checkpoint(self, *, force: bool = False) -> None:
        """Sign the audit log's newest entry, if that is due or ``force``. Never raises for what it finds."""
        if self._checkpoints is None:
            return
        try:
            with self.read() as tx:
                tail = tx.connection.execute(sa.select(sa.func.max(schema.audit.c.seq))).scalar() or 0
        except Unavailable as error:
            self._checkpoints.problem = str(error)
        else:
            self._vouch(tail, force=force)

    def close(self) -> None:
        """Vouch for the last entries and let go of the database."""
        try:
            if self._may_write:
                self.checkpoint(force=True)
        finally:
            if self._reader is not None:
                self._reader.close()
            self._database.dispose()

    # -- inside ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._may_write:
            raise RuntimeError("this store was opened with migrate=False: it only reads")
        if self._writer_thread == threading.get_ident():
            raise RuntimeError("a write transaction is already open in this thread; pass its ControlTx down instead")
        if not self._writing.acquire(timeout=_LOCK_SECONDS):
            raise Unavailable(f"{self.label} is busy: another write has lasted for more than {_LOCK_SECONDS:g} s")
        self._writer_thread = threading.get_ident()
        try:
            yield
        finally:
            self._writer_thread = None
            self._writing.release()

    def _lock_out_writers(self, connection: sa.Connection) -> None:
        # SQLite's BEGIN IMMEDIATE has done it. On PostgreSQL this makes revisions and audit entries visible in the
        # order of their numbers: a reader that sees one has seen all before it.
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITER_LOCK})

    def _require_audit(self, tx: ControlTx, audited: bool, mark: int) -> None:
        if tx._audited:
            return
        if tx.revision is not None:
            raise UnauditedChange("the transaction changed what gateways know, and left no audit entry")
        if audited and self._database.has_changed(tx.connection, mark):
            raise UnauditedChange("the transaction wrote, and left no audit entry; bookkeeping says tx(audited=False)")

    def _notify(self, connection: sa.Connection, revision: int) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_notify(CHANNEL, str(revision))))

    def _after_round(self, problem: str | None) -> None:
        self._follow_problem = problem
        if problem is None:
            self.checkpoint()

    def _level_epoch(self) -> None:
        epoch = self._epoch
        if epoch is None:
            return
        # The epoch first: it is raised after commits, so a database that is read later cannot be behind it, unless an
        # older one was put in its place.
        announced = epoch.revision()
        with self.read() as tx:
            stored = tx.revision or 0
        if stored >= announced:
            epoch.raise_to(stored)
            return
        # Workers that are ahead would take no notice of changes with lower numbers. So all that is stored is announced
        # anew, above everything that they can have seen.
        with self.tx() as tx:
            tx.connection.execute(
                sa.update(schema.revision).where(schema.revision.c.id == 1).values(value=announced + 1)
            )
            tx.connection.execute(sa.update(schema.projection).values(revision=announced + 1))
            tx.audit("state:restore", "revision", {"stored": stored, "announced": announced})
            tx._revision = announced + 1

    def _vouch(self, tail: int, *, force: bool) -> None:
        checkpoints = self._checkpoints
        now = self._now()
        if checkpoints is None or not (checkpoints.is_due(tail, now) or (force and tail != checkpoints.last_seq)):
            return
        try:
            with self._database.errors():
                rows = audit_files.rows_since(self._database, max(1, checkpoints.last_seq))
        except Unavailable as error:
            # What is being vouched for has been committed: its caller must not be told otherwise.
            checkpoints.problem = str(error)
        else:
            checkpoints.vouch(rows, now)


@dataclass(frozen=True, slots=True)
class SqlLease:
    """``ports.Lease``. A holder that comes too late has lost it, even if nobody else has taken it."""

    _store: SqlControlStore
    name: str
    holder: str
    ttl: float

    def renew(self) -> bool:
        """Extend it by ``ttl`` from now; False if it was lost."""
        table = schema.lease
        mine = (table.c.name == self.name) & (table.c.holder == self.holder)

        def extend(tx: ControlTx) -> bool:
            still = mine & (table.c.expires_at > tx.now)
            return tx.connection.execute(sa.update(table).where(still).values(expires_at=self._until(tx))).rowcount == 1

        return self._run(extend)

    def release(self) -> None:
        """Give it back; nothing happens if it was lost."""
        table = schema.lease
        mine = (table.c.name == self.name) & (table.c.holder == self.holder)
        self._run(lambda tx: tx.connection.execute(sa.delete(table).where(mine)).rowcount == 1)

    def _take(self) -> bool:
        table = schema.lease

        def take(tx: ControlTx) -> bool:
            statement = _insert(tx.connection, table).values(
                name=self.name, holder=self.holder, expires_at=self._until(tx)
            )
            # One statement decides: of two that come at once, the second finds the first one's row.
            statement = statement.on_conflict_do_update(
                index_elements=["name"],
                set_={"holder": statement.excluded.holder, "expires_at": statement.excluded.expires_at},
                where=table.c.expires_at <= tx.now,
            ).returning(table.c.holder)
            return tx.connection.execute(statement).scalar() is not None

        return self._run(take)

    def _until(self, tx: ControlTx) -> datetime:
        return tx.now + timedelta(seconds=self.ttl)

    def _run(self, step: Callable[[ControlTx], bool]) -> bool:
        with self._store.tx(audited=False) as tx:
            return step(tx)


__all__ = ["CHANNEL", "ControlTx", "SqlControlStore", "SqlLease", "UnauditedChange", "utc_now"]
