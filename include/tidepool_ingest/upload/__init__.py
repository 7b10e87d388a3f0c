"""Steps three and four of the job: open, send, close, read back."""

from __future__ import annotations

from tidepool_ingest.upload.context import UploadSummary, UploadWishes, data_set_body
from tidepool_ingest.upload.deleting import BatchWithdrawal
from tidepool_ingest.upload.feeds.resolver import (
    Feed,
    FeedError,
    check_data_set_type,
    continuous_data_set,
    refuse_to_close,
)
from tidepool_ingest.upload.feeds.step import ContinuousUpload
from tidepool_ingest.upload.normal import BatchUpload
from tidepool_ingest.upload.parts import PartsUpload, Upload, upload_of
from tidepool_ingest.upload.recheck import (
    BatchRecheck,
    ChangedSinceError,
    PartsRecheck,
    Rechecked,
    recheck_of,
)

__all__ = [
    "BatchRecheck",
    "BatchUpload",
    "BatchWithdrawal",
    "ChangedSinceError",
    "ContinuousUpload",
    "Feed",
    "FeedError",
    "PartsRecheck",
    "PartsUpload",
    "Rechecked",
    "Upload",
    "UploadSummary",
    "UploadWishes",
    "check_data_set_type",
    "continuous_data_set",
    "data_set_body",
    "recheck_of",
    "refuse_to_close",
    "upload_of",
]
