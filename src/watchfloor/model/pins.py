"""What makes two definitions of a tool the same: one hash, computed alike wherever a definition is seen.

The registry pins it when a tool is approved; the gateway compares it with what a tool server answers inline. Pure: it
knows neither MCP's types nor who asks.

Hashed is everything of a definition that a model, a client or an approving person acts on: ``name``, ``title``,
``description``, ``inputSchema``, ``outputSchema`` and the five hints of ``annotations``. Left out is what may differ
from one answer to the next without changing what the tool is: ``_meta``, ``icons``, ``execution``, unknown members. A
member that is null counts as absent. Numbers count by value, as in RFC 8785 (``1`` equals ``1.0``), because JSON
parsers differ in how they read them; the order of object members does not count, the order of array items does.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Final

PINNED_MEMBERS: Final = ("name", "title", "description", "inputSchema", "outputSchema")
PINNED_HINTS: Final = ("title", "readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")

UNPINNABLE: Final = ""
"""Stands for a definition nested too deeply to hash. No approved tool has it: such a tool cannot be pinned."""

_EXACT: Final = 2**53


def _number(value: int | float) -> int | float:
    if isinstance(value, int) and -_EXACT <= value <= _EXACT:
        return value
    try:
        number = float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number


def _canonical(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, Mapping):
        return {str(k): _canonical(v) for k, v in value.items()}
    return [_canonical(v) for v in value]


def pinned_definition(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``definition`` (a tool as ``tools/list`` answers it) that its hash covers."""
    pinned = {m: definition[m] for m in PINNED_MEMBERS if definition.get(m) is not None}
    annotations = definition.get("annotations")
    if isinstance(annotations, Mapping):
        hints = {h: annotations[h] for h in PINNED_HINTS if annotations.get(h) is not None}
        if hints:
            pinned["annotations"] = hints
    return pinned


def tool_hash(definition: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a definition as ``tools/list`` answers it, or ``UNPINNABLE``. Never raises on parsed JSON."""
    try:
        canonical = _canonical(pinned_definition(definition))
        text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    except RecursionError:
        return UNPINNABLE
    return hashlib.sha256(text.encode()).hexdigest()
