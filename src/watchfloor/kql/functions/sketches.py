"""Sketches: sets that are counted later (hll) and distributions that are asked for percentiles later (tdigest).

Both are plain JSON, so that they can be kept in a table and merged. A set of up to ``EXACT_SIZE`` values keeps the
64-bit hash of each and is counted exactly; a larger one becomes HyperLogLog registers with a standard error of 0.4 %.
A digest keeps every distinct value with its weight up to ``EXACT_SIZE`` of them and is exact then; beyond, neighbours
are merged into the value in their middle, finest at both ends. Neither reads the sketches of other systems.

    hll:      [[16384, 16], ["<hash>", ...], []]    or    [[16384, 16], [], ["<registers, base64>"]]
    tdigest:  [[7], [values in order], [their weights]]
"""

from __future__ import annotations

import binascii
import math
import zlib
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final

from watchfloor.kql.functions.aggregates import nearest_rank
from watchfloor.kql.functions.convert import json_text
from watchfloor.kql.functions.dynamics import rank
from watchfloor.kql.functions.spec import REFUSED, aggregate, scalar

Rows = Sequence[tuple[Any, ...]]

EXACT_SIZE: Final = 16_384
_BITS: Final = 16
_REGISTERS: Final = 1 << _BITS
_HEAD: Final = [EXACT_SIZE, _BITS]
_FINENESS: Final = 2_000
"""How many values a merged digest keeps, about."""


# -- sets -------------------------------------------------------------------------------------------------------------


def _hash(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return int.from_bytes(blake2b(json_text(value).encode(), digest_size=8).digest(), "big", signed=True)


class _Counter:
    """A set of hashes, or registers once there are too many."""

    def __init__(self) -> None:
        self.hashes: set[int] = set()
        self.registers = bytearray()

    def add(self, hashes: Iterable[int]) -> None:
        if self.registers:
            for value in hashes:
                self._register(value)
            return
        self.hashes.update(hashes)
        if len(self.hashes) > EXACT_SIZE:
            self.registers = bytearray(_REGISTERS)
            for value in self.hashes:
                self._register(value)
            self.hashes = set()

    def _register(self, value: int) -> None:
        bits = value % (1 << 64)
        place, rest = bits >> (64 - _BITS), bits & ((1 << (64 - _BITS)) - 1)
        run = 64 - _BITS - rest.bit_length() + 1
        self.registers[place] = max(self.registers[place], run)

    def merge(self, other: _Counter) -> None:
        if other.registers:
            if not self.registers:
                self.registers = bytearray(_REGISTERS)
                hashes, self.hashes = self.hashes, set()
                self.add(hashes)
            self.registers = bytearray(map(max, self.registers, other.registers))
        else:
            self.add(other.hashes)

    def count(self) -> int:
        if not self.registers:
            return len(self.hashes)
        return round(_estimate(Counter(self.registers)))

    def value(self) -> list[Any]:
        if self.registers:
            return [_HEAD, [], [b64encode(zlib.compress(bytes(self.registers))).decode()]]
        return [_HEAD, [str(value) for value in sorted(self.hashes)], []]


def _estimate(runs: Counter[int]) -> float:
    """How many values are behind so many registers of each run, by Ertl's estimator: no bias anywhere in the range."""
    longest = 64 - _BITS
    total = _REGISTERS * _tau(1 - runs[longest + 1] / _REGISTERS)
    for run in range(longest, 0, -1):
        total = (total + runs[run]) / 2
    return _REGISTERS**2 / (2 * math.log(2)) / (total + _REGISTERS * _sigma(runs[0] / _REGISTERS))


def _sigma(share: float) -> float:
    if share == 1:
        return math.inf
    total, factor, before = share, 1.0, -1.0
    while total != before:
        share, before = share * share, total
        total, factor = total + share * factor, factor * 2
    return total


def _tau(share: float) -> float:
    if share in (0, 1):
        return 0.0
    total, factor, before = 1 - share, 1.0, -1.0
    while total != before:
        share, before, factor = math.sqrt(share), total, factor / 2
        total -= (1 - share) ** 2 * factor
    return total / 3


def _counter(value: Any) -> _Counter | None:
    """None if it is no hll value of ours."""
    if not isinstance(value, list) or len(value) != 3 or value[0] != _HEAD:
        return None
    _, hashes, dense = value
    if not isinstance(hashes, list) or not isinstance(dense, list):
        return None
    counter = _Counter()
    try:
        counter.add(int(text) for text in hashes)
        if dense:
            counter.registers = bytearray(zlib.decompress(b64decode(dense[0], validate=True)))
    except (ValueError, TypeError, binascii.Error, zlib.error):
        return None
    return counter if len(counter.registers) in (0, _REGISTERS) else None


@aggregate("hll", "packed =integer?", "dynamic", page="hll-aggregation-function", if_name="hll_if", if_prefix="hll_if")
def hll(rows: Rows) -> list[Any] | None:
    """Null over nothing. The accuracy changes nothing."""
    values = [row[0] for row in rows if row[0] is not None]
    if not values:
        return None
    counter = _Counter()
    counter.add(map(_hash, values))
    return counter.value()


def _merged(values: Iterable[Any]) -> list[Any] | None:
    merged: _Counter | None = None
    for value in values:
        counter = _counter(value)
        if counter is None:
            continue
        if merged is None:
            merged = counter
        else:
            merged.merge(counter)
    return None if merged is None else merged.value()


@aggregate("hll_merge", "dynamic", "dynamic", page="hll-merge-aggregation-function")
def hll_merge_of_rows(rows: Rows) -> list[Any] | None:
    return _merged(row[0] for row in rows)


@scalar("hll_merge", "dynamic dynamic+", "dynamic", page="hll-merge-function", nulls="total")
def hll_merge(*values: Any) -> list[Any] | None:
    """Nulls, the sets of nothing, add nothing."""
    return _merged(values)


@scalar("dcount_hll", "dynamic", "long", page="dcount-hll-function")
def dcount_hll(value: Any) -> int | None:
    counter = _counter(value)
    return None if counter is None else counter.count()


def intersections(values: Sequence[Any]) -> list[int | None]:
    """For the dcount_intersect plugin: how many values the first set has, the first two have in common, and so on;
    exact while all sets are, otherwise by inclusion and exclusion."""
    counters = [_counter(value) for value in values]
    found: list[int | None] = []
    for size in range(1, len(counters) + 1):
        chosen = [counter for counter in counters[:size] if counter is not None]
        if len(chosen) < size:
            found.append(None)
        elif not any(counter.registers for counter in chosen):
            found.append(len(set.intersection(*(counter.hashes for counter in chosen))))
        else:
            found.append(_by_inclusion(chosen))
    return found


def _by_inclusion(counters: Sequence[_Counter]) -> int:
    total = 0
    for choice in range(1, 1 << len(counters)):
        union = _Counter()
        chosen = [counter for place, counter in enumerate(counters) if choice >> place & 1]
        for counter in chosen:
            union.merge(counter)
        total += union.count() if len(chosen) % 2 else -union.count()
    return max(total, 0)


# -- distributions ----------------------------------------------------------------------------------------------------


def _digest(pairs: Iterable[tuple[Any, int]]) -> list[Any] | None:
    """The digest of values with their weights; null over nothing."""
    weights: dict[Any, int] = {}
    for value, weight in pairs:
        weights[value] = weights.get(value, 0) + weight
    if not weights:
        return None
    ordered = sorted(weights.items(), key=lambda pair: rank(pair[0]))
    if len(ordered) > EXACT_SIZE:
        ordered = _coarse(ordered)
    return [[7], [value for value, _ in ordered], [weight for _, weight in ordered]]


def _coarse(ordered: Sequence[tuple[Any, int]]) -> list[tuple[Any, int]]:
    total = sum(weight for _, weight in ordered)
    kept: list[tuple[Any, int]] = []
    group: list[tuple[Any, int]] = []
    passed = held = 0
    for value, weight in ordered:
        share = (passed + held / 2) / total
        if group and held + weight > max(1.0, 4 * total * share * (1 - share) / _FINENESS):
            kept.append(_middle(group, held))
            passed, held, group = passed + held, 0, []
        group.append((value, weight))
        held += weight
    kept.append(_middle(group, held))
    return kept


def _middle(group: Sequence[tuple[Any, int]], weight: int) -> tuple[Any, int]:
    return nearest_rank([value for value, _ in group], [each for _, each in group], 50), weight


def _pairs(digest: Any) -> list[tuple[Any, int]] | None:
    """The values and weights of a digest; None if it is none of ours."""
    if not isinstance(digest, list) or len(digest) != 3 or digest[0] != [7]:
        return None
    _, values, weights = digest
    if not isinstance(values, list) or not isinstance(weights, list) or len(values) != len(weights) or not values:
        return None
    if not all(isinstance(weight, int) and weight > 0 for weight in weights):
        return None
    if not all(isinstance(value, int | float | str) for value in values):
        return None
    return list(zip(values, weights, strict=True))


def _weighed(rows: Rows) -> Iterable[tuple[Any, int]]:
    for row in rows:
        weight = row[1] if len(row) > 1 else 1
        if row[0] is not None and weight is not None and weight > 0:
            yield (float(row[0]) if isinstance(row[0], Decimal) else row[0]), weight


for _word in ("int|long|real", "decimal", "packed"):

    @aggregate("tdigest", f"{_word} integer?", "dynamic", page="tdigest-aggregation-function")
    def tdigest(rows: Rows) -> list[Any] | None:
        return _digest(_weighed(rows))


def _merged_digest(digests: Iterable[Any]) -> list[Any] | None:
    return _digest(pair for digest in digests for pair in _pairs(digest) or ())


@aggregate(
    "tdigest_merge",
    "dynamic",
    "dynamic",
    page="tdigest-merge-aggregation-function",
    prefix="merge_tdigests",
    aliases=("merge_tdigest",),
)
def tdigest_merge_of_rows(rows: Rows) -> list[Any] | None:
    return _merged_digest(row[0] for row in rows)


@scalar(
    "merge_tdigest",
    "dynamic dynamic+",
    "dynamic",
    page="merge-tdigest-function",
    nulls="total",
    aliases=("tdigest_merge",),
)
def merge_tdigest(*digests: Any) -> list[Any] | None:
    """Nulls, the digests of nothing, add nothing."""
    return _merged_digest(digests)


def _percentile(digest: Any, percentage: Any) -> Any:
    pairs = _pairs(digest)
    if pairs is None or not isinstance(percentage, int | float) or not 0 <= percentage <= 100:
        return None
    return nearest_rank([value for value, _ in pairs], [weight for _, weight in pairs], percentage)


@scalar("percentile_tdigest", "dynamic real", "dynamic", page="percentile-tdigest-function")
def percentile_tdigest(digest: Any, percentage: float) -> Any:
    return _percentile(digest, percentage)


@scalar("percentiles_array_tdigest", "dynamic dynamic", "dynamic", page="percentiles-array-tdigest-function")
def percentiles_array_tdigest_of_array(digest: Any, percentages: Any) -> list[Any] | None:
    if _pairs(digest) is None or not isinstance(percentages, list):
        return None
    return [_percentile(digest, percentage) for percentage in percentages]


@scalar("percentiles_array_tdigest", "dynamic real+", "dynamic", page="percentiles-array-tdigest-function")
def percentiles_array_tdigest(digest: Any, *percentages: float) -> list[Any] | None:
    return percentiles_array_tdigest_of_array(digest, list(percentages))


@scalar("rank_tdigest", "dynamic packed", "real", page="rank-tdigest-function")
def rank_tdigest(digest: Any, value: Any) -> float | None:
    """How many values are not above ``value``."""
    pairs = _pairs(digest)
    if pairs is None or not isinstance(value, int | float | str):
        return None
    place = rank(value)
    return float(sum(weight for each, weight in pairs if rank(each) <= place))


@scalar("percentrank_tdigest", "dynamic packed", "real", page="percentrank-tdigest-function")
def percentrank_tdigest(digest: Any, value: Any) -> float | None:
    pairs, place = _pairs(digest), rank_tdigest(digest, value)
    if pairs is None or place is None:
        return None
    return place * 100 / sum(weight for _, weight in pairs)


for _name in ("hll_isvalid", "tdigest_isvalid"):
    REFUSED[_name] = "test the result of dcount_hll() or percentile_tdigest() with isnull()"
