"""Risk that an identity provider sees by itself, brought here by the job that reads directories."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from identity.world import World
from watchfloor.identity import provider_risk, risk
from watchfloor.identity.connector import Account, RiskyAccount
from watchfloor.model.errors import Unavailable
from watchfloor.model.people import RiskLevel
from watchfloor.model.risk import Risk, RiskState


class Sync:
    """An installation whose provider lists risks."""

    def __init__(self, folder: Path) -> None:
        self.world = World.with_company(folder)
        with self.world.store.read() as tx:
            self.start = tx.now
        self.issuer = self.world.idp.issuer

    def risky(self, subject: str, level: RiskLevel, minutes: int = 0) -> RiskyAccount:
        at = self.start + timedelta(minutes=minutes)
        return RiskyAccount(Account(self.issuer, subject), level, at, "unfamiliarFeatures")

    def run(self, *risky: RiskyAccount, breaks: bool = False) -> int:
        def listed() -> Iterator[RiskyAccount]:
            yield from risky
            if breaks:
                raise Unavailable("the line broke")

        return provider_risk.sync(self.world.store, self.issuer, listed())

    def of(self, user_id: str) -> Risk:
        with self.world.store.read() as tx:
            return risk.find(tx, "user", user_id)


@pytest.fixture
def sync(tmp_path: Path) -> Iterator[Sync]:
    made = Sync(tmp_path)
    yield made
    made.world.close()


@pytest.mark.claim("idp-risk")
def test_who_is_listed_is_at_risk_and_who_is_listed_no_more_is_not(sync: Sync) -> None:
    assert sync.run(sync.risky("griffin", RiskLevel.HIGH), sync.risky("stranger", RiskLevel.HIGH)) == 1
    found = sync.of("griffin")
    assert (found.level, found.state) == (RiskLevel.HIGH, RiskState.AT_RISK)
    assert sync.of("ada").level is RiskLevel.NONE
    sync.run(sync.risky("griffin", RiskLevel.LOW, 5))
    assert sync.of("griffin").level is RiskLevel.LOW
    sync.run()
    assert sync.of("griffin").level is RiskLevel.NONE
    sync.run(sync.risky("griffin", RiskLevel.MEDIUM, 9))
    assert sync.of("griffin").level is RiskLevel.MEDIUM


def test_what_was_dismissed_here_stays_so_until_there_is_something_newer(sync: Sync) -> None:
    sync.run(sync.risky("griffin", RiskLevel.HIGH))
    with sync.world.store.tx("sam") as tx:
        risk.dismiss(tx, "user", "griffin", "it was a drill")
    sync.run(sync.risky("griffin", RiskLevel.HIGH))
    assert (sync.of("griffin").level, sync.of("griffin").state) == (RiskLevel.NONE, RiskState.DISMISSED)
    sync.run(sync.risky("griffin", RiskLevel.HIGH, 60))
    assert sync.of("griffin").level is RiskLevel.HIGH


def test_a_list_that_breaks_off_changes_nothing(sync: Sync) -> None:
    sync.run(sync.risky("griffin", RiskLevel.HIGH))
    with pytest.raises(Unavailable):
        sync.run(sync.risky("ada", RiskLevel.HIGH), breaks=True)
    assert (sync.of("griffin").level, sync.of("ada").level) == (RiskLevel.HIGH, RiskLevel.NONE)


def test_reading_the_same_list_again_writes_nothing(sync: Sync) -> None:
    sync.run(sync.risky("griffin", RiskLevel.HIGH))
    with sync.world.store.read() as tx:
        before = risk.history(tx, "user", "griffin")
    sync.run(sync.risky("griffin", RiskLevel.HIGH))
    with sync.world.store.read() as tx:
        assert risk.history(tx, "user", "griffin") == before
