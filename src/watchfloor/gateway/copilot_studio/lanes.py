"""Time: every question gets its answer by its deadline, whatever the decision does.

Decisions run in a thread of their own, a *lane*, one after the other; the event loop waits for each until its deadline
and not longer. A lane whose decision does not end gets a second lane beside it, and what it does is thrown away: the
``Ticket`` sees to it that a decision is put on record by the lane or answered by the door, never both. A lane that is
stuck in Python is interrupted; one that is stuck in foreign code is left alone, and there are at most ``MOST_STUCK`` of
them: then questions are answered at once, as at their deadline. Foreign code that holds the interpreter's lock stops
every thread of the process; only another process could answer then.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import queue
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Final, Generic, TypeVar

_LOG: Final = logging.getLogger(__name__)
STALL_SECONDS: Final = 0.2
"""A decision that takes longer gets a lane beside it, so that the others need not wait for it."""
GIVE_UP_SHARE: Final = 0.7
"""Of the deadline. A decision that takes longer is given up, and its question answered without it."""
LOOK_SECONDS: Final = 0.05
MOST_STUCK: Final = 4
MOST_WAITING: Final = 2_000
_LAST_MOMENT: Final = 0.1
"""How much longer a decision is waited for that is being put on record at the deadline."""

Q = TypeVar("Q")
A = TypeVar("A")


class Abandoned(BaseException):
    """Raised inside a lane that does not come to an end. No handler of errors is meant to catch it."""


class _Stage(Enum):
    OPEN = 0
    RECORDED = 1
    OVER = 2


class Ticket(Generic[Q, A]):
    """One question on its way through a lane."""

    __slots__ = ("_lock", "_stage", "answer", "question")

    def __init__(self, question: Q, answer: asyncio.Future[A]) -> None:
        self.question, self.answer = question, answer
        self._lock = threading.Lock()
        self._stage = _Stage.OPEN

    @property
    def is_over(self) -> bool:
        """Whether it was answered without the lane."""
        return self._stage is _Stage.OVER

    def record(self) -> bool:
        """The lane is about to put its decision on record; False: too late, it must not."""
        with self._lock:
            if self._stage is _Stage.OPEN:
                self._stage = _Stage.RECORDED
            return self._stage is _Stage.RECORDED

    def give_up(self, then: Callable[[], object] | None = None) -> bool:
        """The door answers without the lane; False: its decision is on record already. ``then`` runs before any other
        thread can find out."""
        with self._lock:
            if self._stage is _Stage.RECORDED:
                return False
            self._stage = _Stage.OVER
            if then is not None:
                then()
            return True


class Engine(Generic[Q, A]):
    """Decides in one lane. Made in the lane's own thread, used by it alone."""

    def decide(self, ticket: Ticket[Q, A]) -> A:
        """The answer. Calls ``ticket.record`` before anything is put on record."""
        raise NotImplementedError

    def close(self) -> None:
        """The lane has come to its end."""


class _Lane(Generic[Q, A]):
    """A thread that takes tickets from the common queue until it is retired."""

    def __init__(self, tickets: queue.SimpleQueue[Ticket[Q, A] | None], make: Callable[[], Engine[Q, A]]) -> None:
        self._tickets, self._make = tickets, make
        self.is_retired = False
        self.current: tuple[float, Ticket[Q, A]] | None = None
        """When the decision began that is being taken, and its ticket."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="copilot-studio-lane", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        with contextlib.suppress(Abandoned):
            engine = self._make()  # before the first question: it takes longer than a decision
            try:
                while not self.is_retired and (ticket := self._tickets.get()) is not None:
                    if not ticket.is_over:
                        self._decide(engine, ticket)
            finally:
                engine.close()

    def _decide(self, engine: Engine[Q, A], ticket: Ticket[Q, A]) -> None:
        self.current = (time.monotonic(), ticket)
        try:
            answer = engine.decide(ticket)
        except Exception as error:
            _LOG.exception("a question could not be decided on")
            self._tell(_fail, ticket.answer, error)
        else:
            self._tell(_settle, ticket.answer, answer)
        finally:
            self.current = None

    def _tell(self, how: Callable[..., None], *what: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(how, *what)

    def interrupt(self) -> None:
        """Raise ``Abandoned`` in the thread, as soon as it runs Python again."""
        if self._thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident), ctypes.py_object(Abandoned))


def _settle(future: asyncio.Future[A], answer: A) -> None:
    if not future.done():
        future.set_result(answer)


def _fail(future: asyncio.Future[A], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


class Lanes(Generic[Q, A]):
    """The lanes of one worker; everything here runs on its event loop. ``make`` makes the engine of a lane, in it.

    ``deadline_seconds``: the time of a question.
    """

    def __init__(self, make: Callable[[], Engine[Q, A]], deadline_seconds: float) -> None:
        self._make, self._give_up_seconds = make, GIVE_UP_SHARE * deadline_seconds
        self._tickets: queue.SimpleQueue[Ticket[Q, A] | None] = queue.SimpleQueue()
        self._lane: _Lane[Q, A] | None = None
        self._stuck: list[_Lane[Q, A]] = []
        self._watching: asyncio.Task[None] | None = None
        self.stalls = 0
        """Decisions that got a lane beside them."""

    def start(self) -> None:
        """Make the first lane."""
        self._lane = _Lane(self._tickets, self._make)
        self._watching = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """Let the lanes come to an end; nobody waits for those that do not."""
        if self._watching is not None:
            self._watching.cancel()
        for lane in (self._lane, *self._stuck):
            if lane is not None:
                lane.is_retired = True
                self._tickets.put(None)

    async def ask(self, question: Q, deadline: float) -> A | None:
        """The lane's answer; None if there is none at ``deadline`` (of the loop's clock), and there will be none.

        Raises what the engine raised.
        """
        loop = asyncio.get_running_loop()
        if self._lane is None or self._tickets.qsize() >= MOST_WAITING:
            return None
        ticket: Ticket[Q, A] = Ticket(question, loop.create_future())
        self._tickets.put(ticket)
        done = await _until(ticket.answer, deadline - loop.time())
        if not done and not ticket.give_up():
            # On record this very moment: its answer is the one that counts, if it still comes.
            done = await _until(ticket.answer, _LAST_MOMENT)
        return ticket.answer.result() if done and not ticket.is_over else None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self._look(time.monotonic())
            except Exception:  # whatever goes wrong in it, the watch goes on
                _LOG.exception("looking after the lanes failed")

    def _look(self, now: float) -> None:
        self._stuck = [lane for lane in self._stuck if lane.is_alive]
        if self._lane is not None and _age(self._lane, now) > STALL_SECONDS:
            self.stalls += 1
            _LOG.warning("a decision takes more than %.1f s; the others go on without it", STALL_SECONDS)
            self._lane.is_retired = True
            self._stuck.append(self._lane)
            self._lane = None
        if self._lane is not None and not self._lane.is_alive:
            self._lane = None  # it could not be made
        if self._lane is None and len(self._stuck) < MOST_STUCK:
            self._lane = _Lane(self._tickets, self._make)
        for lane in self._stuck:
            current = lane.current
            if current is not None and now - current[0] > self._give_up_seconds:
                # Never while it writes: what it left half done there would be everybody's.
                self._give_up(current[1], lane)

    @staticmethod
    def _give_up(ticket: Ticket[Q, A], lane: _Lane[Q, A]) -> None:
        if ticket.give_up(then=lane.interrupt) and not ticket.answer.done():
            ticket.answer.cancel()


async def _until(future: asyncio.Future[A], seconds: float) -> bool:
    """Whether ``future`` is done within ``seconds``; it is left as it is."""
    if seconds > 0 and not future.done():
        await asyncio.wait([future], timeout=seconds)
    return future.done()


def _age(lane: _Lane[Q, A], now: float) -> float:
    current = lane.current
    return now - current[0] if current is not None else 0.0
