"""Versions of agents: every manifest that was applied or submitted, numbered, kept for ever, with what was decided.

Beside ``inventory``, above the tables. A version's manifest never changes; its state does, as ``VERSION_MOVES`` allows.
Writes audit, in the caller's transaction. It does not know who may decide: that is ``registry``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.agents import VERSION_MOVES, VersionState
from watchfloor.model.errors import Conflict
from watchfloor.storage import schema
from watchfloor.storage.changes import plain, upsert

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_V = schema.agent_version
_IN_FORCE = (VersionState.LIVE, VersionState.APPROVED)


@dataclass(frozen=True, slots=True)
class AgentVersion:
    """A version of an agent. ``version`` is its maker's name for the build; ``manifest`` is normalised, no secrets.

    ``document`` is the text as it was submitted, None where an administrator applied it. ``audience``: whom an approver
    let it out to, None for whom the manifest says. ``checks`` are results of ``registry.checks`` as JSON.
    """

    agent_id: str
    number: int
    version: str
    manifest_hash: str
    manifest: Mapping[str, Any]
    created_at: datetime
    created_by: str
    state: VersionState = VersionState.LIVE
    document: str | None = field(default=None, repr=False)
    note: str = ""
    checks: tuple[Mapping[str, Any], ...] = ()
    decided_at: datetime | None = None
    decided_by: str | None = None
    reason: str = ""
    conditions: str = ""
    audience: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class KnownVersions:
    """What is compared with: name of a build → its hash, the number of the newest version, the name of the live one,
    and the hashes of builds that were ruled out."""

    hashes: Mapping[str, str] = field(default_factory=dict)
    newest: int = 0
    live: str | None = None
    ruled_out: Set[str] = frozenset()

    @property
    def is_new(self) -> bool:
        """Whether no version was ever live."""
        return self.live is None and not self.ruled_out


_WAS_LIVE: Final = (VersionState.LIVE, VersionState.SUPERSEDED, VersionState.BLOCKED)
"""An approved version that never went live may be superseded or ruled out, too: nobody needs to tell them apart."""


def _version(row: sa.Row[Any]) -> AgentVersion:
    values = dict(row._mapping)
    audience = None if row.audience is None else tuple(row.audience)
    return AgentVersion(
        **{**values, "state": VersionState(row.state), "checks": tuple(row.checks), "audience": audience}
    )


def list_versions(tx: ControlTx, agent_id: str) -> list[AgentVersion]:
    """Versions of the agent, oldest first."""
    rows = tx.connection.execute(sa.select(_V).where(_V.c.agent_id == agent_id).order_by(_V.c.number))
    return [_version(row) for row in rows]


def find_version(tx: ControlTx, agent_id: str, number: int) -> AgentVersion | None:
    """The version, or None."""
    row = tx.connection.execute(sa.select(_V).where(_V.c.agent_id == agent_id, _V.c.number == number)).one_or_none()
    return _version(row) if row else None


def newest_in(tx: ControlTx, agent_id: str, state: VersionState) -> AgentVersion | None:
    """The agent's newest version in ``state``, or None."""
    query = sa.select(_V).where(_V.c.agent_id == agent_id, _V.c.state == state.value)
    row = tx.connection.execute(query.order_by(_V.c.number.desc()).limit(1)).one_or_none()
    return _version(row) if row else None


def last_live_before(tx: ControlTx, agent_id: str, number: int) -> AgentVersion | None:
    """The newest version below ``number`` that is or was live, or None."""
    was_live = _V.c.state.in_([state.value for state in _WAS_LIVE])
    query = sa.select(_V).where(_V.c.agent_id == agent_id, _V.c.number < number, was_live)
    row = tx.connection.execute(query.order_by(_V.c.number.desc()).limit(1)).one_or_none()
    return _version(row) if row else None


def list_submitted(
    tx: ControlTx,
    *,
    states: Collection[VersionState] = (),
    agent_id: str = "",
    people: str | None = None,
    before: datetime | None = None,
    limit: int = 100,
) -> list[AgentVersion]:
    """Versions that were submitted, newest first. ``people``: of agents that this user built or answers for, only."""
    query = sa.select(_V).where(_V.c.document.is_not(None))
    if states:
        query = query.where(_V.c.state.in_([state.value for state in states]))
    if agent_id:
        query = query.where(_V.c.agent_id == agent_id)
    if people is not None:
        a = schema.agent
        own = sa.select(a.c.id).where(sa.or_(a.c.maker_id == people, a.c.owner_id == people))
        query = query.where(_V.c.agent_id.in_(own))
    if before is not None:
        query = query.where(_V.c.created_at < before)
    rows = tx.connection.execute(query.order_by(_V.c.created_at.desc(), _V.c.agent_id, _V.c.number.desc()).limit(limit))
    return [_version(row) for row in rows]


def waiting_agents(tx: ControlTx) -> set[str]:
    """Agents of which a version waits for somebody to decide."""
    query = sa.select(_V.c.agent_id).where(_V.c.state == VersionState.SUBMITTED.value)
    return set(tx.connection.execute(query).scalars())


def list_known(tx: ControlTx) -> dict[str, KnownVersions]:
    """What a manifest is compared with, by agent."""
    found: dict[str, KnownVersions] = {}
    query = sa.select(_V.c.agent_id, _V.c.number, _V.c.version, _V.c.manifest_hash, _V.c.state).order_by(_V.c.number)
    for agent_id, number, version, build, state in tx.connection.execute(query):
        before = found.get(agent_id, KnownVersions())
        live = version if state == VersionState.LIVE.value else before.live
        ruled_out = before.ruled_out | ({build} if state == VersionState.BLOCKED.value else set())
        found[agent_id] = KnownVersions({**before.hashes, version: build}, number, live, ruled_out)
    return found


def is_ruled_out(tx: ControlTx, version: AgentVersion | None) -> bool:
    """Whether the version's build was ruled out, as this version or as another."""
    if version is None:
        return False
    same = (_V.c.agent_id == version.agent_id, _V.c.manifest_hash == version.manifest_hash)
    query = sa.select(_V.c.number).where(*same, _V.c.state == VersionState.BLOCKED.value).limit(1)
    return tx.connection.execute(query).first() is not None


def add_version(tx: ControlTx, version: AgentVersion) -> None:
    """Keep a version. If it is live, or approved, what was so before is superseded."""
    if version.state in _IN_FORCE:
        _supersede(tx, version)
    upsert(tx, _V, _values(version), exists=False)
    tx.audit(
        "agent:add-version",
        f"agent/{version.agent_id}",
        {
            "number": version.number,
            "version": version.version,
            "state": version.state.value,
            "manifest_hash": version.manifest_hash,
        },
    )


def move_version(tx: ControlTx, version: AgentVersion, action: str) -> None:
    """Store what became of a version. Raises ``Conflict`` unless ``VERSION_MOVES`` leads there."""
    before = find_version(tx, version.agent_id, version.number)
    assert before is not None
    if version.state not in VERSION_MOVES[before.state]:
        raise Conflict(
            f"version {version.number} of agent {version.agent_id} is {before.state.value}, "
            f"so it cannot become {version.state.value}.",
            where=f"agent/{version.agent_id}",
        )
    if version.state in _IN_FORCE:
        _supersede(tx, version)
    upsert(tx, _V, _values(version), exists=True)
    decided = {
        name: plain(getattr(version, name))
        for name in ("reason", "conditions", "audience")
        if getattr(version, name) != getattr(before, name)
    }
    tx.audit(
        action,
        f"agent/{version.agent_id}",
        {
            "number": version.number,
            "version": version.version,
            "state": version.state.value,
            **decided,
        },
    )


def _supersede(tx: ControlTx, by: AgentVersion) -> None:
    """One version is live and at most one approved; an approved one that waits leaves the live one as it is."""
    ended = _IN_FORCE if by.state is VersionState.LIVE else (VersionState.APPROVED,)
    for state in ended:
        before = newest_in(tx, by.agent_id, state)
        if before is not None and before.number != by.number:
            move_version(tx, replace(before, state=VersionState.SUPERSEDED), "agent:supersede-version")


def _values(version: AgentVersion) -> dict[str, Any]:
    names = (column.name for column in _V.columns)
    values = {name: getattr(version, name) for name in names}
    audience = None if version.audience is None else list(version.audience)
    checks = [dict(check) for check in version.checks]
    manifest = dict(version.manifest)
    return values | {"state": version.state.value, "checks": checks, "audience": audience, "manifest": manifest}
