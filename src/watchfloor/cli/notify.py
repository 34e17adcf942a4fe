"""``watchfloor notify``: ask makers to mend their agents, and see how far that is.

Asks the server, as the portal does. What is wrong is found there: by a hunting template, a posture indicator, a query.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from watchfloor.cli.api import ask, connect, one_line, server_options


@click.group()
def notify() -> None:
    """Ask makers to mend their agents, and see how far that is."""


@notify.command("makers")
@click.option("--template", default="", help="What a hunting template finds.")
@click.option("--indicator", default="", help="What a posture indicator finds.")
@click.option("--query", default="", help="What a query finds that gives AgentId; --reason says what that is.")
@click.option("--agent", "agents", multiple=True, help="Only these agents; may be repeated.")
@click.option("--reason", default="", help="What is wrong, in words for the maker.")
@click.option("--note", default="", help="What the SOC adds.")
@click.option("--send", is_flag=True, help="Do it. Without it, only show who would be told what.")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def makers(
    template: str,
    indicator: str,
    query: str,
    agents: tuple[str, ...],
    reason: str,
    note: str,
    send: bool,
    server_url: str | None,
    token_file: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Show whom a notice would tell what; with --send, open it: one message for each maker."""
    body = {
        "template": template, "indicator": indicator, "query": query, "agent_ids": list(agents), "reason": reason,
        "note": note,
    }  # fmt: skip
    with connect(server_url, token_file, data) as client:
        answer = ask(client, "POST", "/api/notices" if send else "/api/notices/preview", body)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for maker in answer["makers"]:
        told = ", ".join(one_line(each["address"]) for each in maker["told"]) or "nobody by mail"
        click.echo(f"{maker['notice_id'] or 'new'}  {maker['maker_id'] or 'no maker'}: {told}")
        click.echo(f"    {', '.join(maker['agents'])}")
        if maker["problem"]:
            click.echo(f"    {one_line(maker['problem'])}")
    for skipped in answer["skipped"]:
        click.echo(f"left out  {one_line(skipped['agent_id'])}: {one_line(skipped['why'])}")
    if answer["problem"]:
        click.echo(one_line(answer["problem"]))
    if not send and answer["makers"]:
        click.echo("Nothing was sent. Add --send.")


@notify.command("list")
@click.option(
    "--state", type=click.Choice(["waiting", "sent", "acknowledged", "closed", "cancelled"]), help="Only these."
)
@click.option("--maker", default="", help="Only this maker's.")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def list_all(
    state: str | None, maker: str, server_url: str | None, token_file: Path | None, data: Path | None, as_json: bool
) -> None:
    """Print the latest notices and what of each is fixed, newest first."""
    asked = {name: value for name, value in (("state", state), ("maker", maker)) if value}
    with connect(server_url, token_file, data) as client:
        found: list[dict[str, Any]] = ask(client, "GET", f"/api/notices?{urlencode({**asked, 'limit': 200})}")["items"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for notice in found:
        fixed = sum(item["state"] == "fixed" for item in notice["items"])
        click.echo(
            f"{notice['id']}  {notice['state']}  {notice['maker_id'] or 'no maker'}  "
            f"{fixed} of {len(notice['items'])} fixed, {notice['reminders']} reminders"
        )
