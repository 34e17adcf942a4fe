"""A span as every door hands it on, whatever it came as: the one shape between decoding and mapping.

Times are Unix nanoseconds; ids are lower-case hex without dashes. Attribute values are plain Python values as JSON has
them (str, bool, int, float, list, dict, None). Nothing here is checked for meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class SpanEvent:
    """Something that happened in the course of a span."""

    name: str
    time: int
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Span:
    """One step. ``status`` is unset, ok or error; ``resource`` are the attributes of the program that tells of it."""

    trace_id: str
    span_id: str
    name: str
    start: int
    end: int
    parent_span_id: str = ""
    kind: str = "internal"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    resource: Mapping[str, Any] = field(default_factory=dict)
    scope: str = ""
    status: str = "unset"
    status_message: str = ""
    events: Sequence[SpanEvent] = ()
    links: Sequence[Mapping[str, Any]] = ()


@dataclass(slots=True)
class Reject:
    """Something that is no span. ``place`` says where in the request it stood, ``reason`` what to mend; ``original`` is
    a JSON value of it, as far as there is one."""

    place: str
    reason: str
    original: Any = None
    trace_id: str = ""
    span_id: str = ""
    size: int = 0


@dataclass(slots=True)
class Decoded:
    """What a request held."""

    spans: list[Span] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a request, and through which door. ``agent_id``: the agent that the address names, where one does."""

    tenant: str
    source_id: str
    door: str
    address: str
    worker_id: str
    agent_id: str = ""


class Unreadable(Exception):
    """The request as a whole cannot be read. The text says what to mend; it may be shown to the sender."""
