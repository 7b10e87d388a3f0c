"""Fill a ledger that was lost, from staging and from what Tidepool has.

Each ready batch in staging is registered and prepared as a run would do it. Where Tidepool has a data set
that was opened for it, that is compared and adopted; no batch is uploaded. What Tidepool does not have is
left to the next run. Second data sets for one batch, and what is left of undone or replaced ones, are
deleted, as a run does. Batches that the ledger knows to be started or done stay as they are, so that an
interrupted rebuild can be run again.

Batches for continuous data sets are not looked for one by one: a run finds the data set by its client name,
and sends the records again, which replace themselves there.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import date

from upath import UPath

from tidepool_ingest.client.connections import OWN_CONNECTIONS
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import SupersededBatchError, WithdrawnError
from tidepool_ingest.ledger import BatchRow, BatchState
from tidepool_ingest.model.deduplicators import CONTINUOUS
from tidepool_ingest.options import PART_RECORDS, RunOptions
from tidepool_ingest.plan import plan_run
from tidepool_ingest.prepare.step import prepare_batch
from tidepool_ingest.staged_batch import folder_of, unreadable_key
from tidepool_ingest.staging.batches import days
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.upload import UploadContext
from tidepool_ingest.upload.normal import adopt_batch
from tidepool_ingest.window import Window

log = logging.getLogger(__name__)

FOUND, NOT_THERE, IN_PART = "found", "not-there", "in-part"
UNDONE, KNOWN, UNREADABLE, FEEDS = "undone", "known", "unreadable", "feeds"
"""What becomes of a batch. One that stops is counted by the code of the reason instead."""


class LedgerRebuild:
    """Fills a ledger.

    :param root: the staging root.
    :param context: speaks to Tidepool, and contains the ledger.
    :param api_host: the host of the Tidepool API.
    :param part_records: records per part, as in the runs that uploaded.
    """

    def __init__(
        self, root: UPath, context: UploadContext, api_host: str, part_records: int = PART_RECORDS
    ) -> None:
        self._root = root
        self._context = context
        self._ledger = context.ledger
        self._api_host = api_host
        # A dry run decides nothing for good, and no guard holds what Tidepool may already have.
        self._options = RunOptions(
            part_records=part_records,
            max_quarantined_percent=100,
            allow_older=True,
            allow_truncate=True,
            dry_run=True,
        )
        self._counts: Counter[str] = Counter()

    def run(self) -> Counter[str]:
        """Go through staging, the oldest day first, and return what became of how many batches.

        :raises IngestError: Tidepool or storage does not answer: run it again.
        """
        postponed: list[BatchRow] = []
        for day in sorted(days(self._root)):
            for row in self._planned(day, "normal"):
                try:
                    self._one(row)
                except _ReplacedUnknownError:
                    postponed.append(row)
            self._counts[FEEDS] += len(self._planned(day, CONTINUOUS))
        for row in postponed:
            try:
                self._one(row)
            except _ReplacedUnknownError as error:
                self._counts[error.code] += 1
        return +self._counts

    def _planned(self, day: date, data_set_type: str) -> list[BatchRow]:
        plan = plan_run(
            self._root,
            Window(day, day),
            ledger=self._ledger,
            options=self._options,
            api_host_of=self._api_host_of,
            data_set_type=data_set_type,
        )
        return plan.rows

    def _api_host_of(self, connection: str | None) -> str:
        if connection not in OWN_CONNECTIONS:
            raise BatchError("connection-not-allowed")
        return self._api_host

    def _one(self, row: BatchRow) -> None:
        if row.content_key == unreadable_key(folder_of(self._root, row.day, row.user_id, row.batch_id)):
            self._counts[UNREADABLE] += 1
            return
        if row.state is BatchState.UPLOADING or self._ledger.data_sets.of_batch(row.id):
            self._counts[KNOWN] += 1
            return
        try:
            prepare_batch(
                self._root,
                row,
                ledger=self._ledger,
                options=self._options,
                api_host_of=self._api_host_of,
                compare_before=False,
            )
            self._counts[self._adopted(self._ledger.batches.get(row.id))] += 1
        except (WithdrawnError, SupersededBatchError):
            self._counts[UNDONE] += 1
        except IngestError as error:
            if error.disposition is not Disposition.DATA:
                raise
            if error.code in _ReplacedUnknownError.codes:
                raise _ReplacedUnknownError(error.code) from None
            log.warning("%s", error)
            self._counts[error.code] += 1

    def _adopted(self, row: BatchRow) -> str:
        """Adopt what Tidepool has of a batch, and return how much that is."""
        if not adopt_batch(self._context, row):
            return NOT_THERE
        return FOUND if self._ledger.batches.get(row.id).state is BatchState.VERIFIED else IN_PART


class _ReplacedUnknownError(Exception):
    """The batch that this one replaces has not been looked at yet."""

    codes = ("replaces-unknown", "replaces-not-verified")

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
