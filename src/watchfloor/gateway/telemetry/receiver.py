"""One telemetry receiver as a process: sockets, doors, intake, health, and an end that loses nothing.

Called by the command line with plain values. On SIGTERM it takes no more, lets requests under way finish, appends what
waits and returns: whatever was answered is in the event log, whatever was not is sent again by its sender.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn

from watchfloor.gateway.asgi import Addresses
from watchfloor.gateway.telemetry.grpc_door import GrpcDoor
from watchfloor.gateway.telemetry.health import Health
from watchfloor.gateway.telemetry.http import TelemetryApp
from watchfloor.gateway.telemetry.intake import Intake, Item
from watchfloor.gateway.telemetry.quotas import Quotas
from watchfloor.gateway.telemetry.reception import Reception
from watchfloor.gateway.telemetry.sources import Sources
from watchfloor.gateway.worker import listen
from watchfloor.model.errors import Unavailable, WatchfloorError
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.ports import EventLog
from watchfloor.storage.projection import ProjectionReader

_LOG: Final = logging.getLogger(__name__)
_HEALTH_SECONDS: Final = 10.0
_BACKLOG_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverPlan:
    """What a receiver must be told. ``grpc_port`` 0: no gRPC. ``backlog_rows``: with more rows than this waiting in the
    event log, requests are sent away until the store has caught up."""

    data: Path
    database_url: str
    host: str
    port: int
    grpc_port: int
    worker_id: str = "receiver-0"
    tenant: str = "default"
    lease_seconds: float = 5.0
    max_body_bytes: int = 8 * 1024 * 1024
    backlog_rows: int = 2_000_000
    drain_seconds: float = 10.0
    trusted_proxies: tuple[str, ...] = ()


class Receiver:
    """The parts of one receiver, built in reading order; ``app`` is its ASGI application."""

    def __init__(self, plan: ReceiverPlan, open_log: Callable[[], EventLog]) -> None:
        self._plan, self._open_log = plan, open_log
        self._sources = Sources(
            open_reader=lambda: ProjectionReader.open(plan.database_url),
            open_epoch=lambda: EpochFile.open(plan.data / "epoch"),
            lease_seconds=plan.lease_seconds,
        )
        self._health = Health(plan.tenant, plan.worker_id, time.time_ns() // 1000)
        self._intake: Intake | None = None
        self._reception: Reception | None = None
        self._grpc: GrpcDoor | None = None
        self._ticking: list[asyncio.Task[None]] = []
        self._behind = ""
        self.app = TelemetryApp(
            self._receiving,
            Addresses(plan.trusted_proxies),
            max_body_bytes=plan.max_body_bytes,
            problems=self.problems,
            metrics=self._metrics,
            startup=self._start,
            shutdown=self._stop,
        )

    def _receiving(self) -> Reception:
        """The reception, while requests can be taken. Raises ``Unavailable``."""
        if self._reception is None:
            raise Unavailable("The receiver is not ready.")
        if self._behind:
            raise Unavailable(self._behind, retry_after=5.0)
        return self._reception

    def problems(self) -> list[str]:
        """Why this receiver should get no requests; empty when it should."""
        found = [self._behind] if self._behind else []
        try:
            self._sources.check()
        except Unavailable as error:
            found.append(str(error))
        return found

    def _metrics(self) -> str:
        waiting = self._intake.waiting if self._intake is not None else 0
        return (
            f"{self._health.metrics()}# HELP watchfloor_telemetry_waiting Events that are not durable yet.\n"
            f"# TYPE watchfloor_telemetry_waiting gauge\nwatchfloor_telemetry_waiting {waiting}\n"
        )

    async def _start(self) -> None:
        plan = self._plan
        self._intake = Intake(self._open_log)
        self._intake.start()
        self._reception = Reception(
            self._sources, Quotas(), self._intake, self._health, tenant=plan.tenant, worker_id=plan.worker_id
        )
        if plan.grpc_port:
            self._grpc = GrpcDoor(self._receiving, plan.host, plan.grpc_port, max_body_bytes=plan.max_body_bytes)
            await self._grpc.start()
        self._ticking = [asyncio.create_task(self._watch_backlog()), asyncio.create_task(self._tell_health())]
        gc.collect()
        gc.freeze()  # what is there now stays for the life of the process
        # Spans are many small objects without cycles: looking through them at the usual rate costs a tenth of all CPU.
        gc.set_threshold(200_000, 20, 20)

    async def _stop(self) -> None:
        for task in self._ticking:
            task.cancel()
        await asyncio.gather(*self._ticking, return_exceptions=True)
        if self._grpc is not None:
            await self._grpc.stop(self._plan.drain_seconds)
        if self._intake is not None:
            await self._store_health(self._intake)
            await self._intake.stop()
        self._sources.close()

    async def _watch_backlog(self) -> None:
        """Back-pressure is an answer, never a dropped event: what cannot be stored soon is not taken."""
        log: EventLog | None = None
        while True:
            try:
                if log is None:
                    log = await asyncio.to_thread(self._open_log)
                rows = (await asyncio.to_thread(log.backlog)).rows
                most = self._plan.backlog_rows
                self._behind = f"The event store is behind: {rows} rows wait." if rows > most else ""
            except WatchfloorError as error:
                self._behind = str(error)
            except Exception:  # the watch must outlive whatever goes wrong in it
                _LOG.exception("the backlog could not be measured")
            await asyncio.sleep(_BACKLOG_SECONDS)

    async def _tell_health(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_SECONDS)
            if self._intake is not None:
                await self._store_health(self._intake)

    async def _store_health(self, intake: Intake) -> None:
        """How each source fared since the last time. What cannot be stored now is lost: it is a measurement."""
        rows = self._health.rows(time.time_ns() // 1000)
        items = [Item(row["ReportId"].encode()[-16:], [("PipelineHealth", row)]) for row in rows]
        try:
            await intake.take(items)
        except Unavailable as error:
            _LOG.warning("pipeline health was not stored: %s", error)


def run_receiver(plan: ReceiverPlan, open_log: Callable[[], EventLog]) -> None:
    """Run until SIGTERM or SIGINT. Raises ``WatchfloorError`` if it cannot start."""
    sock = listen(plan.host, plan.port)
    receiver = Receiver(plan, open_log)
    config: dict[str, Any] = {
        "loop": "uvloop",
        "http": "httptools",
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": max(1, math.ceil(plan.drain_seconds)),
    }
    try:
        uvicorn.Server(uvicorn.Config(receiver.app, **config)).run(sockets=[sock])
    finally:
        sock.close()
