"""What every engine of control state must do: one suite, run by ``test_control.py`` over SQLite and PostgreSQL.

A PostgreSQL is expected at 127.0.0.1:5432 (``WATCHFLOOR_TEST_POSTGRES`` to say otherwise); a throw-away database is
made for the run. Where there is none the PostgreSQL half is skipped, except in CI, where that is a failure.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from postgres import throw_away_database
from watchfloor.model.agents import AgentState
from watchfloor.model.errors import Conflict, InputError, Unavailable
from watchfloor.model.facts import AgentFacts, Kind, Organization
from watchfloor.storage import audit, audit_files, engines, schema
from watchfloor.storage.changes import read_setting, write_setting
from watchfloor.storage.control import ControlTx, SqlControlStore, UnauditedChange
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.projection import DatabaseAddress, ProjectionReader


@dataclass
class Clock:
    """A clock that goes only when told to."""

    at: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def pass_seconds(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Site:
    """One installation: its database, its epoch file, and what was opened on them."""

    url: str
    directory: Path
    clock: Clock = field(default_factory=Clock)
    opened: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.epoch = EpochFile.create(self.directory / "epoch")

    def open(self, **options: Any) -> SqlControlStore:
        store = SqlControlStore.open(self.url, **{"epoch": self.epoch, "now": self.clock, **options})
        self.opened.append(store)
        return store

    def checkpoints(self) -> audit_files.Checkpoints:
        return audit_files.Checkpoints.open(self.directory / "keys" / "audit.key", self.checkpoint_file)

    @property
    def checkpoint_file(self) -> Path:
        return self.directory / "audit-checkpoints.jsonl"

    def verify(self) -> audit.Report:
        signed, unreadable = audit_files.read_checkpoints(self.checkpoint_file)
        assert not unreadable
        key = audit.load_public_key(self.directory / "keys" / "audit.pub")
        return audit.verify(audit_files.read_database(self.url), signed, key)

    def tamper(self, statement: str) -> None:
        """Change the database behind Watchfloor's back."""
        address = DatabaseAddress.parse(self.url)
        url = address.uri.replace("://", "+psycopg://") if address.path is None else f"sqlite:///{address.path}"
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.execute(sa.text(statement))
        engine.dispose()

    def close(self) -> None:
        for store in self.opened:
            with suppress(Unavailable):
                store.close()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A migrated database of this run alone; dropped at its end."""
    with throw_away_database() as url:
        engines.migrate(DatabaseAddress.parse(url))
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """An empty installation on each engine."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'control.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
        names = ", ".join(f'"{table.name}"' for table in schema.metadata.sorted_tables)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"TRUNCATE {names}")
            connection.execute("INSERT INTO revision (id, value) VALUES (1, 0)")
    made = Site(url, tmp_path)
    yield made
    made.close()


@pytest.fixture
def store(site: Site) -> SqlControlStore:
    return site.open()


def publish(tx: ControlTx, agent: str, **facts: Any) -> None:
    tx.project(Kind.AGENT, agent, AgentFacts(id=agent, **facts))
    tx.audit("agent:publish", f"agent/{agent}")


def setting_of(store: SqlControlStore, key: str) -> Any:
    with store.read() as tx:
        return tx.connection.execute(sa.select(schema.setting.c.value).where(schema.setting.c.key == key)).scalar()


def set_setting(tx: ControlTx, key: str, value: Any) -> None:
    tx.connection.execute(sa.insert(schema.setting).values(key=key, value=value))


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait for ``condition``, but not for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.005)
    return True


# -- transactions -------------------------------------------------------------------------------------------------


def test_what_is_committed_is_read_and_what_failed_is_not(store: SqlControlStore) -> None:
    with store.tx("ada") as tx:
        set_setting(tx, "kept", {"n": 1})
        tx.audit("setting:write", "setting/kept")
    with pytest.raises(ZeroDivisionError), store.tx("ada") as tx:
        set_setting(tx, "lost", 1)
        publish(tx, "mail")
        raise ZeroDivisionError
    assert setting_of(store, "kept") == {"n": 1}
    assert setting_of(store, "lost") is None
    assert store.read_projection(0) == (0, [])


@pytest.mark.claim("invariant-4")
def test_a_transaction_that_projects_makes_one_revision_and_the_epoch_has_it_when_it_returns(
    site: Site, store: SqlControlStore
) -> None:
    with store.tx("ada") as tx:
        publish(tx, "mail", state=AgentState.PUBLISHED)
        tx.project(Kind.ORGANIZATION, "", Organization("Zava", ("zava.example",)))
        assert tx.revision == 1
        assert site.epoch.revision() == 0
    assert site.epoch.revision() == 1
    revision, rows = store.read_projection(0)
    assert revision == 1
    assert {(kind, key) for kind, key, _ in rows} == {(Kind.AGENT, "mail"), (Kind.ORGANIZATION, "")}
    body = next(body for kind, _, body in rows if kind is Kind.AGENT)
    assert body is not None
    assert AgentFacts.from_json(body) == AgentFacts(id="mail", state=AgentState.PUBLISHED)


def test_a_transaction_that_projects_nothing_makes_no_revision(site: Site, store: SqlControlStore) -> None:
    with store.tx("ada") as tx:
        set_setting(tx, "theme", "dark")
        tx.audit("setting:write", "setting/theme")
    assert site.epoch.revision() == 0
    assert store.read_projection(0)[0] == 0


def test_a_reader_is_told_only_what_changed_and_what_is_gone(store: SqlControlStore) -> None:
    for agent in ("mail", "billing"):
        with store.tx("ada") as tx:
            publish(tx, agent)
    with store.tx("ada") as tx:
        tx.project(Kind.AGENT, "mail", None)
        tx.audit("agent:retire", "agent/mail")
    assert store.read_projection(2) == (3, [(Kind.AGENT, "mail", None)])
    assert [key for _, key, _ in store.read_projection(0)[1]] == ["billing"]
    assert store.read_projection(3) == (3, [])


def test_rows_come_in_the_order_of_their_changes(store: SqlControlStore) -> None:
    for agent in ("c", "a", "b"):
        with store.tx("ada") as tx:
            publish(tx, agent)
    assert [key for _, key, _ in store.read_projection(0)[1]] == ["c", "a", "b"]


def test_a_kind_of_a_newer_version_is_passed_over(site: Site, store: SqlControlStore) -> None:
    with store.tx("ada") as tx:
        publish(tx, "mail")
    site.tamper("INSERT INTO projection (kind, key, body, revision) VALUES ('hologram', 'x', '{}', 1)")
    assert [key for _, key, _ in store.read_projection(0)[1]] == ["mail"]


def test_a_read_sees_one_moment_and_cannot_write(store: SqlControlStore) -> None:
    with store.read() as before:
        with store.tx("ada") as tx:
            set_setting(tx, "late", 1)
            publish(tx, "mail")
        assert before.revision == 0
        assert before.connection.execute(sa.select(schema.setting)).all() == []
        with pytest.raises(RuntimeError, match="only reads"):
            before.audit("agent:block", "agent/mail")
    with store.read() as after:
        assert after.revision == 1
        assert len(after.connection.execute(sa.select(schema.setting)).all()) == 1
    with pytest.raises(Unavailable), store.read() as tx:
        set_setting(tx, "sly", 1)
    assert setting_of(store, "sly") is None


def test_writers_wait_for_each_other(store: SqlControlStore) -> None:
    def count_up() -> None:
        for _ in range(20):
            with store.tx("counter") as tx:
                value = tx.connection.execute(sa.select(schema.rule_cursor.c.ingest_seq)).scalar_one()
                tx.connection.execute(sa.update(schema.rule_cursor).values(ingest_seq=value + 1))
                tx.audit("cursor:move", "cursor/x")

    with store.tx(audited=False) as tx:
        tx.connection.execute(sa.insert(schema.rule_cursor).values(name="x", ingest_seq=0))
    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as tx:
        assert tx.connection.execute(sa.select(schema.rule_cursor.c.ingest_seq)).scalar_one() == 80
        numbers = tx.connection.execute(sa.select(schema.audit.c.seq).order_by(schema.audit.c.seq)).scalars().all()
    assert list(numbers) == list(range(1, 81))


def test_a_transaction_inside_a_transaction_is_refused_instead_of_waiting_for_itself(store: SqlControlStore) -> None:
    with store.tx("ada") as tx:
        publish(tx, "mail")
        with pytest.raises(RuntimeError, match="already open in this thread"), store.tx("ada"):
            pass
    assert store.read_projection(0)[0] == 1


def test_a_second_writer_of_the_same_row_gets_a_conflict(store: SqlControlStore) -> None:
    for attempt in range(2):
        if attempt == 0:
            with store.tx("ada") as tx:
                set_setting(tx, "once", 1)
                tx.audit("setting:write", "setting/once")
        else:
            with pytest.raises(Conflict), store.tx("ada") as tx:
                set_setting(tx, "once", 2)
                tx.audit("setting:write", "setting/once")
    assert setting_of(store, "once") == 1


def test_a_reference_to_nothing_is_refused(store: SqlControlStore) -> None:
    with pytest.raises(Conflict), store.tx("ada") as tx:
        tx.connection.execute(
            sa.insert(schema.binding).values(
                agent_id="ghost", server_id="none", tool="*", credential_owner="app", scope="read", created_at=tx.now
            )
        )
        tx.audit("agent:version", "agent/ghost")


def test_text_that_is_not_unicode_never_reaches_the_gateways(store: SqlControlStore) -> None:
    with pytest.raises(InputError, match="agent/'mail'"), store.tx("ada") as tx:
        publish(tx, "mail", name="\ud800")
    with store.tx("ada") as tx:
        publish(tx, "mail", name="Poštár 📨 \u2028")
    (row,) = store.read_projection(0)[1]
    assert row[2] is not None
    assert row[2]["name"] == "Poštár 📨 \u2028"


# -- no change without an entry -------------------------------------------------------------------------------------


@pytest.mark.claim("invariant-8")
def test_a_change_without_an_audit_entry_is_rolled_back_loudly(site: Site, store: SqlControlStore) -> None:
    with pytest.raises(UnauditedChange), store.tx("ada") as tx:
        set_setting(tx, "quiet", 1)
    with pytest.raises(UnauditedChange), store.tx("ada") as tx:
        tx.connection.execute(sa.text("INSERT INTO setting (key, value) VALUES ('raw', '1')"))
    with pytest.raises(UnauditedChange), store.tx("ada") as tx:
        tx.project(Kind.AGENT, "mail", None)
    assert setting_of(store, "quiet") is None
    assert setting_of(store, "raw") is None
    assert (site.epoch.revision(), store.read_projection(0)[0]) == (0, 0)


def test_a_transaction_that_changes_nothing_needs_no_entry(store: SqlControlStore) -> None:
    with store.tx("ada") as tx:
        tx.connection.execute(sa.select(schema.agent)).all()
        tx.connection.execute(sa.update(schema.setting).values(value=1))
    with store.tx(audited=False) as tx:
        tx.connection.execute(sa.insert(schema.rule_cursor).values(name="x", ingest_seq=0))


def test_bookkeeping_may_not_change_what_gateways_know(store: SqlControlStore) -> None:
    with pytest.raises(UnauditedChange), store.tx(audited=False) as tx:
        tx.project(Kind.AGENT, "mail", None)


@pytest.mark.claim("invariant-8")
def test_entries_form_a_chain_that_verifies_offline(site: Site) -> None:
    store = site.open(checkpoints=site.checkpoints())
    detail = {"before": {"risk": 0.1, "n": 1e22, "big": 2**70}, "who": ["ada", None, True], "text": 'ü"\\\n\u2028📨'}
    for n in range(5):
        with store.tx("ada\nroot") as tx:
            tx.audit("agent:block", f"agent/{n}", detail)
            tx.audit("user:revoke", "user/\u202egriffin", {"at": tx.now, "states": {AgentState.DRAFT}})
    store.close()
    report = site.verify()
    assert report.is_intact
    assert (report.entries, report.vouched) == (10, 10)
    rows = list(audit_files.read_database(site.url))
    assert rows[0].actor == "ada\\nroot"
    assert rows[0].detail == detail
    assert rows[1].subject == "user/\\u202egriffin"


def test_a_rolled_back_entry_leaves_no_gap(site: Site) -> None:
    store = site.open(checkpoints=site.checkpoints())
    with store.tx("ada") as tx:
        tx.audit("a:b", "c")
    with suppress(ZeroDivisionError), store.tx("ada") as tx:
        tx.audit("a:b", "c")
        raise ZeroDivisionError
    with store.tx("ada") as tx:
        assert tx.audit("a:b", "c") == 2
    store.close()
    assert site.verify().is_intact


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE seq = 4", "row 4 was edited"),
        ("UPDATE audit SET detail = '{\"n\": 5 }' WHERE seq = 4", "row 4 was edited"),
        ("UPDATE audit SET at = at + 1 WHERE seq = 4", "row 4 was edited"),
        ("UPDATE audit SET hash = prev_hash WHERE seq = 4", "row 4 was edited"),
        ("DELETE FROM audit WHERE seq = 4", "row 4 is missing"),
        ("DELETE FROM audit WHERE seq = 1", "row 1 is missing"),
        ("DELETE FROM audit WHERE seq > 7", "rows 8 to 12 were there when"),
        ("DELETE FROM audit", "rows 1 to 12 were there when"),
        ("UPDATE audit SET seq = seq + 100 WHERE seq = 4", "row 4 is missing"),
    ],
)
def test_tampering_in_the_database_is_named(site: Site, statement: str, named: str) -> None:
    store = site.open(checkpoints=site.checkpoints())
    for n in range(12):
        with store.tx("ada") as tx:
            tx.audit("agent:block", f"agent/{n}", {"n": n})
    store.close()
    assert site.verify().is_intact
    site.tamper(statement)
    assert any(named in fault.message for fault in site.verify().faults)


def test_a_log_that_was_tampered_with_gets_no_further_signature(site: Site) -> None:
    store = site.open(checkpoints=site.checkpoints())
    for n in range(5):
        with store.tx("ada") as tx:
            tx.audit("agent:block", f"agent/{n}")
    store.checkpoint(force=True)
    assert store.audit_problem is None
    site.tamper("DELETE FROM audit WHERE seq > 3")
    for n in range(5):
        with store.tx("ada") as tx:
            tx.audit("agent:block", f"agent/{n}")
    store.checkpoint(force=True)
    assert store.audit_problem is not None
    assert "rewritten" in store.audit_problem
    store.close()
    report = site.verify()
    assert "rows 2 to 5 were rewritten" in str(report.faults[0])


def test_checkpoints_come_by_number_and_by_time(site: Site) -> None:
    store = site.open(checkpoints=site.checkpoints())

    def signed() -> list[int]:
        return [c.seq for c in audit_files.read_checkpoints(site.checkpoint_file)[0]]

    def write(times: int) -> None:
        for _ in range(times):
            with store.tx("ada") as tx:
                tx.audit("a:b", "c")

    write(100)
    assert signed() == [1]
    write(1)
    assert signed() == [1, 101]
    write(1)
    site.clock.pass_seconds(9)
    store.checkpoint()
    assert signed() == [1, 101]
    site.clock.pass_seconds(2)
    store.checkpoint()
    assert signed() == [1, 101, 102]
    write(2)
    store.close()
    assert signed() == [1, 101, 102, 104]
    site.open(checkpoints=site.checkpoints()).close()
    assert signed() == [1, 101, 102, 104]
    assert site.verify().is_intact


# -- leases -------------------------------------------------------------------------------------------------------


def test_a_lease_has_one_holder_until_it_expires(site: Site, store: SqlControlStore) -> None:
    other = site.open()
    mine = store.lease("digest", 10)
    assert mine is not None
    assert other.lease("digest", 10) is None
    assert other.lease("sweep", 10) is not None
    site.clock.pass_seconds(9)
    assert mine.renew()
    site.clock.pass_seconds(9)
    assert other.lease("digest", 10) is None
    site.clock.pass_seconds(1)
    theirs = other.lease("digest", 10)
    assert theirs is not None
    assert not mine.renew()
    mine.release()
    assert theirs.renew()
    theirs.release()
    assert store.lease("digest", 10) is not None


def test_a_lease_that_ran_out_is_not_renewed_even_if_nobody_took_it(site: Site, store: SqlControlStore) -> None:
    mine = store.lease("digest", 10)
    assert mine is not None
    site.clock.pass_seconds(10)
    assert not mine.renew()


def test_of_many_who_want_a_lease_at_once_one_gets_it(site: Site) -> None:
    stores = [site.open() for _ in range(4)]
    barrier = threading.Barrier(len(stores))
    taken: list[Any] = []

    def grab(store: SqlControlStore) -> None:
        barrier.wait()
        taken.append(store.lease("digest", 60))

    threads = [threading.Thread(target=grab, args=(s,)) for s in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([lease for lease in taken if lease is not None]) == 1


# -- epoch and crash ----------------------------------------------------------------------------------------------


def test_the_next_start_announces_what_a_crash_left_unannounced(site: Site) -> None:
    silent = site.open(epoch=None)
    with silent.tx("ada") as tx:
        publish(tx, "mail")
    assert site.epoch.revision() == 0
    site.open()
    assert site.epoch.revision() == 1


def test_after_an_older_database_was_put_back_everything_is_announced_anew(site: Site) -> None:
    store = site.open(checkpoints=site.checkpoints())
    with store.tx("ada") as tx:
        publish(tx, "mail")
    store.close()
    site.epoch.raise_to(41)
    store = site.open()
    assert site.epoch.revision() == 42
    assert store.read_projection(41) == (42, store.read_projection(0)[1])
    assert [row.action for row in audit_files.read_database(site.url)] == ["agent:publish", "state:restore"]
    with store.tx("ada") as tx:
        publish(tx, "billing")
    assert site.epoch.revision() == 43


def test_a_reader_that_has_seen_a_revision_has_seen_every_row_up_to_it(site: Site) -> None:
    """Each transaction projects one new key, so whoever has seen revision R must hold exactly R keys."""
    stores = [site.open(), site.open()]
    per_thread, threads_per_store = 25, 2
    total = per_thread * threads_per_store * len(stores)

    def write(store: SqlControlStore, name: str) -> None:
        for n in range(per_thread):
            with store.tx(name) as tx:
                publish(tx, f"{name}-{n}")
            assert site.epoch.revision() >= (tx.revision or 0)

    threads = [
        threading.Thread(target=write, args=(store, f"{s}-{t}"))
        for s, store in enumerate(stores)
        for t in range(threads_per_store)
    ]
    for thread in threads:
        thread.start()
    reader = ProjectionReader.open(site.url)
    seen: set[str] = set()
    revision = 0
    while revision < total:
        writing = any(thread.is_alive() for thread in threads)
        announced = site.epoch.revision()
        revision, rows = reader.read(revision)
        seen |= {key for _, key, _ in rows}
        assert revision >= announced
        assert len(seen) == revision
        assert writing or revision == total
    for thread in threads:
        thread.join()
    reader.close()


# -- following ----------------------------------------------------------------------------------------------------


def test_a_host_without_a_server_follows_and_beats(site: Site, tmp_path: Path) -> None:
    here, there = site.open(), EpochFile.create(tmp_path / "other-host" / "epoch")
    follower = site.open(epoch=None, migrate=False)
    stop = threading.Event()
    thread = threading.Thread(target=follower.follow, args=(there, stop, 0.05))
    thread.start()
    try:
        assert eventually(lambda: there.age_seconds() < 5)
        with here.tx("ada") as tx:
            publish(tx, "mail")
        assert eventually(lambda: there.revision() == 1)
        assert follower.follow_problem is None
    finally:
        stop.set()
        thread.join()


def test_beats_stop_while_the_database_is_behind_what_was_announced(site: Site) -> None:
    store = site.open()
    site.epoch.raise_to(7)
    stop = threading.Event()
    thread = threading.Thread(target=store.follow, args=(site.epoch, stop, 0.01))
    thread.start()
    try:
        assert eventually(lambda: store.follow_problem is not None)
        assert "7 was announced" in str(store.follow_problem)
        assert site.epoch.age_seconds() == float("inf")
    finally:
        stop.set()
        thread.join()


# -- opening ------------------------------------------------------------------------------------------------------


def test_a_worker_may_not_write(site: Site, store: SqlControlStore) -> None:
    worker = site.open(epoch=None, migrate=False)
    with store.tx("ada") as tx:
        publish(tx, "mail")
    assert worker.read_projection(0)[0] == 1
    with pytest.raises(RuntimeError, match="only reads"), worker.tx("worker"):
        pass


@pytest.mark.parametrize(("version", "remedy"), [("0000", "Start the server"), ("9999", "restore a backup")])
def test_a_worker_refuses_a_schema_of_another_version(site: Site, version: str, remedy: str) -> None:
    site.open()
    site.tamper(f"UPDATE alembic_version SET version_num = '{version}'")
    try:
        with pytest.raises(Unavailable, match=remedy):
            site.open(migrate=False)
        with pytest.raises(Unavailable, match=remedy):
            ProjectionReader.open(site.url)
    finally:
        site.tamper(f"UPDATE alembic_version SET version_num = '{migrations_head()}'")


def migrations_head() -> str:
    from watchfloor.storage import migrations

    return migrations.HEAD


def test_a_server_refuses_a_database_of_a_newer_version(site: Site) -> None:
    site.open()
    site.tamper("UPDATE alembic_version SET version_num = '9999'")
    try:
        with pytest.raises(Unavailable, match="does not know"):
            site.open()
    finally:
        site.tamper(f"UPDATE alembic_version SET version_num = '{migrations_head()}'")


def test_a_json_column_gives_back_what_was_stored(site: Site) -> None:
    value = {"big": [2**64, -(2**70), 2**63 - 1], "text": "ü\u202e\x01", "digits": "1" * 30, "real": 1.5, "none": None}
    store = site.open()
    with store.tx(audited=False) as tx:
        write_setting(tx, "awkward", value)
    with store.read() as tx:
        assert read_setting(tx, "awkward") == value
