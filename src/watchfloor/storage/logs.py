"""Which event log an installation has: PostgreSQL's where there is a URL, else the file in its data directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from watchfloor.storage.ports import EventLog


def log_opener(data: Path, url: str) -> Callable[[], EventLog]:
    """What opens it. The driver is imported only where it is used: it weighs 25 MB in every worker without need."""
    if url:
        from watchfloor.storage.log_postgres import PostgresLog

        return lambda: PostgresLog(url)
    from watchfloor.storage.log import SqliteLog

    return lambda: SqliteLog(data / "log.db")
