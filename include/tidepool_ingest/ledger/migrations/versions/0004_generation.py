"""Keep with each data set what its mark at Tidepool says.

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


def upgrade() -> None:
    op.add_column(
        "data_sets",
        sa.Column(
            "generation",
            sa.Integer(),
            comment="how often the content was uploaded or undone on purpose before, as its mark says",
        ),
    )
