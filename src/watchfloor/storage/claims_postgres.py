"""Uses of approvals in PostgreSQL; ``Claims.open`` chooses it. See ``claims``."""

from __future__ import annotations

import math

import psycopg

from watchfloor.model.errors import Unavailable
from watchfloor.storage.claims import GIVE_BACK_SQL, TAKE_SQL, Claims
from watchfloor.storage.projection import DatabaseAddress


class PostgresClaims(Claims):
    """A connection for each use: approvals are few, and one that is idle for hours may be cut unnoticed."""

    def __init__(self, address: DatabaseAddress, timeout: float) -> None:
        self._address, self._timeout = address, timeout

    def take(self, hold_id: str, taken_by: str, at: int) -> bool:
        """See ``Claims.take``."""
        return self._run(TAKE_SQL, (hold_id, taken_by, at)) == 1

    def give_back(self, hold_id: str, taken_by: str) -> None:
        """See ``Claims.give_back``."""
        self._run(GIVE_BACK_SQL, (hold_id, taken_by))

    def _run(self, sql: str, values: tuple[object, ...]) -> int:
        milliseconds = int(self._timeout * 1000)
        try:
            with psycopg.connect(
                self._address.uri,
                autocommit=True,
                connect_timeout=max(2, math.ceil(self._timeout)),
                application_name="watchfloor-claims",
                # A server that is paused keeps its socket open: the kernel gives up on it after this long.
                tcp_user_timeout=milliseconds,
                options=f"-c statement_timeout={milliseconds} -c synchronous_commit=on",
            ) as connection:
                return connection.execute(sql.format("%s"), values).rowcount
        except psycopg.Error as error:
            raise Unavailable(f"cannot take an approval in {self._address.label}: {str(error).strip()}") from error
