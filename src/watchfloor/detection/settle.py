"""Incidents told anew after their alerts have changed, at the price of what changed.

Above ``tally`` and ``story``; ``correlate`` and ``reshape`` say which alerts came and grew. An incident that lost
alerts, or whose alerts have never been counted, is counted anew from all of them. Runs in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from watchfloor.detection.priority import people_of, weigh
from watchfloor.detection.story import (
    SAME_USER,
    SAME_USER_AND_AGENT,
    WITHIN,
    Gist,
    of_kind,
    order_of,
    reason_of,
    reason_of_first,
    told,
)
from watchfloor.detection.tally import gist_from, sum_of
from watchfloor.model.cases import Alert, AlertDraft, EntityKind
from watchfloor.storage import agent_spans, findings, tallies
from watchfloor.storage.agent_spans import Active
from watchfloor.storage.findings import Held

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx
    from watchfloor.storage.people import User

_FOLLOWS = "; follows "


@dataclass(slots=True)
class Change:
    """What happened to one incident: alerts it gained, alerts that grew in it (with what they said before)."""

    held: Held
    added: dict[str, Alert] = field(default_factory=dict)
    grown: dict[str, tuple[AlertDraft, Alert]] = field(default_factory=dict)
    is_new: bool = False
    anew: bool = False
    """Count all of its alerts."""
    first_before: datetime | None = None
    """Where its activity began before."""

    @property
    def alerts(self) -> dict[str, Alert]:
        """Those that were added or have grown, as they are by now."""
        return self.added | {alert_id: now for alert_id, (_, now) in self.grown.items()}


def recount(tx: ControlTx, incident_ids: Iterable[str]) -> None:
    """Tell these incidents anew from all of their alerts."""
    found = findings.held(tx, list(incident_ids))
    settle(tx, [Change(replace(held, follows=None), anew=True) for held in found])


def settle(tx: ControlTx, changes: Sequence[Change]) -> None:
    """Tell each incident as it is by now: texts, severity, span, priority, and why each alert is in it."""
    anew = [c for c in changes if c.anew or (c.held.first_alert is None and not c.is_new)]
    if anew:
        ids = [c.held.value.id for c in anew]
        tallies.forget(tx, ids)
        agent_spans.forget(tx, ids)
    for change in anew:
        alerts = findings.alerts_of(tx, change.held.value.id)
        drafts = [a.draft for a in alerts]
        change.added, change.grown = {a.id: a for a in alerts}, {}
        value = replace(
            change.held.value,
            first_activity=min(d.first_activity for d in drafts),
            last_activity=max(d.last_activity for d in drafts),
        )
        known = (a.join_reason.rpartition(" ")[2] for a in alerts if _FOLLOWS in a.join_reason)
        follows = next(known, None) or change.held.follows
        change.held = replace(change.held, value=value, first_alert=None, follows=follows)
    tallies.change(
        tx,
        {
            c.held.value.id: sum_of(
                (alert.draft for alert in c.alerts.values()), (before for before, _ in c.grown.values())
            )
            for c in changes
        },
    )
    _explain(tx, changes)
    _tell(tx, changes)


def says_less(before: AlertDraft, now: AlertDraft) -> bool:
    """Whether a grown alert takes something back that others may have been told by, which no rule's alert does."""
    return (
        now.first_activity > before.first_activity
        or now.last_activity < before.last_activity
        or not _agents(before) <= _agents(now)
    )


def _agents(draft: AlertDraft) -> frozenset[str]:
    return frozenset(e.id for e in of_kind(draft, EntityKind.AGENT))


def _active(alert: Alert) -> Active:
    return Active(alert.id, _agents(alert.draft), alert.draft.first_activity, alert.draft.last_activity)


def _explain(tx: ControlTx, changes: Sequence[Change]) -> None:
    """Store why each alert is in its incident, where that is new."""
    activity = {c.held.value.id: [_active(alert) for alert in c.alerts.values()] for c in changes}
    sharing = agent_spans.add(tx, activity, WITHIN)
    reasons: dict[str, str] = {}
    touched: set[str] = set()
    for change in changes:
        alerts = change.alerts
        touched |= alerts.keys()
        first = _first_alert(tx, change, alerts)
        before = change.held.first_alert
        if before is not None and before != first and before not in alerts:
            (former,) = findings.alerts_by_id(tx, [before])
            shares = agent_spans.sharing_of(tx, change.held.value.id, _active(former))
            reasons[before] = reason_of(former.draft, shares_agent=shares)
        for alert_id, alert in alerts.items():
            reasons[alert_id] = reason_of(alert.draft, shares_agent=alert_id in sharing)
        reasons[first] = reason_of_first(change.held.follows)
        change.held = replace(change.held, first_alert=first)
    findings.explain_joins(tx, reasons)
    # Who was alone with an agent until now; an incident's first alert keeps its own reason.
    findings.explain_again(tx, sorted(sharing - touched), SAME_USER, SAME_USER_AND_AGENT)


def _first_alert(tx: ControlTx, change: Change, alerts: Mapping[str, Alert]) -> str:
    """The alert that the incident begins with, by now."""
    before = change.held.first_alert
    candidates = dict(alerts)
    if before is not None and before not in alerts:
        since = change.first_before
        if since is not None and all(a.draft.first_activity > since for a in alerts.values()):
            return before
        candidates |= {a.id: a for a in findings.alerts_by_id(tx, [before])}
    return min(candidates.values(), key=lambda a: order_of(a.draft)).id


def _tell(tx: ControlTx, changes: Sequence[Change]) -> None:
    gists: list[tuple[Change, Gist]] = []
    for change in changes:
        value = change.held.value
        gists.append((change, gist_from(tallies.read(tx, value.id), value.first_activity, value.last_activity)))
    directory = people_of(tx, (entity for _, gist in gists for entity in gist.entities))
    findings.update_incidents(tx, [_as_told(tx, change.held, gist, directory) for change, gist in gists])


def _as_told(tx: ControlTx, held: Held, gist: Gist, directory: Mapping[str, User]) -> Held:
    story = told(gist)
    value = replace(
        held.value,
        title=story.title,
        description=story.description,
        severity=story.severity,
        entities=story.entities,
        updated_at=tx.now,
        priority=weigh(gist, directory).score,
    )
    return replace(held, value=value)
