"""What people decide about alerts and incidents: determination, tags, assignment of alerts, and the activity log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_UNKNOWN = sa.text("'unknown'")


def upgrade() -> None:
    """Forward."""
    op.add_column("incident", sa.Column("determination", sa.Text(), server_default=_UNKNOWN, nullable=False))
    op.add_column("incident", sa.Column("tags", sa.JSON(), nullable=True))
    op.add_column("incident", sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_index(op.f("ix_incident_priority"), "incident", ["priority"])
    op.add_column("alert", sa.Column("classification", sa.Text(), server_default=_UNKNOWN, nullable=False))
    op.add_column("alert", sa.Column("determination", sa.Text(), server_default=_UNKNOWN, nullable=False))
    op.add_column("alert", sa.Column("assigned_to", sa.Text(), nullable=True))
    op.add_column("alert", sa.Column("updated_at", sa.BigInteger(), nullable=True))
    op.add_column("alert", sa.Column("resolved_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "case_entry",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("incident_id", sa.String(length=200), nullable=True),
        sa.Column("alert_id", sa.String(length=200), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_entry")),
    )
    op.create_index(op.f("ix_case_entry_incident_id"), "case_entry", ["incident_id"])
    op.create_index(op.f("ix_case_entry_alert_id"), "case_entry", ["alert_id"])


def downgrade() -> None:
    """Back."""
    op.drop_table("case_entry")
    for name in ("resolved_at", "updated_at", "assigned_to", "determination", "classification"):
        op.drop_column("alert", name)
    op.drop_index(op.f("ix_incident_priority"), "incident")
    for name in ("priority", "tags", "determination"):
        op.drop_column("incident", name)
