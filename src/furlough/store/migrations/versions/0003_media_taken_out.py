"""Media that remedies took out of drives

Revision: 0003, after 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "remedied",
        sa.Column("vm", sa.String(length=36), nullable=False),
        sa.Column("drive", sa.String(length=63), nullable=False),
        sa.Column("home", sa.String(length=63), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("vm", "drive", name=op.f("pk_remedied")),
    )
    with op.batch_alter_table("remedied", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_remedied_home"), ["home"], unique=False)
