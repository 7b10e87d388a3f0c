"""What the ledger knows of staged batches."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import and_, select, update

from tidepool_ingest.ledger.batch_rows import BatchRow, FoundBatch, KnownBatch, batch_row
from tidepool_ingest.ledger.database import Database, once_more_if_met, portions
from tidepool_ingest.ledger.distinct import distinct
from tidepool_ingest.ledger.errors import UnknownBatchError
from tidepool_ingest.ledger.leases import Lease, writing_under
from tidepool_ingest.ledger.noting import Noting
from tidepool_ingest.ledger.part_rows import IS_WHOLE
from tidepool_ingest.ledger.schema import batches
from tidepool_ingest.ledger.states import IN_ITS_PLACE, BatchState

NOTED_AT_ONCE = 300
"""Batches noted in one transaction: others wait for it no longer than for a few single ones."""


TIMES_MET = 20
"""How often others may have noted some of these just before: each time, fewer are left to be met."""


class Batches:
    """The table of staged batches.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, found: FoundBatch) -> BatchRow:
        """Note a ready batch, or return what is known of its content already.

        The same content staged in another folder is the same batch: it keeps its row and its history.

        :param found: the batch as it lies in staging.
        """
        return self.note_all([found])[0]

    def note_all(self, found: Sequence[FoundBatch]) -> list[BatchRow]:
        """Note ready batches as :meth:`note` does one after the other, some hundreds in one transaction.

        :param found: the batches as they lie in staging.
        :return: the batches in the same order.
        """
        noted: list[BatchRow] = []
        for start in range(0, len(found), NOTED_AT_ONCE):
            part = found[start : start + NOTED_AT_ONCE]
            noted += once_more_if_met(lambda part=part: self._note(part), TIMES_MET)  # type: ignore[misc]
        return noted

    def _note(self, found: Sequence[FoundBatch]) -> list[BatchRow]:
        with self._database.writing() as connection:
            return Noting(connection).note(found)

    def get(self, batch: int) -> BatchRow:
        """Return one batch.

        :raises UnknownBatchError: if there is none of that number.
        """
        with self._database.reading() as connection:
            row = connection.execute(select(batches).where(batches.c.id == batch)).one_or_none()
        if row is None:
            raise UnknownBatchError(batch)
        return batch_row(row)

    def get_all(self, numbers: Sequence[int]) -> list[BatchRow]:
        """Return the batches of these numbers that the ledger has, by number."""
        found: list[BatchRow] = []
        with self._database.reading() as connection:
            for some in portions(numbers):
                asked = select(batches).where(batches.c.id.in_(some)).order_by(batches.c.id)
                found += [batch_row(row) for row in connection.execute(asked)]
        return found

    def of_contents(self, api_host: str, content_keys: Sequence[str]) -> dict[str, KnownBatch]:
        """Return where the batches of these contents at this host stand, by content key.

        :param api_host: the host of the Tidepool API that they go to.
        :param content_keys: keys of ready batches.
        """
        found: dict[str, KnownBatch] = {}
        columns = [batches.c[name] for name in ("content_key", "id", "state", "reason", "folder")]
        with self._database.reading() as connection:
            for some in portions(content_keys):
                asked = select(*columns).where(
                    batches.c.api_host == api_host, batches.c.content_key.in_(some)
                )
                for key, number, state, reason, folder in connection.execute(asked):
                    found[key] = KnownBatch(number, BatchState(state), reason, folder)
        return found

    def days(self) -> list[date]:
        """Return the staged days of all batches, oldest first."""
        with self._database.reading() as connection:
            return distinct(connection, batches.c.day)

    def namesakes(self, api_host: str, user_id: str, batch_id: str) -> list[BatchRow]:
        """Return what the ledger knows under one user's batch id, whatever its content; parts excepted."""
        named = and_(batches.c.api_host == api_host, batches.c.user_id == user_id)
        asked = select(batches).where(named, batches.c.batch_id == batch_id, IS_WHOLE)
        with self._database.reading() as connection:
            return [batch_row(row) for row in connection.execute(asked)]

    def set_state(
        self, batch: int, state: BatchState, *, reason: str | None = None, lease: Lease | None = None
    ) -> None:
        """Note where a batch stands now.

        :param batch: its number.
        :param state: the new state.
        :param reason: code of the error or guard, for a batch that stopped.
        :param lease: the claim under which this is written.
        """
        self._set(batch, lease, state=state, reason=reason)

    def begin_upload(self, batch: int, *, lease: Lease | None = None) -> bool:
        """Note that a batch is being uploaded, unless another one shows in its place.

        :param batch: its number.
        :param lease: the claim under which this is written.
        :return: whether it may be uploaded.
        """
        with writing_under(self._database, lease) as connection:
            begun = connection.execute(
                update(batches)
                .where(batches.c.id == batch, batches.c.state.not_in(IN_ITS_PLACE))
                .values(state=BatchState.UPLOADING, reason=None, updated_at=datetime.now(UTC))
            )
        return bool(begun.rowcount)

    def set_counts(self, batch: int, **counts: int) -> None:
        """Note what became of a batch's records, whose work area is whole from now on.

        :param batch: its number.
        :param counts: ``staged``, ``accepted``, ``quarantined``, ``identical``, ``expected_rows``,
            ``chunks``.
        """
        self._set(batch, None, tidied=None, **counts)

    def note_cut(self, batch: int, part_records: int | None) -> None:
        """Note how many records a part of a batch holds at most; nothing for one that stays whole."""
        self._set(batch, None, part_records=part_records)

    def note_replaced(self, batch: int, replaces: int | None) -> None:
        """Note which batch another one replaces.

        :param batch: the number of the one that replaces.
        :param replaces: the number of the one that is replaced, if any.
        """
        self._set(batch, None, replaces=replaces)

    def _set(self, batch: int, lease: Lease | None, **values: Any) -> None:
        with writing_under(self._database, lease) as connection:
            changed = (
                update(batches).where(batches.c.id == batch).values(**values, updated_at=datetime.now(UTC))
            )
            connection.execute(changed)
