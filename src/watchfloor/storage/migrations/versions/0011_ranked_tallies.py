"""Incidents: what is kept of them is ordered as it is read. Those that are there are counted when they next change."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _table(*more: sa.Column[str], **options: bool) -> None:
    """Made again: its facts have other keys, so an incident that is there is counted from its alerts."""
    op.drop_table("incident_tally")
    op.create_table(
        "incident_tally",
        sa.Column("incident_id", sa.String(200), nullable=False),
        sa.Column("key", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        *more,
        sa.PrimaryKeyConstraint("incident_id", "key", name="pk_incident_tally"),
        **options,
    )
    op.execute("UPDATE incident SET first_alert = NULL")


def upgrade() -> None:
    """Forward."""
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    _table(sa.Column("ranked", text, nullable=True), sqlite_with_rowid=False)
    op.create_index(
        "ix_incident_tally_ranked", "incident_tally", ["incident_id", "ranked", "key"],
        sqlite_where=sa.text("ranked IS NOT NULL"), postgresql_where=sa.text("ranked IS NOT NULL"),
    )  # fmt: skip


def downgrade() -> None:
    """Back."""
    _table()
