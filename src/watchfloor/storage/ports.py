"""The five interfaces that storage engines stand behind.

Every implementation is run through one contract suite (``tests/storage/contract_*.py``). Nothing above this room
knows which engine answers. Events travel as Arrow record batches only, never a row at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NewType, Protocol

import pyarrow as pa

from watchfloor.model.cases import AlertDraft

if TYPE_CHECKING:
    from watchfloor.kql.routines import RoutineRef
    from watchfloor.storage.control import ControlTx

Seq = NewType("Seq", int)
"""Position in one partition of the event log; starts at 1, grows in commit order, has gaps."""


@dataclass(frozen=True, slots=True)
class LogBatch:
    """One durable batch. ``table`` is the event table that its rows belong to.

    ``log`` identifies the log itself: positions of a log that was made anew begin again, and must not be mistaken for
    those that the store has seen.
    """

    part: str
    seq: Seq
    table: str
    batch: pa.RecordBatch
    log: str = ""


@dataclass(frozen=True, slots=True)
class KeyedBatch:
    """Rows of one table, typed (never packed), each with the key of the event that it is part of."""

    batch: pa.RecordBatch
    keys: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the log holds that nobody has consumed yet."""

    rows: int
    bytes: int
    oldest_age_seconds: float
    set_aside: int = 0
    """Batches that were taken out of the queue because they are damaged or fit no table; kept for inspection."""


class EventLog(Protocol):
    """The durable hand-over of events. Implementations: ``SqliteLog``, ``PostgresLog``."""

    def append(self, part: str, batch: pa.RecordBatch, dedup: str) -> Seq:
        """Store ``batch``; when this returns it survives power loss.

        The batch's schema metadata names its ``table``. A second append with the same ``dedup`` stores nothing and
        returns the first one's position. Raises ``Unavailable`` when the disk is full or the database is gone.
        """
        ...

    def append_all(self, part: str, batches: Sequence[tuple[pa.RecordBatch, str]]) -> Sequence[Seq]:
        """``append`` each (batch, dedup) in order, all in one transaction: one sync for a worker's whole round."""
        ...

    def append_once(self, part: str, batches: Sequence[KeyedBatch]) -> Set[bytes]:
        """Store the rows of ``batches`` whose key was never stored before, in one transaction; the keys that were.

        Rows of one key belong together: they are stored all, or none. Keys are remembered for at least
        ``log.KEYS_KEPT``, after which the same key counts as new. When this returns what it stored survives power loss.
        """
        ...

    def read(self, part: str, after: Seq, max_rows: int) -> Sequence[LogBatch]:
        """Whole batches behind ``after``, in order, until ``max_rows`` is reached; none is ever skipped for good."""
        ...

    def trim(self, part: str, upto: Seq) -> None:
        """Forget batches up to and including ``upto``. Their dedup keys are kept for a week."""
        ...

    def set_aside(self, part: str, seq: Seq, reason: str) -> None:
        """Take the batch at ``seq`` out of the queue and keep it with the reason: no reader can ever take it in."""
        ...

    def backlog(self) -> Backlog:
        """What is waiting in all partitions."""
        ...


@dataclass(frozen=True, slots=True)
class CompiledQuery:
    """SQL with its parameters; values never stand in the text. ``columns`` are (name, KQL type).

    ``routines`` is what the engine must be able to call; ``needs_budget``: it adds the parameter ``budget``, by which
    those find out when to stop.
    """

    sql: str
    params: Mapping[str, Any]
    columns: tuple[tuple[str, str], ...]
    tables: frozenset[str]
    dialect: str = "duckdb"
    routines: frozenset[RoutineRef] = frozenset()
    needs_budget: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """What a query may see. It is applied to the tables before any SQL exists; ``tables`` None means all.

    ``after`` and ``upto`` are ingest positions: rows behind the one, up to and with the other.
    """

    tenants: tuple[str, ...] = ("default",)
    tables: frozenset[str] | None = None
    since: datetime | None = None
    after: int | None = None
    upto: int | None = None


class Ticket:
    """A hold on one running query: whoever started it can stop it and see how far it is. Safe for threads.

    Whoever runs the query attaches what stops it and what knows its progress, and detaches them at the end.
    """

    def __init__(self, ticket_id: str) -> None:
        self.id = ticket_id
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None
        self._measure: Callable[[], float | None] | None = None
        self._is_cancelled = False

    @property
    def is_cancelled(self) -> bool:
        """Whether the query was given up."""
        return self._is_cancelled

    @property
    def is_attached(self) -> bool:
        """Whether the query runs, as far as is known here."""
        with self._lock:
            return self._stop is not None

    def attach(self, stop: Callable[[], None], measure: Callable[[], float | None]) -> None:
        """The query runs from here on; one that was given up before is stopped at once."""
        with self._lock:
            self._stop, self._measure = stop, measure
            is_cancelled = self._is_cancelled
        if is_cancelled:
            stop()

    def detach(self) -> None:
        """The query has ended."""
        with self._lock:
            self._stop = self._measure = None

    def cancel(self) -> None:
        """Give the query up."""
        with self._lock:
            self._is_cancelled = True
            stop = self._stop
        if stop is not None:
            stop()

    def progress(self) -> float | None:
        """The share that is done, 0 to 1; None while nobody knows."""
        with self._lock:
            measure = self._measure
        return None if measure is None else measure()


@dataclass(frozen=True, slots=True)
class Limits:
    """Walls around one query. ``ticket`` lets somebody else stop it."""

    timeout_seconds: float = 60.0
    max_rows: int = 10_000
    max_bytes: int = 64 * 1024 * 1024
    ticket: Ticket | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What one round of maintenance did."""

    exported: Mapping[str, int] = field(default_factory=dict)
    """Rows moved to Parquet, by ``table/day``."""
    dropped: tuple[str, ...] = ()
    """Cold days that were deleted."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long events are kept hot (in the engine) and cold (as Parquet)."""

    hot: timedelta = timedelta(days=7)
    cold: timedelta = timedelta(days=90)


class EventStore(Protocol):
    """Columnar events. Implementations: ``DuckDbStore``, and ``RemoteStore``, the client of the store process."""

    dialect: str

    def write(self, table: str, batches: Sequence[LogBatch]) -> None:
        """Add the rows of ``batches`` and move their partition's cursor in one transaction.

        Idempotent: a batch at or before the cursor is ignored. Fills ``IngestSeq`` and ``IngestTime``.
        """
        ...

    def query(self, query: CompiledQuery, scope: Scope, limits: Limits) -> Iterator[pa.RecordBatch]:
        """Run ``query``. Raises ``InputError`` if the engine refuses it, ``Unavailable`` past the limits."""
        ...

    def maintain(self, now: datetime) -> MaintenanceReport:
        """Apply retention: closed days to Parquet, old Parquet away. Safe to run at any time, any number of times."""
        ...


class Lease(Protocol):
    """The right to be the only one to do something, for a while."""

    def renew(self) -> bool:
        """Extend it; False if it was lost."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class ControlStore(Protocol):
    """Relational state. One implementation over SQLAlchemy Core, on SQLite and PostgreSQL."""

    def tx(self) -> AbstractContextManager[ControlTx]:
        """A serialised write transaction: commits on leaving, rolls back on an exception, then raises the epoch."""
        ...

    def read(self) -> AbstractContextManager[ControlTx]:
        """A read-only transaction on one snapshot."""
        ...

    def lease(self, name: str, ttl: float) -> Lease | None:
        """Take the lease ``name`` for ``ttl`` seconds, or None while somebody else has it."""
        ...


class QueryCompiler(Protocol):
    """KQL to SQL."""

    def compile(self, kql: str, scope: Scope, dialect: str = "duckdb") -> CompiledQuery:
        """Raises ``InputError`` with line and column; what is not supported is refused by name."""
        ...


class RuleRunner(Protocol):
    """Detection over one slice of fresh events."""

    def run_slice(self, table: pa.Table, seq: Seq) -> Sequence[AlertDraft]:
        """Alerts that ``table`` gives rise to. Pure: the same slice gives the same drafts, keys included."""
        ...
