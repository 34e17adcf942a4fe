"""Times that callers give: in UTC, or refused. Every route that takes one asks here."""

from __future__ import annotations

from datetime import UTC, datetime

from watchfloor.model.errors import InputError


def utc(at: datetime, where: str) -> datetime:
    """``at``, which a caller gave, in UTC; without a zone it is UTC. Raises ``InputError`` where no calendar has it."""
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        raise InputError("no calendar has this time.", where=where) from None
