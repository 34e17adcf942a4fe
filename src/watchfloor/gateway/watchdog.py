"""A watch over what a worker thinks about: no decision, however it goes wrong, keeps it from others for long.

Decisions run on the worker's event loop; ``Watch.run`` stamps when one begins. A thread looks at the stamp, and there
are three ends for what does not end by itself:

    longer than its time, in Python           ``Overrun`` is raised in it: the call is refused, the worker goes on
    swallows that, or waits in foreign code   the process ends, with every thread's place in its log
    in C, holding the interpreter             the thread gets no turn: a timer that needs none ends the process so, too

A process that ends takes its calls with it, its records are on disk, and whoever started it starts it again. Memory is
bounded by the system: too large a wish is a ``MemoryError`` in the decision. Nothing here knows what is thought about.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final, ParamSpec, TypeVar

from watchfloor.guard.engine import Overrun

_LOG: Final = logging.getLogger(__name__)
_P = ParamSpec("_P")
_R = TypeVar("_R")

_LOOK_SECONDS: Final = 0.05
_AGAIN_SECONDS: Final = 0.25
"""Between two interrupts of the same thought: one may be lost in a callback, or swallowed."""
_DEAF_SECONDS: Final = 1.0
"""How long after the first interrupt a thought that does not end is borne."""
_IDLE_FACTOR: Final = 2.0
"""A thought that hardly used the processor (the host is busy, or it waits for something) has so many times its time."""
_STARVED_SECONDS: Final = 2.0
"""How long the watching thread may be without a turn."""
_REARM_SECONDS: Final = 0.5
_LAST_SECONDS: Final = 5.0
_MEMORY_SHARE: Final = 0.9
_EXIT_STATUS: Final = 70
_SIGNAL: Final = signal.SIGALRM


class Watch:
    """``seconds`` is what one piece of work may take. Until ``start`` is called, ``run`` only runs what it is given."""

    __slots__ = ("_began", "_memory", "_seconds", "_stopped", "_target", "overruns")

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._began = self._target = 0.0
        self._memory = 0
        self._stopped = threading.Event()
        self.overruns = 0
        """Pieces of work that were interrupted."""

    def run(self, work: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """What ``work`` returns or raises; ``Overrun`` out of its midst where it takes too long. In the main thread."""
        before = self._began
        self._began = time.monotonic()
        try:
            return work(*args, **kwargs)
        finally:
            # No call in here, so no interrupt either: whatever happens, the stamp is taken back.
            self._began = before

    def start(self, memory: int = 0) -> None:
        """Watch the calling thread, which must be the main one. ``memory``: the limit in bytes, where there is one."""
        self._memory = memory
        signal.signal(_SIGNAL, self._interrupt)
        _arm()  # at once: the thread may never get its first turn
        main = threading.get_ident()
        threading.Thread(target=self._keep_looking, args=(main,), name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        faulthandler.cancel_dump_traceback_later()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Runs in the watched thread, between two of its steps: what has ended meanwhile is not interrupted."""
        if self._target == self._began != 0.0 and _is_inside(frame):
            raise Overrun

    def _keep_looking(self, main: int) -> None:
        try:
            self._look(main)
        finally:
            if not self._stopped.is_set():  # INVARIANT: nobody decides unwatched
                os._exit(_EXIT_STATUS)

    def _look(self, main: int) -> None:
        cpu_of = time.pthread_getcpuclockid(main) if hasattr(time, "pthread_getcpuclockid") else None
        seen = cpu_then = first = latest = 0.0
        armed, was_full = time.monotonic(), False
        while not self._stopped.wait(_LOOK_SECONDS):
            now, began = time.monotonic(), self._began
            if now - armed >= _REARM_SECONDS:
                try:
                    _arm()
                    armed = now
                except (MemoryError, RuntimeError):
                    # A decision has all the memory, and there is none for a timer: so long it has to give it back.
                    if now - armed > _STARVED_SECONDS:
                        raise
                is_full = self._memory > 0 and not began and memory_used() > self._memory * _MEMORY_SHARE
                if is_full and was_full:  # and not only for as long as one decision took
                    self._end_for_want_of_memory()
                elif is_full:
                    gc.collect()
                was_full = is_full
            if began != seen:
                seen, first = began, 0.0
                cpu_then = time.clock_gettime(cpu_of) if began and cpu_of is not None else 0.0
                continue
            if not began or now - began < self._seconds:
                continue
            is_busy = cpu_of is None or time.clock_gettime(cpu_of) - cpu_then >= self._seconds / 2
            if not is_busy and now - began < self._seconds * _IDLE_FACTOR:
                continue
            if not first:
                first = now
                self.overruns += 1
                _LOG.error("a decision takes more than %.1f s and is interrupted", self._seconds)
            elif now - first >= _DEAF_SECONDS:
                _LOG.critical("a decision cannot be interrupted; this worker ends")
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                os._exit(_EXIT_STATUS)
            elif now - latest < _AGAIN_SECONDS:
                continue
            latest, self._target = now, began
            signal.pthread_kill(main, _SIGNAL)

    def _end_for_want_of_memory(self) -> None:
        """In good order, but soon: there may be no memory for good order."""
        _arm(_LAST_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        _LOG.error("the memory is nearly used up; this worker comes to an end")
        time.sleep(2 * _LAST_SECONDS)


def _arm(seconds: float = _STARVED_SECONDS) -> None:
    """End the process, its threads' places in the log, unless this is called again in time."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.stderr)


_RUN: Final = Watch.run.__code__


def _is_inside(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is _RUN:
            return True
        frame = frame.f_back
    return False


def limit_memory(size: int) -> bool:
    """Let this process hold at most ``size`` bytes of data; whether the system does that. More is a ``MemoryError``."""
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        return sys.platform == "linux"
    return False


def memory_used() -> int:
    """Bytes that count against ``limit_memory``; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_bytes()
    except OSError:
        return 0
    found = status.partition(b"VmData:")[2].split(None, 1)
    return int(found[0]) * 1024 if found else 0
