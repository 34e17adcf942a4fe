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
from rich.console import Console
from rich.text import Text

from watchfloor.cli.api import ask, connect, read_text, server_options
from watchfloor.registry.local_secrets import resolve_secrets

_COLOURS: Final = {"create": "green", "update": "yellow", "delete": "red"}
_LONGEST_VALUE: Final = 120


@click.command()
@click.option("-f", "--file", "manifest", required=True, type=click.Path(dir_okay=False), help="Manifest; - for stdin.")
@server_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON; implies --yes.")
def apply(
    manifest: str, server_url: str | None, token_file: Path | None, data: Path | None, yes: bool, as_json: bool
) -> None:
    """Create or update a company from a manifest.

    Shows what would change and asks before it does. Applying the same manifest again changes nothing. Exit status: 0
    done, or nothing to do; 1 refused, by the server or by you.
    """
    text = _manifest_text(manifest)
    console = Console(stderr=as_json, highlight=False)
    with connect(server_url, token_file, data, sends="A token and secrets are") as client:
        plan = ask(client, "POST", "/api/manifests/plan", {"manifest": text})
        if plan["changes"]:
            if not as_json:
                show_plan(console, plan)
                if not yes and not click.confirm("Apply these changes?", default=False):
                    raise SystemExit(1)
            plan = ask(client, "POST", "/api/manifests/apply", {"manifest": text, "expected": plan["digest"]})
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


def _manifest_text(manifest: str) -> str:
    if manifest == "-":
        text, folder = sys.stdin.read(), Path.cwd()
    else:
        text, folder = read_text(Path(manifest), "--file"), Path(manifest).parent

    def file(path: str) -> str | None:
        try:
            # Editors end a file with a line end; a secret does not.
            return (folder / path).expanduser().read_text("utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError):
            return None

    return resolve_secrets(text, variable=os.environ.get, file=file)
