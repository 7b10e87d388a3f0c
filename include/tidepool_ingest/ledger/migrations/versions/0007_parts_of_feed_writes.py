"""Remember what each batch of a feed has written chunk by chunk, once Tidepool has answered for it.

What verified batches wrote is kept. What others only meant to write is forgotten: they send it again.

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

OF_PART = "index of the chunk that Tidepool has stored; -1 for deletions that it has carried out"

writes = sa.table(
    "feed_writes", sa.column("feed"), sa.column("batch"), sa.column("part"), sa.column("origins")
)


def upgrade() -> None:
    op.execute("DELETE FROM feed_writes WHERE batch NOT IN (SELECT id FROM batches WHERE state = 'verified')")
    with op.batch_alter_table("feed_writes") as table:
        table.drop_column("superseded")
        table.add_column(
            sa.Column("part", sa.Integer(), nullable=False, server_default="-1", comment=OF_PART)
        )
        table.drop_constraint("pk_feed_writes", type_="primary")
        table.create_primary_key("pk_feed_writes", ["feed", "batch", "part"])
        table.alter_column("origins", comment="digests, 8 bytes each, of the origin ids written or deleted")
    with op.batch_alter_table("feed_writes") as table:
        table.alter_column("part", server_default=None)


def downgrade() -> None:
    _put_together()
    with op.batch_alter_table("feed_writes") as table:
        table.drop_constraint("pk_feed_writes", type_="primary")
        table.drop_column("part")
        table.add_column(
            sa.Column(
                "superseded",
                sa.BigInteger(),
                nullable=False,
                server_default="0",
                comment="records of it that a later batch has replaced",
            )
        )
        table.create_primary_key("pk_feed_writes", ["feed", "batch"])
        table.alter_column(
            "origins", comment="digests, 8 bytes each, of the origin ids that it writes or deletes"
        )
    with op.batch_alter_table("feed_writes") as table:
        table.alter_column("superseded", server_default=None)


def _put_together() -> None:
    """Leave one row for each batch, with the digests of all its parts."""
    connection = op.get_bind()
    for feed, batch in connection.execute(sa.select(writes.c.feed, writes.c.batch).distinct()).all():
        of_batch = (writes.c.feed == feed, writes.c.batch == batch)
        parts = connection.execute(sa.select(writes.c.part, writes.c.origins).where(*of_batch)).all()
        connection.execute(sa.delete(writes).where(*of_batch, writes.c.part != parts[0].part))
        whole = b"".join(one.origins for one in parts)
        connection.execute(sa.update(writes).where(*of_batch).values(origins=whole))
