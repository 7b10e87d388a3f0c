"""Until when the records of each batch go: what tells how often a device sends."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from sqlalchemy import func, select

from tidepool_ingest.ledger.database import Database
from tidepool_ingest.ledger.part_rows import IS_WHOLE
from tidepool_ingest.ledger.schema import batch_days, batches


class BatchEnd(NamedTuple):
    """Where the records of one batch end.

    :param label: the batch's label.
    :param last_day: UTC day of its last record.
    """

    api_host: str
    user_id: str
    device_id: str
    label: str
    last_day: date


def batch_ends(database: Database, since: date) -> Iterator[BatchEnd]:
    """Yield where batches end, device by device, each device's in the order of their days.

    :param database: the ledger's database.
    :param since: only batches with records from this day on.
    """
    ends = (
        select(batch_days.c.batch, func.max(batch_days.c.day).label("last_day"))
        .where(batch_days.c.day >= since)
        .group_by(batch_days.c.batch)
        .subquery()
    )
    asked = (
        select(batches.c.api_host, batches.c.user_id, batches.c.device_id, batches.c.label, ends.c.last_day)
        .join(ends, ends.c.batch == batches.c.id)
        .where(batches.c.device_id.is_not(None), IS_WHOLE)
        .order_by(batches.c.api_host, batches.c.user_id, batches.c.device_id, ends.c.last_day)
    )
    with database.reading() as connection:
        for row in connection.execution_options(yield_per=ROWS_AT_ONCE).execute(asked):
            yield BatchEnd(*row)


ROWS_AT_ONCE = 1_000
