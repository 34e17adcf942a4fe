"""Health of telemetry: every count reaches the table once, and totals never go back."""

from __future__ import annotations

import re
import threading

from hypothesis import given
from hypothesis import strategies as st

from watchfloor.gateway.telemetry.health import Health
from watchfloor.storage.rows import Rows
from watchfloor.storage.tables import TABLES

SECOND = 1_000_000
START = 1_790_000_000 * SECOND
SHAPE = Rows(TABLES["PipelineHealth"])


def taken(health: Health, source: str = "crm", door: str = "otlp-http", stored: int = 3, **more: int | float) -> None:
    health.taken(source, door, received=stored, stored=stored, duplicates=0, rejected=0, size=100 * stored, **more)  # type: ignore[arg-type]  # newest is an int, lag a float


def total(text: str, name: str, door: str = "otlp-http") -> int:
    found = re.search(rf'^watchfloor_telemetry_{name}_total{{door="{door}"}} (\d+)$', text, re.MULTILINE)
    assert found, text
    return int(found[1])


def test_a_period_becomes_one_row_for_each_source_and_door() -> None:
    health = Health("default", "receiver-0", START)
    taken(health, stored=3, newest=START + 5, lag=0.2)
    taken(health, stored=4, newest=START + 2, lag=1.5)
    taken(health, door="otlp-grpc")
    health.throttled("crm", "otlp-http")
    health.taken("hr", "events", received=5, stored=2, duplicates=2, rejected=1, size=900)
    rows = health.rows(START + 10 * SECOND)
    assert [(r["SourceId"], r["SourceDoor"]) for r in rows] == [
        ("crm", "otlp-grpc"), ("crm", "otlp-http"), ("hr", "events"),
    ]  # fmt: skip
    http, hr = rows[1], rows[2]
    assert (http["Requests"], http["Received"], http["Stored"], http["Throttled"], http["Bytes"]) == (2, 7, 7, 1, 700)
    assert (http["PeriodSeconds"], http["LastEventTime"], http["LagSeconds"]) == (10.0, START + 5, 1.5)
    assert (hr["Received"], hr["Stored"], hr["Duplicates"], hr["Rejected"]) == (5, 2, 2, 1)
    assert (hr["LastEventTime"], hr["LagSeconds"]) == (None, None)
    assert (http["TenantId"], http["WorkerId"], http["Timestamp"]) == ("default", "receiver-0", START + 10 * SECOND)


def test_rows_fit_the_table() -> None:
    health = Health("default", "receiver-0", START)
    taken(health, newest=START, lag=0.5)
    health.throttled("hr", "events")
    rows = health.rows(START + SECOND)
    assert [SHAPE.fault(row) for row in rows] == ["", ""]
    assert SHAPE.typed(rows).num_rows == 2


def test_what_was_drained_is_not_told_again_and_a_quiet_period_has_no_row() -> None:
    health = Health("default", "receiver-0", START)
    taken(health)
    assert len(health.rows(START + SECOND)) == 1
    assert health.rows(START + 2 * SECOND) == []
    taken(health, stored=1)
    (row,) = health.rows(START + 5 * SECOND)
    assert (row["Stored"], row["PeriodSeconds"]) == (1, 3.0)


def test_totals_go_on_after_draining_and_name_no_source() -> None:
    health = Health("default", "receiver-0", START)
    taken(health, stored=3)
    before = health.metrics()
    health.rows(START + SECOND)
    taken(health, source="hr-secret-project", stored=4)
    after = health.metrics()
    assert (total(before, "stored"), total(after, "stored")) == (3, 7)
    assert (total(after, "requests"), total(after, "bytes"), total(after, "throttled")) == (2, 700, 0)
    assert "hr-secret-project" not in after
    assert after.endswith("\n")


def test_an_event_from_the_future_has_not_waited() -> None:
    health = Health("default", "receiver-0", START)
    taken(health, lag=-30.0)
    (row,) = health.rows(START + SECOND)
    assert row["LagSeconds"] == 0.0


def test_nothing_is_lost_between_threads() -> None:
    health, drained = Health("default", "receiver-0", START), []
    workers = [threading.Thread(target=lambda: [taken(health, stored=1) for _ in range(2_000)]) for _ in range(4)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        drained += health.rows(START)
    drained += health.rows(START)
    assert sum(row["Stored"] for row in drained) == total(health.metrics(), "stored") == 8_000


STEPS = st.lists(st.one_of(st.none(), st.tuples(st.sampled_from(["crm", "hr"]), st.integers(0, 50))), max_size=60)


@given(steps=STEPS)
def test_however_it_is_drained_rows_and_totals_say_the_same(steps: list[tuple[str, int] | None]) -> None:
    health, rows, last = Health("default", "receiver-0", START), [], 0
    for step in steps:
        if step is None:
            rows += health.rows(START)
        else:
            taken(health, step[0], stored=step[1])
            now = total(health.metrics(), "stored")
            assert now >= last
            last = now
    rows += health.rows(START)
    assert sum(row["Stored"] for row in rows) == last == sum(step[1] for step in steps if step)
