"""How operators sign in: second factors, identities at a provider, sign-ins under way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "operator_factor",
        sa.Column("operator_id", sa.String(200), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("is_confirmed", sa.Boolean(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("recovery", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("operator_id", name="pk_operator_factor"),
    )
    op.create_table(
        "operator_identity",
        sa.Column("operator_id", sa.String(200), nullable=False),
        sa.Column("issuer", sa.String(500), nullable=False),
        sa.Column("subject", sa.String(500), nullable=True),
        sa.PrimaryKeyConstraint("operator_id", name="pk_operator_identity"),
        sa.UniqueConstraint("issuer", "subject", name="uq_operator_identity_issuer_subject"),
    )
    op.create_table(
        "sign_on",
        sa.Column("state_hash", sa.String(200), nullable=False),
        sa.Column("browser_hash", sa.String(64), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("verifier", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("state_hash", name="pk_sign_on"),
    )
    op.create_index("ix_sign_on_expires_at", "sign_on", ["expires_at"])
    op.create_table(
        "used_token",
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_used_token"),
    )
    op.create_index("ix_used_token_expires_at", "used_token", ["expires_at"])
    op.add_column("operator_session", sa.Column("idp_issuer", sa.String(500), nullable=True))
    op.add_column("operator_session", sa.Column("idp_subject", sa.String(500), nullable=True))
    op.add_column("operator_session", sa.Column("idp_session", sa.String(300), nullable=True))
    op.create_index("ix_operator_session_idp_issuer", "operator_session", ["idp_issuer"])


def downgrade() -> None:
    """Back."""
    op.drop_index("ix_operator_session_idp_issuer", "operator_session")
    for name in ("idp_session", "idp_subject", "idp_issuer"):
        op.drop_column("operator_session", name)
    for name in ("used_token", "sign_on", "operator_identity", "operator_factor"):
        op.drop_table(name)
