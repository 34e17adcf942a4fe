"""What is looked at automatically before somebody decides about a submitted version: one visible list.

Pure: a candidate in, results out; they are kept with the version and run again when it is approved. A check that fails
keeps the version from being approved, one that warns does not. To add one: a function here and a line in ``CHECKS``.
What makes a manifest no manifest, or puts a secret into it, is refused before: see ``submissions``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from watchfloor.model.agents import PinState, ServerState
from watchfloor.registry.state import State
from watchfloor.registry.steps import build_hash
from watchfloor.registry.version_diff import Difference, Reach
from watchfloor.storage.inventory import Tool
from watchfloor.storage.versions import KnownVersions


class Outcome(StrEnum):
    """What a check came to."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found; ``details`` are sentences."""

    check: str
    outcome: Outcome
    says: str
    details: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As it is kept with a version."""
        return {
            "check": self.check,
            "outcome": self.outcome.value,
            "says": self.says,
            "details": list(self.details),
        }


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that wants to be live. ``differences`` are from what is live now; ``state`` is the registry's."""

    agent_id: str
    manifest: Mapping[str, Any]
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]
    state: State


Check = Callable[[Candidate], CheckResult]


def run_checks(candidate: Candidate) -> tuple[CheckResult, ...]:
    """The results of every check, in their order."""
    return tuple(check(candidate) for check in CHECKS)


def _manifest(candidate: Candidate) -> CheckResult:
    if not candidate.warnings:
        return CheckResult("manifest", Outcome.PASSED, "Everything that the manifest names is there.")
    says = f"The manifest can be applied, with {len(candidate.warnings)} warnings."
    return CheckResult("manifest", Outcome.WARNED, says, candidate.warnings)


def _build(candidate: Candidate) -> CheckResult:
    known = candidate.state.versions.get(candidate.agent_id, KnownVersions())
    if build_hash(candidate.manifest) in known.ruled_out:
        says = "This very build was ruled out."
        return CheckResult("build", Outcome.FAILED, says, ("this very build was blocked before.",))
    return CheckResult("build", Outcome.PASSED, "This build was not ruled out before.")


def _changes(candidate: Candidate) -> CheckResult:
    wider = tuple(d.says for d in candidate.differences if d.reach is Reach.WIDER)
    if not wider:
        return CheckResult("changes", Outcome.PASSED, "It can do no more than the version that is live.")
    says = f"{len(wider)} differences from what is live let it do more, or let more people use it."
    return CheckResult("changes", Outcome.WARNED, says, wider)


def _tools(candidate: Candidate) -> CheckResult:
    refused, doubtful = list[str](), list[str]()
    for grant in candidate.manifest["tools"]:
        server_id, name = grant["server"], grant["tool"]
        server = candidate.state.servers.get(server_id)
        if server is not None and server.state is ServerState.BLOCKED:
            refused.append(f"Tool server {server_id} is blocked.")
        found = list(_granted(candidate.state, server_id, name))
        if not found:
            doubtful.append(f"{server_id}/{name}: nobody has seen such a tool yet.")
        for tool in found:
            if tool.is_blocked:
                refused.append(f"{tool.key} is blocked.")
            elif tool.pin_state is PinState.CHANGED:
                refused.append(f"{tool.key} is not what was approved: look at its definition first.")
            elif tool.pin_state is PinState.UNPINNED:
                doubtful.append(f"{tool.key} is not pinned: nobody has approved its definition.")
    if refused:
        says = f"{len(refused)} of its tools would be refused."
        return CheckResult("tools", Outcome.FAILED, says, (*refused, *doubtful))
    if doubtful:
        return CheckResult("tools", Outcome.WARNED, f"{len(doubtful)} of its tools are not pinned.", tuple(doubtful))
    return CheckResult("tools", Outcome.PASSED, "Every tool is pinned, and is what was approved.")


def _granted(state: State, server_id: str, name: str) -> Iterable[Tool]:
    if name != "*":
        tool = state.tools.get((server_id, name))
        return [tool] if tool is not None else []
    return [tool for (on, _), tool in sorted(state.tools.items()) if on == server_id]


CHECKS: Final[tuple[Check, ...]] = (_manifest, _build, _changes, _tools)
