"""Who answers for an agent: handing it over, and agents that nobody answers for.

Above ``storage``; the portal and ``response`` call it. It does not know permissions.

INVARIANT: nobody takes their own name off an agent. Otherwise whoever built it could approve or unblock it after all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from watchfloor.model.agents import AgentState
from watchfloor.model.errors import Conflict, Denied, InputError, NotFound
from watchfloor.storage import inventory, people
from watchfloor.storage.inventory import Agent
from watchfloor.storage.people import User

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watchfloor.storage.control import ControlTx

PEOPLE = ("maker", "owner", "sponsor")


@dataclass(frozen=True, slots=True)
class Orphan:
    """An agent for which somebody is missing; ``missing`` says, by ``PEOPLE``, why."""

    agent: Agent
    missing: Mapping[str, str]


def reassign(tx: ControlTx, agent_id: str, to: Mapping[str, str], reason: str) -> Agent:
    """Make others its maker, owner or sponsor. ``to``: ``PEOPLE`` to ids of users.

    A manifest that names others hands it back. Raises ``NotFound`` (no such agent or user), ``InputError`` (nobody
    named), ``Denied`` for who would take their own name off it, ``Conflict`` (it is retired, or theirs already).
    """
    agent = inventory.find_agent(tx, agent_id)
    if agent is None:
        raise NotFound(f"there is no agent {agent_id!r}.", where="agent")
    if agent.state is AgentState.RETIRED:
        raise Conflict(f"agent {agent_id} is retired.", where="agent")
    if not to:
        raise InputError("nobody is named.", where="owner", remedy=f"Name a new {' or '.join(PEOPLE)}.")
    now = {"maker": agent.maker_id, "owner": agent.owner_id, "sponsor": agent.sponsor_id}
    for role, user_id in to.items():
        user = people.find_user(tx, user_id)
        if user is None:
            raise NotFound(f"there is no user {user_id!r}.", where=role)
        if not user.is_enabled:
            raise Conflict(f"user {user_id} is disabled.", where=role)
        if now[role] == tx.actor != user_id:
            raise Denied(f"{tx.actor} is the {role} of agent {agent_id}, so somebody else has to hand it over.")
    after = now | dict(to)
    changed = replace(
        agent,
        maker_id=after["maker"],
        owner_id=after["owner"],
        sponsor_id=after["sponsor"],
        manifest={**agent.manifest, **to},
        updated_at=tx.now,
    )
    if not inventory.save_agent(tx, changed, "agent:reassign", reason):
        raise Conflict(f"agent {agent_id} is theirs already.", where="agent")
    return changed


def list_orphans(tx: ControlTx) -> list[Orphan]:
    """Agents that are not retired and have no owner, or whose maker, owner or sponsor is gone or disabled; by id."""
    users = {user.id: user for user in people.list_users(tx)}
    found = []
    for agent in inventory.list_agents(tx):
        if agent.state is AgentState.RETIRED:
            continue
        named = {"maker": agent.maker_id, "owner": agent.owner_id, "sponsor": agent.sponsor_id}
        missing = {role: why for role, user_id in named.items() if (why := _why_missing(user_id, users))}
        if agent.owner_id is None:
            missing["owner"] = "nobody is named"
        if missing:
            found.append(Orphan(agent, missing))
    return found


def _why_missing(user_id: str | None, users: Mapping[str, User]) -> str:
    if user_id is None:
        return ""
    user = users.get(user_id)
    if user is None:
        return f"{user_id} is not known"
    return "" if user.is_enabled else f"{user_id} is disabled"
