"""``watchfloor guard``: what the guard's detectors see in texts, without a server.

``score`` is for measuring and for other people's pipelines: JSON lines in, JSON lines out, one for each, in order.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import click
import orjson

from watchfloor.guard.detectors.catalogue import BY_CATEGORY
from watchfloor.guard.detectors.finding import Finding
from watchfloor.guard.detectors.hit import Surface
from watchfloor.guard.detectors.scan import scan

LONGEST_LINE: Final = 4_194_304
"""Bytes of one line."""


@click.group()
def guard() -> None:
    """Ask the guard's detectors."""


@guard.command()
def score() -> None:
    """Read {"id", "text", "surface"} lines from standard input and write what the detectors see in each.

    A surface is one of user (the default), arguments, result, tool_description, answer. Each answer has the line's id
    and its signals: id of the catalogue, category, detector, severity, score from 0 to 1, span in characters of the
    text, an excerpt, and what the passage says where it was encoded or hidden. A line that cannot be read gives
    {"line", "error"} and the next one is read; the exit status is then 1.
    """
    failed = False
    write = sys.stdout.buffer.write
    for number, line in enumerate(sys.stdin.buffer, start=1):
        if not line.strip():
            continue
        try:
            answer = _answer(line)
        except ValueError as error:
            failed = True
            answer = {"line": number, "error": str(error)}
        write(orjson.dumps(answer) + b"\n")
        sys.stdout.buffer.flush()
    if failed:
        raise SystemExit(1)


def _answer(line: bytes) -> dict[str, Any]:
    """Raises ``ValueError`` that says what is wrong with ``line`` and what is right."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"the line has more than {LONGEST_LINE} bytes. Split the text.")
    try:
        asked = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f'not JSON: {error}. Write {{"id": ..., "text": ..., "surface": ...}}.') from error
    if not isinstance(asked, dict):
        raise ValueError('not an object. Write {"id": ..., "text": ..., "surface": ...}.')
    text = asked.get("text")
    if not isinstance(text, str):
        raise ValueError("`text` is missing or is not a string.")
    unknown = sorted(set(asked) - {"id", "text", "surface"})
    if unknown:
        raise ValueError(f"`{unknown[0]}` is not known. Members are: id, text, surface.")
    surface = asked.get("surface", Surface.USER)
    if surface not in set(Surface):
        raise ValueError(f"`surface` is {surface!r}. It is one of {', '.join(Surface)}.")
    return {"id": asked.get("id"), "signals": [_shown(finding) for finding in scan(text, Surface(surface))]}


def _shown(finding: Finding) -> dict[str, Any]:
    signal = finding.signal
    shown = {
        "id": BY_CATEGORY[signal.category].id,
        "category": signal.category,
        "detector": signal.detector,
        "severity": signal.severity,
        "score": signal.score,
        "span": signal.span,
        "excerpt": signal.excerpt,
    }
    if finding.decoded:
        shown["decoded"] = finding.decoded
    return shown
