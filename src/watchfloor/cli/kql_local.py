"""What ``watchfloor kql`` does without a control plane: on the event store of a data directory, or on text alone."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from watchfloor import settings
from watchfloor.cli.event_store import open_event_store
from watchfloor.kql import KqlError, Pending
from watchfloor.kql.ranges import parse_range
from watchfloor.model.errors import InputError
from watchfloor.portal.wire import cell
from watchfloor.storage.compiler import KqlCompiler, catalogue, ticks
from watchfloor.storage.hunting import Hunter, Request
from watchfloor.storage.log import utc_now
from watchfloor.storage.ports import Limits, Scope


def sql(text: str, timespan: str) -> str:
    """The SQL that ``text`` becomes."""
    since, until = _range(timespan)
    found = KqlCompiler().analyze(text, Scope(), since=since, until=until)
    compiled = found.compiled if isinstance(found, Pending) else found
    shown = "".join(f"\n-- ${name} = {value!r}" for name, value in compiled.params.items())
    note = "\n-- asked first; the rest depends on its rows" if isinstance(found, Pending) else ""
    return compiled.sql + shown + note


def check(text: str) -> list[KqlError]:
    """Everything that is wrong with ``text``, by place."""
    from watchfloor import kql

    try:
        kql.analyze(text, catalogue(), kql.Scope(("default",)))
    except KqlError as error:
        return [error, *error.others]
    return []


def run(text: str, data: Path | None, timespan: str, timeout: float, max_rows: int) -> dict[str, Any]:
    """The rows of ``text`` from the event store of ``data``: through the store process that has it, else directly."""
    found = settings.load(os.environ, overrides={"data": data})
    since, until = _range(timespan)
    with open_event_store(found) as store:
        began = time.monotonic()
        request = Request(text, Scope(), Limits(timeout, max_rows), since=since, until=until, door="command line")
        hunted = Hunter(store).hunt(request)
    rows = [[cell(v, t) for v, (_, t) in zip(row, hunted.columns, strict=True)] for row in hunted.values()]
    return {"columns": hunted.columns, "rows": rows, "seconds": time.monotonic() - began}


def _range(timespan: str) -> tuple[int | None, int | None]:
    if not timespan:
        return None, None
    try:
        return parse_range(timespan, ticks(utc_now()))
    except ValueError as error:
        raise InputError(f"{error}.", where="--timespan") from None
