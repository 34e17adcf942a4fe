"""Where agents are from, as conditional access may ask: blueprint and environment, told to the data plane.

Beside ``aliases``: the repository that saves agents projects what differs in the same transaction, and a server's start
completes what was saved before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from watchfloor.model.facts import AgentProfile, Kind
from watchfloor.storage import schema

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx
    from watchfloor.storage.inventory import Agent

_NOTHING = AgentProfile()


def agent_profile(agent: Agent) -> AgentProfile:
    """What ``platformIds`` says of it."""
    ids = agent.manifest.get("platformIds") or {}
    return AgentProfile(str(ids.get("blueprint") or ""), str(ids.get("environment") or ""))


def save_agent_profile(tx: ControlTx, before: Agent | None, agent: Agent) -> None:
    """Project the profile of ``agent`` if it differs from that of ``before``."""
    _project(tx, agent.id, agent_profile(before) if before else _NOTHING, agent_profile(agent))


def complete_profiles(tx: ControlTx, agents: Iterable[Agent]) -> None:
    """Project the profiles of those who were saved before there were any; writes nothing where none are missing."""
    p = schema.projection
    told = {
        row.key: AgentProfile.from_json(row.body)
        for row in tx.connection.execute(sa.select(p.c.key, p.c.body).where(p.c.kind == Kind.AGENT_PROFILE.value))
        if row.body is not None
    }
    for agent in agents:
        _project(tx, agent.id, told.get(agent.id, _NOTHING), agent_profile(agent))


def _project(tx: ControlTx, agent_id: str, before: AgentProfile, now: AgentProfile) -> None:
    if now != before:
        tx.project(Kind.AGENT_PROFILE, agent_id, now if now != _NOTHING else None)
