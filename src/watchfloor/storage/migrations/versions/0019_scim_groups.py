"""Groups that identity providers tell of by SCIM, and who is in them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "scim_group",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("issuer", sa.String(500), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.String(200), nullable=False),
        sa.Column("external_id", sa.String(500), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_scim_group"),
        sa.UniqueConstraint("issuer", "name_key", name="uq_scim_group_issuer_name_key"),
    )
    op.create_index("ix_scim_group_external_id", "scim_group", ["external_id"])
    op.create_table(
        "scim_member",
        sa.Column("group_id", sa.String(200), nullable=False),
        sa.Column("user_id", sa.String(200), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["scim_group.id"], name="fk_scim_member_group_id"),
        sa.PrimaryKeyConstraint("group_id", "user_id", name="pk_scim_member"),
    )
    op.create_index("ix_scim_member_user_id", "scim_member", ["user_id"])


def downgrade() -> None:
    """Back."""
    for name in ("scim_member", "scim_group"):
        op.drop_table(name)
