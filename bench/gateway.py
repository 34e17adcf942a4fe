"""The gateway against nothing at all and against a peer: latency added, CPU a call, calls a second, memory.

    python bench/gateway.py [--seconds 4] [--json]

Runs a tool server of the official SDK, one real gateway worker (records on, shipping on, ten policies), and FastMCP's
``create_proxy`` twice (as it comes, and with one HTTP client shared), all on this machine in the same run. Load is raw
HTTP over kept connections, the same recorded request for everybody. CPU is read from /proc. Takes about a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchfloor.storage.epoch import EpochFile

HERE = Path(__file__).resolve()
MODERN = "2026-07-28"
ROUNDS = 3
TICKS = os.sysconf("SC_CLK_TCK")

TOOL_SERVER = """
import sys
import uvicorn
from mcp.server.mcpserver import MCPServer
mcp = MCPServer("mail")

@mcp.tool()
async def lookup(key: str) -> str:
    "Look a customer up."
    return f"record of {key}"

uvicorn.run(mcp.streamable_http_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
"""

HOP = """
import sys
import uvicorn
from watchfloor.gateway.http1 import Pool
from watchfloor.gateway.upstream import _Address

KEPT = (b"content-type", b"accept", b"mcp-protocol-version", b"mcp-method", b"mcp-name")
address, pool = _Address(sys.argv[2]), None

async def hop(scope, receive, send):
    global pool
    if scope["type"] != "http":
        return
    if pool is None:
        pool = Pool(limit=100, connect_seconds=5)
    body = (await receive())["body"]
    head = b"POST %s HTTP/1.1\\r\\nhost: %s\\r\\n" % (address.target, address.host)
    head += b"".join(b"%s: %s\\r\\n" % (k, v) for k, v in scope["headers"] if k in KEPT)
    request = head + b"content-length: %d\\r\\n\\r\\n" % len(body) + body
    response = await pool.request(address.origin, request, 30)
    answer = await response.read()
    response.close()
    headers = [(b"content-type", response.headers[b"content-type"]), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})

uvicorn.run(hop, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False, lifespan="off",
            loop="uvloop", http="httptools", date_header=False, server_header=False)
"""
"""A hop that forwards and does nothing else: no token, no decision, no record. What being in between costs at least."""

PROXY = """
import ssl
import sys
import httpx2
import uvicorn
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.server import create_proxy
port, upstream, shared = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "shared"
target = upstream
if shared:
    # One TLS context for all clients: loading the trust store for each is what costs most.
    context = ssl.create_default_context()

    def client(**kwargs):
        return httpx2.AsyncClient(**{**kwargs, "verify": context})

    target = StreamableHttpTransport(upstream, httpx_client_factory=client)
uvicorn.run(create_proxy(target).http_app(), host="127.0.0.1", port=port, log_level="error", access_log=False)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of what it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(f) for f in fields[11:15]) / TICKS


def rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def call_body() -> bytes:
    return json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {
                "name": "lookup",
                "arguments": {"key": "customer-4711"},
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": MODERN,
                    "io.modelcontextprotocol/clientCapabilities": {},
                    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
                },
            },
        }
    ).encode()


def raw_request(port: int, path: str, token: str | None) -> bytes:
    body = call_body()
    lines = [
        f"POST {path} HTTP/1.1",
        f"host: 127.0.0.1:{port}",
        "accept: application/json, text/event-stream",
        "content-type: application/json",
        f"mcp-protocol-version: {MODERN}",
        "mcp-method: tools/call",
        "mcp-name: lookup",
        f"content-length: {len(body)}",
    ]
    if token:
        lines.append(f"authorization: Bearer {token}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def one_answer(reader: asyncio.StreamReader) -> bytes:
    """The body of one HTTP response, by length or in chunks."""
    head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode("latin-1") + (await reader.read(2000)).decode("latin-1"))
    at = lowered.find(b"content-length:")
    if at >= 0:
        return await reader.readexactly(int(lowered[at + 15 : lowered.index(b"\r\n", at)]))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body


@dataclass
class Measured:
    calls: int
    seconds: float
    p50: float
    p99: float
    cpu_ms: float
    upstream_cpu_ms: float
    rss: float

    @property
    def rate(self) -> float:
        return self.calls / self.seconds


async def load(port: int, request: bytes, connections: int, seconds: float) -> list[float]:
    """Latencies in milliseconds."""
    deadline = time.perf_counter() + seconds
    latencies: list[float] = []

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (begun := time.perf_counter()) < deadline:
            writer.write(request)
            body = await one_answer(reader)
            latencies.append((time.perf_counter() - begun) * 1000)
            if b"record of customer-4711" not in body:
                raise RuntimeError(f"not the tool's answer: {body[:500]!r}")
        writer.close()

    await asyncio.gather(*(caller() for _ in range(connections)))
    return latencies


async def measure(port: int, request: bytes, connections: int, seconds: float, pid: int, upstream_pid: int) -> Measured:
    await load(port, request, connections, min(1.0, seconds / 3))
    before, up_before, begun = cpu_seconds(pid), cpu_seconds(upstream_pid), time.perf_counter()
    latencies = await load(port, request, connections, seconds)
    elapsed = time.perf_counter() - begun
    await asyncio.sleep(0.2)  # what is recorded in the background counts too
    calls = len(latencies)
    latencies.sort()
    return Measured(
        calls,
        elapsed,
        statistics.median(latencies),
        latencies[int(calls * 0.99)],
        (cpu_seconds(pid) - before) / calls * 1000,
        (cpu_seconds(upstream_pid) - up_before) / calls * 1000,
        rss_mib(pid),
    )


def wait_for(port: int, process: subprocess.Popen[bytes], path: str = "") -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended with {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                if not path:
                    return
                connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
                if connection.recv(64).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"nothing answers on port {port}")


def policies(count: int) -> list[dict[str, Any]]:
    """Ten kinds of conditions that all look at the benched call, and never apply."""
    conditions = [
        "args.key == 'nobody-{n}'",
        "user.risk == 'high' && args.key.startsWith('x{n}')",
        "agent.platform == 'none-{n}'",
        "args.key.size() > 1000 + {n}",
        "counters.calls_last_minute > 100000000 + {n}",
        "tool.name == 'other-{n}'",
        "'group-{n}' in user.groups",
        "server.id == 'other-{n}'",
        "args.key.contains('DROP TABLE {n}')",
        "args.key.matches('^secret-{n}-[0-9]+$')",
    ]
    return [
        {
            "id": f"bench-{n}",
            "title": f"Bench {n}",
            "description": "For measuring.",
            "effect": "block",
            "severity": "low",
            "tactic": "Impact",
            "techniques": ["T1499"],
            "when": conditions[n % len(conditions)].format(n=n),
            "message": "Never.",
        }
        for n in range(count)
    ]


def found_company(data: Path, tool_url: str, gateway_url: str, issuer: str, policy_count: int) -> str:
    """Everything that the call needs, written as the control plane writes it; a token."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from joserfc import jwt
    from joserfc.jwk import RSAKey

    from watchfloor.guard.policy import PolicySet
    from watchfloor.model import facts
    from watchfloor.model.agents import AgentState, CredentialOwner, Scope, ServerState, ToolEffect
    from watchfloor.model.facts import Kind
    from watchfloor.storage.control import SqlControlStore
    from watchfloor.storage.vault import Vault

    epoch = EpochFile.create(data / "epoch")
    vault = Vault.open(data / "keys" / "vault.key")
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = RSAKey.import_key(pem, {"kid": "bench", "use": "sig", "alg": "RS256"})
    published = [facts.PolicyFacts(str(body["id"]), 1, body) for body in policies(policy_count)]
    PolicySet.build(published)
    store = SqlControlStore.open(f"sqlite:///{data / 'control.db'}", epoch=epoch)
    with store.tx() as tx:
        tx.project(Kind.ORGANIZATION, "", facts.Organization("Bench", ("bench.example",)))
        tx.project(Kind.SIGNING_KEY, "bench", facts.SigningKey("bench", key.as_dict(private=False)))
        tx.project(Kind.AGENT, "billing", facts.AgentFacts("billing", "Billing", AgentState.PUBLISHED, "1"))
        tx.project(Kind.USER, "griffin", facts.UserFacts("griffin", "griffin@bench.example", is_enabled=True))
        tx.project(
            Kind.SERVER,
            "mail",
            facts.ServerFacts("mail", "Mail", tool_url, ServerState.AVAILABLE, credential_id="app"),
        )
        tx.project(Kind.TOOL, "mail/lookup", facts.ToolFacts("mail", "lookup", ToolEffect.READ))
        binding = facts.BindingFacts("billing", "mail", "lookup", CredentialOwner.APP, Scope.READ)
        tx.project(Kind.BINDING, "billing/mail/lookup", binding)
        tx.project(Kind.CREDENTIAL, "app", facts.CredentialFacts("app", "bearer", vault.seal(b"secret", "app")))
        for policy in published:
            tx.project(Kind.POLICY, policy.id, policy)
        tx.audit("bench:found", "bench")
    store.close()
    epoch.beat()
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": f"{gateway_url}/mcp/mail",
        "sub": "user:griffin",
        "azp": "agent:billing",
        "act": {"sub": "agent:billing"},
        "sid": "bench",
        "scope": "read",
        "mode": "obo",
        "sev": 1,
        "aev": 1,
        "jti": "bench",
        "iat": now,
        "exp": now + 600,
    }
    return jwt.encode({"alg": "RS256", "typ": "at+jwt", "kid": "bench"}, claims, key, algorithms=["RS256"])


async def keep_alive(epoch: Path) -> None:
    """Beat as the server would: without it the worker stops trusting its state."""
    file = EpochFile.create(epoch)
    while True:
        file.beat()
        await asyncio.sleep(1)


async def run(seconds: float, policy_count: int, peers: bool) -> dict[str, Any]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, *arguments], env=os.environ | (environment or {}))
        processes.append(process)
        return process

    results: dict[str, dict[str, Measured]] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="watchfloor-bench-") as directory:
            data = Path(directory)
            tool_port, gateway_port = free_port(), free_port()
            upstream = start("-c", TOOL_SERVER, str(tool_port))
            gateway_url, server_url = f"http://127.0.0.1:{gateway_port}", "http://127.0.0.1:1"
            token = found_company(
                data, f"http://127.0.0.1:{tool_port}/mcp", gateway_url, f"{server_url}/sts", policy_count
            )
            gateway = start(
                "-m", "watchfloor", "gateway", "--data", directory, "--port", str(gateway_port),
                environment={"WATCHFLOOR_LEASE_SECONDS": "60", "WATCHFLOOR_SERVER_URL": server_url},
            )  # fmt: skip
            wait_for(tool_port, upstream)
            wait_for(gateway_port, gateway, "/healthz")
            hop_port = free_port()
            hop = start("-c", HOP, str(hop_port), f"http://127.0.0.1:{tool_port}/mcp")
            wait_for(hop_port, hop)
            contenders = [
                ("direct", tool_port, raw_request(tool_port, "/mcp", None), upstream.pid),
                ("bare hop", hop_port, raw_request(hop_port, "/mcp", None), hop.pid),
                ("watchfloor", gateway_port, raw_request(gateway_port, "/mcp/mail", token), gateway.pid),
            ]
            if peers:
                for name in ("shared", "default"):
                    port = free_port()
                    proxy = start("-c", PROXY, str(port), f"http://127.0.0.1:{tool_port}/mcp", name)
                    wait_for(port, proxy)
                    contenders.append((f"fastmcp, {name}", port, raw_request(port, "/mcp", None), proxy.pid))
            alive = asyncio.create_task(keep_alive(data / "epoch"))
            # Neighbours on this machine come and go: short rounds in turn, and the quietest one of each counts.
            for round_number in range(ROUNDS):
                for name, port, request, pid in contenders:
                    if name.startswith("fastmcp") and round_number > 0:
                        continue
                    kept = results.setdefault(name, {})
                    for connections in (1, 16):
                        if name == "fastmcp, default" and connections > 1:
                            continue  # does not end in reasonable time
                        measured = await measure(port, request, connections, seconds, pid, upstream.pid)
                        before = kept.get(f"c={connections}")
                        if before is None or measured.p50 < before.p50:
                            kept[f"c={connections}"] = measured
            alive.cancel()
            gateway.terminate()
            status = gateway.wait(30)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
    return {"results": results, "gateway_exit": status}


def report(outcome: dict[str, Any], policy_count: int) -> None:
    results: dict[str, dict[str, Measured]] = outcome["results"]
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "?: ?")
    print(f"{os.cpu_count()} x {cpu.partition(': ')[2]}, {platform.system()} {platform.release()}, "
          f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(f"the quietest of {ROUNDS} rounds each (the peer: one)")
    print(f"{'':18}{'':6}{'p50 ms':>8}{'p99 ms':>8}{'calls/s':>9}{'CPU ms':>8}{'up CPU':>8}{'RSS MiB':>9}")
    for name, rows in results.items():
        for at, m in rows.items():
            own = "-" if name == "direct" else f"{m.cpu_ms:.3f}"
            print(f"{name:18}{at:6}{m.p50:8.2f}{m.p99:8.2f}{m.rate:9.0f}{own:>8}{m.upstream_cpu_ms:8.3f}{m.rss:9.0f}")
    direct, ours = results["direct"], results["watchfloor"]
    hop = results["bare hop"]
    print()
    for at in ours:
        print(f"added at {at}: p50 {ours[at].p50 - direct[at].p50:+.2f} ms (budget 0.5), "
              f"p99 {ours[at].p99 - direct[at].p99:+.2f} ms (budget 5); a bare hop adds "
              f"{hop[at].p50 - direct[at].p50:+.2f} and {hop[at].p99 - direct[at].p99:+.2f} ms; "
              f"CPU {ours[at].cpu_ms:.3f} ms, {ours[at].cpu_ms / hop[at].cpu_ms:.1f} times the hop's")  # fmt: skip
    worst = max(m.cpu_ms for m in ours.values())
    print(f"CPU a call, {policy_count} policies, recorded and shipped: {worst:.3f} ms (budget 0.5); "
          f"{1000 / worst:.0f} calls/s a core (budget 1000)")  # fmt: skip
    print(f"memory: {max(m.rss for m in ours.values()):.0f} MiB (budget 150)")
    for name, rows in results.items():
        if name.startswith("fastmcp"):
            print(f"{name} costs {rows['c=1'].cpu_ms / ours['c=1'].cpu_ms:.0f} times the CPU of watchfloor a call, "
                  f"and {rows['c=1'].p50 / ours['c=1'].p50:.0f} times its p50")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--policies", type=int, default=10)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    outcome = asyncio.run(run(arguments.seconds, arguments.policies, not arguments.no_peers))
    if arguments.json:
        plain = {n: {at: vars(m) for at, m in rows.items()} for n, rows in outcome["results"].items()}
        print(json.dumps({"machine": platform.platform(), "cores": os.cpu_count(), "results": plain}))
    else:
        report(outcome, arguments.policies)


if __name__ == "__main__":
    main()
