"""``watchfloor sighting``: who was seen at work and is not in the registry.

Asks the server, as the portal does. What to do about a sighting is said through the API.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from watchfloor.cli.api import ask_all, connect, one_line, server_options


@click.group()
def sighting() -> None:
    """See which agents and tool servers are at work that nobody registered."""


@sighting.command("list")
@click.option("--kind", type=click.Choice(["agent", "server"]), help="Only these.")
@click.option("--state", type=click.Choice(["shadow", "adopted", "dismissed"]), help="Only those in this state.")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def list_all(
    kind: str | None,
    state: str | None,
    server_url: str | None,
    token_file: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Print every sighting and why it counts as one, the latest find first."""
    filters = {name: value for name, value in (("kind", kind), ("state", state)) if value}
    with connect(server_url, token_file, data) as client:
        found = ask_all(client, "/api/sightings", {**filters, "limit": 1000})
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for item in found:
        seen = f"{item['events']} events, last {item['last_seen'][:16]}"
        click.echo(f"{item['state']}  {item['kind']}  {one_line(item['key'])}  {seen}\n    {one_line(item['reason'])}")
