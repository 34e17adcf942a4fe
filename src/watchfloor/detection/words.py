"""Words that every kind of rule is made of: tactics and how far along they are, and how a content file is validated.

Below ``rules`` and ``kql_rule``. It knows no rule.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

TACTICS: Final = (
    "Reconnaissance",
    "Resource Development",
    "Initial Access",
    "Execution",
    "Persistence",
    "Privilege Escalation",
    "Defense Evasion",
    "Credential Access",
    "Discovery",
    "Lateral Movement",
    "Collection",
    "Command and Control",
    "Exfiltration",
    "Impact",
)
"""MITRE ATT&CK's tactics in kill-chain order: the later, the further an attacker got."""

Tactic = Annotated[str, Field(pattern=f"^({'|'.join(TACTICS)})$")]


NEEDS_BOTH: Final = "needs at least one row that must match and one that must not"
"""What is wrong with the tests of a rule that show only one side, or nothing."""


def progress(tactic: str) -> int:
    """How far along the kill chain ``tactic`` is; unknown ones come first."""
    return TACTICS.index(tactic) if tactic in TACTICS else -1


class Content(BaseModel):
    """A part of a content file: what is not known is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def faults_of(error: ValidationError) -> str:
    """Every fault with its place, in a line."""
    return "; ".join(_fault(e) for e in error.errors())


def _fault(error: ErrorDetails) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if place == "tests" and error["type"] in ("too_short", "missing"):
        return f"tests: {NEEDS_BOTH}"
    return f"{place}: {error['msg']}"
