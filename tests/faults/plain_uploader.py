"""For comparison: what a plain client does, the official uploader among them.

One request after the other, each blindly sent once more when it fails, whatever it does; no identifiers of
its own, no memory of what was sent, nothing read back. A task that fails begins again with a new data set.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from upath import UPath

from tidepool_ingest.client import (
    ClientSettings,
    TidepoolBusyError,
    TidepoolClient,
    TidepoolDataSetClosedError,
    TidepoolUnreachableError,
)
from tidepool_ingest.ledger import BatchRow, DataSetState, Ledger, TaskOrigin
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.upload import UploadSummary, UploadWishes, data_set_body
from tidepool_ingest.upload.guarded_requests import Timing

Result = TypeVar("Result")


class PlainUpload:
    """Upload a prepared batch; see :class:`~tidepool_ingest.upload.BatchUpload` for the parameters."""

    def __init__(
        self,
        client: TidepoolClient,
        ledger: Ledger,
        batch: BatchRow,
        root: UPath,
        settings: ClientSettings,
        *,
        origin: TaskOrigin,
        timing: Timing,
        wishes: UploadWishes,
    ) -> None:
        del origin, timing, wishes
        self._client = client
        self._ledger = ledger
        self._batch = batch
        self._work = WorkArea(root, batch.content_key)
        self._settings = settings

    def run(self) -> UploadSummary:
        """Open, send, close."""
        prepared = self._work.load()
        assert prepared is not None
        body = data_set_body(prepared.data_set, self._settings)
        upload_id = _twice(lambda: self._client.open_data_set(self._batch.user_id, body)).upload_id
        for chunk in prepared.chunks:
            sent = b"[" + b",".join(self._work.read_chunk(chunk)) + b"]"
            _twice(partial(self._client.upload_data, upload_id, sent))
        # "Closed already" at the second try: closed by the first one, as far as a plain client can tell.
        with contextlib.suppress(TidepoolDataSetClosedError):
            _twice(lambda: self._client.close_data_set(upload_id))
        self._ledger.batches.mark_verified(self._batch.id)
        return UploadSummary(upload_id, DataSetState.CLOSED, prepared.expected_rows, 0, len(prepared.chunks))


def _twice(request: Callable[[], Result]) -> Result:
    try:
        return request()
    except (TidepoolUnreachableError, TidepoolBusyError):
        return request()
