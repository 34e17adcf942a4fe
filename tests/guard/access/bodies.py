"""Access policies to test with: one that asks everybody for several factors, changed."""

from __future__ import annotations

from typing import Any

from watchfloor.guard.access.policy import AccessPolicy, read


def body(**changes: Any) -> dict[str, Any]:
    """A body; a change to None leaves a member out. ``conditions`` are put into those that are there."""
    conditions = {"users": {"include": ["All"]}} | changes.pop("conditions", {})
    whole = {
        "id": "p1",
        "displayName": "P1",
        "state": "enabled",
        "conditions": {name: value for name, value in conditions.items() if value is not None},
        "grantControls": {"operator": "AND", "builtInControls": ["mfa"]},
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def policy(**changes: Any) -> AccessPolicy:
    """The policy that such a body describes."""
    found = body(**changes)
    return read(found["id"], 1, found)


BLOCK: dict[str, Any] = {"operator": "OR", "builtInControls": ["block"]}
