"""Versions of agents have a number, a state, and what was decided of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def _rebuild(columns: list[sa.Column[object]], key: list[str], copy: str) -> None:
    """Make the table again: SQLite cannot change a primary key. ``copy`` reads from ``before`` and ``agent``."""
    op.execute("CREATE TABLE before AS SELECT * FROM agent_version")
    op.drop_table("agent_version")
    op.create_table(
        "agent_version",
        *columns,
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name="fk_agent_version_agent_id"),
        sa.PrimaryKeyConstraint(*key, name="pk_agent_version"),
    )
    op.execute(f"INSERT INTO agent_version ({', '.join(column.name for column in columns)}) {copy}")
    op.drop_table("before")


def upgrade() -> None:
    """Forward. The build that an agent is at is live and its newest; the others were."""
    _rebuild(
        [
            sa.Column("agent_id", sa.String(200), nullable=False),
            sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
            sa.Column("version", sa.String(100), nullable=False),
            sa.Column("manifest_hash", sa.Text(), nullable=False),
            sa.Column("manifest", sa.JSON(), nullable=False),
            sa.Column("state", sa.String(20), nullable=False),
            sa.Column("created_at", sa.BigInteger(), nullable=False),
            sa.Column("created_by", sa.Text(), nullable=False),
            sa.Column("document", sa.Text(), nullable=True),
            sa.Column("note", sa.Text(), nullable=False),
            sa.Column("checks", sa.JSON(), nullable=False),
            sa.Column("decided_at", sa.BigInteger(), nullable=True),
            sa.Column("decided_by", sa.Text(), nullable=True),
            sa.Column("reason", sa.Text(), nullable=False),
            sa.Column("conditions", sa.Text(), nullable=False),
            sa.Column("audience", sa.JSON(none_as_null=True), nullable=True),
        ],
        ["agent_id", "number"],
        """
        SELECT b.agent_id,
               ROW_NUMBER() OVER (PARTITION BY b.agent_id ORDER BY a.version = b.version, b.created_at, b.version),
               b.version, b.manifest_hash, b.manifest,
               CASE WHEN a.version = b.version THEN 'live' ELSE 'superseded' END,
               b.created_at, b.created_by, NULL, '', '[]', NULL, NULL, '', '', NULL
        FROM before b JOIN agent a ON a.id = b.agent_id
        """,
    )
    op.create_index("ix_agent_version_state", "agent_version", ["state"])


def downgrade() -> None:
    """Back. Of builds that were declared several times the first stays; what was only submitted is lost."""
    op.drop_index("ix_agent_version_state", "agent_version")
    _rebuild(
        [
            sa.Column("agent_id", sa.String(200), nullable=False),
            sa.Column("version", sa.String(100), nullable=False),
            sa.Column("manifest_hash", sa.Text(), nullable=False),
            sa.Column("manifest", sa.JSON(), nullable=False),
            sa.Column("created_at", sa.BigInteger(), nullable=False),
            sa.Column("created_by", sa.Text(), nullable=False),
        ],
        ["agent_id", "version"],
        """
        SELECT b.agent_id, b.version, b.manifest_hash, b.manifest, b.created_at, b.created_by
        FROM before b WHERE b.state IN ('live', 'superseded') AND NOT EXISTS (
            SELECT 1 FROM before o WHERE o.agent_id = b.agent_id AND o.version = b.version
            AND o.state IN ('live', 'superseded') AND o.number < b.number)
        """,
    )
