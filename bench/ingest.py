"""Telemetry end to end: from four senders over HTTP until KQL sees it, beside "parse and append to Parquet".

    python -m bench.ingest [--events 120000] [--batch 200] [--paced 5000] [--receivers 1]

One receiver (or several that share a port) and one store process, as ``watchfloor up`` runs them. Four senders
post OTLP/protobuf requests that were encoded before the clock starts, so that they cost next to nothing: only their
times are written over while events are paced. Agents, users, tools and models come again and again, as they do; ids,
arguments and messages are different in each span. The floor does the least that anybody could: parse the same requests
with OpenTelemetry's own classes, make columns of ids, times, names and attributes, write zstd Parquet with a sync for
each 500 spans; no HTTP, no mapping, no deduplication, no query.

CPU an event tells more than events a second where the machine has other work. What it comes to is printed too: all
cores shared by all processes, and no process faster than one core.
Goal: >= 10,000 events a second on two cores, and a lag <= 2 s when events come at half of that.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import multiprocessing
import os
import queue
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from bench.events import machine, percentile
from watchfloor.app import make_directories
from watchfloor.storage.activity import moment
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.ports import Limits, Scope
from watchfloor.storage.remote import RemoteStore
from watchfloor.storage.sources import TelemetrySource, save_source

TOKEN = "wfsrc_" + secrets.token_urlsafe(32)
SENDERS = 4
_TICK = os.sysconf("SC_CLK_TCK")


def body(batch: int, number: int, now: int) -> bytes:
    """A request of ``batch`` spans as agents send them: inferences with messages, tool calls with arguments. ``now`` is
    the time that they end at."""
    request = ExportTraceServiceRequest()
    by_resource = request.resource_spans.add()
    by_resource.resource.attributes.add(key="service.name").value.string_value = "zava-billing"
    spans = by_resource.scope_spans.add().spans
    trace = os.urandom(16)
    for n in range(batch):
        is_tool = n % 2
        name = "execute_tool SendEmailV2" if is_tool else "chat gpt-5"
        span = spans.add(
            trace_id=trace, span_id=os.urandom(8), name=name, start_time_unix_nano=now, end_time_unix_nano=now
        )
        texts = {
            "gen_ai.operation.name": "execute_tool" if is_tool else "chat",
            "gen_ai.agent.id": f"agent-{number % 20}",
            "gen_ai.agent.name": "Customer Billing Agent",
            "gen_ai.conversation.id": f"conversation-{number}",
            "microsoft.tenant.id": "11111111-1111-1111-1111-111111111111",
            "user.id": "griffin",
            "user.email": "griffin@zava.example",
            "client.address": "198.51.100.7",
        }
        invoice = f"{number}-{n}"
        if is_tool:
            to = f'{{"to":"customer{n}@contoso.example","subject":"Your invoice {invoice}","body":"…"}}'
            texts |= {
                "gen_ai.tool.name": "SendEmailV2",
                "gen_ai.tool.call.id": f"call_{invoice}",
                "gen_ai.tool.call.arguments": to,
                "server.address": "mail.example",
            }
        else:
            asked = f'[{{"role":"user","parts":[{{"type":"text","content":"Where is {invoice}?"}}]}}]'
            answer = f'[{{"role":"assistant","parts":[{{"type":"text","content":"{invoice} is on its way."}}]}}]'
            texts |= {
                "gen_ai.request.model": "gpt-5",
                "gen_ai.provider.name": "openai",
                "gen_ai.input.messages": asked,
                "gen_ai.output.messages": answer,
            }
            span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 120 + n
            span.attributes.add(key="gen_ai.usage.output_tokens").value.int_value = 30 + number % 50
        for key, text in texts.items():
            span.attributes.add(key=key).value.string_value = text
    raw: bytes = request.SerializeToString()
    return raw


SOME_TIME = 0x17_5A_7B_3C_9D_1E_2F_43
"""A time that is written over when a request is sent: these eight bytes stand nowhere else in it."""


def at_this_moment(raw: bytes) -> bytes:
    """The same request, of steps that end now."""
    return raw.replace(SOME_TIME.to_bytes(8, "little"), time.time_ns().to_bytes(8, "little"))


def send(port: int, bodies: list[bytes], gap: float, go: Any, told: Any, token: str = TOKEN) -> None:
    """One sender: post each body, as fast as it is answered, or every ``gap`` seconds; comes back when told to."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"content-type": "application/x-protobuf", "authorization": f"Bearer {token}"}
    go.wait()
    refused, delays = 0, []
    next_at = time.monotonic()
    for raw in bodies:
        if gap:
            raw = at_this_moment(raw)
        while True:
            before = time.monotonic()
            connection.request("POST", "/v1/traces", raw, headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status == 200:
                assert said == b"", said
                delays.append(time.monotonic() - before)
                break
            assert answer.status in (429, 503), (answer.status, said)
            refused += 1
            time.sleep(0.2)
        next_at += gap
        if gap:
            time.sleep(max(0.0, next_at - time.monotonic()))
    told.put((refused, delays, time.process_time()))


def cpu_seconds(pid: int) -> float:
    """CPU that a process has used, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


class Installation:
    """Receivers and a store process on a new data directory."""

    def __init__(self, folder: Path, receivers: int) -> None:
        self.data = folder / "data"
        make_directories(self.data)
        self.epoch = EpochFile.create(self.data / "epoch")
        self.control = SqlControlStore.open(f"sqlite:///{self.data / 'control.db'}", epoch=self.epoch)
        at = datetime.now(UTC)
        hashed = hashlib.sha256(TOKEN.encode()).hexdigest()
        with self.control.tx("bench") as tx:
            save_source(tx, TelemetrySource("bench", "bench", hashed, at, at, events_per_second=10_000_000))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        base = [sys.executable, "-m", "watchfloor"]
        quiet = {"stdout": (folder / "log").open("wb"), "stderr": subprocess.STDOUT}
        self.store = subprocess.Popen([*base, "store", "--data", str(self.data)], **quiet)
        doors = ["receiver", "--data", str(self.data), "--port", str(self.port), "--grpc-port", "0"]
        self.receivers = [
            subprocess.Popen(
                [*base, *doors, "--worker-id", f"receiver-{number}"],
                env=os.environ | {"WATCHFLOOR_LEASE_SECONDS": "60"},
                **quiet,
            )
            for number in range(receivers)
        ]
        self.events = RemoteStore(self.data / "run" / "store.sock")
        self.wait_for(lambda: (self.data / "run" / "store.sock").exists() and self.is_ready())
        while not all(cpu_seconds(process.pid) > 0.5 for process in self.receivers):
            time.sleep(0.05)  # whoever listens first answers for all
        self.wait_for(lambda: all(self.is_ready() for _ in range(20)))

    def cpu(self, since: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float]:
        """Seconds of CPU of the receivers and of the store process."""
        receivers = sum(cpu_seconds(process.pid) for process in self.receivers)
        return receivers - since[0], cpu_seconds(self.store.pid) - since[1]

    def is_ready(self) -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def wait_for(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self.epoch.beat()
            assert all(process.poll() is None for process in (*self.receivers, self.store)), "a process ended"
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.02)

    def count(self, kql: str) -> int:
        compiled = KqlCompiler().compile(f"{kql} | count", Scope())
        (batch,) = self.events.query(compiled, Scope(), Limits())
        return int(batch.column(0)[0].as_py())

    def lag(self, since: datetime) -> tuple[float, float]:
        """Seconds from an event's end until the store had it, p50 and p99, of events since then."""
        kql = (
            f"AgentActivity | where Timestamp > {moment(since)} | extend Lag = (IngestTime - Timestamp) / 1s"
            " | summarize percentiles(Lag, 50, 99)"
        )
        compiled = KqlCompiler().compile(kql, Scope())
        (found,) = self.events.query(compiled, Scope(), Limits())
        return float(found.column(0)[0].as_py()), float(found.column(1)[0].as_py())

    def close(self) -> None:
        for process in (*self.receivers, self.store):
            process.terminate()
            process.wait(30)
        self.control.close()


def run(at: Installation, bodies: list[bytes], gap: float) -> tuple[float, list[float], float]:
    """Seconds from the first request until the last is answered, how long each took, and the senders' CPU seconds."""
    context = multiprocessing.get_context("fork")
    go, told = context.Event(), context.Queue()
    senders = [
        context.Process(target=send, args=(at.port, bodies[n::SENDERS], gap * SENDERS, go, told))
        for n in range(SENDERS)
    ]
    for sender in senders:
        sender.start()
    start = time.monotonic()
    go.set()
    found = []
    while len(found) < SENDERS:
        at.epoch.beat()
        try:
            found.append(told.get(timeout=0.05))
        except queue.Empty:
            continue
    taken = time.monotonic() - start
    for sender in senders:
        sender.join()
    if refused := sum(r for r, _, _ in found):
        print(f"  {refused} requests were sent away and came back")
    return taken, [delay for _, delays, _ in found for delay in delays], sum(cpu for _, _, cpu in found)


def floor(folder: Path, bodies: list[bytes]) -> tuple[float, float]:
    """Seconds, and CPU seconds, to parse the bodies and write their spans as Parquet: 500 at a time, each synced."""
    start, cpu = time.monotonic(), time.process_time()
    rows: list[tuple[bytes, bytes, int, str, dict[str, str]]] = []
    for number, raw in enumerate(bodies):
        for by_resource in ExportTraceServiceRequest.FromString(raw).resource_spans:
            for by_scope in by_resource.scope_spans:
                rows += [
                    (s.trace_id, s.span_id, s.start_time_unix_nano, s.name, text_attributes(s.attributes))
                    for s in by_scope.spans
                ]
        if len(rows) >= 500:
            columns = [list(column) for column in zip(*rows, strict=True)]
            columns[-1] = [orjson.dumps(attributes) for attributes in columns[-1]]
            table = pa.table(columns, names=["trace", "span", "start", "name", "attributes"])
            with (folder / f"floor-{number}.parquet").open("wb") as file:
                pq.write_table(table, file, compression="zstd")
                os.fsync(file.fileno())
            rows = []
    return time.monotonic() - start, time.process_time() - cpu


def text_attributes(attributes: Iterable[KeyValue]) -> dict[str, str]:
    """Attributes, as far as they are texts."""
    return {pair.key: pair.value.string_value for pair in attributes}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=120_000)
    parser.add_argument("--batch", type=int, default=200, help="spans a request")
    parser.add_argument("--paced", type=int, default=5_000, help="events a second of the second run")
    parser.add_argument("--receivers", type=int, default=1, help="receiver processes")
    options = parser.parse_args()
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory(dir=os.environ.get("WATCHFLOOR_BENCH_DIR")) as name:
        folder = Path(name)
        bodies = [body(options.batch, n, time.time_ns()) for n in range(options.events // options.batch)]
        size = sum(map(len, bodies))
        few = bodies[: max(1, len(bodies) // 4)]
        least, least_cpu = (seconds / (len(few) * options.batch) for seconds in floor(folder, few))
        at = Installation(folder, options.receivers)
        try:
            at.wait_for(lambda: at.count("AgentActivity") == 0)
            before = at.cpu()
            start = time.monotonic()
            answered, _, sending = run(at, bodies, 0.0)
            at.wait_for(lambda: at.count("AgentActivity") == options.events)
            visible = time.monotonic() - start
            used = at.cpu(before)
            per = [1e6 * seconds / options.events for seconds in used]
            each = size // options.events
            senders = 1e6 * sending / options.events
            cores = os.cpu_count() or 1
            comes_to = min(1e6 / max(per[0] / options.receivers, per[1]), cores * 1e6 / (sum(per) + senders))
            print(f"{options.events} spans of {each} bytes, {options.batch} a request, {SENDERS} senders")
            print(f"  receivers                   {options.receivers:6}")
            print(f"  durable and answered        {options.events / answered:10,.0f} events/s")
            print(f"  visible to KQL              {options.events / visible:10,.0f} events/s")
            shares = f"{per[0]:.0f} us receiver, {per[1]:.0f} us store, {senders:.0f} us senders"
            print(f"  CPU an event                {shares}")
            print(f"  which comes to              {comes_to:10,.0f} events/s on {cores} cores that do nothing else")
            print(f"  floor: parse, Parquet, sync {1 / least:10,.0f} events/s, {1e6 * least_cpu:.0f} us CPU an event")
            print(f"  ratio to the floor          {sum(per) / (1e6 * least_cpu):10.1f} x the CPU")
            print(f"budget >= 10,000 events/s: {'kept' if options.events / visible >= 10_000 else 'NOT kept'}\n")
            paced(at, options.paced, options.batch)
        finally:
            at.close()
    return 0


def paced(at: Installation, rate: int, batch: int) -> None:
    """How long from sending to answer, and to KQL, while ``rate`` events a second come."""
    seconds = 15
    bodies = [body(batch, n, SOME_TIME) for n in range(rate * seconds // batch)]
    before = at.cpu()
    goal = at.count("AgentActivity") + len(bodies) * batch
    since = datetime.now(UTC)
    start = time.monotonic()
    answered, delays, _ = run(at, bodies, batch / rate)
    at.wait_for(lambda: at.count("AgentActivity") >= goal)
    used = at.cpu(before)
    took = time.monotonic() - start
    lag = at.lag(since)
    print(f"paced: {len(bodies) * batch / answered:,.0f} events/s for {answered:.0f} s")
    p50, p99 = (percentile(delays, share) * 1e3 for share in (0.5, 0.99))
    print(f"  request answered            p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    print(f"  visible to KQL after        p50 {lag[0]:.2f} s, p99 {lag[1]:.2f} s")
    print(f"  CPU                         {used[0] / took:.0%} of a core receiver, {used[1] / took:.0%} store")
    print(f"budget lag <= 2 s: {'kept' if lag[1] <= 2 else 'NOT kept'}")


if __name__ == "__main__":
    sys.exit(main())
