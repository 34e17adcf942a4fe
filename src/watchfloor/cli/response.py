"""``watchfloor response``: confirm that somebody or something is compromised, and see what came of it, step by step.

Asks the server, as the portal does; who may do what, the server says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import click

from watchfloor.cli.api import ask, connect, one_line, server_options

_JSON = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
_REASON = click.option("--reason", required=True, help="Why, for whoever reads the audit log.")
_INCIDENT = click.option("--incident", help="The incident that it is part of.")
_PLURAL: Final = {"user": "users", "agent": "agents", "server": "servers"}
_KINDS: Final = click.Choice(tuple(_PLURAL))


def _line(item: dict[str, Any]) -> str:
    ended = f", {item['outcome']}" if item["outcome"] != "open" else ""
    return one_line(
        f"{item['id']}  {item['status']}{ended}  {item['title']}: {item['subject_id']}  by {item['opened_by']}: "
        f"{item['reason']}"
    )


def _print(item: dict[str, Any]) -> None:
    click.echo(_line(item))
    for why in item["needs_approval"] if item["status"] == "waiting_for_approval" else ():
        click.echo(one_line(f"  needs a second operator: {why}"))
    for step in item["steps"]:
        tried = f" (attempt {step['attempts']})" if step["attempts"] > 1 else ""
        error = f"  {step['error']}" if step["error"] else ""
        click.echo(one_line(f"  {step['state']:>20}{tried}  {step['title']}{error}"))
        for name, value in step["evidence"].items():
            if isinstance(value, dict) and "says" in value:
                shown = {True: "shown", False: "not so", None: "not said"}[value.get("shown")]
                value = f"{value['says']} ({shown})"
            click.echo(one_line(f"{'':24}{name}: {value}"))


@click.group()
def response() -> None:
    """Confirm compromises, and see every step."""


@response.command("list")
@click.option("--incident", default="", help="Of this incident alone.")
@click.option("--subject", default="", help="About this user, agent or tool server alone.")
@click.option("--status", default="", help="running, waiting_for_approval, done, failed, declined or expired.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many, newest first.")
@server_options
@_JSON
def list_all(
    incident: str,
    subject: str,
    status: str,
    limit: int,
    server_url: str | None,
    token_file: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Print responses, newest first."""
    wanted = {"incident": incident, "subject": subject, "status": status, "limit": limit}
    query = urlencode({name: value for name, value in wanted.items() if value})
    with connect(server_url, token_file, data) as client:
        found = ask(client, "GET", f"/api/responses?{query}")["items"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for item in found:
        click.echo(_line(item))


@response.command()
@click.argument("response_id", metavar="ID")
@server_options
@_JSON
def show(response_id: str, server_url: str | None, token_file: Path | None, data: Path | None, as_json: bool) -> None:
    """Print one response with its steps and what was read back."""
    with connect(server_url, token_file, data) as client:
        found = ask(client, "GET", f"/api/responses/{quote(response_id, safe='')}")
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _print(found)


@response.command()
@click.argument("kind", type=_KINDS)
@click.argument("subject_id", metavar="ID")
@_REASON
@_INCIDENT
@click.option("--revoke-children", is_flag=True, help="Of an agent: block its child agents, too.")
@server_options
def confirm(
    kind: str,
    subject_id: str,
    reason: str,
    incident: str | None,
    revoke_children: bool,
    server_url: str | None,
    token_file: Path | None,
    data: Path | None,
) -> None:
    """Confirm that a user, an agent or a tool server is compromised."""
    body: dict[str, Any] = {"reason": reason, "incident_id": incident}
    if revoke_children:
        body["revoke_children"] = True
    with connect(server_url, token_file, data) as client:
        path = f"/api/{_PLURAL[kind]}/{quote(subject_id, safe='')}/confirm-compromised"
        proof = ask(client, "POST", path, body)["proof"]
        _print(ask(client, "GET", f"/api/responses/{proof['response']}"))


@response.command()
@click.argument("kind", type=click.Choice(("agent", "server")))
@click.argument("subject_id", metavar="ID")
@_REASON
@server_options
def release(
    kind: str, subject_id: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None
) -> None:
    """Let an agent or a tool server work again."""
    with connect(server_url, token_file, data) as client:
        proof = ask(client, "POST", f"/api/{_PLURAL[kind]}/{quote(subject_id, safe='')}/release", {"reason": reason})
    click.echo(one_line(f"{kind} {subject_id}: {proof['proof']['state']}"))


@response.command()
@click.argument("user_id", metavar="USER")
@click.option("--remediated", is_flag=True, help="It was a compromise and is over; without this: it was none.")
@_REASON
@server_options
def dismiss(
    user_id: str, remediated: bool, reason: str, server_url: str | None, token_file: Path | None, data: Path | None
) -> None:
    """Lift a user's risk. Sessions that ended stay dead."""
    verb = "remediate-risk" if remediated else "dismiss-risk"
    with connect(server_url, token_file, data) as client:
        proof = ask(client, "POST", f"/api/users/{quote(user_id, safe='')}/{verb}", {"reason": reason})["proof"]
        _print(ask(client, "GET", f"/api/responses/{proof['response']}"))


def _decide(
    verb: str, response_id: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None
) -> None:
    path = f"/api/responses/{quote(response_id, safe='')}"
    with connect(server_url, token_file, data) as client:
        ask(client, "POST", f"{path}/{verb}", {"reason": reason})
        _print(ask(client, "GET", path))


@response.command()
@click.argument("response_id", metavar="ID")
@_REASON
@server_options
def approve(response_id: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Carry out what a colleague asked for."""
    _decide("approve", response_id, reason, server_url, token_file, data)


@response.command()
@click.argument("response_id", metavar="ID")
@_REASON
@server_options
def decline(response_id: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None) -> None:
    """Refuse what was asked for."""
    _decide("decline", response_id, reason, server_url, token_file, data)


@response.command()
@click.argument("response_id", metavar="ID")
@click.argument("step")
@click.option("--reason", default="", help="Why, for whoever reads the audit log.")
@server_options
def retry(
    response_id: str, step: str, reason: str, server_url: str | None, token_file: Path | None, data: Path | None
) -> None:
    """Try a step again that failed or was skipped."""
    _decide(f"steps/{quote(step, safe='')}/retry", response_id, reason, server_url, token_file, data)
