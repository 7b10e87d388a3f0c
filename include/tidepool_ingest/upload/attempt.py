"""One attempt to upload a batch, as the holder of a lease: how it begins, and how it ends.

What the ledger knows is read, and that the batch is being uploaded is recorded, in the transaction that takes
the lease; that it is verified, in the one that releases it.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import (
    HeldError,
    SupersededBatchError,
    WithdrawnError,
    check_not_superseded,
    check_not_withdrawn,
)
from tidepool_ingest.ledger import BatchState, DataSetRow, DataSetState, Lease
from tidepool_ingest.texts import counted
from tidepool_ingest.upload.context import LeasedBatch, UploadContext, UploadSummary
from tidepool_ingest.upload.isolation import Isolation
from tidepool_ingest.upload.rejections import RejectedRecords

log = logging.getLogger(__name__)


class UploadAttempt(ABC):
    """One attempt to upload a batch, by the holder of a lease.

    :param leased: the batch.
    """

    def __init__(self, leased: LeasedBatch) -> None:
        self._leased = leased
        self._rejected = RejectedRecords(leased)
        self._isolation = Isolation()
        self._known: Sequence[DataSetRow] | None = None

    def begin(self) -> None:
        """Record that it is being uploaded, unless it is done; in the transaction that takes the lease.

        :raises SupersededBatchError: another batch has taken its place.
        :raises WithdrawnError: somebody has undone its upload.
        """
        ledger, options = self._leased.ledger, self._leased.context.options
        batch = ledger.batches.get(self._leased.batch.id)
        check_not_superseded(batch)
        check_not_withdrawn(batch, force=options.force)
        self._known = ledger.data_sets.of_batch(batch.id)
        if self._done() is None:
            if not ledger.batches.begin_upload(batch.id, lease=self._leased.lease):
                raise SupersededBatchError(batch.label)
        elif batch.state is not BatchState.VERIFIED:
            # The attempt that verified the data set ended before it could record that of the batch.
            ledger.batches.mark_verified(batch.id, lease=self._leased.lease)

    def run(self) -> UploadSummary:
        """Upload the batch until it is verified; resume what an earlier attempt began."""
        if done := self._done():
            return self._summary_of_done(done)
        with self._failure_recorded():
            return self._until_verified()

    @abstractmethod
    def _until_verified(self) -> UploadSummary:
        """Take the steps that remain."""

    def _rows(self) -> Sequence[DataSetRow]:
        """Return the batch's data sets, oldest first: nobody else changes them while the lease lasts."""
        if self._known is None:
            self._known = self._leased.ledger.data_sets.of_batch(self._leased.batch.id)
        return self._known

    def _latest(self) -> DataSetRow | None:
        rows = self._rows()
        return rows[-1] if rows else None

    def _done(self) -> DataSetRow | None:
        """Return the data set that makes the batch one of which nothing is left to do."""
        latest = self._latest()
        if latest is None or latest.state is not DataSetState.VERIFIED or latest.data_set_id is None:
            return None
        if latest.verified_at is None:
            return None  # one from before an upload on purpose, which an attempt had noted before it ended
        origin, options = self._leased.context.origin, self._leased.context.options
        if options.force and not latest.was_verified_by(origin.run_id, options.asked_at):
            return None
        return latest

    def _summary_of_done(self, latest: DataSetRow) -> UploadSummary:
        data_set_id = str(latest.data_set_id)
        self._leased.context.on_open(data_set_id)
        rows = latest.visible_rows or 0
        log.info(
            "%s is verified already: data set %s shows its %s. There is nothing to send.",
            self._leased.batch.label,
            data_set_id,
            counted(rows, "row"),
        )
        return UploadSummary(data_set_id, latest.state, latest.expected_rows, rows)

    def _record_verified(
        self,
        data_set: DataSetRow,
        *leases: Lease,
        expected_rows: int,
        visible_rows: int,
        superseded_rows: int | None = None,
    ) -> None:
        """Record what was seen of the data set, and that the batch is verified; release its lease with that.

        :param leases: further ones that are needed no more.
        """
        leased = self._leased
        leased.work.checked_quarantine(leased.prepared)  # what is not visible has to be there
        with leased.lease.last_writing(*leases):
            leased.ledger.data_sets.mark_verified(
                data_set.id,
                expected_rows=expected_rows,
                visible_rows=visible_rows,
                superseded_rows=superseded_rows,
                lease=leased.lease,
            )
            leased.ledger.batches.mark_verified(leased.batch.id, lease=leased.lease)

    def _summary(
        self, data_set: DataSetRow, *, expected: int, visible: int, superseded: int = 0, deleted: int = 0
    ) -> UploadSummary:
        """Return the outcome of the attempt, now that the data set is verified.

        :param expected: rows that the records make.
        :param visible: rows that Tidepool shows.
        :param superseded: records of a feed that a later batch had replaced or deleted.
        :param deleted: records of a feed that were deleted at the batch's request.
        """
        counts = self._leased.counts
        return UploadSummary(
            str(data_set.data_set_id),
            DataSetState.VERIFIED,
            expected,
            visible,
            counts.sent,
            counts.resumed,
            counts.repairs,
            superseded,
            deleted,
            self._leased.prepared.size,
        )

    @contextmanager
    def _failure_recorded(self) -> Iterator[None]:
        try:
            yield
        except (SupersededBatchError, WithdrawnError):
            raise
        except IngestError as error:
            if error.disposition is not Disposition.RETRIABLE:
                self._record_failure(error)
            raise

    def _record_failure(self, error: IngestError) -> None:
        self._known = None
        latest = self._latest()
        may_hold_data = latest is not None and latest.state.may_hold_data
        batches = self._leased.ledger.batches
        hold_or_fail = batches.hold if isinstance(error, HeldError) else batches.mark_failed
        mark = batches.mark_unfinished if may_hold_data else hold_or_fail
        number, lease = self._leased.batch.id, self._leased.lease
        if latest is not None and latest.state is DataSetState.VERIFIED and latest.verified_at:
            # It was to be uploaded anew on purpose, and nothing was opened for that.
            batches.mark_verified(number, lease=lease)
        else:
            mark(number, error.code, error.particulars, lease=lease)
        # Errors of the client name the data set and the user's short hash, not the batch or its part.
        log.info("%s stops here (%s).", self._leased.batch.label, error.code)


Attempt = TypeVar("Attempt", bound=UploadAttempt)


@contextmanager
def begun(
    context: UploadContext, name: str, attempt_under: Callable[[Lease], Attempt], *, wait: float = 0.0
) -> Iterator[Attempt]:
    """Take a lease and begin an attempt in one transaction; hold the lease in the ``with`` block.

    :param name: the lease's.
    :param attempt_under: returns the attempt, given the lease.
    :param wait: how many seconds to wait for another holder.
    :raises LeaseHeldError: if another task still holds it after that.
    """
    attempts: list[Attempt] = []

    def begin(lease: Lease) -> None:
        attempt = attempt_under(lease)
        attempt.begin()
        attempts.append(attempt)

    with context.hold(name, wait=wait, begin=begin):
        yield attempts[-1]
