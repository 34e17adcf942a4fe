"""``watchfloor idp``: identity providers that can be acted upon.

Asks the server, as the portal does. Connectors are declared in the manifest; here they are looked at and tried.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from watchfloor.cli.api import ask, connect, one_line, read_text, server_options

_STATE = (
    "is_enabled", "must_reset_password", "live_sessions", "sessions_valid_from", "password_changed_at", "risk",
)  # fmt: skip
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")


@click.group()
def idp() -> None:
    """See and try the connectors of identity providers."""


@idp.command("list")
@server_options
@_JSON
def list_all(server_url: str | None, token_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Print every identity provider, its connector, and how its directory was last read."""
    with connect(server_url, token_file, data) as client:
        found = ask(client, "GET", "/api/identity-providers")["items"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for item in found:
        connector = item["connector"]
        if connector is None:
            click.echo(f"{one_line(item['issuer'])}  no connector")
            continue
        read = (
            f"{connector['accounts']} accounts at {connector['synced_at']}"
            if connector["synced_at"]
            else "not read yet"
        )
        click.echo(f"{one_line(item['issuer'])}  {connector['kind']}  {read}")
        if connector["sync_problem"]:
            click.echo(f"  ! {one_line(connector['sync_problem'])}")


@idp.command()
@click.argument("issuer")
@click.option("--account", default="", help="Whose state to read: a subject as in tokens, or a user's id.")
@server_options
@_JSON
def test(
    issuer: str, account: str, server_url: str | None, token_file: Path | None, data: Path | None, as_json: bool
) -> None:
    """Try the connector of ISSUER: read an account's state, list the first accounts. Changes nothing.

    Exit status: 0 if every step went well, 1 if not.
    """
    with connect(server_url, token_file, data) as client:
        found = ask(client, "POST", "/api/identity-providers/test", {"issuer": issuer, "account": account})
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _show(found)
    if not found["ok"]:
        raise SystemExit(1)


@idp.command()
@click.argument("issuer")
@server_options
def sync(issuer: str, server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Read the directory of ISSUER now, and not only when its time has come."""
    with connect(server_url, token_file, data) as client:
        said = ask(client, "POST", "/api/identity-providers/sync", {"issuer": issuer})["said"]
    click.echo(f"{said} See: watchfloor idp list")


@idp.command()
@click.argument("issuer")
@click.option("--yes", is_flag=True, help="Do not ask.")
@server_options
def remove(issuer: str, yes: bool, server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Forget the connector of ISSUER with its secrets. Its users stay."""
    if not yes:
        click.confirm(f"Forget the connector of {issuer}? Nothing can be asked of it then.", abort=True)
    with connect(server_url, token_file, data) as client:
        ask(client, "POST", "/api/identity-providers/remove-connector", {"issuer": issuer})
    click.echo(f"Removed the connector of {issuer}.")


@idp.command("revoke-token")
@click.argument("issuer")
@click.option(
    "--file", "path", required=True, type=click.Path(dir_okay=False), help="File with the token; - for stdin."
)
@click.option("--reason", required=True, help="Why, for whoever reads the audit log.")
@server_options
def revoke_token(
    issuer: str, path: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None
) -> None:
    """End one token of ISSUER that was found where it does not belong (RFC 7009)."""
    token = (sys.stdin.read() if path == "-" else read_text(Path(path), "--file")).strip()
    with connect(server_url, token_file, data) as client:
        ask(
            client, "POST", "/api/identity-providers/revoke-token", {"issuer": issuer, "token": token, "reason": reason}
        )
    click.echo("The provider says that the token is ended.")


def _show(found: dict[str, Any]) -> None:
    click.echo(f"{one_line(found['issuer'])}  {found['kind'] or 'no connector'}")
    if found["abilities"]:
        click.echo(f"can: {', '.join(found['abilities'])}")
    for step in found["steps"]:
        click.echo(
            f"{'ok    ' if step['ok'] else 'FAILED'} {step['name']}"
            + (f": {one_line(step['said'])}" if step["said"] else "")
        )
    state = found["state"]
    if state is not None:
        for name in (
            "is_enabled",
            "must_reset_password",
            "live_sessions",
            "sessions_valid_from",
            "password_changed_at",
            "risk",
        ):
            click.echo(f"  {name}: {'cannot say' if state[name] is None else state[name]}")
        for name, value in state["detail"].items():
            click.echo(f"  {one_line(name)} = {one_line(value)}")
    for account in found["accounts"]:
        mark = "" if account["is_enabled"] else "  disabled"
        click.echo(f"  {one_line(account['subject'])}  {one_line(account['name'])}  {one_line(account['upn'])}{mark}")
