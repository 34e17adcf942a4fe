"""Control state of the Agent Store: what users have taken from it, and what they asked for."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import at, table, text

store_item = table(
    "store_item",
    sa.Column("user_id", sa.String(200), primary_key=True),
    sa.Column("agent_id", sa.String(200), sa.ForeignKey("agent.id"), primary_key=True),
    sa.Column("is_pinned", sa.Boolean, nullable=False),
    at("installed_at"),
)
"""An agent that a user has taken."""

access_ask = table(
    "access_ask",
    sa.Column("user_id", sa.String(200), primary_key=True),
    sa.Column("agent_id", sa.String(200), sa.ForeignKey("agent.id"), primary_key=True),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    text("reason"),
    at("asked_at"),
    at("decided_at", nullable=True),
    text("decided_by", nullable=True),
    text("answer"),
)
"""Somebody asked to be let to an agent: the newest time; the audit log has the others."""
