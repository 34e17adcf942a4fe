"""Calls, decisions and holds as plain values; what of them is secret does not show in their ``repr``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final


class _Untold:
    def __repr__(self) -> str:
        return "UNTOLD"


UNTOLD: Final = _Untold()
"""Stands where no result is given: the tool said nothing that the agent could have read."""


@dataclass(frozen=True)
class Call:
    """One attempt to call a tool."""

    tool: str
    arguments: Mapping[str, Any] = field(repr=False)
    conversation_id: str = ""
    user_turns: tuple[str, ...] = field(default=(), repr=False)
    """The user's own words, newest last."""
    parent_agent: str = ""
    trace_id: str = ""
    retry_token: str = field(default="", repr=False)
    server: str = ""


@dataclass(frozen=True)
class Hold:
    """A call that waits. ``expires_at`` is the gateway's text (ISO 8601); empty if it gave none."""

    id: str
    retry_token: str = field(repr=False)
    expires_at: str = ""
    payload_hash: str = ""
    retry_after_seconds: float = 5.0
    """Asking again sooner is of no use."""

    def has_expired(self, now: datetime | None = None) -> bool:
        """Whether an approval would come too late; False where the expiry cannot be read."""
        try:
            expires = datetime.fromisoformat(self.expires_at.replace("Z", "+00:00"))
        except ValueError:
            return False
        if expires.tzinfo is None:
            expires = expires.replace(tzinfo=timezone.utc)
        return (now or datetime.now(timezone.utc)) >= expires


@dataclass(frozen=True)
class Decision:
    """The call may be made, with ``arguments`` and no others."""

    call: Call
    arguments: dict[str, Any] = field(repr=False)
    invocation: str = ""
    """Names the record of this decision; empty where a read was let through without one."""
    reasons: tuple[str, ...] = ()
    is_redacted: bool = False
    """``arguments`` are not those that were asked about."""
    is_fail_open: bool = False
    """Nobody decided: the tool was named as one that only reads, and ``fail_open_for_reads`` was set."""
