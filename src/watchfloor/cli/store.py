"""``watchfloor store``: the process that owns the event store of this machine.

It drains the event log into DuckDB, serves queries on a Unix socket, and keeps retention. Everything that matters is in
``storage``; here it is only put together and taken down: SIGTERM finishes the round at hand, drains what waits, brings
the file up to date and exits; after ``kill -9`` the next start goes on where the last commit was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click
import uvicorn

from watchfloor.model.errors import Conflict, Unavailable, WatchfloorError
from watchfloor.settings import load
from watchfloor.storage.drain import Drain
from watchfloor.storage.events import DuckDbStore
from watchfloor.storage.log import DEFAULT_PART, SqliteLog
from watchfloor.storage.log_postgres import PostgresLog
from watchfloor.storage.ports import Retention
from watchfloor.storage.remote import store_app
from watchfloor.storage.spool import recover_abandoned

_LOG: Final = logging.getLogger(__name__)
_ADDRESS_SPACE: Final = 16 * 2**30
"""Bytes."""
_ABANDONED_SECONDS: Final = 60.0
"""A spool segment older than this waits for a worker that will not come."""


class _Server(uvicorn.Server):
    """Ends on a signal without raising it again: there is work to do after the last answer."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True


class StoreProcess:
    """The parts of the store process. ``run`` blocks until ``stop``, a signal or a fault; the latter raises."""

    def __init__(
        self,
        store: DuckDbStore,
        log: SqliteLog | PostgresLog,
        socket_path: Path,
        *,
        part: str = DEFAULT_PART,
        drain_rows: int = 20_000,
        maintain_every: float = 3600.0,
        spool: Path | None = None,
    ) -> None:
        self._store, self._log, self._socket_path, self._spool = store, log, socket_path, spool
        self._drain = Drain(log, store, part, max_rows=drain_rows)
        self._maintain_every = maintain_every
        self._stopping = threading.Event()
        self._fault: BaseException | None = None
        self._maintenance_fault = ""
        self._server = _Server(
            uvicorn.Config(
                store_app(store, self.health), log_config=None, access_log=False, lifespan="off", server_header=False
            )
        )

    def health(self) -> dict[str, Any]:
        """What ``GET /health`` says. ``lag_seconds``: how long the oldest event not yet in the store has waited."""
        body: dict[str, Any] = {"status": "ok", "pid": os.getpid(), "rows_stored": self._drain.rows}
        faults = [f for f in (self._drain.fault, self._maintenance_fault) if f]
        try:
            backlog = self._log.backlog()
        except WatchfloorError as error:
            return body | {"status": "degraded", "faults": [*faults, str(error)]}
        return body | {
            "status": "degraded" if faults else "ok",
            "faults": faults,
            "lag_seconds": backlog.oldest_age_seconds,
            "backlog": {"rows": backlog.rows, "bytes": backlog.bytes, "set_aside": backlog.set_aside},
        }

    def run(self) -> None:
        """Serve until told to stop, then leave everything tidy."""
        threads = [
            threading.Thread(target=self._guarded, args=(lambda: self._drain.run(self._stopping),), name="drain"),
            threading.Thread(target=self._guarded, args=(self._maintain,), name="maintain"),
        ]
        with _listening(self._socket_path) as listener:
            for thread in threads:
                thread.start()
            try:
                self._server.run(sockets=[listener])  # returns after SIGTERM or SIGINT
            finally:
                self._stopping.set()
                for thread in threads:
                    thread.join()
        if self._fault is not None:
            raise self._fault
        self._store.checkpoint()

    def stop(self) -> None:
        """As SIGTERM does."""
        self._server.should_exit = True

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # a process that serves but no longer drains must end, to be started anew
            _LOG.exception("the store process cannot go on")
            self._fault = error
            self.stop()

    def _ship_what_is_left(self) -> None:
        """Decisions in the spools of workers that no longer exist."""
        if self._spool is None:
            return
        try:
            stats = recover_abandoned(self._spool, self._log, time.time() - _ABANDONED_SECONDS)
            if stats.records:
                _LOG.info("shipped %d records that workers had left", stats.records)
        except (WatchfloorError, OSError) as error:
            _LOG.warning("records that workers left cannot be shipped yet: %s", error)

    def _maintain(self) -> None:
        due = look = time.monotonic()
        while not self._stopping.is_set():
            self._store.probe()
            if time.monotonic() >= look:
                look = time.monotonic() + _ABANDONED_SECONDS
                self._ship_what_is_left()
            if time.monotonic() >= due:
                due = time.monotonic() + self._maintain_every
                try:
                    report = self._store.maintain(datetime.now(UTC))
                    self._maintenance_fault = ""
                    if report.exported or report.dropped:
                        _LOG.info("moved to Parquet: %s; dropped: %s", dict(report.exported), list(report.dropped))
                except WatchfloorError as error:
                    self._maintenance_fault = str(error)
                    _LOG.error("maintenance failed and is tried again: %s", error)
                    due = time.monotonic() + min(60.0, self._maintain_every)
            self._stopping.wait(min(1.0, self._maintain_every))


def _bound_memory() -> None:
    """The engine's own limit does not count every string: past this a query fails, and not the whole process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, hard))


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """The listening socket, for this user only. A socket left by a process that died is replaced: its owner is gone,
    as the store's file is ours."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise Conflict(f"{path} is not a socket.", where="socket", remedy="Move it away, or choose another path.")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    coming = path.with_name(path.name + "~")
    coming.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        listener.bind(str(coming))
        listener.listen(256)
        coming.rename(path)  # whoever sees the socket may connect to it
    except OSError as error:
        listener.close()
        raise Unavailable(f"Cannot listen on {path}: {error}. A socket's path has at most 106 characters.") from error
    finally:
        os.umask(mask)
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


@click.command("store")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Directory for all state.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file (TOML).")
@click.option("--log-url", help="Event log: a postgresql:// URL.  [default: SQLite in the data directory]")
@click.option("--store-memory", help="Memory limit of the event store.  [default: 2GB]")
@click.option("--hot-days", type=int, help="Days that events stay in the event store proper.  [default: 7]")
@click.option("--cold-days", type=int, help="Days that events are kept in all.  [default: 90]")
@click.option("--maintain-every", default=3600.0, show_default=True, help="Seconds between rounds of maintenance.")
def store(config: Path | None, maintain_every: float, **overrides: Any) -> None:
    """Run the process that owns the event store: it takes events in, answers queries and keeps retention.

    SIGTERM finishes what is at hand, takes in what waits, and exits.
    """
    settings = load(os.environ, config=config, overrides=overrides)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _bound_memory()
    data = settings.data.absolute()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    events = DuckDbStore(
        data / "events.duckdb",
        data / "cold",
        memory_limit=settings.store_memory,
        retention=Retention(timedelta(days=settings.hot_days), timedelta(days=settings.cold_days)),
    )
    with contextlib.closing(events):
        log = PostgresLog(settings.log_url) if settings.log_url else SqliteLog(data / "log.db")
        with contextlib.closing(log):
            process = StoreProcess(
                events, log, data / "run" / "store.sock", maintain_every=maintain_every, spool=data / "spool"
            )
            process.run()
