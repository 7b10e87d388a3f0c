"""Cut a giant batch into parts, each of which is a batch of its own.

Revision: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

auto_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "batches",
        sa.Column("part_of", auto_id, comment="batch that it is a part of; empty for a whole one"),
    )
    op.add_column("batches", sa.Column("part", sa.Integer(), comment="its place among the parts, from 1"))
    op.add_column(
        "batches",
        sa.Column(
            "part_records",
            sa.Integer(),
            comment="of a batch that is cut into parts: records a part, at most",
        ),
    )
    op.create_index("ix_batches_part_of_part", "batches", ["part_of", "part"])
    # Counting whole batches by state reads nothing but this index.
    op.drop_index("ix_batches_state_id", "batches")
    whole = sa.text("part_of IS NULL")
    op.create_index(
        "ix_batches_state_id", "batches", ["state", "id"], sqlite_where=whole, postgresql_where=whole
    )


def downgrade() -> None:
    op.drop_index("ix_batches_state_id", "batches")
    op.create_index("ix_batches_state_id", "batches", ["state", "id"])
    op.drop_index("ix_batches_part_of_part", "batches")
    op.drop_column("batches", "part_records")
    op.drop_column("batches", "part")
    op.drop_column("batches", "part_of")
