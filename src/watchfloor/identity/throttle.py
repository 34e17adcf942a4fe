"""Slowing down whoever guesses: counts of failures in a sliding window, by key.

Pure but for its own memory; the clock is passed in. The token service and operators' sign-in use it. It does not know
what an attempt was: callers choose keys (account and address together, address alone), so that nobody locks somebody
else out from another address.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``count`` failures within ``seconds``."""

    count: int
    seconds: float


class Throttle:
    """Failures by key; safe between threads; holds ``max_keys`` keys and forgets the least recently failed.

    ``clock`` gives seconds that never go back.
    """

    def __init__(self, limit: Limit, *, clock: Callable[[], float], max_keys: int = 20_000) -> None:
        self._limit, self._clock, self._max_keys = limit, clock, max_keys
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, key: str) -> float:
        """0 if ``key`` may try now, else how long it must wait."""
        now = self._clock()
        with self._lock:
            times = self._failures.get(key)
            if times is None:
                return 0.0
            self._expire(key, times, now)
            if len(times) < self._limit.count:
                return 0.0
            return times[0] + self._limit.seconds - now

    def failed(self, key: str) -> None:
        """Count a failure of ``key``."""
        now = self._clock()
        with self._lock:
            times = self._failures.setdefault(key, deque(maxlen=self._limit.count))
            times.append(now)
            self._failures.move_to_end(key)
            while len(self._failures) > self._max_keys:
                self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forget the failures of ``key``."""
        with self._lock:
            self._failures.pop(key, None)

    def _expire(self, key: str, times: deque[float], now: float) -> None:
        while times and times[0] + self._limit.seconds <= now:
            times.popleft()
        if not times:
            self._failures.pop(key, None)
