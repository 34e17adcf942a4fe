"""How much may a source send? A bucket of events for each, filled at its rate.

The doors ask once for each request, before they store anything. Buckets are this process's own: two receivers let a
source send twice its quota. It knows no clock but the one it is given.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

BURST_SECONDS: Final = 2.0
"""So many seconds' worth of events may come at once."""
MOST_SOURCES: Final = 10_000
"""Buckets kept; the one that was not asked for longest is forgotten first."""


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class Quotas:
    """Buckets by source. Safe between threads; ``clock`` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, source_id: str, events: int, events_per_second: int) -> float:
        """0 if ``events`` may be stored now; else the seconds after which they could be, and nothing is taken.

        A request that is larger than the whole bucket is let in when the bucket is full and paid for afterwards:
        refused for good, it could never be sent.
        """
        now, rate = self._clock(), float(events_per_second)
        full = rate * BURST_SECONDS
        with self._lock:
            bucket = self._bucket(source_id, full, now)
            bucket.level = min(full, bucket.level + max(0.0, now - bucket.at) * rate)
            bucket.at = now
            missing = min(float(events), full) - bucket.level
            if missing > 0:
                return missing / rate
            bucket.level -= events
            return 0.0

    def _bucket(self, source_id: str, full: float, now: float) -> _Bucket:
        bucket = self._buckets.get(source_id)
        if bucket is None:
            if len(self._buckets) >= MOST_SOURCES:
                self._buckets.popitem(last=False)
            bucket = self._buckets[source_id] = _Bucket(full, now)
        else:
            self._buckets.move_to_end(source_id)
        return bucket
