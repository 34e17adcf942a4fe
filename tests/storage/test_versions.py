"""Versions of agents: numbered, kept, and only ever moved as the table allows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from watchfloor.model.agents import VERSION_MOVES, VersionState
from watchfloor.model.errors import Conflict
from watchfloor.storage import inventory, versions
from watchfloor.storage.control import ControlTx, SqlControlStore
from watchfloor.storage.versions import AgentVersion, KnownVersions

from .contract_control import postgres_url, site, store  # noqa: F401  fixtures: every engine
from .lite import lite, migrated  # noqa: F401  fixtures: one engine, fast
from .test_inventory import AGENT, AT

FIRST = AgentVersion("billing", 1, "3", "d" * 64, {"name": "Billing"}, AT, "root")
ASKED = replace(
    FIRST, number=2, version="4", manifest_hash="e" * 64, state=VersionState.SUBMITTED, document="agents: […]",
    checks=({"check": "manifest"},),
)  # fmt: skip


def states(tx: ControlTx) -> list[VersionState]:
    return [v.state for v in versions.list_versions(tx, "billing")]


def test_versions_are_kept_as_they_were(store: SqlControlStore) -> None:  # noqa: F811  a fixture
    decided = replace(ASKED, state=VersionState.APPROVED, decided_at=AT, decided_by="eve", audience=("group:pilot",))
    with store.tx("root") as tx:
        inventory.save_agent(tx, AGENT)
        versions.add_version(tx, FIRST)
        versions.add_version(tx, ASKED)
        assert versions.list_versions(tx, "billing") == [FIRST, ASKED]
        assert versions.list_known(tx) == {"billing": KnownVersions({"3": "d" * 64, "4": "e" * 64}, 2, "3")}
        assert versions.last_live_before(tx, "billing", 2) == FIRST
        assert versions.list_submitted(tx, people="ada", states=[VersionState.SUBMITTED]) == [ASKED]
        assert versions.list_submitted(tx, people="eve") == []
        versions.move_version(tx, decided, "agent:approve")
        assert versions.find_version(tx, "billing", 2) == decided
        assert states(tx) == ["live", "approved"]
        versions.move_version(tx, replace(decided, state=VersionState.LIVE), "agent:unblock")
        assert states(tx) == ["superseded", "live"]


@pytest.mark.parametrize("before", VersionState)
def test_a_version_moves_only_as_the_table_allows(lite: SqlControlStore, before: VersionState) -> None:  # noqa: F811  a fixture
    with lite.tx("root") as tx:
        inventory.save_agent(tx, AGENT)
        for number, after in enumerate(VersionState, start=1):
            version = replace(FIRST, number=number, state=before)
            versions.add_version(tx, version)
            if after in VERSION_MOVES[before]:
                versions.move_version(tx, replace(version, state=after), "agent:move")
            else:
                with pytest.raises(Conflict, match=f"is {before}, so it cannot become {after}"):
                    versions.move_version(tx, replace(version, state=after), "agent:move")
        assert states(tx).count(VersionState.LIVE) <= 1
