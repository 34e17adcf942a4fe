"""Words that every kind of rule is made of: tactics and how far along they are, and how a content file is validated.

Below ``rules`` and ``kql_rule``. It knows no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from typing import Annotated, Any, Final, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from watchfloor.model.errors import InputError
from watchfloor.model.people import RiskLevel
from watchfloor.model.risk import KINDS

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


class Document(Content):
    """A content file as a whole, which is called as its ``id``."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")


class RuleRisk(Content):
    """What alerts of a rule mean for the risk of the users and agents in them, where their severity does not say it.

    ``detection`` is a name of ``model.risk.KINDS``. Without ``alert`` nothing else comes of them: what is worth
    remembering of an agent need not be somebody's work.
    """

    detection: str
    level: RiskLevel
    of: tuple[Literal["user", "agent"], ...] = Field(min_length=1)
    alert: bool = True

    @field_validator("detection")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in KINDS:
            raise ValueError(f"there is no detection {name!r}: one of {', '.join(KINDS)}")
        return name

    @property
    def told(self) -> dict[str, Any]:
        """As a draft carries it."""
        return {"detection": self.detection, "level": self.level.value, "of": list(self.of), "alert": self.alert}


def faults_of(error: ValidationError) -> str:
    """Every fault with its place, in a line."""
    return "; ".join(_fault(e) for e in error.errors())


def _fault(error: ErrorDetails) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if place == "tests" and error["type"] in ("too_short", "missing"):
        return f"tests: {NEEDS_BOTH}"
    return f"{place}: {error['msg']}"


D = TypeVar("D", bound=Document)
R = TypeVar("R")


def parse_documents(
    documents: Mapping[str, str], model: type[D], prepare: Callable[[D], tuple[R | None, list[str]]], where: str
) -> list[R]:
    """What ``prepare`` makes of each of ``documents`` (file name to YAML text). A file is called as its ``id``.

    Raises ``InputError`` with every fault of all of them.
    """
    faults: list[str] = []
    found: list[R] = []
    for name, text in sorted(documents.items()):
        try:
            read = model.model_validate(yaml.safe_load(text))
        except yaml.YAMLError as error:
            faults.append(f"{name}: {error}")
            continue
        except ValidationError as error:
            faults.append(f"{name}: {faults_of(error)}")
            continue
        ready, wrong = prepare(read)
        faults += [f"{name}: {fault}" for fault in wrong]
        if name != f"{read.id}.yaml":
            faults.append(f"{name}: id: {read.id!r} differs from the file's name")
        found += [ready] if ready is not None else []
    if faults:
        raise InputError("\n".join(faults), where=where)
    return found


def shipped_documents(folder: str) -> dict[str, str]:
    """File name to text of what is shipped in a folder of ``content``."""
    files = resources.files("watchfloor").joinpath("content", folder)
    return {f.name: f.read_text("utf-8") for f in files.iterdir() if f.name.endswith(".yaml")}
