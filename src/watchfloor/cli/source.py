"""``watchfloor source``: who may send telemetry.

Asks the server, as the portal does; what a source may be, the server says. A token is printed once, alone on standard
output, so that a script can take it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from watchfloor.cli.api import ask, connect, one_line, server_options

_JSON = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")


@click.group()
def source() -> None:
    """Say who may send telemetry, and by which token."""


@source.command()
@click.argument("source_id", metavar="ID")
@click.option("--agent", "agents", multiple=True, required=True, help="Agent it may speak for; * for every agent.")
@click.option("--name", default="", help="Name for people.  [default: ID]")
@click.option("--description", default="", help="What it is.")
@click.option("--events-per-second", type=int, help="Its quota.  [default: 20000]")
@server_options
@_JSON
def create(
    source_id: str,
    agents: tuple[str, ...],
    name: str,
    description: str,
    events_per_second: int | None,
    server_url: str | None,
    token_file: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Add a source and print its token, which is shown once.

    --agent may be repeated.
    """
    body: dict[str, Any] = {"id": source_id, "agents": list(agents), "name": name, "description": description}
    if events_per_second is not None:
        body["events_per_second"] = events_per_second
    with connect(server_url, token_file, data) as client:
        _print_token(ask(client, "POST", "/api/sources", body), as_json)


@source.command("list")
@server_options
@_JSON
def list_all(server_url: str | None, token_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Print every source."""
    with connect(server_url, token_file, data) as client:
        found = ask(client, "GET", "/api/sources")["items"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for item in found:
        state = "" if item["is_enabled"] else "  disabled"
        agents = ", ".join(item["agents"])
        click.echo(f"{item['id']}  {item['events_per_second']} events/s  for {one_line(agents)}{state}")


@source.command()
@click.argument("source_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@server_options
def delete(source_id: str, yes: bool, server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Delete a source. Its token is refused at once; what it sent stays."""
    if not yes:
        click.confirm(f"Delete {source_id}? What still sends with its token is refused.", abort=True)
    with connect(server_url, token_file, data) as client:
        ask(client, "DELETE", f"/api/sources/{quote(source_id, safe='')}")
    click.echo(f"Deleted {source_id}.")


@source.command()
@click.argument("source_id", metavar="ID")
@server_options
@_JSON
def token(source_id: str, server_url: str | None, token_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Give a source a new token and print it, once. The one before is refused at once."""
    with connect(server_url, token_file, data) as client:
        _print_token(ask(client, "POST", f"/api/sources/{quote(source_id, safe='')}/token"), as_json)


def _print_token(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    click.echo(f"The token of {answer['id']}. It is shown once; send it as 'Authorization: Bearer …'.", err=True)
    click.echo(answer["token"])
