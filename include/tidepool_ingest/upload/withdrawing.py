"""A batch is taken back because a person says so: its data sets are deleted.

Deleting a closed set shows again what its close had archived. What later uploads of the device show stays as
it is: they take over what the deleted one had hidden.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import BatchRow, BatchState, Ledger
from tidepool_ingest.tidepool import TidepoolClient
from tidepool_ingest.upload import timing as timings
from tidepool_ingest.upload.caution import Caution
from tidepool_ingest.upload.deleting import claims_on, left_of, take_back
from tidepool_ingest.upload.pace import Pace
from tidepool_ingest.upload.timing import Timing
from tidepool_ingest.upload.turn import wait_for_device

log = logging.getLogger(__name__)

TAKES_BACK = (BatchState.VERIFIED, BatchState.UPLOADING, BatchState.WITHDRAWN)
"""States of a batch that can be withdrawn; again too, where the first time was interrupted."""

STOPPED = (BatchState.HELD, BatchState.FAILED)
"""States in which a batch that is cut into parts may show some of them; those can be withdrawn too."""


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
        with ExitStack() as stack, ExitStack() as turn:
            claims = claims_on(stack, ledger, number, timing.lease)
            batch = ledger.batches.get(number)
            if not self._can_be_taken_back(batch, list(claims)):
                raise NotWithdrawableError(batch.label, batch.state)
            pace = Pace(ledger.slow_downs, batch.api_host, timing.patience)
            caution = Caution(timing, pace, tuple(claims.values()), (self._stopping,))
            covered = caution.under(wait_for_device(turn, ledger, batch, timing, caution))
            deleted = take_back(self._client, ledger, number, BatchState.WITHDRAWN, claims, covered)
        log.info("%s is withdrawn: %d data sets are deleted.", self._batch.label, deleted)
        return deleted

    def _can_be_taken_back(self, batch: BatchRow, numbers: list[int]) -> bool:
        """Tell whether there is something to take back: of a part, nothing is without the others."""
        if batch.data_set_type != "normal" or batch.part_of is not None:
            return False
        stopped = batch.state in STOPPED and any(left_of(self._ledger, one) for one in numbers)
        return batch.state in TAKES_BACK or stopped

    def stop(self) -> None:
        """Let :meth:`run` end before its next request; quick, and safe to call from a signal handler."""
        self._stopping.set()
