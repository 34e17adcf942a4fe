"""The shape of a manifest, as one table; and reading a document by it.

Above ``registry.document``, below ``registry.manifest``. Each section lists its members: what they are called, what may
stand there, what stands there when nothing does, and what it means. ``read_section`` reports everything that does not
fit. ``docs/manifest.md`` must show every member (checked by test). It does not know what exists: references between
things are checked by ``registry.manifest``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from watchfloor.guard.detectors import canary
from watchfloor.guard.provenance.labels import Role, Strictness
from watchfloor.model.agents import AgentState, CredentialOwner, Scope, ToolEffect
from watchfloor.model.ids import is_name
from watchfloor.model.urls import outbound_problem
from watchfloor.registry.document import Listing, Mapping, Node, Scalar, plain
from watchfloor.registry.problems import Problems, did_you_mean

API_VERSION: Final = "watchfloor/v1"
KIND: Final = "Company"
MIN_AGENT_SECRET: Final = 32
SHORTEST_CANARY: Final = canary.SHORTEST
MAX_ITEMS: Final = 20_000
MAX_ROLES: Final = 200

Reader = Callable[[Node, str, Problems], Any]
"""Reads a node at a place; on a problem, notes it and returns ``BAD``."""


class _Bad:
    """What could not be read."""


BAD: Final = _Bad()


class Absent(StrEnum):
    """What an absent secret means."""

    KEEP = "keep"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a section. ``default`` stands for an absent one; ``is_secret``: a ``{value|env|file}`` mapping."""

    name: str
    read: Reader
    doc: str
    default: Any = None
    is_required: bool = False
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping of the manifest."""

    name: str
    doc: str
    members: tuple[Member, ...]


# -- values -------------------------------------------------------------------------------------------------------


def text(limit: int = 500, *, empty: bool = True) -> Reader:
    """Text of at most ``limit`` characters. A number is taken as it is written: ``version: 3`` means ``"3"``."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        if not isinstance(node, Scalar) or node.value is None or isinstance(node.value, bool):
            remedy = f'Quote it: "{node.text}".' if isinstance(node, Scalar) and node.text else ""
            problems.add(where, "must be text.", remedy)
            return BAD
        value = node.text.strip()
        if len(value) > limit:
            problems.add(where, f"has {len(value)} characters; {limit} is the most.")
            return BAD
        if not value and not empty:
            problems.add(where, "must not be empty.")
            return BAD
        return value

    return read


def name(node: Node, where: str, problems: Problems) -> Any:
    """An id: what a person calls the thing, for good."""
    if isinstance(node, Scalar) and is_name(node.text) and not isinstance(node.value, bool) and node.value is not None:
        return node.text
    shown = f"{node.text[:80]!r}" if isinstance(node, Scalar) else "this"
    problems.add(where, f"{shown} cannot be an id.", "Use 1 to 64 lower-case letters, digits, '.', '_' and '-'.")
    return BAD


def shared(node: Node, where: str, problems: Problems) -> Any:
    """With whom an agent is shared: a user's id, ``group:NAME``, ``*`` or ``tenants:*``."""
    value = node.text.strip() if isinstance(node, Scalar) else ""
    is_group = value.startswith(GROUP) and 0 < len(value.removeprefix(GROUP).strip()) <= 200
    if value in (EVERYONE, ANY_TENANT) or is_group or is_name(value):
        return value
    problems.add(
        where, "is nobody.", "Write a user's id, group:NAME, * (everyone) or tenants:* (other companies, too)."
    )
    return BAD


EVERYONE: Final = "*"
ANY_TENANT: Final = "tenants:*"
GROUP: Final = "group:"


def tool_name(node: Node, where: str, problems: Problems) -> Any:
    """A tool's name, as its server lists it."""
    if isinstance(node, Scalar) and is_tool_name(node.text):
        return node.text
    problems.add(where, "cannot be the name of a tool.", "Write it as the tool server lists it; no spaces.")
    return BAD


def is_tool_name(value: str) -> bool:
    """Whether a tool may be called ``value``: 1 to 128 visible characters without spaces, as MCP recommends."""
    return 0 < len(value) <= 128 and value.isprintable() and not any(c.isspace() for c in value)


def choice(kind: type[StrEnum]) -> Reader:
    """One of an enumeration's values."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        values = [member.value for member in kind]
        if isinstance(node, Scalar) and node.text in values:
            return kind(node.text)
        shown = f"{node.text[:80]!r}" if isinstance(node, Scalar) else "this"
        problems.add(where, f"{shown} is not possible here.", f"Possible: {', '.join(values)}.")
        return BAD

    return read


def boolean(node: Node, where: str, problems: Problems) -> Any:
    """True or false."""
    if isinstance(node, Scalar) and isinstance(node.value, bool):
        return node.value
    problems.add(where, "must be true or false.")
    return BAD


def number(low: float, high: float) -> Reader:
    """A number between ``low`` and ``high``."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        problems.add(where, f"must be a number between {low:g} and {high:g}.")
        return BAD

    return read


def whole(low: int, high: int) -> Reader:
    """A whole number between ``low`` and ``high``."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        problems.add(where, f"must be a whole number between {low} and {high}.")
        return BAD

    return read


def server_url(node: Node, where: str, problems: Problems) -> Any:
    """Where a tool server answers: an http(s) URL, or ``stdio:NAME`` for one that ``mcp wrap`` guards in place."""
    if isinstance(node, Scalar) and node.text.startswith(STDIO) and is_name(node.text.removeprefix(STDIO)):
        return node.text
    return url(require_tls=False)(node, where, problems)


STDIO: Final = "stdio:"
"""What the URL of a tool server begins with that speaks over standard input and output; nobody calls it."""


def url(*, require_tls: bool) -> Reader:
    """An http(s) URL that the product may call."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        value = node.text.strip() if isinstance(node, Scalar) else ""
        problem = outbound_problem(value, require_tls=require_tls)
        if problem is None:
            return value
        problems.add(where, problem)
        return BAD

    return read


def domain(node: Node, where: str, problems: Problems) -> Any:
    """A mail domain."""
    value = node.text.strip().lower().removeprefix("@") if isinstance(node, Scalar) else ""
    labels = value.split(".")
    if 0 < len(value) <= 253 and all(0 < len(x) <= 63 and x.replace("-", "a").isalnum() for x in labels):
        return value
    problems.add(where, "must be a domain, like zava.example.")
    return BAD


def many(read_item: Reader, *, is_set: bool = True) -> Reader:
    """A list. As a set, its order means nothing: it is kept sorted, without doubles."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        if not isinstance(node, Listing):
            problems.add(where, "must be a list.", "Start each item with '- '.")
            return BAD
        if len(node.items) > MAX_ITEMS:
            problems.add(where, f"has {len(node.items)} items; {MAX_ITEMS} is the most.")
            return BAD
        items = []
        for index, item in enumerate(node.items):
            place = f"{where}[{index}]"
            problems.lines[place] = item.line
            items.append(read_item(item, place, problems))
        # Otherwise what is bad keeps its place, so that the others keep theirs.
        return tuple(sorted({item for item in items if item is not BAD})) if is_set else tuple(items)

    return read


def roles(node: Node, where: str, problems: Problems) -> Any:
    """What arguments are for, by name."""
    if not isinstance(node, Mapping) or len(node.members) > MAX_ROLES:
        problems.add(where, f"must be a mapping of at most {MAX_ROLES} arguments.", "Write argument: role.")
        return BAD
    found: dict[str, str] = {}
    for argument, given in node.members.items():
        place = f"{where}.{argument[:80]}"
        problems.lines[place] = given.line
        role = choice(Role)(given, place, problems)
        if role is not BAD:
            found[argument] = role.value
    return found


def body(node: Node, where: str, problems: Problems) -> Any:
    """A mapping that somebody else checks."""
    if isinstance(node, Mapping):
        return plain(node)
    problems.add(where, "must be a mapping.")
    return BAD


def secret(min_length: int = 1) -> Reader:
    """``{value: …}``, or null to remove what is stored. ``env`` and ``file`` are for the command line to resolve."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        if isinstance(node, Scalar) and node.value is None:
            return Absent.REMOVE
        if not isinstance(node, Mapping) or len(node.members) != 1 or not set(node.members) <= SECRET_SOURCES:
            problems.add(where, "must be one of {value: …}, {env: NAME}, {file: PATH}.", "Or null, to remove it.")
            return BAD
        source, given = next(iter(node.members.items()))
        if source != "value":
            problems.add(
                where, f"{{{source}: …}} is read on your machine.", "Use `watchfloor apply`, or send {value: …}."
            )
            return BAD
        value = given.text if isinstance(given, Scalar) and isinstance(given.value, str | int | float) else ""
        if not min_length <= len(value) <= 8192 or any(c in "\r\n\0" for c in value):
            what = f"at least {min_length} characters" if min_length > 1 else "text"
            remedy = "Make one with: openssl rand -hex 32" if min_length > 1 else ""
            problems.add(where, f"a secret here is one line of {what}.", remedy)
            return BAD
        return value

    return read


SECRET_SOURCES: Final = frozenset({"value", "env", "file"})


def section(shape: Section) -> Reader:
    """A mapping with the members of ``shape``, as a dictionary."""

    def read(node: Node, where: str, problems: Problems) -> Any:
        if not isinstance(node, Mapping):
            problems.add(where, f"must be a mapping ({shape.name}).")
            return BAD
        known = {member.name: member for member in shape.members}
        prefix = f"{where}." if where else ""
        for key, value in node.members.items():
            if key not in known:
                problems.add(f"{prefix}{key[:80]}", f"{shape.name} has no such member.", did_you_mean(key, known),
                             value.line)  # fmt: skip
        values: dict[str, Any] = {WHERE: where}
        for member in shape.members:
            place = f"{prefix}{member.name}"
            given = node.members.get(member.name)
            if given is not None:
                problems.lines[place] = given.line
            is_null = isinstance(given, Scalar) and given.value is None and not member.is_secret
            if given is None or is_null:
                if member.is_required:
                    problems.add(place, "is missing.", member.doc, node.line)
                values[member.name] = BAD if member.is_required else member.default
            else:
                values[member.name] = member.read(given, place, problems)
        # A thing whose name is known takes part in the check of references even if the rest of it is wrong.
        return values

    return read


WHERE: Final = "(where)"
"""Key under which a read section keeps its own place."""


def sections(shape: Section) -> Reader:
    """A list of sections, in the order of the text."""
    return many(section(shape), is_set=False)


# -- the table ----------------------------------------------------------------------------------------------------


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
