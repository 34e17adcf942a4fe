"""Tables of posture: what holds for which agent, what that adds up to, what is accepted, and how it was day by day."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import at, id_, json, table, text

posture_finding = table(
    "posture_finding",
    id_("agent_id"),
    sa.Column("indicator", sa.String(63), primary_key=True),
    text("level"),
    text("evidence"),
    at("since"),
    at("ended_at", nullable=True),
    sa.Index("ix_posture_finding_indicator_ended_at", "indicator", "ended_at"),
)
"""An indicator that holds for an agent, or did. ``evidence`` is JSON as the query gave it: compared, never asked."""

posture_agent = table(
    "posture_agent",
    id_("agent_id"),
    sa.Column("band", sa.String(20), nullable=False, index=True),
    text("likelihood"),
    text("impact"),
    json("reasons"),
    json("not_assessed"),
    at("since"),
)
"""How risky an agent is, since when, by which indicators, and which of them could not be assessed."""

posture_exception = table(
    "posture_exception",
    id_("agent_id"),
    sa.Column("indicator", sa.String(63), primary_key=True),
    text("reason"),
    at("created_at"),
    text("created_by"),
    at("expires_at"),
)
"""A finding that somebody accepts until a day: it stays, and counts for nothing."""

posture_day = table("posture_day", id_("day"), json("body"))
"""What the last scan of each day (UTC, ISO) counted: agents by risk, and findings by indicator."""
