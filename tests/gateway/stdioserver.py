"""A stdio MCP server for tests: journals what its tools see to the file named on the command line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer

JOURNAL = Path(sys.argv[1])
mcp = MCPServer("files")


def journal(**what: object) -> None:
    with JOURNAL.open("a") as file:
        file.write(json.dumps(what) + "\n")


@mcp.tool()
async def lookup(key: str) -> str:
    """Look a customer up."""
    journal(tool="lookup", key=key)
    return f"record of {key}"


@mcp.tool()
async def send_email(to: list[str], body: str = "") -> str:
    """Send an e-mail."""
    journal(tool="send_email", to=to, body=body)
    return "sent"


@mcp.tool()
async def secret_tool() -> str:
    """Nobody was granted this."""
    journal(tool="secret_tool")
    return os.environ.get("AGENT_SECRET", "the secret is not here")


@mcp.resource("notes://plan")
async def note() -> str:
    """A note."""
    journal(resource="plan")
    return "the plan"


if __name__ == "__main__":
    print("hello from the server", file=sys.stderr)
    mcp.run("stdio")
