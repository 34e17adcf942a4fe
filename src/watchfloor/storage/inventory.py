"""The registry's reads and writes: agents, tool servers, tools, bindings, credentials.

Below ``registry``, above the tables; versions of agents are in ``versions``. Every write compares with what is stored,
and if anything differs writes the row, projects the fact that the data plane holds, and audits who changed which
fields, all in the caller's transaction; it returns whether anything differed. It does not know which changes are
allowed: that is ``registry``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.agents import AgentState, CredentialOwner, PinState, Scope, ServerState, ToolEffect
from watchfloor.model.facts import (
    AgentFacts,
    BindingFacts,
    CredentialFacts,
    Kind,
    Organization,
    ServerFacts,
    ToolCard,
    ToolFacts,
)
from watchfloor.model.people import RiskLevel
from watchfloor.storage import schema
from watchfloor.storage.aliases import save_agent_aliases
from watchfloor.storage.changes import differences, read_setting, upsert, write_setting
from watchfloor.storage.profiles import save_agent_profile

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent. ``manifest`` is its normalised section of the manifest, without secrets."""

    id: str
    name: str
    state: AgentState
    version: str
    created_at: datetime
    updated_at: datetime
    updated_by: str
    description: str = ""
    epoch: int = 1
    risk: RiskLevel = RiskLevel.NONE
    maker_id: str | None = None
    owner_id: str | None = None
    sponsor_id: str | None = None
    platform: str = ""
    model: str = ""
    secret_hash: str | None = field(default=None, repr=False)
    manifest: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolServer:
    """A tool server. ``tools_listed_at`` is its last good listing, ``tools_list_error`` why the last try failed."""

    id: str
    name: str
    url: str
    created_at: datetime
    updated_at: datetime
    description: str = ""
    state: ServerState = ServerState.AVAILABLE
    is_trusted: bool = False
    credential_id: str | None = None
    timeout_seconds: float = 30.0
    tools_listed_at: datetime | None = None
    tools_list_error: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of a tool server.

    ``pin`` is the hash of the approved definition, ``observed_hash`` of the last one listed; both are empty until
    there is one. ``definition`` holds both: ``{"approved": …, "observed": …}``; beside them ``card``, what is known of
    its arguments, and ``wanted``, what an administrator said about them.
    """

    server_id: str
    name: str
    updated_at: datetime
    description: str = ""
    effect: ToolEffect = ToolEffect.UNKNOWN
    pin: str = ""
    observed_hash: str = ""
    pin_state: PinState = PinState.UNPINNED
    is_blocked: bool = False
    allow_when_stale: bool = False
    definition: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """``server/tool``, its key as a fact and in the audit."""
        return f"{self.server_id}/{self.name}"


@dataclass(frozen=True, slots=True)
class Binding:
    """An agent may use a tool (``*``: every tool of the server), with whose credentials, how far."""

    agent_id: str
    server_id: str
    tool: str
    created_at: datetime
    credential_owner: CredentialOwner = CredentialOwner.APP
    scope: Scope = Scope.READ
    credential_id: str | None = None

    @property
    def key(self) -> str:
        """``agent/server/tool``, its key as a fact and in the audit."""
        return f"{self.agent_id}/{self.server_id}/{self.tool}"


@dataclass(frozen=True, slots=True)
class Credential:
    """A sealed upstream credential. ``fingerprint`` is a keyed hash of the secret, fit to compare and to show."""

    id: str
    kind: str
    sealed: str = field(repr=False)
    fingerprint: str
    updated_at: datetime


# -- organization -------------------------------------------------------------------------------------------------


def find_organization(tx: ControlTx) -> Organization:
    """The company; empty until a manifest names it."""
    stored = read_setting(tx, "organization")
    return Organization.from_json(stored) if stored else Organization()


def save_organization(tx: ControlTx, organization: Organization, action: str = "organization:update") -> bool:
    """Store and project the company's names."""
    change = differences(find_organization(tx), organization)
    if not change:
        return False
    write_setting(tx, "organization", organization.to_json())
    tx.project(Kind.ORGANIZATION, "", organization)
    tx.audit(action, "organization", change)
    return True


# -- agents -------------------------------------------------------------------------------------------------------


def _agent(row: sa.Row[Any]) -> Agent:
    values = dict(row._mapping)
    return Agent(**{**values, "state": AgentState(row.state), "risk": RiskLevel(row.risk)})


def find_agent(tx: ControlTx, agent_id: str) -> Agent | None:
    """The agent, or None."""
    row = tx.connection.execute(sa.select(schema.agent).where(schema.agent.c.id == agent_id)).one_or_none()
    return _agent(row) if row else None


def find_agents(tx: ControlTx, agent_ids: Collection[str]) -> dict[str, Agent]:
    """Those of these agents that there are, by id."""
    query = sa.select(schema.agent).where(schema.agent.c.id.in_(list(agent_ids)))
    return {row.id: _agent(row) for row in tx.connection.execute(query)}


def list_agents(tx: ControlTx, *, state: AgentState | None = None) -> list[Agent]:
    """Agents by id."""
    query = sa.select(schema.agent).order_by(schema.agent.c.id)
    if state is not None:
        query = query.where(schema.agent.c.state == state.value)
    return [_agent(row) for row in tx.connection.execute(query)]


def agent_facts(agent: Agent) -> AgentFacts:
    """What the data plane knows of ``agent``."""
    return AgentFacts(
        id=agent.id,
        name=agent.name,
        state=agent.state,
        version=agent.version,
        epoch=agent.epoch,
        risk=agent.risk,
        maker_id=agent.maker_id,
        owner_id=agent.owner_id,
        platform=agent.platform,
        model=agent.model,
    )


def save_agent(tx: ControlTx, agent: Agent, action: str = "agent:update", reason: str = "") -> bool:
    """Store and project ``agent``; the audit names the fields that differ."""
    before = find_agent(tx, agent.id)
    change = differences(before, agent, ignore=("created_at", "updated_at", "updated_by"), secret=("secret_hash",))
    if not change:
        return False
    values = {
        "id": agent.id,
        "name": agent.name,
        "description": agent.description,
        "state": agent.state.value,
        "version": agent.version,
        "epoch": agent.epoch,
        "risk": agent.risk.value,
        "maker_id": agent.maker_id,
        "owner_id": agent.owner_id,
        "sponsor_id": agent.sponsor_id,
        "platform": agent.platform,
        "model": agent.model,
        "secret_hash": agent.secret_hash,
        "manifest": dict(agent.manifest),
        "created_at": before.created_at if before else agent.created_at,
        "updated_at": agent.updated_at,
        "updated_by": agent.updated_by,
    }
    upsert(tx, schema.agent, values, before is not None)
    if before is None or agent_facts(before) != agent_facts(agent):
        tx.project(Kind.AGENT, agent.id, agent_facts(agent))
    save_agent_aliases(tx, before, agent)
    save_agent_profile(tx, before, agent)
    tx.audit(action, f"agent/{agent.id}", {**change, **({"reason": reason} if reason else {})})
    return True


# -- tool servers and tools ---------------------------------------------------------------------------------------


def _server(row: sa.Row[Any]) -> ToolServer:
    return ToolServer(**{**dict(row._mapping), "state": ServerState(row.state)})


def find_server(tx: ControlTx, server_id: str) -> ToolServer | None:
    """The tool server, or None."""
    row = tx.connection.execute(sa.select(schema.tool_server).where(schema.tool_server.c.id == server_id)).one_or_none()
    return _server(row) if row else None


def find_servers(tx: ControlTx, server_ids: Collection[str]) -> dict[str, ToolServer]:
    """Those of these tool servers that there are, by id."""
    query = sa.select(schema.tool_server).where(schema.tool_server.c.id.in_(list(server_ids)))
    return {row.id: _server(row) for row in tx.connection.execute(query)}


def list_servers(tx: ControlTx) -> list[ToolServer]:
    """Tool servers by id."""
    return [_server(row) for row in tx.connection.execute(sa.select(schema.tool_server).order_by("id"))]


def save_server(tx: ControlTx, server: ToolServer, action: str = "server:update", reason: str = "") -> bool:
    """Store and project ``server``."""
    before = find_server(tx, server.id)
    change = differences(before, server, ignore=("created_at", "updated_at", "tools_listed_at"))
    if not change and before is not None and before.tools_listed_at == server.tools_listed_at:
        return False
    values = {
        "id": server.id,
        "name": server.name,
        "description": server.description,
        "url": server.url,
        "state": server.state.value,
        "is_trusted": server.is_trusted,
        "credential_id": server.credential_id,
        "timeout_seconds": server.timeout_seconds,
        "tools_listed_at": server.tools_listed_at,
        "tools_list_error": server.tools_list_error,
        "created_at": before.created_at if before else server.created_at,
        "updated_at": server.updated_at,
    }
    upsert(tx, schema.tool_server, values, before is not None)
    if not change:  # only the time of the last listing moved: nobody's business but the portal's
        return True
    if before is None or server_facts(before) != server_facts(server):
        tx.project(Kind.SERVER, server.id, server_facts(server))
    tx.audit(action, f"server/{server.id}", {**change, **({"reason": reason} if reason else {})})
    return True


def server_facts(server: ToolServer) -> ServerFacts:
    """What the data plane knows of ``server``."""
    return ServerFacts(
        id=server.id,
        name=server.name,
        url=server.url,
        state=server.state,
        is_trusted=server.is_trusted,
        credential_id=server.credential_id,
        timeout_seconds=server.timeout_seconds,
    )


def _tool(row: sa.Row[Any]) -> Tool:
    return Tool(**{**dict(row._mapping), "effect": ToolEffect(row.effect), "pin_state": PinState(row.pin_state)})


def find_tool(tx: ControlTx, server_id: str, name: str) -> Tool | None:
    """The tool, or None."""
    t = schema.tool
    row = tx.connection.execute(sa.select(t).where(t.c.server_id == server_id, t.c.name == name)).one_or_none()
    return _tool(row) if row else None


def list_effects(tx: ControlTx, server_ids: Collection[str]) -> list[tuple[str, str, str]]:
    """(server, tool, effect) of every tool of these servers, without their definitions."""
    t = schema.tool
    query = sa.select(t.c.server_id, t.c.name, t.c.effect).where(t.c.server_id.in_(list(server_ids)))
    return [(server, name, effect) for server, name, effect in tx.connection.execute(query)]


def list_tools(tx: ControlTx, server_id: str | None = None) -> list[Tool]:
    """Tools by server and name, of one server or of all."""
    t = schema.tool
    query = sa.select(t).order_by(t.c.server_id, t.c.name)
    if server_id is not None:
        query = query.where(t.c.server_id == server_id)
    return [_tool(row) for row in tx.connection.execute(query)]


def tool_facts(tool: Tool) -> ToolFacts:
    """What the data plane knows of ``tool``."""
    return ToolFacts(
        server_id=tool.server_id,
        name=tool.name,
        effect=tool.effect,
        pin_state=tool.pin_state,
        pin=tool.pin,
        is_blocked=tool.is_blocked,
        allow_when_stale=tool.allow_when_stale,
    )


def save_tool(tx: ControlTx, tool: Tool, action: str = "tool:update", reason: str = "") -> bool:
    """Store and project ``tool``."""
    before = find_tool(tx, tool.server_id, tool.name)
    change = differences(before, tool, ignore=("updated_at",))
    if not change:
        return False
    values = {
        "server_id": tool.server_id,
        "name": tool.name,
        "description": tool.description,
        "effect": tool.effect.value,
        "pin": tool.pin,
        "observed_hash": tool.observed_hash,
        "pin_state": tool.pin_state.value,
        "is_blocked": tool.is_blocked,
        "allow_when_stale": tool.allow_when_stale,
        "definition": dict(tool.definition),
        "updated_at": tool.updated_at,
    }
    upsert(tx, schema.tool, values, before is not None)
    if before is None or tool_facts(before) != tool_facts(tool):
        tx.project(Kind.TOOL, tool.key, tool_facts(tool))
    card = tool.definition.get("card")
    if card is not None and (before is None or before.definition.get("card") != card):
        tx.project(Kind.TOOL_CARD, tool.key, ToolCard.from_json(card))
    for side in change.values():
        side.pop("definition", None)  # as long as a tool server likes; its hashes stand for it
    tx.audit(action, f"tool/{tool.key}", {**change, **({"reason": reason} if reason else {})})
    return True


# -- bindings and credentials -------------------------------------------------------------------------------------


def list_bindings(
    tx: ControlTx, *, agent_id: str | None = None, server_id: str | None = None, agents: Collection[str] | None = None
) -> list[Binding]:
    """Bindings by agent, server and tool; of one agent, of some, at one server, or all."""
    b = schema.binding
    query = sa.select(
        b.c.agent_id, b.c.server_id, b.c.tool, b.c.created_at, b.c.credential_owner, b.c.scope, b.c.credential_id
    ).order_by(b.c.agent_id, b.c.server_id, b.c.tool)
    if agent_id is not None:
        query = query.where(b.c.agent_id == agent_id)
    if server_id is not None:
        query = query.where(b.c.server_id == server_id)
    if agents is not None:
        query = query.where(b.c.agent_id.in_(list(agents)))
    # There may be tens of thousands of them: no dictionary and no look-up of an enumeration's word for each.
    return [
        Binding(agent, server, tool, at, _OWNERS[owner], _SCOPES[scope], credential)
        for agent, server, tool, at, owner, scope, credential in tx.connection.execute(query)
    ]


_OWNERS: Final = {owner.value: owner for owner in CredentialOwner}
_SCOPES: Final = {scope.value: scope for scope in Scope}


def find_binding(tx: ControlTx, agent_id: str, server_id: str, tool: str) -> Binding | None:
    """The binding with exactly this tool (or ``*``), or None."""
    found = [b for b in list_bindings(tx, agent_id=agent_id, server_id=server_id) if b.tool == tool]
    return found[0] if found else None


def save_binding(tx: ControlTx, binding: Binding, action: str = "binding:update") -> bool:
    """Store and project ``binding``."""
    before = find_binding(tx, binding.agent_id, binding.server_id, binding.tool)
    change = differences(before, binding, ignore=("created_at",))
    if not change:
        return False
    values = {
        "agent_id": binding.agent_id,
        "server_id": binding.server_id,
        "tool": binding.tool,
        "credential_owner": binding.credential_owner.value,
        "scope": binding.scope.value,
        "credential_id": binding.credential_id,
        "created_at": before.created_at if before else binding.created_at,
    }
    upsert(tx, schema.binding, values, before is not None)
    facts = BindingFacts(
        agent_id=binding.agent_id,
        server_id=binding.server_id,
        tool=binding.tool,
        credential_owner=binding.credential_owner,
        scope=binding.scope,
        credential_id=binding.credential_id,
    )
    tx.project(Kind.BINDING, binding.key, facts)
    tx.audit(action, f"binding/{binding.key}", change)
    return True


def delete_binding(tx: ControlTx, agent_id: str, server_id: str, tool: str, action: str = "binding:delete") -> bool:
    """Take a tool away from an agent."""
    before = find_binding(tx, agent_id, server_id, tool)
    if before is None:
        return False
    b = schema.binding
    tx.connection.execute(b.delete().where(b.c.agent_id == agent_id, b.c.server_id == server_id, b.c.tool == tool))
    tx.project(Kind.BINDING, before.key, None)
    tx.audit(action, f"binding/{before.key}", differences(before, None, ignore=("created_at",)))
    return True


def find_credential(tx: ControlTx, credential_id: str) -> Credential | None:
    """The sealed credential, or None."""
    c = schema.credential
    row = tx.connection.execute(sa.select(c).where(c.c.id == credential_id)).one_or_none()
    return Credential(**dict(row._mapping)) if row else None


def list_fingerprints(tx: ControlTx) -> dict[str, str]:
    """Credential id → fingerprint, without the sealed bodies."""
    c = schema.credential
    return {row.id: row.fingerprint for row in tx.connection.execute(sa.select(c.c.id, c.c.fingerprint))}


def save_credential(tx: ControlTx, credential: Credential, action: str = "credential:update") -> bool:
    """Store and project a sealed credential; one with the same fingerprint is left alone."""
    before = find_credential(tx, credential.id)
    if before is not None and (before.kind, before.fingerprint) == (credential.kind, credential.fingerprint):
        return False
    values = {
        "id": credential.id,
        "kind": credential.kind,
        "sealed": credential.sealed,
        "fingerprint": credential.fingerprint,
        "updated_at": credential.updated_at,
    }
    upsert(tx, schema.credential, values, before is not None)
    facts = CredentialFacts(id=credential.id, kind=credential.kind, sealed=credential.sealed)
    tx.project(Kind.CREDENTIAL, credential.id, facts)
    tx.audit(
        action,
        f"credential/{credential.id}",
        differences(before, credential, ignore=("updated_at", "id"), secret=("sealed",)),
    )
    return True


def delete_credential(tx: ControlTx, credential_id: str, action: str = "credential:delete") -> bool:
    """Forget a credential for good."""
    before = find_credential(tx, credential_id)
    if before is None:
        return False
    tx.connection.execute(schema.credential.delete().where(schema.credential.c.id == credential_id))
    tx.project(Kind.CREDENTIAL, credential_id, None)
    tx.audit(
        action, f"credential/{credential_id}", differences(before, None, ignore=("updated_at",), secret=("sealed",))
    )
    return True
