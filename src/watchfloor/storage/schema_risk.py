"""Control state of the risk of users and agents: detections, what they come to, and how it got there."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import UtcDateTime, at, id_, json, table, text

risk_detection = table(
    "risk_detection",
    id_(),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("subject_id", sa.String(200), nullable=False),
    sa.Column("detection", sa.String(100), nullable=False),
    text("level"),
    text("state"),
    text("source"),
    text("detail"),
    sa.Column("key", sa.String(300), nullable=False),
    sa.Column("alert_id", sa.String(200), nullable=True, index=True),
    json("facts"),
    at("first_at"),
    at("last_at"),
    at("noted_at"),
    at("updated_at"),
    sa.UniqueConstraint("kind", "subject_id", "key"),
)
"""What was seen about a user or an agent (``kind``); ``key`` says which occurrence, so that each is stored once."""

risk = table(
    "risk",
    sa.Column("kind", sa.String(20), primary_key=True),
    sa.Column("subject_id", sa.String(200), primary_key=True),
    text("level"),
    text("state"),
    text("detail"),
    text("because"),
    at("updated_at"),
    sa.Column("changes_at", UtcDateTime, nullable=True, index=True),
    at("remediated_at", nullable=True),
)
"""What open detections come to. ``changes_at``: when it fades next; what happened up to ``remediated_at`` is over."""

risk_change = table(
    "risk_change",
    id_(),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("subject_id", sa.String(200), nullable=False),
    at("at"),
    text("actor"),
    text("activity"),
    text("level"),
    text("state"),
    text("detail"),
    text("because"),
    text("detection_id", nullable=True),
    sa.Index("ix_risk_change_subject", "kind", "subject_id", "id"),
)
"""The history of each risk. Rows are only ever added."""
