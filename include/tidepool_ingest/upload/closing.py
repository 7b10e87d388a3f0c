"""The end of a normal upload: the data set is closed, and what became visible is read back.

The deduplicator compares with what is active at that moment, so of one device one data set at a time is
closed and read back, under the device's lease; older batches of the device that are in progress go first.

A close in doubt is asked for again: the answer is either "closed" or "closed already", and both times only
what Tidepool then shows decides whether the batch is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager

from tidepool_ingest.client import (
    TidepoolDataSetClosedError,
    TidepoolNotFoundError,
    TidepoolUnreachableError,
)
from tidepool_ingest.guards import OlderThanUploadedError, check_order, compares_days
from tidepool_ingest.ledger import BatchRow, DataSetRow, DataSetState, Lease
from tidepool_ingest.ledger.database import LeaseHeldError
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.upload.context import LeasedBatch, UploadContext
from tidepool_ingest.upload.guarded_requests import POLL_SECONDS, GuardedRequests
from tidepool_ingest.upload.read_back import Comparison, read_back, read_back_after_others
from tidepool_ingest.upload.sending import StartOverError

CLOSE_STARTED = (DataSetState.CLOSING, DataSetState.CLOSED)
"""States of a data set that an earlier attempt left at its close."""


def close_and_verify(leased: LeasedBatch, data_set: DataSetRow, refused: AbstractSet[int]) -> Comparison:
    """Close a data set unless it is closed, and compare what it shows with what was sent.

    :param data_set: all its chunks are stored.
    :param refused: ordinals of the records that Tidepool rejected.
    :raises StartOverError: Tidepool does not know it any more.
    :raises OlderThanUploadedError: a newer batch of the device is verified; this one was not closed.
    """
    with device_lock(leased.context, leased.batch, leased.requests, lambda: _older_at_work(leased)) as under:
        locked = leased.under(under)
        in_doubt = False
        if data_set.state is not DataSetState.CLOSED:
            in_doubt = _close_in_order(locked, data_set)
            leased.ledger.data_sets.mark_closed(data_set.id, lease=leased.lease)
        return _verify(locked, data_set, refused, patiently=in_doubt)


def verify_again(leased: LeasedBatch, data_set: DataSetRow, refused: AbstractSet[int]) -> Comparison:
    """Compare what a closed data set shows once more, after something else of its device was changed.

    :param data_set: it is closed.
    :param refused: ordinals of the records that Tidepool rejected.
    """
    with device_lock(leased.context, leased.batch, leased.requests) as under:
        return _verify(leased.under(under), data_set, refused, patiently=False)


def _close_in_order(leased: LeasedBatch, data_set: DataSetRow) -> bool:
    """Close the set unless it is older than what is verified; return whether a doubt remains."""
    if not leased.context.options.allow_older:
        try:
            check_order(leased.ledger, leased.batch, leased.deduplicator)
        except OlderThanUploadedError:
            if data_set.state is not DataSetState.CLOSING or _is_open(leased, data_set):
                raise
            # An earlier attempt's close was carried out, before the newer one's: see what it shows.
            return True
    return _close(leased, data_set)


def _is_open(leased: LeasedBatch, data_set: DataSetRow) -> bool:
    try:
        return leased.requests.read(lambda: leased.client.is_open(str(data_set.data_set_id)))
    except TidepoolNotFoundError:
        raise StartOverError("Tidepool does not know it any more") from None


def _close(leased: LeasedBatch, data_set: DataSetRow) -> bool:
    """Close the set; return whether what is visible remains in doubt."""
    in_doubt = data_set.state is DataSetState.CLOSING
    leased.ledger.data_sets.begin_close(data_set.id, lease=leased.lease)
    attempts = leased.context.timeouts.attempts
    for attempt in range(attempts):
        leased.counts.repairs += bool(attempt)
        try:
            leased.requests.write(lambda: leased.client.close_data_set(str(data_set.data_set_id)))
        except TidepoolDataSetClosedError:
            return True
        except TidepoolNotFoundError:
            raise StartOverError("Tidepool does not know it any more") from None
        except TidepoolUnreachableError as error:
            if attempt + 1 == attempts:
                raise
            in_doubt = in_doubt or error.in_doubt
            leased.requests.pause(attempt, error)
        else:
            return in_doubt
    return in_doubt


def _verify(
    leased: LeasedBatch, data_set: DataSetRow, refused: AbstractSet[int], *, patiently: bool
) -> Comparison:
    timeouts, requests = leased.context.timeouts, leased.requests
    give_up = time.monotonic() + (timeouts.visible_wait if patiently else timeouts.visible_poll)
    while True:
        comparison = requests.read(lambda: read_back(leased, data_set, refused))
        if comparison.is_exact:
            return comparison
        if time.monotonic() >= give_up:
            break
        time.sleep(timeouts.visible_poll)
    # Others of the device may have been closed since: an earlier attempt's close was recorded long ago, and
    # of our own the ledger knows by now.
    recorded = data_set if data_set.state in CLOSE_STARTED else leased.ledger.data_sets.get(data_set.id)
    return requests.read(lambda: read_back_after_others(leased, recorded, refused))


# ---------------------------------------------------------------- the lease on the device


@contextmanager
def device_lock(
    context: UploadContext,
    batch: BatchRow,
    requests: GuardedRequests,
    blocked: Callable[[], LeaseHeldError | None] = lambda: None,
) -> Iterator[GuardedRequests]:
    """Wait for the lease on a batch's device, and guard requests under it too for a ``with`` block.

    What ``blocked`` names needs the lease itself, and it is only older batches that are waited for, so that
    no two can wait for each other.

    :param requests: keeps the leases that are held already.
    :param blocked: returns what has to be over first, if anything.
    :raises LeaseHeldError: others were at it for longer than a turn may take.
    """
    with ExitStack() as stack:
        yield requests.with_leases(_device_lease(stack, context, batch, requests, blocked))


def device_lease_name(batch: BatchRow) -> str:
    """Return the name of the lease under which data sets of a batch's device are closed."""
    return f"device:{short_hash(f'{batch.api_host} {batch.user_id} {batch.device_id}')}"


def _device_lease(
    stack: ExitStack,
    context: UploadContext,
    batch: BatchRow,
    requests: GuardedRequests,
    blocked: Callable[[], LeaseHeldError | None],
) -> Lease:
    give_up = time.monotonic() + context.timeouts.close_turn
    while True:
        requests.check()
        busy = blocked()
        if busy is None:
            try:
                device = stack.enter_context(context.hold(device_lease_name(batch)))
            except LeaseHeldError as error:
                busy = error
            else:
                # One may have started since; as long as this lease lasts, it cannot close.
                busy = blocked()
                if busy is None:
                    return device
                stack.close()
        if time.monotonic() >= give_up:
            raise busy
        requests.wait(POLL_SECONDS)


def _older_at_work(leased: LeasedBatch) -> LeaseHeldError | None:
    """Return, as the error that it would end with, what the batch has to wait for."""
    sharing_days = compares_days(leased.deduplicator)
    names = leased.ledger.devices.older_in_progress(leased.batch, sharing_days=sharing_days)
    return next((LeaseHeldError(name, seconds) for name, seconds in names.items()), None)
