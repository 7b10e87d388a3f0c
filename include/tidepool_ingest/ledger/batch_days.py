"""On which days the accepted records of a batch lie: dates and counts, no clock times and no values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from sqlalchemy import delete, insert, select

from tidepool_ingest.ledger.database import Database
from tidepool_ingest.ledger.schema import batch_days, batches

Days = dict[date, dict[str, int]]
"""Numbers of records by UTC day and type."""


class BatchDays:
    """The table of record days.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, batch: int, days: Mapping[date, Mapping[str, int]]) -> None:
        """Note on which days a batch's accepted records lie, in place of what was noted before.

        :param batch: the batch's number.
        :param days: numbers of records by UTC day and type.
        """
        if self.of_batch(batch) == days:
            return
        rows = [
            {"batch": batch, "day": day, "type": kind, "records": records}
            for day, kinds in days.items()
            for kind, records in kinds.items()
        ]
        with self._database.writing() as connection:
            # Another run may be noting the same: they take turns.
            connection.execute(select(batches.c.id).where(batches.c.id == batch).with_for_update())
            connection.execute(delete(batch_days).where(batch_days.c.batch == batch))
            if rows:
                connection.execute(insert(batch_days), rows)

    def of_batch(self, batch: int) -> Days:
        """Return the numbers of a batch's accepted records, oldest day first."""
        asked = (
            select(batch_days.c.day, batch_days.c.type, batch_days.c.records)
            .where(batch_days.c.batch == batch)
            .order_by(batch_days.c.day, batch_days.c.type)
        )
        days: Days = {}
        with self._database.reading() as connection:
            for day, kind, records in connection.execute(asked):
                days.setdefault(day, {})[kind] = records
        return days
