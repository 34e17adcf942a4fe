"""``watchfloor risk``: which users and agents are at risk, why, and that they are not.

Asks the server, as the portal does.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import click

from watchfloor.cli.api import ask, ask_all, connect, one_line, server_options

_KINDS = click.Choice(["user", "agent"])
_STATES = click.Choice(["atRisk", "confirmedCompromised", "confirmedSafe", "dismissed", "remediated"])


@click.group()
def risk() -> None:
    """See which users and agents are at risk and why, and say that they are not."""


@risk.command("list")
@click.option("--kind", type=_KINDS, help="Only these.")
@click.option("--state", type=_STATES, help="Only those in this state.")
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
    """Print everybody about whom something was ever seen: users, then agents."""
    filters = {name: value for name, value in (("kind", kind), ("state", state)) if value}
    with connect(server_url, token_file, data) as client:
        found = ask_all(client, "/api/risk", {**filters, "limit": 500})
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for item in found:
        since = f", since {item['updated_at'][:16]}" if item["updated_at"] else ""
        click.echo(f"{item['level']:6}  {item['state']}  {item['kind']} {one_line(item['id'])}{since}")


@risk.command()
@click.argument("kind", type=_KINDS)
@click.argument("subject_id")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def show(
    kind: str, subject_id: str, server_url: str | None, token_file: Path | None, data: Path | None, as_json: bool
) -> None:
    """Print the risk of one user or agent, its reasons, what was seen and how it came to that."""
    with connect(server_url, token_file, data) as client:
        found = ask(client, "GET", f"/api/risk/{kind}/{quote(subject_id, safe='')}")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    now = found["risk"]
    click.echo(f"{kind} {one_line(found['id'])} ({one_line(found['name'])}): {now['level']}, {now['state']}")
    for reason in now["reasons"]:
        click.echo(f"    {one_line(reason)}")
    if now["changes_at"]:
        click.echo(f"fades next at {now['changes_at'][:16]}, if nothing else happens")
    for change in found["history"]:
        click.echo(
            f"{change['at'][:16]}  {change['activity']}  {change['level']}, {change['state']}  "
            f"by {one_line(change['actor'])}: {one_line(change['because'])}"
        )


@risk.command()
@click.argument("kind", type=_KINDS)
@click.argument("subject_id")
@click.option("--reason", required=True, help="Why it counts for nothing; kept in the audit log.")
@server_options
def dismiss(
    kind: str, subject_id: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None
) -> None:
    """Say that nothing of what was seen counts. What is seen from now on counts again."""
    with connect(server_url, token_file, data) as client:
        ask(client, "POST", f"/api/risk/{kind}/{quote(subject_id, safe='')}/dismiss", {"reason": reason})
    click.echo(f"The risk of {kind} {one_line(subject_id)} is dismissed.")
