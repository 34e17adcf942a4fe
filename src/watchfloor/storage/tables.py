"""Every event table by name. Adding one: a file of its subject, a line here; ``make docs`` writes its page.

Tables that others also have carry their names and types, so that an analyst's queries paste in.
"""

from __future__ import annotations

from typing import Final

from watchfloor.storage.table_shape import SCHEMA_VERSION, TIMESTAMP, Column, Table
from watchfloor.storage.tables_access import CONDITIONAL_ACCESS_EVENTS
from watchfloor.storage.tables_activity import AGENT_ACTIVITY, AGENT_CONTENT, PIPELINE_HEALTH, TELEMETRY_REJECTS
from watchfloor.storage.tables_cases import ALERT_EVIDENCE, ALERT_INFO
from watchfloor.storage.tables_exposure import EXPOSURE_SNAPSHOTS
from watchfloor.storage.tables_inventory import AGENTS_INFO, AI_AGENTS_INFO, IDENTITY_INFO
from watchfloor.storage.tables_posture import POSTURE_SNAPSHOTS
from watchfloor.storage.tables_signins import SIGN_IN_EVENTS

__all__ = ["AGENT_ACTIVITY", "AGENT_CONTENT", "SCHEMA_VERSION", "TABLES", "TIMESTAMP", "Column", "Table"]

TABLES: Final[dict[str, Table]] = {
    t.name: t
    for t in (
        AGENT_ACTIVITY,
        AGENT_CONTENT,
        AGENTS_INFO,
        AI_AGENTS_INFO,
        IDENTITY_INFO,
        SIGN_IN_EVENTS,
        EXPOSURE_SNAPSHOTS,
        POSTURE_SNAPSHOTS,
        CONDITIONAL_ACCESS_EVENTS,
        ALERT_INFO,
        ALERT_EVIDENCE,
        TELEMETRY_REJECTS,
        PIPELINE_HEALTH,
    )
}
"""Every event table by name."""
