"""What the directory says of people: department, job title, manager, and how much depends on their account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TEXTS = ("department", "job_title", "manager")


def upgrade() -> None:
    """Forward."""
    for name in _TEXTS:
        op.add_column("directory_user", sa.Column(name, sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("directory_user", sa.Column("criticality", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Back."""
    for name in (*_TEXTS, "criticality"):
        op.drop_column("directory_user", name)
