"""Remember with each batch which device it is of, whatever that is called, and the zones of its local times.

Batches that are there know neither: they say nothing about what the device was before.

Revision: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "batches",
        sa.Column(
            "device_key",
            sa.String(64),
            comment="sha256 of the user and what stays of a device when its device id changes",
        ),
    )
    op.add_column(
        "batches",
        sa.Column(
            "zones", sa.Text(), comment="time zones that local times of its files were read in, as JSON"
        ),
    )


def downgrade() -> None:
    op.drop_column("batches", "zones")
    op.drop_column("batches", "device_key")
