"""Posture: findings, the risk of agents, exceptions and days."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "posture_finding",
        sa.Column("agent_id", sa.String(200), nullable=False),
        sa.Column("indicator", sa.String(63), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("agent_id", "indicator", name="pk_posture_finding"),
    )
    op.create_index("ix_posture_finding_indicator_ended_at", "posture_finding", ["indicator", "ended_at"])
    op.create_table(
        "posture_agent",
        sa.Column("agent_id", sa.String(200), nullable=False),
        sa.Column("band", sa.String(20), nullable=False),
        sa.Column("likelihood", sa.Text(), nullable=False),
        sa.Column("impact", sa.Text(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("not_assessed", sa.JSON(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", name="pk_posture_agent"),
    )
    op.create_index("ix_posture_agent_band", "posture_agent", ["band"])
    op.create_table(
        "posture_exception",
        sa.Column("agent_id", sa.String(200), nullable=False),
        sa.Column("indicator", sa.String(63), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "indicator", name="pk_posture_exception"),
    )
    op.create_table(
        "posture_day",
        sa.Column("day", sa.String(200), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("day", name="pk_posture_day"),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("posture_day")
    op.drop_table("posture_exception")
    op.drop_index("ix_posture_agent_band", table_name="posture_agent")
    op.drop_table("posture_agent")
    op.drop_index("ix_posture_finding_indicator_ended_at", table_name="posture_finding")
    op.drop_table("posture_finding")
