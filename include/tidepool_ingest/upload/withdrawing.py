"""A batch is taken back because a person says so: its data sets are deleted.

Deleting a closed set shows again what its close had archived. What later uploads of the device show stays as
it is: they take over what the deleted one had hidden.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import BatchRow, BatchState, Ledger, lease_of_batch
from tidepool_ingest.tidepool import TidepoolClient
from tidepool_ingest.upload import timing as timings
from tidepool_ingest.upload.caution import Caution
from tidepool_ingest.upload.deleting import delete_left
from tidepool_ingest.upload.pace import Pace
from tidepool_ingest.upload.timing import Timing
from tidepool_ingest.upload.turn import wait_for_device

log = logging.getLogger(__name__)

TAKES_BACK = (BatchState.VERIFIED, BatchState.UPLOADING, BatchState.WITHDRAWN)
"""States of a batch that can be withdrawn; again too, where the first time was interrupted."""


class NotWithdrawableError(IngestError):
    """The batch has nothing that could be taken back.

    :param batch: the batch's label.
    :param state: where it stands.
    """

    disposition: Disposition = Disposition.DATA

    def __init__(self, batch: str, state: str) -> None:
        super().__init__(
            f"Batch {batch} is {state}: nothing of it can be taken back.",
            remedy="Look at it again; somebody else may have been faster.",
            code="not-withdrawable",
        )


class BatchWithdrawal:
    """Takes one batch back.

    :param client: speaks to Tidepool.
    :param ledger: remembers each step.
    :param batch: the batch.
    :param timing: how long steps may take; ``timing.USUAL`` when left out.
    """

    def __init__(
        self, client: TidepoolClient, ledger: Ledger, batch: BatchRow, *, timing: Timing | None = None
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._batch = batch
        self._timing = timing or timings.USUAL
        self._stopping = threading.Event()

    def run(self) -> int:
        """Delete the batch's data sets, and return how many were deleted.

        Its state is noted first: whatever happens in between, no run uploads it again, and the maintenance
        job deletes what is left. A continuous data set is shared by all batches of its feed and stays.

        :raises NotWithdrawableError: if there is nothing to take back.
        :raises LeaseHeldError: if another task is at work on the batch or its device.
        """
        ledger, timing, number = self._ledger, self._timing, self._batch.id
        with ledger.leases.held(lease_of_batch(number), seconds=timing.lease) as lease:
            batch = ledger.batches.get(number)
            if batch.state not in TAKES_BACK or batch.data_set_type != "normal":
                raise NotWithdrawableError(batch.label, batch.state)
            pace = Pace(ledger.slow_downs, batch.api_host, timing.patience)
            caution = Caution(timing, pace, (lease,), (self._stopping,))
            with ExitStack() as turn:
                device = wait_for_device(turn, ledger, batch, timing, caution)
                ledger.batches.set_state(number, BatchState.WITHDRAWN, lease=lease)
                deleted = delete_left(self._client, ledger, number, lease, caution.under(device))
        log.info("%s is withdrawn: %d data sets are deleted.", self._batch.label, deleted)
        return deleted

    def stop(self) -> None:
        """Let :meth:`run` end before its next request; quick, and safe to call from a signal handler."""
        self._stopping.set()
