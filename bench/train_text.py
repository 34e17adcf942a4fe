"""Train the text model: weights for ``guard/detectors/likeness.py`` from labelled texts of installed packages.

    .venv-train/bin/python -m bench.train_text [--out src/watchfloor/content/weights/text.bin] [--folds]

Deterministic: the same packages give the same file. ``--folds`` leaves out attack sources in turn, and with each of them
sources of ordinary text, and prints what share of the attacks the others' weights find at the score that 1 % and 0.2 % of
those ordinary texts exceed: neither has been seen, so this is the figure to choose by. No text is written anywhere.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import sys
from array import array
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from bench.text_sources import TRAINING, Source, texts_of
from watchfloor.guard.detectors import likeness
from watchfloor.guard.detectors.text import folded_words

MASK = (1 << likeness.BITS) - 1
MOST_OF_A_SOURCE = 2_500
HELD_BACK = 5
"""Every fifth ordinary text sets thresholds and trains nothing."""
FEWEST_HELD_BACK = 400
"""Sources of which fewer texts are held back set thresholds together."""
WINDOWS_OF_AN_ATTACK = 5
WINDOWS_OF_A_LONG_TEXT = 30
"""Of an ordinary text that trains; one that sets thresholds is scored whole."""
ATTACKS_LEFT_OUT = (
    ("llmail",), ("satml-ctf",), ("gandalf",), ("deepset",), ("jackhhao", "pyrit", "garak"), ("spikee",), ("drills", "agent tasks"),
)  # fmt: skip
"""Left out in turn; those that share texts go together. What we put together ourselves always trains."""
ORDINARY_LEFT_OUT = (("readmes", "docstrings"), ("bfcl requests", "bfcl tools"), ("writing", "tickets"))


def is_held_back(text: int) -> bool:
    """Whether ordinary text number ``text`` sets thresholds and trains nothing."""
    return text % HELD_BACK == 0


class Row(NamedTuple):
    """One window of one text."""

    source: str
    is_attack: bool
    text: int
    pieces: list[int]


def rows_of(source: Source, number: int) -> list[Row]:
    texts = texts_of(source)
    if len(texts) > MOST_OF_A_SOURCE:
        texts = random.Random(f"{source.name} 1").sample(texts, MOST_OF_A_SOURCE)
    rows = []
    for offset, text in enumerate(texts):
        words = folded_words(text[:20_000])
        windows = likeness.windows(words)
        if source.is_attack:
            windows = windows[:WINDOWS_OF_AN_ATTACK]
        elif len(windows) > WINDOWS_OF_A_LONG_TEXT and not is_held_back(number + offset):
            windows = random.Random(f"{source.name} {offset}").sample(windows, WINDOWS_OF_A_LONG_TEXT)
        pieces = likeness.pieces_of(words, MASK)
        rows += [Row(source.name, source.is_attack, number + offset, sorted(pieces.between(a, b))) for a, b in windows]
    return [row for row in rows if row.pieces]


def matrix(rows: list[Row]) -> csr_matrix:
    starts = np.cumsum([0, *(len(row.pieces) for row in rows)])
    columns = np.fromiter((piece for row in rows for piece in row.pieces), np.int32, int(starts[-1]))
    values = np.repeat([1 / math.sqrt(len(row.pieces)) for row in rows], np.diff(starts))
    found = csr_matrix((values, columns, starts), shape=(len(rows), MASK + 1))
    found.sum_duplicates()
    return found


def fit(rows: list[Row], x: csr_matrix, strength: float) -> tuple[np.ndarray[Any, Any], float]:
    """Weights and bias; each attack source, and attacks and ordinary texts altogether, weigh the same."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.source] = counts.get(row.source, 0) + 1
    attacks = {row.source for row in rows if row.is_attack}
    weights = np.array(
        [
            1 / (len(attacks) * math.sqrt(counts[row.source]))
            if row.is_attack
            else 1 / (2 * math.sqrt(counts[row.source]))
            for row in rows
        ]
    )
    labels = np.array([row.is_attack for row in rows])
    for label in (True, False):
        weights[labels == label] *= len(rows) / 2 / weights[labels == label].sum()
    model = LogisticRegression(C=strength, solver="lbfgs", max_iter=300, tol=1e-4)
    model.fit(x, labels, sample_weight=weights)
    return model.coef_[0], float(model.intercept_[0])


def by_text(rows: list[Row], scores: np.ndarray[Any, Any]) -> dict[tuple[str, int], float]:
    """The highest score of a window, by text."""
    best: dict[tuple[str, int], float] = {}
    for row, score in zip(rows, scores, strict=True):
        key = (row.source, row.text)
        best[key] = max(best.get(key, -math.inf), float(score))
    return best


def quantile(values: list[float], share: float) -> float:
    """What ``share`` of ``values`` exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * (1 - share)))]


def quantised(weights: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], float]:
    """One signed byte a weight, and the scale. The few largest are cut so that the small ones keep their difference."""
    limit = float(np.quantile(np.abs(weights[weights != 0]), 0.9995))
    scale = limit / 127
    return np.clip(np.rint(weights / scale), -127, 127).astype(np.int8), scale


def folds(rows: list[Row], x: csr_matrix, strength: float) -> None:
    """Print what is found of attack sources left out, at thresholds from ordinary sources left out."""
    names = np.array([row.source for row in rows])
    found = []
    for attacks in ATTACKS_LEFT_OUT:
        shares = []
        for ordinary in ORDINARY_LEFT_OUT:
            is_in = ~np.isin(names, [*attacks, *ordinary])
            weights, bias = fit([row for row, used in zip(rows, is_in, strict=True) if used], x[is_in], strength)
            best = by_text(rows, x @ weights + bias)
            limits = [
                quantile([score for (name, _), score in best.items() if name in ordinary], s) for s in (0.01, 0.002)
            ]
            scores = [score for (name, _), score in best.items() if name in attacks]
            shares.append([sum(score > limit for score in scores) / len(scores) for limit in limits])
        found.append(np.mean(shares, axis=0))
        print(
            f"left out {', '.join(attacks):24} found {found[-1][0]:6.1%} at 1 %, {found[-1][1]:6.1%} at 0.2 %",
            flush=True,
        )
    mean = np.mean(found, axis=0)
    print(f"mean {mean[0]:.1%} at 1 %, {mean[1]:.1%} at 0.2 %")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("src/watchfloor/content/weights/text.bin"))
    parser.add_argument("--strength", type=float, default=2.0, help="inverse of the regularisation")
    parser.add_argument("--folds", action="store_true", help="leave out each attack source in turn")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for source in TRAINING:
        found = rows_of(source, len(rows))
        print(f"{source.name:16}{'attack' if source.is_attack else 'ordinary':10}{len(found):7} windows")
        if not found:
            print(f"{source.package} is not installed: make train", file=sys.stderr)
            return 1
        rows += found
    held_back = [not row.is_attack and is_held_back(row.text) for row in rows]
    x = matrix(rows)
    used = np.array([not held for held in held_back])
    sizes = {
        name: len({row.text for row, held in zip(rows, held_back, strict=True) if held and row.source == name})
        for name in {row.source for row in rows}
    }

    def calibrated(weights: np.ndarray[Any, Any], bias: float) -> tuple[dict[tuple[str, int], float], float, float]:
        best = by_text(rows, x @ weights + bias)
        ordinary: dict[str, dict[tuple[str, int], float]] = {}
        for row, held in zip(rows, held_back, strict=True):
            if held:
                key = (row.source, row.text)
                ordinary.setdefault(row.source if sizes[row.source] >= FEWEST_HELD_BACK else "the small ones", {})[
                    key
                ] = best[key]
        for name, of in sorted(ordinary.items()):
            print(
                f"  {name:20}{len(of):6} held back, 1 % above {quantile(list(of.values()), 0.01):6.2f}, 0.1 % above {quantile(list(of.values()), 0.001):6.2f}"
            )
        # Of each source by itself: easy texts must not make room for hard ones.
        limits = [max(quantile(list(of.values()), share) for of in ordinary.values()) for share in (0.01, 0.001)]
        return best, limits[0], max(limits[1], limits[0] + 0.5)

    if arguments.folds:
        folds(rows, x, arguments.strength)
        return 0
    weights, bias = fit([row for row, is_in in zip(rows, used, strict=True) if is_in], x[used], arguments.strength)
    small, scale = quantised(weights)
    _, one_percent, one_permille = calibrated(small.astype(np.float64) * scale, bias)
    header = likeness.HEADER.pack(
        likeness.MAGIC, likeness.FORMAT, likeness.BITS, scale, bias, one_percent, one_permille
    )
    raw = header + array("b", small.tolist()).tobytes()
    likeness.load(raw)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_bytes(raw)
    counts = {source.name: sum(row.source == source.name for row in rows) for source in TRAINING}
    print(json.dumps({"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw), "windows": counts, "nonzero": int(np.count_nonzero(small)),
                      "bias": round(bias, 4), "one_percent": round(one_percent, 4), "one_permille": round(one_permille, 4)}))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
