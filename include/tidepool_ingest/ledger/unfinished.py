"""What was begun and left: by a task that died, was stopped or gave up."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, union

from tidepool_ingest.ledger.database import Database
from tidepool_ingest.ledger.part_rows import IS_WHOLE, WHOLE
from tidepool_ingest.ledger.schema import batches, data_sets
from tidepool_ingest.ledger.states import BatchState, DataSetState


class Unfinished:
    """Batches whose upload was begun and not brought to an end.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def batches(self, before: datetime) -> list[int]:
        """Return the numbers of those that nothing was noted of since, oldest day first.

        Of one that is cut into parts it is the whole one's number, for the parts are uploaded in their order.
        One of them may well be at work: whoever takes it up has to take its claim.

        :param before: the moment in question.
        """
        # Two looks into indexes, put together: OR between them would read every batch.
        left = select(data_sets.c.batch).where(
            data_sets.c.state.in_((DataSetState.OPENING, *DataSetState.unfinished())),
            data_sets.c.updated_at < before,
        )
        uploading = select(batches.c.id).where(
            IS_WHOLE, batches.c.state == BatchState.UPLOADING, batches.c.updated_at < before
        )
        numbers = union(left, uploading).subquery()
        asked = (
            select(WHOLE).join(numbers, numbers.c[0] == batches.c.id).order_by(batches.c.day, batches.c.id)
        )
        with self._database.reading() as connection:
            return list(dict.fromkeys(connection.scalars(asked)))
