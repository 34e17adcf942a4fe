"""Names of upstream credentials in the vault: one for each tool server, one for each binding with a maker's own."""

from __future__ import annotations

import hashlib

_LONGEST_TOOL = 60


def server_credential_id(server_id: str) -> str:
    """The app credential of a tool server."""
    return f"server/{server_id}"


def maker_credential_id(agent_id: str, server_id: str, tool: str) -> str:
    """The maker's credential of a binding. Long tool names are hashed: an id has 200 characters at most."""
    short = tool if len(tool) <= _LONGEST_TOOL else "sha256-" + hashlib.sha256(tool.encode()).hexdigest()[:32]
    return f"binding/{agent_id}/{server_id}/{short}"
