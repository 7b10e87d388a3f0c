"""Steps three and four of the job: open, send, close, read back."""

from __future__ import annotations

from tidepool_ingest.upload.body import data_set_body
from tidepool_ingest.upload.choosing import Upload, upload_of
from tidepool_ingest.upload.feeds.errors import FeedError
from tidepool_ingest.upload.feeds.keeper import (
    Feed,
    check_data_set_type,
    continuous_data_set,
    refuse_to_close,
)
from tidepool_ingest.upload.feeds.step import ContinuousUpload
from tidepool_ingest.upload.parts import PartsUpload
from tidepool_ingest.upload.parts_recheck import PartsRecheck, recheck_of
from tidepool_ingest.upload.recheck import BatchRecheck, ChangedSinceError, Rechecked
from tidepool_ingest.upload.step import BatchUpload
from tidepool_ingest.upload.summary import UploadSummary
from tidepool_ingest.upload.wishes import UploadWishes
from tidepool_ingest.upload.withdrawing import BatchWithdrawal

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
