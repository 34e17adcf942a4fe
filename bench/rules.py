"""Thirty near-real-time rules over 5,000 new events, with a million rows behind: what a round costs, rule by rule.

    python -m bench.rules [--rows 1000000] [--new 5000] [--runs 7]

The round is what the job does: state, the slice, one scan for the conditions of all rules, the rules that it touches,
alerts, incidents and positions in one transaction. Beside it, in the same run, one scan of the same slice written by
hand that asks the same conditions. Wall time, each round over fresh events; the best one counts, as whatever else the
machine does only ever adds to it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import yaml

from bench.events import activity_row, machine
from watchfloor.detection.kql_evaluate import Evaluator
from watchfloor.detection.kql_rule import KqlRule
from watchfloor.detection.kql_runner import KqlDetector
from watchfloor.storage.compiler import catalogue
from watchfloor.storage.control import SqlControlStore, utc_now
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.events import DuckDbStore
from watchfloor.storage.hunting import Hunter
from watchfloor.storage.ports import LogBatch, Seq
from watchfloor.storage.tables import AGENT_ACTIVITY

BUDGET_MS = 100.0
CONDITIONS = (
    'ActionType == "ToolCallDecided" and AgentId == "agent-{m}" and (UserId endswith "7" or UserId endswith "3")',
    'ActionType == "ToolCallDecided" and IPAddress startswith "198.51.{n}."',
    'ToolName == "tool-{n}" and ToolEffect in ("send", "pay") and CredentialOwner == "maker"',
    'Reasons contains_cs \'"code":"never-{n}"\'',
    'Signals contains_cs \'"category":"kind-{n}"\' and Verdict == "allow"',
    'ActionType == "ToolResultDecided" and ServerId == "server-{n}" and isnotempty(UserId)',
)
RULE = """
id: rule-{n}
title: "{{AgentId}} did {{times}} what rule {n} looks for"
description: "{{AgentId}} did it for {{UserId}}, {{span}}."
kind: near-real-time
severity: low
tactic: Execution
techniques: [T1059]
entities: [{{column: UserId, kind: user}}, {{column: AgentId, kind: agent}}]
dedup: {{columns: [AgentId], bin: PT1H}}
recommended_actions: [Look.]
blind_spots: It is for measuring.
query: |
  AgentActivity
  | where {condition}
  | project Timestamp, ReportId, AgentId, UserId
tests:
  - {{name: some, rows: {{}}, expect: [{{count: 1}}]}}
  - {{name: none, rows: {{}}, expect: []}}
"""


def made(count: int) -> list[KqlRule]:
    """Rules of six kinds; two of thirty find something in every slice."""
    texts = [
        RULE.format(n=n, condition=CONDITIONS[n % len(CONDITIONS)].replace("{n}", str(n)).replace("{m}", str(n + 1)))
        for n in range(count)
    ]
    return [KqlRule.model_validate(yaml.safe_load(text)) for text in texts]


def fill(events: DuckDbStore, first: int, count: int, number: int) -> None:
    """Add ``count`` events as one batch of the log."""
    start = (
        int((datetime.now(UTC) - timedelta(minutes=30)).timestamp() * 1e6) if number > 1_000 else 1_760_000_000_000_000
    )
    rows: list[dict[str, Any]] = [activity_row(n, start + n * 50) for n in range(first, first + count)]
    events.write("AgentActivity", [LogBatch("0", Seq(number), "AgentActivity", AGENT_ACTIVITY.batch(rows))])


def by_hand(connection: duckdb.DuckDBPyConnection, after: int, count: int) -> float:
    """Milliseconds of one scan of the slice that counts rows of six kinds of conditions for every rule."""
    kinds = (
        "\"ActionType\" = 'ToolCallDecided' AND \"AgentId\" = 'agent-{m}'"
        " AND (ends_with(\"UserId\", '7') OR ends_with(\"UserId\", '3'))",
        "\"ActionType\" = 'ToolCallDecided' AND starts_with(\"IPAddress\", '198.51.{n}.')",
        "\"ToolName\" = 'tool-{n}' AND \"ToolEffect\" IN ('send', 'pay') AND \"CredentialOwner\" = 'maker'",
        'contains("Reasons", \'"code":"never-{n}"\')',
        'contains("Signals", \'"category":"kind-{n}"\') AND "Verdict" = \'allow\'',
        "\"ActionType\" = 'ToolResultDecided' AND \"ServerId\" = 'server-{n}' AND \"UserId\" <> ''",
    )
    columns = ", ".join(f"count(*) FILTER (WHERE {kinds[n % 6].format(n=n, m=n + 1)})" for n in range(count))
    began = time.perf_counter()
    connection.execute(f'SELECT {columns} FROM readable."AgentActivity" WHERE "IngestSeq" > {after}').fetchall()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Print each rule's cost and the whole; exit status 1 if the budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=5_000)
    parser.add_argument("--rules", type=int, default=30)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        epoch = EpochFile.create(directory / "epoch")
        control = SqlControlStore.open(f"sqlite:///{directory / 'control.db'}", epoch=epoch, now=utc_now)
        events = DuckDbStore(directory / "store.duckdb", directory / "cold")
        try:
            return measure(control, events, arguments)
        finally:
            events.close()
            control.close()


def measure(control: SqlControlStore, events: DuckDbStore, arguments: argparse.Namespace) -> int:
    """Fill, run, print."""
    for number, first in enumerate(range(0, arguments.rows, 20_000), 1):
        fill(events, first, min(20_000, arguments.rows - first), number)
    evaluator = Evaluator(Hunter(events))
    detector = KqlDetector(
        control, evaluator, made(arguments.rules), schema=catalogue, slice_rows=10_000_000, now=utc_now
    )
    detector.run_near_real_time()  # the million is behind from here on
    totals, hands, costs, raised = [], [], {}, 0
    number = 1_000
    for run in range(arguments.runs):
        after, number = evaluator.newest("AgentActivity"), number + 1
        fill(events, arguments.rows + run * arguments.new, arguments.new, number)
        cursor = events._connection.cursor()
        hands.append(by_hand(cursor, after, arguments.rules))
        cursor.close()
        began = time.perf_counter()
        report = detector.run_near_real_time()
        totals.append((time.perf_counter() - began) * 1000)
        costs, raised = dict(report.milliseconds), raised + report.raised
    for rule_id, cost in sorted(costs.items(), key=lambda item: -item[1]):
        print(f"{rule_id:10} {cost:8.2f} ms")
    print(f"{arguments.rules} rules over {arguments.new:,} new events with {arguments.rows:,} behind; {raised} alerts")
    print(f"round: median {median(totals):.1f} ms, best {min(totals):.1f} ms")
    print(f"budget <= {BUDGET_MS:g} ms: {'kept' if median(totals) <= BUDGET_MS else 'NOT kept'} (median)")
    print(f"the same conditions in one scan by hand: median {median(hands):.1f} ms, best {min(hands):.1f} ms")


if __name__ == "__main__":
    main()
