"""The spool: what was appended arrives in the log, once, whatever happens in between."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchfloor.model.errors import Unavailable
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.ports import Seq
from watchfloor.storage.segments import SpoolWriter, parse_segment
from watchfloor.storage.spool import Shipper, ShipperStats, recover, recover_abandoned

from .contract_events import activity, eventually, ids


def entry(report_id: str, table: str = "AgentActivity", **columns: Any) -> dict[str, Any]:
    return {"t": table, "r": activity(report_id, **columns)}


def record(report_id: str, **columns: Any) -> bytes:
    return orjson.dumps(entry(report_id, **columns))


def frame(payload: bytes) -> bytes:
    return struct.pack("<II", len(payload), zlib.crc32(payload)) + payload


def shipped(log: SqliteLog, table: str = "AgentActivity") -> list[str]:
    return ids(b.batch for b in log.read("main", Seq(0), 1_000_000) if b.table == table)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "worker-1"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    with closing(SqliteLog(tmp_path / "log.db", busy_seconds=0.05)) as made:
        yield made


@contextmanager
def shipping(writer: SpoolWriter, log: SqliteLog, **options: Any) -> Iterator[Shipper]:
    shipper = Shipper(writer, log, **options)
    shipper.start()
    try:
        yield shipper
    finally:
        shipper.stop()


@contextmanager
def log_out_of_order(log: SqliteLog) -> Iterator[None]:
    """Somebody keeps the log locked for longer than it waits."""
    with closing(sqlite3.connect(log._path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size``: what a full disk does to a write, without filling one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


# -- appending ----------------------------------------------------------------------------------------------------


def test_a_record_is_in_its_file_when_append_returns(spool: Path) -> None:
    with SpoolWriter(spool) as writer:
        writer.append(record("a"))
        writer.append(record("b"))
        (segment,) = spool.glob("*.seg")
        assert parse_segment(segment.read_bytes()).records == (record("a"), record("b"))
        assert stat.S_IMODE(segment.stat().st_mode) == 0o600
        assert stat.S_IMODE(spool.stat().st_mode) == 0o700


def test_what_waits_is_counted_with_what_an_earlier_life_left(spool: Path) -> None:
    with SpoolWriter(spool) as writer:
        writer.append(record("a"))
        writer.seal()
        writer.append(record("b"))
        before = writer.waiting()
        assert before == (2, sum(f.stat().st_size for f in spool.glob("*.seg")))
    with SpoolWriter(spool) as writer:
        assert writer.waiting() == before


def test_sealing_gives_the_segment_and_sealing_nothing_gives_none(spool: Path) -> None:
    with SpoolWriter(spool) as writer:
        assert writer.seal() is None
        writer.append(record("a"))
        sealed = writer.seal()
        assert sealed is not None
        assert parse_segment(sealed.read_bytes()).records == (record("a"),)
        assert writer.seal() is None


def test_segment_names_are_never_used_twice(spool: Path) -> None:
    names = set()
    for _ in range(3):
        with SpoolWriter(spool) as writer:
            for _ in range(3):
                writer.append(record("a"))
                sealed = writer.seal()
                assert sealed is not None
                assert sealed.name.startswith("worker-1-")
                names.add(sealed.name)
    assert len(names) == 9


def test_a_full_spool_refuses_and_takes_again_when_it_was_shipped(spool: Path, log: SqliteLog) -> None:
    size = len(frame(record("a0")))
    with SpoolWriter(spool, max_bytes=3 * size) as writer:
        for n in range(3):
            writer.append(record(f"a{n}"))
        with pytest.raises(Unavailable, match="full"):
            writer.append(record("a3"))
        with shipping(writer, log) as shipper:
            shipper.wait_durable(10)
            writer.append(record("a4"))
        assert shipped(log) == ["a0", "a1", "a2", "a4"]


def test_what_an_earlier_life_left_counts_against_the_limit(spool: Path) -> None:
    size = len(frame(record("a0")))
    with SpoolWriter(spool) as writer:
        writer.append(record("a0"))
        writer.append(record("a1"))
    with SpoolWriter(spool, max_bytes=3 * size) as writer:
        writer.append(record("a2"))
        with pytest.raises(Unavailable, match="full"):
            writer.append(record("a3"))


@pytest.mark.parametrize("room", [0, 1, 7, 8, 9, 100])
def test_a_record_that_the_disk_takes_only_in_part_is_refused_and_never_appears(
    spool: Path, log: SqliteLog, room: int
) -> None:
    with SpoolWriter(spool) as writer:
        writer.append(record("before"))
        with largest_file(len(frame(record("before"))) + room):
            with pytest.raises(Unavailable, match="spool"):
                writer.append(record("refused"))
            (segment,) = [f for f in spool.glob("*.seg") if f.stat().st_size]
            assert segment.stat().st_size == len(frame(record("before")))
        writer.append(record("after"))
        with shipping(writer, log) as shipper:
            shipper.wait_durable(10)
        assert shipped(log) == ["before", "after"]


def test_a_spool_has_one_living_owner_and_the_next_comes_in_when_it_is_closed(spool: Path) -> None:
    with SpoolWriter(spool):
        with pytest.raises(Unavailable, match="still running"):
            SpoolWriter(spool)
    SpoolWriter(spool).close()


def test_a_closed_spool_that_was_empty_leaves_no_segment(spool: Path) -> None:
    SpoolWriter(spool).close()
    assert list(spool.glob("*.seg")) == []


# -- segments on disk ---------------------------------------------------------------------------------------------

payloads = st.lists(
    st.dictionaries(st.text(max_size=8), st.text(max_size=30), max_size=4).map(orjson.dumps), max_size=8
)


@given(payloads)
def test_a_segment_gives_back_what_was_put_in(records: list[bytes]) -> None:
    contents = parse_segment(b"".join(map(frame, records)))
    assert (list(contents.records), contents.is_torn, contents.is_corrupt) == (records, False, False)


@given(payloads, st.data())
def test_a_segment_cut_anywhere_gives_every_whole_record_and_is_torn_unless_cut_between_two(
    records: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(map(frame, records))
    cut = data.draw(st.integers(0, len(whole)))
    ends = [sum(len(frame(r)) for r in records[:n]) for n in range(len(records) + 1)]
    contents = parse_segment(whole[:cut])
    assert list(contents.records) == records[: sum(end <= cut for end in ends) - 1]
    assert contents.is_torn == (cut not in ends)
    assert not contents.is_corrupt


@given(payloads.filter(bool), st.data())
def test_a_damaged_byte_costs_one_record_and_is_noticed(records: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(b"".join(map(frame, records)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    ends = [sum(len(frame(r)) for r in records[: n + 1]) for n in range(len(records))]
    damaged = sum(end <= place for end in ends)
    contents = parse_segment(bytes(whole))
    assert list(contents.records) == records[:damaged] + records[damaged + 1 :]
    assert contents.is_torn or contents.is_corrupt


# -- shipping -----------------------------------------------------------------------------------------------------


def test_records_arrive_in_order_and_the_spool_is_empty_again(spool: Path, log: SqliteLog) -> None:
    names = [f"e{n}" for n in range(1200)]
    with SpoolWriter(spool) as writer, shipping(writer, log) as shipper:
        for name in names:
            writer.append(record(name))
        shipper.wait_durable(20)
        assert writer.waiting() == (0, 0)
        assert shipper.stats == ShipperStats(segments=shipper.stats.segments, records=1200)
    assert shipped(log) == names
    assert list(spool.glob("*.seg")) == []


def test_a_record_is_shipped_without_anybody_waiting_for_it(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool) as writer, shipping(writer, log):
        writer.append(record("a"))
        eventually(lambda: shipped(log) == ["a"])


def test_a_shipper_that_fell_asleep_wakes_up_for_the_next_record(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool) as writer, shipping(writer, log, interval=0.0001):
        for n in range(3):
            eventually(lambda: writer._wake is not None)  # asleep
            writer.append(record(f"e{n}"))
            eventually(lambda n=n: len(shipped(log)) == n + 1)


def test_one_record_may_hold_rows_of_several_tables_and_they_arrive_together(spool: Path, log: SqliteLog) -> None:
    both = orjson.dumps([entry("a"), entry("a", "AgentContent", Kind="invocation", Content="{}")])
    with SpoolWriter(spool) as writer, shipping(writer, log) as shipper:
        writer.append(both)
        shipper.wait_durable(10)
    assert (shipped(log), shipped(log, "AgentContent")) == (["a"], ["a"])


def test_nothing_is_lost_or_reordered_while_the_log_does_not_answer(spool: Path, log: SqliteLog) -> None:
    names = [f"e{n:03}" for n in range(300)]
    with SpoolWriter(spool, segment_bytes=2000) as writer:
        with log_out_of_order(log), shipping(writer, log) as shipper:
            for name in names:
                writer.append(record(name))
            eventually(lambda: shipper.stats.failures > 0)
            assert "locked" in shipper.stats.last_error
            with pytest.raises(Unavailable):
                shipper.wait_durable(0.01)
            assert writer.waiting()[0] == 300
        with shipping(writer, log) as shipper:
            shipper.wait_durable(20)
    assert shipped(log) == names


def test_a_shipper_takes_up_again_by_itself_when_the_log_answers(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool) as writer, shipping(writer, log) as shipper:
        with log_out_of_order(log):
            writer.append(record("a"))
            eventually(lambda: shipper.stats.failures > 0)
        shipper.wait_durable(20)
    assert shipped(log) == ["a"]


def test_waiting_for_durability_ends_when_the_record_is_in_the_log_and_not_before(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool) as writer:
        with log_out_of_order(log):
            shipper = Shipper(writer, log)
            shipper.start()
            writer.append(record("a"))
            future = shipper.durable()
            eventually(lambda: shipper.stats.failures > 0)
            assert not future.done()
        future.result(20)
        assert shipped(log) == ["a"]
        assert shipper.durable().done()
        assert shipper.stop()


def test_waiters_that_gave_up_harm_nobody_and_those_left_at_the_end_are_told(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool) as writer, log_out_of_order(log):
        shipper = Shipper(writer, log)
        shipper.start()
        writer.append(record("a"))
        gave_up: Future[None] = shipper.durable()
        assert gave_up.cancel()
        left = shipper.durable()
        assert not shipper.stop()
        with pytest.raises(Unavailable):
            left.result(0)
        with pytest.raises(Unavailable):
            shipper.durable().result(0)


def test_stopping_ships_what_waits(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool) as writer:
        shipper = Shipper(writer, log, interval=3600)
        shipper.start()
        writer.append(record("a"))
        assert shipper.stop()
    assert shipped(log) == ["a"]


def test_a_segment_that_was_appended_but_not_deleted_is_not_stored_twice(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool) as writer:
        writer.append(record("a"))
        segment = writer.seal()
    assert segment is not None
    copy = segment.read_bytes()
    recover(spool, log)
    segment.write_bytes(copy)  # as if the worker had died between append and unlink
    recover(spool, log)
    assert shipped(log) == ["a"]
    assert not segment.exists()


# -- what does not fit --------------------------------------------------------------------------------------------


def bad_files(spool: Path) -> list[dict[str, Any]]:
    return [json.loads(f.read_text()) for f in sorted(spool.glob("*.bad"))]


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (record("x", HttpStatus="many"), "HttpStatus is a str"),
        (record("x", HttpStatus=2**63), "out of range"),
        (record("x", HttpStatus=True), "HttpStatus is a bool"),
        (record("x", DurationMs="slow"), "DurationMs is a str"),
        (record("x", DurationMs=2**53 + 1), "DurationMs"),
        (record("x", Reasons={"a": 1}), "Reasons is a dict"),
        (record("x", NoSuchColumn=1), "NoSuchColumn"),
        (orjson.dumps({"t": "NoSuchTable", "r": {}}), "NoSuchTable"),
        (orjson.dumps({"t": "AgentActivity", "r": {"ReportId": "x", "TenantId": "default"}}), "Timestamp"),
        (orjson.dumps({"t": "AgentActivity", "r": [1, 2]}), "object"),
        (orjson.dumps({"t": "AgentActivity"}), "object"),
        (orjson.dumps("just text"), "no such table"),
        (b"{not json", "not JSON"),
    ],
)
def test_a_row_that_does_not_fit_is_kept_aside_with_its_reason_and_its_neighbours_arrive(
    spool: Path, log: SqliteLog, poison: bytes, reason: str
) -> None:
    with SpoolWriter(spool) as writer, shipping(writer, log) as shipper:
        writer.append(record("a"))
        writer.append(poison)
        writer.append(record("b", HttpStatus=200))
        shipper.wait_durable(10)
        assert shipper.stats.quarantined == 1
    assert shipped(log) == ["a", "b"]
    (kept,) = bad_files(spool)
    assert reason in kept["reason"]
    assert kept["value"]


def test_each_row_of_one_record_that_does_not_fit_is_kept(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool) as writer, shipping(writer, log) as shipper:
        writer.append(orjson.dumps([entry("x", Nonsense=1), entry("a"), entry("y", Nonsense=2)]))
        writer.append(orjson.dumps([entry("z", HttpStatus="many"), entry("v", HttpStatus="few")]))
        shipper.wait_durable(10)
    assert shipped(log) == ["a"]
    kept = json.dumps(bad_files(spool))
    assert all(f'"ReportId": "{name}"' in kept for name in "xyzv")


def test_a_segment_of_nothing_but_misfits_does_not_stop_the_next(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool) as writer, shipping(writer, log) as shipper:
        writer.append(record("x", HttpStatus="many"))
        shipper.wait_durable(10)
        writer.append(record("a"))
        shipper.wait_durable(10)
    assert shipped(log) == ["a"]


# -- after a death ------------------------------------------------------------------------------------------------


def test_a_new_worker_ships_what_its_predecessor_left_first(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool) as writer:
        writer.append(record("first"))
        writer.seal()
        writer.append(record("second"))
    with SpoolWriter(spool) as writer:
        writer.append(record("third"))
        with shipping(writer, log) as shipper:
            shipper.wait_durable(10)
    assert shipped(log) == ["first", "second", "third"]


def test_recovery_leaves_a_living_worker_alone_and_ships_for_a_dead_one(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool) as writer:
        writer.append(record("a"))
        assert recover(spool, log) == ShipperStats()
        assert shipped(log) == []
    assert recover(spool, log) == ShipperStats(segments=1, records=1)
    assert shipped(log) == ["a"]


def test_a_torn_last_record_is_dropped_and_the_rest_arrives(spool: Path, log: SqliteLog) -> None:
    spool.mkdir(parents=True)
    (spool / "worker-1-x-1.seg").write_bytes(frame(record("a")) + frame(record("b")) + frame(record("torn"))[:-3])
    assert recover(spool, log) == ShipperStats(segments=1, records=2)
    assert shipped(log) == ["a", "b"]
    assert list(spool.glob("*.seg*")) == []


def test_a_segment_damaged_in_the_middle_is_kept_and_every_good_record_arrives(spool: Path, log: SqliteLog) -> None:
    spool.mkdir(parents=True)
    damaged = bytearray(frame(record("b")))
    damaged[20] ^= 0xFF
    path = spool / "worker-1-x-1.seg"
    path.write_bytes(frame(record("a")) + damaged + frame(record("c")))
    assert recover(spool, log) == ShipperStats(segments=1, records=2, quarantined=1)
    assert shipped(log) == ["a", "c"]
    assert not path.exists()
    assert path.with_name(path.name + ".bad").exists()
    assert recover(spool, log) == ShipperStats()


def test_a_recovery_that_the_log_refuses_keeps_everything(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool) as writer:
        writer.append(record("a"))
    with log_out_of_order(log), pytest.raises(Unavailable):
        recover(spool, log)
    assert recover(spool, log).records == 1
    assert shipped(log) == ["a"]


def test_a_segment_that_somebody_took_away_does_not_stop_the_next(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool, segment_bytes=1) as writer:
        writer.append(record("a"))
        writer.append(record("b"))
        first = writer.sealed()
        assert first is not None
        first.path.unlink()
        with shipping(writer, log) as shipper:
            shipper.wait_durable(10)
    assert shipped(log)[-1] == "b"


def test_appending_from_many_threads_loses_nothing(spool: Path, log: SqliteLog) -> None:
    with SpoolWriter(spool, segment_bytes=4000) as writer, shipping(writer, log, interval=0.001) as shipper:

        def append(worker: int) -> None:
            for n in range(200):
                writer.append(record(f"{worker}-{n}"))

        threads = [threading.Thread(target=append, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shipper.wait_durable(20)
    assert sorted(shipped(log)) == sorted(f"{t}-{n}" for t in range(4) for n in range(200))


WORKER = """
import sys
from pathlib import Path
import orjson
from watchfloor.storage.segments import SpoolWriter

writer, n = SpoolWriter(Path(sys.argv[1]), segment_bytes=20_000), 0
while True:
    row = {"Timestamp": 1, "TenantId": "default", "ReportId": f"e{n}"}
    writer.append(orjson.dumps({"t": "AgentActivity", "r": row}))
    sys.stdout.write(f"e{n}\\n")
    sys.stdout.flush()
    n += 1
"""


@pytest.mark.slow
@pytest.mark.claim("invariant-3")
def test_every_record_that_a_killed_worker_had_acknowledged_arrives_once(spool: Path, log: SqliteLog) -> None:
    acknowledged: list[str] = []
    for _ in range(3):
        worker = subprocess.Popen([sys.executable, "-c", WORKER, str(spool)], stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        lines = [worker.stdout.readline() for _ in range(500)]
        os.kill(worker.pid, signal.SIGKILL)
        lines += worker.stdout.read().splitlines(keepends=True)
        worker.wait()
        acknowledged = [line.strip() for line in lines if line.endswith("\n")]
        recover(spool, log)
        arrived = shipped(log)
        assert len(arrived) == len(set(arrived))
        assert set(acknowledged) <= set(arrived)
        # One more may have been written and not yet acknowledged.
        assert len(arrived) <= len(acknowledged) + 1
        log.trim("main", log.read("main", Seq(0), 1_000_000)[-1].seq)


def test_spools_of_workers_that_no_longer_exist_are_shipped_and_young_ones_left_to_their_worker(
    tmp_path: Path, log: SqliteLog
) -> None:
    root = tmp_path / "spool"
    for name in ("gone", "restarting"):
        with SpoolWriter(root / name) as writer:
            writer.append(record(name))
    for segment in (root / "gone").glob("*.seg"):
        os.utime(segment, (1_000, 1_000))
    assert recover_abandoned(root, log, before=2_000).records == 1
    assert shipped(log) == ["gone"]
    assert recover_abandoned(root, log, before=2_000) == ShipperStats()
