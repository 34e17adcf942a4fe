"""What ``watchfloor kql run --server`` does: ask the control plane, as any client would."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx

from watchfloor import settings
from watchfloor.model.errors import InputError, Unavailable, WatchfloorError
from watchfloor.model.urls import outbound_problem


def run(
    server: str, token_file: Path | None, data: Path | None, text: str, timespan: str, timeout: float, max_rows: int
) -> dict[str, Any]:
    """The rows of ``text`` from the control plane at ``server``; by default as this machine's administrator.

    Raises ``InputError`` with its place for a wrong query, as a local run does.
    """
    if problem := outbound_problem(server, require_tls=True):
        raise InputError(problem, where="--server", remedy="A token is sent there.")
    path = token_file or settings.load(os.environ, overrides={"data": data}).data / "run" / "admin.token"
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read.", where="--token-file") from error
    body = {"query": text, "timespan": timespan or None, "timeout_seconds": timeout, "max_rows": max_rows}
    headers = {"authorization": f"Bearer {token}"}
    # A query may wait as long for its turn as it may run.
    with httpx.Client(base_url=server, headers=headers, timeout=timeout * 2 + 10, trust_env=False) as client:
        try:
            response = client.post("/api/hunting/run", json=body)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"{server} does not answer as a Watchfloor server would: {error}.") from error
    if response.is_success and isinstance(answer, dict):
        columns = [(column["name"], column["type"]) for column in answer["columns"]]
        return {"columns": columns, "rows": answer["rows"], "seconds": answer["seconds"]}
    found = answer if isinstance(answer, dict) else {}
    detail = str(found.get("detail") or f"{server} answers with status {response.status_code}.")
    if found.get("where"):
        raise InputError(detail, where=str(found["where"]), remedy=str(found.get("remedy", "")))
    raise WatchfloorError(detail)
