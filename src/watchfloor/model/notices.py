"""Notices to makers: what each was asked to change about which agents, and how far that is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class NoticeState(StrEnum):
    """How far a notice is; the last two are ends."""

    WAITING = "waiting"  # for more to tell the same maker
    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"  # nothing of it is open any more
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        """Whether anything is still to be done."""
        return self not in (NoticeState.CLOSED, NoticeState.CANCELLED)


class ItemState(StrEnum):
    """How one thing of a notice stands."""

    OPEN = "open"
    FIXED = "fixed"
    GONE = "gone"  # the agent is not there any more
    CANCELLED = "cancelled"


class SourceKind(StrEnum):
    """Where an item comes from, and so how it is found out whether it is fixed."""

    TEMPLATE = "template"
    INDICATOR = "indicator"
    QUERY = "query"
    BLOCK = "block"
    WORDS = "words"  # an operator's own: nothing tells when it is fixed


@dataclass(frozen=True, slots=True)
class Source:
    """``name``: the template's or indicator's id, or a short hash of the query or of the words."""

    kind: SourceKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Source:
        """What ``str`` wrote."""
        kind, _, name = text.partition("/")
        return cls(SourceKind(kind), name)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is wrong with one agent. ``query`` is asked again, of queries alone."""

    agent_id: str
    source: Source
    what: str
    recommendation: str = ""
    note: str = ""
    query: str = ""
    notice_id: str = ""
    state: ItemState = ItemState.OPEN
    opened_at: datetime | None = None
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """What one maker is asked to change; of agents that have no maker ``maker_id`` is empty."""

    id: str
    maker_id: str
    state: NoticeState
    created_at: datetime
    created_by: str
    send_at: datetime
    sent_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    reminded_at: datetime | None = None
    reminders: int = 0
    escalated_at: datetime | None = None
    closed_at: datetime | None = None
    reason: str = ""
