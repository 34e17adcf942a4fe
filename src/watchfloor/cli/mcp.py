"""``watchfloor mcp``: tools for MCP servers; ``wrap`` guards one that speaks over standard input and output."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import click

from watchfloor.model.errors import InputError
from watchfloor.model.ids import is_name


@click.group()
def mcp() -> None:
    """Guard a stdio MCP server where it stands."""


@mcp.command(context_settings={"ignore_unknown_options": True})
@click.option("--gateway", default="http://127.0.0.1:7701", show_default=True, help="Where the gateway is.")
@click.option("--server", "server_id", required=True, help="Id under which this tool server is registered.")
@click.option("--token-file", type=click.Path(path_type=Path, dir_okay=False), help="File with a gateway token.")
@click.option("--agent", "agent_id", help="Id of the agent, to fetch tokens with its secret.")
@click.option("--secret-file", type=click.Path(path_type=Path, dir_okay=False), help="File with the agent's secret.")
@click.option("--secret-env", help="Variable with the agent's secret; the server does not get to see it.")
@click.option("--deadline", default=5.0, show_default=True, help="Seconds after which no answer is a no.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def wrap(
    gateway: str,
    server_id: str,
    token_file: Path | None,
    agent_id: str | None,
    secret_file: Path | None,
    secret_env: str | None,
    deadline: float,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND, a stdio MCP server, and let through only what the gateway allows.

    Put it in front of the server's command in the client's configuration:

        watchfloor mcp wrap --server files --agent my-agent --secret-file agent.secret -- npx some-mcp-server

    Exits with the server's own status.
    """
    from watchfloor.gateway.mcp.wrap import ClientCredentials, FileTokens, Tokens, run_wrap

    logging.basicConfig(level="WARNING", stream=sys.stderr, format="watchfloor mcp wrap: %(message)s")
    if not is_name(server_id):
        raise InputError("is not the id of a tool server.", where="--server", remedy="Use the id in the registry.")
    environment = dict(os.environ)
    tokens: Tokens
    if token_file is not None:
        if agent_id is not None:
            raise InputError("give a token file or an agent, not both.", where="--token-file")
        tokens = FileTokens(token_file)
    elif agent_id is not None:
        if secret_file is not None:
            try:
                secret = secret_file.read_text("utf-8").strip()
            except OSError as error:
                raise InputError(f"cannot be read: {error.strerror}.", where=str(secret_file)) from error
        else:
            secret = environment.pop(secret_env, "") if secret_env else ""
        if not secret:
            raise InputError(
                "the agent's secret is missing.", where="--agent", remedy="Use --secret-file or --secret-env."
            )
        tokens = ClientCredentials(gateway.rstrip("/"), server_id, agent_id, secret)
    else:
        raise InputError("who calls is not known.", remedy="Give --token-file, or --agent with its secret.")
    status = run_wrap(
        command, gateway=gateway, server_id=server_id, tokens=tokens, deadline=deadline, environment=environment
    )
    sys.exit(status)
