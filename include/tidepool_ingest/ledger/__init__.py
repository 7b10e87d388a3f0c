"""The ledger: a database of our own that records what was found, opened, sent and verified.

It is the only place that a retry, a cleared task, a backfill or a second run resumes from.
"""

from __future__ import annotations

from tidepool_ingest.ledger.absences import Absences, WaitingBatch
from tidepool_ingest.ledger.actions import ActionKind, ActionRow, Actions, ActionStatus
from tidepool_ingest.ledger.attention import Attention
from tidepool_ingest.ledger.batches import Batches, BatchRow, FoundBatch, KnownBatch
from tidepool_ingest.ledger.caches import FileDigests, Manifests, ReadManifest
from tidepool_ingest.ledger.client_state import RateLimits
from tidepool_ingest.ledger.corrections import Corrections, Related, Tie
from tidepool_ingest.ledger.data_sets import COMMAND_LINE, ChunkRow, DataSetRow, DataSets, TaskOrigin
from tidepool_ingest.ledger.database import Database, migrate
from tidepool_ingest.ledger.device_days import DeviceDays, DeviceKey, DeviceSpan, Standing
from tidepool_ingest.ledger.devices import Devices
from tidepool_ingest.ledger.feeds import DELETIONS, FeedRow, Feeds, FeedWrites, origin_digest
from tidepool_ingest.ledger.leases import Lease, Leases, lease_of_batch
from tidepool_ingest.ledger.parts import FoundPart, Parts
from tidepool_ingest.ledger.record_counts import BatchDays, QuarantineReasons, Rejection, Rejections
from tidepool_ingest.ledger.retention import Retention
from tidepool_ingest.ledger.schema import LedgerTextError, check_found_texts
from tidepool_ingest.ledger.states import (
    DEAD_STATES,
    DECLINED,
    SUPERSEDED_STATES,
    BatchState,
    ChunkState,
    DataSetState,
    Dismissal,
    IllegalTransitionError,
    Purged,
)
from tidepool_ingest.ledger.stops import StoppedIn, Stops
from tidepool_ingest.ledger.turns import Turn, Turns
from tidepool_ingest.ledger.views import Unfinished, Upload, UploadFilter, Uploads

__all__ = [
    "COMMAND_LINE",
    "DEAD_STATES",
    "DECLINED",
    "DELETIONS",
    "SUPERSEDED_STATES",
    "Absences",
    "ActionKind",
    "ActionRow",
    "ActionStatus",
    "Actions",
    "Attention",
    "BatchDays",
    "BatchRow",
    "BatchState",
    "Batches",
    "ChunkRow",
    "ChunkState",
    "Corrections",
    "DataSetRow",
    "DataSetState",
    "DataSets",
    "Database",
    "DeviceDays",
    "DeviceKey",
    "DeviceSpan",
    "Devices",
    "Dismissal",
    "FeedRow",
    "FeedWrites",
    "Feeds",
    "FileDigests",
    "FoundBatch",
    "FoundPart",
    "IllegalTransitionError",
    "KnownBatch",
    "Lease",
    "Leases",
    "Ledger",
    "LedgerTextError",
    "Manifests",
    "Parts",
    "Purged",
    "QuarantineReasons",
    "RateLimits",
    "ReadManifest",
    "Rejection",
    "Rejections",
    "Related",
    "Retention",
    "Standing",
    "StoppedIn",
    "Stops",
    "TaskOrigin",
    "Tie",
    "Turn",
    "Turns",
    "Unfinished",
    "Upload",
    "UploadFilter",
    "Uploads",
    "WaitingBatch",
    "check_found_texts",
    "lease_of_batch",
    "origin_digest",
]


class Ledger:
    """The ledger and its tables.

    :param address: a SQLAlchemy URL of a SQLite or PostgreSQL database.
    """

    def __init__(self, address: str) -> None:
        self.database = Database(address)
        self.absences = Absences(self.database)
        self.actions = Actions(self.database)
        self.attention = Attention(self.database)
        self.batches = Batches(self.database)
        self.batch_days = BatchDays(self.database)
        self.corrections = Corrections(self.database)
        self.data_sets = DataSets(self.database)
        self.device_days = DeviceDays(self.database)
        self.devices = Devices(self.database)
        self.feed_writes = FeedWrites(self.database)
        self.feeds = Feeds(self.database)
        self.file_digests = FileDigests(self.database)
        self.leases = Leases(self.database)
        self.manifests = Manifests(self.database)
        self.parts = Parts(self.database)
        self.quarantine_reasons = QuarantineReasons(self.database)
        self.rejections = Rejections(self.database)
        self.retention = Retention(self.database)
        self.unfinished = Unfinished(self.database)
        self.rate_limits = RateLimits(self.database)
        self.stops = Stops(self.database)
        self.turns = Turns(self.database)
        self.uploads = Uploads(self.database)

    def migrate(self) -> None:
        """Create the tables, or bring those of an older version up to date."""
        migrate(self.database.engine)

    def close(self) -> None:
        """Close the database connections."""
        self.database.close()
