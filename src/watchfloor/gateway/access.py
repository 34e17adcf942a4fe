"""Conditional access at the gateway: what a worker knows of it, what a refusal asks of the caller, and what is logged.

``State`` keeps one ``Access`` and asks it for each call; the answer is a fact like any other, so that the guard refuses
by it and a recorded decision replays. Which policies there are and what they come to is in ``guard.access``; how doors
tell a caller is in ``challenges``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from watchfloor.guard.access.table import AccessTable
from watchfloor.model.access import ACR_MULTI_FACTOR, AccessFacts, Proof
from watchfloor.model.agents import ToolEffect
from watchfloor.model.facts import AccessPolicyFacts, AgentFacts, AgentProfile, Facts, TokenFacts, ToolFacts, UserFacts
from watchfloor.storage import access_events as events

STEP_UP: Final = frozenset({"mfa_required", "reauthentication_required"})
"""Reason codes that a user can answer by signing in better: they are challenged, calls too."""

CODES: Final = STEP_UP | {"access_blocked", "password_reset_required"}
"""Every reason code that conditional access gives."""


@dataclass(frozen=True, slots=True)
class StepUp:
    """What a sign-in must be for the call to be allowed. ``max_age`` is in seconds."""

    max_age: int | None = None
    acr_values: str = ""

    def to_json(self) -> dict[str, Any]:
        """The members that there are."""
        found = {"max_age": self.max_age, "acr_values": self.acr_values}
        return {name: value for name, value in found.items() if value not in (None, "")}


class Access:
    """The published policies and what they ask of agents, as this worker has read them."""

    def __init__(self) -> None:
        self._published: dict[str, AccessPolicyFacts] = {}
        self._profiles: dict[str, AgentProfile] = {}
        self._table: AccessTable | None = AccessTable()

    def learn_policy(self, key: str, body: Mapping[str, Any] | None) -> None:
        """Take a policy in, or away. One that cannot be read stays as one that refuses everything."""
        self._table = None
        self._published.pop(key, None)
        if body is not None:
            self._published[key] = AccessPolicyFacts(key, 0, {})
            self._published[key] = AccessPolicyFacts.from_json(body)

    def learn_profile(self, key: str, body: Mapping[str, Any] | None) -> None:
        """Take in, or away, where an agent is from."""
        self._profiles.pop(key, None)
        if body is not None:
            self._profiles[key] = AgentProfile.from_json(body)

    def answer(
        self,
        token: TokenFacts,
        proof: Proof,
        user: UserFacts | None,
        agent_id: str,
        agent: AgentFacts | None,
        server_id: str,
        tool_name: str,
        tool: ToolFacts | None,
        now: datetime,
    ) -> AccessFacts | None:
        """What conditional access says of a call, or of a look (no ``tool_name``); None where there are no policies."""
        table = self._table
        if table is None:
            table = self._table = AccessTable.build(self._published)
        if table.is_empty:
            return None
        effect = tool.effect if tool is not None else ToolEffect.UNKNOWN if tool_name else None
        return table.answer(
            user, agent_id, agent, self._profiles.get(agent_id), token.mode, server_id, effect,
            proof.sign_in_risk, proof.methods, token.auth_time, now,
        )  # fmt: skip


def step_up_of(code: str, max_age: int | None) -> StepUp | None:
    """What the refusal ``code`` asks of the user's sign-in, if it can be answered by one."""
    if code == "mfa_required":
        return StepUp(max_age, ACR_MULTI_FACTOR)
    return StepUp(max_age) if code == "reauthentication_required" else None


def log_rows(row: Mapping[str, Any], facts: Facts) -> Iterator[bytes]:
    """Entries of the decision log for what refuses this call, or would: ``row`` is the call's own in AgentActivity."""
    access = facts.access
    if access is None or not (access.policies or access.problem):
        return
    for event in events.rows_of(row, access, facts.user, facts.agent, facts.token):
        yield orjson.dumps({"t": events.TABLE, "r": event})
