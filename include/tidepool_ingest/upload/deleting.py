"""The way out where nothing else is safe: a data set is deleted.

A corrected batch: what it replaces is deleted once it shows itself.

The hash keeps a changed glucose value beside the old one, so closing the corrected batch is not enough. The
other way round, deleting first, would show what the old one had hidden in between.

A batch is taken back because a person says so: its data sets are deleted.

Deleting a closed set shows again what its close had archived. What later uploads of the device show stays as
it is: they take over what the deleted one had hidden.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import ExitStack

from tidepool_ingest.client import TidepoolClient, TidepoolNotFoundError
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import (
    BatchRow,
    BatchState,
    DataSetRow,
    DataSetState,
    Lease,
    Ledger,
    lease_of_batch,
)
from tidepool_ingest.model.deduplicators import NORMAL
from tidepool_ingest.upload import guarded_requests as timings
from tidepool_ingest.upload.closing import wait_for_device
from tidepool_ingest.upload.guarded_requests import Caution, Pace, Timing

log = logging.getLogger(__name__)


def delete_data_set(
    client: TidepoolClient, ledger: Ledger, data_set: DataSetRow, lease: Lease, caution: Caution
) -> None:
    """Delete a data set, once nothing that was asked for can be carried out in it any more.

    :param client: speaks to Tidepool.
    :param ledger: remembers each step.
    :param data_set: any one that was opened; deleting it again is no error.
    :param lease: the claim on its batch, under which the ledger is written.
    :param caution: covers the request.
    :raises ValueError: it is a continuous one, which holds what all batches of its feed have brought.
    """
    if data_set.data_set_type != NORMAL:
        raise ValueError("a continuous data set is never deleted")
    caution.settle()
    ledger.data_sets.set_state(data_set.id, DataSetState.DELETING, lease=lease)
    try:
        caution.send(lambda: client.delete_data_set(str(data_set.upload_id)))
    except TidepoolNotFoundError:
        log.info("Data set %s is gone already.", data_set.upload_id)
    ledger.data_sets.set_state(data_set.id, DataSetState.DELETED, lease=lease)


def left_of(ledger: Ledger, batch: int) -> list[DataSetRow]:
    """Return the data sets of a batch that may hold data, or are about to be opened, oldest first."""
    begun = ledger.data_sets.of_batch(batch)
    return [one for one in begun if one.state.may_hold_data or one.state is DataSetState.OPENING]


def claims_on(stack: ExitStack, ledger: Ledger, batch: int, seconds: float) -> dict[int, Lease]:
    """Claim a batch and all its parts, and return the claims by the number of each.

    :param stack: holds them.
    :param ledger: knows the parts.
    :param batch: the batch's number.
    :param seconds: how long a claim lasts without renewal.
    :raises LeaseHeldError: if another task is at work on any of them.
    """
    whole = {batch: stack.enter_context(ledger.leases.held(lease_of_batch(batch), seconds=seconds))}
    numbers = [part.id for part in ledger.parts.of_batch(batch)]
    return whole | {
        number: stack.enter_context(ledger.leases.held(lease_of_batch(number), seconds=seconds))
        for number in numbers
    }


def take_back(
    client: TidepoolClient,
    ledger: Ledger,
    batch: int,
    state: BatchState,
    claims: Mapping[int, Lease],
    caution: Caution,
) -> int:
    """Note that a batch and its parts are not to be uploaded any more, and delete all their data sets.

    :param client: speaks to Tidepool.
    :param ledger: remembers each step.
    :param batch: the batch's number.
    :param state: what it is from now on; noted first, of all parts at once.
    :param claims: see :func:`claims_on`.
    :param caution: covers the requests, under the claims on the batch, its parts and its device.
    :return: how many data sets were deleted.
    """
    ledger.parts.set_all(batch, state, lease=claims[batch])
    return sum(delete_left(client, ledger, one, lease, caution) for one, lease in claims.items())


def delete_left(client: TidepoolClient, ledger: Ledger, batch: int, lease: Lease, caution: Caution) -> int:
    """Delete every data set of a batch that may hold data, and return how many that were.

    The oldest goes first, so that none comes back to light by the deletion of one that hid it.

    :param client: speaks to Tidepool.
    :param ledger: remembers each step.
    :param batch: the batch's number; its state tells already that it is not to be uploaded any more.
    :param lease: the claim on it, under which the ledger is written.
    :param caution: covers the requests, under the claims on the batch and its device.
    """
    deleted = 0
    for data_set in left_of(ledger, batch):
        if data_set.upload_id is None:
            ledger.data_sets.set_state(data_set.id, DataSetState.UNREACHABLE, lease=lease)
        else:
            delete_data_set(client, ledger, data_set, lease, caution)
            deleted += 1
    return deleted


def delete_replaced(
    client: TidepoolClient, ledger: Ledger, batch: BatchRow, timing: Timing, caution: Caution
) -> bool:
    """Delete the data sets of the batch that this one replaces; tell whether there was any left to delete.

    Its state is noted first: whatever happens in between, it is never uploaded again.

    :param client: speaks to Tidepool.
    :param ledger: remembers each step.
    :param batch: the batch that replaces; all its records are visible.
    :param timing: how long steps may take.
    :param caution: covers the requests, under the claim on this batch.
    :raises LeaseHeldError: another task is at work on the other batch.
    """
    old = batch.replaces
    if old is None or not _left_of_all(ledger, old):
        return False
    with ExitStack() as stack, ExitStack() as turn:
        claims = claims_on(stack, ledger, old, timing.lease)
        covered = caution.under(*claims.values())
        covered = covered.under(wait_for_device(turn, ledger, batch, timing, covered))
        deleted = take_back(client, ledger, old, BatchState.CORRECTED, claims, covered)
        log.info("%s replaces batch %d: %d data sets are deleted.", batch.label, old, deleted)
    return True


def _left_of_all(ledger: Ledger, batch: int) -> bool:
    numbers = (batch, *(part.id for part in ledger.parts.of_batch(batch)))
    return any(left_of(ledger, number) for number in numbers)


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
    code = "not-withdrawable"
    sentence = "nothing of it can be taken back"
    remedy = "Look where the batch stands now; somebody else may have been faster."

    def __init__(self, batch: str, state: str) -> None:
        super().__init__(f"Batch {batch} is {state}: {self.sentence}.")


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
