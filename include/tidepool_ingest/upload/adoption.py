"""Adopt a data set that Tidepool has and the ledger does not know: compare it, and record it in the ledger.

What it shows has to be the batch's accepted records, each once, as after an upload of our own. If it is
not, the batch is held: nothing is sent beside what may be right, and nothing is deleted.

Some of the records may be missing because Tidepool itself had rejected them, which only the lost ledger
knew. So they are sent once more, to a data set that is deleted without ever being closed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from tidepool_ingest.client import TidepoolRejectedError, TidepoolUnreachableError
from tidepool_ingest.errors import run_with
from tidepool_ingest.guards import HeldError
from tidepool_ingest.ledger import DataSetRow
from tidepool_ingest.model.deduplicators import NORMAL, inert_deduplicator
from tidepool_ingest.upload.closing import device_lock
from tidepool_ingest.upload.context import LeasedBatch
from tidepool_ingest.upload.deleting import delete_data_set
from tidepool_ingest.upload.discovery import Choice, MarkedSet, delete_marked, listing_of
from tidepool_ingest.upload.isolation import FAILURES
from tidepool_ingest.upload.read_back import Comparison, read_back_beside
from tidepool_ingest.upload.record_ids import RecordWithIds, with_ids
from tidepool_ingest.upload.rejections import RejectedRecords
from tidepool_ingest.upload.sending import SERVER_FAILURE

log = logging.getLogger(__name__)


class FoundDiffersError(HeldError):
    """Tidepool has a data set that was opened for a batch, and it shows something else.

    :param batch: the batch's label.
    :param comparison: what differs.
    """

    code = "found-differs"
    sentence = (
        "Tidepool has a data set for it that this ledger does not know, and what that shows differs from "
        "what would be sent"
    )
    remedy = (
        "Find out what changed that data set. To replace it, undo the upload on the uploads page, then run "
        "its day with `force`."
    )
    mends = run_with("force")

    def __init__(self, batch: str, comparison: Comparison) -> None:
        super().__init__(f"Batch {batch} is held: {self.sentence}. {comparison.difference()}.")
        self.particulars = comparison.difference()
        self.batch = batch
        self.comparison = comparison


def adopt(
    leased: LeasedBatch, choice: Choice, rejected: RejectedRecords, delete_replaced: Callable[[], bool]
) -> tuple[DataSetRow, Comparison]:
    """Record a data set that Tidepool has as verified, instead of opening one.

    :param leased: the batch.
    :param choice: what was found.
    :param rejected: records that Tidepool rejects; those that the data set lacks for this reason are added.
    :param delete_replaced: deletes what the batch replaces, once it is known to be visible; returns whether
        anything remained to be deleted.
    :return: its row in the ledger, and what it shows.
    :raises FoundDiffersError: it shows something else.
    """
    found = choice.found
    assert found is not None
    log.info("Tidepool already has data set %s for %s.", found.id, leased.batch.label)
    comparison = _compared(leased, found, choice.generation, rejected)
    # Others go only beside one that is right: what is held leaves all as it is.
    if choice.rivals and comparison.is_exact:
        with device_lock(leased.context, leased.batch, leased.requests) as requests:
            delete_marked(leased.context, choice.rivals, requests)
        comparison = _compared(leased, found, choice.generation, rejected)
    rejected.finish()  # an earlier attempt may have recorded some, and ended before this
    if not comparison.is_exact:
        raise FoundDiffersError(leased.batch.label, comparison)
    if delete_replaced():
        comparison = compare_found(leased, found, rejected.ordinals)
        if not comparison.is_exact:
            raise FoundDiffersError(leased.batch.label, comparison)
    record_earlier(leased, choice.earlier, comparison.expected)
    return record_found(leased, found, comparison), comparison


def compare_found(leased: LeasedBatch, found: MarkedSet, rejected: AbstractSet[int]) -> Comparison:
    """Compare what a data set shows that this ledger did not see closed; its close may still be going on.

    :param leased: the batch.
    :param found: the data set.
    :param rejected: ordinals of the records that Tidepool rejected.
    """
    with device_lock(leased.context, leased.batch, leased.requests) as requests:
        locked = leased.with_requests(requests)
        return requests.read_until_visible(
            lambda: read_back_beside(
                locked, found.id, rejected, lambda: listing_of(locked).others_than(found.data_set)
            ),
            is_settled=lambda comparison: comparison.is_exact or comparison.deleted,
            amount=lambda comparison: comparison.visible,
        )


def record_found(
    leased: LeasedBatch, found: MarkedSet, comparison: Comparison, *, compared: bool = True
) -> DataSetRow:
    """Record a data set that shows exactly a batch's records.

    :param leased: the batch.
    :param found: the data set.
    :param comparison: what it shows.
    :param compared: see :meth:`~tidepool_ingest.ledger.data_sets.DataSets.record_found`.
    """
    chunks = {chunk.index: (chunk.digest, chunk.records) for chunk in leased.prepared.chunks}
    return leased.ledger.data_sets.record_found(
        leased.batch.id,
        found.id,
        deduplicator=found.data_set.deduplicator or leased.deduplicator.name,
        generation=found.mark.generation,
        created_at=found.data_set.created_time,
        expected_rows=comparison.expected,
        visible_rows=comparison.visible,
        superseded_rows=comparison.superseded,
        sent=chunks,
        origin=leased.context.origin,
        compared=compared,
        lease=leased.lease,
    )


def record_earlier(leased: LeasedBatch, earlier: Sequence[MarkedSet], expected_rows: int) -> None:
    """Record data sets from before a batch was uploaded again on purpose, so that an undo deletes them too.

    :param leased: the batch.
    :param earlier: the data sets.
    :param expected_rows: rows that the batch's records make.
    """
    for marked in sorted(earlier, key=lambda one: one.rank, reverse=True):
        record_found(leased, marked, Comparison(expected_rows, 0), compared=False)


# ---------------------------------------------------------------- what Tidepool had rejected


def _compared(
    leased: LeasedBatch, found: MarkedSet, generation: int, rejected: RejectedRecords
) -> Comparison:
    """Compare what a data set shows, and ask Tidepool about the few records that it may have rejected."""
    comparison = compare_found(leased, found, rejected.ordinals)
    lacks_some = not comparison.is_exact and _may_be_rejected(leased, comparison)
    if lacks_some and _asked_again(leased, comparison.missing, generation, rejected):
        return compare_found(leased, found, rejected.ordinals)
    return comparison


def _may_be_rejected(leased: LeasedBatch, comparison: Comparison) -> bool:
    """Return whether records are missing, no more than may be rejected, and nothing else differs."""
    if comparison.double or comparison.foreign or comparison.deleted:
        return False
    prepared, missing = leased.prepared, len(comparison.missing)
    return not leased.context.options.rejection_limit.is_exceeded(
        missing, staged=prepared.records, accepted=prepared.travelling - missing
    )


def _asked_again(
    leased: LeasedBatch, missing: Sequence[int], generation: int, rejected: RejectedRecords
) -> bool:
    """Ask Tidepool about records that a found data set lacks; return whether it rejects every one.

    They go to a data set that is recorded as one to be deleted before anything is sent to it.
    """
    data_sets = leased.ledger.data_sets
    row = data_sets.begin_opening(
        leased.batch.id,
        data_set_type=NORMAL,
        deduplicator=inert_deduplicator().name,
        expected_rows=0,
        origin=leased.context.origin,
        generation=generation,
        lease=leased.lease,
    )
    body = {"dataSetType": NORMAL, "deduplicator": {"name": inert_deduplicator().name}}
    opened = leased.requests.read(lambda: leased.client.open_data_set(leased.batch.user_id, body))
    data_sets.mark_open(row.id, opened.data_set_id, lease=leased.lease)
    data_sets.begin_delete(row.id, lease=leased.lease)
    try:
        return all(
            _is_rejected(leased, opened.data_set_id, records, rejected)
            for records in _records(leased, opened.data_set_id, frozenset(missing))
        )
    finally:
        delete_data_set(leased.context, data_sets.get(row.id), leased.lease, leased.requests)


def _records(
    leased: LeasedBatch, data_set_id: str, ordinals: AbstractSet[int]
) -> Iterator[list[RecordWithIds]]:
    for chunk in leased.prepared.chunks:
        if not ordinals.isdisjoint(range(chunk.first_record, chunk.first_record + chunk.records)):
            records = with_ids(leased.work.read_chunk(chunk), chunk, data_set_id)
            yield [record for record in records if record.ordinal in ordinals]


def _is_rejected(
    leased: LeasedBatch, data_set_id: str, records: Sequence[RecordWithIds], rejected: RejectedRecords
) -> bool:
    """Return whether Tidepool rejects each of some records; each response names one at least.

    Those for which it answers 500 each time are asked about by halves, until one is alone.
    """
    remaining, failures = list(records), 0
    while remaining:
        body = b"[" + b",".join(record.line for record in remaining) + b"]"
        try:
            leased.requests.write(lambda body=body: leased.client.upload_data(data_set_id, body))  # type: ignore[misc]
        except TidepoolRejectedError as error:
            rejected.record(remaining, error)
            remaining = [record for record in remaining if record.ordinal not in rejected.ordinals]
            failures = 0
        except TidepoolUnreachableError as error:
            if error.status != SERVER_FAILURE:
                raise
            failures += 1
            if failures < FAILURES:
                leased.requests.pause(failures, error)
                continue
            # Raises where Tidepool takes nothing at all: then it is not about these records.
            leased.requests.read(lambda: leased.client.is_open(data_set_id))
            if len(remaining) == 1:
                rejected.record_failing(remaining)
                return True
            half = len(remaining) // 2
            return all(
                _is_rejected(leased, data_set_id, part, rejected)
                for part in (remaining[:half], remaining[half:])
            )
        else:
            return False
    return True
