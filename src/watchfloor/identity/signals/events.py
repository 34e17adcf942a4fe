"""The words of security events: their types, whom they are about, and what they say. Pure.

Read from what somebody else signed, so everything is checked: a member that is no text, or too long, is refused with
its place. OpenID Shared Signals Framework 1.0, CAEP 1.0, RFC 9493 (subject identifiers).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from watchfloor.model.errors import InputError
from watchfloor.model.people import RiskLevel

CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
SESSION_REVOKED: Final = CAEP + "session-revoked"
CREDENTIAL_CHANGE: Final = CAEP + "credential-change"
RISK_LEVEL_CHANGE: Final = CAEP + "risk-level-change"
VERIFICATION: Final = "https://schemas.openid.net/secevent/ssf/event-type/verification"

LEVELS: Final[Mapping[str, RiskLevel]] = {
    "LOW": RiskLevel.LOW,
    "MEDIUM": RiskLevel.MEDIUM,
    "HIGH": RiskLevel.HIGH,
}
"""CAEP's levels. There is no word for no risk at all: who is dismissed is told of as low."""

_MOST_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class SubjectId:
    """Whom an event is about. ``values`` are the members that ``format`` has; none for a format that we do not know."""

    format: str
    values: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join(self.values.values()) or f"a subject of format {self.format}"


FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "email": ("email",),
    "iss_sub": ("iss", "sub"),
    "opaque": ("id",),
}
"""Formats that mean something to us, with their members."""


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """One event, verified. ``issued_at`` is Unix seconds; ``lead``: how far the issuer's clock may be ahead of ours."""

    jti: str
    issued_at: int
    kind: str
    payload: Mapping[str, Any]
    subject: SubjectId | None
    lead: float = 0.0

    @property
    def at(self) -> float:
        """When it happened, Unix seconds by our clock, at the earliest."""
        said = self.payload.get("event_timestamp")
        if said is None:
            said = self.issued_at
        if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said < 2**40:
            raise InputError("is no time.", where="event_timestamp")
        return min(float(said), float(self.issued_at)) - self.lead

    def text(self, name: str) -> str:
        """The member ``name``, which has to be there. Raises ``InputError``."""
        return _text(self.payload.get(name), name)

    def reason(self) -> str:
        """What administrators are told of why, cleaned; empty where nobody said."""
        for name in ("reason_admin", "risk_reason"):
            said = self.payload.get(name)
            if isinstance(said, Mapping):
                said = said.get("en", next(iter(said.values()), ""))
            if isinstance(said, str) and said:
                return "".join(c if c.isprintable() else " " for c in said[:300]).strip()
        return ""


def parse_subject(value: Any, *, where: str = "sub_id") -> SubjectId:
    """The subject identifier in ``value``; of a complex one the user. Raises ``InputError``."""
    if not isinstance(value, Mapping):
        raise InputError("is no subject identifier.", where=where)
    kind = _text(value.get("format"), f"{where}.format")
    if kind == "complex":
        if "user" not in value:
            return SubjectId(kind)
        return parse_subject(value["user"], where=f"{where}.user") if where == "sub_id" else SubjectId(kind)
    members = FORMATS.get(kind, ())
    return SubjectId(kind, {name: _text(value.get(name), f"{where}.{name}") for name in members})


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_CHARS or not value.isprintable():
        raise InputError(f"must be a text of 1 to {_MOST_CHARS} characters that print.", where=where)
    return value
