"""Five hundred events in any order, late, doubled and in slices of any size: the same alerts, the same incidents.

A thousand orders go through the rules, correlation and control state, over a table in memory of what has arrived by
then; a few more go through the runner over a real event store.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from detection.rows import row
from detection.stores import Stores, open_stores
from watchfloor.detection.correlate import correlate
from watchfloor.detection.evaluate import SliceRunner
from watchfloor.detection.rules import shipped
from watchfloor.detection.runner import Detector
from watchfloor.detection.steps import COLUMNS
from watchfloor.model.cases import Alert
from watchfloor.model.people import Permission
from watchfloor.storage import cases, findings, schema
from watchfloor.storage.control import ControlTx, SqlControlStore
from watchfloor.storage.ports import Seq
from watchfloor.storage.tables import AGENT_ACTIVITY

EVERYTHING = frozenset(Permission)
EVENTS = 500
ORDERS = 1_000
PARTS = 8
"""So that several processors can share the orders."""


def steps() -> list[dict[str, Any]]:
    """Nine hours of three users, and of an agent without any: bursts that lie near each other, and some that do not."""
    rng = random.Random(500)
    made: list[dict[str, Any]] = []
    while len(made) < EVENTS:
        user, agent = rng.choice(["ann", "ben", "carol", ""]), rng.choice(["billing", "billing", "hr"])
        start = rng.randrange(9 * 3600)
        kind = rng.choice(["blocked", "blocked", "jailbreak", "allowed"])
        for n in range(rng.randint(1, 30)):
            step: dict[str, Any] = {"user": user, "agent": agent, "at": start + n * rng.randrange(1, 60)}
            if kind == "blocked":
                step |= {"reason": "policy", "severity": rng.choice(["medium", "high"]), "tactic": "Exfiltration"}
            elif kind == "jailbreak":
                step |= {"reason": "detector", "severity": "high", "tactic": "Defense Evasion", "policy": "jailbreak"}
                step |= {"signals": ("jailbreak",), "conversation": f"c-{start}-{n}", "tool": "lookup"}
            else:
                step |= {"verdict": "allow"}
            made.append({**step, "id": f"evt_{len(made):04}", "address": f"203.0.113.{rng.randrange(4)}"})
    return made[:EVENTS]


def picture(tx: ControlTx) -> list[Any]:
    """Alerts and incidents, without the ids and times that are given at random or by the clock."""
    alerts = {a.id: a for a in cases.list_alerts(tx, EVERYTHING, limit=10_000)}
    told = sorted(
        (
            incident.title,
            incident.description,
            incident.severity.value,
            incident.first_activity,
            incident.last_activity,
            incident.priority,
            incident.entities,
            sorted((_name(alerts[a]), alerts[a].join_reason) for a in incident.alert_ids),
        )
        for incident in cases.list_incidents(tx, EVERYTHING, limit=10_000)
    )
    named = {_name(a): a.draft for a in alerts.values()}
    assert len(named) == len(alerts)
    return [sorted(named.items(), key=lambda each: each[0]), told]


def _name(alert: Alert) -> tuple[str, str]:
    return alert.draft.rule_id, alert.draft.dedup_key


def arrivals(events: Sequence[Any], rng: random.Random) -> list[list[Any]]:
    """``events`` in any order, a tenth of them late, a tenth twice, in slices of any size."""
    order = rng.sample(events, len(events))
    late = [order.pop(rng.randrange(len(order))) for _ in range(len(order) // 10)]
    again = rng.choices(events, k=len(events) // 10)
    rest = [*late, *again]
    rng.shuffle(rest)
    if rng.random() < 0.5:  # or else the events come as they happened, but for the late ones
        order.sort(key=events.index)
    order += rest
    cuts = sorted(rng.sample(range(1, len(order)), rng.randint(0, 3)))
    return [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]


def clear(store: SqlControlStore) -> None:
    """Empty what detection writes."""
    with store.tx(audited=False) as tx:
        for table in (
            schema.case_entry, schema.alert_entity, schema.alert, schema.incident_agent_span, schema.incident_tally,
            schema.incident,
        ):  # fmt: skip
            tx.connection.execute(table.delete())


def judge(store: SqlControlStore, slices: Sequence[Sequence[int]], table: pa.Table) -> list[Any]:
    """What is found when the rows with these numbers arrive slice by slice."""
    runner, seen, newest = SliceRunner(shipped()), dict[int, int](), 0
    for chosen in slices:
        cursor = newest
        for number in chosen:
            newest += 1
            seen.setdefault(number, newest)  # the event store keeps the first of two rows of one event
        arrived = table.take(list(seen)).set_column(
            table.schema.get_field_index("IngestSeq"), "IngestSeq", pa.array(list(seen.values()), pa.int64())
        )
        drafts = runner.run_slice(arrived, Seq(cursor))
        with store.tx(audited=False) as tx:
            correlate(tx, findings.save_drafts(tx, drafts))
    with store.read() as tx:
        return picture(tx)


@pytest.mark.slow
@pytest.mark.claim("incidents-any-order")
@pytest.mark.parametrize("part", range(PARTS))
def test_a_thousand_orders_of_five_hundred_events_lead_to_the_same_alerts_and_incidents(
    tmp_path: Path, part: int
) -> None:
    rows = [{**row(step, n + 1), "IngestSeq": n + 1} for n, step in enumerate(steps())]
    table = pa.Table.from_batches([AGENT_ACTIVITY.batch(rows)]).select(list(COLUMNS))
    store = SqlControlStore.open(f"sqlite:///{tmp_path / 'control.db'}", epoch=None)
    expected = judge(store, [range(EVENTS)], table)
    assert len(expected[0]) > 50
    assert len(expected[1]) > 5
    for seed in range(part, ORDERS, PARTS):
        clear(store)
        found = judge(store, arrivals(range(EVENTS), random.Random(seed)), table)
        assert found == expected, f"order {seed}"
    store.close()


def _through_the_runner(stores: Stores, slices: Sequence[Sequence[Any]], slice_rows: int) -> list[Any]:
    detector = Detector(stores.control, stores.activity, shipped(), slice_rows=slice_rows)
    for arrived in slices:
        stores.write("AgentActivity", arrived)
        while detector.run().rows:
            pass
    with stores.control.read() as tx:
        return picture(tx)


@pytest.mark.slow
@pytest.mark.claim("incidents-any-order")
def test_the_runner_finds_the_same_over_a_real_event_store(tmp_path: Path) -> None:
    events, pictures = [row(step, n + 1) for n, step in enumerate(steps())], []
    for seed in range(8):
        rng = random.Random(seed)
        (tmp_path / str(seed)).mkdir()
        with open_stores(tmp_path / str(seed)) as stores:
            slices = [events] if seed == 0 else arrivals(events, rng)
            pictures.append(_through_the_runner(stores, slices, 5_000 if seed == 0 else rng.randint(20, 300)))
    for found in pictures[1:]:
        assert found == pictures[0]
