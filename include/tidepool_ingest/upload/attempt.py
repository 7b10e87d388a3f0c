"""What the attempts to upload a batch have in common, whatever the type of its data set."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import (
    HeldError,
    InItsPlaceError,
    check_not_in_its_place,
    check_not_withdrawn,
)
from tidepool_ingest.ledger import BatchState, DataSetRow, DataSetState, Lease
from tidepool_ingest.upload.caution import Caution
from tidepool_ingest.upload.job import UploadJob
from tidepool_ingest.upload.refused import RefusedRecords
from tidepool_ingest.upload.summary import UploadSummary

log = logging.getLogger(__name__)


class Attempt(ABC):
    """What one holder of a claim does for a batch.

    :param job: the batch and what gets it into Tidepool.
    :param lease: the claim, under which the ledger is written.
    :param caution: covers the requests.
    :param on_open: told the data set's id the moment it is known.
    """

    def __init__(
        self,
        job: UploadJob,
        lease: Lease,
        caution: Caution,
        on_open: Callable[[str], None],
    ) -> None:
        self._job = job
        self._lease = lease
        self._caution = caution
        self._on_open = on_open
        self._refused = RefusedRecords(job, lease)

    def run(self) -> UploadSummary:
        """Bring the batch to verified, from wherever an earlier attempt left it."""
        batch = self._job.ledger.batches.get(self._job.batch.id)
        check_not_in_its_place(batch)
        check_not_withdrawn(batch, force=self._job.wishes.force)
        if done := self._done(batch.state):
            return done
        try:
            if not self._job.ledger.batches.begin_upload(batch.id, lease=self._lease):
                raise InItsPlaceError(batch.label)
            return self._until_verified()
        except InItsPlaceError:
            raise
        except IngestError as error:
            if error.disposition is not Disposition.RETRIABLE:
                self._note_failure(error)
            raise

    @abstractmethod
    def _until_verified(self) -> UploadSummary:
        """Do what is left to do."""

    def _latest(self) -> DataSetRow | None:
        begun = self._job.ledger.data_sets.of_batch(self._job.batch.id)
        return begun[-1] if begun else None

    def _done(self, state: BatchState) -> UploadSummary | None:
        latest = self._latest()
        if latest is None or latest.state is not DataSetState.VERIFIED or latest.upload_id is None:
            return None
        wishes = self._job.wishes
        if wishes.force and not latest.was_verified_by(self._job.origin.run_id, wishes.asked_at):
            return None
        if state is not BatchState.VERIFIED:
            # The attempt that verified the data set ended before it could note so of the batch.
            self._set_batch(BatchState.VERIFIED)
        self._on_open(latest.upload_id)
        rows = latest.visible_rows or 0
        return UploadSummary(latest.upload_id, latest.state, latest.expected_rows, rows)

    def _summary(
        self, data_set: DataSetRow, *, expected: int, visible: int, superseded: int = 0, deleted: int = 0
    ) -> UploadSummary:
        """Return what the attempt came to, now that the data set is verified.

        :param expected: rows that the records make.
        :param visible: rows that Tidepool shows.
        :param superseded: records of a feed that a later batch had replaced or deleted.
        :param deleted: records of a feed that were deleted as the batch asked.
        """
        counts = self._job.counts
        return UploadSummary(
            str(data_set.upload_id),
            DataSetState.VERIFIED,
            expected,
            visible,
            counts.sent,
            counts.resumed,
            counts.repairs,
            superseded,
            deleted,
            self._job.prepared.size,
        )

    def _note_failure(self, error: IngestError) -> None:
        latest = self._latest()
        begun = latest is not None and latest.state.may_hold_data
        ended = BatchState.HELD if isinstance(error, HeldError) else BatchState.FAILED
        self._set_batch(BatchState.UPLOADING if begun else ended, reason=error.code)
        # Errors of the client know the data set and the user's short hash, not the batch.
        log.error("%s cannot be uploaded: %s", self._job.batch.label, error)

    def _set_batch(self, state: BatchState, *, reason: str | None = None) -> None:
        self._job.ledger.batches.set_state(self._job.batch.id, state, reason=reason, lease=self._lease)
