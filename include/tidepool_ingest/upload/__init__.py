"""Steps three and four of the job: open, send, close, read back."""

from __future__ import annotations

from tidepool_ingest.upload.body import data_set_body
from tidepool_ingest.upload.recheck import BatchRecheck, ChangedSinceError, Rechecked
from tidepool_ingest.upload.step import CHUNKS_AT_ONCE, BatchUpload
from tidepool_ingest.upload.summary import UploadSummary

__all__ = [
    "CHUNKS_AT_ONCE",
    "BatchRecheck",
    "BatchUpload",
    "ChangedSinceError",
    "Rechecked",
    "UploadSummary",
    "data_set_body",
]
