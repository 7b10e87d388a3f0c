"""Which way a batch is uploaded: to its feed, part by part, or as a whole."""

from __future__ import annotations

from typing import Any

from upath import UPath

from tidepool_ingest.ledger import BatchRow, Ledger
from tidepool_ingest.model.deduplicators import CONTINUOUS
from tidepool_ingest.tidepool import ClientSettings, TidepoolClient
from tidepool_ingest.upload.feeds.step import ContinuousUpload
from tidepool_ingest.upload.parts import PartsUpload
from tidepool_ingest.upload.step import BatchUpload

Upload = BatchUpload | PartsUpload


def upload_of(
    client: TidepoolClient,
    ledger: Ledger,
    batch: BatchRow,
    root: UPath,
    settings: ClientSettings,
    **more: Any,
) -> Upload:
    """Return the upload of a prepared batch; see :class:`~tidepool_ingest.upload.BatchUpload`.

    :param more: what else a :class:`~tidepool_ingest.upload.BatchUpload` takes.
    """
    kind: type[BatchUpload] | type[PartsUpload] = BatchUpload
    if batch.data_set_type == CONTINUOUS:
        kind = ContinuousUpload
    elif ledger.parts.of_batch(batch.id):
        kind = PartsUpload
    return kind(client, ledger, batch, root, settings, **more)
