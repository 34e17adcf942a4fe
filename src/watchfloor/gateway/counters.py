"""How much an agent did of late, counted in bounded memory.

One ``Activity`` a worker; the guard sees its numbers as facts. Windows slide in steps of a twelfth of their span, so a
count covers between eleven twelfths and the whole of it. What other workers counted is not known here.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from watchfloor.model.activity import Counters

_STEPS: Final = 12
_MAX_KEYS: Final = 20_000


class Window:
    """Counts what happened within the last ``span`` seconds."""

    __slots__ = ("_counts", "_last", "_step", "total")

    def __init__(self, span: float) -> None:
        self._step = span / _STEPS
        self._counts = [0] * _STEPS
        self._last = 0
        self.total = 0

    def _advance(self, now: float) -> int:
        tick = int(now / self._step)
        passed = tick - self._last
        if passed > 0:
            if passed >= _STEPS:
                self._counts = [0] * _STEPS
                self.total = 0
            else:
                for t in range(self._last + 1, tick + 1):
                    self.total -= self._counts[t % _STEPS]
                    self._counts[t % _STEPS] = 0
            self._last = tick
        return self._last

    def add(self, now: float) -> None:
        """One more, at ``now`` (seconds of any clock that does not go back)."""
        tick = self._advance(now)
        self._counts[tick % _STEPS] += 1
        self.total += 1

    def count(self, now: float) -> int:
        """How many within the span that ends at ``now``."""
        self._advance(now)
        return self.total


class _Windows:
    """Windows by key, the least recently used one forgotten when there are too many."""

    def __init__(self, span: float) -> None:
        self._span = span
        self._windows: OrderedDict[object, Window] = OrderedDict()

    def get(self, key: object) -> Window:
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= _MAX_KEYS:
                self._windows.popitem(last=False)
            window = self._windows[key] = Window(self._span)
        else:
            self._windows.move_to_end(key)
        return window


class Activity:
    """Sliding counts by agent and tool."""

    def __init__(self) -> None:
        self._calls = _Windows(60)
        self._same_tool = _Windows(60)
        self._blocked = _Windows(600)

    def observe(self, agent: str, server: str, tool: str, now: float) -> Counters:
        """Count one call and return the counts with it included."""
        calls = self._calls.get(agent)
        same = self._same_tool.get((agent, server, tool))
        calls.add(now)
        same.add(now)
        return Counters(
            calls_last_minute=calls.total,
            blocked_last_10_minutes=self._blocked.get(agent).count(now),
            same_tool_last_minute=same.total,
        )

    def blocked(self, agent: str, now: float) -> None:
        """Count one refused call."""
        self._blocked.get(agent).add(now)
