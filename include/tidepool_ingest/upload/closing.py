"""The end of a normal upload: the data set is closed, and what became visible is read back.

The deduplicator compares with what is active at that moment, so data sets of one device are closed and read
back one at a time, under the device's lease; older batches of the device that are in progress go first.

A close in doubt is requested again: the answer is either "closed" or "already closed", and either way only
what Tidepool then shows decides whether the batch is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from functools import partial

from tidepool_ingest.client import (
    TidepoolDataSetClosedError,
    TidepoolNotFoundError,
    TidepoolUnreachableError,
)
from tidepool_ingest.guards import (
    OlderThanUploadedError,
    check_before,
    check_order,
    compares_days,
    is_in_order,
    may_differ_from_before,
    overwritten_as_prepared,
)
from tidepool_ingest.ledger import BatchRow, DataSetRow, DataSetState, Lease, lease_of_batch
from tidepool_ingest.ledger.database import LeaseHeldError, OlderFirstError
from tidepool_ingest.ledger.devices import SHOWN
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.upload.context import LeasedBatch, UploadContext
from tidepool_ingest.upload.discovery import check_still_missing, settle
from tidepool_ingest.upload.guarded_requests import POLL_SECONDS, GuardedRequests
from tidepool_ingest.upload.read_back import Comparison, overwritten_as_shown, read_back
from tidepool_ingest.upload.sending import StartOverError

LONGEST_RECHECK = 60.0
"""Seconds, at most, until it is checked again whether a batch may be closed."""

CLOSE_STARTED = (DataSetState.CLOSING, DataSetState.CLOSED)
"""States of a data set that an earlier attempt had begun to close."""


def _nothing() -> None:
    """Return that nothing has to finish first."""


def _no_more(_lease: Lease) -> None:
    """Record nothing with a lease that is taken."""


def close_and_verify(
    leased: LeasedBatch,
    data_set: DataSetRow,
    rejected: AbstractSet[int],
    done: Callable[[DataSetRow, Comparison, Lease], None],
    listed_at: float | None = None,
) -> Comparison:
    """Close a data set unless it is closed, and compare what it shows with what was sent.

    :param data_set: all its chunks are stored.
    :param rejected: ordinals of the records that Tidepool rejected.
    :param done: told what it came to, with the lease on the device, which it may release.
    :param listed_at: when Tidepool was asked what it has of the device, by :func:`time.monotonic`; ``None``
        if this attempt did not ask.
    :raises StartOverError: Tidepool no longer knows it, or has another one for the same content.
    :raises OlderThanUploadedError: a newer batch of the device is verified; this one was not closed.
    """
    # One whose close has begun may be visible already: it waits for nobody, and older ones wait for it.
    blocker = _nothing if data_set.state in CLOSE_STARTED else partial(_older_ones, leased)
    taken: list[tuple[Lease, bool]] = []

    def begin(device: Lease) -> None:
        # What is listed anew comes before the intent.
        is_begun = _is_just_listed(leased, listed_at) and _begin_close_at_once(leased, data_set)
        taken.append((device, is_begun))

    with device_lock(
        leased.context, leased.batch, leased.requests, blocker, gives_way=True, begin=begin
    ) as requests:
        device, is_begun = taken[-1]
        locked = leased.with_requests(requests)
        recorded = data_set
        if data_set.state is DataSetState.OPEN and not is_begun:
            check_still_missing(locked, data_set)
            with leased.ledger.database.together():
                is_begun = _begin_close_at_once(leased, data_set)
        if data_set.state is not DataSetState.CLOSED:
            _close_in_order(locked, data_set, is_begun=is_begun)
            recorded = leased.ledger.data_sets.mark_closed(data_set.id, lease=leased.lease)
        # Others of the device may have been closed since: an earlier attempt's close was recorded long ago,
        # our own just now.
        seen = data_set if data_set.state in CLOSE_STARTED else recorded
        comparison = read_back(locked, seen, rejected)
        if settle(locked, data_set):
            comparison = read_back(locked, seen, rejected)
        done(data_set, comparison, device)
        return comparison


def verify_again(leased: LeasedBatch, data_set: DataSetRow, rejected: AbstractSet[int]) -> Comparison:
    """Verify a closed data set once more, after something else of its device was changed.

    :param data_set: it is closed.
    :param rejected: ordinals of the records that Tidepool rejected.
    """
    with device_lock(leased.context, leased.batch, leased.requests, gives_way=True) as requests:
        return _verify(leased.with_requests(requests), data_set, rejected)


def _is_just_listed(leased: LeasedBatch, listed_at: float | None) -> bool:
    """Return whether Tidepool was asked what it has of the device so recently that it need not be again."""
    return listed_at is not None and time.monotonic() - listed_at <= leased.context.timeouts.listing


def _begin_close_at_once(leased: LeasedBatch, data_set: DataSetRow) -> bool:
    """Record the intent to close, in the transaction in which the ledger alone shows that it may be.

    :return: whether it was recorded. If not, it has to be found out first what to do, by files or requests.
    """
    if data_set.state is not DataSetState.OPEN or not is_clear_of_others(leased):
        return False
    leased.ledger.data_sets.begin_close(data_set.id, lease=leased.lease)
    return True


def is_clear_of_others(leased: LeasedBatch) -> bool:
    """Return whether no other batch of the device speaks against uploading this one; the ledger alone tells.

    If not, it has to be compared with them.
    """
    if _may_differ(leased):
        return False
    return leased.context.options.allow_older or is_in_order(leased.ledger, leased.batch, leased.deduplicator)


def check_beside_others(leased: LeasedBatch) -> None:
    """Hold a batch beside others of its device before a data set is opened for it.

    Tidepool was asked first: a data set that it already has is adopted, not closed again, and hides nothing.
    Of a split batch all parts count, as long as nothing of it may be visible.

    :raises OlderThanUploadedError: its values would hide those of a newer one.
    :raises NewerAtCloseError: it is not known yet whether a newer batch is visible.
    :raises DeviceChangedError: its zone or ``deviceId`` differs from what the device had before.
    """
    ledger, whole, root = leased.ledger, leased.batch, leased.context.root
    if whole.part_of is not None:
        parts = [part.id for part in ledger.parts.of_batch(whole.part_of)]
        if not any(data_set.state in SHOWN for data_set in ledger.data_sets.of_batches(parts)):
            whole = ledger.batches.get(whole.part_of)
    if root is not None and not leased.context.options.allow_older:
        check_order(ledger, whole, leased.deduplicator, overwritten_as_prepared(root, ledger, whole))
    _compare_before(leased)


def _may_differ(leased: LeasedBatch) -> bool:
    """Return whether records may have to be compared with those of what the device was before."""
    whole = _whole_to_compare(leased)
    if whole is None:
        return False
    if whole.id != leased.batch.id:
        return True  # what is meant to differ stands in the plan of the whole batch
    return may_differ_from_before(
        whole, leased.ledger, leased.deduplicator, meant_as=leased.prepared.meant_as
    )


def _close_in_order(leased: LeasedBatch, data_set: DataSetRow, *, is_begun: bool) -> None:
    """Close the set unless it is older than what is verified.

    :param is_begun: whether that was found out already, and the intent recorded.
    """
    if is_begun:
        _close(leased, data_set)
        return
    if not leased.context.options.allow_older:
        try:
            check_order(
                leased.ledger, leased.batch, leased.deduplicator, partial(overwritten_as_shown, leased)
            )
        except OlderThanUploadedError:
            if data_set.state is not DataSetState.CLOSING or _is_open(leased, data_set):
                raise
            # An earlier attempt's close was carried out, before the newer one's: read back what it shows.
            return
    _compare_before(leased)
    leased.ledger.data_sets.begin_close(data_set.id, lease=leased.lease)
    _close(leased, data_set)


def _whole_to_compare(leased: LeasedBatch) -> BatchRow | None:
    """Return the whole batch if it says what could differ; what was verified once is repaired as it was."""
    ledger = leased.ledger
    whole = ledger.batches.get(leased.batch.part_of or leased.batch.id)
    if leased.context.root is None or not (whole.device_key or whole.zones):
        return None
    numbers = [whole.id, *(part.id for part in ledger.parts.of_batch(whole.id))]
    if any(data_set.verified_at for data_set in ledger.data_sets.of_batches(numbers)):
        return None
    return whole


def _compare_before(leased: LeasedBatch) -> None:
    """Hold the batch if another one of its device is there or has been closed meanwhile, and differs."""
    context, whole = leased.context, _whole_to_compare(leased)
    if whole is None or context.root is None:
        return
    plan = leased.prepared if whole.id == leased.batch.id else context.work_area(whole).load()
    if plan is not None:
        check_before(whole, leased.ledger, context.root, leased.deduplicator, meant_as=plan.meant_as)


def _is_open(leased: LeasedBatch, data_set: DataSetRow) -> bool:
    try:
        return leased.requests.read(lambda: leased.client.is_open(str(data_set.data_set_id)))
    except TidepoolNotFoundError:
        raise StartOverError("Tidepool no longer knows it") from None


def _close(leased: LeasedBatch, data_set: DataSetRow) -> None:
    """Request the close, of which the intent is recorded."""
    attempts = leased.context.timeouts.attempts
    for attempt in range(attempts):
        leased.counts.repairs += bool(attempt)
        try:
            leased.requests.write(lambda: leased.client.close_data_set(str(data_set.data_set_id)))
        except TidepoolDataSetClosedError:
            return
        except TidepoolNotFoundError:
            raise StartOverError("Tidepool no longer knows it") from None
        except TidepoolUnreachableError as error:
            if attempt + 1 == attempts:
                raise
            leased.requests.pause(attempt, error)
        else:
            return


def _verify(leased: LeasedBatch, data_set: DataSetRow, rejected: AbstractSet[int]) -> Comparison:
    recorded = data_set if data_set.state in CLOSE_STARTED else leased.ledger.data_sets.get(data_set.id)
    return read_back(leased, recorded, rejected)


# ---------------------------------------------------------------- the lease on the device


@contextmanager
def device_lock(
    context: UploadContext,
    batch: BatchRow,
    requests: GuardedRequests,
    blocker: Callable[[], LeaseHeldError | None] = _nothing,
    *,
    gives_way: bool = False,
    begin: Callable[[Lease], None] = _no_more,
) -> Iterator[GuardedRequests]:
    """Wait for the lease on a batch's device; in the ``with`` block, it covers the requests as well.

    Whatever ``blocker`` returns needs this lease too. Only older batches are waited for, so that no two wait
    for each other.

    :param requests: covered by the leases that are held already.
    :param blocker: returns what has to finish first, if anything.
    :param gives_way: whether the operation can be resumed here later, so that it need not wait for long.
    :param begin: see :meth:`~tidepool_ingest.ledger.leases.Leases.held`.
    :raises LeaseHeldError: others held it, or were to finish first, for longer than this may wait.
    """
    timeouts = context.timeouts
    wait = min(timeouts.slot, timeouts.close_turn) if gives_way else timeouts.close_turn
    with ExitStack() as stack:
        try:
            lease = _device_lease(stack, context, batch, requests, blocker, wait, begin)
        except LeaseHeldError as error:
            if gives_way and error.name == device_lease_name(batch):
                # It is held for a close and a read-back only, and then for the next one.
                raise LeaseHeldError(error.name, min(error.retry_after or 0.0, LONGEST_RECHECK)) from None
            raise
        yield requests.with_leases(lease)


def device_lease_name(batch: BatchRow) -> str:
    """Return the name of the lease under which data sets of a batch's device are closed."""
    return f"device:{short_hash(f'{batch.api_host} {batch.user_id} {batch.device_id}')}"


def _device_lease(
    stack: ExitStack,
    context: UploadContext,
    batch: BatchRow,
    requests: GuardedRequests,
    blocker: Callable[[], LeaseHeldError | None],
    wait: float,
    begin: Callable[[Lease], None],
) -> Lease:
    database = context.ledger.database
    deadline = time.monotonic() + wait
    busy: LeaseHeldError | None = None
    while True:
        requests.check()
        if busy is not None:
            # Who waits only reads, so that no writer has to wait for it.
            with database.together(only_reads=True):
                busy = blocker()
        if busy is None:
            try:
                # In one transaction: one that starts later cannot close while this lease lasts.
                with database.together():
                    busy = blocker()
                    if busy is None:
                        return stack.enter_context(context.hold(device_lease_name(batch), begin=begin))
            except LeaseHeldError as error:
                busy = error
        if time.monotonic() >= deadline:
            raise busy
        requests.wait(POLL_SECONDS)


def _older_ones(leased: LeasedBatch) -> LeaseHeldError | None:
    """Return what the batch has to wait for, as the error to raise if it waits too long."""
    devices, timeouts = leased.ledger.devices, leased.context.timeouts
    sharing_days = compares_days(leased.deduplicator)
    at_work = devices.older_in_progress(leased.batch, sharing_days=sharing_days)
    planned = devices.older_planned(leased.batch, sharing_days=sharing_days)
    seconds = min(timeouts.usual_close * max(len(at_work), len(planned)), LONGEST_RECHECK)
    if planned:
        return OlderFirstError(lease_of_batch(planned[0]), seconds, planned)
    if not at_work:
        return None
    # While one of them is being closed, that is what everybody of the device waits for.
    closing = leased.ledger.leases.alive([device_lease_name(leased.batch)])
    name, held = next(iter((closing or at_work).items()))
    return LeaseHeldError(name, min(held, seconds))
