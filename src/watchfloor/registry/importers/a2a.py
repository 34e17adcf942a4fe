"""A2A agent cards, of version 0.3 (``url``, ``additionalInterfaces``) and 1.0 (``supportedInterfaces``)."""

from __future__ import annotations

from typing import Any, Final

from watchfloor.registry.importers.draft import Draft
from watchfloor.registry.importers.reading import Value, joined
from watchfloor.registry.importers.tree import Tree, name_of

TITLE: Final = "A2A agent card"

_NAMES: Final = ("agent-card.json", "agent.json")
_SHOWS_A_CARD: Final = ("url", "supportedInterfaces", "protocolVersion", "capabilities", "defaultInputModes")
_UNUSED: Final = (
    "iconUrl", "documentationUrl", "provider", "defaultInputModes", "defaultOutputModes", "signatures", "$schema",
    "supportsAuthenticatedExtendedCard", "preferredTransport",
)  # fmt: skip


def recognizes(tree: Tree, path: str) -> bool:
    """Whether ``path`` is an agent card."""
    found = tree.mapping(path)
    has_skills = isinstance(found.get("skills"), list) and isinstance(found.get("name"), str)
    return has_skills and (name_of(path) in _NAMES or any(name in found for name in _SHOWS_A_CARD))


def read(tree: Tree, path: str, draft: Draft) -> None:
    """The agent of a card."""
    card = Value(tree.value(path), path, draft.notes)
    interfaces = [*card.many("supportedInterfaces"), *card.many("additionalInterfaces")]
    endpoints = [card.url("url"), *(interface.url("url") for interface in interfaces)]
    versions = [card.text("protocolVersion", limit=20), *(i.text("protocolVersion", limit=20) for i in interfaces)]
    name = card.text("name", limit=200)
    draft.agent(
        name or "agent",
        name=name,
        description=card.text("description", limit=4000),
        version=card.text("version", limit=60),
        platform=joined(["A2A", next((v for v in versions if v), "")]),
        endpoints=list(dict.fromkeys(endpoint for endpoint in endpoints if endpoint)),
        skills=[
            {"name": skill.text("name", "id", limit=300), "description": skill.text("description", limit=4000)}
            for skill in card.many("skills")
            if skill.text("name", "id", limit=300)
        ],
        capabilities=_capabilities(card.one("capabilities")),
        signIn=_sign_in(card),
    )
    card.leftover(*_UNUSED)


def _capabilities(section: Value) -> list[str]:
    found = [name for name in section.names() if name != "extensions" and section.flag(name)]
    return [_words(name) for name in found] + [e.text("uri", limit=200) for e in section.many("extensions")]


def _words(name: str) -> str:
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name)[:200]


def _sign_in(card: Value) -> dict[str, Any]:
    """A card that asks for credentials says so; one that is silent may still do."""
    asks = [card.get(name) for name in ("securitySchemes", "security", "securityRequirements")]
    return {"users": "custom"} if any(asks) else {}
