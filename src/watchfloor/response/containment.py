"""Is it over? Whether those that an incident is about can go on, read back from state.

An incident that is resolved while the stolen session still lives is not resolved. Contained means: a person's sessions
were ended (or the account disabled) after the last activity; where nobody is involved, the agent is blocked. What was
ordered does not count, only what holds. Whether an identity provider confirms it stands beside that: what it was asked
for counts only as far as it was read back. Nothing is done here; ``catalog`` has the actions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from watchfloor.model.agents import AgentState
from watchfloor.model.cases import Alert, Entity, EntityKind
from watchfloor.model.sagas import SagaKind, SagaStatus, StepState
from watchfloor.model.times import in_words
from watchfloor.model.verdicts import Severity
from watchfloor.response.plans import PASSWORD, READ_BACK, RISK, SESSIONS
from watchfloor.storage import inventory, people, sagas

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_MOST: Final = 20


class Confirmation(StrEnum):
    """What the identity provider says of what it was asked for."""

    CONFIRMED = "confirmed"
    PENDING = "pending"
    FAILED = "failed"
    NOT_ASKED = "not_asked"


@dataclass(frozen=True, slots=True)
class Containment:
    """Whether one entity is contained, and what shows it. ``action`` is the one of the catalogue that would do it.

    ``provider`` is what the identity provider says of what a response asked of it, ``provider_says`` that in words.
    """

    kind: str
    id: str
    name: str
    is_contained: bool
    because: str
    action: str
    provider: Confirmation = Confirmation.NOT_ASKED
    provider_says: str = ""

    @property
    def warning(self) -> str:
        """What speaks against calling it over, for whoever is about to; empty if nothing does."""
        if not self.is_contained:
            return f"{self.name} is not contained: {self.because}"
        if self.provider is Confirmation.FAILED:
            return f"{self.name} is contained here, but not at the identity provider: {self.provider_says}"
        return ""


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
        because, is_contained = f"every session from before {in_words(user.not_before)} has ended.", True
    else:
        because, is_contained = f"no sessions were ended since the last activity of {in_words(last)}.", False
    provider, says = _provider(tx, user_id, last)
    action = "confirm_user_compromised"
    return Containment("user", user_id, name, is_contained, because, action, provider, says)


def _provider(tx: ControlTx, user_id: str, last: datetime) -> tuple[Confirmation, str]:
    """What was read back for the newest response that came after the last activity."""
    found = sagas.list_sagas(
        tx,
        kinds=[SagaKind.USER_COMPROMISE],
        subject_ids=[user_id],
        statuses=[SagaStatus.RUNNING, SagaStatus.DONE, SagaStatus.FAILED],
        limit=1,
    )
    if not found or (found[0].decided_at or found[0].created_at) < last:
        return Confirmation.NOT_ASKED, ""
    steps = {step.name: step for step in sagas.steps_of(tx, [found[0].id])[found[0].id]}
    failed = [name for name in (SESSIONS, PASSWORD, RISK, READ_BACK) if steps[name].state is StepState.FAILED]
    if failed:
        return Confirmation.FAILED, steps[failed[0]].error
    read_back = steps[READ_BACK]
    if read_back.state is StepState.SKIPPED:
        return Confirmation.NOT_ASKED, read_back.error
    if read_back.state is not StepState.DONE:
        return Confirmation.PENDING, "the identity provider has not confirmed it yet."
    shown = [
        str(said["says"])
        for name in (SESSIONS, PASSWORD, RISK)
        if isinstance(said := read_back.evidence.get(name), Mapping) and said.get("shown")
    ]
    at = in_words(datetime.fromisoformat(str(read_back.evidence["read_at"])))
    return Confirmation.CONFIRMED, f"{', '.join(shown)} (read back at {at})."


def _agent(tx: ControlTx, agent_id: str, name: str, last: datetime) -> Containment:
    agent = inventory.find_agent(tx, agent_id)
    is_contained = agent is not None and agent.state is AgentState.BLOCKED
    because = "the agent is blocked." if is_contained else "the agent is not blocked."
    return Containment("agent", agent_id, name, is_contained, because, "block_agent")
