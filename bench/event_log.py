"""The way of an event into the durable log, beside the plain system calls that nothing can do without.

    python -m bench.event_log [--seconds 2]

Rows of one block run interleaved in one process. Budgets: an append to the spool <= 15 us; shipping 100 calls a second
< 3 % of a core. CPU is that of the shipper's own thread; on a machine whose cores share their units with busy
neighbours everything costs more, so compare with the floor of the same run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

import orjson
import psycopg
import pyarrow as pa

from bench.events import activity_row, content_row, machine, percentile
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.log_postgres import PostgresLog
from watchfloor.storage.ports import EventLog
from watchfloor.storage.rows import Rows
from watchfloor.storage.segments import SpoolWriter
from watchfloor.storage.spool import Shipper
from watchfloor.storage.tables import AGENT_ACTIVITY

POSTGRES = os.environ.get("WATCHFLOOR_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
NOW = 1_780_000_000_000_000
RECORDS = [
    orjson.dumps(
        [{"t": "AgentActivity", "r": activity_row(n, NOW + n)}, {"t": "AgentContent", "r": content_row(n, NOW)}]
    )
    for n in range(1000)
]


def spool_append(folder: Path) -> None:
    """An append beside a bare write(2) of the same bytes."""
    floor = os.open(folder / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    writer = SpoolWriter(folder / "spool-append", max_bytes=1 << 30)
    bare: list[float] = []
    ours: list[float] = []
    for record in RECORDS * 10:
        start = time.perf_counter_ns()
        os.write(floor, record)
        middle = time.perf_counter_ns()
        writer.append(record)
        bare.append((middle - start) / 1e3)
        ours.append((time.perf_counter_ns() - middle) / 1e3)
    writer.close()
    os.close(floor)
    size = sum(map(len, RECORDS)) // len(RECORDS)
    print(f"one record of {size} bytes into the spool{'p50 us':>14}{'p99 us':>9}{'x floor':>9}")
    for name, times in (("bare write(2)", bare), ("SpoolWriter.append", ours)):
        p50 = percentile(times, 0.5)
        print(f"  {name:38}{p50:9.1f}{percentile(times, 0.99):9.1f}{p50 / percentile(bare, 0.5):9.1f}")
    kept = "kept" if percentile(ours, 0.5) <= 15 else "NOT kept"
    print(f"  budget <= 15 us: {kept}\n")


def paced(folder: Path, duration: float) -> None:
    """CPU of shipping 100 calls a second, beside writing and syncing the same bytes as often and nothing else."""
    print(f"100 calls a second for {duration:g} s{'commits/s':>16}{'of a core':>11}{'x floor':>9}   append p50, p99 us")
    for interval in (0.02, 0.05):
        rounds, ours, times = _ship_paced(folder, duration, interval)
        floor = _sync_paced(folder, duration, rounds / duration)
        label = f"  {interval * 1e3:.0f} ms: write and sync alone"
        print(f"{label:38}{rounds / duration:8.0f}{floor:11.1%}{1:9.1f}")
        label = f"  {interval * 1e3:.0f} ms: shipper, deduplicated"
        shown = f"{percentile(times, 0.5):.0f}, {percentile(times, 0.99):.0f} (caches are cold)"
        print(f"{label:38}{rounds / duration:8.0f}{ours:11.1%}{ours / floor:9.1f}   {shown}")
        print(f"  budget < 3 % of a core: {'kept' if ours < 0.03 else 'NOT kept'}")
    print()


def _sync_paced(folder: Path, duration: float, rate: float) -> float:
    descriptor = os.open(folder / "paced-floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    start, cpu = time.perf_counter(), time.thread_time()
    while time.perf_counter() - start < duration:
        time.sleep(1 / rate)
        os.write(descriptor, RECORDS[0] * 2)
        os.fdatasync(descriptor)
    os.close(descriptor)
    return (time.thread_time() - cpu) / duration


def _ship_paced(folder: Path, duration: float, interval: float) -> tuple[int, float, list[float]]:
    log = SqliteLog(folder / f"paced-{interval}.db")
    times: list[float] = []
    with SpoolWriter(folder / f"spool-{interval}") as writer:
        shipper = _Measured(writer, log, interval=interval)
        shipper.start()
        writer.append(RECORDS[0])
        shipper.wait_durable(10)  # warm
        segments, start, cpu = shipper.stats.segments, time.perf_counter(), shipper.cpu()
        while time.perf_counter() - start < duration:
            time.sleep(0.01)
            before = time.perf_counter_ns()
            writer.append(RECORDS[len(times) % 1000])
            times.append((time.perf_counter_ns() - before) / 1e3)
        used = (shipper.cpu() - cpu) / duration
        rounds = shipper.stats.segments - segments
        shipper.stop()
    log.close()
    return rounds, used, times


class _Measured(Shipper):
    """A shipper whose thread's CPU time can be read from outside."""

    def cpu(self) -> float:
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident or 0))


def appends(folder: Path, duration: float, logs: dict[str, Callable[[], EventLog]]) -> None:
    """Durable batches, beside writing and syncing the same bytes."""
    shape = Rows(AGENT_ACTIVITY)
    print(f"durable appends, one writer{'rows/s':>22}{'batches/s':>11}{'p50 ms':>8}{'p99 ms':>8}{'x floor':>9}")
    for rows in (2, 50, 500):
        batch = shape.batch([activity_row(n, NOW) for n in range(rows)])
        size = batch.get_total_buffer_size()
        descriptor = os.open(folder / f"floor-{rows}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        blob = os.urandom(size)

        def floor(n: int, descriptor: int = descriptor, blob: bytes = blob) -> None:
            os.write(descriptor, blob)
            os.fdatasync(descriptor)

        opened = {name: make() for name, make in logs.items()}
        work: dict[str, Callable[[int], object]] = {"write and fdatasync": floor}
        for name, log in opened.items():
            work[name] = partial(_append, log, batch, uuid4().hex)
        times: dict[str, list[float]] = {name: [] for name in work}
        start, n = time.perf_counter(), 0
        while time.perf_counter() - start < duration:
            for name, each in work.items():
                before = time.perf_counter()
                each(n)
                times[name].append((time.perf_counter() - before) * 1e3)
            n += 1
        floor_ms = percentile(times["write and fdatasync"], 0.5)
        for name, taken in times.items():
            mean = sum(taken) / len(taken) / 1e3
            p50, p99 = percentile(taken, 0.5), percentile(taken, 0.99)
            label = f"  {rows:3} rows, {name}"
            print(f"{label:36}{rows / mean:13,.0f}{1 / mean:11,.0f}{p50:8.2f}{p99:8.2f}{p50 / floor_ms:9.1f}")
        os.close(descriptor)
        for log in opened.values():
            log.close()  # type: ignore[attr-defined]  # both kinds of log have it, the port has not
    print()


def _append(log: EventLog, batch: pa.RecordBatch, run: str, n: int) -> None:
    log.append("main", batch, f"{run}-{n}")


def several(folder: Path, duration: float) -> None:
    """Several writers of one SQLite log at once."""
    shape = Rows(AGENT_ACTIVITY)
    batch = shape.batch([activity_row(n, NOW) for n in range(500)])
    for writers in (1, 3):
        counts = [0] * writers
        stop = threading.Event()

        def write(number: int, counts: list[int] = counts, stop: threading.Event = stop) -> None:
            log = SqliteLog(folder / "several.db")
            while not stop.is_set():
                log.append("main", batch, f"{number}-{uuid4().hex}")
                counts[number] += 500
            log.close()

        threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
        for thread in threads:
            thread.start()
        stop.wait(duration)
        stop.set()
        for thread in threads:
            thread.join()
        print(f"  {writers} writers of 500-row batches to one SQLite log: {sum(counts) / duration:10,.0f} rows/s")
    print()


def memory() -> None:
    """What the log costs a worker in memory."""
    program = "from bench.events import rss_mib; a = rss_mib(); import orjson; import {}; print(round(rss_mib() - a))"
    for module in ("pyarrow", "watchfloor.storage.spool"):
        run = subprocess.run([sys.executable, "-c", program.format(module)], capture_output=True, text=True, check=True)
        print(f"  import {module}: +{run.stdout.strip()} MiB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement")
    duration = parser.parse_args().seconds
    print(f"{machine()}\n")
    database = f"watchfloor_bench_{uuid4().hex[:12]}"
    logs: dict[str, Callable[[], EventLog]] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("WATCHFLOOR_BENCH_DIR")) as name:
        folder = Path(name)
        logs["SQLite log"] = lambda: SqliteLog(folder / "log.db")
        spool_append(folder)
        paced(folder, 2 * duration)
        try:
            with psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3) as server:
                server.execute(f'CREATE DATABASE "{database}"')
                logs["PostgreSQL log"] = lambda: PostgresLog(f"{POSTGRES.rpartition('/')[0]}/{database}")
                try:
                    appends(folder, duration, logs)
                finally:
                    server.execute(f'DROP DATABASE "{database}" WITH (FORCE)')
        except psycopg.OperationalError as error:
            print(f"no PostgreSQL here: {error}")
            appends(folder, duration, logs)
        several(folder, duration)
    memory()
    return 0


if __name__ == "__main__":
    sys.exit(main())
