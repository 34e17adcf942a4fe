"""What goes into an incident's case file: the incident, its alerts, their events, what happened, what was done, who
changed what. For a viewer who may read every alert; contents of messages are left out.

Above the repositories; ``storage.case_file`` chains and signs it.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from watchfloor.model.cases import Incident
from watchfloor.storage import actions, findings, triage
from watchfloor.storage.activity import Activity

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

_MOST: Final = 10_000
"""Entries of the activity log, and of what was done, that are taken along: the newest."""
_MARGIN: Final = timedelta(seconds=1)


def gather(tx: ControlTx, activity: Activity, incident: Incident) -> list[tuple[str, dict[str, Any]]]:
    """The parts of the case file of ``incident``, in order, each with its kind."""
    alerts = sorted(findings.alerts_of(tx, incident.id), key=lambda alert: (alert.draft.first_activity, alert.id))
    parts = [("incident", _fields(incident))]
    parts += [("alert", _fields(alert)) for alert in alerts]
    ids = list(dict.fromkeys(report_id for alert in alerts for report_id in alert.draft.evidence))
    if ids:
        events = activity.steps(ids, incident.first_activity - _MARGIN, incident.last_activity + _MARGIN)
        parts += [("event", {name: value for name, value in row.items() if value is not None}) for row in events]
    entries = triage.entries_of_incident(tx, incident.id, limit=_MOST)
    parts += [("activity", _fields(entry)) for entry in reversed(entries)]
    records = actions.list_records(tx, incident_id=incident.id, limit=_MOST)
    parts += [("action", _fields(record)) for record in reversed(records)]
    audited = actions.list_audit(tx, subject=f"incident/{incident.id}", limit=_MOST)
    parts += [("audit", _fields(entry)) for entry in reversed(audited)]
    return parts


def _fields(value: Any) -> dict[str, Any]:
    return dataclasses.asdict(value)
