"""Copilot Studio's webhook with 200 questions at once on one worker: how long each answer takes, beside doing nothing.

    python -m bench.webhook [--seconds 2] [--concurrency 200] [--json]

One real gateway worker (tokens verified, every shipped policy, provenance, records on, shipping on) and a bare endpoint
that reads the same bytes and says yes, on this machine in the same run. Questions are of 3 to 8 kB: turns and results
of tools that grow with their conversation, four questions each. Then the same with a detector that does not come to an
end for one question in 200. The load is all there is: a caller asks anew the moment that it has its answer, so a time
is mostly the time of the 199 others before it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from bench.gateway import cpu_seconds, free_port, keep_alive, wait_for
from watchfloor.storage.epoch import EpochFile

TENANT: Final = "8f7d1e2a-1234-4abc-9def-0123456789ab"
APP: Final = "11111111-2222-4333-8444-555555555555"
BOT: Final = "0c0ffee0-aaaa-4bbb-8ccc-dddddddddddd"
OBJECT_ID: Final = "9a9a9a9a-1b1b-4c2c-8d3d-4e4e4e4e4e4e"
TOOL: Final = "cra65_billing.action.Office365Outlook-SendanemailV2"
HANG: Final = "HANGWORD"
ROUNDS: Final = 5
BUDGET_P99: Final = 300.0
DEADLINE: Final = 700.0
CONTRACT: Final = 1000.0
EVERY: Final = 200

FLOOR: Final = """
import sys
import uvicorn

async def bare(scope, receive, send):
    more = True
    while more:
        more = (await receive()).get("more_body")
    body = b'{"blockAction": false}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

uvicorn.run(bare, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False, lifespan="off",
            loop="uvloop", http="httptools", date_header=False, server_header=False)
"""

KEYS: Final = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Site(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(sys.argv[2].encode())

    def log_message(self, *what):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[1])), Site).serve_forever()
"""

STALLED: Final = """
import sys
import time
from watchfloor.guard import judgement
from watchfloor.guard.detectors import Detector

def stall(content):
    if "HANGWORD" in content.joined:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            pass
    return []

judgement.DETECTORS = (*judgement.DETECTORS, Detector("stall", stall))
from watchfloor.cli import main
main()
"""
"""A worker with one more detector, which hangs in pure Python."""

WORDS: Final = [
    "invoice",
    "overdue",
    "reminder",
    "customer",
    "account",
    "payment",
    "list",
    "please",
    "send",
    "review",
    "month",
    "region",
    "contract",
    "delivery",
    "order",
    "number",
    "manager",
    "total",
    "amount",
    "balance",
    "report",
    "address",
    "summary",
    "question",
    "team",
    "status",
    "update",
    "open",
    "closed",
    "pending",
    "draft",
]


def question(number: int, *, hangs: bool = False) -> dict[str, Any]:
    """A question about an honest call, the ``number % 4``-th of its conversation: what was said before stays."""
    conversation, step = divmod(number, 4)
    chooser = random.Random(conversation)

    def text(words: int) -> str:
        return " ".join(chooser.choices(WORDS, k=words)) + f", invoice {chooser.randrange(10**6)}."

    history = [
        {"id": f"m{n}", "role": ("user", "assistant")[n % 2], "content": text(25), "timestamp": "2026-05-05T10:00:00Z"}
        for n in range(9)
    ]
    history = history[: 3 + 2 * step][::-1]
    outputs = [
        {"toolId": f"cra65_billing.action.Crm-{n}", "toolName": "List", "timestamp": "2026-05-05T10:00:01Z",
         "outputs": [{"name": "response", "value": json.dumps({"value": [
             {"id": chooser.randrange(10**8), "name": text(3), "note": text(12)} for _ in range(4)]})}]}
        for n in range(4)
    ][: step + 1]  # fmt: skip
    chooser.seed(number)
    return {
        "plannerContext": {
            "userMessage": f"Send the list to ada@bench.example. {text(20)}",
            "thought": text(20),
            "chatHistory": history,
            "previousToolsOutputs": outputs,
        },
        "toolDefinition": {"id": TOOL, "type": "ToolDefinition", "name": "Send an email (V2)", "description": text(20),
                           "inputParameters": [], "outputParameters": []},
        "inputValues": {"to": "ada@bench.example", "subject": text(5), "body": HANG if hangs else text(40)},
        "conversationMetadata": {
            "agent": {"id": BOT, "tenantId": TENANT, "environmentId": "Default", "name": "Billing", "version": "1",
                      "isPublished": True},
            "user": {"id": OBJECT_ID, "tenantId": TENANT},
            "conversationId": f"conversation-{conversation}", "messageId": f"m-{number}", "channelId": "pva-studio",
            "planId": f"p-{number}", "planStepId": "s", "parentAgentComponentId": None,
            "trigger": {"id": "t", "schemaName": "t"}, "incomingClientIp": "198.51.100.7",
        },
    }  # fmt: skip


def found_company(data: Path, issuer: str, url: str) -> tuple[str, str]:
    """Everything that the call needs, written as the control plane writes it; a token, and the tenant's key set."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from joserfc import jwt
    from joserfc.jwk import RSAKey

    from watchfloor import content
    from watchfloor.model import facts
    from watchfloor.model.agents import AgentState, CredentialOwner, Scope, ServerState, ToolEffect
    from watchfloor.model.facts import Kind
    from watchfloor.storage.control import SqlControlStore
    from watchfloor.storage.vault import Vault

    epoch = EpochFile.create(data / "epoch")
    Vault.open(data / "keys" / "vault.key")
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = RSAKey.import_key(pem, {"kid": "bench", "use": "sig", "alg": "RS256"})
    server = facts.ServerFacts("copilot-studio", "Copilot Studio", "stdio:copilot-studio", ServerState.AVAILABLE)
    store = SqlControlStore.open(f"sqlite:///{data / 'control.db'}", epoch=epoch)
    with store.tx() as tx:
        tx.project(Kind.ORGANIZATION, "", facts.Organization("Bench", ("bench.example",)))
        tx.project(Kind.AGENT, "billing", facts.AgentFacts("billing", "Billing", AgentState.PUBLISHED, "1"))
        tx.project(Kind.ALIASES, "agent/billing", facts.Aliases((BOT,)))
        tx.project(Kind.USER, "griffin", facts.UserFacts("griffin", "griffin@bench.example", is_enabled=True))
        tx.project(Kind.ALIASES, "user/griffin", facts.Aliases((OBJECT_ID,)))
        tx.project(Kind.SERVER, server.id, server)
        tx.project(Kind.TOOL, f"{server.id}/{TOOL}", facts.ToolFacts(server.id, TOOL, ToolEffect.SEND))
        binding = facts.BindingFacts("billing", server.id, TOOL, CredentialOwner.APP, Scope.WRITE)
        tx.project(Kind.BINDING, f"billing/{server.id}/{TOOL}", binding)
        for body in content.policies():
            if body["id"] != "rate":  # it is there to stop what this does
                tx.project(Kind.POLICY, body["id"], facts.PolicyFacts(body["id"], 1, body))
        tx.audit("bench:found", "bench")
    store.close()
    epoch.beat()
    now = int(time.time())
    claims = {"iss": issuer, "tid": TENANT, "aud": url, "appid": APP, "nbf": now, "iat": now, "exp": now + 3600}
    token = jwt.encode({"alg": "RS256", "typ": "JWT", "kid": "bench"}, claims, key, algorithms=["RS256"])
    return token, json.dumps({"keys": [key.as_dict(private=False)]})


@dataclass
class Measured:
    """Milliseconds. ``hung``: of questions over which the detector hangs; ``late``: others answered at the deadline."""

    calls: int
    seconds: float
    p50: float
    p99: float
    longest: float
    cpu_ms: float
    hung: list[float]
    late: int


class Load:
    """Callers of one endpoint, each on a connection of its own."""

    def __init__(self, port: int, token: str, *, hangs: bool) -> None:
        self._port, self._token, self._hangs = port, token, hangs
        self._numbers = count(random.randrange(10**9) * 1000)

    def request(self, number: int, hangs: bool) -> bytes:
        body = json.dumps(question(number, hangs=hangs)).encode()
        head = (
            "POST /copilot-studio/analyze-tool-execution?api-version=2025-05-01 HTTP/1.1\r\n"
            f"host: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"x-ms-correlation-id: c-{number}\r\nauthorization: Bearer {self._token}\r\n\r\n"
        )
        return head.encode() + body

    async def run(self, concurrency: int, seconds: float, pid: int) -> Measured:
        streams = [await asyncio.open_connection("127.0.0.1", self._port) for _ in range(concurrency)]
        # Made before the clock runs: writing questions must not slow their answers down.
        prepared: list[tuple[bool, bytes]] = []
        for _ in range(int(seconds * 1500) + concurrency):
            number = next(self._numbers)
            hangs = self._hangs and number % EVERY == 0
            prepared.append((hangs, self.request(number, hangs)))
        prepared.reverse()
        deadline = time.perf_counter() + seconds
        latencies: list[float] = []
        hung: list[float] = []
        late = 0

        async def caller(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal late
            while prepared and (begun := time.perf_counter()) < deadline:
                hangs, request = prepared.pop()
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                at = head.lower().index(b"content-length:")
                body = await reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
                (hung if hangs else latencies).append((time.perf_counter() - begun) * 1000)
                if not head.startswith(b"HTTP/1.1 200") or b'"blockAction"' not in body:
                    raise RuntimeError(f"no answer of the contract: {head!r} {body[:300]!r}")
                is_blocked = b'"blockAction":true' in body
                if is_blocked and b"deadline" not in body:
                    raise RuntimeError(f"an honest call was blocked: {body[:300]!r}")
                if hangs and not is_blocked:
                    raise RuntimeError("a call that was not decided on was let go")
                late += is_blocked and not hangs
            writer.close()

        before, begun = cpu_seconds(pid), time.perf_counter()
        await asyncio.gather(*(caller(*stream) for stream in streams))
        elapsed = time.perf_counter() - begun
        await asyncio.sleep(0.2)  # what is recorded in the background counts too
        calls = len(latencies) + len(hung)
        latencies.sort()
        return Measured(
            calls, elapsed, statistics.median(latencies), latencies[int(len(latencies) * 0.99)], latencies[-1],
            (cpu_seconds(pid) - before) / calls * 1000, hung, late,
        )  # fmt: skip


async def run(seconds: float, concurrency: int) -> dict[str, Measured]:
    """Every contender in turn, the quietest round of each."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, *arguments], env=os.environ | (environment or {}))
        processes.append(process)
        return process

    results: dict[str, Measured] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="watchfloor-bench-", ignore_cleanup_errors=True) as directory:
            data = Path(directory)
            ports = {name: free_port() for name in ("keys", "bare endpoint", "watchfloor", "watchfloor, stalled")}
            issuer, url = f"https://sts.windows.net/{TENANT}/", "http://127.0.0.1/copilot-studio"
            token, keys = found_company(data, issuer, url)
            wait_for(ports["keys"], start("-c", KEYS, str(ports["keys"]), keys))
            environment = {
                "WATCHFLOOR_LEASE_SECONDS": "60", "WATCHFLOOR_LOG_LEVEL": "error",
                "WATCHFLOOR_COPILOT_STUDIO_TENANT": TENANT, "WATCHFLOOR_COPILOT_STUDIO_CALLERS": APP,
                "WATCHFLOOR_COPILOT_STUDIO_URL": url,
                "WATCHFLOOR_COPILOT_STUDIO_JWKS_URL": f"http://127.0.0.1:{ports['keys']}/keys",
            }  # fmt: skip
            pids: dict[str, int] = {}
            floor = start("-c", FLOOR, str(ports["bare endpoint"]))
            wait_for(ports["bare endpoint"], floor)
            pids["bare endpoint"] = floor.pid
            for name, how in (("watchfloor", ("-m", "watchfloor")), ("watchfloor, stalled", ("-c", STALLED))):
                worker = start(
                    *how, "gateway", "--data", directory, "--port", str(ports[name]),
                    "--worker-id", name.replace(", ", "-"), environment=environment,
                )  # fmt: skip
                wait_for(ports[name], worker, "/healthz")
                pids[name] = worker.pid
            await asyncio.sleep(1.5)  # keys arrive
            alive = asyncio.create_task(keep_alive(data / "epoch"))
            # Neighbours on this machine come and go: short rounds in turn, and the quietest one of each counts.
            for _ in range(ROUNDS):
                for name, pid in pids.items():
                    load = Load(ports[name], token, hangs=name.endswith("stalled"))
                    found = await load.run(concurrency, seconds, pid)
                    if name not in results or found.p99 < results[name].p99:
                        results[name] = found
            alive.cancel()
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)
    return results


def main() -> int:
    """Print the table; exit status 1 if p99 is over the budget or an answer came after the caller's own limit."""
    parser = argparse.ArgumentParser(prog="python -m bench.webhook", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = asyncio.run(run(arguments.seconds, arguments.concurrency))
    if arguments.json:
        print(json.dumps({name: vars(found) for name, found in results.items()}))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{arguments.concurrency} questions of 3 to 8 kB at once, one worker; milliseconds\n")
    print(f"{'':22}{'answers/s':>10}{'p50':>9}{'p99':>9}{'longest':>9}{'CPU':>8}{'at deadline':>13}")
    for name, found in results.items():
        rate = found.calls / found.seconds
        row = f"{found.p50:9.1f}{found.p99:9.1f}{found.longest:9.1f}{found.cpu_ms:8.2f}{found.late:13}"
        print(f"{name:22}{rate:10.0f}{row}")
    ours, floor, stalled = results["watchfloor"], results["bare endpoint"], results["watchfloor, stalled"]
    print(
        f"\nCPU over the bare endpoint: {ours.cpu_ms - floor.cpu_ms:.2f} ms a call, "
        f"{ours.cpu_ms / floor.cpu_ms:.0f} times as much"
    )
    if stalled.hung:
        print(
            f"one question in {EVERY} hangs a detector: {len(stalled.hung)} were answered in "
            f"{statistics.median(stalled.hung):.0f} ms (median), {max(stalled.hung):.0f} ms (longest); "
            f"deadline {DEADLINE:.0f} ms"
        )
    is_good = ours.p99 <= BUDGET_P99 and max(stalled.hung, default=0.0) < CONTRACT
    print(f"budget: p99 <= {BUDGET_P99:.0f} ms, no answer after {CONTRACT:.0f} ms: {'kept' if is_good else 'MISSED'}")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
