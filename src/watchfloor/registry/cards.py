"""Tool cards of the registry: worked out when a tool is listed, declared or approved, and corrected by administrators.

Above ``guard.provenance.cards`` (what a definition says) and below ``pinning`` and ``steps``, which store tools. Pure.
"""

from __future__ import annotations

from dataclasses import replace

from watchfloor.guard.provenance.cards import infer_card
from watchfloor.storage.inventory import Tool


def with_card(tool: Tool, *, is_trusted: bool) -> Tool:
    """``tool`` with the card of its approved definition, else of the one listed last.

    ``is_trusted``: whether its server's hints may loosen. What an administrator wants stands above all of it.
    """
    wanted = tool.definition.get("wanted") or {}
    basis = tool.definition.get("approved") or tool.definition.get("observed") or {"name": tool.name}
    card = replace(
        infer_card(basis, is_trusted=is_trusted, overrides=wanted.get("roles")),
        strictness=wanted.get("strictness", ""),
        trusted_fields=tuple(wanted.get("trusted_fields", ())),
    )
    return replace(tool, definition={**tool.definition, "card": card.to_json()})
