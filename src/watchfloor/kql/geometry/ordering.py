"""The order in which Kusto lists sets of cells.

The engine keeps such a set in a hash table of chained buckets and lists it as the table lies: each new text comes
before all others, or, where its bucket is taken, before the others of its bucket. The table has as many buckets as the
smallest of certain primes that is not below the number of texts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

_MASK: Final = 0xFFFFFFFFFFFFFFFF
_FACTOR: Final = 0xC6A4A7935BD1E995
_SEED: Final = 0xC70F6907

_PRIMES: Final = (
    2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 103, 109, 113,
    127, 137, 139, 149, 157, 167, 179, 193, 199, 211, 227, 241, 257, 277, 293, 313, 337, 359, 383, 409, 439, 467,
    503, 541, 577, 619, 661, 709, 761, 823, 887, 953, 1031, 1109, 1193, 1289, 1381, 1493, 1613, 1741, 1879, 2029,
    2179, 2357, 2549, 2753, 2971, 3209, 3469, 3739, 4027, 4349, 4703, 5087, 5503, 5953, 6427, 6949, 7517, 8123,
    8783, 9497, 10273, 11113, 12011, 12983, 14033, 15173, 16411, 17749, 19183, 20753, 22447, 24281, 26267, 28411,
    30727, 33223, 35933, 38873, 42043, 45481, 49201, 53201, 57557, 62233, 67307, 72817, 78779, 85229, 92203, 99733,
    107897, 116731, 126271, 136607, 147793, 159871, 172933, 187091, 202409, 218971, 236897, 256279, 277261, 299951,
    324503, 351061, 379787, 410857, 444487, 480881, 520241,
)  # fmt: skip


def _hash(text: str) -> int:
    """MurmurHash64A of the text in UTF-8."""
    data = text.encode()
    size = len(data)
    value = _SEED ^ (size * _FACTOR & _MASK)
    for start in range(0, size & ~7, 8):
        part = int.from_bytes(data[start : start + 8], "little") * _FACTOR & _MASK
        part = (part ^ part >> 47) * _FACTOR & _MASK
        value = (value ^ part) * _FACTOR & _MASK
    if size & 7:
        value = (value ^ int.from_bytes(data[size & ~7 :], "little")) * _FACTOR & _MASK
    value = (value ^ value >> 47) * _FACTOR & _MASK
    return value ^ value >> 47


def listed(texts: Sequence[str]) -> list[str]:
    """``texts``, which are all different and come in the order in which they were found, as a set of them is listed."""
    count = len(texts)
    buckets = _PRIMES[min(bisect_left(_PRIMES, count), len(_PRIMES) - 1)]
    chains: dict[int, list[str]] = {}
    for text in texts:
        chains.setdefault(_hash(text) % buckets, []).append(text)
    return [text for chain in reversed(chains.values()) for text in reversed(chain)]
