"""Risk of users and agents: detections, what they come to, and the history of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward. Whoever has a level already was given it by an operator."""
    op.create_table(
        "risk_detection",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("subject_id", sa.String(200), nullable=False),
        sa.Column("detection", sa.String(100), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("key", sa.String(300), nullable=False),
        sa.Column("alert_id", sa.String(200), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("noted_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_risk_detection"),
        sa.UniqueConstraint("kind", "subject_id", "key", name="uq_risk_detection_kind_subject_id_key"),
    )
    op.create_index("ix_risk_detection_alert_id", "risk_detection", ["alert_id"])
    risk = op.create_table(
        "risk",
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("subject_id", sa.String(200), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes_at", sa.BigInteger(), nullable=True),
        sa.Column("remediated_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("kind", "subject_id", name="pk_risk"),
    )
    op.create_index("ix_risk_changes_at", "risk", ["changes_at"])
    op.create_table(
        "risk_change",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("subject_id", sa.String(200), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("activity", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("detection_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_risk_change"),
    )
    op.create_index("ix_risk_change_subject", "risk_change", ["kind", "subject_id", "id"])
    columns = [risk.c[n] for n in ("kind", "subject_id", "level", "state", "detail", "because", "updated_at")]
    for kind, table in (("user", "directory_user"), ("agent", "agent")):
        old = sa.table(table, sa.column("id"), sa.column("risk"), sa.column("updated_at"))
        detail = sa.literal("adminConfirmedUserCompromised" if kind == "user" else "adminConfirmedAgentCompromised")
        because = sa.literal("set before reasons were kept")
        state = sa.case((old.c.risk == "high", "confirmedCompromised"), else_="atRisk")
        chosen = sa.select(sa.literal(kind), old.c.id, old.c.risk, state, detail, because, old.c.updated_at)
        op.execute(risk.insert().from_select(columns, chosen.where(old.c.risk != "none")))


def downgrade() -> None:
    """Back."""
    for name in ("risk_change", "risk", "risk_detection"):
        op.drop_table(name)
