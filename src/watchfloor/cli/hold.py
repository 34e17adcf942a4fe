"""``watchfloor hold``: held calls and their answers.

Asks the server, as the portal does; who may answer what, the server says. What a call would do is shown only on demand,
for reading it is recorded.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import click

from watchfloor.cli.api import ask, connect, one_line, server_options
from watchfloor.model.errors import InputError

_JSON = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
_REASON = click.option("--reason", default="", help="Why, for whoever reads the audit log.")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


def _path(hold_id: str, verb: str = "") -> str:
    return f"/api/holds/{quote(hold_id, safe='')}{verb and '/' + verb}"


def _line(item: dict[str, Any]) -> str:
    what = f"{item['agent_id']} -> {item['server_id']}/{item['tool']}"
    for_whom = f" for {item['user_id']}" if item["user_id"] else ""
    needed = f" ({len(item['approvals'])} of {item['approvals_needed']})" if item["approvals_needed"] > 1 else ""
    until = f" until {_short(item['expires_at'])}" if item["status"] in ("pending", "approved") else ""
    why = item["reason"] or ", ".join(item["policies"])
    return one_line(f"{item['id']}  {item['status']}{needed}{until}  {what}{for_whom}  {why}")


def _short(at: str) -> str:
    return datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


@click.group()
def hold() -> None:
    """See held calls, and let them out or not."""


@hold.command("list")
@click.option("--status", help="pending, approved, declined, revoked, expired, used or limited.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many, newest first.")
@server_options
@_JSON
def list_all(
    status: str | None, limit: int, server_url: str | None, token_file: Path | None, data: Path | None, as_json: bool
) -> None:
    """Print held calls, newest first."""
    query = urlencode({"limit": limit, **({"status": status} if status else {})})
    with connect(server_url, token_file, data) as client:
        found = ask(client, "GET", f"/api/holds?{query}")["items"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for item in found:
        click.echo(_line(item))


@hold.command()
@click.argument("hold_id", metavar="ID")
@click.option("--content", is_flag=True, help="With the call's arguments; reading them is recorded.")
@server_options
@_JSON
def show(
    hold_id: str, content: bool, server_url: str | None, token_file: Path | None, data: Path | None, as_json: bool
) -> None:
    """Print one held call."""
    with connect(server_url, token_file, data) as client:
        found = ask(client, "GET", _path(hold_id))
        if content:
            items = ask(client, "GET", _path(hold_id, "content"))["items"]
            found["arguments"] = next((c["Content"].get("arguments") for c in items if c["Kind"] == "invocation"), None)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(_line(found))
    for given in found["approvals"]:
        instead = f" for {given['instead_of']}" if given.get("instead_of") else ""
        click.echo(one_line(f"  approved by {given['by']}{instead} at {_short(given['at'])}  {given['reason']}"))
    if found["decided_by"] and found["status"] != "approved":
        click.echo(one_line(f"  {found['status']} by {found['decided_by']}  {found['answer']}"))
    if found["used_by"]:
        click.echo(f"  used by {found['used_by']}")
    if content:
        click.echo(json.dumps(found["arguments"], indent=2))


def _answer(
    verb: str, hold_id: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None
) -> None:
    with connect(server_url, token_file, data) as client:
        proof = ask(client, "POST", _path(hold_id, verb), {"reason": reason})["proof"]
    approvals = f", {proof['approvals']} approvals" if "approvals" in proof else ""
    until = f" until {_short(proof['valid_until'])}" if proof["status"] in ("pending", "approved") else ""
    click.echo(f"{hold_id}: {proof['status']}{until}{approvals}")


@hold.command()
@click.argument("hold_id", metavar="ID")
@_REASON
@server_options
def approve(hold_id: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Let exactly this call out, once."""
    _answer("approve", hold_id, reason, server_url, token_file, data)


@hold.command()
@click.argument("hold_id", metavar="ID")
@_REASON
@server_options
def decline(hold_id: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Refuse this call for good."""
    _answer("decline", hold_id, reason, server_url, token_file, data)


@hold.command()
@click.argument("hold_id", metavar="ID")
@_REASON
@server_options
def revoke(hold_id: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Take an approval back that was not used yet."""
    _answer("revoke", hold_id, reason, server_url, token_file, data)


@hold.command()
@click.option("--to", "to_operator", help="Operator who answers in your place.")
@click.option("--to-role", help="Role whose operators answer in your place.")
@click.option("--for", "span", required=True, help="How long: 90m, 8h, 14d.")
@_REASON
@server_options
@_JSON
def delegate(
    to_operator: str | None,
    to_role: str | None,
    span: str,
    reason: str,
    server_url: str | None,
    token_file: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Have somebody answer held calls in your place for a time."""
    number, unit = span[:-1], span[-1:]
    if unit not in _UNITS or not number.isdigit() or len(number) > 5:
        raise InputError(f"{span!r} is no span of time.", where="--for", remedy="Write 90m, 8h or 14d.")
    ends_at = datetime.now(UTC) + timedelta(**{_UNITS[unit]: int(number)})
    body = {"to_operator": to_operator, "to_role": to_role, "ends_at": ends_at.isoformat(), "reason": reason}
    with connect(server_url, token_file, data) as client:
        made = ask(client, "POST", "/api/holds/delegations", body)
    if as_json:
        click.echo(json.dumps(made, indent=2))
        return
    whom = made["to_operator"] or f"every {made['to_role']}"
    click.echo(f"{made['id']}: {whom} answers for {made['from_operator']} until {_short(made['ends_at'])}")
