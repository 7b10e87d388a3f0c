"""Step three for a feed: get the accepted records of a batch into its one continuous data set, once.

Data are visible at once and the data set is never closed, so everything that may stop a batch has acted
before its first request. One batch of a feed at a time is under way. What is in doubt is sent again, once it
can no longer be carried out late: by its origin id it replaces what is there. A batch that comes after a
later one leaves alone what Tidepool has answered for of that, verified or not; what the later one only meant
to write, or left in doubt, holds nobody back: it sends that again itself. What the data set then shows of the
batch decides whether it is done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from tidepool_ingest.client import (
    TidepoolDataSetClosedError,
    TidepoolNotFoundError,
    TidepoolUnreachableError,
)
from tidepool_ingest.ledger import DELETIONS, BatchState, DataSetRow, DataSetState, origin_digest
from tidepool_ingest.model.deduplicators import CONTINUOUS, Deduplicator
from tidepool_ingest.staging.work_area import Chunk
from tidepool_ingest.upload.context import UploadSummary
from tidepool_ingest.upload.feeds.payload import BatchWrites, FeedContents, FeedRecords
from tidepool_ingest.upload.feeds.resolver import Feed, FeedError, FeedKeeper, check_data_set_type
from tidepool_ingest.upload.feeds.verify import (
    FeedComparison,
    FeedVerificationError,
    compare_feed,
    predicted_drops,
    windows_of,
)
from tidepool_ingest.upload.guarded_requests import Caution, Pace
from tidepool_ingest.upload.normal import Attempt, BatchUpload
from tidepool_ingest.upload.sending import Load, Sending, StartOverError


class FeedWay:
    """To a continuous data set: each row by its ``origin.id``.

    What is sent again replaces what is there, or is dropped where the deduplicator does that. The one that
    does nothing has its rows removed first, each time, for an older version of them may be there too.

    :param records: the batch's.
    :param deduplicator: the data set's.
    :param writes: what the batch has written.
    """

    def __init__(self, records: FeedRecords, deduplicator: Deduplicator, writes: BatchWrites) -> None:
        self._records = records
        self._writes = writes
        self._removes = deduplicator.keeps_repeats

    def load(self, chunk: Chunk) -> Load:
        """Read a chunk without what later batches have replaced."""
        records = list(self._records.of(chunk))
        selectors = [{"origin": {"id": one}} for record in records for one in record.origin_ids]
        origins = [(record.ordinal, origin_digest(one)) for record in records for one in record.origin_ids]
        return Load([record.identified for record in records], selectors, origins)

    def removes_first(self, *, in_doubt: bool) -> bool:
        """Remove what is there under a deduplicator that would keep both."""
        return self._removes

    def begin(self, chunk: Chunk) -> None:
        """Let earlier batches write over it, until it is there again."""
        self._writes.forget([chunk.index])

    def stored(self, chunk: Chunk, load: Load, refused: AbstractSet[int]) -> None:
        """Note what earlier batches have to leave alone from now on."""
        self._writes.note(chunk.index, [digest for ordinal, digest in load.origins if ordinal not in refused])


log = logging.getLogger(__name__)

SELECTORS_A_REQUEST = 500
"""Records deleted by one request; half of what Tidepool advises to send in one."""


class ContinuousUpload(BatchUpload):
    """One batch on its way into the continuous data set of its feed; its parts are those of any upload."""

    def run(self) -> UploadSummary:
        """Bring the batch to verified, from wherever an earlier attempt left it.

        :raises LeaseHeldError: if another batch of the feed stays under way for too long.
        :raises FeedError: if the feed's data set cannot be used.
        :raises FeedVerificationError: if what is visible stays unlike what was sent.
        :raises UploadStoppedError: if it was told to stop.
        """
        job = self._job
        check_data_set_type(job.body["dataSetType"], CONTINUOUS)
        feed = Feed(job.batch.api_host, job.batch.user_id, job.body)
        timing = job.timing
        with job.ledger.leases.held(feed.lease_name, seconds=timing.lease, wait=timing.close_turn) as lease:
            pace = Pace(job.ledger.slow_downs, job.batch.api_host, timing.patience)
            caution = Caution(timing, pace, (lease,), (self._stopping,))
            return _Attempt(feed, job, lease, caution, self._on_open).run()


class _Attempt(Attempt):
    """What one holder of the feed's claim does for one batch."""

    def __init__(self, feed: Feed, *parts: Any, **more: Any) -> None:
        super().__init__(*parts, **more)
        self._feed = feed

    def _until_verified(self) -> UploadSummary:
        job = self._job
        keeper = FeedKeeper(
            job.client, job.ledger, self._feed, self._lease, self._caution, attempts=job.timing.attempts
        )
        row, upload_id = keeper.data_set()
        self._on_open(upload_id)
        records = FeedRecords(
            job.work,
            job.prepared,
            job.ledger.feed_writes.later_than(row.id, job.batch),
            looks_inside=job.deduplicator.may_drop,
        )
        contents = records.contents()
        self._predict(contents, upload_id)
        self._refused.check()
        writes = BatchWrites(job.ledger, row.id, job.batch.id, self._lease)
        data_set = self._taken_up(upload_id, contents, writes)
        self._tell_superseded(contents)
        try:
            self._delete(data_set, contents, writes)
            comparison = self._sent(data_set, records, contents, writes)
        except StartOverError:
            raise self._why_not(upload_id) from None
        finally:
            self._refused.finish()
        if not comparison.is_exact:
            writes.forget(_not_shown(records, comparison))
        return self._verified(data_set, contents, comparison)

    # ---------------------------------------------------------------- where an earlier attempt left it

    def _taken_up(self, upload_id: str, contents: FeedContents, writes: BatchWrites) -> DataSetRow:
        """Return the batch's share in the data set, as the ledger keeps it; begin it if there is none."""
        job, latest = self._job, self._latest()
        is_same = latest is not None and self._has_same_chunks(latest)
        unfinished = latest if latest is not None and latest.state is DataSetState.OPEN else None
        if not is_same:
            writes.forget_chunks()
        if unfinished is not None and is_same and unfinished.upload_id == upload_id:
            job.ledger.data_sets.taken_up_by(unfinished.id, job.origin, lease=self._lease)
            log.info("Going on with data set %s.", upload_id)
            return unfinished
        return job.ledger.data_sets.begin_opening(
            job.batch.id,
            data_set_type=CONTINUOUS,
            deduplicator=job.deduplicator.name,
            expected_rows=len(contents.rows),
            origin=job.origin,
            upload_id=upload_id,
            instead_of=None if unfinished is None else unfinished.id,
            lease=self._lease,
        )

    def _has_same_chunks(self, latest: DataSetRow) -> bool:
        known = self._job.ledger.data_sets.chunks_of(latest.id)
        return all(
            known[chunk.index].digest == chunk.digest
            for chunk in self._job.prepared.chunks
            if chunk.index in known
        )

    # ---------------------------------------------------------------- the steps

    def _tell_superseded(self, contents: FeedContents) -> None:
        if contents.superseded:
            log.warning(
                "%d records of %s are left out: later batches of this feed have replaced or deleted them.",
                contents.superseded,
                self._job.batch.label,
            )

    def _predict(self, contents: FeedContents, upload_id: str) -> None:
        """Find what the deduplicator would drop, before anything is sent, and leave it out."""
        job = self._job
        contents.leave_out(self._refused.ordinals)
        if job.deduplicator.may_drop and contents.rows:
            shown = self._caution.ask(lambda: list(self._shown(upload_id, contents)))
            dropped = predicted_drops(
                contents, shown, job.deduplicator, user_id=job.batch.user_id, upload_id=upload_id
            )
            self._refused.note_dropped(dropped)
            contents.leave_out(self._refused.ordinals)

    def _delete(self, data_set: DataSetRow, contents: FeedContents, writes: BatchWrites) -> None:
        """Delete what the batch asks to be deleted; doing so again is no error."""
        selectors = [{"origin": {"id": deletion.id}} for deletion in contents.deletes]
        for start in range(0, len(selectors), SELECTORS_A_REQUEST):
            self._until_answered(data_set, selectors[start : start + SELECTORS_A_REQUEST])
        if selectors:
            writes.note_deletions(contents)

    def _until_answered(self, data_set: DataSetRow, selectors: Sequence[dict[str, Any]]) -> None:
        job = self._job
        for attempt in range(job.timing.attempts):
            try:
                self._caution.send(lambda: job.client.delete_data(str(data_set.upload_id), selectors))
            except TidepoolUnreachableError as error:
                if attempt + 1 == job.timing.attempts:
                    raise
                job.counts.repairs += error.ambiguous
                self._caution.pause(attempt, error)
            except (TidepoolDataSetClosedError, TidepoolNotFoundError):
                raise StartOverError("it takes no deletions any more") from None
            else:
                return

    def _sent(
        self, data_set: DataSetRow, records: FeedRecords, contents: FeedContents, writes: BatchWrites
    ) -> FeedComparison:
        """Send what is not there, and what turns out not to be there as it was sent."""
        job = self._job
        way = FeedWay(records, job.deduplicator, writes)
        sending = Sending(job, data_set, self._lease, self._caution, self._refused, way)
        sending.send(job.prepared.chunks)
        contents.leave_out(self._refused.ordinals)
        comparison = self._look(data_set, contents)
        for _ in range(job.timing.attempts - 1):
            if comparison.is_exact or comparison.deleted:
                break
            log.warning("%s", FeedVerificationError(comparison).what)
            again = {records.chunk_of(ordinal).index for ordinal in comparison.wrong}
            if comparison.undeleted:
                self._delete(data_set, contents, writes)
            sending.send(job.prepared.chunks, again)
            contents.leave_out(self._refused.ordinals)
            comparison = self._look(data_set, contents)
        return comparison

    def _look(self, data_set: DataSetRow, contents: FeedContents) -> FeedComparison:
        give_up = time.monotonic() + self._job.timing.visible_poll
        while True:
            comparison = self._caution.ask(
                lambda: compare_feed(contents, self._shown(str(data_set.upload_id), contents))
            )
            if comparison.is_exact or time.monotonic() >= give_up:
                return comparison
            time.sleep(self._job.timing.visible_poll)

    def _shown(self, upload_id: str, contents: FeedContents) -> Iterator[dict[str, Any]]:
        """Yield what the data set shows at the times of the batch's records."""
        job = self._job
        for start, end in windows_of(contents):
            rows = job.client.read_data(job.batch.user_id, upload_id=upload_id, start=start, end=end)
            yield from self._caution.watch(rows)

    def _why_not(self, upload_id: str) -> FeedError:
        """Return why the data set takes nothing any more."""
        try:
            is_open = self._caution.ask(lambda: self._job.client.is_open(upload_id))
        except TidepoolNotFoundError:
            return FeedError("feed-missing", upload_id)
        return FeedError("feed-missing" if is_open else "feed-closed", upload_id)

    def _verified(
        self,
        data_set: DataSetRow,
        contents: FeedContents,
        comparison: FeedComparison,
    ) -> UploadSummary:
        if comparison.deleted:
            raise FeedError("feed-deleted", str(data_set.upload_id))
        if not comparison.is_exact:
            raise FeedVerificationError(comparison)
        self._job.ledger.data_sets.set_state(
            data_set.id,
            DataSetState.VERIFIED,
            expected_rows=comparison.expected,
            visible_rows=comparison.visible,
            lease=self._lease,
        )
        self._set_batch(BatchState.VERIFIED)
        log.info(
            "%s is verified in data set %s: %d rows are visible, each once; %d records were deleted.",
            self._job.batch.label,
            data_set.upload_id,
            comparison.visible,
            len(contents.deletes),
        )
        return self._summary(
            data_set,
            expected=comparison.expected,
            visible=comparison.visible,
            superseded=contents.superseded,
            deleted=len(contents.deletes),
        )


def _not_shown(records: FeedRecords, comparison: FeedComparison) -> set[int]:
    """Return the parts of a batch of which something is not shown, or is still shown."""
    chunks = {records.chunk_of(ordinal).index for ordinal in comparison.wrong}
    return chunks | {DELETIONS} if comparison.undeleted else chunks
