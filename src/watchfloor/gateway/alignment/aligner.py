"""Asks the encoder whether a call fits what the user asked, off the event loop and within a time of its own.

``enforce.py`` asks before it decides, where a published policy wants to know. One thread does the work, and the encoder
lets others run while it computes. What is late, fails, or has no encoder to ask is said to be so, and counts as a call
that somebody is asked about.

INVARIANT: no answer is never a good one, and no encoder stalls the worker.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from watchfloor.gateway.alignment.encoder import ENCODER, Encoder
from watchfloor.gateway.metrics import Metrics
from watchfloor.guard.alignment import head
from watchfloor.guard.alignment.alignment import Alignment, AlignmentState, unscored
from watchfloor.guard.alignment.features import Question, measure
from watchfloor.guard.policy import PolicySet
from watchfloor.model.errors import InputError
from watchfloor.model.verdicts import Mode

_LOG: Final = logging.getLogger(__name__)


class Asked(NamedTuple):
    """What was asked about a call's alignment before its decision: under policies of which mode, and the answer."""

    mode: Mode | None
    alignment: Alignment | None

    def at(self, policies: PolicySet | None) -> Alignment | None:
        """The answer for a decision under ``policies``, which may have been published while it was waited for."""
        is_new = policies is not None and policies.alignment_mode is Mode.ENFORCE and self.mode is not Mode.ENFORCE
        return unscored(AlignmentState.LATE) if self.alignment is None and is_new else self.alignment


class Aligner:
    """The alignment of one worker's calls. ``load`` opens the encoder, or raises ``InputError``."""

    def __init__(self, load: Callable[[], Encoder] | None, *, milliseconds: float, metrics: Metrics) -> None:
        self._load, self._seconds, self._metrics = load, milliseconds / 1000, metrics
        self._encoder: Encoder | None = None
        self._head: head.Head | None = None
        self._pool: ThreadPoolExecutor | None = None
        self.problem = "It is turned off."
        """Why there is no encoder; empty when there is one."""

    @property
    def is_ready(self) -> bool:
        """Whether there is an encoder to ask."""
        return self._encoder is not None

    def open(self) -> None:
        """Load the encoder if it is wanted and there. Never raises: without it the worker does everything else."""
        if self._load is None or self._seconds <= 0 or self._encoder is not None:
            return
        try:
            trained = head.shipped()
            if trained.encoder != ENCODER:
                raise InputError(f"the head was trained on {trained.encoder}, the encoder is {ENCODER}.")
            encoder = self._load()
        except InputError as error:
            self.problem = str(error)
            return
        except Exception as error:  # whatever a library has against its file
            self.problem = f"The encoder cannot be loaded: {type(error).__name__}."
            _LOG.exception("the alignment encoder cannot be loaded")
            return
        self._encoder, self._head, self.problem = encoder, trained, ""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="alignment")

    def close(self) -> None:
        """Let go of the thread; what it still does is of no interest."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def judge(self, asked: Question) -> Alignment:
        """The alignment of one call, in time or not at all. Never raises."""
        began = time.perf_counter()
        found = await self._judge(asked)
        self._metrics.alignment.observe(time.perf_counter() - began)
        self._metrics.count(self._metrics.alignments, found.state.value)
        return found

    async def _judge(self, asked: Question) -> Alignment:
        if not self.is_ready:
            return unscored(AlignmentState.MISSING)
        if not asked.is_complete:
            return unscored(AlignmentState.UNSEEN)
        try:
            return await self._answer(asked, time.monotonic() + self._seconds)
        except TimeoutError:
            return unscored(AlignmentState.LATE)
        except Exception:
            _LOG.exception("a call's alignment could not be worked out")
            return unscored(AlignmentState.FAILED)

    async def _answer(self, asked: Question, deadline: float) -> Alignment:
        async with asyncio.timeout(self._seconds):
            return await asyncio.get_running_loop().run_in_executor(self._pool, self.work, asked, deadline)

    def work(self, asked: Question, deadline: float) -> Alignment:
        """The alignment, worked out in the calling thread. Raises ``TimeoutError`` at ``deadline`` (monotonic)."""
        encoder, trained = self._encoder, self._head
        assert encoder is not None and trained is not None, "the thread is there only with an encoder"

        def similar(one: str, other: str) -> float:
            # What was compared so far is remembered: the same call, made again, gets further.
            if time.monotonic() > deadline:
                raise TimeoutError
            return encoder.similarity(one, other)

        return trained.judge(measure(asked, similar))


class LaneAligner(Aligner):
    """The same with the encoder of another, for a lane: its thread may be kept waiting, so it does the work itself."""

    def __init__(self, other: Aligner, *, milliseconds: float, metrics: Metrics) -> None:
        super().__init__(None, milliseconds=milliseconds, metrics=metrics)
        self._other = other

    @property
    def is_ready(self) -> bool:
        """Whether the other one has an encoder."""
        return self._other.is_ready

    async def _answer(self, asked: Question, deadline: float) -> Alignment:
        return self._other.work(asked, deadline)
