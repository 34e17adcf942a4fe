"""What a decision may look at besides the invocation.

The gateway builds a ``Context`` from its in-memory state for each call; the engine reads it and nothing else. It does
not know where the facts came from or how old they are, except through ``Facts.state_is_current``.
"""

from __future__ import annotations

from dataclasses import dataclass

from watchfloor.guard.policy import PolicySet
from watchfloor.guard.provenance.trace import Trace
from watchfloor.model.facts import Facts


@dataclass(frozen=True, slots=True)
class Context:
    """The facts and the published policies. No policy set at all (``None``) means: refuse.

    ``trace``: where the arguments came from; None where nobody traces, as when a policy is tried out.
    """

    facts: Facts
    policies: PolicySet | None
    trace: Trace | None = None
