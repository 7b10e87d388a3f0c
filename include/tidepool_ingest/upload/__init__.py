"""Upload prepared batches to Tidepool: open, send, close, verify.

The course of one batch; the ledger records each step before it is taken, and its outcome after:

1. :func:`upload_batch` takes its caller's context and chooses the kind of upload;
2. :func:`.normal.upload_normal` holds the batch's lease and resumes where an earlier attempt stopped;
3. :func:`.normal.open_data_set` opens a data set;
4. :meth:`.sending.Sending.send` sends its chunks, several at once;
5. :func:`.closing.close_and_verify` closes it, and compares what became visible with what was sent.

Every request goes through :mod:`.guarded_requests`. Batches of a feed are uploaded by :mod:`.feeds`, giant
batches part by part by :mod:`.parts`.
"""

from __future__ import annotations

from contextlib import suppress

from tidepool_ingest.ledger import BatchRow
from tidepool_ingest.model.deduplicators import CONTINUOUS
from tidepool_ingest.upload.context import UploadContext, UploadOptions, UploadSummary, data_set_body
from tidepool_ingest.upload.deleting import withdraw_batch
from tidepool_ingest.upload.feeds.resolver import (
    Feed,
    FeedError,
    check_data_set_type,
    check_not_continuous,
    continuous_data_set,
)
from tidepool_ingest.upload.feeds.step import upload_to_feed
from tidepool_ingest.upload.normal import SplitBatchError, upload_normal
from tidepool_ingest.upload.parts import upload_parts
from tidepool_ingest.upload.reverification import ChangedSinceError, Reverified, reverify, reverify_one

__all__ = [
    "ChangedSinceError",
    "Feed",
    "FeedError",
    "Reverified",
    "UploadContext",
    "UploadOptions",
    "UploadSummary",
    "check_data_set_type",
    "check_not_continuous",
    "continuous_data_set",
    "data_set_body",
    "reverify",
    "reverify_one",
    "upload_batch",
    "upload_normal",
    "upload_to_feed",
    "withdraw_batch",
]


def upload_batch(context: UploadContext, batch: BatchRow) -> UploadSummary:
    """Upload a prepared batch until it is verified, resuming from its state in the ledger.

    A batch for a continuous data set goes to that of its feed, and nothing is closed; one that is split into
    parts gets a data set for each, part by part. ``context.stop()`` ends it early. A damaged work area is
    rebuilt.

    :param context: what the operation works with.
    :param batch: the batch, prepared.
    :return: the outcome.
    :raises IngestError: whatever this kind of upload raises.
    """
    return context.with_work_area(batch, lambda: _upload(context, batch))


def _upload(context: UploadContext, batch: BatchRow) -> UploadSummary:
    if batch.data_set_type == CONTINUOUS:
        return upload_to_feed(context, batch)
    plan = context.work_area(batch).load()
    if plan is not None and not plan.parts:
        # Whether the ledger has parts of it all the same is looked up in the transaction that begins.
        with suppress(SplitBatchError):
            return upload_normal(context, batch, plan=plan)
    if context.ledger.parts.of_batch(batch.id):
        return upload_parts(context, batch)
    return upload_normal(context, batch)
