"""Remember on which days the records of a batch lie.

Revision: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

auto_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "batch_days",
        sa.Column("batch", auto_id, nullable=False),
        sa.Column(
            "day", sa.Date(), nullable=False, comment="UTC day of the records, not of the staged folder"
        ),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column(
            "records", sa.BigInteger(), nullable=False, comment="accepted records of that day and type"
        ),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_batch_days_batch_batches"),
        sa.PrimaryKeyConstraint("batch", "day", "type", name="pk_batch_days"),
    )
    op.create_index("ix_batch_days_day", "batch_days", ["day"])


def downgrade() -> None:
    op.drop_index("ix_batch_days_day", "batch_days")
    op.drop_table("batch_days")
