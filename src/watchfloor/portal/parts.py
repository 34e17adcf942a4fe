"""Parts of pages that show alerts, incidents and records; several pages use them."""

from __future__ import annotations

from collections.abc import Sequence

from watchfloor.portal.case_views import AlertView, IncidentView, RecordView
from watchfloor.portal.html import Html, h
from watchfloor.portal.layout import Column, badge, moment, path, table
from watchfloor.response.catalog import ACTIONS


def incident_table(incidents: Sequence[IncidentView]) -> Html:
    """Incidents as a table."""
    columns = (Column("Severity"), Column("Priority", numeric=True), Column("Incident", wide=True), Column("Status"),
               Column("Alerts", numeric=True), Column("Last activity (UTC)"))  # fmt: skip
    rows = [
        (
            badge(i.severity.value),
            i.priority,
            h("a", i.title, href=path("incidents", i.id)),
            badge(i.status.value),
            i.alert_count,
            moment(i.last_activity),
        )
        for i in incidents
    ]
    return table("Incidents", columns, rows, "No incidents. Quiet is good.")


def alert_item(alert: AlertView) -> Html:
    """An alert in a list."""
    return h(
        "li",
        h("div", badge(alert.severity.value), h("strong", alert.title), badge(alert.status.value), cls="line"),
        h("p", alert.description),
        h(
            "p",
            f"{alert.tactic}",
            f" ({', '.join(alert.techniques)})" if alert.techniques else None,
            f", attempted: {alert.attempted_tactic}" if alert.attempted_tactic != alert.tactic else None,
            f" · {alert.count} {'event' if alert.count == 1 else 'events'}",
            f" · {alert.join_reason}" if alert.join_reason else None,
            cls="note",
        ),
    )


def record_table(records: Sequence[RecordView]) -> Html:
    """What was done, by whom and why."""
    columns = (Column("Time (UTC)"), Column("Who"), Column("What"), Column("To"), Column("Why", wide=True))
    rows = [
        (
            moment(r.created_at),
            r.actor,
            ACTIONS[r.action].title if r.action in ACTIONS else r.action.replace("_", " "),
            h("code", r.subject),
            str(r.detail.get("reason") or r.detail.get("comment") or ""),
        )
        for r in records
    ]
    return table("What was done", columns, rows, "Nothing yet.")
