"""Conditional access: what its policies may demand, and what they came to for one call or sign-in.

Values only. ``guard/access`` evaluates; the gateway and the token service ask it and act on what it says. Names are
Graph's wherever Graph has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple


class AccessState(StrEnum):
    """Whether a policy counts; a report-only one is evaluated and logged, and changes nothing."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    REPORT_ONLY = "enabledForReportingButNotEnforced"


class Control(StrEnum):
    """What is demanded before access is given, weakest first; ``strictness`` orders them."""

    GRANT = "grant"
    REAUTHENTICATE = "reauthenticate"
    MFA = "mfa"
    PASSWORD_CHANGE = "passwordChange"  # noqa: S105 a control, not a secret
    BLOCK = "block"

    @property
    def strictness(self) -> int:
        """0 (grant) to 4 (block)."""
        return _STRICTNESS[self]

    @property
    def refusal_code(self) -> str:
        """The stable reason code of a refusal that this brings (``guard.reasons.CODES``); empty for grant."""
        return _CODES[self]


_CODES: Final = {
    Control.GRANT: "",
    Control.REAUTHENTICATE: "reauthentication_required",
    Control.MFA: "mfa_required",
    Control.PASSWORD_CHANGE: "password_reset_required",
    Control.BLOCK: "access_blocked",
}
_STRICTNESS = {control: number for number, control in enumerate(Control)}


@dataclass(frozen=True, slots=True)
class AppliedPolicy:
    """A policy whose conditions fit. ``control`` is what it still demands: grant where it is satisfied.

    ``because`` says which conditions fitted and why. ``max_age`` is its sign-in frequency in seconds, if it has one.
    """

    id: str
    version: int
    name: str
    state: AccessState
    control: Control
    because: tuple[str, ...] = ()
    max_age: int | None = None


@dataclass(frozen=True, slots=True)
class AccessFacts:
    """The answer of conditional access. ``control`` is the strictest that an enabled policy still demands.

    ``policies``: every one that applied, the strictest first, report-only ones too. ``max_age``: how old a sign-in may
    be, in seconds, where it is too old. ``methods`` (``amr``) and ``sign_in_risk`` are what the token proved beyond the
    other facts. ``problem``: why nothing could be evaluated; then the answer is block.
    """

    control: Control = Control.GRANT
    policies: tuple[AppliedPolicy, ...] = ()
    max_age: int | None = None
    methods: tuple[str, ...] = ()
    sign_in_risk: str = "none"
    problem: str = ""

    @property
    def refusing(self) -> tuple[AppliedPolicy, ...]:
        """The enabled policies that are not satisfied, the strictest first."""
        return tuple(p for p in self.policies if p.state is AccessState.ENABLED and p.control is not Control.GRANT)

    @property
    def would_refuse(self) -> tuple[AppliedPolicy, ...]:
        """The report-only policies that would not be satisfied."""
        return tuple(p for p in self.policies if p.state is AccessState.REPORT_ONLY and p.control is not Control.GRANT)


ACR_MULTI_FACTOR: Final = "http://schemas.openid.net/pape/policies/2007/06/multi-factor"
"""The authentication context that is asked for where a sign-in took one factor only (OpenID's name for it)."""


class Proof(NamedTuple):
    """What a token proves of the sign-in behind it, beyond its time: its methods (``amr``), and how risky it was."""

    methods: tuple[str, ...] = ()
    sign_in_risk: str = "none"


NO_PROOF: Final = Proof()
