"""What ``watchfloor kql run --server`` does: ask the control plane, as any client would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from watchfloor.cli.api import ask, connect


def run(
    server: str, token_file: Path | None, data: Path | None, text: str, timespan: str, timeout: float, max_rows: int
) -> dict[str, Any]:
    """The rows of ``text`` from the control plane at ``server``; by default as this machine's administrator.

    Raises ``InputError`` with its place for a wrong query, as a local run does.
    """
    body = {"query": text, "timespan": timespan or None, "timeout_seconds": timeout, "max_rows": max_rows}
    # A query may wait as long for its turn as it may run.
    with connect(server, token_file, data, timeout=timeout * 2 + 10) as client:
        answer = ask(client, "POST", "/api/hunting/run", body)
    columns = [(column["name"], column["type"]) for column in answer["columns"]]
    return {"columns": columns, "rows": answer["rows"], "seconds": answer["seconds"]}
