"""Shared signals: transmitters that are believed, and what was taken from them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "signal_transmitter",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("issuer", sa.String(500), nullable=False),
        sa.Column("jwks_uri", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("speaks_for", sa.JSON(), nullable=False),
        sa.Column("poll_url", sa.Text(), nullable=False),
        sa.Column("verification_url", sa.Text(), nullable=False),
        sa.Column("stream_id", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=True),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.Column("expected_state", sa.Text(), nullable=False),
        sa.Column("verified_at", sa.BigInteger(), nullable=True),
        sa.Column("received_at", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_signal_transmitter"),
        sa.UniqueConstraint("issuer", name="uq_signal_transmitter_issuer"),
    )
    op.create_table(
        "signal_received",
        sa.Column("transmitter_id", sa.String(200), nullable=False),
        sa.Column("jti", sa.String(200), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("transmitter_id", "jti", name="pk_signal_received"),
    )
    op.create_index("ix_signal_received_received_at", "signal_received", ["received_at"])


def downgrade() -> None:
    """Back."""
    for name in ("signal_received", "signal_transmitter"):
        op.drop_table(name)
