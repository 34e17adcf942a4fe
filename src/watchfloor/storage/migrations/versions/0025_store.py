"""The Agent Store: what users have taken from it, and what they asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "store_item",
        sa.Column("user_id", sa.String(200), nullable=False),
        sa.Column("agent_id", sa.String(200), nullable=False),
        sa.Column("is_pinned", sa.Boolean(), nullable=False),
        sa.Column("installed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name="fk_store_item_agent_id"),
        sa.PrimaryKeyConstraint("user_id", "agent_id", name="pk_store_item"),
    )
    op.create_table(
        "access_ask",
        sa.Column("user_id", sa.String(200), nullable=False),
        sa.Column("agent_id", sa.String(200), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name="fk_access_ask_agent_id"),
        sa.PrimaryKeyConstraint("user_id", "agent_id", name="pk_access_ask"),
    )
    op.create_index("ix_access_ask_state", "access_ask", ["state"])


def downgrade() -> None:
    """Back."""
    op.drop_table("access_ask")
    op.drop_table("store_item")
