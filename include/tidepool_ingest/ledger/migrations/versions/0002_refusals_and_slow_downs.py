"""Remember what Tidepool itself refused, and until when it asked to slow down.

Revision: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

auto_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "refusals",
        sa.Column("batch", auto_id, nullable=False),
        sa.Column(
            "ordinal",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="place of the record among those that prepare accepted, from 0",
        ),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False, comment="rows that Tidepool would have made of it"),
        sa.Column(
            "problems",
            sa.Text(),
            nullable=False,
            comment="codes and pointers as JSON, names of a person's as *",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_refusals_batch_batches"),
        sa.PrimaryKeyConstraint("batch", "ordinal", name="pk_refusals"),
    )
    op.create_table(
        "slow_downs",
        sa.Column("api_host", sa.String(length=255), nullable=False),
        sa.Column("pauses", sa.Integer(), nullable=False, comment="how often in a row it asked for one"),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("api_host", name="pk_slow_downs"),
    )


def downgrade() -> None:
    op.drop_table("slow_downs")
    op.drop_table("refusals")
