"""How telemetry fares: what came from each source through each door, as rows of PipelineHealth and as metrics.

The doors count, the receiver drains ``rows`` every few seconds into the event log and answers ``metrics`` to
Prometheus. Metrics carry no sources: that page is open to whoever reaches the port, the table is not.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final

from watchfloor.model.ids import new_id

_COUNTED: Final = (
    ("Requests", "Requests that were taken."),
    ("Received", "Spans and events in them."),
    ("Stored", "Of these, stored."),
    ("Duplicates", "Of these, stored before."),
    ("Rejected", "Of these, quarantined."),
    ("Throttled", "Requests that were sent away for a while."),
    ("Bytes", "Size of what came, as sent."),
)
"""What is counted, in this order: the column, and what it means."""

_Counts = tuple[int, ...]
_NOTHING: Final[_Counts] = (0, 0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class _Period:
    counts: _Counts = _NOTHING
    newest: int | None = None
    lag: float | None = None


class Health:
    """Counts of one receiver since ``since`` (Unix microseconds). Safe between threads."""

    def __init__(self, tenant: str, worker_id: str, since: int) -> None:
        self._tenant, self._worker_id, self._since = tenant, worker_id, since
        self._lock = threading.Lock()
        self._periods: dict[tuple[str, str], _Period] = {}
        self._totals: dict[str, _Counts] = {}

    def taken(
        self,
        source_id: str,
        door: str,
        *,
        received: int,
        stored: int,
        duplicates: int,
        rejected: int,
        size: int,
        newest: int | None = None,
        lag: float | None = None,
    ) -> None:
        """One request that was answered with its events stored.

        ``size`` in bytes as sent; ``newest``: the latest time of an event in it, Unix microseconds; ``lag``: seconds
        from the end of its oldest event until all were stored.
        """
        self._count(source_id, door, (1, received, stored, duplicates, rejected, 0, size), newest, lag)

    def throttled(self, source_id: str, door: str) -> None:
        """One request that was sent away for a while: over its quota, or nothing could be stored."""
        self._count(source_id, door, (0, 0, 0, 0, 0, 1, 0), None, None)

    def rows(self, now: int) -> list[dict[str, Any]]:
        """Rows of PipelineHealth for the time since the last call, which ends at ``now`` (Unix microseconds).

        They are gone from here afterwards: whoever called keeps them until they are stored.
        """
        with self._lock:
            periods, self._periods = self._periods, {}
            since, self._since = self._since, now
        return [
            {
                "Timestamp": now,
                "TenantId": self._tenant,
                "ReportId": new_id("evt"),
                "SourceId": source_id,
                "SourceDoor": door,
                "PeriodSeconds": max(0, now - since) / 1e6,
                **{column: count for (column, _), count in zip(_COUNTED, period.counts, strict=True)},
                "LastEventTime": period.newest,
                "LagSeconds": period.lag,
                "WorkerId": self._worker_id,
            }
            for (source_id, door), period in sorted(periods.items())
        ]

    def metrics(self) -> str:
        """Totals by door since the start, in Prometheus' text format; they never go back."""
        with self._lock:
            totals = sorted(self._totals.items())
        lines: list[str] = []
        for place, (column, doc) in enumerate(_COUNTED):
            metric = f"watchfloor_telemetry_{column.lower()}_total"
            lines += [f"# HELP {metric} {doc}", f"# TYPE {metric} counter"]
            lines += [f'{metric}{{door="{door}"}} {counts[place]}' for door, counts in totals]
        return "\n".join(lines) + "\n"

    def _count(self, source_id: str, door: str, counts: _Counts, newest: int | None, lag: float | None) -> None:
        with self._lock:
            period = self._periods.setdefault((source_id, door), _Period())
            period.counts = _sum(period.counts, counts)
            if newest is not None:
                period.newest = newest if period.newest is None else max(period.newest, newest)
            if lag is not None:
                # An event that ends in the future has not waited: its sender's clock is wrong.
                period.lag = max(period.lag or 0.0, lag)
            self._totals[door] = _sum(self._totals.get(door, _NOTHING), counts)


def _sum(one: _Counts, other: _Counts) -> _Counts:
    return tuple(a + b for a, b in zip(one, other, strict=True))
