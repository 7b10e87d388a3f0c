"""For comparison: what a plain client does, the official uploader among them.

One request after the other, each blindly sent once more when it fails, whatever it does; no identifiers of
its own, no memory of what was sent, nothing read back. A task that fails begins again with a new data set.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from tidepool_ingest.client import (
    TidepoolBusyError,
    TidepoolDataSetClosedError,
    TidepoolUnreachableError,
)
from tidepool_ingest.ledger import BatchRow, DataSetState
from tidepool_ingest.upload import UploadContext, UploadSummary, data_set_body

Result = TypeVar("Result")


def plain_upload(context: UploadContext, batch: BatchRow) -> UploadSummary:
    """Open, send, close; see :func:`~tidepool_ingest.upload.upload_batch` for the parameters."""
    client, work = context.client, context.work_area(batch)
    prepared = context.prepared(batch)
    body = data_set_body(prepared.data_set, context.settings)
    data_set_id = _twice(lambda: client.open_data_set(batch.user_id, body)).data_set_id
    for chunk in prepared.chunks:
        sent = b"[" + b",".join(work.read_chunk(chunk)) + b"]"
        _twice(partial(client.upload_data, data_set_id, sent))
    # "Closed already" at the second try: closed by the first one, as far as a plain client can tell.
    with contextlib.suppress(TidepoolDataSetClosedError):
        _twice(lambda: client.close_data_set(data_set_id))
    context.ledger.batches.mark_verified(batch.id)
    return UploadSummary(data_set_id, DataSetState.CLOSED, prepared.expected_rows, 0, len(prepared.chunks))


def _twice(request: Callable[[], Result]) -> Result:
    try:
        return request()
    except (TidepoolUnreachableError, TidepoolBusyError):
        return request()
