"""What people decide about alerts and incidents, and the log of all that happened to them.

Beside ``cases``, which decides what a viewer may see; here is what an operator may change, in the caller's transaction.
Each change is in the audit log and, as people read it, in the activity log (``CaseEntry``); comments are entries of it.
What an alert said about somebody's risk is taken back when people say that it was nothing, and counts again if not.
Detection writes its own entries through ``note``. It does not know who may do what: that is the caller's to check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from watchfloor.model.cases import (
    Alert,
    AlertStatus,
    CaseEntry,
    Classification,
    Determination,
    EntryKind,
    Incident,
    IncidentStatus,
)
from watchfloor.model.errors import Conflict, InputError, NotFound
from watchfloor.model.ids import ordered_id
from watchfloor.storage import risks
from watchfloor.storage.cases import alert_from, incident_from
from watchfloor.storage.schema import alert, case_entry, incident, risk_detection

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx

MOST_TAGS: Final = 20
LONGEST_TAG: Final = 50
LONGEST_COMMENT: Final = 10_000

_NEXT: Final[dict[IncidentStatus, frozenset[IncidentStatus]]] = {
    IncidentStatus.ACTIVE: frozenset({IncidentStatus.IN_PROGRESS, IncidentStatus.RESOLVED}),
    IncidentStatus.IN_PROGRESS: frozenset({IncidentStatus.ACTIVE, IncidentStatus.RESOLVED}),
    IncidentStatus.RESOLVED: frozenset({IncidentStatus.ACTIVE, IncidentStatus.IN_PROGRESS}),
    IncidentStatus.REDIRECTED: frozenset(),
}
_ALERT_STATUS: Final = {
    IncidentStatus.ACTIVE: AlertStatus.NEW,
    IncidentStatus.IN_PROGRESS: AlertStatus.IN_PROGRESS,
    IncidentStatus.RESOLVED: AlertStatus.RESOLVED,
}
_NOTHING: Final = (Classification.FALSE_POSITIVE.value, Classification.EXPECTED.value)
"""What an alert is classified as that says nothing about anybody's risk."""


# -- the activity log ---------------------------------------------------------------------------------------------


def note(
    tx: ControlTx,
    kind: EntryKind,
    *,
    incident_id: str | None = None,
    alert_id: str | None = None,
    text: str = "",
    detail: Mapping[str, Any] | None = None,
) -> CaseEntry:
    """Add an entry to the activity log, in the name of the transaction's actor."""
    entry = CaseEntry(ordered_id("cse"), incident_id, alert_id, tx.now, tx.actor, kind, text, dict(detail or {}))
    record(tx, [entry])
    return entry


def record(tx: ControlTx, entries: Sequence[CaseEntry]) -> None:
    """Add entries to the activity log, as they are."""
    rows = [
        {
            "id": entry.id,
            "incident_id": entry.incident_id,
            "alert_id": entry.alert_id,
            "at": entry.at,
            "actor": entry.actor,
            "kind": entry.kind.value,
            "text": entry.text,
            "detail": dict(entry.detail),
        }
        for entry in entries
    ]
    if rows:
        tx.connection.execute(case_entry.insert(), rows)


def entries_of_incident(tx: ControlTx, incident_id: str, *, before: str = "", limit: int = 100) -> list[CaseEntry]:
    """What happened to an incident, to those that were merged into it, and to its alerts, newest first.

    ``before`` is the id of the last entry already seen.
    """
    merged = sa.select(incident.c.id).where(incident.c.redirect_to == incident_id)
    members = sa.select(alert.c.id).where(alert.c.incident_id == incident_id)
    return _entries(
        tx,
        sa.or_(
            case_entry.c.incident_id == incident_id,
            case_entry.c.incident_id.in_(merged),
            case_entry.c.alert_id.in_(members),
        ),
        before,
        limit,
    )


def comments(
    tx: ControlTx, *, incident_ids: Sequence[str] = (), alert_ids: Sequence[str] = (), limit: int = 10_000
) -> list[CaseEntry]:
    """What people wrote about these incidents themselves, or about these alerts, oldest first."""
    column, ids = (case_entry.c.incident_id, incident_ids) if incident_ids else (case_entry.c.alert_id, alert_ids)
    found = _entries(tx, sa.and_(column.in_(ids), case_entry.c.kind == EntryKind.COMMENT.value), "", limit)
    return found[::-1]


def _entries(tx: ControlTx, condition: sa.ColumnElement[bool], before: str, limit: int) -> list[CaseEntry]:
    query = sa.select(case_entry).where(condition).order_by(case_entry.c.id.desc()).limit(limit)
    if before:
        query = query.where(case_entry.c.id < before)
    return [
        CaseEntry(
            row.id, row.incident_id, row.alert_id, row.at, row.actor, EntryKind(row.kind), row.text, dict(row.detail)
        )
        for row in tx.connection.execute(query)
    ]


# -- triage -------------------------------------------------------------------------------------------------------


def triage_incident(
    tx: ControlTx,
    incident_id: str,
    *,
    status: IncidentStatus | None = None,
    classification: Classification | None = None,
    determination: Determination | None = None,
    assigned_to: str | None = None,
    tags: Sequence[str] | None = None,
    comment: str = "",
) -> Incident:
    """Change what people decide about an incident; its alerts follow its status. Empty ``assigned_to`` unassigns.

    Raises ``NotFound``, ``Conflict`` for a state that cannot follow, ``InputError`` for resolving unclassified.
    """
    row = tx.connection.execute(sa.select(incident).where(incident.c.id == incident_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no incident {incident_id!r}.", where="incident")
    current = IncidentStatus(row.status)
    if current is IncidentStatus.REDIRECTED:
        raise Conflict(f"{incident_id} was merged.", where="incident", remedy=f"Go to {row.redirect_to}.")
    if status is not None and status is not current and status not in _NEXT[current]:
        raise Conflict(f"an incident that is {current} cannot become {status}.", where="status")
    values = _differing(
        row,
        {
            "status": status,
            "classification": classification,
            "determination": determination,
            "assigned_to": assigned_to,
            "tags": None if tags is None else _checked_tags(tags),
        },
    )
    final = values.get("classification", row.classification)
    if values.get("status") == IncidentStatus.RESOLVED.value and final == Classification.UNKNOWN.value:
        raise InputError(
            "an incident is resolved with a classification.",
            where="classification",
            remedy=f"One of {', '.join(c.value for c in Classification if c is not Classification.UNKNOWN)}.",
        )
    if values:
        tx.connection.execute(incident.update().where(incident.c.id == incident_id).values(**values, updated_at=tx.now))
    if "status" in values:
        _follow(tx, incident_id, _ALERT_STATUS[IncidentStatus(values["status"])])
    _tell(tx, "incident", incident_id, row, values, comment)
    if values:
        _judge_risk(tx, alert.c.incident_id == incident_id)
    changed = tx.connection.execute(sa.select(incident).where(incident.c.id == incident_id)).one()
    members = sa.select(alert.c.id).where(alert.c.incident_id == incident_id).order_by(alert.c.id)
    return incident_from(changed, tuple(tx.connection.execute(members).scalars()))


def triage_alert(
    tx: ControlTx,
    alert_id: str,
    *,
    status: AlertStatus | None = None,
    classification: Classification | None = None,
    determination: Determination | None = None,
    assigned_to: str | None = None,
    comment: str = "",
) -> Alert:
    """Change what people decide about one alert; its incident stays as it is. Empty ``assigned_to`` unassigns.

    Raises ``NotFound``.
    """
    row = tx.connection.execute(sa.select(alert).where(alert.c.id == alert_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no alert {alert_id!r}.", where="alert")
    values = _differing(
        row,
        {
            "status": status,
            "classification": classification,
            "determination": determination,
            "assigned_to": assigned_to,
        },
    )
    if values:
        resolved = {}
        if "status" in values:
            resolved["resolved_at"] = tx.now if values["status"] == AlertStatus.RESOLVED.value else None
        tx.connection.execute(
            alert.update().where(alert.c.id == alert_id).values(**values, **resolved, updated_at=tx.now)
        )
    _tell(tx, "alert", alert_id, row, values, comment)
    if values:
        _judge_risk(tx, alert.c.id == alert_id)
    return alert_from(tx.connection.execute(sa.select(alert).where(alert.c.id == alert_id)).one())


def comment(tx: ControlTx, text: str, *, incident_id: str | None = None, alert_id: str | None = None) -> CaseEntry:
    """Write something about an incident, or about an alert. Raises ``InputError`` for nothing, or too much."""
    text = text.strip()
    if not 0 < len(text) <= LONGEST_COMMENT:
        raise InputError(f"a comment has 1 to {LONGEST_COMMENT} characters.", where="comment")
    entry = note(tx, EntryKind.COMMENT, incident_id=incident_id, alert_id=alert_id, text=text)
    kind, subject = ("incident", incident_id) if incident_id else ("alert", alert_id)
    tx.audit(f"{kind}:triage", f"{kind}/{subject}", {"before": {}, "after": {}, "comment": text})
    return entry


def _differing(row: sa.Row[Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``wanted`` is given (not None) and differs from ``row``, as stored."""
    values: dict[str, Any] = {}
    for name, value in wanted.items():
        if value is None:
            continue
        plain = (value or None) if name == "assigned_to" else getattr(value, "value", value)
        if plain != (getattr(row, name) or ([] if name == "tags" else None)):
            values[name] = plain
    return values


def _checked_tags(tags: Sequence[str]) -> list[str]:
    kept = list(dict.fromkeys(" ".join(tag.split()) for tag in tags))
    if len(kept) > MOST_TAGS or any(not 0 < len(tag) <= LONGEST_TAG or not tag.isprintable() for tag in kept):
        raise InputError(
            "these tags cannot be kept.",
            where="tags",
            remedy=f"At most {MOST_TAGS}, each of 1 to {LONGEST_TAG} characters that print.",
        )
    return kept


def _follow(tx: ControlTx, incident_id: str, status: AlertStatus) -> None:
    """Give the alerts of an incident its status."""
    resolved_at = tx.now if status is AlertStatus.RESOLVED else None
    tx.connection.execute(
        alert.update()
        .where(alert.c.incident_id == incident_id, alert.c.status != status.value)
        .values(status=status.value, updated_at=tx.now, resolved_at=resolved_at)
    )


def _judge_risk(tx: ControlTx, chosen: sa.ColumnElement[bool]) -> None:
    """Take back what resolved alerts among these said about risk, if they or their incident turned out as nothing."""
    query = (
        sa.select(alert.c.id, alert.c.status, alert.c.classification, incident.c.classification.label("of_incident"))
        .outerjoin(incident, incident.c.id == alert.c.incident_id)
        .where(chosen, alert.c.id.in_(sa.select(risk_detection.c.alert_id)))
    )
    judged = {}
    for row in tx.connection.execute(query):
        said = row.classification if row.classification != Classification.UNKNOWN.value else row.of_incident
        judged[row.id] = row.status == AlertStatus.RESOLVED.value and said in _NOTHING
    risks.judge_alerts(tx, judged)


def _tell(tx: ControlTx, kind: str, subject: str, row: sa.Row[Any], values: Mapping[str, Any], comment: str) -> None:
    """Note a change and a comment, here and in the audit log; nothing where there is neither."""
    if not values and not comment:
        return
    if len(comment) > LONGEST_COMMENT:
        raise InputError(f"a comment has at most {LONGEST_COMMENT} characters.", where="comment")
    before = {name: getattr(row, name) for name in values}
    incident_id, alert_id = (subject, None) if kind == "incident" else (None, subject)
    if values:
        changed = {name: [before[name], value] for name, value in values.items()}
        note(tx, EntryKind.CHANGED, incident_id=incident_id, alert_id=alert_id, detail=changed)
    if comment:
        note(tx, EntryKind.COMMENT, incident_id=incident_id, alert_id=alert_id, text=comment)
    said = {"comment": comment} if comment else {}
    tx.audit(f"{kind}:triage", f"{kind}/{subject}", {"before": before, "after": dict(values), **said})
