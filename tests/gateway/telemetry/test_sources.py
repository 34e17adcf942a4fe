"""Source tokens at the receivers: real control state, real epoch file, and everything that can go wrong between."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.world import World
from watchfloor.gateway.telemetry.sources import SourceRefused, Sources
from watchfloor.model.errors import Unavailable
from watchfloor.model.facts import Kind
from watchfloor.registry import sources as registry
from watchfloor.registry.sources import Terms
from watchfloor.storage.epoch import EpochFile
from watchfloor.storage.projection import ProjectionReader


class Office:
    """A control plane, and one receiver's view of it. ``clock`` is the receiver's, in seconds."""

    def __init__(self, directory: Path) -> None:
        self.world = World(directory)
        self.world.epoch.beat()
        self.clock = 100.0
        self.reads = 0
        self.sources = Sources(
            open_reader=self._open_reader,
            open_epoch=lambda: EpochFile.open(self.world.data / "epoch"),
            lease_seconds=5.0,
            clock=lambda: self.clock,
        )

    @property
    def database(self) -> Path:
        return self.world.data / "control.db"

    def _open_reader(self) -> Any:
        self.reads += 1
        return ProjectionReader.open(f"sqlite:///{self.database}")

    def add(self, name: str = "crm", agents: tuple[str, ...] = ("*",), **terms: Any) -> str:
        with self.world.control.tx("test") as tx:
            return registry.create(tx, name, Terms(agents=agents, **terms)).token

    def close(self) -> None:
        self.sources.close()
        self.world.control.close()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.close()


def test_a_token_names_its_source_and_what_that_may(office: Office) -> None:
    token = office.add("crm", ("billing", "hr"), events_per_second=50)
    office.add("other")
    source = office.sources.authenticate(token)
    assert (source.id, source.events_per_second) == ("crm", 50)
    assert [source.may_speak_for(a) for a in ("billing", "hr", "payroll", "", "*", "Billing")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip


def test_a_source_for_every_agent_may_speak_for_any_and_for_none(office: Office) -> None:
    source = office.sources.authenticate(office.add("collector"))
    assert source.may_speak_for("payroll") and source.may_speak_for("")


@pytest.mark.parametrize(
    "token",
    ["", "wfsrc_", "wfsrc_" + "A" * 43, "wfsrc_" + "A" * 100_000, "wfsrc_\ud800", "wft_" + "A" * 43, "eyJh.e.s"],
)
def test_what_is_no_source_token_is_refused(office: Office, token: str) -> None:
    good = office.add()
    with pytest.raises(SourceRefused):
        office.sources.authenticate(token)
    assert office.sources.authenticate(good).id == "crm"


def test_a_token_that_is_followed_by_more_is_another_token(office: Office) -> None:
    token = office.add()
    for other in (token + "A", token[:-1], token.swapcase(), token + "\0"):
        with pytest.raises(SourceRefused):
            office.sources.authenticate(other)


def test_a_gateway_token_or_its_hash_opens_nothing(office: Office) -> None:
    office.add()
    stored = office.world.control.read_projection(0)[1]
    (hashed,) = [body["token_hash"] for kind, _, body in stored if kind is Kind.SOURCE and body]
    for token in (hashed, f"wfsrc_{hashed}"):
        with pytest.raises(SourceRefused):
            office.sources.authenticate(token)


@pytest.mark.parametrize("change", ["disable", "delete", "renew"])
def test_a_change_holds_for_the_very_next_request(office: Office, change: str) -> None:
    token = office.add()
    assert office.sources.authenticate(token).id == "crm"
    fresh = ""
    with office.world.control.tx("test") as tx:
        if change == "disable":
            registry.change(tx, "crm", Terms(is_enabled=False))
        elif change == "delete":
            registry.delete(tx, "crm")
        else:
            fresh = registry.renew_token(tx, "crm").token
    with pytest.raises(SourceRefused):
        office.sources.authenticate(token)
    if fresh:
        assert office.sources.authenticate(fresh).id == "crm"


def test_a_disabled_source_that_is_enabled_again_is_let_in_with_its_old_token(office: Office) -> None:
    token = office.add()
    for enabled in (False, True):
        with office.world.control.tx("test") as tx:
            registry.change(tx, "crm", Terms(is_enabled=enabled))
    assert office.sources.authenticate(token).id == "crm"


def test_the_database_is_read_only_when_something_changed(office: Office) -> None:
    token = office.add()
    for _ in range(100):
        office.sources.authenticate(token)
    assert office.reads == 1


def test_when_a_change_cannot_be_read_nobody_is_let_in_until_it_can(office: Office) -> None:
    token = office.add()
    office.sources.authenticate(token)
    away = office.database.with_name("away.db")
    office.add("other")
    office.database.rename(away)
    with pytest.raises(Unavailable, match="cannot be read"):
        office.sources.authenticate(token)
    away.rename(office.database)
    with pytest.raises(Unavailable):  # not asked again at once
        office.sources.authenticate(token)
    office.clock += 0.2
    assert office.sources.authenticate(token).id == "crm"


def test_a_database_that_is_behind_what_was_acknowledged_lets_nobody_in(office: Office) -> None:
    token = office.add()
    office.world.epoch.raise_to(1_000)
    with pytest.raises(Unavailable, match="revision 1000 was acknowledged"):
        office.sources.authenticate(token)


def test_when_the_control_plane_is_silent_past_the_lease_nobody_is_let_in(tmp_path: Path) -> None:
    office, at = Office(tmp_path), [0]
    now = 10**9
    epoch = EpochFile.create(office.world.data / "epoch", clock=lambda: now)
    epoch.beat()
    watching = Sources(
        open_reader=office._open_reader,
        open_epoch=lambda: EpochFile.open(office.world.data / "epoch", clock=lambda: now + at[0]),
        lease_seconds=5.0,
    )
    token = office.add()
    at[0] = 4 * 10**9
    assert watching.authenticate(token).id == "crm"
    at[0] = 6 * 10**9
    with pytest.raises(Unavailable, match="silent"):
        watching.authenticate(token)
    watching.close()
    office.close()


def test_before_the_server_was_ever_there_nobody_is_let_in(tmp_path: Path) -> None:
    alone = Sources(
        open_reader=lambda: ProjectionReader.open(f"sqlite:///{tmp_path / 'control.db'}"),
        open_epoch=lambda: EpochFile.open(tmp_path / "epoch"),
        lease_seconds=5.0,
    )
    with pytest.raises(Unavailable):
        alone.authenticate("wfsrc_" + "A" * 43)


BODY = {"id": "crm", "token_hash": "x", "agents": ["*"], "events_per_second": 10, "is_enabled": True}


@pytest.mark.parametrize(
    "wrong",
    [
        {"agents": None}, {"agents": [["*"]]}, {"events_per_second": 0}, {"events_per_second": "many"},
        {"is_enabled": "yes"},
    ],
)  # fmt: skip
def test_a_source_that_cannot_be_read_is_none_and_the_others_are_let_in(office: Office, wrong: dict[str, Any]) -> None:
    good, bad = office.add("good"), office.add("crm")
    with contextlib.closing(sqlite3.connect(office.database)) as database:
        (text,) = database.execute("SELECT body FROM projection WHERE kind = 'source' AND key = 'crm'").fetchone()
        body = json.dumps({**json.loads(text), **wrong})
        database.execute("UPDATE projection SET body = ? WHERE kind = 'source' AND key = 'crm'", (body,))
        database.commit()
    assert office.sources.authenticate(good).id == "good"
    with pytest.raises(SourceRefused):
        office.sources.authenticate(bad)


def test_threads_that_ask_while_tokens_change_get_the_source_or_a_refusal(office: Office) -> None:
    steady, tokens = office.add("steady"), [office.add("crm")]
    stop, wrong = threading.Event(), list[BaseException]()

    def ask() -> None:
        while not stop.is_set():
            try:
                assert office.sources.authenticate(steady).id == "steady"
                with contextlib.suppress(SourceRefused):
                    office.sources.authenticate(tokens[0])
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(6):
        office.world.epoch.beat()
        with office.world.control.tx("test") as tx:
            tokens.append(registry.renew_token(tx, "crm").token)
        assert office.sources.authenticate(tokens[-1]).id == "crm"
    stop.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    with pytest.raises(SourceRefused):
        office.sources.authenticate(tokens[-2])
