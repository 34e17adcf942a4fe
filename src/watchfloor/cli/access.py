"""``watchfloor access``: policies of conditional access, from a shell: list, apply, export, what-if.

Asks a server, as any client would. Files are YAML or JSON: policies as Watchfloor writes them, or as Entra
exports them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
import httpx
import yaml

from watchfloor.cli.api import ask, connect, one_line, read_text, server_options
from watchfloor.model.errors import InputError

_LOOK_SECONDS: Final = 0.5
_PAGE: Final = 1000
_MOST_SHOWN: Final = 50
_FILES = click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
_SENDS: Final = "Policies and a token are"


@click.group()
def access() -> None:
    """List, apply, export and try policies of conditional access."""


@access.command("list")
@server_options
def list_policies(server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Print every policy: id, version, state, name."""
    with connect(server_url, token_file, data) as client:
        found = ask(client, "GET", "/api/access/policies")["items"]
    for policy in found:
        said = f"{policy['id']:24} {policy['version']:>3}  {policy['state']:36} {policy['display_name']}"
        click.echo(one_line(said))


@access.command()
@_FILES
@click.option("--confirm", is_flag=True, help="Publish what would lock people out all the same.")
@click.option("--dry-run", is_flag=True, help="Only say what would come of it.")
@server_options
def apply(
    files: tuple[Path, ...],
    confirm: bool,
    dry_run: bool,
    server_url: str | None,
    token_file: Path | None,
    data: Path | None,
) -> None:
    """Publish the policies in FILES, as Watchfloor writes them or as Entra exports them.

    What a policy of Entra says and cannot be enforced here is told; such a policy only reports.
    """
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    for path in files:
        for body in _read(path):
            (theirs if is_graph(body) else ours).append(body)
    failed = 0
    with connect(server_url, token_file, data, sends=_SENDS) as client:
        if theirs:
            sent = {"policies": theirs, "dry_run": dry_run, "confirm": confirm}
            for found in ask(client, "POST", "/api/access/import", sent)["items"]:
                failed += _tell_import(found, is_dry=dry_run)
        for body in ours:
            failed += _publish(client, body, confirm=confirm, dry_run=dry_run)
    if failed:
        raise SystemExit(1)


def _publish(client: httpx.Client, body: Mapping[str, Any], *, confirm: bool, dry_run: bool) -> int:
    name = str(body.get("id", ""))
    if dry_run:
        found = ask(client, "POST", "/api/access/policies/check", body)
        for problem in found["problems"]:
            click.echo(one_line(f"{name}: {problem['where']}: {problem['message']} {problem['remedy']}"))
        if found["ok"]:
            click.echo(f"{name}: fine")
        return int(not found["ok"])
    if not name or "/" in name:
        raise InputError("a policy needs an id.", where="id")
    done = ask(client, "PUT", f"/api/access/policies/{name}{'?confirm=true' if confirm else ''}", body)
    click.echo(one_line(f"{name}: version {done['version']}, {done['state']}"))
    for warning in done["warnings"]:
        click.echo(one_line(f"    {warning}"))
    return 0


def _tell_import(found: Mapping[str, Any], *, is_dry: bool) -> int:
    outcome = found["state"] if found["imported"] or (is_dry and found["state"]) else "not imported"
    click.echo(one_line(f"{found['id']}: {outcome}  {found['display_name']}"))
    for problem in found["problems"]:
        click.echo(one_line(f"    {problem['where']}: {problem['message']} {problem['remedy']}"))
    for place, value in sorted(found["unenforced"].items()):
        click.echo(one_line(f"    cannot be enforced here: {place} = {json.dumps(value)}"))
    for warning in found["warnings"]:
        click.echo(one_line(f"    {warning}"))
    return int(bool(found["problems"]))


@access.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to; by default the terminal.")
@server_options
def export(output: Path | None, server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Write every policy as Entra has them (Graph's conditionalAccessPolicy), as JSON."""
    with connect(server_url, token_file, data) as client:
        text = json.dumps(ask(client, "GET", "/api/access/export"), indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, "utf-8")


@access.command("what-if")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--days", default=30, show_default=True, help="How many of the past days.")
@click.option("--agent", default="", help="Ask about one sign-in instead: with this agent …")
@click.option("--user", default="", help="… for this user (id, principal name or object id) …")
@click.option("--at", default="", help="… at this tool server, or tool: SERVER or SERVER/TOOL.")
@server_options
def what_if(
    files: tuple[Path, ...],
    days: int,
    agent: str,
    user: str,
    at: str,
    server_url: str | None,
    token_file: Path | None,
    data: Path | None,
) -> None:
    """Print whom the policies in FILES would have hit in the past days, as if they were enabled.

    Without FILES: the policies that are there, report-only ones too. Ctrl-C cancels it. Nothing is stored. With
    --agent: what they say to one sign-in, made now with a password, each with why.
    """
    if (user or at) and not agent:
        raise InputError("a sign-in needs an agent.", where="--agent", remedy="--agent ID")
    bodies = [body for path in files for body in _read(path)]
    if any(is_graph(body) for body in bodies):
        raise InputError("this asks about policies as Watchfloor writes them.", where="FILES", remedy="Apply it first, "
                         "as report-only; then ask without FILES.")  # fmt: skip
    with connect(server_url, token_file, data, sends=_SENDS) as client:
        if agent:
            server, _, tool = at.partition("/")
            asked = {"agent": agent, "user": user or None, "server": server, "tool": tool, "policies": bodies}
            _tell_sign_in(ask(client, "POST", "/api/access/evaluate", asked))
            return
        run = ask(client, "POST", "/api/access/what-if", {"policies": bodies, "days": days})
        try:
            while run["state"] in ("queued", "running"):
                click.echo(f"\r{(run['progress'] or 0):4.0%}", nl=False, err=True)
                time.sleep(_LOOK_SECONDS)
                run = ask(client, "GET", f"/api/hunting/runs/{run['id']}")
        except KeyboardInterrupt:
            ask(client, "DELETE", f"/api/hunting/runs/{run['id']}")
            click.echo("\rcancelled", err=True)
            raise SystemExit(130) from None
        click.echo("\r", nl=False, err=True)
        if run["state"] != "done":
            raise InputError(run["error"] or f"the run was {run['state']}.", where="what-if")
        page = ask(client, "GET", f"/api/hunting/runs/{run['id']}/rows?after=0&limit={_PAGE}")
    names = [column["name"] for column in page["columns"]]
    for row in page["rows"][:_MOST_SHOWN]:
        hit = dict(zip(names, row, strict=True))
        who = hit["AccountUpn"] or hit["UserId"] or "the agent itself"
        where = f"{hit['AgentId']} -> {hit['ServerId']}/{hit['ToolName']}"
        click.echo(one_line(f"{hit['Timestamp'][:16]}  {hit['PolicyId']:20} {hit['Control']:15} {who}  {where}"))
    if run["rows"] > _MOST_SHOWN:
        click.echo(f"… and {run['rows'] - _MOST_SHOWN} more")
    for note in run["notes"]:
        click.echo(one_line(note))


def _tell_sign_in(said: Mapping[str, Any]) -> None:
    code = f" ({said['reason_code']})" if said["reason_code"] else ""
    click.echo(f"{said['control']}{code}")
    for policy in said["policies"]:
        outcome = policy["control"] if policy["applies"] else "does not apply"
        because = ", ".join(policy["because"])
        click.echo(one_line(f"    {policy['id']:24} {policy['state']:36} {outcome:15} {because}"))


def is_graph(body: Mapping[str, Any]) -> bool:
    """Whether ``body`` is a policy as Graph writes it: its conditions name applications, or users Graph's way."""
    conditions = body.get("conditions")
    if not isinstance(conditions, Mapping):
        return "createdDateTime" in body
    users = conditions.get("users")
    return (
        "applications" in conditions
        or "clientAppTypes" in conditions
        or (isinstance(users, Mapping) and any(name.endswith("Users") for name in users))
    )


def _read(path: Path) -> list[dict[str, Any]]:
    """The policies in a file: one, a list, or an answer of Graph with ``value``. Raises ``InputError``."""
    try:
        documents = list(yaml.safe_load_all(read_text(path, "FILES")))
    except yaml.YAMLError as error:
        raise InputError(f"this is neither YAML nor JSON: {error}", where=path.name) from error
    found: list[dict[str, Any]] = []
    for document in documents:
        inner = document.get("value", document) if isinstance(document, dict) else document
        for body in inner if isinstance(inner, list) else [inner]:
            if not isinstance(body, dict):
                raise InputError("this holds something that is no policy.", where=path.name)
            found.append(body)
    return found
