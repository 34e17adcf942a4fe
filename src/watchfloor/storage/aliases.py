"""What others call our agents and users: the names that the data plane is told, also of those who were saved before.

Below ``registry`` and ``identity``, beside the repositories that save agents and users and project their aliases in
the same transaction. It does not know who asks by these names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from watchfloor.model.facts import Aliases, Kind
from watchfloor.storage import schema

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx
    from watchfloor.storage.inventory import Agent
    from watchfloor.storage.people import User

_PLATFORM_IDS: Final = ("agent", "app", "directory", "observability")
_GUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PLAIN: Final = re.compile(r"[a-z0-9.:_-]+")


def agent_aliases(agent: Agent) -> Aliases:
    """The ids of ``platformIds``. A schema name is none of them: it is the same in every environment."""
    ids = agent.manifest.get("platformIds") or {}
    return Aliases(tuple(sorted({str(ids[name]).lower() for name in _PLATFORM_IDS if ids.get(name)} - {agent.id})))


def agent_called(tx: ControlTx, name: str) -> str | None:
    """The id of the agent that its platform or directory calls ``name``, in whatever case; None if no one or several
    are."""
    wanted = name.strip().lower()
    if not wanted:
        return None
    p = schema.projection
    query = sa.select(p.c.key, p.c.body).where(
        p.c.kind == Kind.ALIASES.value, p.c.key.startswith("agent/", autoescape=True), p.c.body.is_not(None)
    )
    if _PLAIN.fullmatch(wanted):  # stands in JSON as it is: the database finds the few rows that hold it
        query = query.where(sa.cast(p.c.body, sa.Text).contains(wanted, autoescape=True))
    rows = tx.connection.execute(query)
    found = [row.key.removeprefix("agent/") for row in rows if wanted in Aliases.from_json(row.body).names]
    return found[0] if len(found) == 1 else None


def user_aliases(user: User) -> Aliases:
    """The subject, where it is an object id of a directory: other subjects mean nothing without their issuer."""
    subject = user.subject.lower()
    return Aliases((subject,) if _GUID.fullmatch(subject) and subject != user.id else ())


def save_agent_aliases(tx: ControlTx, before: Agent | None, agent: Agent) -> None:
    """Project the aliases of ``agent`` if they differ from those of ``before``."""
    _project(tx, f"agent/{agent.id}", agent_aliases(before) if before else Aliases(), agent_aliases(agent))


def save_user_aliases(tx: ControlTx, before: User | None, user: User) -> None:
    """Project the aliases of ``user`` if they differ from those of ``before``."""
    _project(tx, f"user/{user.id}", user_aliases(before) if before else Aliases(), user_aliases(user))


def complete_aliases(tx: ControlTx, agents: Iterable[Agent], users: Iterable[User]) -> None:
    """Project the aliases of those who were saved before aliases were; writes nothing where none are missing."""
    p = schema.projection
    told = {
        row.key: Aliases.from_json(row.body)
        for row in tx.connection.execute(sa.select(p.c.key, p.c.body).where(p.c.kind == Kind.ALIASES.value))
        if row.body is not None
    }
    for agent in agents:
        _project(tx, key := f"agent/{agent.id}", told.get(key, Aliases()), agent_aliases(agent))
    for user in users:
        _project(tx, key := f"user/{user.id}", told.get(key, Aliases()), user_aliases(user))


def _project(tx: ControlTx, key: str, before: Aliases, now: Aliases) -> None:
    if now != before:
        tx.project(Kind.ALIASES, key, now if now.names else None)
