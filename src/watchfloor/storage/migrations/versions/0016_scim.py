"""Provisioning by SCIM: who may tell us of users, and what they said."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "scim_provider",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("issuer", sa.String(500), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_scim_provider"),
        sa.UniqueConstraint("issuer", name="uq_scim_provider_issuer"),
        sa.UniqueConstraint("token_hash", name="uq_scim_provider_token_hash"),
    )
    op.create_table(
        "scim_user",
        sa.Column("user_id", sa.String(200), nullable=False),
        sa.Column("user_name", sa.String(500), nullable=False),
        sa.Column("external_id", sa.String(500), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("is_held", sa.Boolean(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_scim_user"),
    )
    op.create_index("ix_scim_user_user_name", "scim_user", ["user_name"])
    op.create_index("ix_scim_user_external_id", "scim_user", ["external_id"])


def downgrade() -> None:
    """Back."""
    for name in ("scim_user", "scim_provider"):
        op.drop_table(name)
