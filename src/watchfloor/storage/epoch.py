"""The epoch file: how one host's processes learn, in well under a microsecond, that state has moved.

The control plane stores the number of its last committed change here and beats while the database answers; gateway
workers look before every decision. Above: ``control`` (writes), the gateway (reads). It knows nothing of what changed,
and it is only ever ahead of a worker, never behind an acknowledged commit.

INVARIANT: the revision never falls. Whoever lowers it would hide a revocation from every worker on the host.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from watchfloor.model.errors import Corrupt, Unavailable

MAGIC: Final = b"WFEPOCH1"
SIZE: Final = 64
# Slots of eight bytes, each written by one aligned store: a reader never sees half of a number.
_REVISION: Final = 1
_HEARTBEAT: Final = 2
_BOOT: Final = 3


def _boot_token() -> int:
    """A number for this boot of the machine: CLOCK_MONOTONIC means nothing across a reboot."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return 1
    return int(boot_id.replace("-", "").strip()[:16], 16) or 1


class EpochFile:
    """64 mapped bytes: magic, revision, heartbeat (monotonic ns), boot. ``create`` to write, ``open`` to read."""

    __slots__ = ("_boot", "_clock", "_descriptor", "_lock", "_map", "_slots", "_writable", "path")

    def __init__(self, path: Path, descriptor: int, *, writable: bool, clock: Callable[[], int]) -> None:
        self.path = path
        self._descriptor = descriptor
        self._writable = writable
        self._clock = clock
        self._lock = threading.Lock()
        self._boot = _boot_token()
        self._map = mmap.mmap(
            descriptor,
            SIZE,
            flags=mmap.MAP_SHARED,
            prot=mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ,
        )
        self._slots = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, path: Path | str, *, clock: Callable[[], int] = time.monotonic_ns) -> Self:
        """Open ``path`` for writing; a missing file is made whole before it gets its name. Idempotent."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                _make(path)
        except OSError as error:
            raise Unavailable(f"cannot make the epoch file {path}: {error.strerror}") from error
        return cls._map_file(path, writable=True, clock=clock)

    @classmethod
    def open(cls, path: Path | str, *, clock: Callable[[], int] = time.monotonic_ns) -> Self:
        """Open ``path`` for reading. Raises ``Unavailable`` if the control plane has not made it yet."""
        return cls._map_file(Path(path), writable=False, clock=clock)

    @classmethod
    def _map_file(cls, path: Path, *, writable: bool, clock: Callable[[], int]) -> Self:
        try:
            descriptor = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        except OSError as error:
            raise Unavailable(
                f"cannot open the epoch file {path}: {error.strerror}. The server creates it when it starts."
            ) from error
        try:
            if os.fstat(descriptor).st_size != SIZE or os.pread(descriptor, 8, 0) != MAGIC:
                raise Corrupt(f"{path} is not an epoch file. Stop Watchfloor, delete it and start again.")
            return cls(path, descriptor, writable=writable, clock=clock)
        except BaseException:
            os.close(descriptor)
            raise

    def revision(self) -> int:
        """The newest acknowledged change."""
        return self._slots[_REVISION]

    def raise_to(self, revision: int) -> None:
        """Announce ``revision``; a lower one than stands there changes nothing. Safe between threads and processes."""
        self._must_be_writable()
        # Comparing and storing are two steps: without the locks, two writers could lower the number between them.
        with self._lock:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                if revision > self._slots[_REVISION]:
                    self._slots[_REVISION] = revision
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def beat(self) -> None:
        """Say that the control plane is alive and its database answers."""
        self._must_be_writable()
        self._slots[_HEARTBEAT] = self._clock()
        self._slots[_BOOT] = self._boot

    def age_seconds(self) -> float:
        """Seconds since the last beat; infinite if there was none since this machine started."""
        slots = self._slots
        beat = slots[_HEARTBEAT]
        if beat == 0 or slots[_BOOT] != self._boot:
            return math.inf
        age = self._clock() - beat
        return age / 1e9 if age > 0 else 0.0

    def close(self) -> None:
        """Let go of the file; the object is of no use afterwards."""
        self._slots.release()
        self._map.close()
        os.close(self._descriptor)

    def _must_be_writable(self) -> None:
        if not self._writable:
            raise RuntimeError(f"{self.path} was opened for reading; only EpochFile.create opens it for writing")


def _make(path: Path) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.write(descriptor, MAGIC + bytes(SIZE - len(MAGIC)))
        os.fsync(descriptor)
        # Linking fails where somebody was faster: then theirs is the file.
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.close(descriptor)
        Path(name).unlink()
