"""Cases: alerts and what they are about, as Defender's tables have them.

Rows are written once an alert exists and again when its severity, title or incident changes; the newest row of each
alert is what is true. Above is ``detection/publishing.py``.
"""

from __future__ import annotations

from typing import Final

from watchfloor.storage.table_shape import COMMON, Column, Table

ALERT_INFO: Final = Table(
    "AlertInfo",
    "One row for each alert, again when it changed.",
    (
        *COMMON,
        Column("AlertId", "string", "The alert."),
        Column("IncidentId", "string", "The incident that it belongs to."),
        Column("Title", "string", "What happened."),
        Column("Category", "string", "The tactic."),
        Column("Severity", "string", "Informational, Low, Medium, High or Critical."),
        Column("Status", "string", "New, InProgress or Resolved."),
        Column("ServiceSource", "string", "Watchfloor."),
        Column("DetectionSource", "string", "The rule or detector that saw it."),
        Column("AttackTechniques", "string", "Techniques, a JSON array."),
        Column("FirstActivity", "datetime", "The earliest event behind it."),
        Column("LastActivity", "datetime", "The latest."),
    ),
)

ALERT_EVIDENCE: Final = Table(
    "AlertEvidence",
    "One row for each thing that an alert is about: user, agent, tool, address, event.",
    (
        *COMMON,
        Column("AlertId", "string", "The alert."),
        Column("IncidentId", "string", "The incident that it belongs to."),
        Column("Title", "string", "What happened."),
        Column("Categories", "string", "Tactics, a JSON array."),
        Column("AttackTechniques", "string", "Techniques, a JSON array."),
        Column("ServiceSource", "string", "Watchfloor."),
        Column("DetectionSource", "string", "The rule or detector that saw it."),
        Column("EntityType", "string", "User, AIAgent, Tool, McpServer, Session, Ip or Event."),
        Column("EvidenceRole", "string", "Impacted, Suspected or Related."),
        Column("EvidenceDirection", "string", "Source or Destination, where it has one."),
        Column("EntityId", "string", "The thing's id here."),
        Column("RemoteIP", "string", "The address, where it is one."),
        Column("RemoteUrl", "string", "The URL, where it is one."),
        Column("AccountName", "string", "The account's name before the @."),
        Column("AccountDomain", "string", "And behind it."),
        Column("AccountObjectId", "string", "The person's id."),
        Column("AccountUpn", "string", "Principal name."),
        Column("Application", "string", "The agent or tool server by name."),
        Column("ApplicationId", "int", "0: there are no numbers for applications here."),
        Column("OAuthApplicationId", "string", "The agent's id."),
        Column("Severity", "string", "The alert's severity."),
        Column("ResourceType", "string", "What kind of resource a tool server or tool is."),
        Column("ResourceID", "string", "Its id."),
        Column("AdditionalFields", "string", "Everything else, JSON."),
    ),
)
