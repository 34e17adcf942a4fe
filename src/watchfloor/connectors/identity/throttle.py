"""Asking a provider no more often than it allows, over all threads of this process.

Pure but for the clock that it is given and waiting. ``Bucket`` spaces requests; where the provider still says "too
often", ``hold`` keeps everybody back: for as long as it said, or, as some never say, twice as long each time.
``Batch`` lets those who wait for the same kind of request share one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from watchfloor.model.errors import Unavailable, WatchfloorError

_FIRST_HOLD: Final = 2.0
_LONGEST_HOLD: Final = 120.0


class Bucket:
    """One request every ``seconds``."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._next = 0.0
        self._holds = 0
        self._lock = threading.Lock()

    def take(self, patience: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Wait for one's turn. Raises ``Unavailable`` at once if that would take longer than ``patience`` seconds."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            if turn - now > patience:
                raise Unavailable("The provider's limit of requests is reached.", retry_after=turn - now)
            self._next = turn + self._seconds
        sleep(max(0.0, turn - now))

    def hold(self, said: float | None) -> float:
        """Keep everybody back after a refusal; for how many seconds."""
        with self._lock:
            self._holds += 1
            wait = min(_FIRST_HOLD * 2 ** (self._holds - 1), _LONGEST_HOLD) if said is None else said
            self._next = max(self._next, self._clock() + wait)
            return wait

    def went_well(self) -> None:
        """After an answer: the next refusal is the first again."""
        with self._lock:
            self._holds = 0


@dataclass(slots=True)
class _Round:
    """Those who share one request."""

    members: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    failed: Mapping[str, WatchfloorError] = field(default_factory=dict)


class Batch:
    """Requests of one kind, joined: who comes first sends for all that came until it was its turn.

    ``send`` returns those that were refused, and why; what it raises holds for all.
    """

    def __init__(
        self, send: Callable[[Sequence[str]], Mapping[str, WatchfloorError]], wait_turn: Callable[[], None], most: int
    ) -> None:
        self._send, self._wait_turn, self._most = send, wait_turn, most
        self._lock = threading.Lock()
        self._open: _Round | None = None

    def add(self, member: str, patience: float) -> int:
        """Have ``member`` sent; returns how many were sent together. Raises why not; ``Unavailable`` past patience."""
        with self._lock:
            current = self._open
            is_leader = current is None or len(current.members) >= self._most
            if current is None or is_leader:
                current = self._open = _Round()
            current.members.append(member)
        if not is_leader:
            if not current.done.wait(patience):
                raise Unavailable("The provider's limit of requests is reached.", retry_after=patience)
        else:
            self._lead(current)
        if member in current.failed:
            raise current.failed[member]
        return len(current.members)

    def _lead(self, current: _Round) -> None:
        try:
            try:
                self._wait_turn()
            finally:
                with self._lock:  # from here on nobody joins
                    if self._open is current:
                        self._open = None
            current.failed = self._send(list(dict.fromkeys(current.members)))
        except WatchfloorError as error:
            current.failed = dict.fromkeys(current.members, error)
        finally:
            current.done.set()
