"""The spool: a worker's records on their way to the event log.

``Shipper``, a thread beside the ``SpoolWriter`` of a worker, turns closed segments into one batch a table, appends them
to the ``EventLog`` and deletes them; ``recover`` does the same for a worker that is gone. Above are the doors that
record what they decide; below is the log. What a row means is not known here, only whether it fits its table.

A record is JSON, ``{"t": table, "r": row}`` or a list of such: a list is stored as a whole or not at all. Times in rows
are Unix microseconds.
"""

from __future__ import annotations

import base64
import logging
import math
import os
import random
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa

from watchfloor.model.errors import Unavailable
from watchfloor.storage.log import DEFAULT_PART
from watchfloor.storage.ports import EventLog
from watchfloor.storage.rows import Rows
from watchfloor.storage.segments import Contents, Segment, SpoolWriter, left_segments, lock_directory, parse_segment
from watchfloor.storage.tables import TABLES, Table

__all__ = ["Shipper", "ShipperStats", "SpoolWriter", "recover", "recover_abandoned"]

_LOG: Final = logging.getLogger(__name__)
_IDLE_ROUNDS: Final = 50


@dataclass(slots=True)
class ShipperStats:
    """What a shipper did since it started, for metrics."""

    segments: int = 0
    records: int = 0
    quarantined: int = 0
    """Rows that fit no table, and damaged segments: kept beside the spool as ``*.bad``."""
    failures: int = 0
    last_error: str = ""


class _Shipment:
    """Ships one segment after the other into ``log``; holds no segments itself."""

    def __init__(self, log: EventLog, part: str, tables: Mapping[str, Table], stats: ShipperStats) -> None:
        self._log, self._part, self.stats = log, part, stats
        self._builders = {name: Rows(table) for name, table in tables.items()}

    def ship(self, segment: Segment) -> None:
        """Bring what ``segment`` holds into the log, and remove it. Safe to repeat after any interruption."""
        path = segment.path
        try:
            if segment.contents is None:
                contents = parse_segment(path.read_bytes())
            else:
                contents = Contents(segment.contents, is_torn=False, is_corrupt=False)
            batches = self._batches(path, contents.records)
            if batches:
                self._log.append_all(self._part, batches)
            if contents.is_corrupt:
                _LOG.error("segment %s is damaged: its good records were shipped, the file is kept as .bad", path)
                self.stats.quarantined += 1
                path.rename(path.with_name(path.name + ".bad"))
            else:
                path.unlink()
        except FileNotFoundError:
            _LOG.error("segment %s was taken away before it could be shipped", path)
            self.stats.failures += 1
            return
        except OSError as error:
            raise Unavailable(f"Cannot ship the segment {path}: {error.strerror}.") from error
        self.stats.segments += 1
        self.stats.records += len(contents.records)

    def _batches(self, path: Path, records: tuple[bytes, ...]) -> list[tuple[pa.RecordBatch, str]]:
        by_table: dict[str, list[dict[str, Any]]] = {}
        for number, record in enumerate(records):
            for place, (table, row, fault) in enumerate(self._rows(record)):
                if fault:
                    self._quarantine(path, f"{number}-{place}", fault, row)
                else:
                    by_table.setdefault(table, []).append(row)
        return [(self._builders[table].batch(rows), f"{path.name}:{table}") for table, rows in by_table.items()]

    def _rows(self, record: bytes) -> Iterator[tuple[str, Any, str]]:
        try:
            entries = orjson.loads(record)
        except orjson.JSONDecodeError as error:
            yield "", base64.b64encode(record).decode(), f"not JSON: {error}"
            return
        for entry in entries if isinstance(entries, list) else [entries]:
            table = entry.get("t") if isinstance(entry, dict) else None
            builder = self._builders.get(table) if isinstance(table, str) else None
            if table is None or builder is None:
                yield "", entry, f"no such table: {table}"
            else:
                row = entry.get("r")
                fault = builder.fault(row)
                yield table, entry if fault else row, fault

    def _quarantine(self, segment: Path, number: str, reason: str, value: object) -> None:
        path = segment.with_name(f"{segment.stem}-{number}.bad")
        _LOG.error("a row of %s does not fit and is kept in %s: %s", segment.name, path.name, reason)
        body = orjson.dumps({"segment": segment.name, "reason": reason, "value": value}, option=orjson.OPT_INDENT_2)
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        self.stats.quarantined += 1


class Shipper:
    """The thread that ships what ``writer`` spools: 20 ms after the first record of a batch, or at its 500th.

    What the log refuses stays in the spool and is tried again, for ever; order is kept. One shipper a writer.
    """

    def __init__(
        self,
        writer: SpoolWriter,
        log: EventLog,
        *,
        part: str = DEFAULT_PART,
        interval: float = 0.02,
        tables: Mapping[str, Table] = TABLES,
    ) -> None:
        self.stats = ShipperStats()
        self._writer, self._interval = writer, interval
        self._shipment = _Shipment(log, part, tables, self.stats)
        self._stopping = threading.Event()
        self._arrived = threading.Event()
        self._lock = threading.Lock()
        self._through = 0
        self._is_stopped = False
        self._waiters: deque[tuple[int, Future[None]]] = deque()
        self._thread = threading.Thread(target=self._run, name="spool-shipper", daemon=True)

    def start(self) -> None:
        """Begin: first with what an earlier worker left in this spool."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Ship what waits and end. False if something had to stay in the spool; it is safe there."""
        self._stopping.set()
        self._writer.crowded.set()
        self._arrived.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        with self._lock:
            self._is_stopped = True
            waiters, self._waiters = list(self._waiters), deque()
        for _, future in waiters:
            if future.set_running_or_notify_cancel():
                future.set_exception(Unavailable("The worker stopped before the event log had the record."))
        return not self._thread.is_alive() and self._writer.waiting() == (0, 0)

    def durable(self) -> Future[None]:
        """Done when everything appended so far is in the log; hurries it. For ``asyncio.wrap_future``."""
        future: Future[None] = Future()
        with self._lock:
            target = self._writer.appended()
            if self._through >= target:
                future.set_result(None)
                return future
            if self._is_stopped:
                future.set_exception(Unavailable("The worker has stopped; the record waits in its spool."))
                return future
            self._waiters.append((target, future))
        self._writer.crowded.set()
        return future

    def wait_durable(self, timeout: float) -> None:
        """Wait until everything appended so far is in the log. Raises ``Unavailable`` after ``timeout`` seconds."""
        try:
            self.durable().result(timeout)
        except TimeoutError:
            raise Unavailable(f"The event log did not take the record within {timeout} s.") from None

    def _run(self) -> None:
        delay = 0.0
        while True:
            try:
                segment = self._writer.sealed() or self._next()
                if segment is None:
                    if self._stopping.is_set():
                        return
                    continue
                self._shipment.ship(segment)
            except Exception as error:  # whatever it is, the records are safe in their segment: try again
                self.stats.failures += 1
                self.stats.last_error = str(error)
                expected = isinstance(error, Unavailable)
                _LOG.log(
                    logging.WARNING if expected else logging.ERROR,
                    "cannot ship yet: %s",
                    error,
                    exc_info=None if expected else error,
                )
                if self._stopping.is_set():
                    return
                delay = min(5.0, max(0.1, delay * 2))
                self._stopping.wait(delay * random.uniform(0.5, 1.0))
                continue
            delay = 0.0
            self._writer.release(segment)
            self._settle(segment.through)

    def _next(self) -> Segment | None:
        for _ in range(_IDLE_ROUNDS):
            if self._stopping.is_set():
                break
            age = self._writer.age()
            if age is not None and age >= self._interval:
                break
            if self._writer.crowded.wait(self._interval - (age or 0.0)):
                break
        else:
            # Nothing for a while: sleep until the next record instead of looking for one.
            self._arrived.clear()
            self._writer.wake_on_arrival(self._arrived)
            if not self._stopping.is_set():
                self._arrived.wait()
            return None
        self._writer.crowded.clear()
        self._writer.seal()
        return self._writer.sealed()

    def _settle(self, through: int) -> None:
        done = []
        with self._lock:
            self._through = max(self._through, through)
            while self._waiters and self._waiters[0][0] <= self._through:
                done.append(self._waiters.popleft()[1])
        for future in done:
            if future.set_running_or_notify_cancel():
                future.set_result(None)


def recover(directory: Path, log: EventLog, *, part: str = DEFAULT_PART) -> ShipperStats:
    """Ship what a worker that will not come back left in ``directory``. Does nothing while its worker is alive.

    Raises ``Unavailable`` if the log does; what was not shipped stays.
    """
    stats = ShipperStats()
    owner = lock_directory(directory)
    if owner is None:
        return stats
    try:
        shipment = _Shipment(log, part, TABLES, stats)
        for segment in left_segments(directory):
            shipment.ship(segment)
    finally:
        os.close(owner)
    return stats


def recover_abandoned(root: Path, log: EventLog, before: float, *, part: str = DEFAULT_PART) -> ShipperStats:
    """``recover`` every spool under ``root`` in which a segment has lain since ``before`` (Unix seconds).

    A worker that was only restarted ships its own; what is older belongs to one that no longer exists, because there
    are fewer workers now or because they were renamed.
    """
    total = ShipperStats()
    for directory in sorted(path for path in root.glob("*") if path.is_dir()):
        if any(_last_change(segment) < before for segment in directory.glob("*.seg")):
            stats = recover(directory, log, part=part)
            for name in ShipperStats.__dataclass_fields__:
                setattr(total, name, getattr(total, name) + getattr(stats, name))
    return total


def _last_change(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf  # shipped in the meantime
