"""What the guard answers: signals, reasons, verdicts.

The vocabulary maps one to one on ``ApplyGuardrailScope`` of the Agent 365 SDK 2.0 (decision types allow, modify, deny;
``audit`` and ``warn`` are our mode *audit*); see ``Effect.decision_type``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class Effect(StrEnum):
    """What happens to the call, weakest first; ``strictness`` orders them."""

    ALLOW = "allow"
    REDACT = "redact"
    HOLD = "hold"
    BLOCK = "block"

    @property
    def strictness(self) -> int:
        """0 (allow) to 3 (block)."""
        return _STRICTNESS[self]

    @property
    def lets_the_call_out(self) -> bool:
        """Whether the call goes out, perhaps with redacted arguments."""
        return self in (Effect.ALLOW, Effect.REDACT)

    @property
    def decision_type(self) -> str:
        """``microsoft.security.decision.type`` of this effect."""
        return _DECISION_TYPE[self]


_STRICTNESS = {Effect.ALLOW: 0, Effect.REDACT: 1, Effect.HOLD: 2, Effect.BLOCK: 3}
_DECISION_TYPE = {Effect.ALLOW: "allow", Effect.REDACT: "modify", Effect.HOLD: "deny", Effect.BLOCK: "deny"}


class Mode(StrEnum):
    """Whether a reason counts: in ``audit`` it is recorded and shown, and the call goes on."""

    AUDIT = "audit"
    ENFORCE = "enforce"


class Severity(StrEnum):
    """Severity of signals, alerts and incidents; only incidents reach ``critical`` by themselves."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 (informational) to 4 (critical)."""
        return _RANKS[self]


_RANKS: Final = {severity: rank for rank, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class Signal:
    """What a detector saw. ``path`` is where (``arguments.body``, ``user_turns[0]``), ``span`` the characters."""

    detector: str
    category: str
    severity: Severity
    score: float
    path: str
    span: tuple[int, int]
    excerpt: str
    """At most 80 characters around the finding, secrets masked: fit to store as metadata."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """Replace the string at ``path`` (keys and indexes below the arguments) from ``span`` on by ``replacement``."""

    path: tuple[str | int, ...]
    span: tuple[int, int]
    replacement: str


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a verdict is not simply *allow*. ``code`` is stable and public; ``message`` is for operators only."""

    code: str
    step: str
    effect: Effect
    mode: Mode
    severity: Severity
    message: str
    policy_id: str | None = None
    policy_version: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The guard's answer to one invocation.

    ``effect`` is what is enforced; ``would_be`` what it would be if every reason were enforced. ``reasons`` are in the
    order of the steps that gave them, the deciding one first. ``input_hash`` is SHA-256 over the canonical JSON of
    everything that was decided on, and with ``policy_set`` identifies the decision for replay.
    """

    effect: Effect
    would_be: Effect
    reasons: tuple[Reason, ...]
    signals: tuple[Signal, ...]
    redactions: tuple[Redaction, ...]
    input_hash: str
    policy_set: str
