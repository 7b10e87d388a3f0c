"""Remember when a plan first missed the folder of a batch.

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


def upgrade() -> None:
    op.add_column(
        "batches",
        sa.Column(
            "missed_at",
            sa.DateTime(timezone=True),
            comment="when a plan first did not find its folder; empty while it is there",
        ),
    )


def downgrade() -> None:
    op.drop_column("batches", "missed_at")
