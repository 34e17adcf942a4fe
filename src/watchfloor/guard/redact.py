"""Redactions applied: the arguments that really go out.

Pure and total: the given arguments are never changed, and whatever the redactions say, an answer comes back. Who
decides that something is redacted is the engine's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from watchfloor.model.verdicts import Redaction


def apply(arguments: Mapping[str, Any], redactions: Iterable[Redaction]) -> dict[str, Any]:
    """``arguments`` with every redaction done.

    Spans that overlap or touch are replaced together, by the first one's replacement. A value that is not a string is
    replaced whole; a path that leads nowhere changes nothing.
    """
    by_path: dict[tuple[str | int, ...], list[Redaction]] = {}
    for redaction in redactions:
        by_path.setdefault(redaction.path, []).append(redaction)
    result: Any = dict(arguments)
    for path, wanted in by_path.items():
        result = _replace_at(result, path, wanted)
    return result if isinstance(result, dict) else {}


def _replace_at(value: Any, path: tuple[str | int, ...], wanted: list[Redaction]) -> Any:
    if not path:
        return _replaced(value, wanted)
    step, rest = path[0], path[1:]
    if isinstance(value, Mapping) and isinstance(step, str) and step in value:
        return {**value, step: _replace_at(value[step], rest, wanted)}
    if isinstance(value, list | tuple) and isinstance(step, int) and 0 <= step < len(value):
        return [*value[:step], _replace_at(value[step], rest, wanted), *value[step + 1 :]]
    return value


def _replaced(value: Any, wanted: list[Redaction]) -> Any:
    if not isinstance(value, str):
        return wanted[0].replacement
    pieces: list[str] = []
    position = 0
    for start, end, replacement in _merged(wanted, len(value)):
        pieces += [value[position:start], replacement]
        position = end
    pieces.append(value[position:])
    return "".join(pieces)


def _merged(wanted: list[Redaction], length: int) -> list[tuple[int, int, str]]:
    """Disjoint spans within ``length``, in order."""
    merged: list[tuple[int, int, str]] = []
    for redaction in sorted(wanted, key=lambda found: (found.span, found.replacement)):
        start = min(max(redaction.span[0], 0), length)
        end = min(max(redaction.span[1], start), length)
        if start == end:
            continue
        if merged and start <= merged[-1][1]:
            first_start, first_end, replacement = merged[-1]
            merged[-1] = (first_start, max(first_end, end), replacement)
        else:
            merged.append((start, end, redaction.replacement))
    return merged
