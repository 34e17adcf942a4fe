"""One decision in the making: what its steps share.

The engine makes a ``Case`` for each invocation and throws it away with the verdict. Derived values (destinations,
amounts) are computed at most once and only when a policy asks. Nothing in here judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from watchfloor.guard.content import Content
from watchfloor.guard.destinations import Amounts, Destinations, find_amounts, find_destinations
from watchfloor.guard.reasons import CODES
from watchfloor.model.activity import Invocation
from watchfloor.model.facts import Facts
from watchfloor.model.verdicts import Effect, Mode, Reason, Redaction, Signal

if TYPE_CHECKING:
    from watchfloor.guard.detectors.finding import Finding
    from watchfloor.guard.policy import PolicySet
    from watchfloor.guard.provenance.trace import Trace


class Case:
    """What is known and what was found so far. ``unreadable`` says why the arguments could not be examined, if so."""

    __slots__ = (
        "_amounts",
        "_destinations",
        "content",
        "facts",
        "findings",
        "invocation",
        "matches",
        "policies",
        "reasons",
        "redactions",
        "signals",
        "trace",
        "unreadable",
    )

    invocation: Invocation
    facts: Facts
    policies: PolicySet
    content: Content
    findings: list[Finding]
    signals: tuple[Signal, ...]
    trace: Trace | None

    def __init__(
        self,
        invocation: Invocation,
        facts: Facts,
        policies: PolicySet,
        content: Content,
        unreadable: str,
        trace: Trace | None = None,
    ) -> None:
        self.invocation = invocation
        self.facts = facts
        self.policies = policies
        self.content = content
        self.unreadable = unreadable
        self.trace = trace
        self.reasons: list[Reason] = []
        self.findings = []
        self.signals = ()
        self.redactions: list[Redaction] = []
        self.matches: Mapping[str, list[Reason]] | None = None
        self._destinations: Destinations | None = None
        self._amounts: Amounts | None = None

    @property
    def destinations(self) -> Destinations:
        """Where the arguments point to."""
        if self._destinations is None:
            self._destinations = find_destinations(self.content, self.facts.organization.domains)
        return self._destinations

    @property
    def amounts(self) -> Amounts:
        """Sums of money in the arguments."""
        if self._amounts is None:
            self._amounts = find_amounts(self.content)
        return self._amounts

    def refuse(
        self,
        code: str,
        step: str,
        mode: Mode = Mode.ENFORCE,
        detail: Mapping[str, Any] | None = None,
        policy: tuple[str, int] | None = None,
    ) -> None:
        """Add a reason to block; ``policy`` is the id and version of the one that gives it."""
        about = CODES[code]
        policy_id, version = policy if policy is not None else (None, None)
        self.reasons.append(
            Reason(code, step, Effect.BLOCK, mode, about.severity, about.message, policy_id, version, detail or {})
        )
