"""What was published last of each thing, on both engines: claimed, appended, settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from postgres import throw_away_database
from watchfloor.model.cases import AlertDraft, Entity, EntityKind, EntityRole
from watchfloor.model.verdicts import Severity
from watchfloor.storage import findings, snapshots
from watchfloor.storage.control import SqlControlStore
from watchfloor.storage.log import DEFAULT_PART, SqliteLog
from watchfloor.storage.log_postgres import PostgresLog
from watchfloor.storage.ports import EventLog, KeyedBatch, Seq
from watchfloor.storage.snapshots import Pace, Subject, publish

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PLAIN = Pace()


@dataclass
class Site:
    control: SqlControlStore
    log: EventLog
    at: datetime = NOON

    def publish(self, *subjects: Subject, pace: Pace = PLAIN, log: Any = None) -> int:
        with self.control.read() as tx:
            known = snapshots.list_snapshots(tx, "thing")
        done = publish(self.control, log or self.log, "thing", subjects, known, tenant="t", now=self.at, pace=pace)
        assert done.is_complete
        return done.published

    def rows(self) -> list[tuple[str, Any, datetime]]:
        found = []
        for batch in self.log.read(DEFAULT_PART, Seq(0), 1000):
            columns = batch.batch.select(["AccountObjectId", "AccountUpn", "Timestamp"]).to_pylist()
            found += [tuple(row.values()) for row in columns]
        return found


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if request.param == "sqlite":
        directory: Path = tmp_path_factory.mktemp("site")
        url, log = f"sqlite:///{directory / 'control.db'}", SqliteLog(directory / "log.db", min_free_bytes=0)
        control = SqlControlStore.open(url, epoch=None)
        yield Site(control, log)
        control.close()
        log.close()
        return
    with throw_away_database() as url:
        control, log_there = SqlControlStore.open(url, epoch=None), PostgresLog(url)
        yield Site(control, log_there)
        control.close()
        log_there.close()


@pytest.fixture
def site(opened: Site) -> Site:
    for batch in opened.log.read(DEFAULT_PART, Seq(0), 100_000):
        opened.log.trim(DEFAULT_PART, batch.seq)
    with opened.control.tx(audited=False) as tx:
        tx.connection.execute(snapshots.inventory_snapshot.delete())
    opened.at = NOON
    return opened


def thing(key: str, says: str, **options: Any) -> Subject:
    return Subject(key, {"IdentityInfo": [{"AccountObjectId": key, "AccountUpn": says}]}, **options)


def test_a_thing_is_published_when_it_is_new_and_when_it_differs(site: Site) -> None:
    assert site.publish(thing("a", "1"), thing("b", "1")) == 2
    assert site.publish(thing("a", "1"), thing("b", "1")) == 0
    site.at += timedelta(minutes=1)
    assert site.publish(thing("a", "2"), thing("b", "1")) == 1
    assert site.rows() == [("a", "1", NOON), ("b", "1", NOON), ("a", "2", site.at)]


def test_times_of_a_thing_grow_although_the_next_host_is_behind(site: Site) -> None:
    for says in "123":
        site.publish(thing("a", says))
        site.at -= timedelta(hours=1)
    times = [at for _, _, at in site.rows()]
    assert times == sorted(set(times)) and len(times) == 3


def test_a_claim_that_somebody_left_behind_is_finished(site: Site) -> None:
    class Killed(BaseException):
        pass

    class Dying:
        def append_once(self, part: str, batches: Sequence[KeyedBatch]) -> None:
            site.log.append_once(part, batches)
            raise Killed

    with pytest.raises(Killed):
        site.publish(thing("a", "1"), log=Dying())
    with site.control.read() as tx:
        assert snapshots.list_snapshots(tx, "thing")["a"].is_claim
    site.at += timedelta(minutes=1)
    assert site.publish(thing("a", "1")) == 1
    assert [says for _, says, _ in site.rows()] == ["1"]


def test_of_a_claim_that_somebody_left_behind_another_content_makes_another(site: Site) -> None:
    class Killed(BaseException):
        pass

    class Dying:
        def append_once(self, part: str, batches: Sequence[KeyedBatch]) -> None:
            site.log.append_once(part, batches)
            raise Killed

    for says in ("1", "2", "1"):
        with pytest.raises(Killed):
            site.publish(thing("a", says), log=Dying())
    assert site.publish(thing("a", "1")) == 1
    assert [says for _, says, _ in sorted(site.rows(), key=lambda row: row[2])] == ["1", "2", "1"]


def test_whoever_read_what_is_no_longer_remembered_publishes_nothing(site: Site) -> None:
    with site.control.read() as tx:
        known = snapshots.list_snapshots(tx, "thing")
    site.publish(thing("a", "2"))
    stale = publish(site.control, site.log, "thing", [thing("a", "1")], known, tenant="t", now=NOON, pace=Pace())
    assert (stale.published, stale.is_complete) == (0, False)
    assert [says for _, says, _ in site.rows()] == ["2"]


def test_a_thing_that_is_gone_is_forgotten_and_may_come_back(site: Site) -> None:
    site.publish(thing("a", "1"))
    assert site.publish(thing("a", "", is_gone=True)) == 1
    with site.control.read() as tx:
        assert snapshots.list_snapshots(tx, "thing") == {}
    assert site.publish(thing("a", "1")) == 1
    assert [says for _, says, _ in site.rows()] == ["1", "", "1"]


def test_only_what_matters_is_seen_at_once_and_the_rest_later(site: Site) -> None:
    pace = Pace(details=timedelta(minutes=15))
    site.publish(thing("a", "1", matters="x"), pace=pace)
    site.at += timedelta(minutes=14)
    assert site.publish(thing("a", "2", matters="x"), pace=pace) == 0
    assert site.publish(thing("a", "2", matters="y"), pace=pace) == 1
    site.at += timedelta(minutes=15)
    assert site.publish(thing("a", "3", matters="y"), pace=pace) == 1


def test_alerts_are_fresh_until_they_have_been_published_and_at_rest(site: Site) -> None:
    entity = Entity(EntityKind.USER, "griffin", "griffin@zava.example", EntityRole.IMPACTED)
    draft = AlertDraft(
        "rule", f"key/{site.at}", "Title", "…", Severity.HIGH, "Collection", (), (entity,), (), site.at, site.at
    )
    with site.control.tx("system", audited=False) as tx:
        alert = findings.save_draft(tx, draft).alert
    with site.control.read() as tx:
        assert [a.id for a in snapshots.list_fresh_alerts(tx, "", 10)] == [alert.id]
        assert snapshots.list_fresh_alerts(tx, alert.id, 10) == []
