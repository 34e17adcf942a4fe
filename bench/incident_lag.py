"""From an attack's event to its incident in the portal's API, while two thousand other events a second arrive.

    python -m bench.incident_lag [--rate 2000] [--seconds 60] [--batch 200]

A whole installation as ``watchfloor up`` starts it: store, server with detection and all other jobs, a gateway worker,
a receiver. Senders post background as OTLP at a steady rate. Among it, twice a second, an agent tells over
``/events/v1`` that its guardrail refused a prompt, each time of another user, so that each opens an incident of its
own. The clock runs from before that request until an analyst's request for the newest incidents, asked ten times a
second, shows it. Where the background could not be sent at its rate, the figure says nothing and is called so.
Goal: p95 <= 5 s, and every attack found.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

from bench.events import machine, percentile
from bench.ingest import SENDERS, SOME_TIME, body, cpu_seconds, send

BUDGET_SECONDS: Final = 5.0
ATTACKS_A_SECOND: Final = 2
ASKED_EVERY: Final = 0.1
PATIENCE: Final = 60.0
"""Seconds after the last attack until what is not there counts as missed."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Installation:
    """``watchfloor up`` on a new data directory, with one telemetry source."""

    def __init__(self, folder: Path) -> None:
        server, gateway, self.receiver, grpc = free_ports(4)
        self.api = f"http://127.0.0.1:{server}"
        self.log = folder / "up.log"
        options = {
            "--data": folder / "data", "--port": server, "--gateway-port": gateway, "--workers": 1,
            "--receiver-port": self.receiver, "--receiver-grpc-port": grpc,
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "watchfloor", "up", "--json", *(str(x) for pair in options.items() for x in pair)],
            stdout=subprocess.PIPE,
            stderr=self.log.open("wb"),
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        told = json.loads(line)
        self.pids: dict[str, int] = told["pids"]
        self.token = Path(told["admin_token_file"]).read_text("utf-8").strip()
        source = {"id": "bench", "name": "bench", "agents": ["*"], "events_per_second": 20_000}
        self.source = str(self.ask("/api/sources", source)["token"])

    def ask(self, path: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
        """The portal's answer."""
        request = urllib.request.Request(
            self.api + path,
            json.dumps(given).encode() if given is not None else None,
            {"authorization": f"Bearer {self.token}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU of each process."""
        return {name: cpu_seconds(pid) for name, pid in self.pids.items()}

    def close(self) -> None:
        """Stop it as Ctrl-C would."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(90)


class Attacks:
    """Sends an attack now and then, and keeps when; each is somebody else's."""

    def __init__(self, at: Installation, count: int) -> None:
        self._at, self._count = at, count
        self.sent: dict[str, float] = {}
        self.answered: list[float] = []
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._at.receiver, timeout=60)
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._at.source}"}
        next_at = time.monotonic()
        for number in range(self._count):
            user = f"mallory-{number}"
            event = {
                "id": f"attack-{number}", "type": "guardrail", "agent": f"agent-{number % 20}", "user": user,
                "decision": "deny", "reason": "jailbreak", "address": "203.0.113.9", "conversation": f"talk-{number}",
            }  # fmt: skip
            self.sent[user] = before = time.monotonic()
            while True:
                connection.request("POST", "/events/v1", json.dumps({"events": [event]}), headers)
                answer = connection.getresponse()
                said = answer.read()
                if answer.status == 200:
                    break
                assert answer.status in (429, 503), (answer.status, said)
                time.sleep(0.2)  # as a client would; the clock runs on
            self.answered.append(time.monotonic() - before)
            next_at += 1 / ATTACKS_A_SECOND
            time.sleep(max(0.0, next_at - time.monotonic()))


def watch(at: Installation, attacks: Attacks, asked: list[float]) -> dict[str, float]:
    """Seconds from each attack until its incident was seen; how long each question took goes into ``asked``."""
    seen: dict[str, float] = {}
    quiet_since = time.monotonic()
    while attacks.thread.is_alive() or len(seen) < len(attacks.sent):
        before = time.monotonic()
        found = at.ask("/api/incidents?limit=100")["items"]
        now = time.monotonic()
        asked.append(now - before)
        users = {e["id"] for incident in found for e in incident["entities"] if e["kind"] == "user"}
        seen |= {user: now - attacks.sent[user] for user in users & attacks.sent.keys() - seen.keys()}
        quiet_since = now if attacks.thread.is_alive() else quiet_since
        if now - quiet_since > PATIENCE:
            break
        time.sleep(max(0.0, ASKED_EVERY - (time.monotonic() - before)))
    return seen


class Background:
    """Senders that have started; how each fared, and when the last of them had sent everything."""

    def __init__(self, at: Installation, bodies: list[bytes], gap: float) -> None:
        context = multiprocessing.get_context("fork")
        go, self._told = context.Event(), context.Queue()
        for n in range(SENDERS):
            given = (at.receiver, bodies[n::SENDERS], gap * SENDERS, go, self._told, at.source)
            context.Process(target=send, args=given, daemon=True).start()
        self.reports: list[tuple[int, list[float], float]] = []
        self.seconds = 0.0
        self.thread = threading.Thread(target=self._collect, args=(time.monotonic(),), daemon=True)
        go.set()
        self.thread.start()

    def _collect(self, start: float) -> None:
        for _ in range(SENDERS):
            self.reports.append(self._told.get())
        self.seconds = time.monotonic() - start


def main() -> int:
    """Print the delays; exit status 1 if an attack was never seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--batch", type=int, default=200)
    options = parser.parse_args()
    print(f"{machine()}\n")
    bodies = [body(options.batch, n, SOME_TIME) for n in range(options.rate * options.seconds // options.batch)]
    with tempfile.TemporaryDirectory(prefix="watchfloor-bench-") as folder:
        at = Installation(Path(folder))
        try:
            cpu, start = at.cpu(), time.monotonic()
            sending = Background(at, bodies, options.batch / options.rate)
            attacks = Attacks(at, options.seconds * ATTACKS_A_SECOND)
            attacks.thread.start()
            asked: list[float] = []
            delays = list(watch(at, attacks, asked).values())
            sending.thread.join()
            took = time.monotonic() - start
            used = {name: (at.cpu()[name] - before) / took for name, before in cpu.items()}
        finally:
            at.close()
    missed = len(attacks.sent) - len(delays)
    answered = [delay for _, some, _ in sending.reports for delay in some]
    rate = len(bodies) * options.batch / sending.seconds
    print(f"background: {len(bodies) * options.batch:,} events, {options.batch} a request, {rate:,.0f} events/s")
    print(f"  sent away and came back     {sum(refused for refused, _, _ in sending.reports)} requests")
    print(f"  request answered            {spread(answered)}")
    print(f"attacks: {len(attacks.sent)}, {ATTACKS_A_SECOND} a second, each of another user; {missed} of them missed")
    print(f"  request answered            {spread(attacks.answered)}")
    print(f"  an analyst's list of them   {spread(asked)}")
    print(f"event to incident             {spread(delays)}")
    print(f"CPU: {', '.join(f'{name} {share:.0%}' for name, share in used.items())} of a core")
    print(f"load at the end {os.getloadavg()[0]:.1f}")
    if rate < 0.95 * options.rate:
        print(f"the senders reached {rate / options.rate:.0%} of the rate: the machine has other work")
    kept = not missed and percentile(delays, 0.95) <= BUDGET_SECONDS
    print(f"budget p95 <= {BUDGET_SECONDS:g} s: {'kept' if kept else 'NOT kept'}")
    return int(missed > 0)


def spread(values: list[float]) -> str:
    """What is printed of a number of delays."""
    if not values:
        return "none"
    p50, p95 = percentile(values, 0.5), percentile(values, 0.95)
    return f"p50 {p50:.2f} s, p95 {p95:.2f} s, max {max(values):.2f} s"


if __name__ == "__main__":
    sys.exit(main())
