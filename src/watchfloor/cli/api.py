"""The server's API, as commands ask it: where the server is, by which token, and what a refusal says.

Below the commands, above HTTP. Nothing is asked before a command calls ``ask``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import click
import httpx

from watchfloor import settings
from watchfloor.model.errors import Denied, InputError, Unavailable, WatchfloorError
from watchfloor.model.urls import outbound_problem

_TIMEOUT: Final = 120.0


def server_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that asks the server; its parameters are ``server_url``, ``token_file`` and ``data``."""
    for option in (
        click.option(
            "--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory of the installation."
        ),
        click.option(
            "--token-file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="File with an API token; by default this machine's run/admin.token in the data directory.",
        ),
        click.option("--server", "server_url", help="URL of the server; by default the one on this machine."),
    ):
        command = option(command)
    return command


def connect(
    server_url: str | None,
    token_file: Path | None,
    data: Path | None,
    *,
    sends: str = "A token is",
    timeout: float = _TIMEOUT,
) -> httpx.Client:
    """A client of the server, to be closed; by default of the one on this machine, as its administrator.

    ``sends`` begins the sentence on why it must not be overheard. Raises ``InputError``.
    """
    found = settings.load(os.environ, overrides={"data": data})
    server = (server_url or _running_server(found.data) or found.effective_server_url).rstrip("/")
    problem = outbound_problem(server, require_tls=True)
    if problem:
        raise InputError(problem, where="--server", remedy=f"{sends} sent there.")
    token = read_text(token_file or found.data / "run" / "admin.token", "--token-file").strip()
    headers = {"authorization": f"Bearer {token}"}
    return httpx.Client(base_url=server, headers=headers, timeout=timeout, trust_env=False)


def read_text(path: Path, option: str) -> str:
    """The text of a file that ``option`` names. Raises ``InputError``."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"cannot read {path}: {reason}.", where=option) from error


def ask(client: httpx.Client, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The server's answer; empty where it has none to give. Raises ``Denied``, ``InputError``, ``Unavailable``."""
    try:
        response = client.request(method, path, json=body)
        answer = response.json() if response.content else {}
    except (httpx.HTTPError, ValueError) as error:
        raise no_server(client, error) from error
    if response.is_success and isinstance(answer, dict):
        return answer
    raise refusal(response.status_code, answer)


def ask_all(client: httpx.Client, path: str, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every item of a list that comes in pages. Raises as ``ask``."""
    found: list[dict[str, Any]] = []
    before = ""
    while True:
        page = ask(client, "GET", f"{path}?{urlencode({**asked, 'before': before})}")
        found += page["items"]
        before = page["next"] or ""
        if not before:
            return found


def ask_list(client: httpx.Client, path: str, body: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """An answer that is a list; with a ``body`` it is posted. Raises as ``ask``."""
    try:
        response = client.get(path) if body is None else client.post(path, json=body)
        answer = response.json() if response.content else []
    except (httpx.HTTPError, ValueError) as error:
        raise no_server(client, error) from error
    if response.is_success and isinstance(answer, list):
        return answer
    raise refusal(response.status_code, answer)


def no_server(client: httpx.Client, error: Exception) -> Unavailable:
    """What to say where nothing answers, or something else does."""
    return Unavailable(
        f"{client.base_url} does not answer as a Watchfloor server would: {error}. Is it up? (watchfloor up)"
    )


def refusal(status: int, answer: Any) -> WatchfloorError:
    """What a refusal (RFC 9457) says, with places and remedies; of several problems, all of them."""
    found = answer if isinstance(answer, dict) else {}
    problems = [_problem(p) for p in found.get("errors", ()) if isinstance(p, dict)]
    error = _problem({**found, "message": found.get("detail") or found.get("title")})
    if status in (401, 403):
        return Denied(str(error) or f"the server answered {status}")
    if problems:
        return problems[0] if len(problems) == 1 else InputError("\n".join(map(str, problems)))
    return error if error.message else InputError(f"the server answered {status}")


def one_line(text: str) -> str:
    """One line, no control characters: what others wrote must not move the cursor of whoever reads it."""
    return "".join(c if c.isprintable() else " " for c in text)


def _running_server(data: Path) -> str | None:
    """Where the server of this data directory is, if ``watchfloor up`` runs it: its ports may have come as options."""
    try:
        return str(json.loads((data / "run" / "up.json").read_text("utf-8"))["server"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _problem(problem: Mapping[str, Any]) -> InputError:
    where = str(problem.get("where") or "")
    line = f" (line {problem['line']})" if where and problem.get("line") else ""
    remedy = str(problem.get("remedy") or "")
    return InputError(str(problem.get("message") or ""), where=where + line, remedy=remedy)
