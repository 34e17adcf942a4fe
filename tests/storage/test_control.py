"""Control state: the contract over both engines, and what is particular to each."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from watchfloor.model.errors import Corrupt, InputError, Unavailable
from watchfloor.model.facts import Kind
from watchfloor.storage import schema
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.projection import DELTA_SQL, DatabaseAddress, ProjectionReader

from .contract_control import *  # noqa: F403  the contract: its tests run here
from .contract_control import Site, eventually, publish, set_setting, setting_of

# -- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path", "uri"),
    [
        ("sqlite:////var/lib/w/control.db", "/var/lib/w/control.db", ""),
        ("sqlite:///data/control.db", "data/control.db", ""),
        ("data/control.db", "data/control.db", ""),
        ("postgresql://u:p@h:1/d", None, "postgresql://u:p@h:1/d"),
        ("postgresql+psycopg://u@h/d", None, "postgresql://u@h/d"),
        ("postgres://u@h/d", None, "postgresql://u@h/d"),
    ],
)
def test_an_address_is_a_file_or_a_server(url: str, path: str | None, uri: str) -> None:
    assert DatabaseAddress.parse(url) == DatabaseAddress(Path(path) if path else None, uri)


@pytest.mark.parametrize("url", ["mysql://h/d", "sqlite://", "sqlite:///", "postgresql://"])
def test_another_database_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(InputError, match="postgresql://USER@HOST/NAME"):
        DatabaseAddress.parse(url)


def test_no_message_shows_the_password() -> None:
    with pytest.raises(Unavailable) as caught:
        SqlControlStore.open("postgresql://joe:hunter2@127.0.0.1:9/none", epoch=None)
    assert "127.0.0.1:9" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(Unavailable) as caught:
        ProjectionReader.open("postgresql://joe:hunter2@127.0.0.1:9/none")
    assert "hunter2" not in str(caught.value)


# -- SQLite -------------------------------------------------------------------------------------------------------


@pytest.fixture
def file_site(tmp_path: Path) -> Iterator[Site]:
    made = Site(f"sqlite:///{tmp_path / 'control.db'}", tmp_path)
    yield made
    made.close()


def test_a_file_is_private_and_every_commit_is_synced(file_site: Site) -> None:
    store = file_site.open()
    with store.tx("ada") as tx:
        publish(tx, "mail")
        pragmas = {
            name: tx.connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    for name in ("control.db", "control.db-wal", "control.db-shm"):
        assert stat.S_IMODE((file_site.directory / name).stat().st_mode) == 0o600


def test_a_full_disk_is_said_and_nothing_is_changed(file_site: Site) -> None:
    store = file_site.open()
    with pytest.raises(Unavailable, match="disk is full"), store.tx("ada") as tx:
        pages = tx.connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        set_setting(tx, "big", "x" * 1_000_000)
    with store.tx("ada") as tx:
        tx.connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        set_setting(tx, "big", "x")
        tx.audit("setting:write", "setting/big")
    assert setting_of(store, "big") == "x"


def test_a_damaged_file_is_called_damaged(file_site: Site) -> None:
    (file_site.directory / "control.db").write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(Corrupt, match="damaged"):
        file_site.open()


def test_a_worker_does_not_create_a_database_and_says_who_does(file_site: Site) -> None:
    for attempt in (lambda: file_site.open(migrate=False), lambda: ProjectionReader.open(file_site.url)):
        with pytest.raises(Unavailable):
            attempt()
    assert not (file_site.directory / "control.db").exists()
    (file_site.directory / "control.db").touch()
    for attempt in (lambda: file_site.open(migrate=False), lambda: ProjectionReader.open(file_site.url)):
        with pytest.raises(Unavailable, match="Start the server"):
            attempt()


def test_the_projection_is_read_while_no_server_lives(file_site: Site) -> None:
    store = file_site.open()
    with store.tx("ada") as tx:
        publish(tx, "mail")
    store.close()
    assert not (file_site.directory / "control.db-wal").exists()
    reader = ProjectionReader.open(file_site.url)
    assert reader.read(0)[0] == 1
    reader.close()


def test_a_delta_is_found_by_its_index(file_site: Site) -> None:
    file_site.open()
    with closing(sqlite3.connect(file_site.directory / "control.db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {DELTA_SQL.format(body='p.body', after='?')}", (1,)).fetchall()
    assert any("ix_projection_revision" in step[3] for step in plan)


def test_a_reader_follows_when_the_file_is_replaced(file_site: Site, tmp_path: Path) -> None:
    store = file_site.open()
    with store.tx("ada") as tx:
        publish(tx, "mail")
    reader = ProjectionReader.open(file_site.url)
    assert [key for _, key, _ in reader.read(0)[1]] == ["mail"]
    other = Site(f"sqlite:///{tmp_path / 'other' / 'control.db'}", tmp_path / "other")
    backup = other.open()
    for agent in ("a", "b"):
        with backup.tx("ada") as tx:
            publish(tx, agent)
    backup.close()
    store.close()
    # As a restore does it: the old side files belong to the old database, and would be read on top of the new one.
    for end in ("-wal", "-shm"):
        (file_site.directory / f"control.db{end}").unlink(missing_ok=True)
    (tmp_path / "other" / "control.db").replace(file_site.directory / "control.db")
    assert [key for _, key, _ in reader.read(0)[1]] == ["a", "b"]
    (file_site.directory / "control.db").unlink()
    with pytest.raises(Unavailable, match="cannot read control state"):
        reader.read(0)
    reader.close()


def test_an_unreadable_entry_stops_the_signatures_and_not_the_work(file_site: Site) -> None:
    store = file_site.open(checkpoints=file_site.checkpoints())
    with store.tx("ada") as tx:
        tx.audit("a:b", "c")
        tx.audit("a:b", "c")
    file_site.tamper("UPDATE audit SET detail = x'ff00' WHERE seq = 2")
    for _ in range(100):
        with store.tx("ada") as tx:
            tx.audit("a:b", "c")
    assert "row 2 was edited" in str(store.audit_problem)
    store.close()
    assert any("row 2 was edited" in fault.message for fault in file_site.verify().faults)


@pytest.mark.slow
def test_a_worker_on_sqlite_carries_no_other_driver(file_site: Site) -> None:
    file_site.open().close()
    script = (
        "import sys; from watchfloor.storage.projection import ProjectionReader; "
        "ProjectionReader.open(sys.argv[1]).read(0); "
        "print([name for name in ('sqlalchemy', 'alembic', 'psycopg') if name in sys.modules])"
    )
    output, _ = start(script, file_site.url).communicate(timeout=60)
    assert output == "[]\n"


# -- PostgreSQL ---------------------------------------------------------------------------------------------------


@pytest.fixture
def server_site(request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(postgres_url, tmp_path)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        names = ", ".join(f'"{table.name}"' for table in schema.metadata.sorted_tables)
        connection.execute(f"TRUNCATE {names}")
        connection.execute("INSERT INTO revision (id, value) VALUES (1, 0)")
    yield made
    made.close()


def cut_connections(url: str) -> None:
    """As a restart of the server would."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_cut_connection_fails_its_transaction_and_not_the_next(server_site: Site) -> None:
    store = server_site.open()
    with pytest.raises(Unavailable, match="broke off"), store.tx("ada") as tx:
        publish(tx, "mail")
        cut_connections(server_site.url)
        publish(tx, "billing")
    assert server_site.epoch.revision() == 0
    with store.tx("ada") as tx:
        publish(tx, "mail")
    assert server_site.epoch.revision() == 1


def test_a_reader_survives_a_restart_of_the_database(server_site: Site) -> None:
    store = server_site.open()
    reader = ProjectionReader.open(server_site.url)
    assert reader.read(0)[0] == 0
    cut_connections(server_site.url)
    with store.tx("ada") as tx:
        publish(tx, "mail")
    assert reader.read(0)[0] == 1
    reader.close()


def test_a_follower_survives_a_restart_of_the_database(server_site: Site) -> None:
    store = server_site.open()
    stop = threading.Event()
    thread = threading.Thread(target=store.follow, args=(server_site.epoch, stop, 0.05))
    thread.start()
    try:
        assert eventually(lambda: server_site.epoch.age_seconds() < 5)
        cut_connections(server_site.url)
        silent = server_site.open(epoch=None)
        with silent.tx("ada") as tx:
            publish(tx, "mail")
        assert eventually(lambda: server_site.epoch.revision() == 1)
    finally:
        stop.set()
        thread.join()


def test_other_hosts_are_rung_up_and_need_not_wait_for_the_next_poll(server_site: Site) -> None:
    store = server_site.open(epoch=None)
    stop = threading.Event()
    thread = threading.Thread(target=store.follow, args=(server_site.epoch, stop, 60))
    thread.start()
    try:
        assert eventually(lambda: server_site.epoch.age_seconds() < 60)
        with store.tx("ada") as tx:
            publish(tx, "mail")
        # Were it not for the bell, this would take a minute.
        assert eventually(lambda: server_site.epoch.revision() == 1)
    finally:
        stop.set()
        with store.tx("ada") as tx:
            publish(tx, "wake-up")
        thread.join()


class Pausable:
    """A wire to the database that can fall silent without being cut: a server that is stopped, a lost network."""

    def __init__(self, url: str) -> None:
        parts = psycopg.conninfo.conninfo_to_dict(url)
        self._target = (str(parts["host"]), int(parts.get("port") or 5432))
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://{parts['user']}@127.0.0.1:{self._listener.getsockname()[1]}/{parts['dbname']}"
        threading.Thread(target=self._accept, daemon=True).start()

    def pause(self) -> None:
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def close(self) -> None:
        self.resume()
        for each in [self._listener, *self._sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                sink.sendall(data)


def test_a_database_that_falls_silent_is_unavailable_within_the_deadline_and_comes_back(server_site: Site) -> None:
    store = server_site.open()
    with store.tx("ada") as tx:
        publish(tx, "mail")
    wire = Pausable(server_site.url)
    now = [100.0]
    reader = ProjectionReader.open(wire.url, timeout=0.2, clock=lambda: now[0])
    try:
        assert reader.read(0)[0] == 1
        wire.pause()
        with pytest.raises(Unavailable, match="no answer within"):
            reader.read(0)
        # Not tried again at once: a broken database must not stall every call.
        with pytest.raises(Unavailable, match="a moment ago"):
            reader.read(0)
        wire.resume()
        now[0] += 1
        assert reader.read(0)[0] == 1
    finally:
        reader.close()
        wire.close()


# -- with other processes -----------------------------------------------------------------------------------------

WRITE = """
import sys
from watchfloor.model.facts import AgentFacts, Kind
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.epoch import EpochFile

url, epoch, name, count = sys.argv[1:]
store = SqlControlStore.open(url, epoch=EpochFile.create(epoch))
for n in range(int(count)):
    with store.tx(name) as tx:
        tx.project(Kind.AGENT, f"{name}-{n}", AgentFacts(id=f"{name}-{n}"))
        tx.audit("agent:publish", f"agent/{name}-{n}")
"""

DIE_BETWEEN_COMMIT_AND_RAISE = """
import os, signal, sys
from watchfloor.model.facts import AgentFacts, Kind
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.epoch import EpochFile

class Deadly(EpochFile):
    def raise_to(self, revision):
        if revision:
            os.kill(os.getpid(), signal.SIGKILL)

store = SqlControlStore.open(sys.argv[1], epoch=Deadly.create(sys.argv[2]))
with store.tx("ada") as tx:
    tx.project(Kind.AGENT, "mail", None)
    tx.audit("agent:retire", "agent/mail")
print("acknowledged")
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_no_process_makes_a_reader_miss_a_row_it_should_have_seen(site: Site) -> None:
    store = site.open()
    count = 60
    writers = [start(WRITE, site.url, str(site.directory / "epoch"), f"process-{n}", str(count)) for n in range(2)]

    def write() -> None:
        for n in range(count):
            with store.tx("thread") as tx:
                publish(tx, f"thread-{n}")

    thread = threading.Thread(target=write)
    thread.start()
    reader = ProjectionReader.open(site.url)
    seen: set[str] = set()
    revision = 0
    while revision < 3 * count:
        writing = thread.is_alive() or any(writer.poll() is None for writer in writers)
        announced = site.epoch.revision()
        revision, rows = reader.read(revision)
        seen |= {key for _, key, _ in rows}
        assert revision >= announced
        assert len(seen) == revision
        assert writing or revision == 3 * count
    thread.join()
    for writer in writers:
        assert writer.wait(30) == 0
    assert site.epoch.revision() == 3 * count
    reader.close()


@pytest.mark.slow
def test_a_server_killed_between_commit_and_announcement_makes_good_at_its_next_start(site: Site) -> None:
    child = start(DIE_BETWEEN_COMMIT_AND_RAISE, site.url, str(site.directory / "epoch"))
    output, _ = child.communicate(timeout=60)
    assert (child.returncode, output) == (-signal.SIGKILL, "")
    assert site.epoch.revision() == 0
    assert EpochFile.open(site.directory / "epoch").revision() == 0
    reader = ProjectionReader.open(site.url)
    assert reader.read(0)[0] == 1  # what was committed can be read before any server is back
    reader.close()
    store = site.open()
    assert site.epoch.revision() == 1
    assert store.read_projection(0)[0] == 1


@pytest.mark.slow
def test_two_servers_that_start_at_once_on_an_empty_disk_both_come_up(file_site: Site) -> None:
    writers = [start(WRITE, file_site.url, str(file_site.directory / "epoch"), f"p{n}", "5") for n in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert file_site.epoch.revision() == 15


@pytest.mark.slow
def test_a_commit_that_was_acknowledged_survives_kill_nine(site: Site) -> None:
    store = site.open()
    child = start(WRITE, site.url, str(site.directory / "epoch"), "victim", "100000")
    try:
        assert eventually(lambda: site.epoch.revision() >= 30, 60)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    acknowledged = site.epoch.revision()
    revision, rows = store.read_projection(0)
    assert revision >= acknowledged
    assert {key for kind, key, _ in rows if kind is Kind.AGENT} >= {f"victim-{n}" for n in range(acknowledged)}
    with store.read() as tx:
        entries = tx.connection.execute(sa.select(sa.func.count()).select_from(schema.audit)).scalar()
    assert entries == revision
