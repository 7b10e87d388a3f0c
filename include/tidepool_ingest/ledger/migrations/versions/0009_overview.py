"""Know each device's first and newest batch, and find what is not simply verified without reading the rest.

The spans of devices are filled in from the batches that are there.

Revision: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NOT_CLEAN = (
    "coalesce(part_of, 0) = 0 AND NOT (state = 'verified' AND reason IS NULL AND dismissed IS NULL "
    "AND coalesce(quarantined, 0) = 0)"
)

OF_DEVICE = ["user_id", "device_id", "api_host", "data_set_type"]

SPANS = """
INSERT INTO device_spans (api_host, user_id, device_id, data_set_type, first_day, last_day, newest)
SELECT b.api_host, b.user_id, coalesce(b.device_id, ''), b.data_set_type, s.first_day, s.last_day, max(b.id)
FROM batches b
JOIN (
    SELECT api_host, user_id, coalesce(device_id, '') AS device, data_set_type,
        min(day) AS first_day, max(day) AS last_day
    FROM batches WHERE part_of IS NULL
    GROUP BY api_host, user_id, coalesce(device_id, ''), data_set_type
) s ON s.api_host = b.api_host AND s.user_id = b.user_id AND s.device = coalesce(b.device_id, '')
    AND s.data_set_type = b.data_set_type AND s.last_day = b.day
WHERE b.part_of IS NULL
GROUP BY b.api_host, b.user_id, coalesce(b.device_id, ''), b.data_set_type, s.first_day, s.last_day
"""


def upgrade() -> None:
    auto_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "device_spans",
        sa.Column("id", auto_id, primary_key=True),
        sa.Column("api_host", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=False, comment="empty if the manifests name none"),
        sa.Column("data_set_type", sa.String(16), nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False, comment="staged day of its first batch"),
        sa.Column("last_day", sa.Date(), nullable=False, comment="staged day of its newest batch"),
        sa.Column("newest", auto_id, nullable=False, comment="its newest batch"),
        sa.PrimaryKeyConstraint("id", name="pk_device_spans"),
        sa.ForeignKeyConstraint(["newest"], ["batches.id"], name="fk_device_spans_newest_batches"),
        sa.UniqueConstraint(
            "user_id",
            "api_host",
            "data_set_type",
            "device_id",
            name="uq_device_spans_user_id_api_host_data_set_type_device_id",
        ),
    )
    op.execute(sa.text(SPANS))
    op.drop_index("ix_batches_day", "batches")
    op.create_index("ix_batches_day_whole", "batches", ["day", "part_of", *OF_DEVICE, "state", "accepted"])
    not_clean = sa.text(NOT_CLEAN)
    op.create_index(
        "ix_batches_day_not_clean",
        "batches",
        ["day", *OF_DEVICE, "state", "reason", "dismissed", "quarantined", "part_of"],
        sqlite_where=not_clean,
        postgresql_where=not_clean,
    )


def downgrade() -> None:
    for name in ("ix_batches_day_not_clean", "ix_batches_day_whole"):
        op.drop_index(name, "batches")
    op.create_index("ix_batches_day", "batches", ["day"])
    op.drop_table("device_spans")
