"""Hunts: queries that people run, while they run and for a while after: to wait for, watch, cancel and page through.

Above ``hunting`` (which compiles and runs one query), below the portal's doors. Runs belong to who began them; nobody
else sees or cancels them. Results are kept in memory for some minutes and within a limit of bytes, oldest out first.
It does not know who may ask what: the caller brings the scope.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from watchfloor.model.errors import InputError, NotFound, Unavailable, WatchfloorError
from watchfloor.model.ids import new_id
from watchfloor.storage.hunting import Cancelled, Hunted, Hunter, Request

_LOG: Final = logging.getLogger(__name__)

KEEP_SECONDS: Final = 600.0
KEEP_BYTES: Final = 256 * 1024 * 1024
CONCURRENT: Final = 3
"""Hunts that run at once: one fewer than a store takes, so that pages and detection always get their turn."""

WAITING: Final = 32
_LOGGED: Final = 16_384
"""Characters of a query that its entry in the log keeps."""


class TooMany(Unavailable):
    """Too many hunts wait already."""

    code = "too_many"


class State(StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass
class Run:
    """One run of one query. ``seconds`` counts from its start; ``ended`` is done whatever the ``outcome``, which is
    nobody's before: the query log comes first."""

    id: str
    owner: str
    request: Request
    is_running: bool = False
    outcome: State | None = None
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    hunted: Hunted | None = None
    error: WatchfloorError | None = None
    ended: Future[None] = field(default_factory=Future)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.ended.done()

    @property
    def state(self) -> State:
        """Where it is."""
        if self.is_over and self.outcome is not None:
            return self.outcome
        return State.RUNNING if self.is_running else State.QUEUED

    @property
    def progress(self) -> float | None:
        """The share that is done, 0 to 1; None while that is not known."""
        return 1.0 if self.is_over else self.request.progress()

    def result(self) -> Hunted:
        """What came out, once it has ended. Raises what went wrong."""
        self.ended.result()
        if self.error is not None:
            raise self.error
        assert self.hunted is not None
        return self.hunted


class Hunts:
    """The runs of this process. ``on_end`` is told of every run that ends, for the query log, before anybody sees
    its rows, and nobody does if it raises."""

    def __init__(self, hunter: Hunter, *, on_end: Callable[[Run], None] = lambda run: None) -> None:
        self._hunter, self._on_end = hunter, on_end
        self._pool = ThreadPoolExecutor(CONCURRENT, thread_name_prefix="hunt")
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._work: dict[str, Future[None]] = {}

    def start(self, request: Request, owner: str) -> Run:
        """Begin ``request``. Raises ``TooMany`` when too many wait already."""
        run = Run(new_id("run"), owner, request)
        with self._lock:
            self._forget()
            if sum(1 for r in self._runs.values() if not r.is_over) >= CONCURRENT + WAITING:
                raise TooMany("Too many queries are waiting; try again in a moment.", retry_after=5.0)
            self._runs[run.id] = run
            self._work[run.id] = self._pool.submit(self._hunt, run)
        return run

    def find(self, run_id: str, owner: str) -> Run:
        """A run of ``owner``'s. Raises ``NotFound`` for anybody else's, and for one that is forgotten."""
        with self._lock:
            self._forget()
            run = self._runs.get(run_id)
        if run is None or run.owner != owner:
            kept = f"Results are kept for {KEEP_SECONDS / 60:g} minutes."
            raise NotFound(f"there is no run {run_id!r}.", where="run", remedy=kept)
        return run

    def of(self, owner: str) -> list[Run]:
        """The runs of ``owner``, newest first."""
        with self._lock:
            self._forget()
            return [run for run in reversed(self._runs.values()) if run.owner == owner]

    def cancel(self, run_id: str, owner: str) -> Run:
        """Stop a run; one that has ended stays as it is."""
        run = self.find(run_id, owner)
        self._stop(run)
        return run

    def close(self) -> None:
        """Cancel everything and wait for the threads."""
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            self._stop(run)
        self._pool.shutdown(wait=True)

    def _stop(self, run: Run) -> None:
        run.request.cancel()
        with self._lock:
            work = self._work.get(run.id)
        if work is not None and work.cancel():  # it has not begun: nobody else will end it
            self._end(run, State.CANCELLED, error=Cancelled("The query was cancelled."))

    def _hunt(self, run: Run) -> None:
        run.is_running, run.began = True, time.monotonic()
        try:
            hunted = run.request.answered_by(self._hunter)
        except Cancelled as error:
            self._end(run, State.CANCELLED, error=error)
        except WatchfloorError as error:
            self._end(run, State.FAILED, error=error)
        except Exception as error:
            error_id = new_id("err")
            _LOG.exception("%s: a query failed", error_id)
            message = f"The query failed ({type(error).__name__}). The server's log has the details under {error_id}."
            self._end(run, State.FAILED, error=WatchfloorError(message))
        else:
            self._end(run, State.DONE, hunted)

    def _end(self, run: Run, state: State, hunted: Hunted | None = None, error: WatchfloorError | None = None) -> None:
        run.seconds, run.outcome, run.hunted, run.error = time.monotonic() - run.began, state, hunted, error
        try:
            self._on_end(run)
        except Exception as failure:
            _LOG.exception("the query log does not take %s", run.id)
            run.outcome, run.hunted = State.FAILED, None
            run.error = failure if isinstance(failure, WatchfloorError) else WatchfloorError("The query log failed.")
        finally:
            with self._lock:
                self._work.pop(run.id, None)
            run.ended.set_result(None)

    def _forget(self) -> None:
        now = time.monotonic()
        ended = [run for run in self._runs.values() if run.is_over]
        for run in ended:
            if now - run.began - run.seconds > KEEP_SECONDS:
                del self._runs[run.id]
        kept = sum(run.hunted.nbytes for run in self._runs.values() if run.hunted is not None)
        for run in list(self._runs.values()):
            if kept <= KEEP_BYTES:
                break
            if run.is_over and run.hunted is not None:
                kept -= run.hunted.nbytes
                del self._runs[run.id]


def query_log(run: Run) -> Mapping[str, Any]:
    """What the audit keeps of a run: who is the entry's actor; here is what, how much and how long."""
    return {
        "query": run.request.loggable[:_LOGGED],
        "door": run.request.door,
        "outcome": (run.outcome or State.FAILED).value,
        "rows": run.hunted.rows if run.hunted else 0,
        "tables": sorted(run.hunted.tables) if run.hunted else [],
        "seconds": round(run.seconds, 3),
        **({"error": _loggable(run.request, run.error)[:500]} if run.error else {}),
    }


def _loggable(request: Request, error: WatchfloorError) -> str:
    """What went wrong; only where, if the query has secrets that the message may repeat."""
    if request.loggable == request.text:
        return str(error)
    return (error.where if isinstance(error, InputError) else "") or error.code
