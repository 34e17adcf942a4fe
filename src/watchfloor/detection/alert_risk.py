"""What alerts mean for the risk of those that they are about: one detection for each, in the alert's own transaction.

Beside ``keep``, which calls it; ``storage.risks`` adds up. What an alert weighs is a function of the alert as it is
stored, so late, repeated and reordered events change nothing that the alert itself does not. An alert that turns out to
be nothing is taken back where people say so (``storage.triage``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from watchfloor.model.cases import Alert, AlertDraft, EntityKind, EntityRole
from watchfloor.model.people import RiskLevel
from watchfloor.model.risk import OF_SEVERITY
from watchfloor.storage import risks

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

ALERT: Final = "securityAlert"
_Found = defaultdict[tuple[str, str], list[risks.Seen]]
_KINDS: Final = {EntityKind.USER: risks.USER, EntityKind.AGENT: risks.AGENT}


def note_alerts(tx: ControlTx, alerts: Iterable[Alert]) -> None:
    """Note what these alerts, new or grown, weigh for the users and agents in them that are known here.

    Who is only related to an alert is at no risk by it.
    """
    found: _Found = defaultdict(list)
    for alert in alerts:
        for kind, subject_id, detection, level in weights(alert.draft):
            seen = _seen(alert.draft, detection, level, "alert", f"alert/{alert.id}", alert.id)
            found[kind, subject_id].append(seen)
    _record(tx, found)


def weights(draft: AlertDraft) -> list[tuple[str, str, str, RiskLevel]]:
    """(kind, id, detection, level) of everybody whose risk the alert raises.

    A rule may say which detection its alerts are, of whom and how grave; else their severity says it.
    """
    said = _said(draft)
    level = RiskLevel(said["level"]) if said else OF_SEVERITY.get(draft.severity)
    if level is None:
        return []
    detection = str(said["detection"]) if said else ALERT
    return [
        (_KINDS[entity.kind], entity.id, detection, level)
        for entity in draft.entities
        if entity.kind in _KINDS
        and entity.role is not EntityRole.RELATED
        and (said is None or entity.kind.value in said["of"])
    ]


def _said(draft: AlertDraft) -> Mapping[str, Any] | None:
    """What the draft's rule says of risk (``words.RuleRisk``)."""
    said: Mapping[str, Any] | None = draft.detail.get("risk")
    return said


def is_alert(draft: AlertDraft) -> bool:
    """Whether the draft becomes an alert; else only the risk of those that it is about takes note."""
    said = _said(draft)
    return said is None or bool(said["alert"])


def note_drafts(tx: ControlTx, drafts: Iterable[AlertDraft]) -> None:
    """Note drafts that become no alert. What is noted is a function of the draft, as it is with alerts."""
    found: _Found = defaultdict(list)
    for draft in drafts:
        for kind, subject_id, detection, level in weights(draft):
            key = f"rule/{draft.rule_id}/{draft.dedup_key}"
            found[kind, subject_id].append(_seen(draft, detection, level, "rule", key))
    _record(tx, found)


def _record(tx: ControlTx, found: _Found) -> None:
    for kind in risks.KINDS:
        for subject_id in risks.known_subjects(tx, kind, (i for k, i in found if k == kind)):
            risks.record(tx, kind, subject_id, *found[kind, subject_id])


def _seen(
    draft: AlertDraft, detection: str, level: RiskLevel, source: str, key: str, alert_id: str | None = None
) -> risks.Seen:
    detail = draft.title if alert_id else draft.description
    return risks.Seen(
        detection, level, source, detail, key, draft.first_activity, draft.last_activity, alert_id,
        {"rule": draft.rule_id}, exact=True,
    )  # fmt: skip
