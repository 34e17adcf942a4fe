"""What a door knows of how well a call fits what the user asked: a fact of the decision, like its trace.

It is worked out before the decision and put on record with it, so that deciding stays pure and can be done again. An
answer that did not come in time, or not at all, asks: it never counts as a good one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from watchfloor.guard.provenance.labels import Outcome


class AlignmentState(StrEnum):
    """Whether there is a score, and why not."""

    SCORED = "scored"
    LATE = "late"  # not within its time
    FAILED = "failed"  # the encoder gave no answer
    MISSING = "missing"  # a policy asks for it, and this worker has no encoder
    UNSEEN = "unseen"  # part of what was read is not known


@dataclass(frozen=True, slots=True)
class Alignment:
    """How one call lies between the user's words and those of others.

    ``score``: 0 to 1, how much it looks like a call that an outsider asked for; 1 where there is no score.
    ``user_turn`` and ``text`` say what it is nearest to: which of the user's turns, and up to 80 characters of what was
    read, secrets masked, with where that stands. ``near_user`` and ``near_text`` are cosines.
    """

    state: AlignmentState
    outcome: Outcome
    score: float = 1.0
    near_user: float = 0.0
    near_text: float = 0.0
    user_turn: str = ""
    text: str = ""
    source: str = ""
    invocation: str = ""
    path: str = ""
    model: str = ""

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Alignment:
        """The alignment that ``body`` describes. Raises ``ValueError`` or ``TypeError`` if it does not fit."""
        known = {each.name for each in dataclasses.fields(cls)}
        members = {name: value for name, value in body.items() if name in known}
        return cls(**members | {"state": AlignmentState(body["state"]), "outcome": Outcome(body["outcome"])})

    @property
    def story(self) -> str:
        """For people: what the call is nearest to, or why that is not known."""
        if self.state is not AlignmentState.SCORED:
            return _WITHOUT[self.state]
        return (
            f"nearer ({self.near_text:.2f}) to what {self.source} {self.path} says, «{self.text}», "
            f"than to what the user asked ({self.near_user:.2f})"
        )


_WITHOUT = {
    AlignmentState.LATE: "whether the call fits what the user asked was not known in time",
    AlignmentState.FAILED: "whether the call fits what the user asked could not be worked out",
    AlignmentState.MISSING: "whether the call fits what the user asked is not known: this worker has no encoder",
    AlignmentState.UNSEEN: "whether the call fits what the user asked is not known: not all that was read is",
}


def unscored(state: AlignmentState) -> Alignment:
    """Without a score: somebody is asked."""
    return Alignment(state, Outcome.ASK)
