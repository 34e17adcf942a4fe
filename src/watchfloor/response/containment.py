"""Is it over? Whether those that an incident is about can go on, read back from state.

An incident that is resolved while the stolen session still lives is not resolved. Contained means: a person's sessions
were ended (or the account disabled) after the last activity; where nobody is involved, the agent is blocked. What was
ordered does not count, only what holds. Nothing is done here; ``catalog`` has the actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from watchfloor.model.agents import AgentState
from watchfloor.model.cases import Alert, Entity, EntityKind
from watchfloor.model.verdicts import Severity
from watchfloor.storage import inventory, people

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_MOST: Final = 20


@dataclass(frozen=True, slots=True)
class Containment:
    """Whether one entity is contained, and what shows it. ``action`` is the one of the catalogue that would do it."""

    kind: str
    id: str
    name: str
    is_contained: bool
    because: str
    action: str

    @property
    def warning(self) -> str:
        """What speaks against calling it over, for whoever is about to."""
        return f"{self.name} is not contained: {self.because}"


def containment(tx: ControlTx, alerts: Sequence[Alert]) -> list[Containment]:
    """Of everybody that alerts of high severity are about, the first 20; none if no alert is that severe."""
    last: dict[tuple[EntityKind, str], datetime] = {}
    names: dict[tuple[EntityKind, str], str] = {}
    for alert in alerts:
        if alert.draft.severity.rank < Severity.HIGH.rank:
            continue
        for entity in _concerned(alert):
            key = entity.kind, entity.id
            names[key] = entity.name
            last[key] = max(last.get(key, alert.draft.last_activity), alert.draft.last_activity)
    found = []
    for (kind, entity_id), at in sorted(last.items())[:_MOST]:
        check = _user if kind is EntityKind.USER else _agent
        found.append(check(tx, entity_id, names[kind, entity_id], at))
    return found


def _concerned(alert: Alert) -> list[Entity]:
    users = [entity for entity in alert.draft.entities if entity.kind is EntityKind.USER]
    return users or [entity for entity in alert.draft.entities if entity.kind is EntityKind.AGENT]


def _user(tx: ControlTx, user_id: str, name: str, last: datetime) -> Containment:
    user = people.find_user(tx, user_id)
    if user is None:
        because = "the directory does not know the account, so nothing shows that its sessions ended."
        is_contained = False
    elif not user.is_enabled:
        because, is_contained = "the account is disabled.", True
    elif user.not_before is not None and user.not_before >= last:
        because, is_contained = f"every session from before {_moment(user.not_before)} has ended.", True
    else:
        because, is_contained = f"no sessions were ended since the last activity of {_moment(last)}.", False
    return Containment("user", user_id, name, is_contained, because, "revoke_user_sessions")


def _agent(tx: ControlTx, agent_id: str, name: str, last: datetime) -> Containment:
    agent = inventory.find_agent(tx, agent_id)
    is_contained = agent is not None and agent.state is AgentState.BLOCKED
    because = "the agent is blocked." if is_contained else "the agent is not blocked."
    return Containment("agent", agent_id, name, is_contained, because, "block_agent")


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
