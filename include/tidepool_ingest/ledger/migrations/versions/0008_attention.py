"""Remember what a person has dismissed, and the task that a batch stopped in.

Batches that are there are not dismissed; for those that stopped earlier, the task is not known.

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


def upgrade() -> None:
    op.add_column(
        "batches",
        sa.Column("dismissed", sa.String(24), comment="why a person has dismissed it; empty if nobody has"),
    )
    op.add_column(
        "batches",
        sa.Column("stopped_in", sa.Text(), comment="Airflow's task that it stopped in, as JSON"),
    )


def downgrade() -> None:
    for column in ("stopped_in", "dismissed"):
        op.drop_column("batches", column)
