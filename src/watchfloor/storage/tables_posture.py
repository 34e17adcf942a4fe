"""Posture: what weakens each agent and how risky that makes it; PostureFindings is a view of it.

One row for each agent with all of its findings, whenever they changed, and one a day; so the newest row of an agent
says everything that holds for it. Above is ``detection/posture_tables.py``.
"""

from __future__ import annotations

from typing import Final

from watchfloor.storage.table_shape import COMMON, Column, Table

POSTURE_SNAPSHOTS: Final = Table(
    "PostureSnapshots",
    "How risky each agent is by what it is, and why: a snapshot at each change and daily. PostureFindings shows what "
    "is true now.",
    (
        *COMMON,
        Column("AgentId", "string", "The agent."),
        Column("AgentName", "string", "Its name."),
        Column("RiskLevel", "string", "high, medium, low or no_known_risk."),
        Column("Likelihood", "string", "The gravest of what raises it: low to critical; empty if nothing does."),
        Column("Impact", "string", "Likewise."),
        Column("Reasons", "dynamic", "Indicators that make it so."),
        Column("NotAssessed", "dynamic", "Indicators of which nothing is known."),
        Column("Findings", "dynamic", "Active findings: indicator, level, evidence, since, exceptedUntil."),
        Column("IsGone", "bool", "Whether the agent is there no more."),
    ),
)
