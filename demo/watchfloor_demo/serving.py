"""Several small HTTP servers on one event loop.

Sockets are bound before anything is started, so that addresses are known (also with port 0) when configuration that
names them is written. Signals are left alone: whoever owns the process decides when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import uvicorn

LOOPBACK: Final = "127.0.0.1"
_START_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Listening:
    """A bound socket that a server is going to use."""

    name: str
    sock: socket.socket

    @property
    def port(self) -> int:
        """The port, chosen by the system if 0 was asked for."""
        port: int = self.sock.getsockname()[1]
        return port


class PortTaken(Exception):
    """A port that the demo was told to use is in use by something else."""


def listen(name: str, port: int) -> Listening:
    """Bind ``port`` on the loopback address; 0 means any free one. Raises ``PortTaken`` naming the server."""
    # asyncio switches Nagle's delay off only for sockets that name their protocol; accepted ones inherit it from here.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((LOOPBACK, port))
    except OSError as error:
        sock.close()
        raise PortTaken(f"{name}: port {port} is in use ({error.strerror}); choose another with --base-port") from error
    sock.listen(256)
    sock.setblocking(False)
    return Listening(name, sock)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the process's signal handlers as they are: many servers share this process."""
        yield


@contextlib.asynccontextmanager
async def serve(apps: Sequence[tuple[Listening, Any]]) -> AsyncIterator[None]:
    """Serve each ASGI application on its socket until the block ends; all answer when the block begins."""
    servers: list[_Server] = []
    tasks: list[asyncio.Task[None]] = []
    try:
        for listening, app in apps:
            config = uvicorn.Config(
                app,
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="on",
                timeout_graceful_shutdown=2,
                timeout_keep_alive=30,
            )
            server = _Server(config)
            servers.append(server)
            tasks.append(asyncio.create_task(server.serve(sockets=[listening.sock]), name=f"serve {listening.name}"))
        async with asyncio.timeout(_START_SECONDS):
            while not all(server.started for server in servers):
                for (listening, _), task in zip(apps, tasks, strict=True):
                    if task.done():
                        raise RuntimeError(f"{listening.name} did not start") from task.exception()
                await asyncio.sleep(0.005)
        yield
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks, return_exceptions=True)
        for listening, _ in apps:
            listening.sock.close()
