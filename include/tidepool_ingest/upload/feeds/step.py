"""Upload a batch of a feed to the feed's one continuous data set, once: find or open, send, verify.

Data are visible at once and the data set is never closed, so everything that may stop a batch acts before its
first request. One batch of a feed at a time is in progress. What is in doubt is sent again, once it can no
longer be carried out late: by its origin id it replaces what is there. A batch that is uploaded after a later
one leaves alone what Tidepool has confirmed of that one, verified or not. What the later one only intended to
write, or left in doubt, holds no other batch back: it sends that again itself. What the data set then shows
of the batch decides whether it is done.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from typing import Any

from tidepool_ingest.client import (
    TidepoolDataSetClosedError,
    TidepoolNotFoundError,
    TidepoolUnreachableError,
)
from tidepool_ingest.ledger import (
    DELETIONS,
    BatchRow,
    BatchState,
    DataSetRow,
    DataSetState,
    Lease,
    origin_digest,
)
from tidepool_ingest.model.deduplicators import CONTINUOUS, Deduplicator
from tidepool_ingest.staging.work_area import Chunk
from tidepool_ingest.texts import counted
from tidepool_ingest.upload.attempt import UploadAttempt, begun
from tidepool_ingest.upload.context import LeasedBatch, UploadContext, UploadSummary, data_set_body
from tidepool_ingest.upload.feeds.payload import FeedPayload, FeedRecords, FeedWriteLog
from tidepool_ingest.upload.feeds.resolver import Feed, FeedError, FeedResolver, check_data_set_type
from tidepool_ingest.upload.feeds.retraction import Retracted, Retraction
from tidepool_ingest.upload.feeds.verify import (
    FeedComparison,
    FeedVerificationError,
    compare_feed,
    predict_drops,
    windows_of,
)
from tidepool_ingest.upload.read_back import Window
from tidepool_ingest.upload.sending import ChunkPayload, Sending, StartOverError

log = logging.getLogger(__name__)

SELECTORS_PER_REQUEST = 500
"""Records deleted by one request; half of what Tidepool advises to send in one."""


def upload_to_feed(context: UploadContext, batch: BatchRow) -> UploadSummary:
    """Upload one batch of a feed until it is verified; resume what an earlier attempt began.

    :raises LeaseHeldError: if another batch of the feed stays in progress for too long.
    :raises FeedError: if the feed's data set cannot be used.
    :raises FeedVerificationError: if what is visible still differs from what was sent.
    :raises UploadStoppedError: if it was told to stop.
    """
    prepared = context.prepared(batch)
    body = data_set_body(prepared.data_set, context.settings)
    check_data_set_type(body["dataSetType"], CONTINUOUS)
    feed = Feed(batch.api_host, batch.user_id, body, prepared.converters)

    def attempt(lease: Lease) -> FeedAttempt:
        return FeedAttempt(LeasedBatch.of(context, batch, prepared, lease), feed)

    with begun(context, feed.lease_name, attempt, wait=context.timeouts.close_turn) as upload:
        return upload.run()


class FeedAttempt(UploadAttempt):
    """Uploads one batch into the data set of its feed, as the holder of the feed's lease.

    :param leased: the batch.
    :param feed: its feed.
    """

    def __init__(self, leased: LeasedBatch, feed: Feed) -> None:
        super().__init__(leased)
        self._feed = feed

    def _until_verified(self) -> UploadSummary:
        leased = self._leased
        row, data_set_id = FeedResolver(leased.context, self._feed, leased.lease, leased.requests).data_set()
        leased.context.on_open(data_set_id)
        retractions = self._retractions(row.id, data_set_id)
        later = leased.ledger.feed_writes.later_than(row.id, leased.batch)
        records = FeedRecords(leased, later, with_stored_form=leased.deduplicator.may_drop)
        payload = records.payload()
        self._leave_out_drops(payload, data_set_id)
        self._rejected.check()
        writes = FeedWriteLog(leased, row.id)
        data_set = self._resume_or_begin(data_set_id, payload, writes)
        self._report_superseded(payload)
        try:
            self._delete(data_set, payload, writes)
            comparison = self._send(data_set, records, payload, writes)
            retracted = 0
            if not comparison.is_exact:
                writes.forget(_not_shown(records, comparison))
            for retraction in retractions:
                if not comparison.is_exact:
                    break
                found = self._retract(data_set, retraction)
                retracted += found.rows
                comparison = replace(comparison, undeleted=found.undeleted)
        except StartOverError:
            raise self._why_unusable(data_set_id) from None
        finally:
            self._rejected.finish()
        return self._verified(data_set, payload, comparison, len(payload.deletes) + retracted)

    def _retractions(self, feed: int, data_set_id: str) -> list[Retraction]:
        """Return what is to be done about the batch that this one retracts, if it retracts one.

        If that one had begun to retract another one itself, nobody else would complete that: it comes first.
        """
        known = self._leased.ledger.batches
        number = known.get(self._leased.batch.id).replaces
        numbers: list[int] = []
        while number is not None and number not in numbers:
            numbers.insert(0, number)
            retracted = known.get(number)
            number = retracted.replaces
            if retracted.state in (BatchState.VERIFIED, BatchState.WITHDRAWN) or (
                number is not None and known.get(number).state is not BatchState.WITHDRAWN
            ):
                break
        retractions = [Retraction(self._leased, number, feed, data_set_id) for number in numbers]
        for retraction in retractions:
            retraction.check()
        return retractions

    def _retract(self, data_set: DataSetRow, retraction: Retraction) -> Retracted:
        """Delete what the batch that this one retracts has brought in."""

        def delete(ids: Iterable[str]) -> None:
            selectors = [{"id": one} for one in ids]
            for start in range(0, len(selectors), SELECTORS_PER_REQUEST):
                self._delete_until_answered(data_set, selectors[start : start + SELECTORS_PER_REQUEST])

        return retraction.carry_out(delete, partial(self._shown, str(data_set.data_set_id)))

    def _resume_or_begin(self, data_set_id: str, payload: FeedPayload, writes: FeedWriteLog) -> DataSetRow:
        """Return the batch's share in the data set, as the ledger records it; begin one if there is none."""
        leased, latest = self._leased, self._latest()
        is_same = latest is not None and self._has_same_chunks(latest)
        unfinished = latest if latest is not None and latest.state is DataSetState.OPEN else None
        if not is_same:
            writes.forget_chunks()
        if unfinished is not None and is_same and unfinished.data_set_id == data_set_id:
            leased.ledger.data_sets.set_origin(unfinished.id, leased.context.origin, lease=leased.lease)
            log.info("Resuming data set %s.", data_set_id)
            return unfinished
        return leased.ledger.data_sets.begin_opening(
            leased.batch.id,
            data_set_type=CONTINUOUS,
            deduplicator=leased.deduplicator.name,
            expected_rows=len(payload.rows),
            origin=leased.context.origin,
            data_set_id=data_set_id,
            instead_of=None if unfinished is None else unfinished.id,
            lease=leased.lease,
        )

    def _has_same_chunks(self, latest: DataSetRow) -> bool:
        known = self._leased.ledger.data_sets.chunks_of(latest.id)
        return all(
            known[chunk.index].digest == chunk.digest
            for chunk in self._leased.prepared.chunks
            if chunk.index in known
        )

    def _report_superseded(self, payload: FeedPayload) -> None:
        if payload.superseded:
            log.info(
                "%s: %s left out, because later batches of this feed have replaced or deleted them.",
                self._leased.batch.label,
                counted(payload.superseded, "record"),
            )

    def _leave_out_drops(self, payload: FeedPayload, data_set_id: str) -> None:
        """Find what the deduplicator would drop, before anything is sent, and leave that out."""
        leased = self._leased
        payload.leave_out(self._rejected.ordinals)
        if leased.deduplicator.may_drop and payload.rows:
            shown = leased.requests.read(lambda: list(self._shown(data_set_id, windows_of(payload))))
            dropped = predict_drops(
                payload, shown, leased.deduplicator, user_id=leased.batch.user_id, data_set_id=data_set_id
            )
            self._rejected.record_dropped(dropped)
            payload.leave_out(self._rejected.ordinals)

    def _delete(self, data_set: DataSetRow, payload: FeedPayload, writes: FeedWriteLog) -> None:
        """Carry out the batch's deletions; doing so again is no error."""
        selectors = [{"origin": {"id": deletion.id}} for deletion in payload.deletes]
        for start in range(0, len(selectors), SELECTORS_PER_REQUEST):
            self._delete_until_answered(data_set, selectors[start : start + SELECTORS_PER_REQUEST])
        if selectors:
            writes.record_deletions(payload)

    def _delete_until_answered(self, data_set: DataSetRow, selectors: Sequence[dict[str, Any]]) -> None:
        leased = self._leased
        for attempt in range(leased.context.timeouts.attempts):
            try:
                leased.requests.write(lambda: leased.client.delete_data(str(data_set.data_set_id), selectors))
            except TidepoolUnreachableError as error:
                if attempt + 1 == leased.context.timeouts.attempts:
                    raise
                leased.counts.repairs += error.in_doubt
                leased.requests.pause(attempt, error)
            except (TidepoolDataSetClosedError, TidepoolNotFoundError):
                raise StartOverError("it no longer takes deletions") from None
            else:
                return

    def _send(
        self, data_set: DataSetRow, records: FeedRecords, payload: FeedPayload, writes: FeedWriteLog
    ) -> FeedComparison:
        """Send what is not there, and send again what the read-back does not find as it was sent."""
        leased = self._leased
        strategy = FeedChunks(records, leased.deduplicator, writes)
        sending = Sending(leased, data_set, self._rejected, self._isolation, strategy)
        sending.send(leased.prepared.chunks)
        payload.leave_out(self._rejected.ordinals)
        comparison = self._verify(data_set, payload)
        for _ in range(leased.context.timeouts.attempts - 1):
            if comparison.is_exact or comparison.deleted:
                break
            log.info("%s What differs is sent again.", FeedVerificationError(comparison).what)
            again = {records.chunk_of(ordinal).index for ordinal in comparison.wrong}
            if comparison.undeleted:
                self._delete(data_set, payload, writes)
            sending.send(leased.prepared.chunks, again)
            payload.leave_out(self._rejected.ordinals)
            comparison = self._verify(data_set, payload)
        return comparison

    def _verify(self, data_set: DataSetRow, payload: FeedPayload) -> FeedComparison:
        return self._leased.requests.read_until_visible(
            lambda: compare_feed(payload, self._shown(str(data_set.data_set_id), windows_of(payload))),
            is_settled=lambda found: found.is_exact or found.deleted,
            amount=lambda found: -found.differences,
        )

    def _shown(self, data_set_id: str, windows: Sequence[Window]) -> Iterator[dict[str, Any]]:
        """Yield what the data set shows in the periods of a batch's records."""
        leased = self._leased
        for start, end in windows:
            rows = leased.client.read_data(
                leased.batch.user_id, data_set_id=data_set_id, start=start, end=end
            )
            yield from leased.requests.stream(rows)

    def _why_unusable(self, data_set_id: str) -> FeedError:
        """Return why the data set no longer takes data."""
        try:
            is_open = self._leased.requests.read(lambda: self._leased.client.is_open(data_set_id))
        except TidepoolNotFoundError:
            return FeedError("feed-missing", data_set_id)
        return FeedError("feed-missing" if is_open else "feed-closed", data_set_id)

    def _verified(
        self,
        data_set: DataSetRow,
        payload: FeedPayload,
        comparison: FeedComparison,
        deleted: int,
    ) -> UploadSummary:
        if comparison.deleted:
            raise FeedError("feed-deleted", str(data_set.data_set_id))
        if not comparison.is_exact:
            raise FeedVerificationError(comparison)
        self._record_verified(data_set, expected_rows=comparison.expected, visible_rows=comparison.visible)
        log.info(
            "%s is verified: data set %s shows its %s, each once%s.",
            self._leased.batch.label,
            data_set.data_set_id,
            counted(comparison.visible, "row"),
            f"; {counted(deleted, 'record')} deleted" if deleted else "",
        )
        return self._summary(
            data_set,
            expected=comparison.expected,
            visible=comparison.visible,
            superseded=payload.superseded,
            deleted=deleted,
        )


class FeedChunks:
    """Chunks of a continuous data set: a row is identified by its ``origin.id``.

    What is sent again replaces what is there, or is dropped where the deduplicator does that. Under the one
    that does nothing, rows are removed first, each time, since an older version of them may be there too.

    :param records: the batch's.
    :param deduplicator: the data set's.
    :param writes: what the batch has written.
    """

    def __init__(self, records: FeedRecords, deduplicator: Deduplicator, writes: FeedWriteLog) -> None:
        self._records = records
        self._writes = writes
        self._removes = deduplicator.keeps_repeats

    def load(self, chunk: Chunk) -> ChunkPayload:
        """Read a chunk without what later batches have replaced."""
        records = list(self._records.read_chunk(chunk))
        selectors = [{"origin": {"id": origin}} for record in records for origin in record.origin_ids]
        origins = [
            (record.ordinal, origin_digest(origin)) for record in records for origin in record.origin_ids
        ]
        return ChunkPayload([record.identified for record in records], lambda: selectors, origins)

    def removes_first(self, *, in_doubt: bool) -> bool:
        """Return whether the deduplicator would keep both versions of a row."""
        return self._removes

    def begin(self, chunk: Chunk) -> None:
        """Let earlier batches overwrite it, until it is there again."""
        self._writes.forget([chunk.index])

    def stored(self, chunk: Chunk, payload: ChunkPayload, rejected: AbstractSet[int]) -> None:
        """Record what earlier batches have to leave alone from now on."""
        self._writes.record(
            chunk.index, [digest for ordinal, digest in payload.origins if ordinal not in rejected]
        )


def _not_shown(records: FeedRecords, comparison: FeedComparison) -> set[int]:
    """Return the indexes of chunks whose rows are missing or wrong, and of deletions that failed."""
    chunks = {records.chunk_of(ordinal).index for ordinal in comparison.wrong}
    return chunks | {DELETIONS} if comparison.undeleted else chunks
