"""Keep what reading a manifest gave, so that none is opened twice; note which work areas were tidied.

Revision: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "manifests",
        sa.Column(
            "path_key", sa.String(length=64), nullable=False, comment="sha256 of the batch folder's address"
        ),
        sa.Column(
            "mark",
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
    op.create_index("ix_manifests_user_id", "manifests", ["user_id"])
    op.create_index("ix_manifests_met_on", "manifests", ["met_on"])
    op.add_column(
        "batches",
        sa.Column(
            "tidied",
            sa.String(length=16),
            comment="what was taken out of its work area; empty while that is whole",
        ),
    )
    op.create_index("ix_batches_tidied_updated_at", "batches", ["tidied", "updated_at"])
    op.create_index("ix_file_digests_updated_at", "file_digests", ["updated_at"])
    op.create_index(
        "ix_data_sets_state_checked_at_verified_at", "data_sets", ["state", "checked_at", "verified_at"]
    )


def downgrade() -> None:
    op.drop_index("ix_batches_tidied_updated_at", "batches")
    op.drop_column("batches", "tidied")
    op.drop_index("ix_data_sets_state_checked_at_verified_at", "data_sets")
    op.drop_index("ix_file_digests_updated_at", "file_digests")
    op.drop_table("manifests")
