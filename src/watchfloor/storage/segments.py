"""Segment files: where a worker's records wait, safe from the worker's own death.

``SpoolWriter.append`` is one completed ``write(2)`` into the current segment; closed segments queue up for the shipper
of ``spool.py``, which stands above and is the only reader. What a record says is not known here.

A segment is a sequence of ``[u32 length][u32 crc32][payload]``, little endian. Its name is unique for ever, and is the
key by which the log recognises a batch that it has already seen: shipping twice stores once.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final, Self

from watchfloor.model.errors import Unavailable

_HEADER: Final = Struct("<II")
_MIB: Final = 1 << 20
_KEPT_BYTES: Final = 2 * _MIB


@dataclass(frozen=True, slots=True)
class Segment:
    """A closed segment. ``through`` counts the records that its worker had appended when it was closed.

    ``contents`` saves reading the file again, where it is small and still at hand.
    """

    path: Path
    records: int
    size: int
    through: int = 0
    contents: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What a segment file holds. ``is_torn``: it ends inside a record; ``is_corrupt``: a whole record is damaged."""

    records: tuple[bytes, ...]
    is_torn: bool
    is_corrupt: bool


def parse_segment(data: bytes) -> Contents:
    """Every good record of ``data`` in order, also those behind a damaged one."""
    records: list[bytes] = []
    at, end, is_torn, is_corrupt = 0, len(data), False, False
    while at < end:
        record = _record_at(data, at)
        if record is not None:
            records.append(record)
            at += _HEADER.size + len(record)
            continue
        behind = _next_record(data, at + 1)
        if behind is not None:
            is_corrupt, at = True, behind
            continue
        # Nothing good follows. A record that is merely short is one whose write was cut off, so nobody was told that
        # it was recorded. A record of full length with a wrong checksum was whole once: that is damage, not a cut.
        is_short = end - at < _HEADER.size or _HEADER.unpack_from(data, at)[0] > end - at - _HEADER.size
        is_torn, is_corrupt = is_torn or is_short, is_corrupt or not is_short
        break
    return Contents(tuple(records), is_torn, is_corrupt)


def _record_at(data: bytes, at: int) -> bytes | None:
    start = at + _HEADER.size
    if start > len(data):
        return None
    length, checksum = _HEADER.unpack_from(data, at)
    if not 0 < length <= len(data) - start:
        return None
    record = data[start : start + length]
    return record if zlib.crc32(record) == checksum else None


def _next_record(data: bytes, after: int) -> int | None:
    # Payloads are JSON, which has no bytes below 0x20 and few above 0x7e: four of them read as a length are larger
    # than any segment. So no payload can be mistaken for the start of a record, and the search is linear.
    for at in range(after, len(data) - _HEADER.size):
        if _record_at(data, at) is not None:
            return at
    return None


class SpoolWriter:
    """Where one worker's records wait. Owns ``directory`` until closed; every method may be called from any thread.

    ``max_bytes`` bounds what waits, segments of earlier lives included. A segment is closed by ``seal`` or when it
    reaches ``segment_bytes``. Raises ``Unavailable`` where another living worker owns the directory.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int = 256 * _MIB,
        segment_bytes: int = 8 * _MIB,
        crowd: int = 500,
    ) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self.crowded = threading.Event()
        """Set when the current segment reaches ``crowd`` records."""
        self._wake: threading.Event | None = None
        self._max_bytes, self._segment_bytes, self._crowd = max_bytes, segment_bytes, crowd
        self._lock = threading.Lock()
        self._owner = lock_directory(directory)
        if self._owner is None:
            raise Unavailable(f"The spool {directory} belongs to a worker that is still running.")
        boot = f"{time.time_ns() // 1_000_000:011x}{os.urandom(4).hex()}"
        self._names = (directory / f"{directory.name}-{boot}-{n:012d}.seg" for n in itertools.count(1))
        self._sealed = deque(left_segments(directory))
        self._sealed_bytes = sum(s.size for s in self._sealed)
        self._sealed_records = sum(s.records for s in self._sealed)
        self._appended = 0
        self._is_torn = False
        self._open_next(self._create())

    def append(self, record: bytes) -> None:
        """Store ``record`` (JSON); when this returns it survives the death of this process.

        Raises ``Unavailable`` when the spool is full or the disk refuses; the record is then not stored, nor will it
        ever appear.
        """
        frame = _HEADER.pack(len(record), zlib.crc32(record)) + record
        size = len(frame)
        with self._lock:
            if self._sealed_bytes + self._size + size > self._max_bytes:
                raise Unavailable(f"The spool {self.directory} is full: the event log takes nothing.")
            if self._is_torn:
                self._cut_back()
            if self._records and self._size + size > self._segment_bytes:
                self._close_current(self._create())
            try:
                written = os.write(self._fd, frame)
            except OSError as error:
                self._cut_back()
                raise Unavailable(f"Cannot write to the spool {self.directory}: {error.strerror}.") from error
            if written != size:
                self._cut_back()
                raise Unavailable(f"Cannot write to the spool {self.directory}: the disk took only part of a record.")
            self._size += size
            self._records += 1
            self._appended += 1
            if self._size <= _KEPT_BYTES:
                self._contents.append(record)
            if self._records == 1:
                self._since = time.monotonic()
                if self._wake is not None:
                    self._wake.set()
                    self._wake = None
            if self._records == self._crowd:
                self.crowded.set()

    def seal(self) -> Path | None:
        """Close the current segment and return its path; None if it is empty. Raises ``Unavailable``."""
        with self._lock:
            if not self._records:
                return None
        following = self._create()  # outside the lock: opening a file must not make an append wait
        with self._lock:
            if self._records:
                return self._close_current(following)
        os.close(following[0])
        following[1].unlink()
        return None

    def age(self) -> float | None:
        """Seconds since the first record of the current segment; None if it is empty."""
        with self._lock:
            return time.monotonic() - self._since if self._records else None

    def wake_on_arrival(self, event: threading.Event) -> None:
        """Set ``event`` at the next record (at once if one is here). Once only: a wake-up costs more than an append."""
        with self._lock:
            if self._records:
                event.set()
            else:
                self._wake = event

    def sealed(self) -> Segment | None:
        """The oldest closed segment."""
        with self._lock:
            return self._sealed[0] if self._sealed else None

    def release(self, segment: Segment) -> None:
        """``segment``, the oldest one, is in the log: forget it."""
        with self._lock:
            assert self._sealed[0] is segment
            self._sealed.popleft()
            self._sealed_bytes -= segment.size
            self._sealed_records -= segment.records

    def waiting(self) -> tuple[int, int]:
        """Records and bytes that are not in the log yet."""
        with self._lock:
            return self._sealed_records + self._records, self._sealed_bytes + self._size

    def appended(self) -> int:
        """How many records were ever appended by this writer."""
        return self._appended

    def close(self) -> None:
        """Give the directory back. What waits stays on disk, for whoever ships it next."""
        with self._lock:
            if self._owner is None:
                return
            os.close(self._fd)
            if not self._records:
                self._path.unlink(missing_ok=True)
            os.close(self._owner)
            self._owner = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _create(self) -> tuple[int, Path]:
        path = next(self._names)
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600), path
        except OSError as error:
            raise Unavailable(f"Cannot open a segment in the spool {self.directory}: {error.strerror}.") from error

    def _open_next(self, opened: tuple[int, Path]) -> None:
        self._fd, self._path = opened
        self._records = self._size = 0
        self._contents: list[bytes] = []
        self._is_torn = False

    def _close_current(self, following: tuple[int, Path]) -> Path:
        os.close(self._fd)
        # Segments that queue up behind another are read from their files: memory stays bounded when the log is down.
        contents = tuple(self._contents) if self._size <= _KEPT_BYTES and not self._sealed else None
        segment = Segment(self._path, self._records, self._size, self._appended, contents)
        self._sealed.append(segment)
        self._sealed_bytes += segment.size
        self._sealed_records += segment.records
        self._open_next(following)
        self.crowded.clear()
        return segment.path

    def _cut_back(self) -> None:
        """Remove what a failed write left behind the last good record; as long as that fails, so does every append."""
        self._is_torn = True
        try:
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            raise Unavailable(f"Cannot repair the spool {self.directory}: {error.strerror}.") from error
        self._is_torn = False


def lock_directory(directory: Path) -> int | None:
    """Own ``directory`` until the returned descriptor is closed or the process dies; None if somebody else owns it."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def left_segments(directory: Path) -> Iterator[Segment]:
    """Segments in ``directory``, oldest first. Only whoever owns the directory may ask."""
    for path in sorted(directory.glob("*.seg")):
        yield Segment(path, _count(path), path.stat().st_size)


def _count(path: Path) -> int:
    records, at = 0, 0
    with path.open("rb") as file:
        while len(header := os.pread(file.fileno(), _HEADER.size, at)) == _HEADER.size:
            length, _ = _HEADER.unpack(header)
            if length == 0:
                break
            records, at = records + 1, at + _HEADER.size + length
    return records
