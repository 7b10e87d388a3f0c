"""Upload a giant batch part by part, each as a batch of its own in a data set of its own.

The parts go one after the other, since the data sets of one device are closed one at a time anyway. A
verified part is not verified again: after a crash, the next attempt resumes the part that was in progress.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import (
    HeldError,
    SupersededBatchError,
    WithdrawnError,
    check_not_superseded,
    check_not_withdrawn,
)
from tidepool_ingest.ledger import BatchRow, BatchState, DataSetState, Lease, lease_of_batch
from tidepool_ingest.texts import counted
from tidepool_ingest.upload.context import UploadContext, UploadSummary
from tidepool_ingest.upload.deleting import delete_replaced
from tidepool_ingest.upload.normal import upload_normal
from tidepool_ingest.upload.reverification import reverify_one

log = logging.getLogger(__name__)


def upload_parts(context: UploadContext, batch: BatchRow) -> UploadSummary:
    """Upload every part until it is verified, and with the last one the batch; resume what was begun.

    What stops one part stops those after it as well.

    :param batch: the whole batch, prepared.
    :raises LeaseHeldError: if another task is working on it.
    :raises IngestError: what the upload of a part raises.
    """
    ledger = context.ledger
    with context.hold(lease_of_batch(batch.id)) as lease:
        current = ledger.batches.get(batch.id)
        check_not_superseded(current)
        check_not_withdrawn(current, force=context.options.force)
        parts = ledger.parts.of_batch(batch.id)
        if current.state is not BatchState.VERIFIED or context.options.force:
            _begin_upload(context, batch, lease)
        summaries = [_upload_part(context, batch, parts, part, lease) for part in parts]
        _delete_replaced(context, batch, parts, lease)
        ledger.parts.sum_up(batch.id, lease=lease)
    summed = replace(reduce(_sum, summaries), state=DataSetState.VERIFIED)
    log.info(
        "%s is verified: %d rows are visible, in %d parts.", batch.label, summed.visible_rows, len(parts)
    )
    return summed


def _begin_upload(context: UploadContext, batch: BatchRow, lease: Lease) -> None:
    if not context.ledger.batches.begin_upload(batch.id, lease=lease):
        raise SupersededBatchError(batch.label)


def _upload_part(
    context: UploadContext, batch: BatchRow, parts: Sequence[BatchRow], part: BatchRow, lease: Lease
) -> UploadSummary:
    context.check_not_stopped()
    try:
        summary = upload_normal(context, part, lease)
    except (SupersededBatchError, WithdrawnError):
        raise
    except IngestError as error:
        if error.disposition is not Disposition.RETRIABLE:
            _record_failure(context, batch, part, error, lease)
        raise
    remaining = [other for other in parts if (other.part or 0) > (part.part or 0)]
    log.info(
        "%s: %s verified, %d remaining in %s.",
        part.label,
        counted(summary.visible_rows, "row"),
        sum(other.expected_rows or 0 for other in remaining),
        counted(len(remaining), "part"),
    )
    if remaining and context.ledger.batches.get(batch.id).state is not BatchState.VERIFIED:
        _begin_upload(context, batch, lease)
    return summary


def _record_failure(
    context: UploadContext, batch: BatchRow, part: BatchRow, error: IngestError, lease: Lease
) -> None:
    batches = context.ledger.batches
    stops = {
        BatchState.HELD: batches.hold,
        BatchState.FAILED: batches.mark_failed,
        BatchState.UPLOADING: batches.mark_unfinished,
        BatchState.VERIFIED: batches.mark_unfinished,  # by an earlier upload
    }
    otherwise = batches.hold if isinstance(error, HeldError) else batches.mark_failed
    # The whole batch stops in the state of the part, if the part has stopped.
    stop = stops.get(batches.get(part.id).state, otherwise)
    stop(batch.id, error.code, error.particulars, lease=lease)


def _delete_replaced(
    context: UploadContext, batch: BatchRow, parts: Sequence[BatchRow], lease: Lease
) -> None:
    """Delete what the batch replaces, now that all of it is visible, and then reverify every part."""
    if delete_replaced(context, batch, context.guard(lease)):
        for part in parts:
            reverify_one(context, part)


def _sum(earlier: UploadSummary, later: UploadSummary) -> UploadSummary:
    """Return the sum of two summaries; the id is that of the later one."""
    sums: dict[str, Any] = {name: number + getattr(earlier, name) for name, number in later.counts().items()}
    return replace(later, data_set_id=later.data_set_id or earlier.data_set_id, **sums)
