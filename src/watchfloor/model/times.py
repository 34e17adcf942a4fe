"""Times in sentences. Pages and logs have forms of their own."""

from __future__ import annotations

from datetime import UTC, datetime


def in_words(at: datetime) -> str:
    """``at``, which has a zone, to the second: ``2026-11-03 12:05:02 UTC``."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
