"""Agents and people as hunting sees them: rows of AgentsInfo, AIAgentsInfo and IdentityInfo.

Pure functions make a row of what the registry and the directory hold, in the shapes that other people's queries read;
``publish_inventory`` appends the rows that changed, and each once a day. Above the repositories and
``storage.snapshots``, which keeps what was published; a job calls it. What a manifest does not say stays empty: null,
not an empty list, so that "none" and "not known" are told apart.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from watchfloor.model.agents import AgentState, CredentialOwner, PinState
from watchfloor.model.people import RiskLevel
from watchfloor.model.risk import Risk, RiskState
from watchfloor.registry.effects import platform_tool_effect
from watchfloor.registry.readers import ANY_TENANT, EVERYONE, GROUP
from watchfloor.registry.shape import PlatformToolKind, SignIn, SignInWhen
from watchfloor.storage import inventory, people, risks, snapshots
from watchfloor.storage.inventory import Agent, Binding, Tool, ToolServer
from watchfloor.storage.people import Operator, User
from watchfloor.storage.ports import EventLog
from watchfloor.storage.snapshots import Build, Pace, Subject

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore

Row = dict[str, Any]

AGENTS: Final = "agent"
USERS: Final = "user"
KINDS: Final = (AGENTS, USERS)
DAILY: Final = Pace(again=timedelta(hours=24))

COPILOT_STUDIO: Final = "Copilot Studio"
_PLATFORMS: Final = {
    "copilot studio": COPILOT_STUDIO,
    "agent builder": "Agent Builder in Microsoft 365 Copilot",
    "microsoft foundry": "Microsoft Foundry",
    "azure ai foundry": "Microsoft Foundry",
    "sharepoint": "SharePoint",
    "amazon bedrock": "Amazon Bedrock",
    "claude desktop": "LocalAgents",
    "claude code": "LocalAgents",
    "cursor": "LocalAgents",
    "vs code": "LocalAgents",
    "mcp client": "LocalAgents",
}
"""How a manifest's platform begins, and what queries call it; all others are ``Other``."""

_AGENT_NAMESPACE: Final = uuid.UUID("6f0a3c1e-6d0c-5b8a-9d57-0c8f3a52c7d4")
_MODES: Final = {CredentialOwner.MAKER: "Maker", CredentialOwner.USER: "Invoker", CredentialOwner.APP: "App"}
"""Connections of others have the modes Invoker and Maker; an app's own credential is neither."""

_ACTIONS: Final = {
    PlatformToolKind.MCP: "InvokeExternalAgentTaskAction",
    PlatformToolKind.CONNECTOR: "InvokeConnectorTaskAction",
    PlatformToolKind.FLOW: "InvokeFlowTaskAction",
    PlatformToolKind.OPENAPI: "InvokeAIPluginTaskAction",
    PlatformToolKind.FUNCTION: "InvokeAIPluginTaskAction",
    PlatformToolKind.AGENT: "InvokeConnectedAgentTaskAction",
}
_MCP: Final = "ModelContextProtocolMetadata"
_USER_AUTHENTICATION: Final = {SignIn.NONE: "None", SignIn.INTEGRATED: "Integrated", SignIn.CUSTOM: "Custom"}
_TRIGGER: Final = {SignInWhen.ALWAYS: "Always", SignInWhen.AS_NEEDED: "As Needed"}


@dataclass(frozen=True, slots=True)
class Company:
    """What rows are made of: the registry and the directory at one moment.

    ``tools`` are by server, ``bindings`` by agent, ``builds`` by agent and version.
    """

    tenant: str = "default"
    agents: Mapping[str, Agent] = field(default_factory=dict)
    servers: Mapping[str, ToolServer] = field(default_factory=dict)
    tools: Mapping[str, Sequence[Tool]] = field(default_factory=dict)
    bindings: Mapping[str, Sequence[Binding]] = field(default_factory=dict)
    builds: Mapping[tuple[str, str], Build] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    operators: Mapping[str, Operator] = field(default_factory=dict)
    user_risks: Mapping[str, Risk] = field(default_factory=dict)

    def upn(self, person: str | None) -> str:
        """The principal name of a user; of anybody else the id, so that it is not lost."""
        user = self.users.get(person or "")
        return (user.upn if user else "") or person or ""


def read_company(tx: ControlTx, tenant: str) -> Company:
    """The company that ``tx`` sees."""
    return Company(
        tenant=tenant,
        agents={a.id: a for a in inventory.list_agents(tx)},
        servers={s.id: s for s in inventory.list_servers(tx)},
        tools=_grouped((t.server_id, t) for t in inventory.list_tools(tx)),
        bindings=_grouped((b.agent_id, b) for b in inventory.list_bindings(tx)),
        builds=snapshots.list_builds(tx),
        users={u.id: u for u in people.list_users(tx)},
        operators={o.id: o for o in people.list_operators(tx)},
        user_risks=risks.find_states(tx, risks.USER),
    )


def publish_inventory(control: SqlControlStore, log: EventLog, tenant: str, now: datetime) -> int:
    """Append the rows of every agent and person that changed, or was last shown a day ago; how many those were.

    An agent that was retired is shown once more, as deleted, and so is what the registry no longer holds. Safe to run
    at any time, any number of times, by any number of servers. Raises ``Unavailable``; the next run does the rest.
    """
    with control.read() as tx:
        if snapshots.is_published(tx, KINDS, now):
            return 0
        upto = snapshots.position(tx, now)
        company = read_company(tx, tenant)
        known_agents, known_users = (snapshots.list_snapshots(tx, kind) for kind in KINDS)
    agents, users = list(_agents(company, known_agents)), list(_users(company, known_users))
    done = [
        snapshots.publish(control, log, AGENTS, agents, known_agents, tenant=tenant, now=now, pace=DAILY),
        snapshots.publish(control, log, USERS, users, known_users, tenant=tenant, now=now, pace=DAILY),
    ]
    if all(outcome.is_complete for outcome in done):
        snapshots.note_published(control, KINDS, upto)
    return sum(outcome.published for outcome in done)


def _agents(company: Company, known: Iterable[str]) -> Iterator[Subject]:
    for agent in company.agents.values():
        rows = {"AgentsInfo": [agents_info_row(agent, company)], "AIAgentsInfo": [ai_agents_info_row(agent, company)]}
        yield Subject(agent.id, rows, is_closed=agent.state is AgentState.RETIRED)
    for gone in sorted(set(known) - set(company.agents)):
        info = {"AgentId": gone, "PublishedStatus": "Draft", "LifecycleStatus": "Deleted", "Availability": "NoOne"}
        ai_info = {"AIAgentId": agent_guid(company.tenant, gone), "AgentId": gone, "AgentStatus": "Deleted"}
        yield Subject(gone, {"AgentsInfo": [info], "AIAgentsInfo": [ai_info]}, is_gone=True)


def _users(company: Company, known: Iterable[str]) -> Iterator[Subject]:
    for user in company.users.values():
        yield Subject(user.id, {"IdentityInfo": [identity_info_row(user, company)]})
    for gone in sorted(set(known) - set(company.users)):
        yield Subject(gone, {"IdentityInfo": [{"AccountObjectId": gone, "IsAccountEnabled": False}]}, is_gone=True)


# -- rows ---------------------------------------------------------------------------------------------------------


def agents_info_row(agent: Agent, company: Company) -> Row:
    """The row of AgentsInfo: every column but time, tenant and the row's own id."""
    said, ids = agent.manifest, _section(agent.manifest, "platformIds")
    build = company.builds.get((agent.id, agent.version))
    is_published = _is_published(agent)
    grants, tools = company.bindings.get(agent.id, ()), _items(said, "platformTools")
    return {
        "AgentId": agent.id,
        "Name": agent.name,
        "Description": agent.description,
        "Platform": platform_of(agent),
        "Version": agent.version,
        "SourceAgentId": ids.get("agent", ""),
        "EntraAgentID": ids.get("directory", ""),
        "EntraBlueprintID": ids.get("blueprint", ""),
        "ObservabilityID": ids.get("observability", agent.id),
        "ToolsAuthenticationType": _json(
            [
                *({"name": f"{g.server_id}/{g.tool}", "type": g.credential_owner.value} for g in grants),
                *({"name": t["name"], "type": t["credential"]} for t in tools if "credential" in t),
            ]
        ),
        "Permissions": _json(
            [
                {"server": g.server_id, "tool": g.tool, "scope": g.scope.value, "credential": g.credential_owner.value}
                for g in grants
            ]
        ),
        "PublishedStatus": "Published" if is_published else "Draft",
        "LifecycleStatus": {AgentState.BLOCKED: "Blocked", AgentState.RETIRED: "Deleted"}.get(agent.state, "Active"),
        "Availability": _availability(agent),
        "CreatedDateTime": agent.created_at,
        "LastPublishedDateTime": build.at if build and is_published else None,
        "LastUpdatedDateTime": agent.updated_at,
        "LastUpdatedBy": agent.updated_by,
        "Owners": _json([agent.owner_id] if agent.owner_id else []),
        "SharedWith": _json(_shared_ids(said)),
        "InstanceCount": said.get("instances"),
        "Instructions": said.get("instructions", ""),
        "Model": agent.model,
        "Channels": _json(said.get("channels")),
        "Capabilities": _json(said.get("capabilities")),
        "DeclaredDataSources": _json(said.get("knowledge")),
        "DeclaredTools": _json([*_declared_tools(grants, company), *map(_declared_by_platform, tools)]),
        "McpServers": _json([*_mcp_servers(grants, company), *_platform_servers(tools)]),
        "Skills": _json(said.get("skills")),
        "ConnectedAgents": _json(
            [
                *({"id": other, "name": _name(company, other)} for other in said.get("connectedAgents", ())),
                *({"name": t["name"]} for t in tools if _kind(t) is PlatformToolKind.AGENT),
            ]
        ),
        "Memory": _json(said.get("memory")),
        "Triggers": _json([{"name": trigger} for trigger in said.get("triggers", ())]),
        "Guardrails": _json(said.get("guardrails")),
        "Endpoints": _json(said.get("endpoints")),
        "MakerId": agent.maker_id or "",
        "SponsorId": agent.sponsor_id or "",
        "RiskLevel": agent.risk.value,
        "RawAgentInfo": _json(_raw_info(agent, company)),
    }


def ai_agents_info_row(agent: Agent, company: Company) -> Row:
    """The row of AIAgentsInfo: every column but time, tenant and the row's own id."""
    said, ids, sign_in = agent.manifest, _section(agent.manifest, "platformIds"), _section(agent.manifest, "signIn")
    build = company.builds.get((agent.id, agent.version))
    is_published = _is_published(agent)
    grants, tools = company.bindings.get(agent.id, ()), _items(said, "platformTools")
    groups = [entry.removeprefix(GROUP) for entry in said.get("sharedWith", ()) if entry.startswith(GROUP)]
    status = "Deleted" if agent.state is AgentState.RETIRED else "Published" if is_published else "Created"
    return {
        "RegistrySource": registry_source(agent),
        "AIAgentId": agent_guid(company.tenant, agent.id),
        "AIAgentName": agent.name,
        "AgentCreationTime": agent.created_at,
        "CreatorAccountUpn": company.upn(agent.maker_id),
        "OwnerAccountUpns": company.upn(agent.owner_id),
        "LastModifiedByUpn": company.upn(agent.updated_by),
        "LastModifiedTime": agent.updated_at,
        "LastPublishedTime": build.at if build and is_published else None,
        "LastPublishedByUpn": company.upn(build.by) if build and is_published else "",
        "AgentDescription": agent.description,
        "AgentStatus": status,
        "UserAuthenticationType": _USER_AUTHENTICATION[SignIn(sign_in["users"])] if "users" in sign_in else "",
        "AgentUsers": ",".join(company.upn(entry) for entry in _shared_ids(said) or ()),
        "KnowledgeDetails": _json(
            [_json(_knowledge(k)) for k in _items(said, "knowledge")] if "knowledge" in said else None
        )
        or "",
        "AgentActionTriggers": _json(_action_triggers(said, grants, tools, company)),
        "RawAgentInfo": _json(_raw_bot(agent, company)),
        "AuthenticationTrigger": _TRIGGER[SignInWhen(sign_in["when"])] if "when" in sign_in else "",
        "AccessControlPolicy": _access_control(said),
        "AuthorizedSecurityGroupIds": _json(groups if "sharedWith" in said else None),
        "AgentTopicsDetails": _json([_topic(t) for t in _items(said, "topics")] if "topics" in said else None),
        "AgentToolsDetails": _json([*_mcp_dialogs(grants, company), *map(_platform_dialog, tools)]),
        "EnvironmentId": ids.get("environment", ""),
        "Platform": platform_of(agent),
        "IsGenerativeOrchestrationEnabled": said.get("generativeOrchestration"),
        "AgentAppId": ids.get("app", ""),
        "ConnectedAgentsSchemaNames": _json(
            [
                *(_schema_name(company, other) for other in said.get("connectedAgents", ())),
                *(t.get("operation") or t["name"] for t in tools if _kind(t) is PlatformToolKind.AGENT),
            ]
        ),
        "ChildAgentsSchemaNames": _json(said.get("childAgents")),
        "Instructions": said.get("instructions", ""),
        "IsBlocked": agent.state is AgentState.BLOCKED,
        "AgentId": agent.id,
    }


def identity_info_row(user: User, company: Company) -> Row:
    """The row of IdentityInfo. Risk is told as Entra tells it."""
    operator = company.operators.get(user.id)
    state = RiskState.NONE if user.risk is RiskLevel.NONE else RiskState.AT_RISK
    risk = company.user_risks.get(user.id) or Risk(user.risk, state)
    return {
        "AccountObjectId": user.id,
        "AccountUpn": user.upn,
        "AccountDisplayName": user.name,
        "IsAccountEnabled": user.is_enabled,
        "RiskLevel": user.risk.value,
        "RiskLevelDetails": risk.detail,
        "RiskStatus": risk.state.value[0].upper() + risk.state.value[1:],
        "AssignedRoles": _json(sorted(role.value for role in operator.roles) if operator else []),
        "Department": user.department,
        "JobTitle": user.job_title,
        "Manager": user.manager,
        "CriticalityLevel": user.criticality,
        "Type": "User",
        "EmailAddress": user.upn if "@" in user.upn else "",
        "GroupMembership": _json(list(user.groups)),
        "MustResetPassword": user.must_reset_password,
    }


def agent_guid(tenant: str, agent_id: str) -> str:
    """The agent's id, where that is a guid; else one made from it, always the same."""
    try:
        return str(uuid.UUID(agent_id)) if len(agent_id) == 36 else _made_guid(tenant, agent_id)
    except ValueError:
        return _made_guid(tenant, agent_id)


def platform_of(agent: Agent) -> str:
    """What queries call the agent's platform."""
    platform = agent.platform.casefold()
    return next((name for start, name in _PLATFORMS.items() if platform.startswith(start)), "Other")


def registry_source(agent: Agent) -> str:
    """``CopilotStudio``, or ``A365``: the word under which queries look for agents of all other platforms."""
    return "CopilotStudio" if platform_of(agent) == COPILOT_STUDIO else "A365"


# -- parts of rows ------------------------------------------------------------------------------------------------


def _is_published(agent: Agent) -> bool:
    was_declared = agent.manifest.get("state") == AgentState.PUBLISHED.value
    return agent.state is AgentState.PUBLISHED or (
        agent.state in (AgentState.BLOCKED, AgentState.RETIRED) and was_declared
    )


def _availability(agent: Agent) -> str:
    shared = agent.manifest.get("sharedWith", ())
    if agent.state is not AgentState.PUBLISHED:
        return "NoOne"
    if EVERYONE in shared or ANY_TENANT in shared:
        return "Everyone"
    return "Restricted" if shared else ""


def _shared_ids(said: Mapping[str, Any]) -> list[str] | None:
    if "sharedWith" not in said:
        return None
    return sorted({EVERYONE if entry == ANY_TENANT else entry.removeprefix(GROUP) for entry in said["sharedWith"]})


def _access_control(said: Mapping[str, Any]) -> str:
    shared = said.get("sharedWith", ())
    if ANY_TENANT in shared:
        return "Any (multitenant)"
    if EVERYONE in shared:
        return "Any"
    if any(entry.startswith(GROUP) for entry in shared):
        return "Group membership"
    return "Copilot readers" if shared else ""


def _tools_of(grants: Sequence[Binding], company: Company) -> Iterator[tuple[Binding, Tool | None, str]]:
    """Each granted tool with what is known of it; ``*`` is every known tool of the server."""
    for grant in grants:
        known = company.tools.get(grant.server_id, ())
        if grant.tool == "*" and known:
            yield from ((grant, tool, tool.name) for tool in known)
        else:
            yield grant, next((t for t in known if t.name == grant.tool), None), grant.tool


def _declared_tools(grants: Sequence[Binding], company: Company) -> Iterator[Row]:
    for grant, tool, name in _tools_of(grants, company):
        yield {
            "type": "mcp",
            "name": grant.server_id if name == "*" else name,
            "server": grant.server_id,
            "effect": tool.effect.value if tool else "unknown",
            "pin": tool.pin_state.value if tool else PinState.UNPINNED.value,
            "scope": grant.scope.value,
            "credential": grant.credential_owner.value,
        }


def _mcp_servers(grants: Sequence[Binding], company: Company) -> Iterator[Row]:
    by_server = _grouped((g.server_id, name) for g, _, name in _tools_of(grants, company) if name != "*")
    for server_id in dict.fromkeys(g.server_id for g in grants):
        server = company.servers.get(server_id)
        yield {
            "id": server_id,
            "name": server.name if server else server_id,
            "description": server.description if server else "",
            "url": server.url if server else "",
            "state": server.state.value if server else "",
            "tools": sorted(set(by_server.get(server_id, ()))),
        }


def _platform_servers(tools: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    for tool in tools:
        if _kind(tool) is PlatformToolKind.MCP:
            urls = tool.get("urls", ())
            yield {"name": tool["name"], "description": tool.get("description", ""), "url": urls[0] if urls else ""}


def _mcp_dialogs(grants: Sequence[Binding], company: Company) -> Iterator[Row]:
    """One dialog for each tool server and kind of credential, as Copilot Studio has one for each connection."""
    for (server_id, owner), some in _grouped(((g.server_id, g.credential_owner), g) for g in grants).items():
        server = company.servers.get(server_id)
        uses_all = any(g.tool == "*" for g in some)
        known = [
            {"name": name, "description": tool.description if tool else "", "effect": tool.effect.value if tool else ""}
            for _, tool, name in _tools_of(some, company)
            if name != "*"
        ]
        chosen: Row = {"kind": "UseAllTools"}
        if not uses_all:
            chosen = {"kind": "UseSpecificTools", "tools": sorted(g.tool for g in some)}
        yield {
            "$kind": "TaskDialog",
            "modelDisplayName": server.name if server else server_id,
            "modelDescription": server.description if server else "",
            "inputs": [],
            "action": {
                "$kind": _ACTIONS[PlatformToolKind.MCP],
                "connectionReference": server_id,
                "connectionProperties": {"mode": _MODES[owner]},
                "operationDetails": {"$kind": _MCP, "operationId": "InvokeMCP", "tools": chosen, "knownTools": known},
            },
        }


def _platform_dialog(tool: Mapping[str, Any]) -> Row:
    kind = _kind(tool)
    action: Row = {"$kind": _ACTIONS[kind], "connectionReference": tool.get("connection", "")}
    if "credential" in tool:
        action["connectionProperties"] = {"mode": _MODES[CredentialOwner(tool["credential"])]}
    operation = tool.get("operation", "")
    if kind is PlatformToolKind.MCP:
        names = tool.get("tools", ())
        chosen = {"kind": "UseSpecificTools", "tools": list(names)} if names else {"kind": "UseAllTools"}
        action["operationDetails"] = {"$kind": _MCP, "operationId": operation, "tools": chosen, "knownTools": []}
    elif kind is PlatformToolKind.FLOW:
        action["flowId"] = operation
    elif kind is PlatformToolKind.AGENT:
        action["botSchemaName"] = operation
    else:
        action["operationId"] = operation
    return {
        "$kind": "TaskDialog",
        "modelDisplayName": tool["name"],
        "modelDescription": tool.get("description", ""),
        "inputs": [
            {"kind": "ManualTaskInput", "propertyName": i["name"], "value": {"literalValue": i["value"]}}
            if "value" in i
            else {"kind": "AutomaticTaskInput", "propertyName": i["name"]}
            for i in _items(tool, "inputs")
        ],
        "action": action,
    }


def _topic(topic: Mapping[str, Any]) -> Row:
    actions: list[Row] = [
        {"$kind": "HttpRequestAction", "url": {"literalValue": url}} for url in topic.get("requests", ())
    ]
    for tool in _items(topic, "tools"):
        action: Row = {
            "$kind": "InvokeConnectorAction",
            "displayName": tool["name"],
            "operationId": tool.get("operation", ""),
            "connectionReference": tool.get("connection", ""),
            "input": {"binding": {i["name"]: {"literalValue": i.get("value", "")} for i in _items(tool, "inputs")}},
        }
        if "credential" in tool:
            action["connectionProperties"] = {"mode": _MODES[CredentialOwner(tool["credential"])]}
        actions.append(action)
    begin: Row = {"actions": actions}
    if "trigger" in topic:
        begin["$kind"] = topic["trigger"]
    return {"displayName": topic["name"], "beginDialog": begin}


def _knowledge(item: Mapping[str, Any]) -> Row:
    return {"name": item["name"], "source": {"$kind": item.get("kind", ""), "site": item.get("url", "")}}


def _action_triggers(
    said: Mapping[str, Any], grants: Sequence[Binding], tools: Sequence[Mapping[str, Any]], company: Company
) -> list[Row]:
    found: list[Row] = [
        {"type": "RemoteMCPServer", "name": server["name"], "serverUrls": [server["url"]] if server["url"] else []}
        for server in (*_mcp_servers(grants, company), *_platform_servers(tools))
    ]
    found += [
        {"type": "OpenApi", "name": tool["name"], "serverUrls": list(tool.get("urls", ()))}
        for tool in tools
        if _kind(tool) is PlatformToolKind.OPENAPI
    ]
    return found + [{"type": "Trigger", "name": trigger, "serverUrls": []} for trigger in said.get("triggers", ())]


def _raw_info(agent: Agent, company: Company) -> Row:
    """The manifest, beside what queries look for in an agent's raw record."""
    said, maker = agent.manifest, company.users.get(agent.maker_id or "")
    shared = _shared_ids(said)
    raw: Row = {
        "publishedStatus": "published" if _is_published(agent) else "draft",
        "owners": [{"entityId": agent.owner_id}] if agent.owner_id else [],
        "creatorId": agent.maker_id or "",
        "developerName": maker.name if maker else "",
        "instructions": said.get("instructions", ""),
        "llmModels": [agent.model] if agent.model else [],
        "manifest": dict(said),
    }
    if shared is not None:
        raw |= {"scope": "tenant", "allowForAllUsers": EVERYONE in shared}
    if "agent" in (ids := _section(said, "platformIds")):
        raw["sourceIds"] = [ids["agent"]]
    return raw


def _raw_bot(agent: Agent, company: Company) -> Row:
    """As ``_raw_info``, and where Copilot Studio's own record has an agent's settings and instructions."""
    if platform_of(agent) != COPILOT_STUDIO:
        return _raw_info(agent, company)
    schema_name = _schema_name(company, agent.id)
    attributes: Row = {"schemaname": schema_name}
    if "generativeOrchestration" in agent.manifest:
        is_generative = agent.manifest["generativeOrchestration"]
        attributes["configuration"] = json.dumps({"settings": {"GenerativeActionsEnabled": is_generative}}, indent=2)
    instructions = agent.manifest.get("instructions", "")
    data = "kind: GptComponentMetadata\n" + (f"instructions: {json.dumps(instructions)}\n" if instructions else "")
    component = {
        "FormattedValues": {"componenttype": "Custom GPT"},
        "Attributes": {"schemaname": f"{schema_name}.gpt.default", "data": data},
    }
    return {"Bot": {"Attributes": attributes}, "BotComponents": [component], **_raw_info(agent, company)}


def _schema_name(company: Company, agent_id: str) -> str:
    agent = company.agents.get(agent_id)
    name = _section(agent.manifest, "platformIds").get("schemaName", agent_id) if agent else agent_id
    return str(name)


def _name(company: Company, agent_id: str) -> str:
    agent = company.agents.get(agent_id)
    return agent.name if agent else agent_id


def _kind(tool: Mapping[str, Any]) -> PlatformToolKind:
    return PlatformToolKind(tool.get("kind", PlatformToolKind.CONNECTOR))


def _declared_by_platform(tool: Mapping[str, Any]) -> Row:
    shown = {name: tool[name] for name in ("name", "operation", "connection", "credential", "urls") if name in tool}
    return {"type": _kind(tool), **shown, "effect": platform_tool_effect(tool).value}


def _section(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = said.get(name)
    return found if isinstance(found, Mapping) else {}


def _items(said: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    found = said.get(name)
    return found if isinstance(found, list | tuple) else ()


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _made_guid(tenant: str, agent_id: str) -> str:
    return str(uuid.uuid5(_AGENT_NAMESPACE, f"{tenant}/{agent_id}"))


def _json(value: Any) -> str | None:
    """``value`` as the text of a dynamic cell; null for what is not known."""
    return None if value is None else orjson.dumps(value).decode()
