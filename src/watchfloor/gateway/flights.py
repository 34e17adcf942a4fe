"""Calls that are on their way: ended at once when their right to be there ends, or when their caller goes away.

A ``Flight`` wraps the part of a request during which the tool server works. Ending one cancels the task that waits, and
with it the connection upstream. It does not know why a call may or may not go on; whoever began it passes the question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

Receive = Callable[[], Awaitable[dict[str, Any]]]

_WATCH_AFTER_SECONDS: Final = 0.05
"""Only what takes longer is watched for its caller's leaving: most calls end before a task for that would have paid."""

DISCONNECTED: Final = "disconnected"
DRAINING: Final = "draining"


class Ended(Exception):
    """The flight was ended from outside. ``why`` is ``DISCONNECTED``, ``DRAINING`` or a reason code."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class Flight:
    """One request on its way, from ``with`` to the end of the block."""

    __slots__ = ("_open", "_receive", "_task", "_timer", "_watcher", "ended", "is_stream", "still_allowed")

    def __init__(
        self,
        task: asyncio.Task[Any],
        still_allowed: Callable[[], str | None],
        is_stream: bool,
        receive: Receive,
        others: set[Flight],
    ) -> None:
        self._task, self._receive, self._open = task, receive, others
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.still_allowed = still_allowed
        self.is_stream = is_stream
        self.ended: str | None = None

    def end(self, why: str) -> None:
        """Cancel what waits; the first reason counts."""
        if self.ended is None:
            self.ended = why
            self._task.cancel()

    def check(self) -> None:
        """Raises ``Ended`` if the request may not go on."""
        why = self.still_allowed()
        if why is not None:
            raise Ended(why)

    def _watch(self) -> None:
        self._watcher = asyncio.create_task(_watch(self, self._receive))

    def __enter__(self) -> Self:
        delay = 0 if self.is_stream else _WATCH_AFTER_SECONDS
        self._timer = asyncio.get_running_loop().call_later(delay, self._watch)
        self._open.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._open.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self.ended is not None and kind is not None and issubclass(kind, asyncio.CancelledError):
            self._task.uncancel()
            raise Ended(self.ended) from None


async def _watch(flight: Flight, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    flight.end(DISCONNECTED)


class Flights:
    """All requests of this worker that are on their way."""

    def __init__(self) -> None:
        self._open: set[Flight] = set()

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, receive: Receive, still_allowed: Callable[[], str | None], *, is_stream: bool = False) -> Flight:
        """A flight of the current task, for a ``with``. Raises ``Ended`` in place of the cancellation when it is ended
        from outside."""
        task = asyncio.current_task()
        assert task is not None
        return Flight(task, still_allowed, is_stream, receive, self._open)

    def recheck(self) -> None:
        """End every flight that may not go on: call it when state has changed."""
        for flight in list(self._open):
            why = flight.still_allowed()
            if why is not None:
                flight.end(why)

    def end_all(self, *, only_streams: bool = False) -> None:
        """End every flight, or those that would never end by themselves, because the worker ends."""
        for flight in list(self._open):
            if flight.is_stream or not only_streams:
                flight.end(DRAINING)
