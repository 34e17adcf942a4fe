"""``watchfloor apply``: make the company what a manifest says it is.

Reads the manifest and the secrets it points to on this machine, asks the server what would change, shows that, asks,
and lets the server do it. What a manifest may hold is in docs/manifest.md; what is wrong with one, the server says.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
import httpx
from rich.console import Console
from rich.text import Text

from watchfloor import settings
from watchfloor.model.errors import Denied, InputError, Unavailable
from watchfloor.model.urls import outbound_problem
from watchfloor.registry.local_secrets import resolve_secrets

_COLOURS: Final = {"create": "green", "update": "yellow", "delete": "red"}
_TIMEOUT: Final = 120.0
_LONGEST_VALUE: Final = 120


@click.command()
@click.option("-f", "--file", "manifest", required=True, type=click.Path(dir_okay=False), help="Manifest; - for stdin.")
@click.option("--server", "server_url", help="URL of the server; by default the one on this machine.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with an API token; by default this machine's run/admin.token in the data directory.",
)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory of the installation.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON; implies --yes.")
def apply(
    manifest: str, server_url: str | None, token_file: Path | None, data: Path | None, yes: bool, as_json: bool
) -> None:
    """Create or update a company from a manifest.

    Shows what would change and asks before it does. Applying the same manifest again changes nothing. Exit status: 0
    done, or nothing to do; 1 refused, by the server or by you.
    """
    found = settings.load(os.environ, overrides={"data": data})
    server = (server_url or _running_server(found.data) or found.effective_server_url).rstrip("/")
    problem = outbound_problem(server, require_tls=True)
    if problem:
        raise InputError(problem, where="--server", remedy="A token and secrets are sent there.")
    text = _manifest_text(manifest)
    token = _read(token_file or found.data / "run" / "admin.token", "--token-file").strip()
    headers = {"authorization": f"Bearer {token}"}
    console = Console(stderr=as_json, highlight=False)
    with httpx.Client(base_url=server, headers=headers, timeout=_TIMEOUT, trust_env=False) as client:
        plan = _post(client, "/api/manifests/plan", {"manifest": text})
        if plan["changes"]:
            if not as_json:
                show_plan(console, plan)
                if not yes and not click.confirm("Apply these changes?", default=False):
                    raise SystemExit(1)
            plan = _post(client, "/api/manifests/apply", {"manifest": text, "expected": plan["digest"]})
    if as_json:
        click.echo(json.dumps(plan, indent=2))
        return
    if plan["changes"]:
        console.print(f"Applied: {_summary(plan)}.")
        return
    _show_warnings(console, plan)
    console.print("Nothing to do: the company is what the manifest says.")


def show_plan(console: Console, plan: Mapping[str, Any]) -> None:
    """Print a plan: what is created, changed and deleted, field by field."""
    for change in plan["changes"]:
        colour = _COLOURS[change["action"]]
        console.print(Text(f"{change['sign']} {change['kind']} {change['id']}", style=f"bold {colour}"))
        for field in change["fields"]:
            line = Text(f"    {field['name']}: ", style="dim")
            if change["action"] == "update":
                line.append(_value(field["before"]), style="red").append(" → ", style="dim")
            shown = field["before"] if change["action"] == "delete" else field["after"]
            line.append(_value(shown), style=colour if change["action"] != "update" else "green")
            console.print(line)
    _show_warnings(console, plan)
    console.print(f"\n{_summary(plan)}.")


def _show_warnings(console: Console, plan: Mapping[str, Any]) -> None:
    for warning in plan["warnings"]:
        console.print(Text(f"! {warning}", style="yellow"))


def _summary(plan: Mapping[str, Any]) -> str:
    summary = plan["summary"]
    return f"{summary['create']} to create, {summary['update']} to change, {summary['delete']} to delete"


def _value(value: Any) -> str:
    """One line, no control characters: what a manifest says must not move the cursor of whoever reads it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _running_server(data: Path) -> str | None:
    """Where the server of this data directory is, if ``watchfloor up`` runs it: its ports may have come as options."""
    try:
        return str(json.loads((data / "run" / "up.json").read_text("utf-8"))["server"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _manifest_text(manifest: str) -> str:
    if manifest == "-":
        text, folder = sys.stdin.read(), Path.cwd()
    else:
        text, folder = _read(Path(manifest), "--file"), Path(manifest).parent

    def file(path: str) -> str | None:
        try:
            # Editors end a file with a line end; a secret does not.
            return (folder / path).expanduser().read_text("utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError):
            return None

    return resolve_secrets(text, variable=os.environ.get, file=file)


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"cannot read {path}: {reason}.", where=option) from error


def _post(client: httpx.Client, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    try:
        response = client.post(path, json=body)
        answer = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable(
            f"{client.base_url} does not answer as a Watchfloor server would: {error}. Is it up? (watchfloor up)"
        ) from error
    if response.is_success and isinstance(answer, dict):
        return answer
    message = _message(answer) or f"the server answered {response.status_code}"
    if response.status_code in (401, 403):
        raise Denied(message)
    raise InputError(message)


def _message(answer: Any) -> str:
    """What a refusal (RFC 9457) says; of a manifest with several problems, all of them."""
    if not isinstance(answer, dict):
        return ""
    problems = [p for p in answer.get("errors", ()) if isinstance(p, dict)]
    if not problems:
        problems = [{"message": answer.get("detail") or answer.get("title") or "", **answer}]
    return "\n".join(_problem(p) for p in problems)


def _problem(problem: Mapping[str, Any]) -> str:
    where = str(problem.get("where") or "")
    line = f" (line {problem['line']})" if problem.get("line") else ""
    said = " ".join(str(part) for part in (problem.get("message"), problem.get("remedy")) if part)
    return f"{where}{line}: {said}" if where else said
