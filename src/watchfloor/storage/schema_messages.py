"""Tables of what people are told: messages on their way, and the channels that operators set up."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import UtcDateTime, at, id_, table, text

message = table(
    "message",
    id_(),
    sa.Column("key", sa.String(300), nullable=False),
    sa.Column("channel", sa.String(64), nullable=False),
    sa.Column("recipient", sa.String(320), nullable=False),
    text("subject"),
    text("text"),
    sa.Column("incident_id", sa.String(200), nullable=True),
    sa.Column("notice_id", sa.String(200), nullable=True, index=True),
    at("created_at"),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    at("next_try_at", nullable=True),
    sa.Column("settled_at", UtcDateTime, nullable=True, index=True),
    text("error"),
    sa.UniqueConstraint("key", "channel", "recipient"),
    sa.Index("ix_message_next_try_at", "next_try_at"),
)
"""``key`` says which occurrence a message tells of, so that nobody is told twice; ``next_try_at`` is null once it was
sent or given up."""

channel = table(
    "channel",
    id_(),
    sa.Column("kind", sa.String(20), nullable=False),
    text("host"),
    text("sealed"),
    sa.Column("allow_private", sa.Boolean, nullable=False),
    sa.Column("is_enabled", sa.Boolean, nullable=False),
    at("created_at"),
    at("updated_at"),
    text("updated_by"),
)
"""``sealed`` holds the address, which is a secret at Teams and Slack, and the keys that posts are signed with."""
