"""People who know better: merging and splitting incidents by hand.

Correlation joins alerts by what they share; an analyst may see that two incidents are one attack, or that one of them
is two. What people decide stays: alerts that were taken out never wander back, and what comes later of a merged
incident follows it. Both incidents are told anew, and both activity logs say who did it and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from watchfloor.detection.correlate import join
from watchfloor.detection.settle import recount
from watchfloor.model.cases import EntryKind, Incident
from watchfloor.model.errors import Conflict, InputError
from watchfloor.model.ids import new_id
from watchfloor.storage import findings, triage
from watchfloor.storage.cases import OPEN

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_APART = "#apart/"
"""In the correlation key of an incident that was split off: nothing joins it by itself."""


def _open(tx: ControlTx, incident_id: str, where: str) -> Incident:
    found = findings.incident_of(tx, incident_id)
    if found.status.value not in OPEN:
        raise Conflict(
            f"{incident_id} is {found.status.value}.", where=where, remedy="Only open incidents change shape."
        )
    return found


def merge(tx: ControlTx, gone_id: str, into_id: str, reason: str) -> None:
    """Make ``gone_id`` part of ``into_id``: its alerts move, it stays as *redirected*. Both must be open.

    Raises ``NotFound``, ``Conflict``, ``InputError``.
    """
    if gone_id == into_id:
        raise InputError("an incident cannot be merged into itself.", where="into")
    gone, survivor = _open(tx, gone_id, "incident"), _open(tx, into_id, "into")
    key = findings.key_of(tx, into_id)
    findings.save_incident(tx, join(survivor, gone), key)
    findings.merge_incident(tx, gone, into_id)
    told = {"gone": gone_id, "into": into_id}
    triage.note(tx, EntryKind.MERGED, incident_id=into_id, text=reason, detail=told)
    tx.audit("incident:merge", f"incident/{into_id}", {"gone": gone_id, "reason": reason})
    recount(tx, [into_id])


def split(tx: ControlTx, incident_id: str, alert_ids: Sequence[str], reason: str) -> str:
    """Take these alerts out of an open incident, into a new one; its id.

    Raises ``NotFound``, ``Conflict``; ``InputError`` unless some of its alerts are named, and not all.
    """
    whole = _open(tx, incident_id, "incident")
    members = {found.id for found in findings.alerts_of(tx, incident_id)}
    chosen = set(alert_ids)
    if not chosen or not chosen < members:
        raise InputError(
            "name some of the incident's alerts, and not all.", where="alert_ids", remedy=f"It has {len(members)}."
        )
    key = findings.key_of(tx, incident_id)
    new = replace(whole, id=new_id("inc"), created_at=tx.now, updated_at=tx.now)
    apart = f"{key.partition(_APART)[0]}{_APART}{new.id}"
    findings.save_incident(tx, new, apart)
    findings.move_alerts(tx, chosen, new.id)
    told = {"alerts": sorted(chosen), "from": incident_id, "into": new.id}
    for each in (incident_id, new.id):
        triage.note(tx, EntryKind.SPLIT, incident_id=each, text=reason, detail=told)
    tx.audit("incident:split", f"incident/{incident_id}", {**told, "reason": reason})
    recount(tx, [incident_id, new.id])
    return new.id
