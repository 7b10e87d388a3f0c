"""Delete data sets, the way out where nothing else is safe.

One data set, because it cannot be completed; all of a batch, because a person withdraws it or another batch
replaces it. Deleting a closed set makes visible again what its close had archived. What later uploads of the
device show stays as it is: they take over what the deleted set had hidden.

A replaced batch is deleted once the batch that replaces it is visible. The hash keeps a changed glucose value
beside the old one, so closing the corrected batch is not enough. Deleting first would expose, in between,
what the old batch had hidden.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final

from tidepool_ingest.client import TidepoolNotFoundError
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards.marks import REPLACED, WITHDRAWN, Mark, with_mark
from tidepool_ingest.ledger import (
    BatchRow,
    BatchState,
    DataSetRow,
    DataSetState,
    Lease,
    Ledger,
    lease_of_batch,
)
from tidepool_ingest.model.deduplicators import NORMAL, inert_deduplicator
from tidepool_ingest.texts import counted
from tidepool_ingest.upload.closing import device_lock
from tidepool_ingest.upload.context import UploadContext
from tidepool_ingest.upload.discovery import UNKNOWN_DATA, Listing, delete_marked, listed
from tidepool_ingest.upload.guarded_requests import GuardedRequests

log = logging.getLogger(__name__)

WITHDRAWABLE = (BatchState.VERIFIED, BatchState.UPLOADING, BatchState.WITHDRAWN)
"""States of a batch that can be withdrawn; once more, too, if the first time was interrupted."""

STOPPED = (BatchState.HELD, BatchState.FAILED)
"""States in which some parts of a split batch may be visible; those can be withdrawn too."""


_UNDONE: Final = {BatchState.WITHDRAWN: WITHDRAWN, BatchState.REPLACED: REPLACED}
"""What the mark of an empty data set says of a batch, by its state."""


class NotWithdrawableError(IngestError):
    """The batch has nothing that could be withdrawn.

    :param batch: the batch's label.
    :param state: its state.
    """

    disposition: Disposition = Disposition.DATA
    code = "not-withdrawable"
    sentence = "nothing of it can be withdrawn"
    remedy = "Look where the batch stands now; somebody else may have been faster."

    def __init__(self, batch: str, state: str) -> None:
        super().__init__(f"Batch {batch} is {state}: {self.sentence}.")


def withdraw_batch(context: UploadContext, batch: BatchRow) -> int:
    """Delete the data sets of a batch at a person's request, and return how many were deleted.

    Its state is recorded first: if this is interrupted, no run uploads it again, and the maintenance job
    deletes what remains. A continuous data set is shared by all batches of its feed and stays.

    :raises NotWithdrawableError: if there is nothing to withdraw.
    :raises LeaseHeldError: if another task is working on the batch or its device.
    """
    with ExitStack() as stack:
        leases = _leases_on(stack, context, batch.id)
        current = context.ledger.batches.get(batch.id)
        if not _is_withdrawable(context.ledger, current, list(leases)):
            raise NotWithdrawableError(current.label, current.state)
        requests = context.guard(*leases.values())
        with device_lock(context, current, requests) as locked:
            deleted = _delete_all(context, batch.id, BatchState.WITHDRAWN, leases, locked)
    log.info("%s is withdrawn: %s deleted.", batch.label, counted(deleted, "data set"))
    return deleted


def delete_replaced(context: UploadContext, batch: BatchRow, requests: GuardedRequests) -> bool:
    """Delete the data sets of the batch that this one replaces; return whether any remained to be deleted.

    Its state is recorded first: if this is interrupted, it is still never uploaded again.

    :param batch: the replacing batch; all its records are visible.
    :param requests: guards the requests, under the lease on this batch.
    :raises LeaseHeldError: another task is working on the other batch.
    """
    old = batch.replaces
    if old is None or not _any_remaining(context.ledger, old):
        return False
    with ExitStack() as stack:
        leases = _leases_on(stack, context, old)
        # One lock for both: a batch replaces another of its own device only.
        with device_lock(context, batch, requests.with_leases(*leases.values())) as locked:
            deleted = _delete_all(context, old, BatchState.REPLACED, leases, locked)
        replaced = context.ledger.batches.get(old).label
        log.info("%s replaces %s: %s deleted.", batch.label, replaced, counted(deleted, "data set"))
    return True


def delete_data_set(
    context: UploadContext, data_set: DataSetRow, lease: Lease, requests: GuardedRequests
) -> None:
    """Delete a data set, once no earlier request can still change it.

    :param data_set: any that was opened; deleting it again is no error.
    :param lease: the lease on its batch, under which the ledger is written.
    :param requests: guards the request.
    :raises ValueError: it is a continuous one, which holds the data of all batches of its feed.
    """
    if data_set.data_set_type != NORMAL:
        raise ValueError("a continuous data set is never deleted")
    requests.wait_out_doubt()
    context.ledger.data_sets.begin_delete(data_set.id, lease=lease)
    try:
        requests.write(lambda: context.client.delete_data_set(str(data_set.data_set_id)))
    except TidepoolNotFoundError:
        log.info("Data set %s was already gone.", data_set.data_set_id)
    context.ledger.data_sets.mark_deleted(data_set.id, lease=lease)


def _is_withdrawable(ledger: Ledger, batch: BatchRow, numbers: list[int]) -> bool:
    """Return whether there is something to withdraw; a part is never withdrawn without the others."""
    if batch.data_set_type != NORMAL or batch.part_of is not None:
        return False
    stopped = batch.state in STOPPED and (
        batch.reason in UNKNOWN_DATA or any(_remaining(ledger, number) for number in numbers)
    )
    return batch.state in WITHDRAWABLE or stopped


def _any_remaining(ledger: Ledger, batch: int) -> bool:
    numbers = (batch, *(part.id for part in ledger.parts.of_batch(batch)))
    return any(_remaining(ledger, number) for number in numbers)


def _remaining(ledger: Ledger, batch: int) -> list[DataSetRow]:
    """Return the data sets of a batch that may hold data, or are about to be opened, oldest first."""
    data_sets = ledger.data_sets.of_batch(batch)
    return [
        data_set
        for data_set in data_sets
        if data_set.state.may_hold_data or data_set.state is DataSetState.OPENING
    ]


def _leases_on(stack: ExitStack, context: UploadContext, batch: int) -> dict[int, Lease]:
    """Acquire the leases on a batch and all its parts, and return them by number.

    :raises LeaseHeldError: if another task is working on any of them.
    """
    leases = {batch: stack.enter_context(context.hold(lease_of_batch(batch)))}
    for part in context.ledger.parts.of_batch(batch):
        leases[part.id] = stack.enter_context(context.hold(lease_of_batch(part.id)))
    return leases


def _delete_all(
    context: UploadContext,
    batch: int,
    state: BatchState,
    leases: Mapping[int, Lease],
    requests: GuardedRequests,
) -> int:
    """Record that a batch and its parts are no longer to be uploaded, and delete all their data sets.

    :param batch: the batch's number.
    :param state: its state from now on; recorded first, for all parts at once.
    :param leases: see :func:`_leases_on`.
    :param requests: guards the requests, under those leases and the one on the device.
    :return: how many data sets were deleted.
    """
    context.ledger.parts.set_all(batch, state, lease=leases[batch])
    row = context.ledger.batches.get(batch)
    listing = Listing(Mark.of(row.content_key), listed(context, row, requests))
    _leave_undo_mark(context, row, listing, state, requests)
    known = {data_set.data_set_id for number in leases for data_set in _remaining(context.ledger, number)}
    deleted = sum(_delete_remaining(context, number, lease, requests) for number, lease in leases.items())
    unknown = [marked for marked in listing.live if marked.id not in known]
    return deleted + delete_marked(context, unknown, requests)


def _leave_undo_mark(
    context: UploadContext,
    batch: BatchRow,
    listing: Listing,
    state: BatchState,
    requests: GuardedRequests,
) -> None:
    """Leave a mark at Tidepool, before anything is deleted, that tells every ledger that a batch is undone.

    An empty data set carries the mark. It is listed once it is closed, even after it is deleted.

    :param listing: what Tidepool lists.
    :param state: what became of the batch.
    """
    numbers = [batch.id, *(part.id for part in context.ledger.parts.of_batch(batch.id))]
    opened = [row for row in context.ledger.data_sets.of_batches(numbers) if row.data_set_id is not None]
    reached = max(
        (*(row.generation or 0 for row in opened), *(marked.mark.generation for marked in listing.live)),
        default=None,
    )
    delete_empty = [one.id for one in listing.of_content if one.mark.undone and not one.data_set.deleted]
    if reached is not None and (listing.undone is None or listing.undone.generation <= reached):
        mark = Mark(
            listing.mark.content, generation=max(reached, listing.generation) + 1, undone=_UNDONE[state]
        )
        body = with_mark(_empty_body(context, batch, listing), mark.members())
        empty = requests.read(lambda: context.client.open_data_set(batch.user_id, body)).data_set_id
        requests.write(lambda: context.client.close_data_set(empty))
        delete_empty.append(empty)
    for data_set_id in delete_empty:
        requests.write(lambda data_set_id=data_set_id: context.client.delete_data_set(data_set_id))  # type: ignore[misc]


def _empty_body(context: UploadContext, batch: BatchRow, listing: Listing) -> dict[str, Any]:
    """Return the body of a data set that is listed with those of a batch, and hides nothing at its close."""
    names = (marked.data_set.client_name for marked in listing.of_content if marked.data_set.client_name)
    client = {"name": next(names, context.settings.client_name), "version": context.settings.client_version}
    named = {name: value for name, value in client.items() if value is not None}
    return {
        "dataSetType": NORMAL,
        "deduplicator": {"name": inert_deduplicator().name},
        **({"deviceId": batch.device_id} if batch.device_id else {}),
        **({"client": named} if named else {}),
    }


def _delete_remaining(context: UploadContext, batch: int, lease: Lease, requests: GuardedRequests) -> int:
    """Delete every data set of a batch that may hold data, and return how many there were.

    The oldest goes first, so that none becomes visible again when one that hid it is deleted.

    :param batch: the batch's number; its state says already that it is no longer to be uploaded.
    :param lease: the lease on it, under which the ledger is written.
    :param requests: guards the requests, under the leases on the batch and its device.
    """
    deleted = 0
    for data_set in _remaining(context.ledger, batch):
        if data_set.data_set_id is None:
            context.ledger.data_sets.mark_unreachable(data_set.id, lease=lease)
        else:
            delete_data_set(context, data_set, lease, requests)
            deleted += 1
    return deleted
