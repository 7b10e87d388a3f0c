"""Batches that wait for a run or a person although their folder is not in staging any more.

A folder may be away for a moment, so a batch is gone only once two plans have missed it. Nothing of it can be
at Tidepool then: one of which a data set may hold data stays, for the maintenance to finish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from sqlalchemy import Connection, and_, select, update

from tidepool_ingest.ledger.database import Database, batched, now_of
from tidepool_ingest.ledger.schema import NOW, DatabaseNow, batches
from tidepool_ingest.ledger.states import BatchState
from tidepool_ingest.ledger.transitions import write_state
from tidepool_ingest.ledger.whole_batches import (
    IS_WHOLE,
    NEVER_OPENED,
    holding_data,
    overwrite_parts,
)


@dataclass(frozen=True, kw_only=True)
class WaitingBatch:
    """A batch that waits, and of which no upload is in progress.

    :param missed_at: when a plan first missed its folder; ``None`` if the last one that looked found it.
    """

    id: int
    api_host: str
    content_key: str
    user_id: str = field(repr=False)
    batch_id: str = field(repr=False)
    day: date
    folder: str = field(repr=False)
    missed_at: datetime | None


class Absences:
    """Which waiting batches are not in staging any more.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def waiting(self, root: str) -> list[WaitingBatch]:
        """Return the batches that wait, oldest first.

        :param root: only batches below this address.
        """
        columns = [batches.c[name] for name in WaitingBatch.__dataclass_fields__]
        below = batches.c.folder.startswith(root.rstrip("/") + "/", autoescape=True)
        query = select(*columns).where(IS_WHOLE, batches.c.state.in_(NEVER_OPENED), below)
        with self._database.reading() as connection:
            return [WaitingBatch(**row._mapping) for row in connection.execute(query.order_by(batches.c.id))]

    def mark_there(self, rows: Sequence[WaitingBatch]) -> None:
        """Record that a plan has found the folders of some batches.

        :param rows: the batches, here and below.
        """
        self._set_missed([row.id for row in rows if row.missed_at is not None], None)

    def mark_missed(self, rows: Sequence[WaitingBatch]) -> None:
        """Record that a plan has not found the folders of some batches, for the first time."""
        self._set_missed([row.id for row in rows], NOW)

    def mark_gone(self, rows: Sequence[WaitingBatch]) -> int:
        """Record that batches are gone from staging; return how many there were.

        One that has changed meanwhile, or of which Tidepool may hold data, stays as it is.
        """
        return self._end(rows, BatchState.GONE)

    def mark_overwritten(self, rows: Sequence[WaitingBatch]) -> int:
        """Record that other batches stand in the place of some; return how many there were.

        One that has changed meanwhile, or of which Tidepool may hold data, stays as it is.
        """
        return self._end(rows, BatchState.OVERWRITTEN)

    def _set_missed(self, numbers: Sequence[int], moment: DatabaseNow | None) -> None:
        for batch_of_ids in batched(numbers):
            with self._database.writing() as connection:
                changed = update(batches).where(batches.c.id.in_(batch_of_ids))
                connection.execute(changed.values(missed_at=moment))

    def _end(self, rows: Sequence[WaitingBatch], state: BatchState) -> int:
        ended = 0
        folders = {row.id: row.folder for row in rows}
        for batch_of_ids in batched(sorted(folders)):
            with self._database.writing() as connection:
                numbers = _unchanged(connection, batch_of_ids, folders)
                now = now_of(connection)
                overwrite_parts(connection, numbers, now)
                these = batches.c.id.in_(numbers)
                ended += write_state(connection, these, state, now=now, reason=None, missed_at=None)
        return ended


def _unchanged(connection: Connection, numbers: Sequence[int], folders: dict[int, str]) -> list[int]:
    """Return the numbers of those that still wait, in the same folder, and lock them."""
    waiting = and_(batches.c.id.in_(numbers), batches.c.state.in_(NEVER_OPENED))
    query = select(batches.c.id, batches.c.folder).where(waiting).order_by(batches.c.id).with_for_update()
    same = [number for number, folder in connection.execute(query) if folder == folders[number]]
    held = holding_data(connection, same)
    return [number for number in same if number not in held]
