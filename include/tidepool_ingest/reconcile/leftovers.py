"""Data sets that cannot be brought to an end are deleted; none is closed half."""

from __future__ import annotations

import threading
from functools import partial

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import BatchRow, BatchState, DataSetRow, DataSetState, Ledger, lease_of_batch
from tidepool_ingest.tidepool import TidepoolClient, TidepoolNotFoundError
from tidepool_ingest.upload.caution import Caution
from tidepool_ingest.upload.deleting import delete_data_set
from tidepool_ingest.upload.pace import Pace
from tidepool_ingest.upload.shown import Shown
from tidepool_ingest.upload.timing import Timing
from tidepool_ingest.upload.windows import rows_of_set


class UnverifiableError(IngestError):
    """A closed data set shows rows, and nothing is left to compare them with.

    :param batch: the batch's label.
    """

    disposition: Disposition = Disposition.DATA

    def __init__(self, batch: str) -> None:
        super().__init__(
            f"Batch {batch} is closed and shows records, but was never verified, and its work area and "
            "staged files are gone or hold something else. It is left as it is.",
            remedy="Stage the batch again where it lay, and run its day; or delete the data set.",
            code="unverifiable",
        )


class Leftovers:
    """Deletes the unfinished data sets of one batch.

    :param client: speaks to Tidepool.
    :param ledger: remembers each step.
    :param batch: the batch.
    :param timing: how long steps may take.
    :param stopping: set when the job has to stop.
    """

    def __init__(
        self,
        client: TidepoolClient,
        ledger: Ledger,
        batch: BatchRow,
        timing: Timing,
        stopping: threading.Event,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._batch = batch
        self._timing = timing
        self._stopping = stopping

    def delete(self) -> int:
        """Delete what is unfinished; return how many data sets that were.

        A closed set that shows anything is left: it may be all that is left of the data, and rows of it may
        rightly be hidden by newer ones.

        :raises UnverifiableError: there is such a set.
        :raises LeaseHeldError: if another task is at work on the batch.
        """
        deleted = 0
        name = lease_of_batch(self._batch.id)
        with self._ledger.leases.held(name, seconds=self._timing.lease) as lease:
            if self._ledger.batches.get(self._batch.id).state is not self._batch.state:
                return 0  # somebody has taken it up since it was looked at
            pace = Pace(self._ledger.slow_downs, self._batch.api_host, self._timing.patience)
            caution = Caution(self._timing, pace, (lease,), (self._stopping,))
            for data_set in self._ledger.data_sets.of_batch(self._batch.id):
                if data_set.state not in (DataSetState.OPENING, *DataSetState.unfinished()):
                    continue
                if data_set.upload_id is None:
                    self._ledger.data_sets.set_state(data_set.id, DataSetState.UNREACHABLE, lease=lease)
                else:
                    if self._shows_anything(data_set, caution):
                        raise UnverifiableError(self._batch.label)
                    delete_data_set(self._client, self._ledger, data_set, lease, caution)
                    deleted += 1
            if self._batch.state is BatchState.UPLOADING:
                # Nothing of it is at Tidepool any more; the reason why it could not go on is noted already.
                reason = self._ledger.batches.get(self._batch.id).reason
                self._ledger.batches.set_state(self._batch.id, BatchState.FAILED, reason=reason, lease=lease)
        return deleted

    def _shows_anything(self, data_set: DataSetRow, caution: Caution) -> bool:
        """Tell whether a set is closed, stands, and shows records."""
        if data_set.state not in (DataSetState.CLOSING, DataSetState.CLOSED):
            return False
        upload_id = str(data_set.upload_id)
        try:
            if caution.ask(lambda: self._client.is_open(upload_id)):
                return False
        except TidepoolNotFoundError:
            return False
        days = self._ledger.batch_days.of_batch(self._batch.id)
        read = partial(
            rows_of_set, self._client, self._batch.user_id, upload_id, days, self._timing.read_rows
        )
        shown = caution.ask(lambda: Shown(caution.watch(read())))
        return len(shown.rows) > 0 and not shown.deleted
