"""Notices to makers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "notice",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("maker_id", sa.String(200), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("send_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_at", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=False),
        sa.Column("reminded_at", sa.BigInteger(), nullable=True),
        sa.Column("reminders", sa.Integer(), nullable=False),
        sa.Column("escalated_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notice"),
    )
    op.create_index("ix_notice_maker_id", "notice", ["maker_id"])
    op.create_index("ix_notice_state", "notice", ["state"])
    op.create_table(
        "notice_item",
        sa.Column("notice_id", sa.String(200), nullable=False),
        sa.Column("agent_id", sa.String(200), nullable=False),
        sa.Column("source", sa.String(100), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("recommendation", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("open_key", sa.String(310), nullable=True),
        sa.PrimaryKeyConstraint("notice_id", "agent_id", "source", name="pk_notice_item"),
        sa.UniqueConstraint("open_key", name="uq_notice_item_open_key"),
    )
    op.create_index("ix_notice_item_agent_id", "notice_item", ["agent_id"])
    op.create_table(
        "notice_link",
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("notice_id", sa.String(200), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token_hash", name="pk_notice_link"),
    )
    op.create_index("ix_notice_link_notice_id", "notice_link", ["notice_id"])
    op.create_index("ix_notice_link_expires_at", "notice_link", ["expires_at"])


def downgrade() -> None:
    """Back."""
    for name in ("notice_link", "notice_item", "notice"):
        op.drop_table(name)
