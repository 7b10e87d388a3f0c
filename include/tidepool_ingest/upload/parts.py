"""A giant batch gets into Tidepool part by part, each as a batch of its own in a data set of its own.

The parts go one after the other, for the data sets of one device are closed one at a time anyway. What is
verified is not looked at again: whoever comes after a crash goes on in the middle of the part under way.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

from upath import UPath

from tidepool_ingest.client import ClientSettings, TidepoolClient
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import (
    HeldError,
    InItsPlaceError,
    check_not_in_its_place,
    check_not_withdrawn,
)
from tidepool_ingest.ledger import (
    BatchRow,
    BatchState,
    DataSetState,
    Lease,
    Ledger,
    TaskOrigin,
    lease_of_batch,
)
from tidepool_ingest.model.deduplicators import CONTINUOUS
from tidepool_ingest.upload import guarded_requests as timings
from tidepool_ingest.upload.context import UploadSummary, UploadWishes
from tidepool_ingest.upload.deleting import delete_replaced
from tidepool_ingest.upload.feeds.step import ContinuousUpload
from tidepool_ingest.upload.guarded_requests import Caution, Pace, Timing, UploadStoppedError
from tidepool_ingest.upload.normal import BatchUpload
from tidepool_ingest.upload.recheck import BatchRecheck

log = logging.getLogger(__name__)


class PartsUpload:
    """One batch that is cut into parts, on its way into a data set for each.

    :param client: speaks to Tidepool.
    :param ledger: remembers each step.
    :param batch: the whole batch, prepared.
    :param root: the staging root, in which the work areas of its parts lie.
    :param settings: name the client where the manifest does not.
    :param wishes: what the run wants of it.
    :param origin: the task at work, for the ledger.
    :param on_open: told the id of each part's data set the moment it is known.
    :param timing: how long steps may take; ``timing.USUAL`` when left out.
    """

    def __init__(
        self,
        client: TidepoolClient,
        ledger: Ledger,
        batch: BatchRow,
        root: UPath,
        settings: ClientSettings,
        *,
        wishes: UploadWishes | None = None,
        origin: TaskOrigin | None = None,
        on_open: Callable[[str], None] | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._batch = batch
        self._root = root
        self._settings = settings
        self._wishes = wishes or UploadWishes()
        self._more: dict[str, Any] = {"wishes": self._wishes, "origin": origin, "on_open": on_open}
        self._timing = timing or timings.USUAL
        self._stopping = threading.Event()
        self._at_work: BatchUpload | BatchRecheck | None = None

    def run(self) -> UploadSummary:
        """Bring every part to verified, and with the last one the batch, from wherever it was left.

        What stops one part stops those after it as well.

        :raises LeaseHeldError: if another task is at work on it.
        :raises IngestError: what the upload of a part raises.
        """
        number = self._batch.id
        with self._ledger.leases.held(lease_of_batch(number), seconds=self._timing.lease) as lease:
            batch = self._ledger.batches.get(number)
            check_not_in_its_place(batch)
            check_not_withdrawn(batch, force=self._wishes.force)
            parts = self._ledger.parts.of_batch(number)
            if batch.state is not BatchState.VERIFIED or self._wishes.force:
                self._note_under_way(lease)
            summaries = [self._one(parts, part, lease) for part in parts]
            self._delete_replaced(parts, lease)
            self._ledger.parts.sum_up(number, lease=lease)
        summed = replace(reduce(_sum, summaries), state=DataSetState.VERIFIED)
        log.info("%s is verified: %d rows in %d parts.", batch.label, summed.visible_rows, len(parts))
        return summed

    def stop(self) -> None:
        """Let :meth:`run` end before its next request; quick, and safe to call from a signal handler."""
        self._stopping.set()
        if self._at_work is not None:
            self._at_work.stop()

    def _one(self, parts: Sequence[BatchRow], part: BatchRow, lease: Lease) -> UploadSummary:
        try:
            summary = self._uploaded(part, lease)
        except InItsPlaceError:
            raise
        except IngestError as error:
            if error.disposition is not Disposition.RETRIABLE:
                self._note_failure(part, error, lease)
            raise
        left = [one for one in parts if (one.part or 0) > (part.part or 0)]
        log.info(
            "%s: %d rows verified, %d left in %d parts.",
            part.label,
            summary.visible_rows,
            sum(one.expected_rows or 0 for one in left),
            len(left),
        )
        if left and self._ledger.batches.get(self._batch.id).state is not BatchState.VERIFIED:
            self._note_under_way(lease)
        return summary

    def _uploaded(self, part: BatchRow, lease: Lease) -> UploadSummary:
        upload = BatchUpload(
            self._client,
            self._ledger,
            part,
            self._root,
            self._settings,
            timing=self._timing,
            claims=(lease,),
            **self._more,
        )
        self._at_work = upload
        if self._stopping.is_set():
            raise UploadStoppedError
        return upload.run()

    def _note_under_way(self, lease: Lease) -> None:
        if not self._ledger.batches.begin_upload(self._batch.id, lease=lease):
            raise InItsPlaceError(self._batch.label)

    def _note_failure(self, part: BatchRow, error: IngestError, lease: Lease) -> None:
        batches = self._ledger.batches
        stops = {
            BatchState.HELD: batches.hold,
            BatchState.FAILED: batches.mark_failed,
            BatchState.UPLOADING: batches.mark_unfinished,
        }
        otherwise = batches.hold if isinstance(error, HeldError) else batches.mark_failed
        # The whole batch stops in the state of the part, if that has been brought to stop.
        stop = stops.get(batches.get(part.id).state, otherwise)
        stop(self._batch.id, error.code, lease=lease)

    def _delete_replaced(self, parts: Sequence[BatchRow], lease: Lease) -> None:
        """Delete what the batch replaces, now that all of it shows, and look at it once more after that."""
        pace = Pace(self._ledger.slow_downs, self._batch.api_host, self._timing.patience)
        caution = Caution(self._timing, pace, (lease,), (self._stopping,))
        if not delete_replaced(self._client, self._ledger, self._batch, self._timing, caution):
            return
        for part in parts:
            looking = BatchRecheck(
                self._client, self._ledger, part, self._root, self._settings, timing=self._timing
            )
            self._at_work = looking
            looking.run()


def _sum(one: UploadSummary, other: UploadSummary) -> UploadSummary:
    """Return what two parts came to; the id is that of the later one."""
    sums: dict[str, Any] = {name: number + getattr(one, name) for name, number in other.counts().items()}
    return replace(other, data_set_id=other.data_set_id or one.data_set_id, **sums)


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
