"""``watchfloor up``: everything on this machine, watched over.

Starts the server, the store process, gateway workers and receivers (with ``--demo`` the demo company too), waits until
each answers, writes where to find them to ``DATA/run/up.json``, restarts whatever dies, and on SIGTERM or Ctrl-C stops
all in an order that loses nothing: callers first, then the doors, then the server, then the store.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

import click
from rich.console import Console

from watchfloor.model.errors import InputError, Unavailable
from watchfloor.settings import Settings, load

_BACKOFF_SECONDS: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
_STABLE_SECONDS: Final = 30.0
_PR_SET_PDEATHSIG: Final = 1


def _die_with_parent() -> None:
    """Linux: a supervisor that is killed takes its processes along, so that a port is never left occupied."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Child:
    """One process of ours and what is known of it."""

    name: str
    argv: Sequence[str]
    log: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    started_at: float = 0.0
    start_again_at: float = 0.0
    _log_file: IO[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it; its output is appended to its log."""
        if self._log_file is None:
            self._log_file = self.log.open("ab")
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            self.argv,
            stdin=subprocess.DEVNULL,
            stdout=self._log_file,
            stderr=self._log_file,
            env=self.environment,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self.process.pid if self.process and self.process.poll() is None else None

    def stop(self, timeout: float) -> None:
        """SIGTERM, then SIGKILL after ``timeout`` seconds."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_lines(self, count: int = 15) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-count:])
        except OSError:
            return ""


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own http address
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _port_is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


_DEMO_SMTP = 5
"""The offset of the demo company's mail server from its base port (demo/README.md)."""


class Supervisor:
    """Starts, watches and stops the processes of one installation."""

    def __init__(self, settings: Settings, *, demo_base_port: int | None, demo_rate: float) -> None:
        self.settings = settings
        self.run_dir = settings.data / "run"
        logs = settings.data / "logs"
        for directory, mode in ((settings.data, 0o700), (self.run_dir, 0o700), (logs, 0o700)):
            directory.mkdir(parents=True, exist_ok=True, mode=mode)
        environment = os.environ | {
            f"WATCHFLOOR_{f.name.upper()}": str(getattr(settings, f.name)) for f in dataclasses.fields(settings)
        }
        environment["PYTHONUNBUFFERED"] = "1"
        if demo_base_port and not settings.smtp_host:
            # What the demo company's people are told arrives in its mailboxes.
            environment |= {
                "WATCHFLOOR_SMTP_HOST": "127.0.0.1",
                "WATCHFLOOR_SMTP_PORT": str(demo_base_port + _DEMO_SMTP),
                "WATCHFLOOR_SMTP_TLS": "none",
                "WATCHFLOOR_MAIL_FROM": "watchfloor@zava.example",
            }

        def child(name: str, *arguments: str, module: str = "watchfloor") -> Child:
            return Child(name, [sys.executable, "-m", module, *arguments], logs / f"{name}.log", environment)

        data = str(settings.data)
        self.server = child("server", "server", "--data", data)
        self.store = child("store", "store", "--data", data)
        self.gateways = [
            child(f"gateway-{i}", "gateway", "--data", data, "--worker-id", f"gateway-{i}")
            for i in range(settings.workers)
        ]
        self.receivers = [
            child(f"receiver-{i}", "receiver", "--data", data, "--worker-id", f"receiver-{i}")
            for i in range(settings.receivers)
        ]
        self.demo: Child | None = None
        if demo_base_port is not None:
            # The demo company is an outsider: it gets no settings of ours, only the public addresses.
            self.demo = child(
                "demo", "run",
                "--server", settings.effective_server_url, "--gateway", settings.effective_gateway_url,
                "--base-port", str(demo_base_port), "--dir", str(settings.data / "demo"),
                "--admin-token-file", str(self.run_dir / "admin.token"), "--rate", str(demo_rate),
                *(("--receiver", settings.effective_receiver_url) if self.receivers else ()),
                module="watchfloor_demo",
            )  # fmt: skip
            self.demo.environment = {k: v for k, v in environment.items() if not k.startswith("WATCHFLOOR_")}
        self.stopping = False
        self.has_written_addresses = False

    @property
    def children(self) -> list[Child]:
        """Every process, in the order of starting."""
        return [self.store, self.server, *self.gateways, *self.receivers, *([self.demo] if self.demo else [])]

    def start(self, progress: Callable[[str], None]) -> None:
        """Start all, wait until each answers. Raises ``Unavailable`` with the end of the log of the one that fails."""
        s = self.settings
        ports = [(s.host, s.port, "port"), (s.gateway_host, s.gateway_port, "gateway-port")]
        if s.gateway_ext_authz_port:
            ports.append((s.gateway_host, s.gateway_ext_authz_port, "gateway-ext-authz-port"))
        if self.receivers:
            ports.append((s.receiver_host, s.receiver_port, "receiver-port"))
            if s.receiver_grpc_port:
                ports.append((s.receiver_host, s.receiver_grpc_port, "receiver-grpc-port"))
        for host, port, name in ports:
            if not _port_is_free(host, port):
                raise InputError(
                    f"port {port} on {host} is taken.", remedy=f"Stop what uses it, or choose another with --{name}."
                )
        progress("store and server")
        self.store.start()
        self.server.start()
        self._await(self.server, lambda: _answers(f"{s.effective_server_url}/healthz"))
        self._await(self.store, (self.run_dir / "store.sock").exists)
        progress(f"{s.workers} gateway workers")
        for gateway in self.gateways:
            gateway.start()
        for gateway in self.gateways:
            self._await(gateway, lambda: _answers(f"{s.effective_gateway_url}/readyz"))
        for receiver in self.receivers:
            receiver.start()
        for receiver in self.receivers:
            self._await(receiver, lambda: _answers(f"{s.effective_receiver_url}/readyz"))
        if self.demo:
            progress("the demo company")
            self.demo.start()
            self._await(self.demo, (s.data / "demo" / "ready").exists, timeout=90)

    def _await(self, child: Child, is_ready: Callable[[], bool], timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while not is_ready():
            if self.stopping:
                raise click.Abort
            if child.process is not None and child.process.poll() is not None:
                raise Unavailable(
                    f"{child.name} stopped while starting (exit {child.process.returncode}); {child.log} ends with:\n"
                    + child.last_lines()
                )
            if time.monotonic() > deadline:
                raise Unavailable(f"{child.name} does not answer after {timeout:.0f} s; see {child.log}")
            time.sleep(0.05)

    def watch(self, report: Callable[[str], None]) -> None:
        """Until told to stop: restart what dies, at once the first time and ever later if it keeps dying."""
        while not self.stopping:
            now = time.monotonic()
            for child in self.children:
                if child.process is None or child.process.poll() is None:
                    continue
                if child.start_again_at <= child.started_at:
                    if now - child.started_at > _STABLE_SECONDS:
                        child.restarts = 0
                    wait = _BACKOFF_SECONDS[min(child.restarts, len(_BACKOFF_SECONDS) - 1)]
                    child.start_again_at = now + wait
                    report(f"{child.name} ended with {child.process.returncode}; starting it again in {wait:.1f} s")
                if now >= child.start_again_at:
                    child.restarts += 1
                    child.start()
                    self.write_addresses()
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop all, callers first."""
        self.stopping = True
        drain = self.settings.drain_seconds + 5
        if self.demo:
            self.demo.stop(10)
        for child in (*self.gateways, *self.receivers):
            if child.process and child.process.poll() is None:
                child.process.terminate()
        for child in (*self.gateways, *self.receivers):
            child.stop(drain)
        self.server.stop(10)
        self.store.stop(30)
        if self.has_written_addresses:  # else they are those of another supervisor on the same data
            (self.run_dir / "up.json").unlink(missing_ok=True)

    def addresses(self) -> dict[str, Any]:
        """What others need to find us."""
        setup = self.run_dir / "setup.url"
        return {
            "server": self.settings.effective_server_url,
            "gateway": self.settings.effective_gateway_url,
            "receiver": self.settings.effective_receiver_url if self.receivers else None,
            "data": str(self.settings.data),
            "pid": os.getpid(),
            "pids": {c.name: c.pid for c in self.children},
            "setup_url": setup.read_text("utf-8").strip() if setup.exists() else None,
            "admin_token_file": str(self.run_dir / "admin.token"),
        }

    def write_addresses(self) -> None:
        """Write ``run/up.json`` whole or not at all."""
        target = self.run_dir / "up.json"
        temporary = target.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.addresses()), "utf-8")
        temporary.replace(target)
        self.has_written_addresses = True


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Directory for all state.  [default: data]")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file (TOML).")
@click.option("--host", help="Address of the server.")
@click.option("--port", type=int, help="Port of the server.  [default: 7700]")
@click.option("--gateway-port", type=int, help="Port of the gateway.  [default: 7701]")
@click.option(
    "--gateway-ext-authz-port", type=int, help="Port for Envoy's external authorization, 0: none.  [default: 0]"
)
@click.option("--receiver-port", type=int, help="Port of the telemetry doors over HTTP.  [default: 4318]")
@click.option("--receiver-grpc-port", type=int, help="Port of OTLP over gRPC, 0: none.  [default: 4317]")
@click.option("--workers", type=int, help="Gateway workers.  [default: 2]")
@click.option("--demo", is_flag=True, help="Bring the demo company Zava to life.")
@click.option("--demo-base-port", type=int, default=7720, show_default=True, help="First port of the demo company.")
@click.option("--demo-rate", type=float, default=1.0, show_default=True, help="Background tool calls a second.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when ready, nothing else.")
def up(
    config: Path | None,
    demo: bool,
    demo_base_port: int,
    demo_rate: float,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Start Watchfloor on this machine: server, gateway, event store.

    Runs until Ctrl-C or SIGTERM. State is kept in the data directory; starting again goes on where it ended.
    """
    settings = load(os.environ, config=config, overrides=overrides)
    settings = dataclasses.replace(settings, data=settings.data.absolute())
    if demo and "WATCHFLOOR_ADMINS_NEED_SECOND_FACTOR" not in os.environ:
        # A look around should not begin with a phone.
        settings = dataclasses.replace(settings, admins_need_second_factor=False)
    supervisor = Supervisor(settings, demo_base_port=demo_base_port if demo else None, demo_rate=demo_rate)
    console = Console(stderr=True, quiet=as_json)

    def on_signal(number: int, frame: FrameType | None) -> None:
        supervisor.stopping = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    try:
        with console.status("Starting") as status:
            supervisor.start(lambda what: status.update(f"Starting {what}"))
        supervisor.write_addresses()
        if as_json:
            click.echo(json.dumps(supervisor.addresses()))
        else:
            _welcome(Console(), supervisor)
        supervisor.watch(lambda line: console.print(f"[yellow]{line}[/]"))
        console.print("Stopping …")
    finally:
        supervisor.stop()


def _welcome(console: Console, supervisor: Supervisor) -> None:
    addresses = supervisor.addresses()
    console.print(f"\n[bold]Watchfloor is up.[/]  State and logs: {addresses['data']}\n")
    rows = [("Portal", addresses["server"]), ("Gateway (MCP)", f"{addresses['gateway']}/mcp/{{server}}")]
    if addresses["receiver"]:
        rows.append(("Telemetry (OTLP)", addresses["receiver"]))
    if addresses["setup_url"]:
        rows.insert(0, ("Set up, once", addresses["setup_url"]))
    for label, value in rows:
        console.print(f"  {label:<14} [cyan]{value}[/]", highlight=False, soft_wrap=True)
    notes = supervisor.settings.data / "demo" / "welcome.txt"
    if supervisor.demo and notes.exists():
        console.print()
        console.print(notes.read_text("utf-8").rstrip(), highlight=False, soft_wrap=True, markup=False)
    console.print("\n  Ctrl-C stops everything; nothing is lost.\n", highlight=False)
