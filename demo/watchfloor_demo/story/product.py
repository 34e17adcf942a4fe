"""Watchfloor as a subprocess: start it on free ports in a directory of its own, find its doors, stop it, leave nothing.

Knows the command line and ``run/up.json``, nothing else of the product.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 25.0
_PR_SET_PDEATHSIG: Final = 1
_TAIL: Final = 12


class ProductFailed(Exception):
    """Watchfloor did not start, or a command of it failed. The text ends with its last words."""


def _die_with_parent() -> None:
    """Linux: should the story be killed, its product goes with it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _mail(port: int) -> dict[str, str]:
    return {
        "WATCHFLOOR_SMTP_HOST": "127.0.0.1",
        "WATCHFLOOR_SMTP_PORT": str(port),
        "WATCHFLOOR_SMTP_TLS": "none",
        "WATCHFLOOR_MAIL_FROM": "watchfloor@zava.example",
    }


def free_port() -> int:
    """A port that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_alive(pid: int) -> bool:
    """Whether a process exists that has not ended (one that nobody has waited for yet has ended)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return True


@dataclass(slots=True)
class Product:
    """A running Watchfloor. ``pids`` are all of its processes by name."""

    data: Path
    workers: int = 2
    mail_port: int = 0
    """Where the company takes mail; 0: nowhere."""
    server: str = ""
    gateway: str = ""
    receiver: str = ""
    admin_token_file: Path = Path()
    pids: dict[str, int] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises ``ProductFailed``."""
        process = self._process = self._spawn()
        addresses = self.data / "run" / "up.json"
        deadline = time.monotonic() + _START_SECONDS
        while not addresses.exists():
            if process.poll() is not None:
                raise ProductFailed(f"watchfloor up ended with {process.returncode}\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise ProductFailed(f"watchfloor up is not ready after {_START_SECONDS:.0f} s\n{self.last_words()}")
            await asyncio.sleep(0.05)
        found: dict[str, Any] = json.loads(addresses.read_text("utf-8"))
        self.server, self.gateway, self.receiver = found["server"], found["gateway"], found["receiver"] or ""
        self.admin_token_file = Path(found["admin_token_file"])
        self.pids = {name: pid for name, pid in found.get("pids", {}).items() if pid} | {"up": process.pid}

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        options = {
            "--data": str(self.data),
            "--workers": str(self.workers),
            "--port": str(free_port()),
            "--gateway-port": str(free_port()),
            "--receiver-port": str(free_port()),
            "--receiver-grpc-port": str(free_port()),
        }
        command = [sys.executable, "-m", "watchfloor", "up", "--json", *itertools.chain.from_iterable(options.items())]
        with (self.data / "up.log").open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # The story's operators have no phones.
                env={k: v for k, v in os.environ.items() if not k.startswith("WATCHFLOOR_")}
                | {"WATCHFLOOR_ADMINS_NEED_SECOND_FACTOR": "false"}
                | (_mail(self.mail_port) if self.mail_port else {}),
                start_new_session=True,  # Ctrl-C is for the story, which then stops the product in order
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    async def stop(self) -> int:
        """Stop it in order and return its exit status; whatever is left after that is killed."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.terminate()
            try:
                await asyncio.to_thread(self._process.wait, _STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in self.leftovers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self._process.returncode

    def leftovers(self) -> list[int]:
        """Its processes that are still there."""
        return [pid for pid in self.pids.values() if is_alive(pid)]

    async def command(self, *arguments: str, seconds: float = 30.0) -> tuple[int, str]:
        """Run ``watchfloor ARGUMENTS``: exit status and output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "watchfloor", *arguments,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            output, _ = await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ProductFailed(f"watchfloor {' '.join(arguments)} did not end within {seconds:.0f} s") from None
        return process.returncode or 0, output.decode("utf-8", "replace")

    def logs(self) -> dict[str, list[str]]:
        """The last lines of each process that wrote any."""
        found = {}
        for path in [self.data / "up.log", *sorted((self.data / "logs").glob("*.log"))]:
            with contextlib.suppress(OSError):
                lines = [line for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
                if lines:
                    found[path.stem] = lines[-_TAIL:]
        return found

    def last_words(self) -> str:
        """What the supervisor said last."""
        return "\n".join(self.logs().get("up", []))

    def tracebacks(self) -> list[str]:
        """Logs in which an exception was written down."""
        return [
            path.name
            for path in sorted((self.data / "logs").glob("*.log"))
            if "Traceback (most recent call last)" in path.read_text("utf-8", "replace")
        ]
