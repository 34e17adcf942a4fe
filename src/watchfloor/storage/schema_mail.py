"""The table of mails on their way. Beside ``schema``, over the same metadata."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import UtcDateTime, at, id_, table, text

mail = table(
    "mail",
    id_(),
    sa.Column("key", sa.String(300), nullable=False),
    sa.Column("recipient", sa.String(320), nullable=False),
    text("subject"),
    text("text"),
    sa.Column("incident_id", sa.String(200), nullable=True),
    at("created_at"),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    at("next_try_at", nullable=True),
    sa.Column("settled_at", UtcDateTime, nullable=True, index=True),
    text("error"),
    sa.UniqueConstraint("key", "recipient"),
    sa.Index("ix_mail_next_try_at", "next_try_at"),
)
"""``key`` says which occurrence a mail tells of, so that nobody is told twice; ``next_try_at`` is null once it was sent
or given up."""
