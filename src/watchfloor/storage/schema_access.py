"""Tables of conditional access."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import at, id_, json, table, text

access_policy = table(
    "access_policy",
    id_(),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    json("body"),
    sa.Column("is_current", sa.Boolean, nullable=False),
    at("published_at"),
    text("published_by"),
)
"""Every version ever published; ``is_current`` marks the one that counts, if the policy was not withdrawn."""
