"""The store process as it is run: started, asked, told to stop, and killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from watchfloor.model.errors import Unavailable
from watchfloor.storage.compiler import KqlCompiler
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.ports import Limits, Scope
from watchfloor.storage.remote import RemoteStore
from watchfloor.storage.spool import recover

from .contract_events import activities, eventually, ids

pytestmark = pytest.mark.slow

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("WATCHFLOOR_")}


class StoreProcess:
    """``watchfloor store`` on a data directory."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data, self.options = data, options
        self.remote = RemoteStore(data / "run" / "store.sock")

    def start(self) -> None:
        # The socket that a killed process left is still there and answers nobody: wait for an answer instead.
        arguments = [sys.executable, "-m", "watchfloor", "store", "--data", str(self.data), "--store-memory", "256MB"]
        with (self.data.parent / "store.log").open("ab") as output:
            self.process = subprocess.Popen([*arguments, *self.options], env=ENVIRONMENT, stderr=output)
        eventually(self.answers)

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.data.parent / "store.log").read_text()
        try:
            return bool(self.remote.health()["pid"] == self.process.pid)
        except Unavailable:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(30)

    def report_ids(self) -> list[str]:
        query = KqlCompiler().compile("AgentActivity | project ReportId", Scope())
        return ids(self.remote.query(query, Scope(), Limits(max_rows=10_000_000)))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@contextmanager
def running(data: Path, *options: str) -> Iterator[StoreProcess]:
    store = StoreProcess(data, *options)
    store.start()
    try:
        yield store
    finally:
        store.kill()
        store.remote.close()


def test_events_become_visible_and_termination_leaves_everything_tidy(data: Path) -> None:
    with running(data) as store:
        log = SqliteLog(data / "log.db")
        log.append("main", activities("a", "b", at=datetime.now(UTC)), "k1")
        eventually(lambda: sorted(store.report_ids()) == ["a", "b"])
        health = store.remote.health()
        assert (health["status"], health["rows_stored"], health["faults"]) == ("ok", 2, [])
        assert health["lag_seconds"] < 20
        assert set(health["backlog"]) == {"rows", "bytes", "set_aside"}
        log.append("main", activities("c", at=datetime.now(UTC)), "k2")
        assert store.terminate() == 0
        assert log.backlog().rows == 0
        log.close()
        assert list((data / "run").iterdir()) == []
        assert not (data / "events.duckdb.wal").exists()
        store.start()
        assert sorted(store.report_ids()) == ["a", "b", "c"]


def test_a_second_store_process_says_who_has_the_file_and_ends(data: Path) -> None:
    with running(data) as store:
        second = subprocess.run(
            [sys.executable, "-m", "watchfloor", "store", "--data", str(data)],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert second.returncode == 1
        assert f"belongs to process {store.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        assert store.answers()


WRITER = """
import sys, time
from pathlib import Path
import orjson
from watchfloor.storage.log import SqliteLog
from watchfloor.storage.spool import Shipper, SpoolWriter

data, name = Path(sys.argv[1]), sys.argv[2]
writer = SpoolWriter(data / "spool" / name)
shipper = Shipper(writer, SqliteLog(data / "log.db"))
shipper.start()
day, now, n = 86_400_000_000, time.time_ns() // 1000, 0
stop = data / "stop"
while not stop.exists():
    for _ in range(20):
        row = {"Timestamp": now - n % 6 * day, "TenantId": "default", "ReportId": f"{name}-{n}", "UserId": "x" * 50}
        writer.append(orjson.dumps({"t": "AgentActivity", "r": row}))
        sys.stdout.write(f"{name}-{n}\\n")
        sys.stdout.flush()
        n += 1
    time.sleep(0.01)
sys.exit(0 if shipper.stop(20) else 1)
"""


class Writer:
    """A process that spools and ships, and says of each record that it was taken."""

    def __init__(self, data: Path, name: str) -> None:
        self.spool = data / "spool" / name
        self.acknowledged: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(data), name], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.acknowledged.append(line.strip())

    def wait(self) -> int:
        status = self.process.wait(40)
        self._reader.join()
        return status


@pytest.mark.claim("invariant-3")
def test_every_acknowledged_event_is_stored_exactly_once_though_everything_is_killed(data: Path) -> None:
    """Two writers at work, the store killed again and again while it ingests and exports, one writer killed too."""
    chance = random.Random(7)
    with running(data, "--hot-days", "1", "--cold-days", "60", "--maintain-every", "0.2") as store:
        writers = [Writer(data, "w1"), Writer(data, "w2")]
        try:
            for round_ in range(5):
                before = [len(w.acknowledged) for w in writers]
                enough = 200 + chance.randrange(600)
                eventually(lambda b=before, e=enough: len(writers[-1].acknowledged) >= b[-1] + e)
                store.kill()
                if round_ == 2:
                    os.kill(writers[0].process.pid, signal.SIGKILL)
                store.start()
        finally:
            (data / "stop").touch()
            statuses = [w.wait() for w in writers]
        assert statuses == [-signal.SIGKILL, 0]
        log = SqliteLog(data / "log.db")
        recover(writers[0].spool, log)
        eventually(lambda: log.backlog().rows == 0)
        assert log.backlog().set_aside == 0
        log.close()
        stored = store.report_ids()
        assert len(stored) == len(set(stored))
        acknowledged = {name for w in writers for name in w.acknowledged}
        assert len(acknowledged) > 1000
        assert acknowledged <= set(stored)
        # The killed writer may have written one more record and not lived to say so.
        assert len(stored) <= len(acknowledged) + 1
        eventually(lambda: list((data / "cold").rglob("*.parquet")) != [])
        assert store.terminate() == 0
