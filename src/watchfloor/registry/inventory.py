"""Agents, tool servers and tools as people handle them: look up, block, unblock.

Above ``storage.inventory`` and ``registry.lifecycle``; the portal calls it. It knows neither HTTP nor permissions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from watchfloor.model.agents import AgentState, ServerState, VersionState
from watchfloor.model.errors import Conflict, InputError, NotFound
from watchfloor.registry import submissions
from watchfloor.registry.lifecycle import Verb, next_state
from watchfloor.storage import inventory, versions
from watchfloor.storage.inventory import Agent, Binding, Tool, ToolServer
from watchfloor.storage.versions import AgentVersion

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


@dataclass(frozen=True, slots=True)
class AgentDetail:
    """An agent with its versions and what it may use."""

    agent: Agent
    versions: tuple[AgentVersion, ...]
    bindings: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class ServerDetail:
    """A tool server with its tools and who is bound to it."""

    server: ToolServer
    tools: tuple[Tool, ...]
    bindings: tuple[Binding, ...]


def list_agents(tx: ControlTx, *, state: AgentState | None = None) -> list[Agent]:
    """Agents by id, of one state or of all."""
    return inventory.list_agents(tx, state=state)


def get_agent(tx: ControlTx, agent_id: str) -> AgentDetail:
    """The agent with its versions and bindings. Raises ``NotFound``."""
    agent = _agent(tx, agent_id)
    return AgentDetail(
        agent,
        tuple(versions.list_versions(tx, agent_id)),
        tuple(inventory.list_bindings(tx, agent_id=agent_id)),
    )


def answers_for(agent: Agent, user_id: str) -> bool:
    """Whether the agent is this user's own: its maker or its owner."""
    return user_id in (agent.maker_id, agent.owner_id)


def list_servers(tx: ControlTx) -> list[ServerDetail]:
    """Tool servers by id, each with its tools and bindings."""
    tools: dict[str, list[Tool]] = {}
    for tool in inventory.list_tools(tx):
        tools.setdefault(tool.server_id, []).append(tool)
    bindings: dict[str, list[Binding]] = {}
    for binding in inventory.list_bindings(tx):
        bindings.setdefault(binding.server_id, []).append(binding)
    return [
        ServerDetail(server, tuple(tools.get(server.id, ())), tuple(bindings.get(server.id, ())))
        for server in inventory.list_servers(tx)
    ]


def get_server(tx: ControlTx, server_id: str) -> ServerDetail:
    """The tool server with its tools and bindings. Raises ``NotFound``."""
    server = _server(tx, server_id)
    return ServerDetail(
        server,
        tuple(inventory.list_tools(tx, server_id)),
        tuple(inventory.list_bindings(tx, server_id=server_id)),
    )


def block(tx: ControlTx, agent_id: str, reason: str) -> Agent:
    """Stop an agent: no tool call of it is allowed once this transaction has committed, and every token of it is dead.

    Blocking a blocked agent changes nothing. Raises ``NotFound``, ``Conflict`` (retired), ``InputError`` (no reason).
    """
    agent = _agent(tx, agent_id)
    reason = _reason(reason)
    if agent.state is AgentState.BLOCKED:
        return agent
    blocked = replace(agent, state=next_state(agent, Verb.BLOCK, tx.actor), epoch=agent.epoch + 1)
    inventory.save_agent(tx, blocked, "agent:block", reason)
    return blocked


def block_version(tx: ControlTx, agent_id: str, number: int, reason: str) -> Agent:
    """Rule a build out for good. If it is live, the agent is blocked, and is unblocked only as another build.

    Raises ``NotFound``; ``Conflict`` for a version that is neither live nor approved, or of a retired agent.
    """
    agent, version = _agent(tx, agent_id), versions.find_version(tx, agent_id, number)
    if version is None:
        raise NotFound(f"agent {agent_id!r} has no version {number}.", where="number")
    if version.state is VersionState.LIVE:
        agent = block(tx, agent_id, reason)
    ruled_out = replace(
        version, state=VersionState.BLOCKED, decided_at=tx.now, decided_by=tx.actor, reason=_reason(reason)
    )
    versions.move_version(tx, ruled_out, "agent:block-version")
    return agent


def unblock(tx: ControlTx, agent_id: str, reason: str, number: int | None = None) -> Agent:
    """Let a blocked agent work again, as one version of it. Its old tokens stay dead.

    ``number``: the live version, or the one that was approved while the agent was blocked, which is also what is taken
    unless one is named; a version from before cannot be. Raises ``Denied`` if the transaction's actor built the agent
    or the version, ``Conflict`` if it is not blocked.
    """
    agent = _agent(tx, agent_id)
    reason = _reason(reason)
    live, approved = (versions.newest_in(tx, agent_id, s) for s in (VersionState.LIVE, VersionState.APPROVED))
    chosen = approved or live
    if number is not None:
        chosen = next((v for v in (live, approved) if v is not None and v.number == number), None)
        if chosen is None:
            known = " or ".join(str(v.number) for v in (live, approved) if v is not None)
            raise Conflict(
                f"agent {agent_id} cannot be unblocked as version {number}.",
                where="version",
                remedy=f"Possible: {known}." if known else "Have a version approved first.",
            )
    state = next_state(agent, Verb.UNBLOCK, tx.actor, chosen)
    if versions.is_ruled_out(tx, chosen or versions.newest_in(tx, agent_id, VersionState.BLOCKED)):
        raise Conflict(
            f"agent {agent_id} has only builds that were blocked.",
            where="version",
            remedy="Have another one submitted and approved.",
        )
    if chosen is not None and chosen is approved:
        return submissions.go_live(tx, chosen, AgentState.PUBLISHED, reason)
    if approved is not None:  # passed over: the next unblock must not bring it in unasked
        versions.move_version(tx, replace(approved, state=VersionState.SUPERSEDED), "agent:supersede-version")
    if state is AgentState.DRAFT and versions.newest_in(tx, agent_id, VersionState.SUBMITTED) is not None:
        state = AgentState.SUBMITTED  # as it was when it was blocked: somebody still has to decide
    unblocked = replace(agent, state=state)
    inventory.save_agent(tx, unblocked, "agent:unblock", reason)
    return unblocked


def change_state(tx: ControlTx, agent_id: str, verb: Verb, reason: str = "") -> Agent:
    """Take an agent out of use: ``withdraw``, until a manifest or an approval publishes it again, or ``retire``."""
    if verb not in (Verb.WITHDRAW, Verb.RETIRE):
        raise ValueError(f"{verb.value} has a function of its own")
    agent = _agent(tx, agent_id)
    changed = replace(agent, state=next_state(agent, verb, tx.actor))
    if verb is Verb.WITHDRAW:
        changed = replace(changed, manifest={**agent.manifest, "state": AgentState.DRAFT.value})
    inventory.save_agent(tx, changed, f"agent:{verb.value}", reason)
    return changed


def block_server(tx: ControlTx, server_id: str, reason: str) -> ToolServer:
    """Stop every call to a tool server."""
    return _set_server_state(tx, server_id, ServerState.BLOCKED, "server:block", reason)


def unblock_server(tx: ControlTx, server_id: str, reason: str) -> ToolServer:
    """Allow calls to a tool server again."""
    return _set_server_state(tx, server_id, ServerState.AVAILABLE, "server:unblock", reason)


def set_tool_blocked(tx: ControlTx, server_id: str, name: str, is_blocked: bool, reason: str) -> Tool:
    """Stop, or allow again, every call to one tool."""
    tool = inventory.find_tool(tx, server_id, name)
    if tool is None:
        raise NotFound(f"tool server {server_id!r} has no tool {name!r}.", where="tool")
    changed = replace(tool, is_blocked=is_blocked, updated_at=tx.now)
    inventory.save_tool(tx, changed, "tool:block" if is_blocked else "tool:unblock", _reason(reason))
    return changed


def _set_server_state(tx: ControlTx, server_id: str, state: ServerState, action: str, reason: str) -> ToolServer:
    server = replace(_server(tx, server_id), state=state, updated_at=tx.now)
    inventory.save_server(tx, server, action, _reason(reason))
    return server


def _agent(tx: ControlTx, agent_id: str) -> Agent:
    agent = inventory.find_agent(tx, agent_id)
    if agent is None:
        raise NotFound(f"there is no agent {agent_id!r}.", where="agent")
    return agent


def _server(tx: ControlTx, server_id: str) -> ToolServer:
    server = inventory.find_server(tx, server_id)
    if server is None:
        raise NotFound(f"there is no tool server {server_id!r}.", where="server")
    return server


def _reason(reason: str) -> str:
    if not reason.strip():
        raise InputError("a reason is needed.", where="reason", remedy="Say why, for whoever reads the audit log.")
    return reason.strip()[:1000]
