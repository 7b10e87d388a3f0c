"""Note who asked for what.

Revision: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

auto_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "actions",
        sa.Column("id", auto_id, nullable=False),
        sa.Column("who", sa.Text(), nullable=False, comment="Airflow's name of the person"),
        sa.Column("what", sa.String(length=24), nullable=False),
        sa.Column("batch", auto_id, comment="empty for what concerns a whole run"),
        sa.Column(
            "detail", sa.Text(), comment="fixed words, for example the parameters that a run confirmed"
        ),
        sa.Column("dag_id", sa.Text()),
        sa.Column("run_id", sa.Text()),
        sa.Column("result", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=80), comment="code of the error that it ended with"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_actions_batch_batches"),
        sa.PrimaryKeyConstraint("id", name="pk_actions"),
    )
    op.create_index("ix_actions_batch_id", "actions", ["batch", "id"])
    op.create_index("ix_actions_dag_id_run_id", "actions", ["dag_id", "run_id"])


def downgrade() -> None:
    op.drop_table("actions")
