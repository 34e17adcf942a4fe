"""What could reach what: the company as a graph of people, agents, credentials, tools, servers and data.

Pure, over what ``read_holdings`` reads of the registry in one transaction. A thing's links are worked out when somebody
asks for them, so that a walk over a part of a large company costs that part. ``reach`` walks it for the blast radius,
``exposure_tables`` writes it down for hunting: both see the same links.

What is said here is what is *granted*; whether it was ever used is for whoever asks the activity. A link with
``stopped`` is granted, and refused as things stand; the text says by what.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from watchfloor.model.agents import AgentState, CredentialOwner, PinState, Scope, ServerState, ToolEffect
from watchfloor.model.people import RiskLevel
from watchfloor.registry.effects import platform_tool_effect
from watchfloor.registry.readers import ANY_TENANT, EVERYONE, GROUP
from watchfloor.storage import inventory, people
from watchfloor.storage.inventory import Agent, Binding, Tool, ToolServer
from watchfloor.storage.people import User

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

ANY_TOOL: Final = "*"


class ThingKind(StrEnum):
    """What a thing is."""

    USER = "user"
    GROUP = "group"
    AGENT = "agent"
    CHILD_AGENT = "childAgent"
    CREDENTIAL = "credential"
    TOOL = "tool"
    PLATFORM_TOOL = "platformTool"
    SERVER = "toolServer"
    DATA = "dataSource"


class Link(StrEnum):
    """How one thing leads to another."""

    MEMBER_OF = "member of"
    MAY_USE = "may use"
    MADE = "made"
    OWNS = "owns"
    HAS_GIVEN = "has given"
    MAY_CALL = "may call"
    RUNS_ON = "runs on"
    GIVES_ACCESS = "gives access to"
    HANDS_OVER = "hands over to"
    HAS_CHILD = "has child"
    READS = "reads"
    IS_ON = "is on"


class Level(StrEnum):
    """How bad the worst is that a tool can do. What is not known to be harmless counts as a change."""

    READ = "read"
    WRITE = "write"
    SEND = "send"
    PAY = "pay"

    @property
    def rank(self) -> int:
        """0 (read) to 3 (pay)."""
        return list(Level).index(self)


_LEVELS: Final = {ToolEffect.READ: Level.READ, ToolEffect.SEND: Level.SEND, ToolEffect.PAY: Level.PAY}


def level_of(effect: ToolEffect) -> Level:
    """The level of a tool's effect."""
    return _LEVELS.get(effect, Level.WRITE)


@dataclass(frozen=True, slots=True)
class Thing:
    """A node. ``key`` is its id where it comes from; ``effect`` is set for tools."""

    id: str
    kind: ThingKind
    key: str
    name: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    effect: ToolEffect | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """An edge. ``stopped`` says what refuses it as things stand; empty if nothing does."""

    source: str
    link: Link
    target: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    stopped: str = ""

    @property
    def id(self) -> str:
        """Stable as long as the edge is."""
        return f"{self.source}|{self.link.value}|{self.target}"


def thing_id(kind: ThingKind, key: str) -> str:
    """The id of a thing."""
    return kind + ":" + key


@dataclass(frozen=True, slots=True)
class Holdings:
    """The registry at one moment: what exposure is worked out from."""

    agents: Mapping[str, Agent] = field(default_factory=dict)
    servers: Mapping[str, ToolServer] = field(default_factory=dict)
    tools: Sequence[Tool] = ()
    bindings: Sequence[Binding] = ()
    users: Mapping[str, User] = field(default_factory=dict)
    credentials: frozenset[str] = frozenset()
    """Ids of what is stored. Whether two hold the same secret nobody can see: their fingerprints are keyed by id."""


def read_holdings(tx: ControlTx) -> Holdings:
    """What ``tx`` sees. Retired agents are not there any more."""
    return Holdings(
        agents={a.id: a for a in inventory.list_agents(tx) if a.state is not AgentState.RETIRED},
        servers={s.id: s for s in inventory.list_servers(tx)},
        tools=inventory.list_tools(tx),
        bindings=inventory.list_bindings(tx),
        users={u.id: u for u in people.list_users(tx)},
        credentials=frozenset(inventory.list_fingerprints(tx)),
    )


class Exposure:
    """The graph over ``holdings``. Things and links come in the same order at each call."""

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings
        self._made: dict[str, Thing] = {}
        self._tools: defaultdict[str, dict[str, Tool]] = defaultdict(dict)
        for tool in holdings.tools:
            self._tools[tool.server_id][tool.name] = tool
        self._grants: defaultdict[str, list[Binding]] = defaultdict(list)
        for binding in holdings.bindings:
            self._grants[binding.agent_id].append(binding)

    # What only some questions need is worked out when one does.

    @cached_property
    def _running(self) -> Mapping[str, list[Binding]]:
        """Credential → bindings whose calls carry it."""
        found: defaultdict[str, list[Binding]] = defaultdict(list)
        for agent_id, grants in self._grants.items():
            if agent_id in self.holdings.agents:
                for binding in grants:
                    if credential := self._credential_of(binding):
                        found[credential].append(binding)
        return dict(found)

    @cached_property
    def _shared(self) -> Mapping[str, list[str]]:
        """Entry of ``sharedWith`` → agents."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for agent in self.holdings.agents.values():
            for entry in agent.manifest.get("sharedWith", ()):
                found[EVERYONE if entry == ANY_TENANT else entry].append(agent.id)
        return dict(found)

    @cached_property
    def _answered(self) -> Mapping[str, list[tuple[Link, str]]]:
        """Person → agents that they made or own."""
        found: defaultdict[str, list[tuple[Link, str]]] = defaultdict(list)
        for agent in self.holdings.agents.values():
            for link, person in ((Link.MADE, agent.maker_id), (Link.OWNS, agent.owner_id)):
                if person:
                    found[person].append((link, agent.id))
        return dict(found)

    @cached_property
    def _called(self) -> Mapping[str, str]:
        """What its platform calls an agent → its id."""
        names = ((str((a.manifest.get("platformIds") or {}).get("schemaName", "")), a.id) for a in self._agents())
        return {name: id_ for name, id_ in names if name}

    @cached_property
    def _given(self) -> Mapping[str, list[str]]:
        """Person → their own credentials that agents run on."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for credential, bindings in self._running.items():
            if person := self._giver(bindings):
                found[person].append(credential)
        return dict(found)

    def _agents(self) -> Iterable[Agent]:
        return self.holdings.agents.values()

    # -- things ---------------------------------------------------------------------------------------------------

    def things(self) -> Iterator[Thing]:
        """Every thing that is there by itself, or that a link leads to."""
        seen: set[str] = set()
        held = self.holdings
        starts = [
            *(thing_id(ThingKind.USER, id_) for id_ in held.users),
            *(thing_id(ThingKind.AGENT, id_) for id_ in held.agents),
            *(thing_id(ThingKind.CREDENTIAL, id_) for id_ in sorted({*held.credentials, *self._running})),
            *(thing_id(ThingKind.SERVER, id_) for id_ in held.servers),
            *(thing_id(ThingKind.TOOL, t.key) for t in held.tools),
        ]
        while starts:
            for id_ in starts:
                if id_ not in seen:
                    seen.add(id_)
                    yield self.thing(id_)
            starts = sorted({link.target for id_ in starts for link in self.links(id_)} - seen)

    def knows(self, id_: str) -> bool:
        """Whether the registry has a user, agent or credential of this id."""
        kind, _, key = id_.partition(":")
        held = self.holdings
        known: dict[str, Any] = {
            ThingKind.USER: held.users,
            ThingKind.AGENT: held.agents,
            ThingKind.CREDENTIAL: held.credentials | self._running.keys(),
        }
        return key in known.get(kind, ())

    def thing(self, id_: str) -> Thing:
        """The thing of this id, as far as anything is known of it."""
        known = self._made.get(id_)
        if known is None:
            kind, _, key = id_.partition(":")
            known = self._made[id_] = _MAKERS[ThingKind(kind)](self, id_, key)
        return known

    def _user(self, id_: str, key: str) -> Thing:
        user = self.holdings.users.get(key)
        if user is None:
            return Thing(id_, ThingKind.USER, key, key, {"isKnown": False})
        properties = {
            "upn": user.upn,
            "isEnabled": user.is_enabled,
            "risk": user.risk.value,
            "criticality": user.criticality,
            "department": user.department,
        }
        return Thing(id_, ThingKind.USER, key, user.name or user.upn or key, properties)

    def _group(self, id_: str, key: str) -> Thing:
        return Thing(id_, ThingKind.GROUP, key, "everyone" if key == EVERYONE else key)

    def _agent(self, id_: str, key: str) -> Thing:
        agent = self.holdings.agents.get(key)
        if agent is None:
            return Thing(id_, ThingKind.AGENT, key, key, {"isKnown": False})
        properties = {
            "purpose": agent.description,
            "state": agent.state.value,
            "platform": agent.platform,
            "version": agent.version,
            "risk": agent.risk.value,
        }
        return Thing(id_, ThingKind.AGENT, key, agent.name, properties)

    def _child(self, id_: str, key: str) -> Thing:
        return Thing(id_, ThingKind.CHILD_AGENT, key, key.partition("/")[2])

    def _credential(self, id_: str, key: str) -> Thing:
        bindings = self._running.get(key, [])
        owner = CredentialOwner.MAKER if self._giver(bindings) else CredentialOwner.APP
        properties = {
            "owner": owner.value,
            "givenBy": self._giver(bindings),
            "isStored": key in self.holdings.credentials,
            "agents": sorted({b.agent_id for b in bindings})[:_MOST_NAMED],
        }
        return Thing(id_, ThingKind.CREDENTIAL, key, key, properties)

    def _tool(self, id_: str, key: str) -> Thing:
        server_id, _, name = key.partition("/")
        tool = self._tools.get(server_id, {}).get(name)
        effect = tool.effect if tool else ToolEffect.UNKNOWN
        properties = {
            "server": server_id,
            "effect": effect.value,
            "level": level_of(effect).value,
            "isBlocked": bool(tool and tool.is_blocked),
            "pinState": tool.pin_state.value if tool else PinState.UNPINNED.value,
            "description": tool.description if tool else "",
        }
        return Thing(id_, ThingKind.TOOL, key, "every tool" if name == ANY_TOOL else name, properties, effect)

    def _platform_tool(self, id_: str, key: str) -> Thing:
        agent_id, _, name = key.partition("/")
        agent = self.holdings.agents.get(agent_id)
        said = next((t for t in _items(agent, "platformTools") if t["name"] == name), {})
        effect = platform_tool_effect({"name": name, **said})
        properties = {
            "kind": said.get("kind", "connector"),
            "effect": effect.value,
            "level": level_of(effect).value,
            "credential": said.get("credential", ""),
            "connection": said.get("connection", ""),
        }
        return Thing(id_, ThingKind.PLATFORM_TOOL, key, name, properties, effect)

    def _server(self, id_: str, key: str) -> Thing:
        server = self.holdings.servers.get(key)
        if server is None:
            return Thing(id_, ThingKind.SERVER, key, key, {"isKnown": False})
        properties = {"url": server.url, "state": server.state.value, "isTrusted": server.is_trusted}
        return Thing(id_, ThingKind.SERVER, key, server.name, properties)

    def _data(self, id_: str, key: str) -> Thing:
        return Thing(id_, ThingKind.DATA, key, key)

    def level(self, id_: str) -> Level | None:
        """What a tool can do at worst; None for what is no tool."""
        kind, _, key = id_.partition(":")
        if kind == ThingKind.TOOL:
            return level_of(self._effect(key))
        if kind == ThingKind.PLATFORM_TOOL:
            effect = self.thing(id_).effect
            return level_of(effect) if effect else None
        return None

    # -- links ----------------------------------------------------------------------------------------------------

    def links(self, id_: str) -> list[Reach]:
        """Where this thing leads, each target and kind of link once."""
        kind, _, key = id_.partition(":")
        made = _LINKS.get(ThingKind(kind))
        if made is None:
            return []
        found: dict[tuple[str, str], Reach] = {}
        for reach in made(self, id_, key):
            known = found.get((reach.link, reach.target))
            # The same twice (shared with a group and a person, say): what is not stopped is what counts.
            if known is None or (known.stopped and not reach.stopped):
                found[reach.link, reach.target] = reach
        return [found[name] for name in sorted(found)]

    def _from_user(self, id_: str, key: str) -> Iterator[Reach]:
        user = self.holdings.users.get(key)
        stopped = _why_user_is_stopped(user)
        for agent_id in self._shared.get(key, ()):
            yield self._use(id_, agent_id, stopped)
        if user is not None:
            for group in (*user.groups, EVERYONE):
                if group == EVERYONE or f"{GROUP}{group}" in self._shared:
                    yield Reach(id_, Link.MEMBER_OF, thing_id(ThingKind.GROUP, group), stopped=stopped)
        for link, agent_id in self._answered.get(key, ()):
            yield Reach(id_, link, thing_id(ThingKind.AGENT, agent_id))
        for credential in self._given.get(key, ()):
            yield Reach(id_, Link.HAS_GIVEN, thing_id(ThingKind.CREDENTIAL, credential))

    def _from_group(self, id_: str, key: str) -> Iterator[Reach]:
        for agent_id in self._shared.get(EVERYONE if key == EVERYONE else f"{GROUP}{key}", ()):
            yield self._use(id_, agent_id, "")

    def _use(self, source: str, agent_id: str, stopped: str) -> Reach:
        stopped = stopped or _why_agent_is_stopped(self.holdings.agents.get(agent_id))
        return Reach(source, Link.MAY_USE, thing_id(ThingKind.AGENT, agent_id), stopped=stopped)

    def _from_agent(self, id_: str, key: str) -> Iterator[Reach]:
        agent = self.holdings.agents.get(key)
        if agent is None:
            return
        own_stop = _why_agent_is_stopped(agent)
        for binding, name in self._granted(key):
            tool_key = f"{binding.server_id}/{name}"
            credential = self._credential_of(binding)
            properties = {
                "scope": binding.scope,
                "credential": binding.credential_owner,
                "credentialId": credential,
                "effect": self._effect(tool_key),
            }
            stopped = own_stop or self._why_call_is_stopped(binding, name)
            yield Reach(id_, Link.MAY_CALL, thing_id(ThingKind.TOOL, tool_key), properties, stopped)
            if credential:
                owner = {"owner": binding.credential_owner}
                yield Reach(id_, Link.RUNS_ON, thing_id(ThingKind.CREDENTIAL, credential), owner)
        for tool in _items(agent, "platformTools"):
            target = thing_id(ThingKind.PLATFORM_TOOL, f"{key}/{tool['name']}")
            yield Reach(id_, Link.MAY_CALL, target, {"credential": tool.get("credential", "")}, own_stop)
        for other in agent.manifest.get("connectedAgents", ()):
            stopped = own_stop or _why_agent_is_stopped(self.holdings.agents.get(other))
            yield Reach(id_, Link.HANDS_OVER, thing_id(ThingKind.AGENT, other), stopped=stopped)
        for name in agent.manifest.get("childAgents", ()):
            known = self._called.get(name) or (name if name in self.holdings.agents else "")
            if known:
                stopped = own_stop or _why_agent_is_stopped(self.holdings.agents.get(known))
                yield Reach(id_, Link.HAS_CHILD, thing_id(ThingKind.AGENT, known), stopped=stopped)
            else:
                child = thing_id(ThingKind.CHILD_AGENT, f"{key}/{name}")
                yield Reach(id_, Link.HAS_CHILD, child, stopped=own_stop)
        for source in _items(agent, "knowledge"):
            where = source.get("url") or f"{key}/{source['name']}"
            properties = {"name": source["name"], "kind": source.get("kind", "")}
            yield Reach(id_, Link.READS, thing_id(ThingKind.DATA, str(where)), properties, own_stop)

    def _from_credential(self, id_: str, key: str) -> Iterator[Reach]:
        through: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for binding in self._running.get(key, ()):
            for name in self._names(binding):
                stopped = _why_agent_is_stopped(self.holdings.agents.get(binding.agent_id))
                stopped = stopped or self._why_call_is_stopped(binding, name)
                through[f"{binding.server_id}/{name}"].append((stopped, binding.agent_id, binding.scope.value))
        for tool_key in sorted(through):
            uses = sorted(through[tool_key])  # those that are not stopped come first
            properties = {
                "agents": list(dict.fromkeys(agent for _, agent, _ in uses))[:_MOST_NAMED],
                "scope": max(scope for _, _, scope in uses),
                "effect": self._effect(tool_key).value,
            }
            yield Reach(id_, Link.GIVES_ACCESS, thing_id(ThingKind.TOOL, tool_key), properties, uses[0][0])

    def _from_tool(self, id_: str, key: str) -> Iterator[Reach]:
        yield Reach(id_, Link.IS_ON, thing_id(ThingKind.SERVER, key.partition("/")[0]))

    # -- parts ----------------------------------------------------------------------------------------------------

    def _names(self, binding: Binding) -> list[str]:
        """Tools that the binding covers; of ``*`` the known ones, or ``*`` itself where none is known."""
        if binding.tool != ANY_TOOL:
            return [binding.tool]
        return sorted(self._tools.get(binding.server_id, ())) or [ANY_TOOL]

    def _granted(self, agent_id: str) -> Iterator[tuple[Binding, str]]:
        """Each tool with the binding that the gateway would take: that of this very tool, else that of every tool."""
        grants = self._grants.get(agent_id, ())
        exact = {(b.server_id, b.tool) for b in grants}
        for binding in grants:
            for name in self._names(binding):
                if binding.tool == name or (binding.server_id, name) not in exact:
                    yield binding, name

    def _credential_of(self, binding: Binding) -> str:
        """The stored credential that the binding's calls carry; empty if they carry none."""
        if binding.credential_owner is CredentialOwner.USER:
            return ""
        if binding.credential_id or binding.credential_owner is CredentialOwner.MAKER:
            return binding.credential_id or ""
        server = self.holdings.servers.get(binding.server_id)
        return (server.credential_id if server else None) or ""

    def _giver(self, bindings: Sequence[Binding]) -> str:
        """Whose own credential it is that these run on; empty for an app's."""
        for binding in bindings:
            if binding.credential_owner is CredentialOwner.MAKER:
                return self.holdings.agents[binding.agent_id].maker_id or ""
        return ""

    def _effect(self, tool_key: str) -> ToolEffect:
        server_id, _, name = tool_key.partition("/")
        tool = self._tools.get(server_id, {}).get(name)
        return tool.effect if tool else ToolEffect.UNKNOWN

    def _why_call_is_stopped(self, binding: Binding, name: str) -> str:
        server = self.holdings.servers.get(binding.server_id)
        if server is None or server.state is not ServerState.AVAILABLE:
            return f"tool server {binding.server_id} is {'blocked' if server else 'not registered'}"
        tool = self._tools.get(binding.server_id, {}).get(name)
        if tool is not None and tool.is_blocked:
            return f"tool {tool.key} is blocked"
        if tool is not None and tool.pin_state is PinState.CHANGED:
            return f"tool {tool.key} is not what was approved"
        if binding.scope is not Scope.WRITE and self._effect(f"{binding.server_id}/{name}") is not ToolEffect.READ:
            return "the binding is for reading only"
        return ""


_MOST_NAMED: Final = 20
"""Agents that a credential or an edge names; there may be more."""

_MAKERS: Final = {
    ThingKind.USER: Exposure._user,
    ThingKind.GROUP: Exposure._group,
    ThingKind.AGENT: Exposure._agent,
    ThingKind.CHILD_AGENT: Exposure._child,
    ThingKind.CREDENTIAL: Exposure._credential,
    ThingKind.TOOL: Exposure._tool,
    ThingKind.PLATFORM_TOOL: Exposure._platform_tool,
    ThingKind.SERVER: Exposure._server,
    ThingKind.DATA: Exposure._data,
}
_LINKS: Final = {
    ThingKind.USER: Exposure._from_user,
    ThingKind.GROUP: Exposure._from_group,
    ThingKind.AGENT: Exposure._from_agent,
    ThingKind.CREDENTIAL: Exposure._from_credential,
    ThingKind.TOOL: Exposure._from_tool,
}


def _items(agent: Agent | None, name: str) -> Sequence[Mapping[str, Any]]:
    found = agent.manifest.get(name) if agent else None
    return found if isinstance(found, list | tuple) else ()


def _why_agent_is_stopped(agent: Agent | None) -> str:
    if agent is None:
        return "the agent is not registered"
    if agent.state is not AgentState.PUBLISHED:
        return f"agent {agent.id} is {agent.state.value}"
    return f"agent {agent.id} is at high risk" if agent.risk is RiskLevel.HIGH else ""


def _why_user_is_stopped(user: User | None) -> str:
    if user is None:
        return ""
    if not user.is_enabled:
        return f"user {user.id} is disabled"
    if user.risk is RiskLevel.HIGH:
        return f"user {user.id} is at high risk"
    return f"user {user.id} has to reset the password" if user.must_reset_password else ""
