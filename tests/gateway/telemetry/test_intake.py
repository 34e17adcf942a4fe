"""The intake: durable before it answers, each event once, and one event that fits nowhere harms no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import pytest

from watchfloor.gateway.telemetry import intake as intake_module
from watchfloor.gateway.telemetry.intake import Intake, Item, Taken
from watchfloor.model.errors import Unavailable
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.ports import KeyedBatch, Seq
from watchfloor.storage.rows import is_packed, unpack
from watchfloor.storage.tables import TABLES

from .requests import START


def row(report_id: str, **columns: Any) -> dict[str, Any]:
    return {"Timestamp": START // 1000, "TenantId": "default", "ReportId": report_id, **columns}


def item(name: str, **columns: Any) -> Item:
    return Item(
        name.encode(),
        [("AgentActivity", row(name, **columns)), ("AgentContent", row(f"{name}-content", Content='"x"'))],
    )


def stored(log: SqliteLog, table: str = "AgentActivity") -> list[str]:
    found: list[str] = []
    for logged in log.read("main", Seq(0), 100_000):
        if logged.table == table:
            batch = unpack(TABLES[table], [logged.batch]) if is_packed(logged.batch) else logged.batch
            found += batch.column("ReportId").to_pylist()
    return found


async def test_many_requests_share_an_append_and_each_hears_of_its_own(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", min_free_bytes=0)
    intake = Intake(lambda: log)
    intake.start()
    answers = await asyncio.gather(*(intake.take([item(f"e{n}"), item(f"f{n}")]) for n in range(50)))
    assert answers == [Taken(2, 0)] * 50
    assert sorted(stored(log)) == sorted(f"{letter}{n}" for n in range(50) for letter in "ef")
    assert len(stored(log, "AgentContent")) == 100
    assert len({b.seq for b in log.read("main", Seq(0), 100_000)}) < 20
    await intake.stop()
    log.close()


async def test_an_event_that_is_sent_again_is_stored_once_whatever_its_company(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", min_free_bytes=0)
    intake = Intake(lambda: log)
    intake.start()
    assert await intake.take([item("a"), item("b")]) == Taken(2, 0)
    assert await intake.take([item("b"), item("c")]) == Taken(1, 1)
    at_once = await asyncio.gather(*(intake.take([item("d")]) for _ in range(5)))
    assert sum(t.stored for t in at_once) == 1
    assert sum(t.duplicates for t in at_once) == 4
    assert await intake.take([item("e"), item("e")]) == Taken(1, 1)
    assert sorted(stored(log)) == ["a", "b", "c", "d", "e"]
    await intake.stop()
    log.close()


async def test_nothing_is_answered_before_the_log_has_taken_it(tmp_path: Path) -> None:
    class Slow(SqliteLog):
        gate = threading.Event()

        def append_once(self, part: str, batches: Sequence[KeyedBatch]) -> Set[bytes]:
            self.gate.wait(10)
            return super().append_once(part, batches)

    log = Slow(tmp_path / "log.db", min_free_bytes=0)
    intake = Intake(lambda: log)
    intake.start()
    answer = asyncio.create_task(intake.take([item("a")]))
    done, _ = await asyncio.wait([answer], timeout=0.2)
    assert not done
    log.gate.set()
    assert await answer == Taken(1, 0)
    await intake.stop()
    log.close()


async def test_an_event_that_fits_no_table_is_refused_and_its_neighbours_are_stored(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", min_free_bytes=0)
    intake = Intake(lambda: log)
    intake.start()
    bad = item("bad", AgentName="\ud800")  # half a character: no text that can be stored
    first, second = await asyncio.gather(intake.take([item("a"), bad]), intake.take([item("b")]))
    assert first == Taken(1, 0, (bad,))
    assert second == Taken(1, 0)
    assert sorted(stored(log)) == ["a", "b"]
    await intake.stop()
    log.close()


async def test_a_log_that_fails_fails_every_request_of_the_group_and_the_next_one_goes_on(tmp_path: Path) -> None:
    class Broken(SqliteLog):
        is_broken = True

        def append_once(self, part: str, batches: Sequence[KeyedBatch]) -> Set[bytes]:
            if self.is_broken:
                raise Unavailable("The disk is full.", retry_after=7.0)
            return super().append_once(part, batches)

    log = Broken(tmp_path / "log.db", min_free_bytes=0)
    intake = Intake(lambda: log)
    intake.start()
    answers = await asyncio.gather(*(intake.take([item(f"e{n}")]) for n in range(3)), return_exceptions=True)
    assert [getattr(a, "retry_after", None) for a in answers] == [7.0] * 3
    assert stored(log) == []
    log.is_broken = False
    assert await intake.take([item("e0")]) == Taken(1, 0)
    await intake.stop()
    log.close()


async def test_past_what_may_wait_requests_are_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "MAX_WAITING", 10)
    log = SqliteLog(tmp_path / "log.db", min_free_bytes=0)
    intake = Intake(lambda: log)  # not started: nothing is taken away
    waiting = asyncio.create_task(intake.take([item(f"e{n}") for n in range(10)]))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="behind"):
        await intake.take([item("late")])
    intake.start()
    assert await waiting == Taken(10, 0)
    await intake.stop()
    with pytest.raises(Unavailable, match="shutting down"):
        await intake.take([item("later")])
    log.close()
