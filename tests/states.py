"""States that tests begin with, written as they are: nobody asks how a batch or a data set got there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import update

from tidepool_ingest.ledger import BatchState, DataSetState, Ledger
from tidepool_ingest.ledger.schema import batches, data_sets
from tidepool_ingest.ledger.transitions import TIME_COLUMN


def set_batch_state(ledger: Ledger, batch: int, state: BatchState, *, reason: str | None = None) -> None:
    """Write the state of a batch, whatever it was before."""
    values = {"state": state, "reason": reason, "updated_at": datetime.now(UTC)}
    with ledger.database.writing() as connection:
        connection.execute(update(batches).where(batches.c.id == batch).values(values))


def set_data_set_state(ledger: Ledger, data_set: int, state: DataSetState, **values: Any) -> None:
    """Write the state of a data set and other columns of it, whatever they were before."""
    now = datetime.now(UTC)
    reached = {TIME_COLUMN[state]: now} if state in TIME_COLUMN else {}
    values = {**values, **reached, "state": state, "updated_at": now}
    with ledger.database.writing() as connection:
        connection.execute(update(data_sets).where(data_sets.c.id == data_set).values(values))
