"""Alerts as hunting sees them: rows of AlertInfo and AlertEvidence.

Pure functions make the rows of an alert; ``publish_alerts`` appends those of every alert that is new, or whose
severity, title, status, incident or things involved changed. What merely grows (more events of the same) waits up to a
quarter of an hour, so that a flood of events is no flood of rows. Above the repositories and ``storage.snapshots``; a
job calls it. It sees every alert: who may read the tables is decided where they are asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from watchfloor.model.cases import Alert, AlertStatus, Entity, EntityKind
from watchfloor.storage import inventory, people, snapshots
from watchfloor.storage.inventory import Agent, ToolServer
from watchfloor.storage.people import User
from watchfloor.storage.ports import EventLog
from watchfloor.storage.snapshots import ALERTS, Pace, Subject

if TYPE_CHECKING:
    from watchfloor.storage.control import ControlTx, SqlControlStore

Row = dict[str, Any]

SOURCE: Final = "Watchfloor"
PACE: Final = Pace(details=timedelta(minutes=15))
_PAGE: Final = 500
_STATUS: Final = {AlertStatus.NEW: "New", AlertStatus.IN_PROGRESS: "InProgress", AlertStatus.RESOLVED: "Resolved"}
_TYPES: Final = {
    EntityKind.USER: "User",
    EntityKind.AGENT: "AIAgent",
    EntityKind.TOOL: "Tool",
    EntityKind.SERVER: "McpServer",
    EntityKind.ADDRESS: "Ip",
    EntityKind.SESSION: "Session",
}
_DIRECTIONS: Final = {
    EntityKind.ADDRESS: "Source",
    EntityKind.TOOL: "Destination",
    EntityKind.SERVER: "Destination",
}
_RESOURCES: Final = {EntityKind.TOOL: "MCP tool", EntityKind.SERVER: "MCP server"}


@dataclass(frozen=True, slots=True)
class Directory:
    """What is known of the things that alerts are about, by id."""

    users: Mapping[str, User] = field(default_factory=dict)
    agents: Mapping[str, Agent] = field(default_factory=dict)
    servers: Mapping[str, ToolServer] = field(default_factory=dict)


def read_directory(tx: ControlTx, alerts: Iterable[Alert]) -> Directory:
    """What ``tx`` knows of the things that ``alerts`` are about."""
    involved = {(e.kind, e.id.partition("/")[0]) for alert in alerts for e in alert.draft.entities}
    users = (people.find_user(tx, id_) for kind, id_ in involved if kind is EntityKind.USER)
    agents = (inventory.find_agent(tx, id_) for kind, id_ in involved if kind is EntityKind.AGENT)
    servers = (inventory.find_server(tx, id_) for id_ in {id_ for kind, id_ in involved if kind in _RESOURCES})
    return Directory(
        users={u.id: u for u in users if u},
        agents={a.id: a for a in agents if a},
        servers={s.id: s for s in servers if s},
    )


def publish_alerts(control: SqlControlStore, log: EventLog, tenant: str, now: datetime) -> int:
    """Append the rows of every alert that is new or changed; how many alerts those were.

    Safe to run at any time, any number of times, by any number of servers. Raises ``Unavailable``; the next run does
    the rest.
    """
    published, after = 0, ""
    while True:
        with control.read() as tx:
            page = snapshots.list_fresh_alerts(tx, after, _PAGE)
            if not page:
                return published
            known = snapshots.list_snapshots(tx, ALERTS, [alert.id for alert in page])
            directory = read_directory(tx, page)
        subjects = [subject_of(alert, directory) for alert in page]
        done = snapshots.publish(control, log, ALERTS, subjects, known, tenant=tenant, now=now, pace=PACE)
        published += done.published
        after = page[-1].id


def subject_of(alert: Alert, directory: Directory) -> Subject:
    """The alert with its rows, and what of it has to be seen at once."""
    info = alert_info_row(alert)
    entities = list(_entity_rows(alert, directory))
    at_once = {name: value for name, value in info.items() if name not in ("FirstActivity", "LastActivity")}
    evidence = [{**row, "AdditionalFields": ""} for row in entities]
    events = list(_event_rows(alert))
    return Subject(alert.id, {"AlertInfo": [info], "AlertEvidence": [*entities, *events]}, [at_once, evidence])


def alert_info_row(alert: Alert) -> Row:
    """The row of AlertInfo: every column but time, tenant and the row's own id."""
    draft = alert.draft
    return {
        **_shared(alert),
        "Category": category(draft.tactic),
        "Status": _STATUS[alert.status],
        "FirstActivity": draft.first_activity,
        "LastActivity": draft.last_activity,
    }


def alert_evidence_rows(alert: Alert, directory: Directory) -> list[Row]:
    """The rows of AlertEvidence: the things involved, each with its role, then the events."""
    return [*_entity_rows(alert, directory), *_event_rows(alert)]


def category(tactic: str) -> str:
    """A tactic as alert tables write it: ``Defense Evasion`` is ``DefenseEvasion``."""
    return tactic.replace(" ", "")


def _shared(alert: Alert) -> Row:
    """What both tables say of an alert."""
    draft = alert.draft
    return {
        "AlertId": alert.id,
        "IncidentId": alert.incident_id or "",
        "Title": draft.title,
        "AttackTechniques": json.dumps(list(draft.techniques)),
        "ServiceSource": SOURCE,
        "DetectionSource": draft.rule_id,
        "Severity": draft.severity.value.capitalize(),
    }


def _evidence(alert: Alert) -> Row:
    categories = [category(alert.draft.tactic)] if alert.draft.tactic else []
    return {**_shared(alert), "Categories": json.dumps(categories), "ApplicationId": 0}


def _entity_rows(alert: Alert, directory: Directory) -> Iterator[Row]:
    for entity in alert.draft.entities:
        row: Row = {
            **_evidence(alert),
            "EntityType": _TYPES[entity.kind],
            "EvidenceRole": entity.role.value.capitalize(),
            "EvidenceDirection": _DIRECTIONS.get(entity.kind, ""),
            "EntityId": entity.id,
            "ResourceType": _RESOURCES.get(entity.kind, ""),
            "ResourceID": entity.id if entity.kind in _RESOURCES else "",
        }
        yield {**row, **_OF_KIND[entity.kind](entity, directory)}


def _event_rows(alert: Alert) -> Iterator[Row]:
    events = {event.get("id"): event for event in _mappings(alert.draft.detail.get("events"))}
    for report_id in alert.draft.evidence:
        told = {name: value for name, value in events.get(report_id, {}).items() if name != "id" and value != ""}
        yield {
            **_evidence(alert),
            "EntityType": "Event",
            "EvidenceRole": "Related",
            "EntityId": report_id,
            "AdditionalFields": json.dumps(told, ensure_ascii=False) if told else "",
        }


# -- what a kind of thing has of its own --------------------------------------------------------------------------


def _user(entity: Entity, directory: Directory) -> Row:
    user = directory.users.get(entity.id)
    upn = (user.upn if user else "") or (entity.name if "@" in entity.name else "")
    name, _, domain = upn.partition("@")
    return {"AccountObjectId": entity.id, "AccountUpn": upn, "AccountName": name, "AccountDomain": domain}


def _agent(entity: Entity, directory: Directory) -> Row:
    agent = directory.agents.get(entity.id)
    name = agent.name if agent else entity.name
    fields = {"AgentId": entity.id, "AgentName": name, "HostingPlatformType": agent.platform if agent else ""}
    return {
        "Application": name,
        "OAuthApplicationId": entity.id,
        "AdditionalFields": json.dumps(fields, ensure_ascii=False),
    }


def _tool(entity: Entity, directory: Directory) -> Row:
    server_id, _, tool = entity.id.partition("/")
    server = directory.servers.get(server_id)
    fields = {"ServerId": server_id, "ToolName": tool}
    return {
        "Application": server.name if server else server_id,
        "AdditionalFields": json.dumps(fields, ensure_ascii=False),
    }


def _server(entity: Entity, directory: Directory) -> Row:
    server = directory.servers.get(entity.id)
    return {"Application": server.name if server else entity.name, "RemoteUrl": server.url if server else ""}


def _address(entity: Entity, directory: Directory) -> Row:
    return {"RemoteIP": entity.id}


def _session(entity: Entity, directory: Directory) -> Row:
    return {}


_OF_KIND: Final = {
    EntityKind.USER: _user,
    EntityKind.AGENT: _agent,
    EntityKind.TOOL: _tool,
    EntityKind.SERVER: _server,
    EntityKind.ADDRESS: _address,
    EntityKind.SESSION: _session,
}


def _mappings(value: Any) -> Iterable[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else ()
