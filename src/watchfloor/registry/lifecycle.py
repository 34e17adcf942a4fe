"""The life of an agent, as one table of transitions.

Pure: an agent's state and a verb in, the next state or a refusal out. ``registry.inventory`` and ``registry.manifest``
store what this allows. It does not know permissions: whether somebody may use a verb at all is the portal's question.

INVARIANT: nobody approves or unblocks their own agent or version; no manifest and no approval leaves ``blocked``; only
an approval leads from ``submitted`` to ``published``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from watchfloor.model.agents import AgentState
from watchfloor.model.errors import Conflict, Denied

if TYPE_CHECKING:
    from watchfloor.storage.inventory import Agent
    from watchfloor.storage.versions import AgentVersion


class Verb(StrEnum):
    """What can be done to an agent as a whole."""

    SUBMIT = "submit"  # a version of it
    APPROVE = "approve"
    DECLINE = "decline"
    RECALL = "recall"  # the version is taken back by whoever submitted it
    PUBLISH = "publish"  # by an administrator's manifest, without a submission
    WITHDRAW = "withdraw"
    BLOCK = "block"
    UNBLOCK = "unblock"
    RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class Transition:
    """Where a verb leads. ``by_another``: not by whoever built the agent. ``by_manifest``: applying one may do it."""

    to: AgentState
    by_another: bool = False
    by_manifest: bool = False


_S = AgentState

TRANSITIONS: Final[dict[tuple[AgentState, Verb], Transition]] = {
    (_S.DRAFT, Verb.SUBMIT): Transition(_S.SUBMITTED),
    (_S.DRAFT, Verb.PUBLISH): Transition(_S.PUBLISHED, by_manifest=True),
    (_S.DRAFT, Verb.BLOCK): Transition(_S.BLOCKED),
    (_S.DRAFT, Verb.RETIRE): Transition(_S.RETIRED),
    (_S.SUBMITTED, Verb.APPROVE): Transition(_S.PUBLISHED, by_another=True),
    (_S.SUBMITTED, Verb.DECLINE): Transition(_S.DRAFT),
    (_S.SUBMITTED, Verb.BLOCK): Transition(_S.BLOCKED),
    (_S.SUBMITTED, Verb.RETIRE): Transition(_S.RETIRED),
    (_S.PUBLISHED, Verb.WITHDRAW): Transition(_S.DRAFT, by_manifest=True),
    (_S.PUBLISHED, Verb.BLOCK): Transition(_S.BLOCKED),
    (_S.PUBLISHED, Verb.RETIRE): Transition(_S.RETIRED),
    (_S.BLOCKED, Verb.UNBLOCK): Transition(_S.PUBLISHED, by_another=True),
    (_S.BLOCKED, Verb.RETIRE): Transition(_S.RETIRED),
    (_S.SUBMITTED, Verb.SUBMIT): Transition(_S.SUBMITTED),
    (_S.SUBMITTED, Verb.RECALL): Transition(_S.DRAFT),
    # An update: what is live stays live, what is blocked stays blocked, whatever is decided of it.
    (_S.PUBLISHED, Verb.SUBMIT): Transition(_S.PUBLISHED),
    (_S.PUBLISHED, Verb.APPROVE): Transition(_S.PUBLISHED, by_another=True),
    (_S.PUBLISHED, Verb.DECLINE): Transition(_S.PUBLISHED),
    (_S.PUBLISHED, Verb.RECALL): Transition(_S.PUBLISHED),
    (_S.BLOCKED, Verb.SUBMIT): Transition(_S.BLOCKED),
    (_S.BLOCKED, Verb.APPROVE): Transition(_S.BLOCKED, by_another=True),
    (_S.BLOCKED, Verb.DECLINE): Transition(_S.BLOCKED),
    (_S.BLOCKED, Verb.RECALL): Transition(_S.BLOCKED),
}
"""Every transition there is; what is not listed is refused. ``retired`` has no way out."""


def builders(agent: Agent, version: AgentVersion | None = None) -> frozenset[str]:
    """Who counts as having built ``agent``: its maker, its owner, and whoever last changed its manifest.

    With ``version`` also whoever applied or submitted that, and who was its maker and owner then.
    """
    people = [agent.maker_id, agent.owner_id, agent.updated_by]
    if version is not None:
        people += [version.created_by, version.manifest.get("maker"), version.manifest.get("owner")]
    return frozenset(filter(None, people))


def verbs(state: AgentState) -> tuple[Verb, ...]:
    """What can be done to an agent in ``state``."""
    return tuple(verb for origin, verb in TRANSITIONS if origin is state)


def next_state(agent: Agent, verb: Verb, actor: str, version: AgentVersion | None = None) -> AgentState:
    """The state that ``verb`` by ``actor`` leads to; ``version`` is the one that is approved or unblocked.

    Raises ``Conflict`` if the agent's state does not allow it, ``Denied`` if ``actor`` built the agent and somebody
    else must do it. Ids of operators and of users are compared as they are: the same id is the same person.
    """
    transition = TRANSITIONS.get((agent.state, verb))
    if transition is None:
        allowed = ", ".join(verbs(agent.state)) or "nothing"
        raise Conflict(
            f"an agent that is {agent.state.value} cannot be changed by {verb.value}.",
            where=f"agent/{agent.id}",
            remedy=f"Possible now: {allowed}.",
        )
    if transition.by_another and actor in builders(agent, version):
        raise Denied(
            f"{actor} built agent {agent.id} (as its maker, its owner, or who submitted or last changed it), "
            f"so somebody else has to {verb.value} it."
        )
    if verb is Verb.UNBLOCK and agent.manifest.get("state") == AgentState.DRAFT.value:
        return AgentState.DRAFT  # it was never published: unblocking must not do what only publishing may
    return transition.to


def state_after_manifest(current: AgentState | None, declared: AgentState) -> AgentState:
    """The state after applying a manifest that declares ``declared``; where the table has no way, it stays as it is."""
    if current is None or current is declared:
        return declared
    for (origin, _), transition in TRANSITIONS.items():
        if origin is current and transition.to is declared and transition.by_manifest:
            return declared
    return current
