"""Remember the hours of a batch's records, its formats and device, and where in it is what stopped it.

Batches that are there know nothing of it: the uploads page shows them as before.

Revision: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "batch_days",
        sa.Column("hours", sa.Text(), comment="the same by hour of the day: 24 numbers, empty if not known"),
    )
    op.add_column("batches", sa.Column("formats", sa.Text(), comment="formats of its files, as JSON"))
    op.add_column(
        "batches",
        sa.Column("device", sa.Text(), comment="manufacturers and model of its device, as JSON"),
    )
    op.add_column(
        "batches",
        sa.Column(
            "reason_detail",
            sa.Text(),
            comment="where in the batch, and how often: our words, positions, counts",
        ),
    )


def downgrade() -> None:
    for column in ("reason_detail", "device", "formats"):
        op.drop_column("batches", column)
    op.drop_column("batch_days", "hours")
