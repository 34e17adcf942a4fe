"""Typed identifiers.

Inventory ids are names chosen by people (``customer-billing``), so that manifests are idempotent and logs readable.
Ids of things that happen carry a prefix and sort by time of creation (``evt_…``).
"""

from __future__ import annotations

import os
import re
import threading
import time
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


def new_id(prefix: str) -> str:
    """A new id ``prefix_`` + 26 characters: 48 bits of Unix milliseconds, then 80 random bits (the ULID layout)."""
    ms = time.time_ns() // 1_000_000
    p = _PAIRS
    return (
        f"{prefix}_{p[ms >> 40 & 1023]}{p[ms >> 30 & 1023]}{p[ms >> 20 & 1023]}{p[ms >> 10 & 1023]}{p[ms & 1023]}"
        f"{os.urandom(16).translate(_DIGITS).decode('ascii')}"
    )


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
