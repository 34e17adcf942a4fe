"""Requests that were refused before there was a call to decide on: recorded, but never as fast as they can be sent.

Whoever can reach the port can make us write these, so each address has a small allowance and all together a larger one;
what goes beyond is counted and named in the next record of that address. Decisions on calls do not pass here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

BURST: Final = 10.0
PER_SECOND: Final = 0.5
TOTAL_BURST: Final = 200.0
TOTAL_PER_SECOND: Final = 20.0
_MAX_ADDRESSES: Final = 4096


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float
    suppressed: int = 0

    def take(self, burst: float, per_second: float, now: float) -> bool:
        self.tokens = min(burst, self.tokens + (now - self.at) * per_second)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Allowance:
    """How many refusals may still be recorded, by address."""

    def __init__(self) -> None:
        self._total = _Bucket(TOTAL_BURST, 0.0)
        self._addresses: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, address: str, now: float) -> int | None:
        """How many were suppressed since the last record of ``address``, or None: do not record this one.

        ``now`` is in seconds of a clock that does not go back.
        """
        bucket = self._addresses.get(address)
        if bucket is None:
            if len(self._addresses) >= _MAX_ADDRESSES:
                self._addresses.popitem(last=False)
            bucket = self._addresses[address] = _Bucket(BURST, now)
        else:
            self._addresses.move_to_end(address)
        if not bucket.take(BURST, PER_SECOND, now) or not self._total.take(TOTAL_BURST, TOTAL_PER_SECOND, now):
            bucket.suppressed += 1
            return None
        suppressed, bucket.suppressed = bucket.suppressed, 0
        return suppressed
