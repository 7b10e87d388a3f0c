"""Verify a batch again, long after its upload.

A later upload of the device rightly hides older rows, so that a verified data set is superseded record by
record; nothing is done about that. A row that no data set shows any more, or that is visible twice, is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from tidepool_ingest.errors import Disposition, IngestError, run_with
from tidepool_ingest.guards import (
    OlderThanUploadedError,
    PreparedOtherwiseError,
    check_order,
    matches_sent_plan,
)
from tidepool_ingest.ledger import BatchRow, BatchState, DataSetRow, DataSetState, Ledger, lease_of_batch
from tidepool_ingest.model.deduplicators import AtClose
from tidepool_ingest.texts import counted
from tidepool_ingest.upload.adoption import compare_found, record_found
from tidepool_ingest.upload.closing import device_lock
from tidepool_ingest.upload.context import LeasedBatch, UploadContext
from tidepool_ingest.upload.deleting import delete_data_set
from tidepool_ingest.upload.discovery import end_as_undone, listing_of, successor_of
from tidepool_ingest.upload.read_back import Comparison, read_back

log = logging.getLogger(__name__)


class ChangedSinceError(IngestError):
    """What a verified batch shows is neither what was verified nor superseded.

    :param batch: the batch's label.
    :param comparison: what differs.
    :param reason: why it is not repaired, without a full stop; empty when no repair was requested.
    """

    disposition: Disposition = Disposition.DATA
    code = "changed-since-verified"
    sentence = "what Tidepool shows is not what was verified"
    remedy = (
        "Find out who changed it. To upload it again, run its day with `force`, and with the parameters that "
        "the message of that run may ask for."
    )
    mends = run_with("force")

    def __init__(self, batch: str, comparison: Comparison, reason: str) -> None:
        super().__init__(
            f"Batch {batch} was verified and has changed since: {comparison.difference()}."
            + (f" It is not repaired: {reason}." if reason else "")
        )
        self.particulars = comparison.difference()
        self.comparison = comparison


@dataclass(frozen=True)
class Reverified:
    """The outcome of verifying a batch again.

    :param data_set_id: the data set.
    :param comparison: what it shows.
    :param to_repair: it is to be deleted: the batch's upload, run again, does so and opens another one.
    """

    data_set_id: str
    comparison: Comparison
    to_repair: bool = False


def reverify(context: UploadContext, batch: BatchRow) -> Reverified | None:
    """Compare what a batch shows with what was sent, part by part if it is split.

    :return: ``None`` if it is not verified.
    :raises ChangedSinceError: rows are lost or doubled; the other parts were verified nonetheless.
    :raises LeaseHeldError: if another task is working on the batch, a part of it or its device.
    """
    parts = context.ledger.parts.of_batch(batch.id)
    if not parts:
        return reverify_one(context, batch)
    results: list[Reverified] = []
    changed: ChangedSinceError | None = None
    for part in parts:
        context.check_not_stopped()
        try:
            result = reverify_one(context, part)
        except ChangedSinceError as error:
            changed = changed or error
        else:
            results += [] if result is None else [result]
    if changed is not None:
        raise changed
    if not results:
        return None
    comparisons = [result.comparison for result in results]
    total = Comparison(
        sum(part.expected for part in comparisons),
        sum(part.visible for part in comparisons),
        superseded=sum(part.superseded for part in comparisons),
    )
    return Reverified(results[-1].data_set_id, total)


def reverify_one(context: UploadContext, batch: BatchRow, *, repair: bool = False) -> Reverified | None:
    """Compare what one data set shows with what was sent; a batch that is not verified is skipped.

    Meanwhile, no other data set of the device is closed.

    :param batch: a batch that is not split, or one part.
    :param repair: mark the data set to be deleted if rows are lost or doubled, so that the upload, run again,
        replaces it.
    :return: ``None`` if it is not verified.
    :raises PreparedOtherwiseError: what it was prepared into is not what was sent.
    :raises ChangedSinceError: rows are lost or doubled, and are not repaired.
    :raises LeaseHeldError: if another task is working on the batch or its device.
    """
    try:
        return context.with_work_area(batch, lambda: _under_lease(context, batch, repair=repair))
    finally:
        _update_whole(context.ledger, batch)


def _under_lease(context: UploadContext, batch: BatchRow, *, repair: bool) -> Reverified | None:
    with context.hold(lease_of_batch(batch.id)) as lease:
        data_set = _verified_set(context.ledger, batch)
        if data_set is None:
            return None
        leased = LeasedBatch.of(context, batch, context.prepared(batch), lease)
        return _reverified(leased, data_set, repair=repair)


def _verified_set(ledger: Ledger, batch: BatchRow) -> DataSetRow | None:
    data_sets = ledger.data_sets.of_batch(batch.id)
    is_verified = ledger.batches.get(batch.id).state is BatchState.VERIFIED
    if is_verified and data_sets and data_sets[-1].state is DataSetState.VERIFIED:
        return data_sets[-1]
    return None


def _reverified(leased: LeasedBatch, data_set: DataSetRow, *, repair: bool) -> Reverified:
    ledger, batch = leased.ledger, leased.batch
    if matches_sent_plan(leased.prepared, data_set, ledger) is False:
        raise PreparedOtherwiseError(batch.label)
    rejected = frozenset(ledger.rejections.of_batch(batch.id))
    with device_lock(leased.context, batch, leased.requests) as requests:
        comparison = read_back(leased.with_requests(requests), data_set, rejected)
    if comparison.is_exact:
        _record_exact(leased, data_set, comparison)
        return Reverified(str(data_set.data_set_id), comparison)
    if found := _adopted_successor(leased, data_set, rejected):
        return found
    reason = _reason_against_repair(leased, comparison) if repair else ""
    if reason or not repair:
        changed = ChangedSinceError(batch.label, comparison, reason)
        ledger.batches.set_reason(batch.id, changed.code, changed.particulars, lease=leased.lease)
        raise changed
    _mark_for_deletion(leased, data_set, comparison)
    return Reverified(str(data_set.data_set_id), comparison, to_repair=True)


def _adopted_successor(
    leased: LeasedBatch, data_set: DataSetRow, rejected: AbstractSet[int]
) -> Reverified | None:
    """Adopt the data set that took the place of this one, if Tidepool has one; return what it shows.

    Another deployment, or this one before its ledger was restored, may have uploaded the batch again, or
    undone it.

    :raises WithdrawnError: somebody has undone its upload.
    :raises SupersededBatchError: another batch has replaced it.
    """
    listing = listing_of(leased)
    found = successor_of(leased, data_set, listing)
    if found is not None:
        comparison = compare_found(leased, found, rejected)
        if not comparison.is_exact:
            return None
        _delete(leased, data_set)
        record_found(leased, found, comparison)
        leased.ledger.batches.set_reason(leased.batch.id, None, lease=leased.lease)
        return Reverified(found.id, comparison)
    if listing.is_undone_after(data_set.generation or 0):
        _delete(leased, data_set)
        end_as_undone(leased, listing)
    return None


def _delete(leased: LeasedBatch, data_set: DataSetRow) -> None:
    with device_lock(leased.context, leased.batch, leased.requests) as requests:
        delete_data_set(leased.context, data_set, leased.lease, requests)


def _record_exact(leased: LeasedBatch, data_set: DataSetRow, comparison: Comparison) -> None:
    batch = leased.batch
    leased.ledger.data_sets.record_reverified(
        data_set.id, comparison.visible, comparison.superseded, lease=leased.lease
    )
    if batch.reason == ChangedSinceError.code:
        leased.ledger.batches.set_reason(batch.id, None, lease=leased.lease)
    log.info(
        "%s is verified again: data set %s shows its %s%s.",
        batch.label,
        data_set.data_set_id,
        counted(comparison.visible, "row"),
        f"; {comparison.superseded} more are superseded by a later upload" if comparison.superseded else "",
    )


def _reason_against_repair(leased: LeasedBatch, comparison: Comparison) -> str:
    """Return why the batch must not be uploaded again without a person's request; empty if it may."""
    if comparison.deleted:
        return "somebody deleted the data set, which may have been meant"
    if leased.deduplicator.at_close is AtClose.DELETES_ALL:
        return "its deduplicator would delete everything else of the device"
    try:
        # Whatever the values: nothing is lost by leaving it to a person.
        check_order(leased.ledger, leased.batch, leased.deduplicator)
    except OlderThanUploadedError:
        return "newer batches of the device are verified, and its older values would win"
    return ""


def _mark_for_deletion(leased: LeasedBatch, data_set: DataSetRow, comparison: Comparison) -> None:
    """Record that the set is to be deleted: the next upload of the batch starts with that."""
    batch = leased.batch
    leased.ledger.batches.mark_unfinished(
        batch.id, ChangedSinceError.code, comparison.difference(), lease=leased.lease
    )
    leased.ledger.data_sets.begin_delete(data_set.id, lease=leased.lease)
    log.info(
        "%s is uploaded again, because data set %s has changed: %s.",
        batch.label,
        data_set.data_set_id,
        comparison.difference(),
    )


def _update_whole(ledger: Ledger, batch: BatchRow) -> None:
    """Derive the state of the batch that this one is a part of, unless a task is working on it."""
    whole = batch.part_of
    if whole is not None and ledger.batches.get(whole).state is BatchState.VERIFIED:
        ledger.parts.sum_up(whole)
