"""MCP client configurations: Claude Desktop, Claude Code, VS Code, Cursor, and others that write them alike.

A client is an agent that runs on somebody's machine; each server of its configuration is a tool server, all of whose
tools it may use. Servers that a command starts get a ``stdio:`` address, to be put behind ``watchfloor mcp wrap``. A
secret in variables, headers, arguments or addresses becomes the maker's credential by the name of a variable: whoever
wrote the configuration left a standing credential in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from watchfloor.registry.importers.draft import Draft, Member
from watchfloor.registry.importers.reading import (
    SecretReference,
    Value,
    find_reference,
    joined,
    looks_secret,
)
from watchfloor.registry.importers.tree import Tree, name_of

TITLE: Final = "MCP client configuration (Claude Desktop, Claude Code, VS Code, Cursor)"

_PACKAGE: Final = re.compile(r"@?[A-Za-z0-9][\w.-]*(?:[/@:][\w.~^-]+)*")
_UNUSED: Final = (
    "type", "cwd", "timeout", "disabled", "autoApprove", "alwaysAllow", "dev", "gallery", "version", "envFile", "trust",
    "sandboxEnabled", "sandbox", "oauth", "auth", "startup_timeout_sec", "description", "name", "headersHelper",
)  # fmt: skip
"""Members of a server that say nothing that a manifest holds."""


@dataclass(frozen=True, slots=True)
class Client:
    """A program with such a configuration: where it lies, and under which member its servers stand."""

    id: str
    name: str
    path: re.Pattern[str]
    servers: str = "mcpServers"


CLIENTS: Final = (
    Client("claude-desktop", "Claude Desktop", re.compile(r"(?:^|/)claude_desktop_config\.json$")),
    Client("vscode", "VS Code", re.compile(r"(?:^|/)(?:\.vscode|User)/mcp\.json$"), "servers"),
    Client("cursor", "Cursor", re.compile(r"(?:^|/)\.cursor/mcp\.json$")),
    Client("claude-code", "Claude Code", re.compile(r"(?:^|/)\.(?:mcp|claude)\.json$")),
)
_UNKNOWN: Final = Client("mcp-client", "MCP client", re.compile(""))


def recognizes(tree: Tree, path: str) -> bool:
    """Whether ``path`` lists MCP servers."""
    found = tree.mapping(path)
    if isinstance(found.get("mcpServers"), dict):
        return True
    if isinstance(found.get("servers"), dict):
        return name_of(path) == "mcp.json" or any(client.path.search(path) for client in CLIENTS)
    return any(_project_servers(found))


def read(tree: Tree, path: str, draft: Draft) -> None:
    """The client of ``path``, its tool servers, and one client more for each project with servers of its own."""
    raw = tree.value(path)
    client = next((c for c in CLIENTS if c.path.search(path)), _UNKNOWN)
    root = Value(raw, path, draft.notes)
    for member in dict.fromkeys((client.servers, "mcpServers", "servers")):
        if root.has(member):
            agent = _agent(draft, client, client.id, client.name, path)
            _servers(root.one(member), agent, draft)
            break
    found = raw if isinstance(raw, dict) else {}
    for project, servers in _project_servers(found):
        name = re.split(r"[/\\]", project.rstrip("/\\"))[-1] or "project"
        agent = _agent(draft, client, f"{client.id}-{name}", f"{client.name} ({name})", path)
        place = root.one("projects").one(project).at("mcpServers")
        _servers(Value(servers, place, draft.notes), agent, draft)


def _project_servers(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    projects = found.get("projects")
    for name, project in projects.items() if isinstance(projects, dict) else ():
        servers = project.get("mcpServers") if isinstance(project, dict) else None
        if isinstance(servers, dict) and servers:
            yield name, servers


def _agent(draft: Draft, client: Client, wanted: str, name: str, path: str) -> Member:
    return draft.agent(
        wanted,
        name=name,
        platform=client.name,
        description=f"An MCP client; its servers are listed in {name_of(path)}.",
    )


def _servers(servers: Value, agent: Member, draft: Draft) -> None:
    for name, server in servers.members():
        references = [
            (f"{section}.{where}", reference.of(name))
            for section in ("env", "headers")
            for where, value in _texts(server.one(section))
            if (reference := find_reference(where, value))
        ]
        url = server.url("url", "serverUrl", "httpUrl")
        command = server.text("command", limit=300)
        if url:
            server_id = draft.server(name, url, server.place, name=server.clean("url", name, 200))
        elif command:
            arguments = _arguments(server)
            references += [("args", reference) for reference in _secret_arguments(arguments, name)]
            shown = server.clean("command", _in_short(command, arguments), 300)
            server_id = draft.stdio_server(name, shown, name=server.clean("command", name, 200))
        else:
            server.notes.add(server.place, "names neither a url nor a command, so it is left out.")
            continue
        draft.grant(agent, server_id, **_credential(server, references))
        server.leftover(*_UNUSED)


def _texts(section: Value) -> Iterator[tuple[str, Any]]:
    for name in section.names():
        yield name, section.get(name)


def _credential(server: Value, references: list[tuple[str, SecretReference]]) -> Member:
    for where, reference in references:
        if reference.is_clear:
            server.warn(
                where,
                f"a secret stands here in clear. The manifest asks for the variable {reference.variable} instead: "
                "renew the secret, and put the new one there.",
            )
    variables = list(dict.fromkeys(reference.variable for _, reference in references))
    if not variables:
        return {}
    if len(variables) > 1:
        others = ", ".join(variables[1:])
        server.notes.add(server.place, f"has several secrets. The manifest asks for the first, and not for {others}.")
    return {"credential": "maker", "makerCredential": {"env": variables[0]}}


def _arguments(server: Value) -> list[str]:
    found = server.get("args")
    return [argument for argument in found if isinstance(argument, str)] if isinstance(found, list) else []


def _secret_arguments(arguments: list[str], server: str) -> Iterator[SecretReference]:
    """Secrets among arguments: ``--token X``, ``--token=X``, and whatever looks like one."""
    option = ""
    for argument in arguments:
        if argument.startswith("-"):
            option, _, value = argument.partition("=")
        else:
            value = argument
        if value and (reference := find_reference(option.lstrip("-"), value)):
            yield (reference if option else SecretReference("SECRET", reference.is_clear)).of(server)
        option = "" if value else option


def _in_short(command: str, arguments: list[str]) -> str:
    """What is started, in a few words: the program, and the first argument that names a package or a script.

    The other arguments may be anything, secrets among them.
    """
    program = re.split(r"[/\\]", command)[-1]
    named = (a for a in arguments if _PACKAGE.fullmatch(a) and not looks_secret(a))
    return joined([program, next(named, "")])
