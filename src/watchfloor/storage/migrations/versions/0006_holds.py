"""Holds: who may approve and who has, their one use, calls that share a hold, delegation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("hold", sa.Column("root_id", sa.String(200), nullable=True))
    op.add_column("hold", sa.Column("answer", sa.Text(), server_default=sa.text("''"), nullable=False))
    for name in ("policies", "approvers", "approvals"):
        op.add_column("hold", sa.Column(name, sa.JSON(), nullable=True))
    op.add_column("hold", sa.Column("approvals_needed", sa.Integer(), server_default=sa.text("1"), nullable=False))
    op.add_column("hold", sa.Column("used_by", sa.Text(), nullable=True))
    for column in ("root_id", "payload_hash", "created_at"):
        op.create_index(f"ix_hold_{column}", "hold", [column])
    op.create_table(
        "hold_use",
        sa.Column("hold_id", sa.String(200), nullable=False),
        sa.Column("taken_by", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hold_id", name="pk_hold_use"),
    )
    op.create_table(
        "hold_delegation",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("from_operator", sa.String(200), nullable=False),
        sa.Column("to_operator", sa.Text(), nullable=True),
        sa.Column("to_role", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_hold_delegation"),
    )
    op.create_index("ix_hold_delegation_from_operator", "hold_delegation", ["from_operator"])


def downgrade() -> None:
    """Back."""
    op.drop_table("hold_delegation")
    op.drop_table("hold_use")
    for column in ("root_id", "payload_hash", "created_at"):
        op.drop_index(f"ix_hold_{column}", table_name="hold")
    for name in ("used_by", "approvals_needed", "approvals", "approvers", "policies", "answer", "root_id"):
        op.drop_column("hold", name)
