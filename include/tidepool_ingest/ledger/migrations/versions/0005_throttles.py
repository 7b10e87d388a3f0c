"""Keep a throttle as a length of time from when it was recorded, not as the moment of its end.

What is recorded counts as over: where a throttle still lasts, the next 429 asks for it again.

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
    with op.batch_alter_table("rate_limits") as table:
        table.alter_column("until", new_column_name="recorded_at")
        table.add_column(
            sa.Column(
                "seconds",
                sa.Float(),
                nullable=False,
                server_default="0",
                comment="how long it lasts from then on",
            )
        )


def downgrade() -> None:
    with op.batch_alter_table("rate_limits") as table:
        table.drop_column("seconds")
        table.alter_column("recorded_at", new_column_name="until")
