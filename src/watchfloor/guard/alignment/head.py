"""From measures to a probability: a logistic regression of some twenty numbers, read from a JSON file that ships.

``bench/train_alignment.py`` makes the file; what it was trained on, how good it is and where it fails is in
``docs/alignment.md``. The score is the probability that a call comes from somebody else's words, given as many calls of
either kind.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final, NamedTuple

from watchfloor.guard.alignment.alignment import Alignment, AlignmentState
from watchfloor.guard.alignment.features import NAMES, Measured
from watchfloor.guard.content import show_path
from watchfloor.guard.detectors.secrets import mask
from watchfloor.guard.provenance.labels import Outcome

FILE: Final = "alignment.json"
_SHOWN: Final = 80


class Head(NamedTuple):
    """``sigmoid(bias + weights · (measures - means) / spreads)``; from ``threshold`` on somebody is asked."""

    version: str
    encoder: str
    bias: float
    weights: tuple[float, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    threshold: float

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Head:
        """The head that ``body`` describes. Raises ``ValueError``, ``TypeError`` or ``KeyError`` if it does not fit."""
        if tuple(body["names"]) != NAMES:
            raise ValueError("it was trained on other measures")
        rows = {name: tuple(float(each) for each in body[name]) for name in ("weights", "means", "spreads")}
        if any(len(row) != len(NAMES) for row in rows.values()) or min(rows["spreads"]) <= 0:
            raise ValueError("it has not one number for each measure")
        return cls(
            str(body["version"]), str(body["encoder"]), float(body["bias"]), threshold=float(body["threshold"]), **rows
        )

    def score(self, values: tuple[float, ...]) -> float:
        """0 to 1."""
        rows = zip(self.weights, values, self.means, self.spreads, strict=True)
        total = self.bias + sum(weight * (value - mean) / spread for weight, value, mean, spread in rows)
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))

    def judge(self, found: Measured) -> Alignment:
        """What the measures mean, with what the call is nearest to."""
        score = self.score(found.values)
        result = found.source.result if found.source is not None else None
        shown = mask(" ".join(found.sentence.split()))
        return Alignment(
            AlignmentState.SCORED,
            Outcome.ASK if score >= self.threshold else Outcome.ALLOW,
            round(score, 4),
            round(found.near_user, 3),
            round(found.near_text, 3),
            f"user_turns[{found.turn}]" if found.turn >= 0 else "",
            shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…",
            f"{result.server}/{result.tool}" if result is not None else "",
            result.invocation if result is not None else "",
            mask(show_path(found.source.path, "result")) if found.source is not None else "",
            f"{self.encoder} {self.version}",
        )


@cache
def shipped() -> Head:
    """The head that comes with the product, read once."""
    file = resources.files("watchfloor.content").joinpath("weights", FILE)
    return Head.from_json(json.loads(file.read_text("utf-8")))
