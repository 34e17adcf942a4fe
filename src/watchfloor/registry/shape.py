"""The shape of a manifest, as one table; and reading a document by it.

Above ``registry.readers``, below ``registry.manifest``. Each section lists its members: what they are called, what may
stand there, what stands there when nothing does, and what it means. ``docs/manifest.md`` must show every member
(checked by test). It does not know what exists: references between things are checked by ``registry.manifest``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from watchfloor.guard.detectors import canary
from watchfloor.guard.provenance.labels import Strictness
from watchfloor.model.agents import AgentState, CredentialOwner, Scope, ToolEffect
from watchfloor.registry.connector_shape import CONNECTOR
from watchfloor.registry.connector_shape import KINDS as CONNECTOR_KINDS
from watchfloor.registry.document import Node
from watchfloor.registry.problems import Problems
from watchfloor.registry.readers import (
    BAD,
    Absent,
    Member,
    Section,
    body,
    boolean,
    choice,
    domain,
    many,
    name,
    number,
    roles,
    secret,
    section,
    sections,
    server_url,
    shared,
    text,
    tool_name,
    url,
    whole,
)

API_VERSION: Final = "watchfloor/v1"
KIND: Final = "Company"
MIN_AGENT_SECRET: Final = 32
SHORTEST_CANARY: Final = canary.SHORTEST


class DeclaredState(StrEnum):
    """States that a manifest may declare."""

    PUBLISHED = AgentState.PUBLISHED.value
    DRAFT = AgentState.DRAFT.value


class DeclaredEffect(StrEnum):
    """Effects that a manifest may declare: all but ``unknown``, which is what leaving it out means."""

    READ = ToolEffect.READ.value
    CREATE = ToolEffect.CREATE.value
    UPDATE = ToolEffect.UPDATE.value
    DELETE = ToolEffect.DELETE.value
    SEND = ToolEffect.SEND.value
    PAY = ToolEffect.PAY.value


class SignIn(StrEnum):
    """How the users of an agent prove who they are."""

    NONE = "none"
    INTEGRATED = "integrated"
    CUSTOM = "custom"


class SignInWhen(StrEnum):
    """When the users of an agent must sign in."""

    ALWAYS = "always"
    AS_NEEDED = "as-needed"


class PlatformToolKind(StrEnum):
    """What a tool is that an agent's own platform calls for it, past the gateway."""

    MCP = "mcp"
    CONNECTOR = "connector"
    FLOW = "flow"
    OPENAPI = "openapi"
    FUNCTION = "function"
    AGENT = "agent"


ORGANIZATION: Final = Section(
    "organization",
    "The company.",
    (
        Member("name", text(200, empty=False), "The company's name.", is_required=True),
        Member("domains", many(domain), "Mail domains that are the company's own.", ()),
    ),
)
PROVIDER: Final = Section(
    "identity provider",
    "An issuer whose RS256 tokens prove who a user is.",
    (
        Member("issuer", url(require_tls=True), "Its `iss`, exactly.", is_required=True),
        Member("jwksUri", url(require_tls=True), "Where it publishes its keys.", is_required=True),
        Member("audience", text(500, empty=False), "The `aud` that its tokens must have.", is_required=True),
        Member("subjectClaim", text(100, empty=False), "The claim that identifies a user.", "sub"),
        Member("connector", section(CONNECTOR), "How it is told to end sessions (docs/identity-providers.md)."),
    ),
)
USER: Final = Section(
    "user",
    "Somebody who talks to agents, builds them or answers for them.",
    (
        Member("id", name, "The user's id here.", is_required=True),
        Member("name", text(200), "The user's full name; the id unless given."),
        Member("upn", text(320), "User principal name, usually the mail address.", ""),
        Member("issuer", text(2048, empty=False), "Identity provider; may be left out where there is only one."),
        Member("subject", text(500, empty=False), "What the provider's subject claim says; the id unless given."),
        Member("groups", many(text(200, empty=False)), "Groups, for policies.", ()),
        Member("department", text(200), "Where the user works.", ""),
        Member("jobTitle", text(200), "What the user does.", ""),
        Member("manager", name, "The manager's id here."),
        Member("criticality", whole(0, 3), "How much depends on the account: 0 (most) to 3."),
        Member("breakGlass", boolean, "True for an account kept for emergencies: no response locks it out.", False),
        Member("enabled", boolean, "False ends every session of the user and allows no new one.", True),
    ),
)
TOOL: Final = Section(
    "tool",
    "A tool that is approved as its server lists it.",
    (
        Member("name", tool_name, "Its name, as listed.", is_required=True),
        Member(
            "effect", choice(DeclaredEffect), "What it does to the world; worked out from its definition unless given."
        ),
        Member(
            "provenance",
            choice(Strictness),
            "How much is asked of the origins of its arguments; careful unless given (docs/provenance.md).",
        ),
        Member(
            "trustedFields",
            many(text(200, empty=False)),
            "Fields of its results that nobody outside can write; * stands for any characters.",
            (),
        ),
        Member(
            "roles",
            roles,
            "What arguments are for, where their names mislead: destination, secret, id, time, content, amount, path, "
            "entity (docs/provenance.md).",
        ),
        Member("allowWhenStale", boolean, "Reading tools only: allow and flag when state is old.", False),
    ),
)
KNOWN_NAMES: Final = Section(
    "known names",
    "Names that the organisation knows besides its users and domains: a value from here is trusted in any call.",
    (
        Member("id", name, "The list's id.", is_required=True),
        Member(
            "names",
            many(text(320, empty=False)),
            "Addresses, accounts, channels, as they are written; without any, the list is removed.",
            (),
        ),
    ),
)
CANARY: Final = Section(
    "canary",
    "Something that nobody has a reason to touch: when an agent does, an alert says so (docs/detections.md).",
    (
        Member("id", name, "What alerts call it.", is_required=True),
        Member(
            "value",
            secret(SHORTEST_CANARY),
            "A text that stands where nobody looks: in a document, a row, a password; null removes the canary.",
            Absent.KEEP,
            is_secret=True,
        ),
        Member("tool", text(400, empty=False), "Or a tool that nobody needs, as `server/tool`."),
    ),
)
SERVER: Final = Section(
    "tool server",
    "An MCP server whose tools agents use through the gateway.",
    (
        Member("id", name, "Its id; agents reach it as /mcp/ID.", is_required=True),
        Member("name", text(200), "Its name for people; the id unless given."),
        Member("description", text(2000), "What it is for.", ""),
        Member("url", server_url, "Its MCP endpoint (streamable HTTP), or stdio:NAME.", is_required=True),
        Member("trusted", boolean, "Whether its hints may make a tool count as harmless.", False),
        Member("timeoutSeconds", number(1, 600), "How long a call may take.", 30.0),
        Member("credential", secret(), "App credential, sent upstream as a bearer token.", Absent.KEEP, is_secret=True),
        Member("tools", sections(TOOL), "Tools to approve; others are found by listing, and are not approved."),
    ),
)
GRANT: Final = Section(
    "binding",
    "The agent may use this tool.",
    (
        Member("server", name, "Id of the tool server.", is_required=True),
        Member("tool", tool_name, "Name of the tool, or * for every tool of the server.", is_required=True),
        Member("credential", choice(CredentialOwner), "Whose credentials the tool sees.", CredentialOwner.APP),
        Member("scope", choice(Scope), "read covers tools without side effects only.", Scope.READ),
        Member("makerCredential", secret(), "The maker's credential for it.", Absent.KEEP, is_secret=True),
    ),
)
SIGN_IN: Final = Section(
    "sign-in",
    "How the agent's users prove who they are, on its platform.",
    (
        Member("users", choice(SignIn), "none, integrated (the platform's own) or custom.", is_required=True),
        Member("when", choice(SignInWhen), "always or as-needed."),
    ),
)
PLATFORM_IDS: Final = Section(
    "platform ids",
    "What the agent is called elsewhere.",
    (
        Member("agent", text(300), "Its id on its platform.", ""),
        Member("schemaName", text(300), "Its name in the platform's schema.", ""),
        Member("environment", text(300), "The environment, project or account that it is in.", ""),
        Member("app", text(300), "Its application's id.", ""),
        Member("directory", text(300), "Its identity in the directory.", ""),
        Member("blueprint", text(300), "The blueprint that the identity was made from.", ""),
        Member("observability", text(300), "The id that its telemetry carries; its id unless given.", ""),
    ),
)
KNOWLEDGE: Final = Section(
    "knowledge",
    "Something that the agent answers from.",
    (
        Member("name", text(300, empty=False), "Its name.", is_required=True),
        Member("kind", text(100), "What it is, as the platform calls it.", ""),
        Member("url", text(2048), "Where it is.", ""),
    ),
)
INPUT: Final = Section(
    "input",
    "An input of a tool.",
    (
        Member("name", text(200, empty=False), "Its name.", is_required=True),
        Member("value", text(2000), "What is always put in; without one the model fills it."),
    ),
)
PLATFORM_TOOL: Final = Section(
    "platform tool",
    "A tool that the agent's platform calls for it, past the gateway.",
    (
        Member("name", text(300, empty=False), "Its name, as the model sees it.", is_required=True),
        Member("description", text(4000), "What it does.", ""),
        Member("kind", choice(PlatformToolKind), "mcp, connector, flow, openapi, function or agent.",
               PlatformToolKind.CONNECTOR),
        Member("operation", text(500), "The operation, as the platform calls it.", ""),
        Member("connection", text(500), "The connection that it goes through.", ""),
        Member("credential", choice(CredentialOwner), "Whose credentials it uses, where that is known."),
        Member("urls", many(text(2048, empty=False)), "Where it calls.", ()),
        Member("tools", many(tool_name), "Tools of an MCP server; all of them unless given.", ()),
        Member("inputs", sections(INPUT), "Its inputs, as far as they are known.", ()),
    ),
)  # fmt: skip
TOPIC: Final = Section(
    "topic",
    "A conversation that the agent's maker has laid out step by step.",
    (
        Member("name", text(300, empty=False), "Its name.", is_required=True),
        Member("trigger", text(300), "What begins it.", ""),
        Member("requests", many(text(2048, empty=False)), "URLs that it calls by itself.", ()),
        Member("tools", sections(PLATFORM_TOOL), "Tools that it calls.", ()),
    ),
)
SKILL: Final = Section(
    "skill",
    "Something that the agent offers to other agents.",
    (
        Member("name", text(300, empty=False), "Its name.", is_required=True),
        Member("description", text(4000), "What it is.", ""),
    ),
)
AGENT: Final = Section(
    "agent",
    "An agent, its people and what it may use.",
    (
        Member("id", name, "Its id, also at the token service.", is_required=True),
        Member("name", text(200, empty=False), "Its name for people.", is_required=True),
        Member("description", text(4000), "What it does.", ""),
        Member("version", text(60, empty=False), "Its maker's name for this build.", "1"),
        Member("state", choice(DeclaredState), "Whether it may be used at once.", DeclaredState.PUBLISHED),
        Member("maker", name, "User who built it."),
        Member("owner", name, "User who answers for it technically; the maker unless given."),
        Member("sponsor", name, "User who answers for its purpose."),
        Member("platform", text(200), "What it was built with.", ""),
        Member("model", text(200), "The language model behind it.", ""),
        Member("instructions", text(100_000), "Its instructions (system prompt).", ""),
        Member("triggers", many(text(500, empty=False)), "What starts it.", ()),
        Member("connectedAgents", many(name), "Agents that it hands work to.", ()),
        Member("childAgents", many(text(300, empty=False)), "Agents that are part of it, by name.", ()),
        Member("sharedWith", many(shared), "Who may use it: user ids, group:NAME, * (everyone), tenants:*.", ()),
        Member("signIn", section(SIGN_IN), "How its users prove who they are."),
        Member("channels", many(text(100, empty=False)), "Where it can be talked to.", ()),
        Member("capabilities", many(text(200, empty=False)), "What its platform lets it do: web search, …", ()),
        Member("generativeOrchestration", boolean, "Whether the model chooses what to do next."),
        Member("knowledge", sections(KNOWLEDGE), "What it answers from.", ()),
        Member("topics", sections(TOPIC), "Conversations that its maker has laid out.", ()),
        Member("platformTools", sections(PLATFORM_TOOL), "Tools that its platform calls for it.", ()),
        Member("skills", sections(SKILL), "What it offers to other agents.", ()),
        Member("memory", many(text(500, empty=False)), "What it remembers, and where.", ()),
        Member("guardrails", many(text(500, empty=False)), "What its platform holds it to.", ()),
        Member("endpoints", many(text(2048, empty=False)), "Where it answers.", ()),
        Member("instances", whole(0, 2**31 - 1), "How often it is installed."),
        Member("platformIds", section(PLATFORM_IDS), "What it is called elsewhere."),
        Member("secret", secret(MIN_AGENT_SECRET), "Its secret at the token service.", Absent.KEEP, is_secret=True),
        Member("tools", sections(GRANT), "Exactly the tools that it may use.", ()),
    ),
)
COMPANY: Final = Section(
    "manifest",
    "A company: people, tool servers, agents, policies.",
    (
        Member("apiVersion", text(40), f"Always {API_VERSION}.", is_required=True),
        Member("kind", text(40), f"Always {KIND}.", is_required=True),
        Member("organization", section(ORGANIZATION), "The company."),
        Member("identityProviders", sections(PROVIDER), "Whose tokens prove who a user is.", ()),
        Member("users", sections(USER), "People.", ()),
        Member("knownNames", sections(KNOWN_NAMES), "What else the organisation knows by name.", ()),
        Member("canaries", sections(CANARY), "What nobody has a reason to touch.", ()),
        Member("toolServers", sections(SERVER), "MCP servers.", ()),
        Member("agents", sections(AGENT), "Agents.", ()),
        Member("policies", many(body, is_set=False), "Policies, beside the shipped ones.", ()),
    ),
)

SECTIONS: Final = (
    COMPANY,
    ORGANIZATION,
    PROVIDER,
    CONNECTOR,
    *CONNECTOR_KINDS.values(),
    USER,
    KNOWN_NAMES,
    CANARY,
    SERVER,
    TOOL,
    AGENT,
    GRANT,
    SIGN_IN,
    PLATFORM_IDS,
    KNOWLEDGE,
    PLATFORM_TOOL,
    INPUT,
    TOPIC,
    SKILL,
)
"""Every section there is, for the documentation."""

DESCRIPTIVE: Final = (
    "childAgents",
    "sharedWith",
    "signIn",
    "channels",
    "capabilities",
    "generativeOrchestration",
    "knowledge",
    "topics",
    "platformTools",
    "skills",
    "memory",
    "guardrails",
    "endpoints",
    "instances",
    "platformIds",
)
"""Members of an agent that describe it to people and to hunting; no decision rests on them."""


def read_company(node: Node, problems: Problems) -> dict[str, Any]:
    """The manifest in ``node`` as nested dictionaries; what is wrong is in ``problems``, its value then ``BAD``."""
    problems.lines[""] = node.line
    values = section(COMPANY)(node, "", problems)
    if values is BAD:
        problems.raise_if_any()
    if values["apiVersion"] not in (BAD, API_VERSION):
        problems.add("apiVersion", f"{values['apiVersion']!r} is not known.", f"Write {API_VERSION}.")
    if values["kind"] not in (BAD, KIND):
        problems.add("kind", f"{values['kind']!r} is not known.", f"Write {KIND}.")
    found: dict[str, Any] = values
    return found
