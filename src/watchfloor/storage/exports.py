"""Exports: a table's rows of a period, all of them, in bounded memory.

The rows are read slice by slice, by their position in the event store, through the query compiler within the asker's
scope, and written as Parquet, JSON lines or OCSF. What arrives after an export began is not part of it. Rows of a view
have no position: they are read by their time, and how many they are is known only when all of them were read. Below the
portal and the command line; it knows no viewers.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import IO, Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from watchfloor import __version__
from watchfloor.kql.errors import nearest
from watchfloor.model import ocsf
from watchfloor.model.errors import InputError, NotFound, PastLimit
from watchfloor.storage.activity import literal, moment
from watchfloor.storage.compiler import catalogue, described_views
from watchfloor.storage.ports import EventStore, Limits, QueryCompiler, Scope
from watchfloor.storage.tables import TABLES, Table

SLICE_ROWS: Final = 20_000
_SLICE_BYTES: Final = 64 * 1024 * 1024
_SLICE_SECONDS: Final = 120.0
_PART_BYTES: Final = 1024 * 1024
_MAX_BINS: Final = 1_000_000
_BIN: Final = 64 << 20
"""Positions that are counted together. The store leaves a gap of 2^20 between batches, which hold 500 events."""


@dataclass(frozen=True, slots=True)
class Export:
    """One table and period. ``rows`` is how many rows there are, of a view how many there were when it began.

    ``slices`` are ranges [first, last) of positions, of a view of Unix microseconds, of a view without times of row
    numbers. ``slice_rows`` is the most rows that are held in memory at a time. ``read`` grows by the number of rows of
    each slice that was read.
    """

    events: EventStore
    compiler: QueryCompiler
    scope: Scope
    table: Table
    since: datetime | None
    until: datetime | None
    rows: int
    slices: tuple[tuple[int, int], ...]
    slice_rows: int
    is_view: bool = False
    read: list[int] = field(default_factory=list)

    def batches(self) -> Iterator[pa.Table]:
        """The rows by position, a slice at a time. Raises ``Unavailable`` if the store does not answer."""
        waiting = list(reversed(self.slices))
        while waiting:
            first, last = waiting.pop()
            text = self._slice(first, last)
            began = time.monotonic()
            try:
                found = self._query(text, self.slice_rows)
            except PastLimit:
                if last - first <= 1 or time.monotonic() - began >= _SLICE_SECONDS:
                    raise
                middle = (first + last) // 2  # too many rows, or too large ones: take fewer
                waiting += [(middle, last), (first, middle)]
                continue
            if found.num_rows:
                self.read.append(found.num_rows)
                yield found.cast(self.table.schema)

    def _slice(self, first: int, last: int) -> str:
        """The query for one slice."""
        columns = ", ".join(c.name for c in self.table.columns)
        if self.is_view and not _has_times(self.table):
            # One row for each thing there is: numbered in the order of their names, so that none is left out.
            keys = ", ".join(f"{c.name} asc" for c in self.table.columns[:1])
            numbered = f"{self._source()} | sort by {keys} | extend _Number = row_number()"
            return f"{numbered} | where _Number > {first} and _Number <= {last} | project {columns}"
        order = "Timestamp" if self.is_view else "IngestSeq"
        start, end = (moment(_at(n)) if self.is_view else n for n in (first, last))
        return (
            f"{self._source()} | where {order} >= {start} and {order} < {end} | sort by {order} asc | project {columns}"
        )

    def query(self, text: str, max_rows: int) -> pa.Table:
        """The answer to another query of the same asker."""
        return self._query(text, max_rows)

    def _source(self) -> str:
        return _source(self.table, self.since, self.until)

    def _query(self, text: str, max_rows: int) -> pa.Table:
        return _asked(self.events, self.compiler, self.scope, text, max_rows)


def begin(
    events: EventStore,
    compiler: QueryCompiler,
    scope: Scope,
    table: str,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    slice_rows: int = SLICE_ROWS,
) -> Export:
    """The export of ``table``, from ``since`` to before ``until`` (aware; None: all), for an asker who sees ``scope``.

    Raises ``NotFound`` for a table that is not there for this asker.
    """
    schema = catalogue()
    known = {name: frozenset({name}) for name in TABLES} | {name: view.reads for name, view in schema.views.items()}
    visible = [name for name, reads in known.items() if scope.tables is None or reads <= scope.tables]
    if table not in visible:
        raise NotFound(f"there is no table {table[:100]!r} to export.", where="table", remedy=nearest(table, visible))
    if since is not None and until is not None and since >= until:
        raise InputError("the period ends before it begins.", where="until")
    if table in schema.views:
        shape = described_views()[table]
        if not _has_times(shape):
            if since is not None or until is not None:
                message = f"{table} says what there is now, and has no times."
                raise InputError(message, where="since" if since is not None else "until", remedy="Leave it out.")
            rows = _asked(events, compiler, scope, f"{table} | count", 1)["Count"][0].as_py()
            slices = tuple((start, min(start + slice_rows, rows)) for start in range(0, rows, slice_rows))
            return Export(events, compiler, scope, shape, None, None, rows, slices, slice_rows, is_view=True)
        counts = "summarize N = count(), Last = max(Timestamp) by B = bin(Timestamp, 1h) | sort by B asc"
        found = _asked(events, compiler, scope, f"{_source(shape, since, until)} | {counts}", _MAX_BINS)
        bins = [(_micros(row["B"]), _micros(row["Last"]) + 1, row["N"]) for row in found.to_pylist()]
        slices = tuple(_packed(bins, slice_rows))
        rows = sum(count for _, _, count in bins)
        return Export(events, compiler, scope, shape, since, until, rows, slices, slice_rows, is_view=True)
    shape = TABLES[table]
    counts = f"summarize N = count(), Last = max(IngestSeq) by B = IngestSeq / {_BIN} | sort by B asc"
    found = _asked(events, compiler, scope, f"{_source(shape, since, until)} | {counts}", _MAX_BINS)
    bins = [(row["B"] * _BIN, row["Last"] + 1, row["N"]) for row in found.to_pylist()]
    rows = sum(count for _, _, count in bins)
    slices = tuple(_packed(bins, slice_rows))
    return Export(events, compiler, scope, shape, since, until, rows, slices, slice_rows)


def _has_times(table: Table) -> bool:
    return any(column.name == "Timestamp" for column in table.columns)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _micros(at: datetime) -> int:
    """Unix microseconds; the store's times without a zone are UTC."""
    return ((at.replace(tzinfo=UTC) if at.tzinfo is None else at) - _EPOCH) // timedelta(microseconds=1)


def _at(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def settled(content: Iterable[bytes]) -> Iterator[bytes]:
    """``content``, once all of it is in a temporary file: then it is known how many rows it has."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever reads it closes it
    try:
        file.writelines(content)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return _emptied(file)


def _emptied(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while part := file.read(_PART_BYTES):
            yield part


def _packed(bins: Iterable[tuple[int, int, int]], slice_rows: int) -> Iterator[tuple[int, int]]:
    """Neighbouring bins (first, last, rows) together, as long as their rows fit in a slice."""
    start = end = rows = 0
    for first, last, count in bins:
        if rows and rows + count > slice_rows:
            yield start, end
            rows = 0
        if not rows:
            start = first
        end, rows = last, rows + count
    if rows:
        yield start, end


def _source(table: Table, since: datetime | None, until: datetime | None) -> str:
    where = [f"Timestamp {sign} {moment(at)}" for sign, at in ((">=", since), ("<", until)) if at is not None]
    return f"{table.name} | where {' and '.join(where)}" if where else table.name


def _asked(events: EventStore, compiler: QueryCompiler, scope: Scope, text: str, max_rows: int) -> pa.Table:
    limits = Limits(timeout_seconds=_SLICE_SECONDS, max_rows=max_rows, max_bytes=_SLICE_BYTES)
    return pa.Table.from_batches(list(events.query(compiler.compile(text, scope, events.dialect), scope, limits)))


# -- forms ------------------------------------------------------------------------------------------------------------


def as_parquet(export: Export) -> Iterator[bytes]:
    """A Parquet file: zstd, a row group a slice, the table's columns and types; dynamic columns hold JSON text."""
    sink = _Sink()
    with parquet.ParquetWriter(pa.PythonFile(sink, mode="w"), export.table.schema, compression="zstd") as writer:
        for batch in export.batches():
            writer.write_table(batch)
            yield sink.taken()
    yield sink.taken()


class _Sink(io.RawIOBase):
    """Takes what a writer writes, until somebody takes it from here."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Keep ``data``."""
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def tell(self) -> int:
        """How much was written in all."""
        return self._written

    def taken(self) -> bytes:
        """What was written since the last time."""
        found = b"".join(self._parts)
        self._parts.clear()
        return found


def as_jsonl(export: Export) -> Iterator[bytes]:
    """A JSON object a line, columns by name: times ISO 8601 with Z, dynamic columns as JSON values, no nulls."""
    for batch in export.batches():
        yield b"".join(orjson.dumps(row) + b"\n" for row in plain_rows(batch, export.table))


def plain_rows(batch: pa.Table, table: Table) -> Iterator[dict[str, Any]]:
    """Rows fit for JSON, without what is null."""
    dynamic = [c.name for c in table.columns if c.type == "dynamic"]
    times = [c.name for c in table.columns if c.type == "datetime"]
    for row in batch.to_pylist():
        for name in dynamic:
            row[name] = _json(row[name])
        for name in times:
            if row[name] is not None:
                row[name] = row[name].astimezone(UTC).isoformat().replace("+00:00", "Z")
        yield {name: value for name, value in row.items() if value is not None}


def _json(value: str | None) -> Any:
    try:
        return None if value is None else orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def as_ocsf(export: Export) -> Iterator[bytes]:
    """An OCSF event a line. Raises ``InputError`` at once for tables that have none: see ``OCSF_TABLES``."""
    if export.table.name not in _OCSF:
        raise InputError(
            f"{export.table.name} has no form in OCSF.", where="format", remedy=f"These have: {', '.join(OCSF_TABLES)}."
        )
    return _ocsf_lines(export)


def _ocsf_lines(export: Export) -> Iterator[bytes]:
    for batch in export.batches():
        yield b"".join(orjson.dumps(event) + b"\n" for event in ocsf_events(export.table.name, batch, export.query))


Ask = Callable[[str, int], pa.Table]


def ocsf_events(table: str, batch: pa.Table, ask: Ask) -> Iterator[ocsf.Event]:
    """The rows of ``batch`` as OCSF events; ``ask`` answers a query for what belongs to them (text, most rows)."""
    yield from _OCSF[table](batch, ask)


def _activities(batch: pa.Table, ask: Ask) -> Iterator[ocsf.Event]:
    for row in batch.to_pylist():
        yield ocsf.activity(row, product_version=__version__)


def _findings(batch: pa.Table, ask: Ask) -> Iterator[ocsf.Event]:
    alerts = sorted(set(pc.unique(batch["AlertId"]).to_pylist()) - {None, ""})
    evidence: dict[str, list[Mapping[str, Any]]] = {}
    for start in range(0, len(alerts), _ALERTS_A_QUERY):
        ids = ", ".join(literal(alert) for alert in alerts[start : start + _ALERTS_A_QUERY])
        newest = "summarize arg_max(Timestamp, *) by AlertId, EntityType, EntityId"
        for row in ask(f"AlertEvidence | where AlertId in ({ids}) | {newest}", _MAX_EVIDENCE).to_pylist():
            evidence.setdefault(row["AlertId"], []).append(row)
    for row in batch.to_pylist():
        yield ocsf.finding(row, evidence.get(row["AlertId"], ()), product_version=__version__)


_ALERTS_A_QUERY: Final = 200
_MAX_EVIDENCE: Final = 100_000

_OCSF: Final[Mapping[str, Callable[[pa.Table, Ask], Iterator[ocsf.Event]]]] = {
    "AgentActivity": _activities,
    "AlertInfo": _findings,
}

OCSF_TABLES: Final = tuple(_OCSF)
"""Tables whose rows are OCSF events: steps of agents, and alerts with their evidence."""

FORMATS: Final[Mapping[str, tuple[str, Callable[[Export], Iterator[bytes]]]]] = {
    "parquet": ("application/vnd.apache.parquet", as_parquet),
    "jsonl": ("application/x-ndjson", as_jsonl),
    "ocsf": ("application/x-ndjson", as_ocsf),
}
"""Format: media type, and how an export is written in it."""
