"""The event store: from log to table, and from question to answer, beside what the engine does at best.

    python -m bench.event_store [--rows 200000]

Ingest is compared with writing the same rows as zstd Parquet with a sync; queries in KQL with SQL written by hand on
the bare table. Budgets: KQL <= 1.3 x hand-written SQL, translation <= 5 ms p95, an event visible <= 2 s after it was
appended to the spool.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from bench.events import activity_row, machine, percentile, rss_mib, seconds
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.drain import Drain, drain
from watchfloor.storage.events import DuckDbStore
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.ports import Limits, Scope
from watchfloor.storage.rows import Rows
from watchfloor.storage.segments import SpoolWriter
from watchfloor.storage.spool import Shipper
from watchfloor.storage.tables import AGENT_ACTIVITY

START = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1e6)
NOW = datetime(2026, 11, 1, 6, tzinfo=UTC)

QUERIES = [
    (
        "new events",
        "AgentActivity | where IngestSeq > {middle} | sort by IngestSeq asc | take 5000",
        """SELECT * FROM hot."AgentActivity" WHERE "TenantId" = 'default' AND "IngestSeq" > {middle}
           ORDER BY "IngestSeq" LIMIT 5000""",
    ),
    (
        "blocked by user and hour",
        'AgentActivity | where Verdict == "block" | summarize count() by UserId, bin(Timestamp, 1h)',
        """SELECT "UserId", time_bucket(INTERVAL 1 HOUR, "Timestamp") AS t, count(*) FROM hot."AgentActivity"
           WHERE "TenantId" = 'default' AND "Verdict" = 'block' GROUP BY ALL""",
    ),
    (
        "contains, in a time range",
        'AgentActivity | where Timestamp > ago(3h) and IPAddress contains "77.1" | count',
        """SELECT count(*) FROM hot."AgentActivity" WHERE "TenantId" = 'default'
           AND "Timestamp" > TIMESTAMPTZ '2026-11-01 03:00:00+00' AND contains(lower("IPAddress"), lower('77.1'))""",
    ),
    (
        "one agent's last 100",
        'AgentActivity | where AgentId == "agent-7" | sort by Timestamp | take 100 | project Timestamp, ToolName',
        """SELECT "Timestamp", "ToolName" FROM hot."AgentActivity"
           WHERE "TenantId" = 'default' AND "AgentId" = 'agent-7' ORDER BY "Timestamp" DESC LIMIT 100""",
    ),
]


def ingest(folder: Path, rows: int, store: DuckDbStore) -> None:
    """Rows a second from the log into the table, for batches as large and as small as they come."""
    shape = Rows(AGENT_ACTIVITY)
    step = 6 * 3600 * 1_000_000 // rows
    log = SqliteLog(folder / "log.db")
    large = [
        shape.batch([activity_row(n, START + n * step) for n in range(start, start + 500)])
        for start in range(0, rows, 500)
    ]
    for number, batch in enumerate(large):
        log.append("main", batch, f"large-{number}")

    def parquet() -> None:
        for start in range(0, len(large), 40):
            path = folder / f"floor-{start}.parquet"
            with path.open("wb") as file:
                pq.write_table(pa.Table.from_batches(large[start : start + 40]), file, compression="zstd")
                os.fsync(file.fileno())

    floor = seconds(parquet)
    ours = seconds(lambda: drain(log, store))
    few = rows // 20
    for number in range(few // 2):
        pair = [activity_row(rows + 2 * number + i, START) for i in range(2)]
        log.append("main", shape.batch(pair), f"small-{number}")
    small = seconds(lambda: drain(log, store))
    print(f"{rows} rows in batches of 500 {'rows/s':>12}{'x floor':>9}")
    print(f"  zstd Parquet and sync       {rows / floor:12,.0f}{1:9.1f}")
    print(f"  log to DuckDB               {rows / ours:12,.0f}{ours / floor:9.1f}")
    print(f"  the same, batches of 2      {few / small:12,.0f}   ({few} rows)\n")
    log.close()


def queries(store: DuckDbStore, rows: int) -> None:
    """KQL through every wall, beside hand-written SQL on the bare table."""
    compiler = KqlCompiler(now=lambda: NOW)
    scope, limits = Scope(), Limits(max_rows=100_000)
    middle = (rows // 1000) << 20
    bare = store._connection.cursor()
    print(f"{'query':32}{'SQL ms':>9}{'KQL ms':>9}{'ratio':>7}{'translation ms p95':>20}")
    kept = True
    for name, kql, sql in QUERIES:
        by_hand, by_kql, translation = [], [], []
        text, hand = kql.format(middle=middle), sql.format(middle=middle)
        list(store.query(compiler.compile(text, scope), scope, limits))
        for _ in range(30):
            by_hand.append(seconds(lambda hand=hand: bare.sql(hand).to_arrow_table()) * 1e3)
            translation.append(seconds(lambda text=text: compiler.compile(text, scope)) * 1e3)
            compiled = compiler.compile(text, scope)
            by_kql.append(seconds(lambda compiled=compiled: list(store.query(compiled, scope, limits))) * 1e3)
        a, b, t = percentile(by_hand, 0.5), percentile(by_kql, 0.5), percentile(translation, 0.95)
        # What every query costs, whatever its size: its own connection, its views, its analysis.
        kept &= b <= 1.3 * a + 5.0 and t <= 5.0
        print(f"{name:32}{a:9.1f}{b:9.1f}{b / a:7.2f}{t:20.1f}")
    verdict = "kept" if kept else "NOT kept"
    print(f"budget <= 1.3 x + 5 ms for the walls around each query, translation <= 5 ms p95: {verdict}\n")


def visible(folder: Path, store: DuckDbStore) -> None:
    """From append to answer, with 100 events a second on the way; and what the drain costs meanwhile."""
    log = SqliteLog(folder / "visible.db")
    stop = threading.Event()
    loop = Drain(log, store)
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    clock = time.pthread_getcpuclockid(thread.ident or 0)
    delays = []
    with SpoolWriter(folder / "spool") as writer:
        shipper = Shipper(writer, log)
        shipper.start()
        start, cpu, n = time.perf_counter(), time.clock_gettime(clock), 0
        while time.perf_counter() - start < 3:
            report = f"seen-{n}"
            writer.append(orjson.dumps({"t": "AgentActivity", "r": activity_row(n, START) | {"ReportId": report}}))
            if n % 50 == 0:
                before = time.perf_counter()
                query = KqlCompiler().compile(f'AgentActivity | where ReportId == "{report}" | count', Scope())
                while next(iter(store.query(query, Scope(), Limits()))).column(0)[0].as_py() == 0:
                    time.sleep(0.02)
                delays.append(time.perf_counter() - before)
            time.sleep(0.01)
            n += 1
        elapsed = time.perf_counter() - start
        used = (time.clock_gettime(clock) - cpu) / elapsed
        shipper.stop()
    stop.set()
    thread.join()
    log.close()
    worst = max(delays)
    print(f"visible to queries after: p50 {percentile(delays, 0.5) * 1e3:.0f} ms, worst {worst * 1e3:.0f} ms")
    print(f"budget <= 2 s: {'kept' if worst <= 2 else 'NOT kept'}")
    print(f"drain at {n / elapsed:.0f} events a second: {used:.1%} of a core\n")


def maintenance(store: DuckDbStore, folder: Path, rows: int) -> None:
    """Moving a closed day to Parquet."""
    moved: dict[str, int] = {}
    taken = seconds(lambda: moved.update(store.maintain(NOW + timedelta(days=30)).exported))
    size = sum(f.stat().st_size for f in (folder / "cold").rglob("*.parquet"))
    count = sum(moved.values())
    print(f"export of {count} rows: {taken:.1f} s, {size / max(1, count):.0f} bytes a row; memory {rss_mib():.0f} MiB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory(dir=os.environ.get("WATCHFLOOR_BENCH_DIR")) as name:
        folder = Path(name)
        store = DuckDbStore(folder / "events.duckdb", folder / "cold", memory_limit="1GB")
        try:
            ingest(folder, rows, store)
            queries(store, rows)
            visible(folder, store)
            maintenance(store, folder, rows)
        finally:
            store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
