"""Tables of the hunting library: queries that operators keep, and what they have marked."""

from __future__ import annotations

import sqlalchemy as sa

from watchfloor.storage.columns import at, id_, table, text

saved_query = table(
    "saved_query",
    id_(),
    sa.Column("version", sa.Integer, nullable=False),
    text("name"),
    text("description"),
    text("query"),
    sa.Column("author", sa.String(200), nullable=False, index=True),
    sa.Column("is_shared", sa.Boolean, nullable=False),
    at("created_at"),
    at("updated_at"),
    text("updated_by"),
)
"""``version`` counts the changes: a change names the one that it is made to."""

hunting_favourite = table(
    "hunting_favourite",
    id_("operator"),
    sa.Column("subject", sa.String(200), primary_key=True),
    at("marked_at"),
)
"""``subject``: ``template/ID`` or ``query/ID``."""
