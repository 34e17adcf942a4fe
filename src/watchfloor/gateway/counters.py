"""How much an agent did of late, counted in bounded memory.

One ``Activity`` a worker; the guard sees its numbers as facts. Windows slide in steps of a twelfth of their span, so a
count covers between eleven twelfths and the whole of it. With a board (``board``) a count includes what the other
workers of the host have counted, as of a fifth of a second ago; what other hosts counted is not known here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from watchfloor.gateway.board import STEPS, Board, name_of
from watchfloor.model.activity import Counters

_MAX_KEYS: Final = 20_000
_LOOK_EVERY: Final = 5.0
"""Seconds between two looks for workers that came or went."""


class Window:
    """Counts what happened within the last ``span`` seconds. ``others``: what other workers counted in it."""

    __slots__ = ("_counts", "_last", "_step", "asked_at", "name", "others", "total")

    def __init__(self, span: float, name: int = 0) -> None:
        self._step = span / STEPS
        self._counts = [0] * STEPS
        self._last = 0
        self.total = 0
        self.name = name
        self.others = 0
        self.asked_at = float("-inf")

    def _advance(self, now: float) -> int:
        tick = int(now / self._step)
        passed = tick - self._last
        if passed > 0:
            if passed >= STEPS:
                self._counts = [0] * STEPS
                self.total = 0
            else:
                for t in range(self._last + 1, tick + 1):
                    self.total -= self._counts[t % STEPS]
                    self._counts[t % STEPS] = 0
            self._last = tick
        return self._last

    def add(self, now: float) -> None:
        """One more, at ``now`` (seconds of any clock that does not go back)."""
        tick = self._advance(now)
        self._counts[tick % STEPS] += 1
        self.total += 1

    def count(self, now: float) -> int:
        """How many within the span that ends at ``now``, by this worker alone."""
        self._advance(now)
        return self.total

    def exchange(self, board: Board, now: float, *, put: bool) -> None:
        """Show the others this count if it has changed (``put``), and see theirs."""
        step = self._advance(now)
        if put:
            board.put(self.name, step, self._step, self._counts)
        self.others, self.asked_at = board.others(self.name, step), now


class _Windows:
    """Windows by key, the least recently used one forgotten when there are too many."""

    def __init__(self, name: str, span: float) -> None:
        self._name, self._span = name, span
        self._windows: OrderedDict[object, Window] = OrderedDict()

    def get(self, key: object) -> Window:
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= _MAX_KEYS:
                self._windows.popitem(last=False)
            window = self._windows[key] = Window(self._span, name_of(self._name, key))
        else:
            self._windows.move_to_end(key)
        return window


class Activity:
    """Sliding counts by agent and tool."""

    def __init__(self, board: Board | None = None) -> None:
        self._board = board
        self._calls = _Windows("calls", 60)
        self._same_tool = _Windows("tool", 60)
        self._blocked = _Windows("blocked", 600)
        self._changed: set[Window] = set()
        self._looked_at = float("-inf")

    def observe(self, agent: str, server: str, tool: str, now: float) -> Counters:
        """Count one call and return the counts with it included."""
        calls = self._calls.get(agent)
        same = self._same_tool.get((agent, server, tool))
        blocked = self._blocked.get(agent)
        calls.add(now)
        same.add(now)
        if self._board is not None:
            self._changed.add(calls)
            self._changed.add(same)
            self._see((calls, same, blocked), now)
        return Counters(
            calls_last_minute=calls.total + calls.others,
            blocked_last_10_minutes=blocked.count(now) + blocked.others,
            same_tool_last_minute=same.total + same.others,
        )

    def blocked(self, agent: str, now: float) -> None:
        """Count one refused call."""
        window = self._blocked.get(agent)
        window.add(now)
        if self._board is not None:
            self._changed.add(window)

    def _see(self, windows: Sequence[Window], now: float) -> None:
        """Ask the board about keys that nobody has asked about for a while; of the others it is known."""
        assert self._board is not None
        for window in windows:
            if now - window.asked_at > _FRESH:
                window.exchange(self._board, now, put=False)

    def share(self, now: float) -> None:
        """Put on the board what has changed, and see what the others have counted of the same keys."""
        board = self._board
        if board is None:
            return
        if now - self._looked_at > _LOOK_EVERY:
            self._looked_at = now
            board.look()
        for window in self._changed:
            window.exchange(board, now, put=True)
        self._changed.clear()


_FRESH: Final = 0.1
"""Seconds for which a look at the board is good."""
