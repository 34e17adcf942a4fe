"""Calls that are on their way: ended at once when their right to be there ends, or when their caller goes away.

A ``Flight`` wraps the part of a request during which the tool server works. Ending one cancels the task that waits, and
with it the connection upstream. It does not know why a call may or may not go on; whoever began it passes the question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

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
    """One request on its way."""

    __slots__ = ("_task", "ended", "is_stream", "still_allowed")

    def __init__(self, task: asyncio.Task[Any], still_allowed: Callable[[], str | None], is_stream: bool) -> None:
        self._task = task
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

    @contextmanager
    def begin(
        self, receive: Receive, still_allowed: Callable[[], str | None], *, is_stream: bool = False
    ) -> Iterator[Flight]:
        """A flight of the current task. Raises ``Ended`` in place of the cancellation when it is ended from outside."""
        task = asyncio.current_task()
        assert task is not None
        flight = Flight(task, still_allowed, is_stream)
        watcher: asyncio.Task[None] | None = None

        def watch() -> None:
            nonlocal watcher
            watcher = asyncio.create_task(_watch(flight, receive))

        timer = asyncio.get_running_loop().call_later(0 if is_stream else _WATCH_AFTER_SECONDS, watch)
        self._open.add(flight)
        try:
            yield flight
        except asyncio.CancelledError:
            if flight.ended is None:
                raise
            task.uncancel()
            raise Ended(flight.ended) from None
        finally:
            self._open.discard(flight)
            timer.cancel()
            if watcher is not None:
                watcher.cancel()

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
