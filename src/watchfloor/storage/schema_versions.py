"""Control state of agents' versions: what was applied or submitted, and what was decided of it."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import at, json, table, text

agent_version = table(
    "agent_version",
    sa.Column("agent_id", sa.String(200), sa.ForeignKey("agent.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.String(100), nullable=False),
    text("manifest_hash"),
    json("manifest"),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    at("created_at"),
    text("created_by"),
    text("document", nullable=True),
    text("note"),
    json("checks"),
    at("decided_at", nullable=True),
    text("decided_by", nullable=True),
    text("reason"),
    text("conditions"),
    sa.Column("audience", sa.JSON(none_as_null=True), nullable=True),
)
"""Every version of an agent, numbered from 1. ``version`` is its maker's name for the build; ``document`` the text as
it was submitted (null: applied); ``audience`` whom an approver let it out to, if that is not what the manifest says."""
