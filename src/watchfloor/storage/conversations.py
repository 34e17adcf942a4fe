"""What conversations said and read, shared by the gateway workers of one host: an append-only file for each.

Above: ``gateway/conversations.py``, which knows what a record means. A record is one completed ``write(2)`` at the end
of the file, so it survives the process and every worker sees it at its next look, which costs one ``stat(2)``. Contents
are sealed with a key of the installation. A file that is full is set aside, and its readers are told that they do not
know everything any more; so are readers of a record that cannot be opened.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from watchfloor.model.errors import Unavailable

_LENGTH: Final = Struct("<I")
_NONCE: Final = 12
_LARGEST: Final = 16 * 1024 * 1024
_MOST_PATHS: Final = 4_096


@dataclass(frozen=True, slots=True)
class Place:
    """How far a reader has come: which file, and where in it."""

    file: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """What a reader did not know. ``restarts``: forget everything before; ``lost``: something is not known any more."""

    records: tuple[bytes, ...]
    place: Place
    restarts: bool = False
    lost: bool = False


class Sealer:
    """Seals records under their conversation's name, so that none can be read, or put into another one."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, name: str, record: bytes) -> bytes:
        """``record``, sealed."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, record, name.encode())

    def open(self, name: str, sealed: bytes) -> bytes | None:
        """The record; None if it is damaged, or not of this conversation."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], name.encode())
        except (InvalidTag, ValueError):
            return None


class ConversationFiles:
    """Files below ``directory``. ``key``: 32 secret bytes, the same in every worker; ``max_bytes`` bounds one file."""

    def __init__(self, directory: Path, key: bytes, *, max_bytes: int = 4 * 1024 * 1024) -> None:
        self._directory, self._sealer, self._max_bytes = directory, Sealer(key), max_bytes
        # pathlib costs more than the calls to the system: paths are plain strings here.
        self._base = str(directory)
        self._paths: dict[str, str] = {}

    def append(self, name: str, record: bytes) -> tuple[Place, Place]:
        """Add ``record`` to the conversation: where it begins and ends. Raises ``Unavailable``."""
        path = self._path(name)
        sealed = self._sealer.seal(name, record)
        frame = _LENGTH.pack(len(sealed)) + sealed
        try:
            try:
                file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                written = os.write(file, frame)
                end = os.lseek(file, 0, os.SEEK_CUR)
                inode = os.fstat(file).st_ino
            finally:
                os.close(file)
            if written != len(frame) or end > self._max_bytes:
                # Half a record hides those behind it, and a file may not grow for ever: begin a new one.
                os.replace(path, _aside(path))
        except OSError as error:
            raise Unavailable(f"cannot keep a conversation in {self._directory}: {error.strerror}") from error
        if written != len(frame):
            raise Unavailable(f"cannot keep a conversation in {self._directory}: the disk is full")
        return Place(inode, end - written), Place(inode, end)

    def read(self, name: str, since: Place) -> News:
        """The records behind ``since``. Raises ``Unavailable``."""
        path = self._path(name)
        try:
            try:
                status = os.stat(path)
            except FileNotFoundError:
                if since.file == 0 and not os.path.exists(_aside(path)):
                    return News((), since)
                return News((), Place(), restarts=since.file != 0, lost=True)
            if status.st_ino == since.file:
                if status.st_size == since.offset:
                    return News((), since)
                return self._parse(name, path, since, restarts=False, lost=False)
            return self._parse(
                name, path, Place(status.st_ino), restarts=since.file != 0, lost=os.path.exists(_aside(path))
            )
        except OSError as error:
            raise Unavailable(f"cannot read a conversation in {self._directory}: {error.strerror}") from error

    def _parse(self, name: str, path: str, since: Place, *, restarts: bool, lost: bool) -> News:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_ino != since.file:
                return News((), Place(), restarts=True, lost=True)  # set aside just now; the next look begins anew
            file.seek(since.offset)
            data = file.read()
        records, at = [], 0
        while at + _LENGTH.size <= len(data):
            (length,) = _LENGTH.unpack_from(data, at)
            end = at + _LENGTH.size + length
            if not _NONCE < length <= _LARGEST:
                lost, at = True, len(data)
                break
            if end > len(data):
                break  # a write that has not returned: its writer has not let anybody know what it holds
            record = self._sealer.open(name, data[at + _LENGTH.size : end])
            if record is None:
                lost = True
            else:
                records.append(record)
            at = end
        return News(tuple(records), Place(since.file, since.offset + at), restarts, lost)

    def sweep(self, *, idle_seconds: float, forget_seconds: float, now: float | None = None) -> None:
        """Empty what nobody has added to for ``idle_seconds``; forget that it was there after ``forget_seconds``."""
        now = time.time() if now is None else now
        for path in self._directory.glob("??/*"):
            try:
                age = now - path.stat().st_mtime
                if path.suffix == ".log" and age > idle_seconds:
                    # What is left says that there was something: whoever goes on here does not know everything.
                    path.replace(_aside(str(path)))
                elif path.suffix == ".aside" and age > forget_seconds:
                    path.unlink()
                elif path.suffix == ".aside" and path.stat().st_size and age > idle_seconds:
                    os.truncate(path, 0)
                    os.utime(path, (now, now))
            except FileNotFoundError:
                continue  # another worker was faster

    def _path(self, name: str) -> str:
        path = self._paths.get(name)
        if path is None:
            digest = hashlib.sha256(name.encode()).hexdigest()
            path = f"{self._base}/{digest[:2]}/{digest[2:42]}.log"
            if len(self._paths) >= _MOST_PATHS:
                self._paths.clear()
            self._paths[name] = path
        return path


def _aside(path: str) -> str:
    return path.removesuffix(".log") + ".aside"
