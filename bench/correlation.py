"""Alerts into incidents: what one alert costs when 1,000, 10,000 and 100,000 are there already.

    python -m bench.correlation [--most 100000] [--batch 100]

Alerts come in batches, as a slice of events gives them: stored, placed, told. Shapes: many users, each with bursts
of twenty alerts within minutes, twenty-five of them at a time, then silent for hours; one user whose incident takes
every alert in; the same in no order within a day; and the same where each alert names an agent, tools and an address
that no other has. CPU time of this process, on SQLite as it is embedded; the
floor stores the same alerts and joins none. Goal: the cost of an alert stays flat (ratio <= 1.5 over the sizes).
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.events import machine
from watchfloor.detection.correlate import correlate
from watchfloor.model.cases import AlertDraft, Entity, EntityKind, EntityRole
from watchfloor.model.verdicts import Severity
from watchfloor.storage import findings
from watchfloor.storage.control import SqlControlStore

START = datetime(2026, 11, 3, 8, 0, tzinfo=UTC)
SIZES = (1_000, 10_000, 100_000)
RULES = ("tool-invocation-blocked", "persistent-jailbreak", "persistent-blocked-invocations", "jailbreak-attempt")
BURST, AT_ONCE, USERS = 20, 25, 5_000
MEASURED = 1_000
"""Alerts that are measured at each size: the last ones before it."""


def draft(number: int, user: str) -> AlertDraft:
    """An alert with six events, twenty seconds after the one before it."""
    first = START + timedelta(seconds=20 * number)
    address = f"203.0.113.{number % 7}"
    entities = (
        Entity(EntityKind.USER, user, f"{user}@zava.example", EntityRole.IMPACTED),
        Entity(EntityKind.AGENT, f"agent-{number % 5}", f"Agent {number % 5}", EntityRole.IMPACTED),
        Entity(EntityKind.TOOL, "mail/send_email", "mail/send_email", EntityRole.RELATED),
        Entity(EntityKind.ADDRESS, address, address, EntityRole.SUSPECTED),
    )
    events = [
        {
            "id": f"evt_{number:08}_{n}", "at": (first + timedelta(seconds=n)).isoformat(),
            "invocation": f"inv_{number}_{n}",
            "action": "ToolCallDecided", "user": user, "agent": f"agent-{number % 5}", "server": "mail",
            "tool": "send_email", "verdict": "block", "reason": "policy", "address": address, "stopped": True,
            "jailbreak": False,
        }
        for n in range(6)
    ]  # fmt: skip
    return AlertDraft(
        rule_id=RULES[number % len(RULES)],
        dedup_key=f"{user}/{number}",
        title="AI agent tool invocation blocked",
        description="Six calls were stopped.",
        severity=Severity.HIGH if number % 3 else Severity.MEDIUM,
        tactic="Collection",
        techniques=("T1114",),
        entities=entities,
        evidence=tuple(str(event["id"]) for event in events),
        first_activity=first,
        last_activity=first + timedelta(seconds=6),
        recommended_actions=("Look at it.",),
        detail={"count": 6, "events": events},
    )


def bursting(number: int) -> str:
    """The user of an alert: twenty-five users take turns for twenty alerts each, then it is for the next ones."""
    turn, within = divmod(number, BURST * AT_ONCE)
    return f"user-{(turn * AT_ONCE + within % AT_ONCE) % USERS}"


DAY = 4_320
"""Alerts of a day, one every twenty seconds."""
_SHUFFLED = random.Random(3).sample(range(DAY), DAY)


def late(number: int) -> AlertDraft:
    """Griffin's alerts; those of one day arrive in no order."""
    return draft(number // DAY * DAY + _SHUFFLED[number % DAY], "griffin")


def varied(number: int) -> AlertDraft:
    """An alert of griffin's about an agent, tools and an address of its own."""
    made, address = draft(number, "griffin"), f"2001:db8::{number:x}"
    names = [f"tool-{number}-{n}" for n in range(6)]
    events = [
        {**event, "agent": f"agent-{number}", "tool": name, "address": address}
        for event, name in zip(made.detail["events"], names, strict=True)
    ]
    entities = (
        made.entities[0],
        Entity(EntityKind.AGENT, f"agent-{number}", f"Agent {number}", EntityRole.IMPACTED),
        *(Entity(EntityKind.TOOL, f"mail/{name}", f"mail/{name}", EntityRole.RELATED) for name in names),
        Entity(EntityKind.ADDRESS, address, address, EntityRole.SUSPECTED),
    )
    return replace(made, entities=entities, detail={**made.detail, "events": events})


def run(most: int, batch: int, make: Callable[[int], AlertDraft], *, join: bool) -> Iterator[tuple[int, float, float]]:
    """(alerts there are, microseconds of CPU an alert, the slowest batch in milliseconds) at each size."""
    with tempfile.TemporaryDirectory(prefix="watchfloor-bench-") as folder:
        store = SqlControlStore.open(f"sqlite:///{Path(folder) / 'control.db'}", epoch=None)
        spent, slowest = 0.0, 0.0
        for start in range(0, most, batch):
            drafts = [make(number) for number in range(start, start + batch)]
            before, begun = time.process_time(), time.perf_counter()
            with store.tx("bench", audited=False) as tx:
                saved = findings.save_drafts(tx, drafts)
                if join:
                    correlate(tx, saved)
            done = start + batch
            size = next(size for size in SIZES if done <= size)
            if done > size - MEASURED:
                spent += time.process_time() - before
                slowest = max(slowest, time.perf_counter() - begun)
            if done == size:
                yield size, spent / MEASURED * 1e6, slowest * 1000
                spent, slowest = 0.0, 0.0
        store.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=100)
    arguments = parser.parse_args()
    print(f"{machine()}\n{arguments.batch} alerts a batch\n")
    print(f"{'':28}{'alerts':>9}{'us CPU an alert':>17}{'slowest batch':>15}{'x 1,000':>9}")
    shapes: dict[str, tuple[Callable[[int], AlertDraft], bool]] = {
        "stored only (floor)": (lambda n: draft(n, bursting(n)), False),
        "many users": (lambda n: draft(n, bursting(n)), True),
        "one user, one incident": (lambda n: draft(n, "griffin"), True),
        "... arriving in no order": (late, True),
        "... always something new": (varied, True),
    }
    for name, (make, join) in shapes.items():
        first = worst = 0.0
        for size, micros, slowest in run(arguments.most, arguments.batch, make, join=join):
            first = first or micros
            worst = max(worst, micros / first)
            print(f"{name:28}{size:9,}{micros:17,.0f}{slowest:12,.0f} ms{micros / first:9.2f}", flush=True)
        if join:
            print(f"budget ratio <= 1.5: {'kept' if worst <= 1.5 else 'NOT kept'} ({name})\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
