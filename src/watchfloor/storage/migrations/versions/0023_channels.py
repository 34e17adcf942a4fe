"""Channels besides mail, and one outbox for all of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_KEPT = "id, key, recipient, subject, text, incident_id, created_at, state, attempts, next_try_at, settled_at, error"


def _outbox(name: str, *more: sa.Column[str], unique: tuple[str, ...]) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("key", sa.String(300), nullable=False),
        sa.Column("recipient", sa.String(320), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.String(200), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        *more,
        sa.PrimaryKeyConstraint("id", name=f"pk_{name}"),
        sa.UniqueConstraint(*unique, name=f"uq_{name}_{'_'.join(unique)}"),
    )
    op.create_index(f"ix_{name}_next_try_at", name, ["next_try_at"])
    op.create_index(f"ix_{name}_settled_at", name, ["settled_at"])


def upgrade() -> None:
    """Forward."""
    _outbox(
        "message",
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("notice_id", sa.String(200), nullable=True),
        unique=("key", "channel", "recipient"),
    )
    op.create_index("ix_message_notice_id", "message", ["notice_id"])
    op.execute(sa.text(f"INSERT INTO message ({_KEPT}, channel) SELECT {_KEPT}, 'mail' FROM mail"))  # noqa: S608 - names of ours
    op.drop_table("mail")
    op.create_table(
        "channel",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("allow_private", sa.Boolean(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_channel"),
    )


def downgrade() -> None:
    """Back. What waits for channels is lost."""
    op.drop_table("channel")
    _outbox("mail", unique=("key", "recipient"))
    op.execute(sa.text(f"INSERT INTO mail ({_KEPT}) SELECT {_KEPT} FROM message WHERE channel = 'mail'"))  # noqa: S608 - names of ours
    op.drop_table("message")
