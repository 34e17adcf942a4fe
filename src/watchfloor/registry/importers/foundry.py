"""Microsoft Foundry agents: what the Agents API answers, JSON or YAML, now (agent versions) and before (assistants).

Also agents as VS Code and the Agent Framework write them in YAML. MCP tools become tool servers that the agent is bound
to; what Foundry itself provides becomes a capability or knowledge; the rest are tools of the platform.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from watchfloor.model.errors import InputError
from watchfloor.registry.importers.draft import Draft, Member
from watchfloor.registry.importers.reading import Value, find_reference
from watchfloor.registry.importers.tree import Tree

TITLE: Final = "Microsoft Foundry agent"

_OBJECTS: Final = ("agent", "agent.version", "assistant")
_KINDS: Final = ("prompt", "hosted", "workflow", "container_app")
_UNUSED: Final = (
    "object", "created_at", "metadata", "temperature", "top_p", "response_format", "truncation_strategy", "id", "kind",
    "status", "reasoning", "text", "structured_inputs", "tool_choice", "template", "inputs", "outputs", "inputSchema",
    "outputSchema", "displayName", "agent_guid", "cpu", "memory", "instance_identity", "blueprint", "format",
    "container_protocol_versions", "parser", "authors", "tags", "endpoint", "version", "modalities",
)  # fmt: skip

CAPABILITIES: Final = {
    "code_interpreter": "code interpreter",
    "bing_grounding": "web search",
    "bing_custom_search": "web search",
    "bing_custom_search_preview": "web search",
    "web_search": "web search",
    "web_search_preview": "web search",
    "image_generation": "image generation",
    "computer_use_preview": "computer use",
    "browser_automation": "browser automation",
    "browser_automation_preview": "browser automation",
    "deep_research": "deep research",
    "local_shell": "shell",
    "shell": "shell",
    "file_search": "file search",
    "memory_search": "memory search",
    "memory_search_preview": "memory search",
    "work_iq_preview": "Work IQ",
}
"""Tools that Foundry brings along, and what they let an agent do."""

KNOWLEDGE: Final = (
    "azure_ai_search",
    "sharepoint_grounding",
    "sharepoint_grounding_preview",
    "fabric_dataagent",
    "fabric_dataagent_preview",
    "fabric_iq_preview",
)
"""Tools that answer from something that belongs to the company."""


def recognizes(tree: Tree, path: str) -> bool:
    """Whether ``path`` holds Foundry agents."""
    return any(True for _ in _agents(tree.mapping(path), path)) if tree.mapping(path) else _is_list(tree, path)


def read(tree: Tree, path: str, draft: Draft) -> None:
    """The agents of a file."""
    for raw, place in _agents(tree.value(path), path):
        _read_agent(Value(raw, place, draft.notes), draft)


def _is_list(tree: Tree, path: str) -> bool:
    try:
        found = tree.value(path)
    except InputError:
        return False
    return isinstance(found, list) and any(True for _ in _agents(found, path))


def _agents(raw: Any, path: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The agents in an answer: one, or a list of them, in its envelope or without."""
    if isinstance(raw, dict) and isinstance(raw.get("data"), list):
        raw = raw["data"]
    if isinstance(raw, list):
        for index, item in enumerate(raw):
            if isinstance(item, dict) and _is_agent(item):
                yield item, f"{path}#[{index}]"
    elif isinstance(raw, dict) and _is_agent(raw):
        yield raw, path


def _is_agent(raw: dict[str, Any]) -> bool:
    if raw.get("object") in _OBJECTS and ("name" in raw or "versions" in raw or "id" in raw):
        return True
    definition = raw.get("definition")
    if isinstance(definition, dict) and str(definition.get("kind", "")).lower() in _KINDS:
        return True
    says_how = isinstance(raw.get("instructions"), str) and isinstance(raw.get("model"), str | dict)
    return says_how and (str(raw.get("kind", "")).lower() in _KINDS or isinstance(raw.get("tools"), list))


def _read_agent(agent: Value, draft: Draft) -> None:
    if agent.has("versions"):
        newest = agent.one("versions").one("latest")
        agent.leftover(*_UNUSED, "name", "description")
        agent = newest or agent
    definition = agent.one("definition") if agent.has("definition") else agent
    name = agent.text("name", limit=200)
    found = draft.agent(
        name or agent.text("id") or "foundry-agent",
        name=name,
        description=agent.text("description", limit=4000),
        version=agent.text("version", limit=60),
        platform="Microsoft Foundry",
        model=_model(definition),
        instructions=definition.text("instructions", limit=100_000),
        platformIds={"agent": agent.text("id", limit=300)},
    )
    policy = definition.one("rai_config").text("rai_policy_name", limit=300)
    if policy:
        found["guardrails"] = [f"content policy {policy}"]
    variables = definition.one("environment_variables")
    for variable in variables.names():
        reference = find_reference(variable, variables.get(variable))
        if reference and reference.is_clear:
            variables.warn(variable, "a secret stands here in clear. It is left out; renew it.")
    image = definition.text("image", limit=300)
    if image:
        found["capabilities"] = [f"runs the container {image}"[:200]]
    for tool in definition.many("tools"):
        _tool(tool, found, draft)
    for other in definition.many("connected_agents"):
        _connected_agent(other, found)
    _resources(definition.one("tool_resources"), found)
    agent.leftover(*_UNUSED)
    if definition is not agent:
        definition.leftover(*_UNUSED)


def _model(definition: Value) -> str:
    if isinstance(definition.get("model"), dict):
        return definition.one("model").text("id", "name", "deployment", limit=200)
    return definition.text("model", limit=200)


# -- tools --------------------------------------------------------------------------------------------------------


def _tool(tool: Value, agent: Member, draft: Draft) -> None:
    kind = tool.text("type", "kind", limit=100)
    inner = tool.one(kind) if isinstance(tool.get(kind), dict) else tool
    read_tool = _TOOLS.get(kind)
    if read_tool is not None:
        read_tool(inner, agent, draft)
    elif kind in CAPABILITIES:
        _add(agent, "capabilities", CAPABILITIES[kind])
        if kind.startswith("memory"):
            _add(agent, "memory", inner.text("memory_store_name", "store", limit=300) or "a memory store")
        for store in inner.texts("vector_store_ids"):
            _add(agent, "knowledge", {"name": store, "kind": "vector store"})
    elif kind in KNOWLEDGE:
        for name in _sources(inner):
            _add(agent, "knowledge", {"name": name, "kind": kind})
    else:
        tool.warn("type", f"a tool of the kind {kind!r} is not understood, so it is left out.")


def _sources(section: Value) -> list[str]:
    """Names of indexes and connections."""
    places = [section, *section.many("indexes"), *section.many("project_connections"), *section.many("connections")]
    names = ("index_name", "index_asset_id", "project_connection_id", "index_connection_id", "connection_id")
    found = [text for place in places if (text := place.text(*names, limit=300))]
    return list(dict.fromkeys(found)) or [section.place.rpartition(".")[2]]


def _mcp(tool: Value, agent: Member, draft: Draft) -> None:
    name = tool.text("server_label", "serverName", "name", limit=200) or "mcp"
    url = tool.url("server_url", "serverUrl", "url")
    if not url:
        tool.notes.add(tool.place, "names no address of an MCP server, so it is left out.")
        return
    server_id = draft.server(name, url, tool.place, name=name, description=tool.text("server_description", limit=2000))
    allowed = tool.one("allowed_tools").texts("tool_names") if isinstance(tool.get("allowed_tools"), dict) else None
    allowed = tool.texts("allowed_tools") + tool.texts("allowedTools") if allowed is None else allowed
    draft.grant(agent, server_id, allowed or ["*"], **_mcp_credential(tool, name))
    approval = tool.get("require_approval") or tool.get("approvalMode")
    if isinstance(approval, str) and approval != "never":
        _add(agent, "guardrails", f"a person approves calls to {name}: {tool.clean('require_approval', approval, 100)}")
    elif isinstance(approval, dict):
        _add(agent, "guardrails", f"a person approves some calls to {name}")


def _mcp_credential(tool: Value, server: str) -> Member:
    headers = tool.one("headers")
    for name in headers.names():
        found = find_reference(name, headers.get(name))
        if found is None:
            continue
        reference = found.of(server)
        if reference.is_clear:
            message = f"a secret stands here in clear. The manifest asks for the variable {reference.variable} instead."
            headers.warn(name, f"{message} Renew it.")
        return {"credential": "maker", "makerCredential": {"env": reference.variable}}
    # A connection of the project is one standing credential for whoever talks to the agent.
    return {"credential": "app"} if tool.text("project_connection_id", limit=500) or tool.one("connection") else {}


def _openapi(tool: Value, agent: Member, draft: Draft) -> None:
    auth = tool.one("auth").text("type", limit=50)
    urls = [server.url("url") for server in tool.one("spec").many("servers")]
    _add(
        agent,
        "platformTools",
        {
            "name": tool.text("name", limit=300) or "openapi",
            "description": tool.text("description", limit=4000),
            "kind": "openapi",
            "credential": "app" if auth and auth != "anonymous" else None,
            "urls": list(dict.fromkeys(url for url in urls if url)),
        },
    )


def _function(tool: Value, agent: Member, draft: Draft) -> None:
    inner = tool.one("function") if isinstance(tool.get("function"), dict) else tool
    name = inner.text("name", limit=300)
    if not name:
        tool.notes.add(tool.place, "a function without a name is left out.")
        return
    schema = inner.one("parameters").one("properties")
    _add(
        agent,
        "platformTools",
        {
            "name": name,
            "description": inner.text("description", limit=4000),
            "kind": "function",
            "inputs": [{"name": shown} for _, shown in schema.shown_names()],
        },
    )


def _connected(tool: Value, agent: Member, draft: Draft) -> None:
    _connected_agent(tool, agent)


def _connected_agent(other: Value, agent: Member) -> None:
    name = other.text("name", "name_from_id", "agent_name", "id", limit=300)
    url = other.url("base_url", "agent_card_url")
    if not name and not url:
        other.notes.add(other.place, "names no agent, so it is left out.")
        return
    _add(
        agent,
        "platformTools",
        {
            "name": name or url[:300],
            "description": other.text("description", limit=4000),
            "kind": "agent",
            "operation": other.text("id", "project_connection_id", limit=500),
            "urls": [url] if url else [],
        },
    )


def _resources(resources: Value, agent: Member) -> None:
    """What tools of assistants work on; secrets of MCP servers never lie here, Foundry is told them at each run."""
    for store in resources.one("file_search").texts("vector_store_ids"):
        _add(agent, "knowledge", {"name": store, "kind": "vector store"})
    for index in resources.one("azure_ai_search").many("indexes"):
        if name := index.text("index_name", "index_asset_id", limit=300):
            _add(agent, "knowledge", {"name": name, "kind": "azure_ai_search"})
    resources.get("code_interpreter")
    for mcp in resources.many("mcp"):
        _mcp_credential(mcp, mcp.text("server_label"))
    resources.leftover()


_TOOLS: Final[dict[str, Callable[[Value, Member, Draft], None]]] = {
    "mcp": _mcp,
    "openapi": _openapi,
    "function": _function,
    "azure_function": _function,
    "custom": _function,
    "connected_agent": _connected,
    "a2a": _connected,
    "a2a_preview": _connected,
}
"""How each kind of tool is read."""


def _add(agent: Member, name: str, value: Any) -> None:
    found = agent.setdefault(name, [])
    if value not in found:
        found.append(value)
