"""A second host for end-to-end tests: a directory of its own, gateway workers that follow the database, and a wire.

The wire carries the host's connection to PostgreSQL: it can be held still, as a stalled network or a paused server
would, with the sockets open. The host's wall clock can differ from everybody else's (libfaketime; the monotonic clock
stays what it is).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from scenarios.company import Company, free_port, wait_until

_FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
)


class Wire:
    """Carries TCP to ``host:port``; while held, nothing moves and nothing is closed."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._moving = threading.Event()
        self._moving.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Let nothing through from now on."""
        self._moving.clear()

    def release(self) -> None:
        """Let everything go on."""
        self._moving.set()

    def close(self) -> None:
        """Cut everything."""
        self._moving.set()
        self._listener.close()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._moving.wait()
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class SecondHost:
    """Two gateway workers on a machine without a server; they share nothing with the first but the database."""

    def __init__(self, company: Company, database: str, *, clock: str | None = None) -> None:
        self.data = company.directory / "second-host"
        (self.data / "keys").mkdir(parents=True, mode=0o700)
        shutil.copy(company.data / "keys" / "vault.key", self.data / "keys" / "vault.key")
        address = urlsplit(database)
        self.wire = Wire(address.hostname or "127.0.0.1", address.port or 5432)
        user = f"{address.username}@" if address.username else ""
        followed = f"{address.scheme}://{user}127.0.0.1:{self.wire.port}{address.path}"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = os.environ | dict(company.environment) | {"WATCHFLOOR_LOG_URL": database}
        if clock is not None:
            library = next((path for path in _FAKETIME if Path(path).exists()), None)
            if library is None:
                problem = "libfaketime is not installed (apt-get install libfaketime)"
                pytest.fail(problem) if os.environ.get("CI") == "true" else pytest.skip(problem)
            environment |= {"LD_PRELOAD": library, "FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        self._logs = [(self.data / f"gateway-{n}.log").open("wb") for n in range(2)]
        self._processes = [
            subprocess.Popen(
                [
                    sys.executable, "-m", "watchfloor", "gateway", "--follow", "--data", str(self.data),
                    "--database-url", followed, "--port", str(self.port), "--worker-id", f"second-{n}",
                    "--server-url", company.server, "--gateway-url", company.gateway,
                ],
                env=environment,
                stdout=log,
                stderr=log,
            )
            for n, log in enumerate(self._logs)
        ]  # fmt: skip
        wait_until(self._is_ready, 60, "start of the second host")

    def _is_ready(self) -> bool:
        assert all(process.poll() is None for process in self._processes), self.logs()
        # Each look may land on the other worker.
        with contextlib.suppress(httpx.TransportError):
            return all(httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200 for _ in range(6))
        return False

    def logs(self) -> str:
        """What the workers said."""
        return "\n".join(Path(log.name).read_text("utf-8", "replace")[-3000:] for log in self._logs)

    def close(self) -> None:
        """Stop the workers and cut the wire."""
        self.wire.close()
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in self._logs:
            log.close()


@contextlib.contextmanager
def second_host(company: Company, database: str, *, clock: str | None = None) -> Iterator[SecondHost]:
    """A second host, stopped in the end. ``clock``: how its wall clock differs, as ``+120s``."""
    host = SecondHost(company, database, clock=clock)
    try:
        yield host
    finally:
        host.close()
