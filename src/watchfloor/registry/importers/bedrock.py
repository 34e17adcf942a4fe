"""Amazon Bedrock agents: what ``GetAgent`` answers, and ``AWS::Bedrock::Agent`` in CloudFormation templates.

Action groups are functions of the platform that run with the agent's role; collaborators are agents. ``GetAgent`` knows
neither: for those give the template.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from watchfloor.model.errors import InputError
from watchfloor.registry.importers.draft import Draft, Member
from watchfloor.registry.importers.parsing import parse_yaml
from watchfloor.registry.importers.reading import Value
from watchfloor.registry.importers.tree import Tree

TITLE: Final = "Amazon Bedrock agent (GetAgent, CloudFormation)"

_TYPE: Final = "AWS::Bedrock::Agent"
_ALIAS: Final = "AWS::Bedrock::AgentAlias"
_UNUSED: Final = (
    "agentStatus", "clientToken", "createdAt", "updatedAt", "preparedAt", "customerEncryptionKeyArn", "failureReasons",
    "recommendedActions", "idleSessionTTLInSeconds", "promptOverrideConfiguration", "orchestrationType",
    "agentCollaboration", "agentResourceRoleArn", "customOrchestration", "AutoPrepare", "CustomerEncryptionKeyArn",
    "IdleSessionTTLInSeconds", "PromptOverrideConfiguration", "SkipResourceInUseCheckOnDelete", "Tags", "TestAliasTags",
    "AgentCollaboration", "AgentResourceRoleArn", "OrchestrationType", "CustomOrchestration",
)  # fmt: skip
_SIGNATURES: Final = {
    "AMAZON.UserInput": "asks the user for what is missing",
    "AMAZON.CodeInterpreter": "code interpreter",
    "ANTHROPIC.Computer": "computer use",
    "ANTHROPIC.Bash": "shell",
    "ANTHROPIC.TextEditor": "text editor",
}


def recognizes(tree: Tree, path: str) -> bool:
    """Whether ``path`` holds Bedrock agents."""
    found = tree.mapping(path)
    agent = found.get("agent")
    if isinstance(agent, dict) and any(name in agent for name in ("agentArn", "agentId", "foundationModel")):
        return True
    return any(True for _ in _resources(found))


def read(tree: Tree, path: str, draft: Draft) -> None:
    """The agents of a file."""
    found = tree.value(path)
    root = Value(found, path, draft.notes)
    if root.has("agent"):
        _answer(root.one("agent"), draft)
    if isinstance(found, dict):
        for name, _ in _resources(found):
            _resource(root.one("Resources").one(name), name, _aliases(found), draft)


def _resources(template: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    resources = template.get("Resources")
    for name, resource in resources.items() if isinstance(resources, dict) else ():
        if isinstance(resource, dict) and resource.get("Type") == _TYPE:
            yield name, resource


def _answer(agent: Value, draft: Draft) -> None:
    name = agent.text("agentName", limit=200)
    arn = agent.text("agentArn", limit=300)
    draft.agent(
        name or agent.text("agentId") or "bedrock-agent",
        name=name,
        description=agent.text("description", limit=4000),
        version=agent.text("agentVersion", limit=60),
        platform="Amazon Bedrock",
        model=agent.text("foundationModel", limit=200),
        instructions=agent.text("instruction", limit=100_000),
        guardrails=_guardrails(agent.one("guardrailConfiguration"), "guardrailIdentifier", "guardrailVersion"),
        memory=_memory(agent.one("memoryConfiguration"), "enabledMemoryTypes", "storageDays"),
        platformIds={
            "agent": agent.text("agentId", limit=300),
            "environment": _account(arn),
            "directory": agent.text("agentResourceRoleArn", limit=300),
        },
    )
    agent.leftover(*_UNUSED)


def _account(arn: str) -> str:
    """Account and region of an ARN."""
    parts = arn.split(":")
    return "/".join(part for part in parts[3:5] if part) if len(parts) > 5 else ""


def _called(descriptor: Value, aliases: dict[str, str]) -> str:
    """Whom a collaborator's alias stands for: an agent of the same template by its name there, or an ARN."""
    alias = _referenced(descriptor.get("AliasArn"))
    if alias:
        return descriptor.clean("AliasArn", aliases.get(alias, alias), 500)
    return descriptor.text("AliasArn", limit=500)


def _resource(resource: Value, logical_id: str, aliases: dict[str, str], draft: Draft) -> None:
    properties = resource.one("Properties")
    resource.leftover("Type", "DependsOn", "Metadata", "DeletionPolicy", "UpdateReplacePolicy", "Condition")
    name = properties.text("AgentName", limit=200) or properties.clean("AgentName", logical_id, 200)
    found = draft.agent(
        name,
        name=name,
        description=properties.text("Description", limit=4000),
        platform="Amazon Bedrock",
        model=properties.text("FoundationModel", limit=200),
        instructions=properties.text("Instruction", limit=100_000),
        guardrails=_guardrails(properties.one("GuardrailConfiguration"), "GuardrailIdentifier", "GuardrailVersion"),
        memory=_memory(properties.one("MemoryConfiguration"), "EnabledMemoryTypes", "StorageDays"),
        knowledge=[
            {
                "name": base.text("Description", "KnowledgeBaseId", limit=300) or "knowledge base",
                "kind": "Bedrock knowledge base",
            }
            for base in properties.many("KnowledgeBases")
        ],
        platformIds={"schemaName": properties.clean("AgentName", logical_id, 300)},
    )
    for group in properties.many("ActionGroups"):
        _action_group(group, found, draft)
    for collaborator in properties.many("AgentCollaborators"):
        tools = found.setdefault("platformTools", [])
        tools.append(
            {
                "name": collaborator.text("CollaboratorName", limit=300) or "collaborator",
                "description": collaborator.text("CollaborationInstruction", limit=4000),
                "kind": "agent",
                "operation": _called(collaborator.one("AgentDescriptor"), aliases),
            }
        )
        collaborator.leftover("RelayConversationHistory")
    properties.leftover(*_UNUSED)


def _aliases(template: dict[str, Any]) -> dict[str, str]:
    """Aliases of a template, and the agent that each stands for, by their names in it."""
    found = {}
    resources = template.get("Resources")
    for name, resource in resources.items() if isinstance(resources, dict) else ():
        if isinstance(resource, dict) and resource.get("Type") == _ALIAS:
            properties = resource.get("Properties")
            agent = _referenced(properties.get("AgentId")) if isinstance(properties, dict) else ""
            found[name] = agent
    return found


def _referenced(value: Any) -> str:
    """The resource that ``!Ref X``, ``!GetAtt X.Arn`` and their long forms point to; empty for anything else."""
    if not isinstance(value, dict) or len(value) != 1:
        return ""
    ((how, what),) = value.items()
    if how.lstrip("!").removeprefix("Fn::") not in ("Ref", "GetAtt"):
        return ""
    first = what[0] if isinstance(what, list) and what else what
    return first.partition(".")[0] if isinstance(first, str) else ""


def _action_group(group: Value, agent: Member, draft: Draft) -> None:
    signature = group.text("ParentActionGroupSignature", limit=100)
    if signature:
        agent.setdefault("capabilities", []).append(_SIGNATURES.get(signature, signature))
        return
    name = group.text("ActionGroupName", limit=200) or "action group"
    executor = group.one("ActionGroupExecutor")
    lambda_arn = executor.text("Lambda", limit=500)
    tools = agent.setdefault("platformTools", [])
    # The function behind a group runs with the role of the agent, whoever asks.
    shared = {"connection": name, "operation": lambda_arn, "credential": "app" if executor.has("Lambda") else None}
    functions = group.one("FunctionSchema").many("Functions")
    for function in functions:
        parameters = function.one("Parameters")
        tools.append(
            {
                "name": function.text("Name", limit=300) or name,
                "description": function.text("Description", limit=4000),
                "kind": "function",
                "inputs": [{"name": shown} for _, shown in parameters.shown_names()],
                **shared,
            }
        )
        if function.text("RequireConfirmation", limit=20) == "ENABLED":
            agent.setdefault("guardrails", []).append(f"the user confirms {tools[-1]['name']}"[:500])
    if not functions:
        described = group.text("Description", limit=4000)
        urls = _api_servers(group.one("ApiSchema"), draft)
        kind = "openapi" if group.has("ApiSchema") else "function"
        tools.append({"name": name, "description": described, "kind": kind, "urls": urls, **shared})
    group.leftover("ActionGroupState", "SkipResourceInUseCheckOnDelete", "Description", "FunctionSchema", "ApiSchema")


def _api_servers(schema: Value, draft: Draft) -> list[str]:
    """Where an OpenAPI document that stands in the template says that its operations are."""
    payload = schema.get("Payload")
    if not isinstance(payload, str):
        return []
    try:
        document = parse_yaml(schema.at("Payload"), payload)
    except InputError:
        schema.warn("Payload", "cannot be read, so nothing of it is known.")
        return []
    servers = Value(document, schema.at("Payload"), draft.notes).many("servers")
    return list(dict.fromkeys(url for server in servers if (url := server.url("url"))))


def _guardrails(section: Value, identifier: str, version: str) -> list[str]:
    name = section.text(identifier, limit=300)
    return [f"guardrail {name} {section.text(version, limit=50)}".strip()] if name else []


def _memory(section: Value, types: str, days: str) -> list[str]:
    kept = section.text(days, limit=20)
    return [f"{kind} for {kept} days" if kept else kind for kind in section.texts(types, limit=100)]
