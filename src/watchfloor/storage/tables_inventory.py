"""Inventory: snapshots of what the registry and the directory hold, so that "what changed" can be hunted.

One row for each agent or person whenever it changed, and one a day; the newest row of each is what is true now
(``summarize arg_max(Timestamp, *) by AgentId``). Names, types and nested shapes are Microsoft's, under the names of
their live tables, with those of their documents as aliases. Above is ``registry/snapshots.py``.
"""

from __future__ import annotations

from typing import Final

from watchfloor.storage.table_shape import COMMON, Column, Table

AGENTS_INFO: Final = Table(
    "AgentsInfo",
    "Agents as the registry has them, whatever platform they are from: a snapshot at each change and daily.",
    (
        *COMMON,
        Column("AgentId", "string", "The agent."),
        Column("Name", "string", "Its name."),
        Column("Description", "string", "What it is for."),
        Column(
            "Platform",
            "string",
            "Where it runs: Copilot Studio, Microsoft Foundry, Amazon Bedrock, Other, …",
        ),
        Column("Version", "string", "The build."),
        Column("SourceAgentId", "string", "Its id on its platform."),
        Column("EntraAgentID", "string", "Its identity in the directory."),
        Column("EntraBlueprintID", "string", "The blueprint that the identity was made from."),
        Column("ObservabilityID", "string", "The id that its telemetry carries."),
        Column("ToolsAuthenticationType", "dynamic", "Whose credentials its tools see, each tool with its kind."),
        Column("Permissions", "dynamic", "What it may do: tool server, tool, scope and whose credentials."),
        Column("PublishedStatus", "string", "Draft or Published."),
        Column("LifecycleStatus", "string", "Active, Blocked, Uninstalled or Deleted."),
        Column("Availability", "string", "Who may use it: Everyone, Restricted or NoOne."),
        Column("CreatedDateTime", "datetime", "When it was made known."),
        Column("LastPublishedDateTime", "datetime", "When its version in force was published."),
        Column("LastUpdatedDateTime", "datetime", "When anything about it changed last."),
        Column("LastUpdatedBy", "string", "Who changed it."),
        Column("Owners", "dynamic", "Ids of the people who answer for it."),
        Column("SharedWith", "dynamic", "Whom it is shared with; '*' is everyone."),
        Column("InstanceCount", "int", "Installations."),
        Column("Instructions", "string", "Its instructions."),
        Column("Model", "string", "The model that it uses."),
        Column("Channels", "dynamic", "Where it can be talked to."),
        Column("Capabilities", "dynamic", "What it is able to: code interpreter, web search, …"),
        Column("DeclaredDataSources", "dynamic", "The knowledge that it declares."),
        Column("DeclaredTools", "dynamic", "The tools that it declares: type and name."),
        Column("McpServers", "dynamic", "The MCP servers that it uses: name, description, url, tools."),
        Column("Skills", "dynamic", "Its skills (A2A)."),
        Column("ConnectedAgents", "dynamic", "Agents that it can hand over to."),
        Column("Memory", "dynamic", "What it remembers, and where."),
        Column("Triggers", "dynamic", "What starts it without a person."),
        Column("Guardrails", "dynamic", "What it is held to by its platform."),
        Column("Endpoints", "dynamic", "Where it answers."),
        Column("MakerId", "string", "Who built it."),
        Column("SponsorId", "string", "Who stands in for the owner."),
        Column("RiskLevel", "string", "none, low, medium or high."),
        Column("RawAgentInfo", "dynamic", "Its manifest as it was given."),
    ),
    aliases=(
        ("AgentName", "Name"),
        ("AgentDescription", "Description"),
        ("EntraAgentId", "EntraAgentID"),
        ("EntraBlueprintId", "EntraBlueprintID"),
        ("ObservabilityId", "ObservabilityID"),
    ),
)

AI_AGENTS_INFO: Final = Table(
    "AIAgentsInfo",
    "Agents in the shape of Copilot Studio's inventory, as many hunting queries read it: a snapshot at each change.",
    (
        *COMMON,
        Column("RegistrySource", "string", "Where the agent is registered: CopilotStudio, A365 or Watchfloor."),
        Column("AIAgentId", "guid", "The agent; made from its id where that is no guid."),
        Column("AIAgentName", "string", "Its name."),
        Column("AgentCreationTime", "datetime", "When it was made known."),
        Column("CreatorAccountUpn", "string", "Who built it."),
        Column("OwnerAccountUpns", "string", "Who answers for it, separated by commas."),
        Column("LastModifiedByUpn", "string", "Who changed it last."),
        Column("LastModifiedTime", "datetime", "When."),
        Column("LastPublishedTime", "datetime", "When its version in force was published."),
        Column("LastPublishedByUpn", "string", "By whom."),
        Column("AgentDescription", "string", "What it is for."),
        Column("AgentStatus", "string", "Created, Published or Deleted."),
        Column("UserAuthenticationType", "string", "How its users sign in: None, Integrated or Custom."),
        Column("AgentUsers", "string", "Who may use it, separated by commas."),
        Column("KnowledgeDetails", "string", "Its knowledge: a JSON array of JSON texts."),
        Column("AgentActionTriggers", "string", "Actions and what triggers them: a JSON array."),
        Column("RawAgentInfo", "string", "Its manifest as it was given: JSON."),
        Column("AuthenticationTrigger", "string", "When users must sign in: As Needed or Always."),
        Column("AccessControlPolicy", "string", "Who is let in: Any, Group membership, Any (multitenant), …"),
        Column("AuthorizedSecurityGroupIds", "dynamic", "Groups that are let in."),
        Column("AgentTopicsDetails", "dynamic", "Its topics and what they do."),
        Column("AgentToolsDetails", "dynamic", "Its tools: action, connection and its mode (Invoker, Maker), inputs."),
        Column("EnvironmentId", "string", "The environment that it is in."),
        Column("Platform", "string", "Where it runs."),
        Column("IsGenerativeOrchestrationEnabled", "bool", "Whether the model chooses what to do next."),
        Column("AgentAppId", "string", "Its application's id."),
        Column("ConnectedAgentsSchemaNames", "dynamic", "Agents that it can hand over to."),
        Column("ChildAgentsSchemaNames", "dynamic", "Agents that are part of it."),
        Column("Instructions", "string", "Its instructions."),
        Column("IsBlocked", "bool", "Whether it is blocked."),
        Column("AgentId", "string", "The agent's id here; joins AgentActivity."),
    ),
)

IDENTITY_INFO: Final = Table(
    "IdentityInfo",
    "People as the directory has them: a snapshot at each change and daily.",
    (
        *COMMON,
        Column("AccountObjectId", "string", "The person's id."),
        Column("AccountUpn", "string", "Principal name."),
        Column("AccountDisplayName", "string", "Name."),
        Column("IsAccountEnabled", "bool", "Whether they can sign in."),
        Column("RiskLevel", "string", "none, low, medium or high."),
        Column("RiskLevelDetails", "string", "What made it so: none, or adminConfirmedUserCompromised."),
        Column("RiskStatus", "string", "None, ConfirmedSafe, Remediated, Dismissed, AtRisk or ConfirmedCompromised."),
        Column("AssignedRoles", "dynamic", "Roles in the portals."),
        Column("Department", "string", "Department."),
        Column("JobTitle", "string", "Job title."),
        Column("Manager", "string", "The manager's id."),
        Column("CriticalityLevel", "int", "How much depends on this account, 0 (most) to 3."),
        Column("Type", "string", "User or ServiceAccount."),
        Column("EmailAddress", "string", "Mail address."),
        Column("GroupMembership", "dynamic", "Groups."),
        Column("MustResetPassword", "bool", "Whether a new password is due at the next sign-in."),
    ),
)
