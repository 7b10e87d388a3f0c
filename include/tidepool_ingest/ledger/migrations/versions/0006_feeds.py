"""Remember each feed's continuous data set, and what each of its batches wrote.

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

auto_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "feeds",
        sa.Column("id", auto_id, nullable=False),
        sa.Column("api_host", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column(
            "client_name",
            sa.Text(),
            nullable=False,
            comment="the program that the data sets name",
        ),
        sa.Column(
            "data_set_type",
            sa.String(length=16),
            nullable=False,
            comment="normal and continuous share no name",
        ),
        sa.Column("deduplicator", sa.Text(), comment="of the continuous data set"),
        sa.Column(
            "upload_id",
            sa.String(length=37),
            comment="the one continuous data set; empty until it is found",
        ),
        sa.Column("pinned_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feeds"),
        sa.UniqueConstraint(
            "api_host", "user_id", "client_name", name="uq_feeds_api_host_user_id_client_name"
        ),
    )
    op.create_index("ix_feeds_upload_id", "feeds", ["upload_id"])
    op.create_table(
        "feed_writes",
        sa.Column("feed", auto_id, nullable=False),
        sa.Column("batch", auto_id, nullable=False),
        sa.Column(
            "origins",
            sa.LargeBinary(),
            nullable=False,
            comment="digests, 8 bytes each, of the origin ids that it writes or deletes",
        ),
        sa.Column(
            "superseded",
            sa.BigInteger(),
            nullable=False,
            comment="records of it that a later batch has replaced",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["feed"], ["feeds.id"], name="fk_feed_writes_feed_feeds"),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_feed_writes_batch_batches"),
        sa.PrimaryKeyConstraint("feed", "batch", name="pk_feed_writes"),
    )
    op.create_index("ix_feed_writes_batch", "feed_writes", ["batch"])


def downgrade() -> None:
    op.drop_table("feed_writes")
    op.drop_table("feeds")
