"""Typed identifiers.

Inventory ids are names chosen by people (``customer-billing``), so that manifests are idempotent and logs readable.
Ids of things that happen carry a prefix and sort by time of creation (``evt_…``).
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from typing import Final, NewType

AgentId = NewType("AgentId", str)
UserId = NewType("UserId", str)
ServerId = NewType("ServerId", str)
PolicyId = NewType("PolicyId", str)
EventId = NewType("EventId", str)
InvocationId = NewType("InvocationId", str)
AlertId = NewType("AlertId", str)
IncidentId = NewType("IncidentId", str)
HoldId = NewType("HoldId", str)

NAME_PATTERN: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
"""What an inventory id may look like: lower case, digits, ``. _ -`` inside, 1 to 64 characters."""

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
"""Two digits for each value of ten bits: an id is made for every event, so this is worth a table."""
_DIGITS: Final = bytes(ord(_ALPHABET[byte & 31]) for byte in range(256))
"""Turns random bytes into random digits: of each byte, five bits count."""

_RANDOM_DIGITS: Final = 16
_DRAWN: Final = 256
"""Ids whose random digits are drawn at once: a call to the system for each would cost more than the rest of the id."""

_drawn: deque[str] = deque()
"""Random digits that no id has yet. Threads take from it as they are: ``pop`` gives each entry to one of them."""
os.register_at_fork(after_in_child=_drawn.clear)  # or parent and child would give out the same ones


def new_id(prefix: str) -> str:
    """A new id ``prefix_`` + 26 characters: 48 bits of Unix milliseconds, then 80 random bits (the ULID layout)."""
    ms = time.time_ns() // 1_000_000
    p = _PAIRS
    try:
        digits = _drawn.pop()
    except IndexError:
        digits = _draw()
    return (
        f"{prefix}_{p[ms >> 40 & 1023]}{p[ms >> 30 & 1023]}{p[ms >> 20 & 1023]}{p[ms >> 10 & 1023]}{p[ms & 1023]}"
        f"{digits}"
    )


def _draw() -> str:
    """Random digits for one id, and for the next ``_DRAWN - 1``."""
    text = os.urandom(_RANDOM_DIGITS * _DRAWN).translate(_DIGITS).decode("ascii")
    digits = [text[at : at + _RANDOM_DIGITS] for at in range(0, len(text), _RANDOM_DIGITS)]
    _drawn.extend(digits[1:])
    return digits[0]


_in_order = threading.Lock()
_last_in_order = [0, 0]
"""Milliseconds and random bits of the id that ``ordered_id`` made last."""


def ordered_id(prefix: str) -> str:
    """As ``new_id``, but greater than every one that this process made before, also within one millisecond."""
    with _in_order:
        ms, bits = max(time.time_ns() // 1_000_000, _last_in_order[0]), int.from_bytes(os.urandom(9))
        if ms == _last_in_order[0]:
            bits = _last_in_order[1] + 1
        _last_in_order[:] = ms, bits
    number = ms << 80 | bits
    return f"{prefix}_" + "".join(_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10))


def is_name(text: str) -> bool:
    """Whether ``text`` may be the id of an agent, user, tool server or policy."""
    return NAME_PATTERN.fullmatch(text) is not None
