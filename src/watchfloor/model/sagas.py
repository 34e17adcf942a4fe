"""Responses that take several steps, some of them in others' systems: what they and their steps may be."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class SagaKind(StrEnum):
    """What is being done, and to what kind of subject."""

    USER_COMPROMISE = "user_compromise"
    USER_RELEASE = "user_release"  # dismissed or remediated
    AGENT_COMPROMISE = "agent_compromise"
    SERVER_COMPROMISE = "server_compromise"

    @property
    def subject_kind(self) -> str:
        """``user``, ``agent`` or ``server``."""
        return self.value.partition("_")[0]


class SagaStatus(StrEnum):
    """Where a response stands as a whole."""

    WAITING = "waiting_for_approval"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # at least one step failed, none is left to run
    DECLINED = "declined"
    EXPIRED = "expired"  # nobody approved in time


class StepState(StrEnum):
    """Where one step stands. ``done`` is said of nothing that has not happened."""

    WAITING = "waiting_for_approval"
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


class Outcome(StrEnum):
    """How a compromise ended; ``open`` while it has not."""

    OPEN = "open"
    REMEDIATED = "remediated"
    DISMISSED = "dismissed"
    SAFE = "confirmed_safe"


SETTLED: Final = frozenset({StepState.DONE, StepState.FAILED, StepState.SKIPPED})
"""States of a step that nothing will run any more, unless an operator asks."""

ACTIVE: Final = frozenset({SagaStatus.WAITING, SagaStatus.RUNNING})
"""States of a response that is not over."""
