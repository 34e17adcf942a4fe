"""One gateway worker as a process: socket, spool, shipper, server, and an end that loses nothing.

Called by the command line with plain values. On SIGTERM the worker stops accepting, ends endless streams, lets calls in
flight finish up to a limit, ships what the spool holds and returns. What cannot be shipped stays in the spool.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn

from watchfloor.gateway.alignment.encoder import MODELS, load
from watchfloor.gateway.app import Gateway, GatewayConfig, Outside, build_gateway
from watchfloor.gateway.wire import JoiningProtocol
from watchfloor.model.errors import InputError, Unavailable
from watchfloor.storage.claims import Claims
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.follow import follow
from watchfloor.storage.ports import EventLog
from watchfloor.storage.projection import ProjectionReader
from watchfloor.storage.segments import SpoolWriter
from watchfloor.storage.spool import Shipper
from watchfloor.storage.vault import Vault

_LOG: Final = logging.getLogger(__name__)
_DURABLE_SECONDS: Final = 5.0
_BACKLOG: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """What a worker process must be told besides ``GatewayConfig``.

    ``follows``: there is no server on this host, so the worker follows the database itself and keeps the epoch file.
    """

    data: Path
    database_url: str
    host: str
    port: int
    drain_seconds: float = 10.0
    wait_for_sync: bool = False
    follows: bool = False


class _Server(uvicorn.Server):
    """Ends with status 0 on a signal, and tells the application at once that it has to come to an end."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, drain_seconds: float) -> None:
        super().__init__(config)
        self._gateway, self._drain_seconds = gateway, drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._gateway.start_watch()
        await super().startup(sockets)
        # What is there now stays for the life of the process: no collection needs to look at it again.
        gc.collect()
        gc.freeze()
        # Calls are many small objects without cycles: looking through them at the usual rate is work for nothing.
        gc.set_threshold(50_000, 20, 20)
        # The shipper's thread must not keep a call waiting for the interpreter's usual five milliseconds.
        sys.setswitchinterval(0.0005)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._gateway.drain, self._drain_seconds)


def listen(host: str, port: int) -> socket.socket:
    """A socket that other workers share: the kernel spreads connections over them. Raises ``InputError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise InputError(
            f"cannot listen on {host}:{port}: {error.strerror}.", remedy="Choose another address or port."
        ) from error
    sock.setblocking(False)
    return sock


def run_worker(config: GatewayConfig, plan: WorkerPlan, open_log: Callable[[], EventLog]) -> None:
    """Run until SIGTERM or SIGINT. Raises ``WatchfloorError`` if it cannot start."""
    vault = Vault.open(plan.data / "keys" / "vault.key", create=False)
    sock = listen(plan.host, plan.port)
    stop_following = threading.Event()
    try:
        if plan.follows:
            _start_following(plan, stop_following)
        with SpoolWriter(plan.data / "spool" / config.worker_id, max_bytes=config.spool_max_bytes) as spool:
            shipper = Shipper(spool, open_log())
            shipper.start()
            try:
                gateway = build_gateway(config, _outside(plan, vault, spool, shipper))
                _serve(gateway, plan, sock)
            finally:
                if not shipper.stop(plan.drain_seconds):
                    _LOG.warning("not everything was shipped; the rest waits in %s", spool.directory)
    finally:
        stop_following.set()
        sock.close()


def _serve(gateway: Gateway, plan: WorkerPlan, sock: socket.socket) -> None:
    server = _Server(
        uvicorn.Config(
            gateway,
            loop="uvloop",
            http=JoiningProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, math.ceil(plan.drain_seconds)),
        ),
        gateway,
        plan.drain_seconds,
    )
    server.run(sockets=[sock])


def _outside(plan: WorkerPlan, vault: Vault, spool: SpoolWriter, shipper: Shipper) -> Outside:
    async def wait_durable() -> None:
        try:
            async with asyncio.timeout(_DURABLE_SECONDS):
                await asyncio.wrap_future(shipper.durable())
        except TimeoutError:
            raise Unavailable(f"The event log did not take the record within {_DURABLE_SECONDS} s.") from None

    durable: Callable[[], Awaitable[None]] | None = wait_durable if plan.wait_for_sync else None
    return Outside(
        open_reader=lambda: ProjectionReader.open(plan.database_url),
        open_epoch=lambda: EpochFile.open(plan.data / "epoch"),
        unseal=vault.unseal,
        derive=vault.derive,
        claims=Claims.open(plan.database_url),
        spool=spool,
        spool_waiting=spool.waiting,
        wait_durable=durable,
        load_encoder=lambda: load(plan.data / MODELS),
    )


def _start_following(plan: WorkerPlan, stop: threading.Event) -> None:
    from watchfloor.storage.control import CHANNEL  # brings SQLAlchemy along, which other workers do without

    epoch = EpochFile.create(plan.data / "epoch")
    problems: list[str | None] = [None]

    def on_round(problem: str | None) -> None:
        if problem != problems[0]:
            problems[0] = problem
            _LOG.warning("following the database: %s", problem or "good again")

    threading.Thread(
        target=follow,
        args=(plan.database_url, epoch, stop),
        kwargs={"poll": 0.25, "channel": CHANNEL, "on_round": on_round},
        name="follow",
        daemon=True,
    ).start()
