"""How risky users and agents are: what is noted about them, and what operators and remediation decide.

Above ``storage.risks``, which adds detections up and keeps the data plane in step; ``response``, ``portal`` and shared
signals call it, each function inside the caller's transaction, so that a level and what follows from it are one commit.
``kind`` is ``user`` or ``agent``. A high risk is refused everywhere at the next call: by the token service and by every
gateway. It ends no session, tells no identity provider and resets no password: that is ``response``'s to order.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from watchfloor.model.errors import InputError
from watchfloor.model.ids import ordered_id
from watchfloor.model.people import RiskLevel
from watchfloor.model.risk import Risk, RiskChange, RiskDetection, RiskState
from watchfloor.storage import risks

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

__all__ = [
    "Risk", "RiskDetection", "RiskState", "confirm_compromised", "confirm_safe", "detections", "dismiss", "find",
    "history", "note", "remediate",
]  # fmt: skip

_CONFIRMED: Final = {"user": "adminConfirmedUserCompromised", "agent": "adminConfirmedAgentCompromised"}
_DISMISSED: Final = {"user": "adminDismissedAllRiskForUser", "agent": "adminDismissedRiskForAgent"}
_SAFE: Final = {"user": "adminConfirmedAccountSafe", "agent": "adminConfirmedAgentSafe"}
_REMEDIATED: Final = {"user": "userPerformedSecuredPasswordChange", "agent": "none"}


def find(tx: ControlTx, kind: str, subject_id: str) -> Risk:
    """The risk now: level, state, reasons and since when. Raises ``NotFound``."""
    return risks.find(tx, kind, subject_id)


def detections(tx: ControlTx, kind: str, subject_id: str) -> list[RiskDetection]:
    """What was seen, open or settled, newest activity first."""
    return risks.detections(tx, kind, subject_id)


def history(tx: ControlTx, kind: str, subject_id: str) -> list[RiskChange]:
    """How the level and state came to what they are, newest first."""
    return risks.history(tx, kind, subject_id)


def note(
    tx: ControlTx,
    kind: str,
    subject_id: str,
    detection: str,
    level: RiskLevel,
    *,
    source: str,
    detail: str,
    alert_id: str | None = None,
    key: str = "",
    at: datetime | None = None,
) -> Risk:
    """Add a detection and add up anew.

    ``detection`` is a name as in ``model.risk.KINDS``; ``source`` says who saw it, ``detail`` one clause of what, fit
    to show. ``key`` says which occurrence it is: noting the same one again changes nothing but how long it went on;
    without one (and without ``alert_id``) every call is an occurrence of its own. ``at``: when, if not now.
    Raises ``NotFound`` for an unknown user or agent.
    """
    moment = at or tx.now
    which = key or (f"alert/{alert_id}" if alert_id else ordered_id("occ"))
    seen = risks.Seen(detection, level, source, detail, which, moment, moment, alert_id)
    return risks.record(tx, kind, subject_id, seen)


def confirm_compromised(tx: ControlTx, kind: str, subject_id: str, reason: str) -> Risk:
    """An operator says that the account is compromised: high until dismissed, confirmed safe or remediated.

    Raises ``NotFound``; ``InputError`` without a reason. Confirmed already: nothing changes.
    """
    reason = _reason(reason)
    risks.find(tx, kind, subject_id)
    seen = risks.Seen(_CONFIRMED[kind], RiskLevel.HIGH, "admin", reason, ordered_id("occ"), tx.now, tx.now)
    return risks.confirm(tx, kind, subject_id, seen)


def confirm_safe(tx: ControlTx, kind: str, subject_id: str, reason: str) -> Risk:
    """An operator says that what was seen was right to happen: none, confirmed safe. Raises as ``dismiss``."""
    return _settle(tx, kind, subject_id, RiskState.CONFIRMED_SAFE, "risk:confirm-safe", _SAFE, _reason(reason))


def dismiss(tx: ControlTx, kind: str, subject_id: str, reason: str) -> Risk:
    """An operator says that nothing of it counts: none, dismissed; what is seen from now on counts again.

    Raises ``NotFound``; ``InputError`` without a reason. Where nothing is open, nothing changes.
    """
    return _settle(tx, kind, subject_id, RiskState.DISMISSED, "risk:dismiss", _DISMISSED, _reason(reason))


def remediate(tx: ControlTx, kind: str, subject_id: str, how: str) -> Risk:
    """What made the account risky is mended (a new password, a new secret): none, remediated.

    ``how`` says by what. Activity up to now is over, also where it is only reported later. Raises as ``dismiss``.
    """
    return _settle(tx, kind, subject_id, RiskState.REMEDIATED, "risk:remediate", _REMEDIATED, _reason(how))


def _settle(
    tx: ControlTx, kind: str, subject_id: str, state: RiskState, activity: str, words: dict[str, str], because: str
) -> Risk:
    risks.find(tx, kind, subject_id)
    return risks.settle(tx, kind, subject_id, state, activity=activity, detail=words[kind], because=because)


def _reason(reason: str) -> str:
    if not reason.strip():
        raise InputError("a reason is needed.", where="reason", remedy="Say why, for whoever reads the audit log.")
    return reason.strip()[:1000]
