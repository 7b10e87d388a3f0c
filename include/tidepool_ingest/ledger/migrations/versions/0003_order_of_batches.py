"""Keep when batches were staged, and which ones a run has yet to work on.

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
instant = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("batches", sa.Column("staged_at", instant))
    op.add_column("manifests", sa.Column("staged_at", instant))
    op.create_table(
        "turns",
        sa.Column("batch", auto_id, nullable=False),
        sa.Column("dag_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("map_index", sa.Integer(), comment="of its task; empty where several batches share one"),
        sa.Column("expires_at", instant, nullable=False),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_turns_batch_batches"),
        sa.PrimaryKeyConstraint("batch", "dag_id", "run_id", name="pk_turns"),
    )
    op.create_index("ix_turns_dag_id_run_id", "turns", ["dag_id", "run_id"])
    op.create_index("ix_turns_expires_at", "turns", ["expires_at"])


def downgrade() -> None:
    op.drop_table("turns")
    op.drop_column("manifests", "staged_at")
    op.drop_column("batches", "staged_at")
