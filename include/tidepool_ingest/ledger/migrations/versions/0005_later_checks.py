"""Remember when a verified data set was last read back, and what a later upload hides of it.

Revision: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "data_sets",
        sa.Column(
            "superseded_rows",
            sa.BigInteger(),
            comment="rows that a later upload hid, when it was last checked",
        ),
    )
    op.add_column("data_sets", sa.Column("checked_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("data_sets", "checked_at")
    op.drop_column("data_sets", "superseded_rows")
