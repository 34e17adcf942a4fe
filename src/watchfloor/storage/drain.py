"""From the event log into the event store.

``Drain`` is the loop of the store process: read what is new, store it, trim the log. It holds no state that matters:
the store's cursor, which commits with the rows, decides what is new, so a death at any point repeats work and doubles
nothing.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from typing import Final, Protocol

from watchfloor.model.errors import InputError, Unavailable
from watchfloor.storage.log import DEFAULT_PART
from watchfloor.storage.ports import EventLog, LogBatch, Seq

_LOG: Final = logging.getLogger(__name__)


class Ingesting(Protocol):
    """An event store that takes batches of several tables in one transaction."""

    def ingest(self, batches: Sequence[LogBatch]) -> int:
        """See ``DuckDbStore.ingest``."""
        ...


class Drain:
    """Moves one partition of ``log`` into ``store``. One drain a partition.

    A round moves what waits, up to ``max_rows``, and costs the store the same few hundredths of a second whatever it
    moves. So rounds that do not fill up follow each other ``interval`` seconds apart, and only a store that is behind
    goes on at once.
    """

    def __init__(
        self,
        log: EventLog,
        store: Ingesting,
        part: str = DEFAULT_PART,
        *,
        max_rows: int = 20_000,
        interval: float = 0.3,
    ) -> None:
        self.rows = 0
        """Rows stored so far."""
        self.fault = ""
        """Why nothing moves, while nothing moves."""
        self._log, self._store, self._part = log, store, part
        self._max_rows, self._interval = max_rows, interval
        self._after = Seq(0)

    def step(self) -> int:
        """Move one round. Returns how many rows of the log it read, 0 if nothing was waiting.

        Raises ``Unavailable``; the next round then repeats it.
        """
        batches = self._log.read(self._part, self._after, self._max_rows)
        if not batches:
            return 0
        try:
            self.rows += self._store.ingest(batches)
        except InputError:
            self._one_by_one(batches)
        self._log.trim(self._part, batches[-1].seq)
        self._after = batches[-1].seq
        return sum(batch.batch.num_rows for batch in batches)

    def run(self, stop: threading.Event) -> None:
        """Until ``stop``, and then until nothing waits. A log or store that does not answer is tried again."""
        delay = 0.0
        while True:
            start = time.monotonic()
            try:
                moved = self.step()
            except Unavailable as error:
                self.fault = str(error)
                _LOG.warning("cannot drain the event log: %s", error)
                if stop.is_set():
                    return
                delay = min(5.0, max(0.1, delay * 2))
                stop.wait(delay * random.uniform(0.5, 1.0))
                continue
            delay, self.fault = 0.0, ""
            if not moved and stop.is_set():
                return
            if moved < self._max_rows:
                stop.wait(max(0.0, self._interval - (time.monotonic() - start)))

    def _one_by_one(self, batches: Sequence[LogBatch]) -> None:
        # One of them does not fit. The others must not wait behind it for ever.
        for batch in batches:
            try:
                self.rows += self._store.ingest([batch])
            except InputError as error:
                _LOG.error("batch %s of %s is set aside: %s", batch.seq, batch.table, error)
                self._log.set_aside(self._part, batch.seq, str(error))


def drain(log: EventLog, store: Ingesting, part: str = DEFAULT_PART) -> int:
    """Move everything that waits now. Returns how many rows were stored."""
    loop = Drain(log, store, part)
    while loop.step():
        pass
    return loop.rows
