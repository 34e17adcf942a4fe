"""What the workers of one host count, each seen by the others: a file for each, written by one and mapped by all.

``counters`` puts its counts on the board ten times a second and asks it what the others have counted. Times are seconds
of the monotonic clock, which is one clock for all processes of a host. Nothing is locked: a count that is read while it
is written may be off until it is read again. Bounded: when there are too many keys, the one that ends first is
forgotten.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

from watchfloor.model.errors import Unavailable

STEPS: Final = 12
"""Parts of a window that are counted apart."""

_SLOTS: Final = 16_384
_SLOT: Final = struct.Struct(f"<QII{STEPS}I")
"""Whose count, when the last of it ends, the last step that was counted in, and the counts by step modulo ``STEPS``."""
_SIZE: Final = 64
_TRIES: Final = 8
assert _SLOT.size == _SIZE


def _magic() -> bytes:
    """The head of a file: its version, and which start of this machine its times belong to."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        boot = b""
    return (b"WFCOUNT1" + boot)[:_SIZE].ljust(_SIZE, b"\0")


def name_of(window: str, key: object) -> int:
    """The 64 bits under which a key of a window is found; never 0."""
    return int.from_bytes(blake2b(f"{window}\0{key!r}".encode("utf-8", "surrogatepass"), digest_size=8).digest()) or 1


class Board:
    """The board of the host, as one worker sees it."""

    def __init__(self, directory: Path, worker_id: str) -> None:
        self._directory, self._mine = directory, f"{worker_id}.counts"
        self._others: dict[str, mmap.mmap] = {}
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own = _open(directory / self._mine, is_mine=True)
        except OSError as error:
            raise Unavailable(f"cannot count in {directory}: {error.strerror}") from error

    def put(self, name: int, step: int, seconds: float, counts: Sequence[int]) -> None:
        """What this worker has counted under ``name`` in the ``STEPS`` steps (of ``seconds``) up to ``step``."""
        now, ends = int(step * seconds), int((step + STEPS) * seconds) + 1
        best, earliest = 0, -1
        for offset in _places(name):
            found, until = _SLOT.unpack_from(self._own, offset)[:2]
            if found in (name, 0) or until <= now:
                best = offset
                break
            if earliest < 0 or until < earliest:
                best, earliest = offset, until
        _SLOT.pack_into(self._own, best, name, ends, step, *counts)

    def others(self, name: int, step: int) -> int:
        """What the other workers have counted under ``name`` in the ``STEPS`` steps up to ``step``."""
        total = 0
        for board in self._others.values():
            for offset in _places(name):
                found, _, last, *counts = _SLOT.unpack_from(board, offset)
                if found == name:
                    first = max(step, last) - STEPS + 1
                    total += sum(counts[t % STEPS] for t in range(first, last + 1))
                    break
        return total

    def look(self) -> None:
        """See which other workers there are."""
        try:
            names = {path.name for path in self._directory.glob("*.counts")} - {self._mine}
        except OSError:
            return
        for gone in self._others.keys() - names:
            self._others.pop(gone).close()
        for fresh in names - self._others.keys():
            with contextlib.suppress(OSError, ValueError):
                self._others[fresh] = _open(self._directory / fresh, is_mine=False)

    def close(self) -> None:
        """Let go of the files. What was counted stays in them until it is too old to count."""
        for board in (self._own, *self._others.values()):
            board.close()
        self._others.clear()


def _places(name: int) -> Iterable[int]:
    start = name % _SLOTS
    return ((_SIZE * (1 + (start + n) % _SLOTS)) for n in range(_TRIES))


def _open(path: Path, *, is_mine: bool) -> mmap.mmap:
    """The file, mapped. It must neither shrink nor have holes: touching what is not there ends the process."""
    size, magic = _SIZE * (1 + _SLOTS), _magic()
    if not is_mine:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != size:
                raise ValueError(f"{path} is no board of this version")
            board = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        if board[:_SIZE] != magic:
            board.close()
            raise ValueError(f"{path} is no board of this version, or older than this start of the machine")
        return board
    with contextlib.suppress(OSError):
        if path.read_bytes()[:_SIZE] != magic or path.stat().st_size != size:
            path.unlink()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        made = mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
    made[:_SIZE] = magic
    return made
