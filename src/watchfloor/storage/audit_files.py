"""Where audit entries and checkpoints are kept: the log in the database, exports, and the checkpoint file.

``control`` makes a ``Checkpoints`` vouch for what it committed; the command line reads a log from wherever it is and
hands it to ``audit.verify``. Nothing here decides whether a log is intact.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from watchfloor.model.errors import Unavailable
from watchfloor.storage import engines
from watchfloor.storage.audit import COLUMNS, Checkpoint, Fault, FaultKind, Row, Signer, canonical, chain_faults
from watchfloor.storage.projection import DatabaseAddress

EVERY_ENTRIES: Final = 100
EVERY_SECONDS: Final = 10.0
"""A checkpoint is due after so many entries, or when an entry has waited for one that long."""

# Plain types and the detail as text: a row that was tampered with must reach the verifier, whatever it holds.
_ROWS: Final = (
    "SELECT seq, at, actor, action, subject, CAST(detail AS TEXT), prev_hash, hash FROM audit "
    "WHERE seq >= :first ORDER BY seq"
)


class Checkpoints:
    """The checkpoint file of a running server: knows the newest one and appends the next.

    INVARIANT: it only ever vouches for entries that follow, hash by hash, from the newest checkpoint. A log that was
    tampered with gets no further signature; ``problem`` then says why, and verification names the rows.
    """

    def __init__(self, signer: Signer, path: Path) -> None:
        self.path = path
        self.problem: str | None = None
        self._signer = signer
        self._lock = threading.Lock()
        self._last = _newest(path, signer)
        _drop_torn_line(path)
        self._waiting_since: datetime | None = None

    @classmethod
    def open(cls, key_path: Path | str, path: Path | str) -> Checkpoints:
        """``key_path``: the private key, made if missing. ``path``: the file of JSON lines, made with the first one."""
        return cls(Signer.open(key_path), Path(path))

    @property
    def signer(self) -> Signer:
        """The key that vouches."""
        return self._signer

    @property
    def last_seq(self) -> int:
        """The newest entry that is vouched for; 0 when there is none."""
        return self._last.seq if self._last else 0

    def is_due(self, tail: int, now: datetime) -> bool:
        """Whether a checkpoint should be made, when ``tail`` is the newest entry."""
        with self._lock:
            if tail == self.last_seq:
                self._waiting_since = None
                return False
            if self._waiting_since is None:
                self._waiting_since = now
            waited = (now - self._waiting_since).total_seconds()
            if self._last is None:
                return True
            # A clock that was set back must not put checkpoints off.
            return abs(tail - self.last_seq) >= EVERY_ENTRIES or not 0 <= waited < EVERY_SECONDS

    def vouch(self, rows: Sequence[Row], now: datetime) -> None:
        """Sign the last of ``rows``: the entries from ``last_seq`` on, that one included.

        Never raises for what it finds: the change that is being logged has been committed. See ``problem``.
        """
        with self._lock:
            self._waiting_since = None
            known = [] if self._last is None else [self._last]
            faults = chain_faults(rows, known, first=max(1, self.last_seq))
            if faults:
                self.problem = (
                    f"the audit log does not follow from its last checkpoint and is not signed any more: {faults[0]}. "
                    f"If a backup was restored, put {self.path} aside and keep it. If not, run: watchfloor audit verify"
                )
                return
            if not rows or rows[-1].seq <= self.last_seq:
                return
            checkpoint = self._signer.sign(rows[-1].seq, rows[-1].hash, now)
            try:
                _append(self.path, checkpoint.to_line())
            except OSError as error:
                self.problem = f"cannot write audit checkpoints to {self.path}: {error.strerror}"
                return
            self._last = checkpoint
            self.problem = None


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _drop_torn_line(path: Path) -> None:
    """A power cut may leave half a line; what follows must not be written onto it."""
    if not path.exists():
        return
    try:
        with path.open("rb+") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
    except OSError as error:
        raise Unavailable(f"cannot open the checkpoints {path}: {error.strerror}") from error


def _newest(path: Path, signer: Signer) -> Checkpoint | None:
    newest: Checkpoint | None = None
    checkpoints, _ = read_checkpoints(path) if path.exists() else ([], [])
    for checkpoint in checkpoints:
        if checkpoint.is_signed_by(signer.public_key) and (newest is None or checkpoint.seq > newest.seq):
            newest = checkpoint
    return newest


def read_checkpoints(path: Path | str) -> tuple[list[Checkpoint], list[Fault]]:
    """The checkpoints of a file, and what in it is none. Raises ``Unavailable`` if it cannot be read."""
    checkpoints: list[Checkpoint] = []
    faults: list[Fault] = []
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise Unavailable(f"cannot read the checkpoints {path}: {error.strerror}") from error
    # What stands behind the last line end was never finished: a power cut, or a line being written at this moment.
    for number, line in enumerate(lines[:-1], 1):
        try:
            checkpoints.append(Checkpoint.from_line(line))
        except (ValueError, RecursionError):
            faults.append(Fault(FaultKind.UNREADABLE, 0, 0, f"line {number} of {path} is no checkpoint"))
    return checkpoints, faults


def read_export(path: Path | str) -> Iterator[Row | Fault]:
    """The rows of an export (JSON lines), and a fault for each line that is none."""
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    content = json.loads(line)
                    if not isinstance(content, dict) or content.keys() != set(COLUMNS):
                        raise ValueError("not an entry")
                    yield Row(**content)
                except (ValueError, RecursionError):
                    yield Fault(FaultKind.UNREADABLE, 0, 0, f"line {number} of {path} is no audit entry")
    except OSError as error:
        raise Unavailable(f"cannot read the export {path}: {error.strerror}") from error


def _row(values: Sequence[Any]) -> Row:
    seq, at, actor, action, subject, detail, prev_hash, row_hash = values
    try:
        detail = json.loads(detail)
    except (TypeError, ValueError, RecursionError):
        detail = object()  # has no canonical form, so that the row does not verify
    return Row(seq, at, actor, action, subject, detail, prev_hash, row_hash)


def export_line(row: Row) -> str:
    """``row`` as a line of an export."""
    detail = "(unreadable)" if type(row.detail) is object else row.detail
    return canonical({**row.to_json(), "detail": detail}).decode()


def rows_since(database: engines.Database, first: int) -> list[Row]:
    """The entries from number ``first`` on."""
    with database.evidence() as connection:
        return [_row(values) for values in connection.execute(sa.text(_ROWS), {"first": first})]


def read_database(url: str) -> Iterator[Row]:
    """The entries of a database, which need not be in use. Raises ``Unavailable``; never writes."""
    database = engines.connect(DatabaseAddress.parse(url), read_only=True)
    try:
        with database.errors(), database.evidence() as connection:
            result = connection.execution_options(yield_per=1000).execute(sa.text(_ROWS), {"first": 0})
            for values in result:
                yield _row(values)
    finally:
        database.dispose()
