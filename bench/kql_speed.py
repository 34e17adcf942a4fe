"""KQL beside SQL that an expert wrote by hand for the same question, and what translation takes.

    python -m bench.kql_speed [--rows 1000000] [--runs 7] [--gold FILE] [--sql] [--json]

Both run in one engine, in turn, each through to its Arrow result, and are timed in CPU time of the process (all of the
engine's threads), which other processes do not inflate much; what counts is the ratio of the medians. Each pair must
give the same answer before it is timed; for dcount, which KQL defines as an estimate, nearly the same.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import pyarrow as pa
import yaml

from bench.guard_decision import machine
from watchfloor import kql
from watchfloor.kql.bind import bind
from watchfloor.kql.ir import Question
from watchfloor.kql.sql import generate
from watchfloor.kql.values import parse_datetime
from watchfloor.storage.compiler import physical
from watchfloor.storage.engine import Engine
from watchfloor.storage.ports import CompiledQuery, Limits, Scope

ROOT = Path(__file__).parent.parent
NOW = parse_datetime("2026-03-05") or 0
ASKER = kql.Scope(("default",))
BUDGET_RATIO, BUDGET_MS = 1.3, 5.0

COLUMNS = {
    "Timestamp": "datetime", "EventId": "long", "AgentId": "string", "UserId": "string", "ToolName": "string",
    "Message": "string", "Size": "long", "Tags": "dynamic", "Payload": "dynamic", "RawPayload": "string",
    "IsBlocked": "bool",
}  # fmt: skip

MADE = """
SELECT
    make_timestamptz(1770000000000000 + i * 2500000 + (hash(i) % 2000000)::BIGINT) AS Timestamp,
    i AS EventId,
    format('agent-{:04d}', hash(i, 1) % 500) AS AgentId,
    format('user-{}@zava.example', hash(i, 2) % 20000) AS UserId,
    ['SendEmailV2', 'search_files', 'http_request', 'run_query', 'create_invoice', 'read_page', 'delete_item'][
        1 + (hash(i, 3) % 7)::INTEGER] AS ToolName,
    format('{} of {} {} {} for {} took {} ms, trace {:x}',
        ['Call', 'Retry', 'Invoke', 'Preview'][1 + (hash(i, 4) % 4)::INTEGER],
        ['invoice', 'report', 'Customer', 'mailbox', 'contract'][1 + (hash(i, 5) % 5)::INTEGER],
        hash(i, 6) % 100000,
        CASE WHEN hash(i, 7) % 50 = 0 THEN 'failed' WHEN hash(i, 7) % 50 = 1 THEN 'was unfailed' ELSE 'done' END,
        ['billing', 'travel', 'support', 'legal'][1 + (hash(i, 8) % 4)::INTEGER], hash(i, 9) % 9000, hash(i)
    ) AS Message,
    (hash(i, 10) % 100000)::BIGINT AS Size,
    format('["tag{}","env-{}","tool{}"]', hash(i, 11) % 40, hash(i, 12) % 3, hash(i, 13) % 300) AS Tags,
    format('{{"tool":{{"name":"t{}","latency":{}}},"score":{}.5,"ok":{},"note":"n{}"}}',
        hash(i, 14) % 30, hash(i, 15) % 5000, hash(i, 16) % 100,
        CASE WHEN hash(i, 17) % 2 = 0 THEN 'true' ELSE 'false' END, hash(i, 18) % 1000) AS Payload,
    Payload AS RawPayload,
    hash(i, 19) % 20 = 0 AS IsBlocked
FROM range({rows}) AS r(i)
"""
AGENTS = """
SELECT format('agent-{:04d}', i) AS AgentId, format('Agent {}', i) AS AgentName,
    ['Published', 'Created', 'Deleted'][1 + (i % 3)::INTEGER] AS AgentStatus
FROM range(500) AS r(i)
"""


Time = tuple[float, float]
"""Seconds of CPU and of the clock."""


def millis(times: Sequence[Time], which: int) -> float:
    """The median."""
    return median(time[which] for time in times) * 1000


@dataclass
class Shape:
    """One question, asked in KQL and in SQL."""

    name: str
    kql: str
    sql: str
    is_estimate: bool = False
    ours: list[Time] = field(default_factory=list)
    theirs: list[Time] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Ours over theirs, in CPU time."""
        return millis(self.ours, 0) / millis(self.theirs, 0)


SHAPES = [
    Shape(
        "where time + has + contains, count",
        """
        Events
        | where Timestamp between (datetime(2026-02-05) .. datetime(2026-02-25))
        | where Message has "failed" and ToolName contains "mail"
        | count
        """,
        r"""
        SELECT count(*) FROM Events
        WHERE Timestamp BETWEEN TIMESTAMPTZ '2026-02-05' AND TIMESTAMPTZ '2026-02-25' AND ToolName ILIKE '%mail%'
            AND Message ILIKE '%failed%' AND regexp_matches(Message, '(?i)(?:^|[^\pL\pN])failed(?:$|[^\pL\pN])')
        """,
    ),
    Shape(
        "summarize count, dcount, sum by agent, bin 1h",
        "Events | summarize count(), dcount(UserId), sum(Size) by AgentId, bin(Timestamp, 1h)",
        """
        SELECT AgentId, make_timestamptz(epoch_us(Timestamp) - epoch_us(Timestamp) % 3600000000) AS t, count(*),
            approx_count_distinct(UserId), CAST(sum(Size) AS BIGINT)
        FROM Events GROUP BY ALL
        """,
        is_estimate=True,
    ),
    Shape(
        "summarize count, dcount, sum by agent, bin 1d",
        "Events | summarize count(), dcount(UserId), sum(Size) by AgentId, bin(Timestamp, 1d)",
        """
        SELECT AgentId, make_timestamptz(epoch_us(Timestamp) - epoch_us(Timestamp) % 86400000000) AS t, count(*),
            approx_count_distinct(UserId), CAST(sum(Size) AS BIGINT)
        FROM Events GROUP BY ALL
        """,
        is_estimate=True,
    ),
    Shape(
        "summarize dcount by tool (large groups)",
        "Events | summarize dcount(UserId) by ToolName",
        "SELECT ToolName, approx_count_distinct(UserId) FROM Events GROUP BY ALL",
        is_estimate=True,
    ),
    Shape(
        "summarize arg_max(Timestamp, *) by agent",
        "Events | summarize arg_max(Timestamp, *) by AgentId",
        """
        SELECT AgentId, Timestamp, EventId, UserId, ToolName, Message, Size, Tags, Payload, RawPayload, IsBlocked
        FROM Events QUALIFY row_number() OVER (PARTITION BY AgentId ORDER BY Timestamp DESC) = 1
        """,
    ),
    Shape(
        "where, join, summarize, top",
        """
        Events
        | where Timestamp > datetime(2026-02-05)
        | join kind=inner (Agents | where AgentStatus == "Published") on AgentId
        | summarize Calls = count(), Bytes = sum(Size) by AgentName
        | top 10 by Calls, AgentName
        """,
        """
        SELECT AgentName, count(*) AS Calls, CAST(sum(Size) AS BIGINT) FROM Events JOIN Agents USING (AgentId)
        WHERE Timestamp > TIMESTAMPTZ '2026-02-05' AND AgentStatus = 'Published'
        GROUP BY AgentName ORDER BY Calls DESC, AgentName DESC LIMIT 10
        """,
    ),
    Shape(
        "mv-expand to string, count",
        "Tagged | mv-expand Tag = Tags to typeof(string) | summarize count() by Tag",
        """
        SELECT Tag, count(*) FROM (SELECT unnest(from_json(Tags, '["VARCHAR"]')) AS Tag FROM Tagged) GROUP BY Tag
        """,
    ),
    Shape(
        "paths of a dynamic column, avg",
        "Events | summarize avg(toreal(Payload.tool.latency)) by tostring(Payload.tool.name)",
        """
        SELECT Payload ->> '$.tool.name' AS t, avg(CAST(Payload ->> '$.tool.latency' AS DOUBLE)) FROM Events GROUP BY t
        """,
    ),
    Shape(
        "paths of parse_json(text), avg",
        "Events | extend p = parse_json(RawPayload) | summarize avg(tolong(p.tool.latency)) by tostring(p.tool.name)",
        """
        SELECT RawPayload ->> '$.tool.name' AS t, avg(CAST(RawPayload ->> '$.tool.latency' AS BIGINT)) FROM Events
        GROUP BY t
        """,
    ),
]


def tables(rows: int) -> dict[str, pa.Table]:
    """The synthetic rows."""
    with duckdb.connect() as made:
        made.execute("SET TimeZone = 'UTC'")
        events = made.sql(MADE.replace("{rows}", str(rows))).to_arrow_table()
        agents = made.sql(AGENTS).to_arrow_table()
    return {"Events": events, "Tagged": events.select(["EventId", "Tags"]).slice(0, rows * 3 // 10), "Agents": agents}


def schema() -> kql.Schema:
    """What KQL knows of them."""
    kinds = {
        "Events": COLUMNS,
        "Tagged": {"EventId": "long", "Tags": "dynamic"},
        "Agents": {"AgentId": "string", "AgentName": "string", "AgentStatus": "string"},
    }
    return kql.Schema(
        {
            name: kql.TableSchema(name, tuple(kql.Column(c, t) for c, t in columns.items()))
            for name, columns in kinds.items()
        }
    )


def compiled(text: str, known: kql.Schema) -> CompiledQuery:
    """``text`` as a store takes it."""
    found = kql.compile(text, known, ASKER, now=NOW)
    assert not isinstance(found, kql.Pending)
    return physical(found)


def check(shape: Shape, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Both gave the same rows."""
    rows = [sorted((tuple(row.values()) for row in side), key=repr) for side in (ours, theirs)]
    assert len(rows[0]) == len(rows[1]), (shape.name, len(rows[0]), len(rows[1]))
    for a, b in zip(*rows, strict=True):
        if shape.is_estimate:
            for x, y in zip(a, b, strict=True):
                assert x == y or (isinstance(x, int) and abs(x - y) <= max(2, 0.15 * y)), (shape.name, a, b)
        else:
            assert a == b, (shape.name, a, b)


def measure(rows: int, runs: int, *, show_sql: bool) -> None:
    """Time every shape, in turn."""
    engine, known = Engine(tables(rows), memory_limit="4GiB", threads=2), schema()
    limits = Limits(120, 10_000_000, 2**33)
    asked = [compiled(shape.kql, known) for shape in SHAPES]
    for shape, query in zip(SHAPES, asked, strict=True):
        if show_sql:
            print(f"{shape.name}\n    {query.sql}\n    {dict(query.params)}")
        ours = pa.Table.from_batches(engine.query(query, Scope(), limits)).to_pylist()
        check(shape, ours, engine.execute(shape.sql).to_pylist())
    for _ in range(runs):
        for shape, query in zip(SHAPES, asked, strict=True):
            shape.ours.append(seconds(partial(_drained, engine, query, limits)))
            shape.theirs.append(seconds(partial(engine.execute, shape.sql)))
    engine.close()


def _drained(engine: Engine, query: CompiledQuery, limits: Limits) -> list[pa.RecordBatch]:
    return list(engine.query(query, Scope(), limits))


def seconds(run: Callable[[], object]) -> Time:
    """What ``run`` takes."""
    began = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - began[0], time.perf_counter() - began[1]


def translation(texts: Sequence[str], known: kql.Schema) -> list[list[float]]:
    """Milliseconds to parse, bind and print each of ``texts``, and all of it, the best of three. What is refused
    is left out; what asks for data is measured up to there."""
    found: list[list[float]] = []
    for text in texts:
        best: list[float] | None = None
        for _ in range(3):
            marks = [time.thread_time()]
            try:
                tree = kql.parse(text)
                marks.append(time.thread_time())
                plan = bind(tree, known, ASKER, now=NOW)
                marks.append(time.thread_time())
                generate(plan.plan if isinstance(plan, Question) else plan, "duckdb")
                marks.append(time.thread_time())
            except kql.KqlError:
                break
            steps = [(b - a) * 1000 for a, b in pairwise(marks)]
            steps.append(sum(steps))
            best = steps if best is None or steps[-1] < best[-1] else best
        if best is not None:
            found.append(best)
    return found


def agent_queries() -> tuple[list[str], kql.Schema]:
    """The hunting queries of the tests, and their tables."""
    home = ROOT / "tests" / "kql" / "agents"
    texts = [case["kql"] for case in yaml.safe_load((home / "queries.yaml").read_text("utf-8"))]
    held = yaml.safe_load((home / "tables.yaml").read_text("utf-8"))
    known = {
        name: kql.TableSchema(name, tuple(kql.Column(n, t) for n, t in table["columns"].items()))
        for name, table in held.items()
    }
    return texts, kql.Schema(known)


def gold_queries(path: Path) -> list[str]:
    """The conformance cases; they bring their own data."""
    if not path.exists():
        return []
    return [json.loads(line)["kql"] for line in path.read_text("utf-8").splitlines() if line.strip()]


def share(values: Sequence[float], part: float) -> float:
    """The value that ``part`` of ``values`` does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def main() -> int:
    """Measure and print; exit status 1 for a pair of different answers only."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--gold", type=Path, default=ROOT.parent / "shared" / "kql" / "gold.jsonl")
    parser.add_argument("--sql", action="store_true", help="print the SQL of each query")
    parser.add_argument("--json", action="store_true", help="print figures as JSON too")
    arguments = parser.parse_args()
    sizes = f"{arguments.rows:,} rows (mv-expand: {arguments.rows * 3 // 10:,})"
    print(f"{machine()}\n{sizes}, {arguments.runs} runs in turn\n")

    agents, known = agent_queries()
    sets: dict[str, list[list[float]]] = {"agent hunting": translation(agents, known)}
    if gold := gold_queries(arguments.gold):
        sets["conformance"] = translation(gold, kql.Schema({}))
    print(f"{'translation, ms of CPU':36}{'queries':>8}{'parse':>14}{'bind':>14}{'print':>14}{'all':>14}")
    for name, times in sets.items():
        if times:
            cells = [[row[n] for row in times] for n in range(4)]
            shown = "".join(f"{f'{share(c, 0.5):.2f} / {share(c, 0.95):.2f}':>14}" for c in cells)
            print(f"{name + ', p50 / p95':36}{len(times):8}{shown}")
    print()
    gc.collect()
    measure(arguments.rows, arguments.runs, show_sql=arguments.sql)
    print(f"{'':48}{'KQL':>8}{'SQL':>8}{'ratio':>7}{'clock: KQL':>13}{'SQL':>8}   (ms)")
    for shape in SHAPES:
        figures = [millis(side, which) for which in (0, 1) for side in (shape.ours, shape.theirs)]
        print(f"{shape.name:48}{figures[0]:8.0f}{figures[1]:8.0f}{shape.ratio:7.2f}{figures[2]:13.0f}{figures[3]:8.0f}")
    slowest = share([row[3] for row in sets["agent hunting"]], 0.95)
    words = {True: "kept", False: "NOT kept"}
    print(f"\nbudget translation p95 <= {BUDGET_MS:g} ms: {words[slowest <= BUDGET_MS]} (agent hunting)")
    for shape in SHAPES:
        print(f"budget <= {BUDGET_RATIO:g} x SQL by hand: {words[shape.ratio <= BUDGET_RATIO]} ({shape.name})")
    if arguments.json:
        ratios = {shape.name: shape.ratio for shape in SHAPES}
        print(json.dumps({"machine": machine(), "ratios": ratios, "translation_p95_ms": slowest}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
