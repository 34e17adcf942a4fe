"""The one use of an approval: whoever takes it first may let the call out, and nobody else, on any host.

Gateway workers call this, outside their event loop, for calls that an operator has approved, and for those alone. Below
is the control database itself, as for ``projection``: a row with the hold's id as its key, committed before the call
goes out. A worker that dies after that has used the approval up; a call never goes out twice. Revoking an approval
takes the same row, in the transaction that revokes (``storage.holds``).
"""

from __future__ import annotations

import contextlib
import sqlite3
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final
from urllib.parse import quote

from watchfloor.model.errors import Unavailable
from watchfloor.storage.projection import DatabaseAddress

TAKE_SQL: Final = (
    "INSERT INTO hold_use (hold_id, taken_by, taken_at) VALUES ({0}, {0}, {0}) ON CONFLICT (hold_id) DO NOTHING"
)
GIVE_BACK_SQL: Final = "DELETE FROM hold_use WHERE hold_id = {0} AND taken_by = {0}"


class Claims(ABC):
    """Takes and gives back uses; safe between threads, one connection for each call. One class for each engine."""

    @staticmethod
    def open(url: str, *, timeout: float = 2.0) -> Claims:
        """Connects at first use. ``timeout``: seconds after which an answer that has not come counts as none."""
        address = DatabaseAddress.parse(url)
        if address.path is not None:
            return SqliteClaims(address.path, timeout)
        # Imported where it is used: the driver weighs 25 MB in every worker that has SQLite.
        from watchfloor.storage.claims_postgres import PostgresClaims

        return PostgresClaims(address, timeout)

    @abstractmethod
    def take(self, hold_id: str, taken_by: str, at: int) -> bool:
        """Take the use of ``hold_id`` for the invocation ``taken_by`` (``at``: Unix microseconds).

        False when it was taken before. Durable when this returns. Raises ``Unavailable``: then it is not known whether
        it was taken, and nothing may go out.
        """

    @abstractmethod
    def give_back(self, hold_id: str, taken_by: str) -> None:
        """The call that took it never went out: the approval may be used after all. Raises ``Unavailable``."""


class SqliteClaims(Claims):
    """In the control database's file."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._path, self._timeout = path, timeout

    def take(self, hold_id: str, taken_by: str, at: int) -> bool:
        """See ``Claims.take``."""
        return self._run(TAKE_SQL, (hold_id, taken_by, at)) == 1

    def give_back(self, hold_id: str, taken_by: str) -> None:
        """See ``Claims.give_back``."""
        self._run(GIVE_BACK_SQL, (hold_id, taken_by))

    def _run(self, sql: str, values: tuple[object, ...]) -> int:
        try:
            with contextlib.closing(
                sqlite3.connect(
                    f"file:{quote(str(self._path))}?mode=rw", uri=True, timeout=self._timeout, isolation_level=None
                )
            ) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                return connection.execute(sql.format("?"), values).rowcount
        except sqlite3.Error as error:
            raise Unavailable(f"cannot take an approval in {self._path}: {error}") from error
