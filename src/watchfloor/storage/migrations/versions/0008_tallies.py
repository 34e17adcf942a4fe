"""Incidents: what their alerts add up to. Those that are there are counted when they next change."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("incident", sa.Column("first_alert", sa.Text(), nullable=True))
    op.add_column("incident", sa.Column("follows", sa.Text(), nullable=True))
    op.drop_index("ix_incident_correlation_key", "incident")
    op.create_index("ix_incident_correlation_key_last_activity", "incident", ["correlation_key", "last_activity"])
    op.create_table(
        "incident_tally",
        sa.Column("incident_id", sa.String(200), nullable=False),
        sa.Column("key", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", "key", name="pk_incident_tally"),
    )
    op.create_table(
        "incident_agent_span",
        sa.Column("incident_id", sa.String(200), nullable=False),
        sa.Column("agent_id", sa.String(300), nullable=False),
        sa.Column("first_activity", sa.BigInteger(), nullable=False),
        sa.Column("last_activity", sa.BigInteger(), nullable=False),
        sa.Column("alert_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("incident_id", "agent_id", "first_activity", name="pk_incident_agent_span"),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("incident_agent_span")
    op.drop_table("incident_tally")
    op.drop_index("ix_incident_correlation_key_last_activity", "incident")
    op.create_index("ix_incident_correlation_key", "incident", ["correlation_key"])
    for name in ("follows", "first_alert"):
        op.drop_column("incident", name)
