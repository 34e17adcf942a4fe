"""Least privilege: the smallest grants with which an agent could have done what it did, as a manifest to apply.

What it did is read from the decisions on its calls; what it may do from the registry. The proposal only ever narrows:
a tool that was not used goes, a grant of every tool becomes grants of those that were used, and a grant for writing
becomes one for reading where only reading was done. Whether past calls would have failed is counted call by call here,
by grants alone; ``policy_trial`` decides them again as a whole. Nothing is changed: applying is whoever's decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import yaml

from watchfloor.model.agents import CredentialOwner, Scope, ToolEffect
from watchfloor.model.facts import BindingFacts, granted
from watchfloor.registry.shape import API_VERSION, KIND
from watchfloor.registry.version_diff import Difference, compare
from watchfloor.storage.activity import Activity, literal, moment
from watchfloor.storage.inventory import Agent, Binding

ANY_TOOL: Final = "*"
_MOST_USES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Use:
    """Calls of one tool that went out or waited for an operator. ``effect`` is what it was known to do then."""

    server_id: str
    tool: str
    effect: ToolEffect
    calls: int
    last: datetime


class Advice(StrEnum):
    """What is proposed for a grant."""

    KEEP = "keep"
    READ_ONLY = "read_only"
    """For reading only: nothing else was done with it."""
    SPLIT = "split"
    """Of every tool: becomes grants of those tools that were used."""
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Advised:
    """A grant, what is proposed for it, and its use. ``becomes``: the grants in its place."""

    binding: Binding
    advice: Advice
    becomes: tuple[Binding, ...]
    calls: int
    last: datetime | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """Grants with what is proposed for each; what would have failed of ``calls`` past ones; what to know before."""

    advised: tuple[Advised, ...]
    calls: int
    would_fail: int
    warnings: tuple[str, ...]

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """What the agent would be granted."""
        return tuple(binding for one in self.advised for binding in one.becomes)

    @property
    def is_narrower(self) -> bool:
        """Whether there is anything to take away."""
        return any(one.advice is not Advice.KEEP for one in self.advised)


def read_uses(activity: Activity, agent_id: str, since: datetime, until: datetime) -> list[Use]:
    """What the agent used in this time, by tool and what it was known to do. Raises ``Unavailable``."""
    table = activity.query(
        f"AgentActivity | where Timestamp >= {moment(since)} and Timestamp < {moment(until)}"
        f' | where AgentId == {literal(agent_id)} and ActionType == "ToolCallDecided" and Verdict != "block"'
        f" | summarize Calls = count(), Last = max(Timestamp) by ServerId, ToolName, ToolEffect | take {_MOST_USES}",
        _MOST_USES,
    )
    return sorted(
        (
            Use(row["ServerId"], row["ToolName"], _effect(row["ToolEffect"]), row["Calls"], row["Last"].astimezone(UTC))
            for row in table.to_pylist()
        ),
        key=lambda use: (use.server_id, use.tool, use.effect),
    )


def propose(bindings: Sequence[Binding], uses: Sequence[Use], days: int) -> Proposal:
    """The smallest grants among ``bindings`` that cover ``uses`` as far as these cover them. Pure."""
    before = [facts_of(binding) for binding in bindings]
    found = tuple(_advise(binding, [use for use in uses if _goes_by(use, before, binding)]) for binding in bindings)
    after = [facts_of(binding) for one in found for binding in one.becomes]
    covered = [use for use in uses if _is_covered(use, before)]
    failing = sum(use.calls for use in covered if not _is_covered(use, after))
    warnings = [
        f"{binding.server_id}/{binding.tool} runs on the maker's own credential, which the manifest does not hold: the "
        f"maker has to give it again (makerCredential)."
        for one in found
        if one.advice is Advice.SPLIT
        for binding in one.becomes
        if binding.credential_owner is CredentialOwner.MAKER
    ]
    if not uses:
        warnings.append(f"No call was seen in the last {days} days: there is nothing to go by.")
    return Proposal(found, sum(use.calls for use in covered), failing, tuple(warnings))


def _advise(binding: Binding, uses: Sequence[Use]) -> Advised:
    calls, last = sum(use.calls for use in uses), max((use.last for use in uses), default=None)
    if not uses:
        return Advised(binding, Advice.REMOVE, (), 0, None)
    if binding.tool == ANY_TOOL:
        names = sorted({use.tool for use in uses})
        becomes = tuple(_narrowed(binding, name, [use for use in uses if use.tool == name]) for name in names)
        return Advised(binding, Advice.SPLIT, becomes, calls, last)
    narrowed = _narrowed(binding, binding.tool, uses)
    return Advised(binding, Advice.KEEP if narrowed == binding else Advice.READ_ONLY, (narrowed,), calls, last)


def _narrowed(binding: Binding, tool: str, uses: Iterable[Use]) -> Binding:
    changes = any(use.effect is not ToolEffect.READ for use in uses)
    return replace(binding, tool=tool, scope=binding.scope if changes else Scope.READ)


def _goes_by(use: Use, bindings: Sequence[BindingFacts], binding: Binding) -> bool:
    found = granted(bindings, use.server_id, use.tool)
    return found is not None and (found.server_id, found.tool) == (binding.server_id, binding.tool)


def _is_covered(use: Use, bindings: Sequence[BindingFacts]) -> bool:
    found = granted(bindings, use.server_id, use.tool)
    return found is not None and (found.scope is Scope.WRITE or use.effect is ToolEffect.READ)


def facts_of(binding: Binding) -> BindingFacts:
    """The binding as decisions see it."""
    return BindingFacts(
        agent_id=binding.agent_id,
        server_id=binding.server_id,
        tool=binding.tool,
        credential_owner=binding.credential_owner,
        scope=binding.scope,
        credential_id=binding.credential_id,
    )


# -- the manifest -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest that grants what is proposed and changes nothing else, and what is different in it."""

    text: str
    differences: tuple[Difference, ...]


def write_manifest(agent: Agent, bindings: Sequence[Binding]) -> Document:
    """The agent's manifest with ``bindings`` for its tools, ready to be applied. Stored secrets are kept."""
    tools = [
        {"server": b.server_id, "tool": b.tool, "credential": b.credential_owner.value, "scope": b.scope.value}
        for b in sorted(bindings, key=lambda b: (b.server_id, b.tool))
    ]
    after = {**agent.manifest, "tools": tools}
    section = {"id": agent.id, "name": agent.name, **{name: value for name, value in after.items() if _says(value)}}
    body = {"apiVersion": API_VERSION, "kind": KIND, "agents": [{**section, "tools": tools}]}
    text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120)
    return Document(text, tuple(compare(agent.manifest, after)))


def _says(value: Any) -> bool:
    """Whether a member says anything: what stands there when nothing does is left out."""
    return value is not None and value != "" and not (isinstance(value, Sequence | Mapping) and not value)


def _effect(word: str | None) -> ToolEffect:
    return ToolEffect(word) if word in set(ToolEffect) else ToolEffect.UNKNOWN
