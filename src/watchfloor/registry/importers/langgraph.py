"""LangGraph applications: each graph of a ``langgraph.json`` is an agent. Its code is not looked at."""

from __future__ import annotations

from typing import Any, Final

from watchfloor.registry.importers.draft import Draft
from watchfloor.registry.importers.reading import Value, clean, find_reference
from watchfloor.registry.importers.tree import Tree, folder_of, name_of

TITLE: Final = "LangGraph application (langgraph.json)"

_UNUSED: Final = (
    "$schema", "dependencies", "python_version", "node_version", "pip_config_file", "pip_installer", "dockerfile_lines",
    "image_distro", "base_image", "api_version", "ui", "ui_config", "keep_pkg_tools", "internal_docker_tag", "watch",
    "source", "disable_persistence", "webhooks",
)  # fmt: skip


def recognizes(tree: Tree, path: str) -> bool:
    """Whether ``path`` lists graphs."""
    found = tree.mapping(path)
    is_likely = name_of(path) == "langgraph.json" or "dependencies" in found or "node_version" in found
    return isinstance(found.get("graphs"), dict) and is_likely


def read(tree: Tree, path: str, draft: Draft) -> None:
    """The graphs of an application."""
    application = Value(tree.value(path), path, draft.notes)
    _environment(application)
    memory = []
    if application.has("store"):
        index = application.one("store").one("index")
        embedding = index.text("embed", limit=200)
        memory.append(f"a store, searched with {embedding}" if embedding else "a store")
    if application.has("checkpointer"):
        application.get("checkpointer")
        memory.append("checkpoints of conversations")
    sign_in: dict[str, Any] = {}
    if application.has("auth") and application.one("auth").text("path"):
        sign_in = {"users": "custom"}
    application.get("http")
    for name, graph in _graphs(application.one("graphs")):
        draft.agent(
            name,
            name=graph.clean("graphs", name, 200),
            description=graph.text("description", limit=4000),
            platform="LangGraph",
            memory=list(memory),
            signIn=dict(sign_in),
            platformIds={"agent": graph.clean("graphs", name, 300), "environment": clean(folder_of(path))[:300]},
        )
        graph.get("path")
        graph.leftover("enabled")
    application.leftover(*_UNUSED)


def _graphs(graphs: Value) -> list[tuple[str, Value]]:
    """A graph is a path, or a mapping that has one."""
    found = []
    for name in graphs.names():
        graph = graphs.get(name)
        if isinstance(graph, str):
            graph = {"path": graph}
        if isinstance(graph, dict):
            found.append((name, Value(graph, graphs.at(name), graphs.notes)))
        else:
            graphs.warn(name, "is not understood, so it is left out.")
    return found


def _environment(application: Value) -> None:
    """Variables are never taken over; secrets among them are warned of."""
    env = application.get("env")
    section = Value(env, application.at("env"), application.notes)
    for name in section.names():
        reference = find_reference(name, section.get(name))
        if reference and reference.is_clear:
            section.warn(name, "a secret stands here in clear. It is left out; renew it, and keep it out of this file.")
