"""Responses of several steps, their outbox, playbooks, and accounts that are kept for emergencies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column(
        "directory_user", sa.Column("is_break_glass", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.create_table(
        "saga",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("incident_id", sa.String(200), nullable=True),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("needs_approval", sa.JSON(), nullable=False),
        sa.Column("approve_by", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("outcome_at", sa.BigInteger(), nullable=True),
        sa.Column("check_at", sa.BigInteger(), nullable=True),
        sa.Column("checks", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_saga"),
    )
    for column in ("subject_id", "status", "incident_id"):
        op.create_index(f"ix_saga_{column}", "saga", [column])
    op.create_table(
        "saga_step",
        sa.Column("saga_id", sa.String(200), nullable=False),
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=True),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("held_until", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["saga_id"], ["saga.id"], name="fk_saga_step_saga_id"),
        sa.PrimaryKeyConstraint("saga_id", "name", name="pk_saga_step"),
    )
    op.create_index("ix_saga_step_state_next_try_at", "saga_step", ["state", "next_try_at"])
    op.create_table(
        "playbook",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("body", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("approval", sa.Text(), nullable=False),
        sa.Column("active_from", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_playbook"),
    )
    op.create_table(
        "playbook_run",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("playbook_id", sa.String(200), nullable=False),
        sa.Column("incident_id", sa.String(200), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("items", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_playbook_run"),
        sa.UniqueConstraint("playbook_id", "incident_id", name="uq_playbook_run_playbook_id_incident_id"),
    )
    for column in ("incident_id", "status"):
        op.create_index(f"ix_playbook_run_{column}", "playbook_run", [column])


def downgrade() -> None:
    """Back."""
    op.drop_table("playbook_run")
    op.drop_table("playbook")
    op.drop_table("saga_step")
    op.drop_table("saga")
    op.drop_column("directory_user", "is_break_glass")
