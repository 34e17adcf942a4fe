"""What agents do: one attempt to call a tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from watchfloor.model.agents import TokenMode


@dataclass(frozen=True, slots=True)
class Invocation:
    """One attempt to call a tool, as its door translated it. Nothing here is trusted but what the token proved.

    ``at`` is aware UTC. ``user_turns`` are the user's own words as far as the door carries them, newest last; empty
    means that the door cannot see them.
    """

    id: str
    at: datetime
    door: str
    tenant: str
    agent_id: str
    user_id: str | None
    mode: TokenMode
    session_id: str
    server_id: str
    tool: str
    arguments: Mapping[str, Any]
    conversation_id: str = ""
    address: str = ""
    user_turns: tuple[str, ...] = ()
    retry_token: str | None = None
    token_id: str = ""
    parent_agent_id: str | None = None
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class Counters:
    """How much this agent has done of late, as the deciding worker's host counted it."""

    calls_last_minute: int = 0
    blocked_last_10_minutes: int = 0
    same_tool_last_minute: int = 0


class Answer(StrEnum):
    """Why a held call does not go out although it was asked about before."""

    DECLINED = "declined"
    USED = "used"  # the approval let a call out already
    REVOKED = "revoked"  # it was taken back before it was used
    LIMITED = "limited"  # nobody was asked: the agent has asked too often
    INVALID = "invalid"  # the retry token was given to somebody else, or to nobody


_ANSWERS = frozenset(Answer)


@dataclass(frozen=True, slots=True)
class Approval:
    """What is known of the hold that a call was made for: it fits exactly one payload, once, until it expires.

    Where it is not approved, ``hold_id`` may say why behind a ``#`` (see ``why_not``). That is no field of its own, so
    that decisions recorded before there was more than one reason replay to the very same hash.
    """

    hold_id: str
    payload_hash: str
    expires_at: datetime
    approved: bool

    @classmethod
    def refused(cls, why: Answer, hold_id: str, payload_hash: str, expires_at: datetime) -> Approval:
        """One that lets nothing out."""
        return cls(hold_id if why is Answer.DECLINED else f"{hold_id}#{why}", payload_hash, expires_at, False)

    @property
    def hold(self) -> str:
        """The id of the hold; empty where there is none."""
        return self.hold_id.partition("#")[0]

    @property
    def why_not(self) -> Answer:
        """Why nothing goes out, of one that is not approved."""
        why = self.hold_id.partition("#")[2]
        return Answer(why) if why in _ANSWERS else Answer.DECLINED
