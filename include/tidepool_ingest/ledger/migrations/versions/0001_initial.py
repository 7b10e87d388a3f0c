"""Create the ledger's tables.

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

auto_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
instant = sa.DateTime(timezone=True)
whole = sa.text("part_of IS NULL")


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", auto_id, nullable=False),
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
            "connection", sa.Text(), comment="Airflow connection that the manifest names, if it names one"
        ),
        sa.Column("device_id", sa.Text()),
        sa.Column("data_set_type", sa.String(length=16), server_default="normal", nullable=False),
        sa.Column(
            "replaces", auto_id, comment="batch whose data sets are deleted once this one shows in Tidepool"
        ),
        sa.Column("part_of", auto_id, comment="batch that it is a part of; empty for a whole one"),
        sa.Column("part", sa.Integer(), comment="its place among the parts, from 1"),
        sa.Column(
            "part_records", sa.Integer(), comment="of a batch that is cut into parts: records a part, at most"
        ),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("reason", sa.String(length=80), comment="code of the error or guard that stopped it"),
        sa.Column("staged", sa.BigInteger(), comment="records found in its files"),
        sa.Column("accepted", sa.BigInteger()),
        sa.Column("quarantined", sa.BigInteger()),
        sa.Column("identical", sa.BigInteger(), comment="repeats of a record of the same batch, kept once"),
        sa.Column("expected_rows", sa.BigInteger(), comment="rows Tidepool makes of the accepted records"),
        sa.Column("chunks", sa.Integer(), comment="requests that the accepted records travel in, as planned"),
        sa.Column(
            "purged",
            sa.String(length=16),
            comment="what was taken out of its work area; empty while that is whole",
        ),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
        sa.UniqueConstraint("api_host", "content_key", name="uq_batches_api_host_content_key"),
    )
    op.create_index("ix_batches_api_host_user_id_batch_id", "batches", ["api_host", "user_id", "batch_id"])
    op.create_index("ix_batches_day", "batches", ["day"])
    op.create_index("ix_batches_part_of_part", "batches", ["part_of", "part"])
    op.create_index("ix_batches_reason", "batches", ["reason"])
    op.create_index(
        "ix_batches_state_id", "batches", ["state", "id"], sqlite_where=whole, postgresql_where=whole
    )
    op.create_index("ix_batches_purged_updated_at", "batches", ["purged", "updated_at"])

    op.create_table(
        "batch_days",
        sa.Column("batch", auto_id, nullable=False),
        sa.Column(
            "day", sa.Date(), nullable=False, comment="UTC day of the records, not of the staged folder"
        ),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column(
            "records", sa.BigInteger(), nullable=False, comment="accepted records of that day and type"
        ),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_batch_days_batch_batches"),
        sa.PrimaryKeyConstraint("batch", "day", "type", name="pk_batch_days"),
    )
    op.create_index("ix_batch_days_day", "batch_days", ["day"])

    op.create_table(
        "quarantine_reasons",
        sa.Column("batch", auto_id, nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("code", sa.String(length=80), nullable=False),
        sa.Column(
            "records",
            sa.BigInteger(),
            nullable=False,
            comment="records that the code refused, maybe with others",
        ),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_quarantine_reasons_batch_batches"),
        sa.PrimaryKeyConstraint("batch", "type", "code", name="pk_quarantine_reasons"),
    )

    op.create_table(
        "data_sets",
        sa.Column("id", auto_id, nullable=False),
        sa.Column("batch", auto_id, nullable=False),
        sa.Column(
            "ordinal",
            sa.Integer(),
            nullable=False,
            comment="1 for a batch's first data set, 2 if that was given up, …",
        ),
        sa.Column(
            "data_set_id", sa.String(length=37), comment="the session id; empty until Tidepool has answered"
        ),
        sa.Column("data_set_type", sa.String(length=16), nullable=False),
        sa.Column("deduplicator", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("expected_rows", sa.BigInteger(), nullable=False),
        sa.Column("visible_rows", sa.BigInteger()),
        sa.Column(
            "superseded_rows",
            sa.BigInteger(),
            comment="rows that a later upload hid, when it was last checked",
        ),
        sa.Column("dag_id", sa.Text()),
        sa.Column("run_id", sa.Text()),
        sa.Column("map_index", sa.Integer()),
        sa.Column("try_number", sa.Integer()),
        sa.Column("opened_at", instant),
        sa.Column("closed_at", instant),
        sa.Column("verified_at", instant),
        sa.Column("checked_at", instant),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("updated_at", instant, nullable=False),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_data_sets_batch_batches"),
        sa.PrimaryKeyConstraint("id", name="pk_data_sets"),
        sa.UniqueConstraint("batch", "ordinal", name="uq_data_sets_batch_ordinal"),
    )
    op.create_index("ix_data_sets_dag_id_batch", "data_sets", ["dag_id", "batch"])
    op.create_index("ix_data_sets_state_batch", "data_sets", ["state", "batch"])
    op.create_index(
        "ix_data_sets_state_checked_at_verified_at", "data_sets", ["state", "checked_at", "verified_at"]
    )
    op.create_index("ix_data_sets_data_set_id", "data_sets", ["data_set_id"])

    op.create_table(
        "chunks",
        sa.Column("data_set", auto_id, nullable=False),
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
        sa.Column("updated_at", instant, nullable=False),
        sa.ForeignKeyConstraint(["data_set"], ["data_sets.id"], name="fk_chunks_data_set_data_sets"),
        sa.PrimaryKeyConstraint("data_set", "chunk_index", name="pk_chunks"),
    )

    op.create_table(
        "feeds",
        sa.Column("id", auto_id, nullable=False),
        sa.Column("api_host", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("client_name", sa.Text(), nullable=False, comment="the program that the data sets name"),
        sa.Column(
            "data_set_type",
            sa.String(length=16),
            nullable=False,
            comment="normal and continuous share no name",
        ),
        sa.Column("deduplicator", sa.Text(), comment="of the continuous data set"),
        sa.Column(
            "data_set_id",
            sa.String(length=37),
            comment="the one continuous data set; empty until it is found",
        ),
        sa.Column("pinned_at", instant),
        sa.Column("created_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feeds"),
        sa.UniqueConstraint(
            "api_host", "user_id", "client_name", name="uq_feeds_api_host_user_id_client_name"
        ),
    )
    op.create_index("ix_feeds_data_set_id", "feeds", ["data_set_id"])

    op.create_table(
        "feed_writes",
        sa.Column("feed", auto_id, nullable=False),
        sa.Column("batch", auto_id, nullable=False),
        sa.Column(
            "chunk_index",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="index of the chunk that Tidepool has stored; -1 for deletions that it has carried out",
        ),
        sa.Column(
            "origins",
            sa.LargeBinary(),
            nullable=False,
            comment="digests, 8 bytes each, of the origin ids written or deleted",
        ),
        sa.Column("created_at", instant, nullable=False),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_feed_writes_batch_batches"),
        sa.ForeignKeyConstraint(["feed"], ["feeds.id"], name="fk_feed_writes_feed_feeds"),
        sa.PrimaryKeyConstraint("feed", "batch", "chunk_index", name="pk_feed_writes"),
    )
    op.create_index("ix_feed_writes_batch", "feed_writes", ["batch"])

    op.create_table(
        "rejections",
        sa.Column("batch", auto_id, nullable=False),
        sa.Column(
            "ordinal",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="place of the record among those that prepare accepted, from 0",
        ),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False, comment="rows that Tidepool would have made of it"),
        sa.Column(
            "problems",
            sa.Text(),
            nullable=False,
            comment="codes and pointers as JSON, names of a person's as *",
        ),
        sa.Column("created_at", instant, nullable=False),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_refusals_batch_batches"),
        sa.PrimaryKeyConstraint("batch", "ordinal", name="pk_rejections"),
    )

    op.create_table(
        "rate_limits",
        sa.Column("api_host", sa.String(length=255), nullable=False),
        sa.Column("pauses", sa.Integer(), nullable=False, comment="how often in a row it asked for one"),
        sa.Column("until", instant, nullable=False),
        sa.PrimaryKeyConstraint("api_host", name="pk_rate_limits"),
    )

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
        sa.Column("updated_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("path_key", name="pk_file_digests"),
    )
    op.create_index("ix_file_digests_updated_at", "file_digests", ["updated_at"])

    op.create_table(
        "manifests",
        sa.Column(
            "path_key", sa.String(length=64), nullable=False, comment="sha256 of the batch folder's address"
        ),
        sa.Column(
            "fingerprint",
            sa.String(length=64),
            nullable=False,
            comment="changes when any file of the folder does",
        ),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("content_key", sa.String(length=64), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column(
            "connection", sa.Text(), comment="Airflow connection that the manifest names, if it names one"
        ),
        sa.Column("device_id", sa.Text()),
        sa.Column("data_set_type", sa.String(length=16), nullable=False),
        sa.Column("met_on", sa.Date(), nullable=False, comment="about when a run last met it, in UTC"),
        sa.PrimaryKeyConstraint("path_key", name="pk_manifests"),
    )
    op.create_index("ix_manifests_met_on", "manifests", ["met_on"])
    op.create_index("ix_manifests_user_id", "manifests", ["user_id"])

    op.create_table(
        "actions",
        sa.Column("id", auto_id, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False, comment="Airflow's name of the person"),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("batch", auto_id, comment="empty for what concerns a whole run"),
        sa.Column(
            "detail", sa.Text(), comment="fixed words, for example the parameters that a run confirmed"
        ),
        sa.Column("dag_id", sa.Text()),
        sa.Column("run_id", sa.Text()),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=80), comment="code of the error that it ended with"),
        sa.Column("created_at", instant, nullable=False),
        sa.Column("ended_at", instant),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_actions_batch_batches"),
        sa.PrimaryKeyConstraint("id", name="pk_actions"),
    )
    op.create_index("ix_actions_batch_id", "actions", ["batch", "id"])
    op.create_index("ix_actions_dag_id_run_id", "actions", ["dag_id", "run_id"])

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
        sa.Column("expires_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
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
        sa.Column("updated_at", instant, nullable=False),
        sa.PrimaryKeyConstraint("connection", name="pk_refresh_tokens"),
    )
