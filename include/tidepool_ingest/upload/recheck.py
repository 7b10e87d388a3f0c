"""A verified batch is compared with what Tidepool shows once more, long after.

A later upload of the device rightly hides older rows, so that a verified data set is superseded record by
record. That is right and nothing is done about it. What nobody shows any more, and what shows twice, is not.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import (
    OlderThanUploadedError,
    PreparedOtherwiseError,
    check_order,
    matches_sent_plan,
)
from tidepool_ingest.ledger import BatchRow, BatchState, DataSetRow, DataSetState, Ledger, lease_of_batch
from tidepool_ingest.model.deduplicators import AtClose
from tidepool_ingest.upload.closing import device_lock
from tidepool_ingest.upload.context import LeasedBatch, UploadContext
from tidepool_ingest.upload.read_back import Comparison, read_back_after_others

log = logging.getLogger(__name__)


class ChangedSinceError(IngestError):
    """What a verified batch shows is neither what was verified, nor superseded.

    :param batch: the batch's label.
    :param comparison: what differs, by counts and positions.
    :param why: why it is not repaired, one sentence; empty when nobody asked for that.
    """

    disposition: Disposition = Disposition.DATA
    code = "changed-since-verified"
    sentence = "what Tidepool shows is not what was verified"
    remedy = (
        "Find out who changed it. To upload it again, run its day with `force`, and with the parameters that "
        "the message of that run may ask for."
    )

    def __init__(self, batch: str, comparison: Comparison, why: str) -> None:
        super().__init__(
            f"Batch {batch} was verified and has changed since: {comparison.difference()}."
            + (f" It is not repaired: {why}." if why else "")
        )
        self.comparison = comparison


@dataclass(frozen=True)
class Rechecked:
    """What verifying a batch again came to.

    :param data_set_id: the data set.
    :param comparison: what it shows.
    :param to_repair: it was given up: its upload, run again, deletes it and opens another one.
    """

    data_set_id: str
    comparison: Comparison
    to_repair: bool = False


def reverify(context: UploadContext, batch: BatchRow) -> Rechecked | None:
    """Compare what a batch shows with what was sent, part by part if it is cut into some.

    :return: ``None`` if it is not verified.
    :raises ChangedSinceError: rows are lost or double; the other parts were looked at all the same.
    :raises LeaseHeldError: if another task is working on the batch, a part of it or its device.
    """
    parts = context.ledger.parts.of_batch(batch.id)
    if not parts:
        return reverify_one(context, batch)
    found: list[Rechecked] = []
    changed: ChangedSinceError | None = None
    for part in parts:
        context.check_not_stopped()
        try:
            right = reverify_one(context, part)
        except ChangedSinceError as error:
            changed = changed or error
        else:
            found += [] if right is None else [right]
    if changed is not None:
        raise changed
    if not found:
        return None
    seen = [part.comparison for part in found]
    summed = Comparison(
        sum(part.expected for part in seen),
        sum(part.visible for part in seen),
        superseded=sum(part.superseded for part in seen),
    )
    return Rechecked(found[-1].data_set_id, summed)


def reverify_one(context: UploadContext, batch: BatchRow, *, repair: bool = False) -> Rechecked | None:
    """Compare what one data set shows with what was sent; nothing happens to a batch that is not verified.

    While it looks, no other data set of the device is closed.

    :param batch: a batch that is not cut into parts, or one part.
    :param repair: give the data set up if rows are lost or double, so that the upload, run again, replaces
        it.
    :raises PreparedOtherwiseError: what it was prepared into is not what was sent.
    :raises ChangedSinceError: rows are lost or double, and are not repaired.
    :raises LeaseHeldError: if another task is working on the batch or its device.
    """
    try:
        with context.hold(lease_of_batch(batch.id)) as lease:
            data_set = _verified_set(context.ledger, batch)
            if data_set is None:
                return None
            leased = LeasedBatch.of(context, batch, context.prepared(batch), lease)
            return _reverified(leased, data_set, repair=repair)
    finally:
        _update_whole(context.ledger, batch)


def _verified_set(ledger: Ledger, batch: BatchRow) -> DataSetRow | None:
    data_sets = ledger.data_sets.of_batch(batch.id)
    is_verified = ledger.batches.get(batch.id).state is BatchState.VERIFIED
    if is_verified and data_sets and data_sets[-1].state is DataSetState.VERIFIED:
        return data_sets[-1]
    return None


def _reverified(leased: LeasedBatch, data_set: DataSetRow, *, repair: bool) -> Rechecked:
    ledger, batch = leased.ledger, leased.batch
    if matches_sent_plan(leased.prepared, data_set, ledger) is False:
        raise PreparedOtherwiseError(batch.label)
    refused = frozenset(ledger.rejections.of_batch(batch.id))
    with device_lock(leased.context, batch, leased.requests) as under:
        locked = leased.under(under)
        comparison = under.read(lambda: read_back_after_others(locked, data_set, refused))
    if comparison.is_exact:
        _record_as_right(leased, data_set, comparison)
        return Rechecked(str(data_set.data_set_id), comparison)
    why = _against_repair(leased, comparison) if repair else ""
    if why or not repair:
        ledger.batches.set_reason(batch.id, ChangedSinceError.code, lease=leased.lease)
        raise ChangedSinceError(batch.label, comparison, why)
    _give_up(leased, data_set, comparison)
    return Rechecked(str(data_set.data_set_id), comparison, to_repair=True)


def _record_as_right(leased: LeasedBatch, data_set: DataSetRow, comparison: Comparison) -> None:
    batch = leased.batch
    leased.ledger.data_sets.record_check(data_set.id, comparison.superseded, lease=leased.lease)
    if batch.reason == ChangedSinceError.code:
        leased.ledger.batches.set_reason(batch.id, None, lease=leased.lease)
    log.info(
        "%s, data set %s: %d rows are visible, %d superseded by a later upload.",
        batch.label,
        data_set.data_set_id,
        comparison.visible,
        comparison.superseded,
    )


def _against_repair(leased: LeasedBatch, comparison: Comparison) -> str:
    """Return why the batch must not be uploaded again unless somebody asks for it."""
    if comparison.deleted:
        return "somebody deleted the data set, which may have been meant"
    if leased.deduplicator.at_close is AtClose.DELETES_ALL:
        return "its deduplicator would delete all else of the device"
    try:
        check_order(leased.ledger, leased.batch, leased.deduplicator)
    except OlderThanUploadedError:
        return "newer batches of the device are verified, and its older values would win"
    return ""


def _give_up(leased: LeasedBatch, data_set: DataSetRow, comparison: Comparison) -> None:
    """Record that the set is to be deleted: whoever uploads the batch next starts with that."""
    batch = leased.batch
    leased.ledger.batches.mark_unfinished(batch.id, ChangedSinceError.code, lease=leased.lease)
    leased.ledger.data_sets.begin_delete(data_set.id, lease=leased.lease)
    log.warning(
        "%s, data set %s is given up: %s.", batch.label, data_set.data_set_id, comparison.difference()
    )


def _update_whole(ledger: Ledger, batch: BatchRow) -> None:
    """Sum up the batch that this one is a part of, unless a task is working on that."""
    whole = batch.part_of
    if whole is not None and ledger.batches.get(whole).state is BatchState.VERIFIED:
        ledger.parts.sum_up(whole)
