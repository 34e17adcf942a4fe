"""The one way of a finding into control state: stored once, resolved where it is suppressed, given its incident.

Every runner of rules ends here, in the transaction that moves its cursor. Below are ``findings`` and ``correlate``, and
``alert_risk``: what an alert means for the risk of those that it is about is stored with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from watchfloor.detection.alert_risk import is_alert, note_alerts, note_drafts
from watchfloor.detection.correlate import Correlated, correlate
from watchfloor.model.cases import AlertDraft
from watchfloor.storage import findings, rules
from watchfloor.storage.findings import Saved

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of drafts: alerts that are new or have grown, and their incidents."""

    saved: tuple[Saved, ...] = ()
    incidents: Correlated = field(default_factory=Correlated)
    suppressed: tuple[str, ...] = ()

    @property
    def raised(self) -> list[str]:
        """Ids of the new alerts."""
        return [s.alert.id for s in self.saved if s.is_new]


def keep(tx: ControlTx, drafts: Sequence[AlertDraft], subject: str) -> Kept:
    """Store ``drafts``; ``subject`` is what the audit entry is about. A draft that is known changes nothing.

    One whose rule speaks of risk alone becomes no alert.
    An alert that a suppression covers is stored and resolved with the reason, and opens no incident.
    """
    note_drafts(tx, (draft for draft in drafts if not is_alert(draft)))
    drafts = [draft for draft in drafts if is_alert(draft)]
    if not drafts:
        return Kept()
    active = rules.suppressions(tx, active_at=tx.now)
    saved: list[Saved] = []
    suppressed: list[str] = []
    covered: dict[tuple[str, str], rules.Suppression] = {}
    told: list[AlertDraft] = []
    for draft in drafts:
        by = next((s for s in active if s.covers(draft.rule_id, draft.entities)), None)
        if by is not None:
            covered[draft.rule_id, draft.dedup_key] = by
            why = {"id": by.id, "reason": by.reason, "by": by.created_by}
            draft = replace(draft, detail={**draft.detail, "suppressed": why})
        told.append(draft)
    for found in findings.save_drafts(tx, told):
        if not (found.is_new or found.has_grown):
            continue
        by = covered.get((found.alert.draft.rule_id, found.alert.draft.dedup_key))
        if by is not None and (found.is_new or found.reopened or not found.alert.incident_id):
            rules.resolve_suppressed(tx, found.alert.id, by)
            suppressed.append(found.alert.id)
            if found.alert.incident_id:
                findings.uncount(tx, found.alert.incident_id)
        else:
            saved.append(found)
    joined = correlate(tx, saved)
    note_alerts(tx, (found.alert for found in saved))
    kept = Kept(tuple(saved), joined, tuple(suppressed))
    if saved or suppressed:
        tx.audit(
            "detection:find",
            subject,
            {
                "raised": kept.raised,
                "grown": [s.alert.id for s in saved if s.has_grown],
                "opened": list(joined.opened),
                "extended": list(joined.extended),
                "reopened": list(joined.reopened),
                "merged": [list(pair) for pair in joined.merged],
                **({"suppressed": suppressed} if suppressed else {}),
            },
        )
    return kept
