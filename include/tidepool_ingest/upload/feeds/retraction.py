"""Take what one batch of a feed has brought in out of the data set again, because a later batch retracts it.

Rows are told by their ``id``, which each one has from the batch that it came with: a version that an earlier
or a later batch has brought in stays. Only records that were staged with an ``id`` of their own are compared
by content. The batch keeps its place among those of its feed, so that earlier ones, whose versions it had
replaced, leave alone what it has written; later ones find nothing in their way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tidepool_ingest.ledger import BatchRow, origin_digest
from tidepool_ingest.model.origins import origin_id_of
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import PreparedBatch
from tidepool_ingest.texts import counted
from tidepool_ingest.upload.context import LeasedBatch
from tidepool_ingest.upload.feeds.payload import ExpectedRow, FeedRecords
from tidepool_ingest.upload.feeds.resolver import FeedError
from tidepool_ingest.upload.feeds.verify import is_version, windows_of
from tidepool_ingest.upload.read_back import Window
from tidepool_ingest.upload.record_ids import datum_id

log = logging.getLogger(__name__)

EVERYTHING: Final[Sequence[Window]] = ((None, None),)
"""What is read back where the times of the batch's records are not certain."""

WITHIN_A_RECORD: Final = ("", "bolus", "status")
"""The record itself, and the fields that hold another datum; see ``embedded_data`` of the model."""

Delete = Callable[[Iterable[str]], None]
"""Deletes rows of the data set by their ``id``; deleting them again is no error."""

Shown = Callable[[Sequence[Window]], Iterable[Mapping[str, Any]]]
"""Yields what the data set shows in some periods."""


class Retraction:
    """What a batch does about the one that it retracts, as the holder of the feed's lease.

    :param leased: the retracting batch.
    :param number: the ledger's number of the batch that it retracts.
    :param feed: the feed's number.
    :param data_set_id: the feed's data set.
    """

    def __init__(self, leased: LeasedBatch, number: int, feed: int, data_set_id: str) -> None:
        self._leased = leased
        self._feed = feed
        self._data_set_id = data_set_id
        self._batch: BatchRow = leased.ledger.batches.get(number)

    def check(self) -> None:
        """Make sure that the batch is one of this feed.

        :raises BatchError: ``retracts-other-feed``.
        """
        shares = self._leased.ledger.data_sets.of_batch(self._batch.id)
        if any(share.data_set_id != self._data_set_id for share in shares):
            raise BatchError("retracts-other-feed", batch=self._leased.batch.label)

    def carry_out(self, delete: Delete, shown: Shown) -> Retracted:
        """Delete the rows that the batch has brought in, until none of them is visible.

        It is recorded first that the batch is withdrawn: if this is interrupted, no run uploads it again.

        :param delete: deletes rows.
        :param shown: reads the data set back.
        :raises BatchError: ``work-area-damaged``: the records of the batch cannot be read.
        :raises FeedError: somebody has deleted the data set.
        """
        requests = self._leased.requests
        self._leased.ledger.data_sets.retract(self._batch.id, lease=self._leased.lease)
        found = self._rows()
        delete(found.sent)
        still_there: AbstractSet[str] = frozenset()
        for _ in range(self._leased.context.timeouts.attempts):
            still_there = requests.read_until_visible(
                lambda: self._visible(found, shown),
                is_settled=lambda visible: not visible,
                amount=lambda visible: -len(visible),
            )
            if not still_there:
                break
            delete(sorted(still_there))
        log.info(
            "%s retracts %s: %d of %s still visible, %d more had been written or deleted by later batches. "
            "Versions that it had replaced do not come back: to show them, stage the batches that hold them "
            "again.",
            self._leased.batch.label,
            self._batch.label,
            len(still_there),
            counted(found.rows, "row"),
            found.superseded,
        )
        return replace(found, undeleted=len(still_there))

    def _rows(self) -> Retracted:
        """Return which rows of the data set are those of the batch."""
        ledger = self._leased.ledger
        context = self._leased.context
        prepared = context.prepared(self._batch)
        later = ledger.feed_writes.later_than(self._feed, self._batch)
        leased = replace(
            self._leased, batch=self._batch, work=context.work_area(self._batch), prepared=prepared
        )
        records = FeedRecords(leased, frozenset(), with_stored_form=False)
        payload = records.payload()
        superseded = {origin for origin in payload.rows if origin_digest(origin) in later}
        sent = [
            chunk
            for share in ledger.data_sets.of_batch(self._batch.id)
            for chunk in ledger.data_sets.chunks_of(share.id).values()
        ]
        indexes = {chunk.chunk_index for chunk in sent}
        planned = {chunk.index: chunk.digest for chunk in prepared.chunks}
        matches_sent = all(planned.get(chunk.chunk_index) == chunk.digest for chunk in sent)
        records_sent = sum(chunk.records for chunk in sent)
        derived = [row.id for row in payload.rows.values() if not row.has_own_id]
        rejected = ledger.rejections.of_batch(self._batch.id)
        brought_in = [
            origin
            for origin, row in payload.rows.items()
            if origin not in superseded and row.ordinal not in rejected
            if records.chunk_of(row.ordinal).index in indexes
        ]
        return Retracted(
            rows=len(brought_in),
            superseded=len(superseded),
            sent=derived,
            ids=frozenset(derived if matches_sent else _every_id(prepared, records_sent)),
            of_own_id={
                origin: row
                for origin, row in payload.rows.items()
                if row.has_own_id
                and origin not in superseded
                and records.chunk_of(row.ordinal).index in indexes
            },
            windows=windows_of(payload) if matches_sent else EVERYTHING,
        )

    def _visible(self, found: Retracted, shown: Shown) -> AbstractSet[str]:
        """Return the ids of rows of the batch that the data set shows."""
        visible = set()
        for row in shown(found.windows):
            if row.get("type") == "upload":
                if row.get("deletedTime") is not None:
                    raise FeedError("feed-deleted", self._data_set_id)
            elif found.has(row):
                visible.add(str(row["id"]))
        return visible


@dataclass(frozen=True)
class Retracted:
    """The rows that one batch has brought into a feed's data set.

    :param rows: how many of those that were sent no later batch has written or deleted.
    :param superseded: how many others have; where the deduplicator does not replace by origin id, they
        are visible beside what took their place, and so they are deleted too.
    :param sent: ids of those that are told by their id.
    :param ids: the same, and others that a row of the batch may have: validated by other rules than when it
        was sent, its records may be numbered otherwise now.
    :param of_own_id: those that were staged with an id of their own and sent, and that no later batch has
        written or deleted, by origin id.
    :param windows: the periods to read back.
    :param undeleted: how many are still visible.
    """

    rows: int
    superseded: int
    sent: Sequence[str] = field(repr=False)
    ids: AbstractSet[str] = field(repr=False)
    of_own_id: Mapping[str, ExpectedRow] = field(repr=False)
    windows: Sequence[Window]
    undeleted: int = 0

    def has(self, row: Mapping[str, Any]) -> bool:
        """Return whether a visible row is one of them.

        :param row: what the data set shows.
        """
        expected = self.of_own_id.get(origin_id_of(row) or "")
        return row.get("id") in self.ids or (expected is not None and is_version(expected, row))


def _every_id(prepared: PreparedBatch, sent: int) -> Iterable[str]:
    """Yield every id that a row of a batch may have, however its records were numbered when they were sent.

    :param prepared: its chunk plan.
    :param sent: how many records were sent, at most.
    """
    for ordinal in range(max(sent, prepared.travelling)):
        for name in WITHIN_A_RECORD:
            yield datum_id(prepared.content_key, ordinal, name)
