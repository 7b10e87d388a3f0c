"""Keep what the page of uploads shows: planned requests, and reasons of the quarantine.

Revision: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

auto_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "batches",
        sa.Column("chunks", sa.Integer(), comment="requests that the accepted records travel in, as planned"),
    )
    op.drop_index("ix_batches_state", "batches")
    op.create_index("ix_batches_state_id", "batches", ["state", "id"])
    op.create_index("ix_batches_reason", "batches", ["reason"])
    op.drop_index("ix_data_sets_state", "data_sets")
    op.create_index("ix_data_sets_state_batch", "data_sets", ["state", "batch"])
    op.create_index("ix_data_sets_dag_id_batch", "data_sets", ["dag_id", "batch"])
    op.create_table(
        "quarantine_reasons",
        sa.Column("batch", auto_id, nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("code", sa.String(length=80), nullable=False),
        sa.Column(
            "records",
            sa.BigInteger(),
            nullable=False,
            comment="records that the code refused, maybe with others",
        ),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_quarantine_reasons_batch_batches"),
        sa.PrimaryKeyConstraint("batch", "type", "code", name="pk_quarantine_reasons"),
    )


def downgrade() -> None:
    op.drop_table("quarantine_reasons")
    op.drop_index("ix_data_sets_dag_id_batch", "data_sets")
    op.drop_index("ix_data_sets_state_batch", "data_sets")
    op.create_index("ix_data_sets_state", "data_sets", ["state"])
    op.drop_index("ix_batches_reason", "batches")
    op.drop_index("ix_batches_state_id", "batches")
    op.create_index("ix_batches_state", "batches", ["state"])
    op.drop_column("batches", "chunks")
