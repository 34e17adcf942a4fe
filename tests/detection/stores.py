"""Real stores for tests of detection and of what stands above it: SQLite, DuckDB, the KQL compiler."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from detection.rows import row
from watchfloor.storage.activity import Activity
from watchfloor.storage.audit_files import Checkpoints
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.control import SqlControlStore, utc_now
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.events import DuckDbStore
from watchfloor.storage.ports import LogBatch, Seq
from watchfloor.storage.tables import TABLES


@dataclass
class Stores:
    """Control state and events of one test."""

    control: SqlControlStore
    events: DuckDbStore
    compiler: KqlCompiler
    epoch: EpochFile
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def activity(self) -> Activity:
        """The event store, asked as the product asks it."""
        return Activity(self.events, self.compiler)

    def write(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows as a gateway worker's batch would bring them."""
        batch = TABLES[table].batch(rows)
        self.events.write(table, [LogBatch("0", Seq(next(self._numbers)), table, batch)])

    def arrive(self, *steps: Mapping[str, Any]) -> None:
        """Steps in few words, in one batch; ids count on over batches unless given."""
        self.arrive_numbered(*steps)

    def arrive_numbered(self, *steps: Mapping[str, Any]) -> list[int]:
        """As ``arrive``; the numbers that the steps' ids were made of."""
        numbers = [next(self._numbers) for _ in steps]
        self.write("AgentActivity", [row(s, n) for s, n in zip(steps, numbers, strict=True)])
        return numbers


@contextmanager
def open_stores(directory: Path, now: Callable[[], datetime] = utc_now) -> Iterator[Stores]:
    """Fresh stores under ``directory``."""
    epoch = EpochFile.create(directory / "epoch")
    checkpoints = Checkpoints.open(directory / "keys" / "audit.key", directory / "audit-checkpoints.jsonl")
    control = SqlControlStore.open(
        f"sqlite:///{directory / 'control.db'}", epoch=epoch, now=now, checkpoints=checkpoints
    )
    events = DuckDbStore(directory / "store.duckdb", directory / "cold")
    try:
        yield Stores(control, events, KqlCompiler(), epoch)
    finally:
        with contextlib.suppress(OSError):  # a test may have closed it to see what its absence does
            events.close()
        control.close()
        epoch.close()
