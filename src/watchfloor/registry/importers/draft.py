"""What importers have found so far, as a manifest: agents and tool servers, each with an id of its own.

Above ``reading``, below the importers. Whatever is found becomes members of ``registry.shape``, within its limits; the
same tool server found twice is one. It does not know formats.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from watchfloor.model.urls import outbound_problem
from watchfloor.registry.importers.reading import Notes, clean
from watchfloor.registry.readers import STDIO, is_tool_name
from watchfloor.registry.shape import API_VERSION, KIND

_FIRST: Final = ("id", "name", "description", "version", "state", "platform", "model", "url")
_NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})
_WIDTH: Final = 120
_SUFFIX_ROOM: Final = 8

Member = dict[str, Any]


@dataclass(slots=True)
class Draft:
    """A manifest in the making."""

    notes: Notes = field(default_factory=Notes)
    agents: dict[str, Member] = field(default_factory=dict)
    servers: dict[str, Member] = field(default_factory=dict)

    def agent(self, wanted: str, **members: Any) -> Member:
        """A new agent called ``wanted``, or nearly so. It is a draft unless ``state`` says otherwise."""
        agent_id = self._free(slug(wanted, "agent"), self.agents)
        found: Member = {"id": agent_id, **members}
        found["name"] = clean(str(found.get("name") or ""))[:200] or agent_id
        found.setdefault("state", "draft")
        self.agents[agent_id] = found
        return found

    def server(self, wanted: str, url: str, place: str, **members: Any) -> str:
        """The id of the tool server at ``url``: one that is known already, or a new one called ``wanted``.

        Empty, with a warning, if ``url`` is no address that may be called.
        """
        problem = outbound_problem(url)
        if problem:
            self.notes.add(place, f"this tool server is left out: {problem}")
            return ""
        known = next((server_id for server_id, server in self.servers.items() if server["url"] == url), None)
        return known or self._add_server(wanted, url, **members)

    def stdio_server(self, wanted: str, command: str, **members: Any) -> str:
        """The id of the tool server that ``command`` starts: one that is known already, or a new one."""
        found = {"description": command, **members}
        for server_id, server in self.servers.items():
            if server["url"].startswith(STDIO) and found.items() <= server.items():
                return server_id
        server_id = self._add_server(wanted, STDIO, **found)
        self.servers[server_id]["url"] = f"{STDIO}{server_id}"
        return server_id

    def grant(self, agent: Member, server_id: str, tools: Iterable[str] = ("*",), **members: Any) -> None:
        """Let ``agent`` use tools of a server; nothing without a server."""
        grants = agent.setdefault("tools", [])
        for tool in tools if server_id else ():
            if tool != "*" and not is_tool_name(tool):
                self.notes.add(f"agents.{agent['id']}", f"{tool[:60]!r} cannot be the name of a tool, and is left out.")
            elif not any((g["server"], g["tool"]) == (server_id, tool) for g in grants):
                grants.append({"server": server_id, "tool": tool, **members})

    def link(self) -> None:
        """Agents that call one another by what their platform calls them are connected here by id."""
        called = {
            name: agent_id
            for agent_id, agent in self.agents.items()
            for member in ("schemaName", "agent")
            if (name := agent.get("platformIds", {}).get(member))
        }
        for agent in self.agents.values():
            tools = agent.get("platformTools", [])
            found = [t for t in tools if t.get("kind") == "agent" and t.get("operation") in called]
            agent["platformTools"] = [t for t in tools if t not in found]
            connected = {called[t["operation"]] for t in found} - {agent["id"]}
            agent["connectedAgents"] = sorted({*agent.get("connectedAgents", []), *connected})

    def manifest(self) -> Member:
        """The manifest as data."""
        found: Member = {"apiVersion": API_VERSION, "kind": KIND}
        if self.servers:
            found["toolServers"] = [_tidy(server) for server in self.servers.values()]
        if self.agents:
            found["agents"] = [_tidy(agent) for agent in self.agents.values()]
        return found

    def text(self, sources: Iterable[str] = ()) -> str:
        """The manifest as YAML, with what somebody should look at above it."""
        lines = [f"# Read from {clean(source)}".replace("\n", " ") for source in sources]
        lines.append(
            "# Agents come in as drafts, unless their platform says that they are published. Look, then apply."
        )
        if self.notes.found:
            lines += ["#", "# To look at:"]
            lines += [f"# - {warning}" for warning in self.notes.found]
        body = yaml.dump(self.manifest(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
        return "\n".join(lines) + "\n" + body

    def _add_server(self, wanted: str, url: str, **members: Any) -> str:
        server_id = self._free(slug(wanted, "server"), self.servers)
        self.servers[server_id] = {"id": server_id, "url": url, **members}
        return server_id

    def _free(self, wanted: str, taken: Mapping[str, Any]) -> str:
        candidate, number = wanted, 1
        while candidate in taken:
            number += 1
            candidate = f"{wanted[: 64 - _SUFFIX_ROOM].rstrip('.-_')}-{number}"
        return candidate


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def slug(text: str, otherwise: str) -> str:
    """``text`` as an id: lower case, digits, dashes; ``otherwise`` if nothing is left of it."""
    plain = unicodedata.normalize("NFKD", clean(text)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9._-]+", "-", plain)[:64].strip("-._") or otherwise


def _tidy(value: Any) -> Any:
    """Without what says nothing, ids first."""
    if isinstance(value, list):
        return [found for item in value if (found := _tidy(item)) not in _NOTHING]
    if not isinstance(value, dict):
        return value
    order = [*(name for name in _FIRST if name in value), *(name for name in value if name not in _FIRST)]
    tidied = {name: _tidy(value[name]) for name in order}
    return {name: found for name, found in tidied.items() if found not in _NOTHING}
