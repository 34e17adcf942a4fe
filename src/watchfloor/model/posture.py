"""Words of posture: how much an indicator weighs, how it stands for an agent, how risky an agent is."""

from __future__ import annotations

from enum import StrEnum


class Weight(StrEnum):
    """How much an indicator weighs for likelihood or impact, the least first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 (low) to 3 (critical)."""
        return list(Weight).index(self)


class FindingState(StrEnum):
    """How an indicator stands for an agent. An exception does not change it."""

    ACTIVE = "active"
    NOT_ACTIVE = "not_active"
    NOT_ASSESSED = "not_assessed"


class RiskBand(StrEnum):
    """The risk level of an agent, the gravest first. It is of what could happen; ``RiskLevel`` is of what did."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NO_KNOWN_RISK = "no_known_risk"
    NOT_EVALUATED = "not_evaluated"
