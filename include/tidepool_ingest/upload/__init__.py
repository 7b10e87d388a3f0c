"""Prepared batches get into Tidepool: open, send, close, read back.

The whole way of one batch, each step recorded in the ledger before it is taken and its outcome after:

1. :func:`upload_batch` takes the context that its caller made, and chooses the kind of upload;
2. :func:`.normal.upload_normal` holds the batch's lease and goes on from where an earlier attempt left it;
3. :func:`.normal.open_data_set` opens a data set;
4. :meth:`.sending.Sending.send` sends its chunks, several at once;
5. :func:`.closing.close_and_verify` closes it, and compares what became visible with what was sent.

Every request goes through :mod:`.guarded_requests`. Batches of a feed go another way, :mod:`.feeds`; a giant
batch goes part by part, :mod:`.parts`.
"""

from __future__ import annotations

from tidepool_ingest.ledger import BatchRow
from tidepool_ingest.model.deduplicators import CONTINUOUS
from tidepool_ingest.upload.context import UploadContext, UploadOptions, UploadSummary, data_set_body
from tidepool_ingest.upload.deleting import withdraw_batch
from tidepool_ingest.upload.feeds.resolver import (
    Feed,
    FeedError,
    check_data_set_type,
    continuous_data_set,
    refuse_to_close,
)
from tidepool_ingest.upload.feeds.step import upload_to_feed
from tidepool_ingest.upload.normal import upload_normal
from tidepool_ingest.upload.parts import upload_parts
from tidepool_ingest.upload.recheck import ChangedSinceError, Rechecked, reverify, reverify_one

__all__ = [
    "ChangedSinceError",
    "Feed",
    "FeedError",
    "Rechecked",
    "UploadContext",
    "UploadOptions",
    "UploadSummary",
    "check_data_set_type",
    "continuous_data_set",
    "data_set_body",
    "refuse_to_close",
    "reverify",
    "reverify_one",
    "upload_batch",
    "upload_normal",
    "upload_to_feed",
    "withdraw_batch",
]


def upload_batch(context: UploadContext, batch: BatchRow) -> UploadSummary:
    """Bring a prepared batch to verified, from wherever the ledger says that it stands.

    A batch for a continuous data set goes to that of its feed, and nothing is closed; one that is cut into
    parts goes to a data set for each, part by part. ``context.stop()`` lets it end early.

    :param context: what it works with.
    :param batch: the batch, prepared.
    :return: what it came to.
    :raises IngestError: what the upload of its kind raises.
    """
    if batch.data_set_type == CONTINUOUS:
        return upload_to_feed(context, batch)
    if context.ledger.parts.of_batch(batch.id):
        return upload_parts(context, batch)
    return upload_normal(context, batch)
