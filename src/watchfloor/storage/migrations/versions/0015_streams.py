"""Streams of security events: receivers, what each asked for, and what is told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "signal_receiver",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("push_hosts", sa.JSON(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_signal_receiver"),
        sa.UniqueConstraint("token_hash", name="uq_signal_receiver_token_hash"),
    )
    op.create_table(
        "signal_stream",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("receiver_id", sa.String(200), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("endpoint_url", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=True),
        sa.Column("events_requested", sa.JSON(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("verification_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_signal_stream"),
        sa.UniqueConstraint("receiver_id", name="uq_signal_stream_receiver_id"),
    )
    op.create_table(
        "signal_excluded",
        sa.Column("stream_id", sa.String(200), nullable=False),
        sa.Column("subject_hash", sa.String(64), nullable=False),
        sa.Column("subject", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "subject_hash", name="pk_signal_excluded"),
    )
    op.create_table(
        "signal_outbox",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("stream_id", sa.String(200), nullable=False),
        sa.Column("key", sa.String(300), nullable=False),
        sa.Column("claims", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_signal_outbox"),
        sa.UniqueConstraint("stream_id", "key", name="uq_signal_outbox_stream_id_key"),
    )
    op.create_index("ix_signal_outbox_waiting", "signal_outbox", ["stream_id", "state", "id"])
    op.create_index("ix_signal_outbox_settled_at", "signal_outbox", ["settled_at"])


def downgrade() -> None:
    """Back."""
    for name in ("signal_outbox", "signal_excluded", "signal_stream", "signal_receiver"):
        op.drop_table(name)
