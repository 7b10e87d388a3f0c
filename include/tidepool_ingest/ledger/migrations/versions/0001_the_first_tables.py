"""Create the first tables.

Revision: 0001
Revises: none
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("api_host", sa.String(length=255), nullable=False),
        sa.Column(
            "content_key",
            sa.String(length=64),
            nullable=False,
            comment="sha256 of user, data set body, edits and file digests",
        ),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False, comment="name of the staged folder"),
        sa.Column(
            "day",
            sa.Date(),
            nullable=False,
            comment="date folder, the partition that a data interval selects",
        ),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column(
            "label",
            sa.Text(),
            nullable=False,
            comment="day, device model and short hash: what logs and pages show",
        ),
        sa.Column(
            "connection",
            sa.Text(),
            nullable=True,
            comment="Airflow connection that the manifest names, if it names one",
        ),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("data_set_type", sa.String(length=16), server_default="normal", nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column(
            "reason",
            sa.String(length=80),
            nullable=True,
            comment="code of the error or guard that stopped it",
        ),
        sa.Column("staged", sa.BigInteger(), nullable=True, comment="records found in its files"),
        sa.Column("accepted", sa.BigInteger(), nullable=True),
        sa.Column("quarantined", sa.BigInteger(), nullable=True),
        sa.Column(
            "identical",
            sa.BigInteger(),
            nullable=True,
            comment="repeats of a record of the same batch, kept once",
        ),
        sa.Column(
            "expected_rows",
            sa.BigInteger(),
            nullable=True,
            comment="rows Tidepool makes of the accepted records",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
        sa.UniqueConstraint("api_host", "content_key", name=op.f("uq_batches_api_host_content_key")),
    )
    with op.batch_alter_table("batches", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_batches_api_host_user_id_batch_id"),
            ["api_host", "user_id", "batch_id"],
            unique=False,
        )
        batch_op.create_index(batch_op.f("ix_batches_day"), ["day"], unique=False)
        batch_op.create_index(batch_op.f("ix_batches_state"), ["state"], unique=False)

    op.create_table(
        "file_digests",
        sa.Column("path_key", sa.String(length=64), nullable=False, comment="sha256 of the file's address"),
        sa.Column(
            "fingerprint",
            sa.String(length=255),
            nullable=False,
            comment="size and modification time, or the store's etag",
        ),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("path_key", name=op.f("pk_file_digests")),
    )
    op.create_table(
        "leases",
        sa.Column(
            "name",
            sa.String(length=80),
            nullable=False,
            comment="kind and short hash of what has one owner at a time",
        ),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False, comment="grows with every takeover"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("connection", sa.String(length=250), nullable=False),
        sa.Column("sealed_token", sa.Text(), nullable=False, comment="encrypted with Airflow's Fernet key"),
        sa.Column(
            "seed_digest",
            sa.String(length=64),
            nullable=False,
            comment="of the connection's own token: a new login there wins",
        ),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("connection", name=op.f("pk_refresh_tokens")),
    )
    op.create_table(
        "data_sets",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("batch", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "ordinal",
            sa.Integer(),
            nullable=False,
            comment="1 for a batch's first data set, 2 if that was given up, …",
        ),
        sa.Column(
            "upload_id",
            sa.String(length=37),
            nullable=True,
            comment="the session id; empty until Tidepool has answered",
        ),
        sa.Column("data_set_type", sa.String(length=16), nullable=False),
        sa.Column("deduplicator", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("expected_rows", sa.BigInteger(), nullable=False),
        sa.Column("visible_rows", sa.BigInteger(), nullable=True),
        sa.Column("dag_id", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("map_index", sa.Integer(), nullable=True),
        sa.Column("try_number", sa.Integer(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name=op.f("fk_data_sets_batch_batches")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_sets")),
        sa.UniqueConstraint("batch", "ordinal", name=op.f("uq_data_sets_batch_ordinal")),
    )
    with op.batch_alter_table("data_sets", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_data_sets_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_data_sets_upload_id"), ["upload_id"], unique=False)

    op.create_table(
        "chunks",
        sa.Column("data_set", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("chunk_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "digest",
            sa.String(length=64),
            nullable=False,
            comment="of the chunk's accepted lines as prepared",
        ),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["data_set"], ["data_sets.id"], name=op.f("fk_chunks_data_set_data_sets")),
        sa.PrimaryKeyConstraint("data_set", "chunk_index", name=op.f("pk_chunks")),
    )


def downgrade() -> None:
    op.drop_table("chunks")
    with op.batch_alter_table("data_sets", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_data_sets_upload_id"))
        batch_op.drop_index(batch_op.f("ix_data_sets_state"))

    op.drop_table("data_sets")
    op.drop_table("refresh_tokens")
    op.drop_table("leases")
    op.drop_table("file_digests")
    with op.batch_alter_table("batches", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_batches_state"))
        batch_op.drop_index(batch_op.f("ix_batches_day"))
        batch_op.drop_index(batch_op.f("ix_batches_api_host_user_id_batch_id"))

    op.drop_table("batches")
