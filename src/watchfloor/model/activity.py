"""What agents do: one attempt to call a tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
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
    """How much this agent has done of late, as the deciding worker counted it."""

    calls_last_minute: int = 0
    blocked_last_10_minutes: int = 0
    same_tool_last_minute: int = 0


@dataclass(frozen=True, slots=True)
class Approval:
    """An operator's answer to a hold: it fits exactly one payload, once, until it expires."""

    hold_id: str
    payload_hash: str
    expires_at: datetime
    approved: bool
