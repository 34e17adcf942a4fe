"""Copilot Studio agents: a workspace of ``*.mcs.yml`` files, or an exported solution, packed or unpacked.

Both hold an agent's settings and one file for each of its components: instructions, tools, topics, knowledge, child
agents, triggers. Tools are called by the platform, not through the gateway, so they come in as ``platformTools``; whose
connection each uses is said, because a maker's connection serves everybody who talks to the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from watchfloor.model.errors import InputError
from watchfloor.registry.importers.draft import Draft, Member
from watchfloor.registry.importers.parsing import decode, parse_json, parse_xml, parse_yaml
from watchfloor.registry.importers.reading import Notes, Value, clean, find_reference, is_secret_name
from watchfloor.registry.importers.tree import Tree, folder_of, name_of
from watchfloor.registry.readers import ANY_TENANT, EVERYONE, GROUP, is_tool_name

TITLE: Final = "Copilot Studio agent (workspace of .mcs.yml files, or solution)"

_ENDINGS: Final = (".mcs.yml", ".mcs.yaml")
_DEEPEST: Final = 40

_SIGN_IN: Final = {
    "none": "none",
    "integrated": "integrated",
    "customazureactivedirectory": "custom",
    "genericoauth2": "custom",
    "custom": "custom",
    "manual": "custom",
    "1": "none",
    "2": "integrated",
    "3": "custom",
    "4": "custom",
}
_WHEN: Final = {"asneeded": "as-needed", "always": "always", "0": "as-needed", "1": "always"}
_ACCESS: Final = {"0": "any", "1": "chatbotreaders", "2": "groupmembership", "3": "anymultitenant"}
"""Solutions have numbers where workspaces have words."""

_MODES: Final = {"invoker": "user", "maker": "maker"}
_TASKS: Final = {
    "InvokeConnectorTaskAction": "connector",
    "InvokeExternalAgentTaskAction": "mcp",
    "InvokeFlowTaskAction": "flow",
    "InvokeConnectedAgentTaskAction": "agent",
    "InvokeAIPluginTaskAction": "openapi",
    "InvokeAIBuilderModelTaskAction": "function",
    "InvokeAgentTaskAction": "agent",
    "InvokeClientTaskAction": "function",
    "InvokeComputerUsingAgentTaskAction": "function",
    "InvokeSkillTaskAction": "function",
}
_OPERATION: Final = ("operationId", "flowId", "botSchemaName", "aIPluginOperationId", "aIModelId", "skillId")
_SILENT: Final = (
    "GlobalVariableComponent", "CustomEntityComponent", "BotDefinition", "BotEntity", "TranslationsComponent",
    "ClosedListEntity", "RegexEntity", "TestCaseComponent", "FileAttachmentComponentMetadata", "SkillComponent",
    "LocalizableContentContainer", "DialogSchemaComponent",
)  # fmt: skip
"""Components that say nothing that a manifest holds."""


def recognizes(tree: Tree, path: str) -> bool:
    """Whether ``path`` is where an agent begins: its settings, or its instructions where it has no settings."""
    name, folder = name_of(path), folder_of(path)
    if name == "bot.xml":
        return folder_of(folder).split("/")[-1] == "bots"
    if name in _named("settings"):
        return True
    if name not in _named("agent"):
        return False
    has_settings = any(f"{folder}/{other}".lstrip("/") in tree.files for other in _named("settings"))
    # A child agent has a file of that name, too: it is part of the agent further up.
    return not has_settings and _kind(Value(tree.mapping(path), path, Notes())) != "AgentDialog"


def read(tree: Tree, path: str, draft: Draft) -> None:
    """The agent that begins at ``path``, with its components."""
    if name_of(path) == "bot.xml":
        _solution(tree, path, draft)
    else:
        _workspace(tree, path, draft)


def _named(stem: str) -> tuple[str, ...]:
    return tuple(stem + ending for ending in _ENDINGS)


# -- where an agent's files are -----------------------------------------------------------------------------------


def _workspace(tree: Tree, path: str, draft: Draft) -> None:
    folder = folder_of(path)
    settings = Value(tree.value(path), path, draft.notes)
    is_settings = name_of(path) in _named("settings")
    named = settings.text("schemaName", "displayName", limit=300) or settings.one("mcs.metadata").text("componentName")
    agent = _agent(draft, named or folder.rpartition("/")[2])
    if is_settings:
        _settings(settings, agent)
    others = {folder_of(p) for p in tree.under(folder) if name_of(p) in _named("settings")} - {folder}
    for file in tree.under(folder):
        is_another = any(file.startswith(f"{other}/") for other in others)
        if not file.endswith(_ENDINGS) or is_another or (is_settings and file == path):
            continue
        try:
            component = Value(tree.value(file), file, draft.notes)
        except InputError as error:
            draft.notes.add(file, f"{error.message} This component is left out.")
            continue
        _component(component, _component_name(component, file), agent, draft)


def _component_name(component: Value, path: str) -> str:
    named = component.one("mcs.metadata").text("componentName", limit=300)
    stem = name_of(path).removesuffix(".mcs.yml").removesuffix(".mcs.yaml").partition(".")[0]
    if stem == "agent":
        stem = folder_of(path).rpartition("/")[2] or stem
    return named or clean(stem)[:300]


def _solution(tree: Tree, path: str, draft: Draft) -> None:
    folder = folder_of(path)
    bot = parse_xml(path, tree.files[path])
    schema_name = clean(bot.get("schemaname") or folder.rpartition("/")[2])[:300]
    elements = {child.tag: (child.text or "").strip() for child in bot if len(child) == 0}
    elements.pop("iconbase64", None)
    agent = _agent(draft, schema_name)
    configuration: Any = {}
    file = f"{folder}/configuration.json"
    try:
        if file in tree.files:
            configuration = tree.value(file)
        elif elements.get("configuration"):
            configuration = parse_json(f"{path}#configuration", elements["configuration"])
    except InputError as error:
        draft.notes.add(path, f"its configuration is left out: {error.message}")
    settings = {
        "displayName": elements.get("name"),
        "schemaName": schema_name,
        "accessControlPolicy": elements.get("accesscontrolpolicy"),
        "authenticationMode": elements.get("authenticationmode"),
        "authenticationTrigger": elements.get("authenticationtrigger"),
        "authorizedSecurityGroupIds": elements.get("authorizedsecuritygroupids"),
        "publishedOn": elements.get("publishedon"),
        "cdsBotId": elements.get("botid"),
        "configuration": configuration,
    }
    _settings(Value({k: v for k, v in settings.items() if v}, path, draft.notes), agent)
    root = folder_of(folder_of(folder))
    components = f"{root}/botcomponents".lstrip("/")
    for data in tree.under(components):
        name = folder_of(data).rpartition("/")[2]
        if name_of(data) == "data" and name.startswith(f"{schema_name}."):
            _solution_component(tree, data, name.removeprefix(f"{schema_name}."), agent, draft)


def _solution_component(tree: Tree, data: str, short_name: str, agent: Member, draft: Draft) -> None:
    try:
        text = decode(data, tree.files[data])
        raw = parse_json(data, text) if text.lstrip().startswith("{") else parse_yaml(data, text)
        described = tree.files.get(f"{folder_of(data)}/botcomponent.xml")
        name = (parse_xml(data, described).findtext("name") or "") if described else ""
    except InputError as error:
        draft.notes.add(data, f"{error.message} This component is left out.")
        return
    _component(Value(raw, data, draft.notes), clean(name)[:300] or short_name.partition(".")[2], agent, draft)


# -- the agent itself ---------------------------------------------------------------------------------------------


def _agent(draft: Draft, wanted: str) -> Member:
    return draft.agent(wanted or "copilot", platform="Copilot Studio")


def _settings(settings: Value, agent: Member) -> None:
    schema_name = settings.text("schemaName", limit=300)
    agent["name"] = settings.text("displayName", limit=200) or agent["name"]
    agent["platformIds"] = {"schemaName": schema_name, "agent": settings.text("cdsBotId", limit=300)}
    mode = settings.text("authenticationMode", limit=60).lower()
    when = settings.text("authenticationTrigger", limit=60).lower()
    if mode in _SIGN_IN:
        agent["signIn"] = {"users": _SIGN_IN[mode], "when": _WHEN.get(when)}
    elif mode not in ("", "unspecified", "0"):
        settings.warn("authenticationMode", "is not understood, so it is left out.")
    agent["sharedWith"] = _shared_with(settings)
    if settings.text("publishedOn", limit=60):
        agent["state"] = "published"
    configuration = settings.one("configuration")
    _configuration(configuration, agent)
    settings.leftover("template", "language", "kind", "$kind", "iconBase64", "componentIdUnique", "state", "status",
                      "runtimeProvider", "mcs.metadata", "description")  # fmt: skip


def _shared_with(settings: Value) -> list[str]:
    policy = settings.text("accessControlPolicy", limit=60).lower()
    policy = _ACCESS.get(policy, policy)
    given = settings.get("authorizedSecurityGroupIds")
    listed = given if isinstance(given, list) else str(given or "").split(",")
    groups = [clean(str(group))[:200] for group in listed if isinstance(group, str) and group.strip()]
    if policy == "any":
        return [EVERYONE]
    if policy == "anymultitenant":
        return [EVERYONE, ANY_TENANT]
    if policy == "groupmembership":
        if not groups:
            settings.warn("accessControlPolicy", "members of groups may use it; of which, this file does not say.")
        return [f"{GROUP}{group}" for group in groups]
    if policy == "chatbotreaders":
        settings.warn("accessControlPolicy", "people to whom it was shown may use it; who, this file does not say.")
    elif policy:
        settings.warn("accessControlPolicy", "is not understood, so it is left out.")
    return []


def _configuration(configuration: Value, agent: Member) -> None:
    agent["channels"] = [name for c in configuration.many("channels") if (name := c.text("channelId", limit=100))]
    is_generative = configuration.one("settings").flag("GenerativeActionsEnabled")
    if configuration.one("recognizer").text("kind", "$kind", limit=100) == "CLICopilotRecognizer":
        is_generative = True
    agent["generativeOrchestration"] = is_generative
    if configuration.flag("isAgentConnectable"):
        _add(agent, "capabilities", "may be called by other agents")
    _ai_settings(configuration.one("aISettings"), agent)
    newer = configuration.one("agentSettings")
    agent["model"] = newer.one("model").text("series", "name", limit=200) or agent.get("model", "")
    segments = [s.text("value", limit=100_000) for s in newer.one("instructions").many("segments")]
    if any(segments):
        agent["instructions"] = "\n".join(filter(None, segments))[:100_000]
    if newer.one("web").flag("enableWebSearch"):
        _add(agent, "capabilities", "web search")


def _ai_settings(section: Value, agent: Member) -> None:
    for name, words in (
        ("useModelKnowledge", "general knowledge of the model"),
        ("isFileAnalysisEnabled", "file analysis"),
        ("isSemanticSearchEnabled", "semantic search"),
    ):
        if section.flag(name):
            _add(agent, "capabilities", words)
    if moderation := section.text("contentModeration", limit=60):
        _add(agent, "guardrails", f"content moderation: {moderation}")
    agent["model"] = section.one("model").text("modelNameHint", limit=200) or agent.get("model", "")


# -- components ---------------------------------------------------------------------------------------------------


def _kind(value: Value) -> str:
    return value.text("kind", "$kind", limit=100)


def _component(component: Value, name: str, agent: Member, draft: Draft) -> None:
    kind = _kind(component)
    name = component.clean("kind", name, 300)
    read_component = _COMPONENTS.get(kind)
    if read_component is not None:
        read_component(component, name or kind, agent)
    elif kind not in _SILENT:
        draft.notes.add(component.place, f"a component of the kind {kind!r} is not understood, so it is left out.")


def _instructions(component: Value, name: str, agent: Member) -> None:
    given = component.text("instructions", limit=100_000)
    agent["instructions"] = given or agent.get("instructions", "")
    agent["name"] = component.text("displayName", limit=200) or agent["name"]
    agent["description"] = component.text("description", limit=4000) or agent.get("description", "")
    can = component.one("gptCapabilities")
    for flag, words in (("webBrowsing", "web search"), ("codeInterpreter", "code interpreter")):
        if can.flag(flag):
            _add(agent, "capabilities", words)
    _ai_settings(component.one("aISettings"), agent)


def _tool(component: Value, name: str, agent: Member) -> None:
    action = component.one("action")
    kind = _kind(action)
    if kind not in _TASKS:
        action.warn("kind", f"an action of the kind {kind!r} is not understood, so the tool is left out.")
        return
    details = action.one("operationDetails")
    is_mcp = _kind(details) == "ModelContextProtocolMetadata"
    chosen = details.one("tools")
    _add(
        agent,
        "platformTools",
        {
            "name": component.text("modelDisplayName", limit=300) or name,
            "description": component.text("modelDescription", limit=4000),
            "kind": "mcp" if is_mcp else "agent" if _TASKS[kind] == "mcp" else _TASKS[kind],
            "operation": details.text("operationId", limit=500) or action.text(*_OPERATION, limit=500),
            "connection": action.text("connectionReference", limit=500),
            "credential": _credential(action),
            "tools": [tool for tool in chosen.texts("tools") if is_tool_name(tool)],
            "inputs": _inputs(component),
        },
    )


def _credential(action: Value) -> str | None:
    """Whose connection: the invoker's, or, also where nothing is said, the maker's."""
    if not action.has("connectionReference"):
        return None
    mode = action.one("connectionProperties").text("mode", limit=60)
    if not mode:
        action.warn("connectionProperties", "says no mode, and then the platform takes the maker's connection.")
    elif mode.lower() not in _MODES:
        action.warn("connectionProperties", f"the mode {mode!r} is not understood; the maker's connection is assumed.")
    return _MODES.get(mode.lower(), "maker")


def _inputs(component: Value) -> list[Member]:
    found = []
    for given in component.many("inputs"):
        name = given.text("propertyName", limit=200)
        if not name:
            continue
        value = _literal(given, "value") if _kind(given) == "ManualTaskInput" else None
        found.append({"name": name, "value": _public(given, name, value)})
    return found


def _literal(value: Value, name: str) -> str | None:
    """A fixed text, as it is or as ``literalValue``; None for what is worked out at run time."""
    given = value.get(name)
    if isinstance(given, dict):
        given = given.get("literalValue")
    if isinstance(given, bool | int | float):
        return str(given).lower()
    if not isinstance(given, str) or given.startswith("="):
        return None
    return value.clean(name, given, 2000)


def _public(value: Value, name: str, given: str | None) -> str | None:
    if given and (find_reference(name, given) or is_secret_name(name)):
        value.warn("value", f"the input {name} is fixed to a secret. It is left out; renew it.")
        return None
    return given


def _connector_tool(component: Value, name: str, agent: Member) -> None:
    mode = component.text("authMode", limit=60).lower()
    _add(
        agent,
        "platformTools",
        {
            "name": component.text("modelDisplayName", limit=300) or name,
            "description": component.text("modelDescription", limit=4000),
            "kind": "connector",
            "operation": component.text("operationId", limit=500),
            "connection": component.text("connectionReference", "connectorId", limit=500),
            "credential": _MODES.get(mode),
        },
    )


def _connected_agent(component: Value, name: str, agent: Member) -> None:
    called = component.text("botSchemaName", limit=500)
    _add(agent, "platformTools", {"name": name, "kind": "agent", "operation": called})


def _skill(component: Value, name: str, agent: Member) -> None:
    _add(agent, "capabilities", f"skill {name}"[:200])


def _knowledge(component: Value, name: str, agent: Member) -> None:
    source = component.one("source")
    url = source.url("site") if not str(source.get("site") or "").startswith("=") else ""
    kind = _kind(source)
    _add(agent, "knowledge", {"name": name, "kind": kind, "url": url})


def _child(component: Value, name: str, agent: Member) -> None:
    _add(agent, "childAgents", name)


def _trigger(component: Value, name: str, agent: Member) -> None:
    _add(agent, "triggers", name)


def _topic(component: Value, name: str, agent: Member) -> None:
    begin = component.one("beginDialog")
    topic: Member = {"name": name, "trigger": _kind(begin), "requests": [], "tools": []}
    for action in _actions(begin):
        kind = _kind(action)
        if kind == "HttpRequestAction":
            _request(action, topic)
        elif kind == "InvokeConnectorAction":
            binding = action.one("input").one("binding")
            inputs = [
                {"name": shown, "value": _public(binding, shown, _literal(binding, given))}
                for given, shown in binding.shown_names()
            ]
            topic["tools"].append(
                {
                    "name": action.text("displayName", "operationId", limit=300) or "connector",
                    "operation": action.text("operationId", limit=500),
                    "connection": action.text("connectionReference", limit=500),
                    "credential": _credential(action),
                    "inputs": inputs,
                }
            )
    _add(agent, "topics", topic)


def _request(action: Value, topic: Member) -> None:
    url = _literal(action, "url")
    if url is None:
        action.warn("url", "is worked out at run time, so it is not known.")
        return
    topic["requests"].append(action.without_secrets("url", url))
    headers = action.one("headers")
    for name in headers.names():
        reference = find_reference(name, _literal(headers, name))
        if reference and reference.is_clear:
            headers.warn(name, "a secret stands here in clear. It is left out; renew it, for every maker can read it.")


def _actions(value: Value, depth: int = 0) -> Iterator[Value]:
    """Every action of a dialog, at any depth, in the order of the file."""
    for name in value.names() if depth < _DEEPEST else ():
        found = value.get(name)
        if isinstance(found, list):
            for index, item in enumerate(found):
                if isinstance(item, dict):
                    inner = Value(item, value.at(f"{name}[{index}]"), value.notes)
                    yield inner
                    yield from _actions(inner, depth + 1)
        elif isinstance(found, dict) and name in ("actions", "elseActions", "beginDialog"):
            yield from _actions(Value(found, value.at(name), value.notes), depth + 1)


_COMPONENTS: Final[dict[str, Callable[[Value, str, Member], None]]] = {
    "GptComponentMetadata": _instructions,
    "TaskDialog": _tool,
    "ConnectorTool": _connector_tool,
    "ConnectedAgentTool": _connected_agent,
    "InlineAgentSkill": _skill,
    "KnowledgeSourceConfiguration": _knowledge,
    "AgentDialog": _child,
    "AdaptiveDialog": _topic,
    "ExternalTriggerConfiguration": _trigger,
}
"""How each kind of component is read."""


def _add(agent: Member, name: str, value: Any) -> None:
    found = agent.setdefault(name, [])
    if value not in found:
        found.append(value)
