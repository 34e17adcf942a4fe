"""``watchfloor playbook``: see, test, switch and run playbooks.

``test`` needs no server; the others ask one, as the portal does; who may do what, the server says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import yaml

from watchfloor.cli.api import ask, ask_list, connect, one_line, read_text, server_options
from watchfloor.model.errors import InputError
from watchfloor.response.playbook import Playbook, parse, run_tests, shipped

_JSON = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")


def _read(path: Path) -> Playbook:
    try:
        body = yaml.safe_load(read_text(path, "FILES"))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {error}.", where="FILES") from error
    return parse(body, str(path))


@click.group()
def playbook() -> None:
    """See, test, switch and run playbooks."""


@playbook.command("list")
@server_options
@_JSON
def list_all(server_url: str | None, token_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Print every playbook and how it is switched."""
    with connect(server_url, token_file, data) as client:
        found = ask_list(client, "/api/playbooks")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for item in found:
        state = item["approval"] if item["is_enabled"] else "off"
        mode = {"required": "proposes", "automatic": "acts by itself", "off": "off"}[state]
        click.echo(one_line(f"{item['id']:36} {mode:16} about a {item['about']:8} {item['title']}"))


@playbook.command("test")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def test(files: tuple[Path, ...]) -> None:
    """Try every row of `tests:` of the playbooks in FILES; without FILES, of those that come with the product."""
    found = [_read(path) for path in files] if files else list(shipped().values())
    failed = rows = 0
    for each in found:
        for outcome in run_tests(each):
            rows += 1
            if not outcome.is_passed:
                failed += 1
                expected, got = ", ".join(outcome.expected) or "nobody", ", ".join(outcome.got) or "nobody"
                click.echo(one_line(f"{each.id}: {outcome.name}: expected {expected}, got {got}"))
    click.echo(f"{len(found)} playbooks, {rows} rows, {failed} failed")
    if failed:
        raise SystemExit(1)


@playbook.command()
@click.argument("what", metavar="ID|FILE")
@click.option("--incident", default="", help="About this incident; a dry run looks at all open ones without it.")
@click.option("--dry-run", is_flag=True, help="Say what it would do, and do nothing.")
@click.option("--reason", default="", help="Why, for whoever reads the audit log.")
@server_options
@_JSON
def run(
    what: str,
    incident: str,
    dry_run: bool,
    reason: str,
    server_url: str | None,
    token_file: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Run a playbook about an incident, or say what it would do."""
    if not dry_run:
        if not incident:
            raise InputError("name the incident.", where="--incident", remedy="Or ask with --dry-run.")
        with connect(server_url, token_file, data) as client:
            path = f"/api/playbooks/{quote(what, safe='')}/run"
            done = ask(client, "POST", path, {"incident_id": incident, "reason": reason})
        planned: list[dict[str, Any]] = [{"incident_id": incident, "title": done["id"], "items": done["items"]}]
    else:
        file = Path(what)
        asked = {"text": read_text(file, "FILE")} if file.suffix in (".yaml", ".yml") else {"id": what}
        with connect(server_url, token_file, data) as client:
            planned = ask_list(client, "/api/playbooks/dry-run", {**asked, "incident_id": incident})
    if as_json:
        click.echo(json.dumps(planned, indent=2))
        return
    for each in planned:
        click.echo(one_line(f"{each['incident_id']}  {each['title']}"))
        for item in each["items"]:
            note = f"  {item['note']}" if item["note"] else ""
            click.echo(one_line(f"  {item['state']:12} {item['action']}: {item['subject_id']}{note}"))
    if not planned:
        click.echo("It is about no open incident.")


@playbook.command()
@click.argument("playbook_id", metavar="ID")
@click.option("--on/--off", "is_enabled", default=None, help="Whether it is looked at at all.")
@click.option("--approval", type=click.Choice(("required", "automatic")), help="Whether it proposes or acts by itself.")
@click.option("--reason", required=True, help="Why, for whoever reads the audit log.")
@server_options
def switch(
    playbook_id: str,
    is_enabled: bool | None,
    approval: str | None,
    reason: str,
    server_url: str | None,
    token_file: Path | None,
    data: Path | None,
) -> None:
    """Switch a playbook on or off, or let it act by itself."""
    body = {"is_enabled": is_enabled, "approval": approval, "reason": reason}
    with connect(server_url, token_file, data) as client:
        found = ask(client, "PATCH", f"/api/playbooks/{quote(playbook_id, safe='')}", body)
    click.echo(one_line(f"{found['id']}: {'on' if found['is_enabled'] else 'off'}, approval {found['approval']}"))


@playbook.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@server_options
def save(file: Path, server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Check the playbook in FILE, and give it to the server."""
    _read(file)
    with connect(server_url, token_file, data) as client:
        found = ask(client, "POST", "/api/playbooks", {"text": read_text(file, "FILE")})
    click.echo(one_line(f"{found['id']}: saved, approval {found['approval']}"))
