"""Remember which batch another one replaces.

Revision: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

auto_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "batches",
        sa.Column(
            "replaces", auto_id, comment="batch whose data sets are deleted once this one shows in Tidepool"
        ),
    )


def downgrade() -> None:
    op.drop_column("batches", "replaces")
