"""The maintenance job: what was left unfinished is brought to an end, what was verified is looked at again.

Everything happens under the same claims as an upload, so that it can run beside anything. What can be brought
to verified from its work area is; what cannot, and shows nothing yet, is deleted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from upath import UPath

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import PreparedOtherwiseError
from tidepool_ingest.ledger import BatchRow, BatchState, DataSetState, Ledger, TaskOrigin
from tidepool_ingest.ledger.errors import LeaseHeldError, LedgerUnavailableError
from tidepool_ingest.model.deduplicators import CONTINUOUS
from tidepool_ingest.options import ReconcileOptions
from tidepool_ingest.prepare import ensure_prepared
from tidepool_ingest.reconcile.counts import Reconciled
from tidepool_ingest.reconcile.leftovers import Leftovers
from tidepool_ingest.staged_batch import ApiHostOf
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.tidepool import ClientSettings, TidepoolClient
from tidepool_ingest.tidying import Keeping, Tidying
from tidepool_ingest.upload import BatchRecheck, Upload, upload_of
from tidepool_ingest.upload import timing as timings
from tidepool_ingest.upload.caution import UploadStoppedError
from tidepool_ingest.upload.timing import Timing

log = logging.getLogger(__name__)

ClientOf = Callable[[str | None], tuple[TidepoolClient, ClientSettings]]
"""Gives the client behind a connection that a manifest names, or behind the job's own for ``None``.

Raises :class:`BatchError` for a connection that this deployment does not allow.
"""

NOT_WANTED = (BatchState.REPLACED, BatchState.CORRECTED, BatchState.WITHDRAWN)
"""States of a batch that nobody wants to see uploaded any more."""

LOOKED_THROUGH = 1_000
"""Verified batches looked through for some that can be checked."""


class Reconciliation:
    """One run of the maintenance job.

    :param root: the staging root.
    :param ledger: knows what was left unfinished.
    :param options: the run's parameters.
    :param client_of: see :data:`ClientOf`.
    :param api_host_of: checks the connection that a manifest names.
    :param origin: the task at work, for the ledger.
    :param timing: how long steps may take; ``timing.USUAL`` when left out.
    :param keeping: how long what is over is kept; nothing is tidied away when left out.
    """

    def __init__(
        self,
        root: UPath,
        ledger: Ledger,
        *,
        options: ReconcileOptions,
        client_of: ClientOf,
        api_host_of: ApiHostOf,
        origin: TaskOrigin | None = None,
        timing: Timing | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        self._root = root
        self._ledger = ledger
        self._options = options
        self._client_of = client_of
        self._api_host_of = api_host_of
        self._origin = origin
        self._timing = timing or timings.USUAL
        self._keeping = keeping
        self._stopping = threading.Event()
        self._at_work: Upload | BatchRecheck | None = None
        self._counts = Reconciled()

    def run(self) -> Reconciled:
        """Bring to an end what can be, one batch after the other; none keeps the others from their turn.

        :raises UploadStoppedError: it was told to stop.
        :raises LedgerUnavailableError: if the ledger does not answer.
        """
        now = datetime.now(UTC)
        before = now - timedelta(minutes=self._options.older_than_minutes)
        for number in self._ledger.unfinished.batches(before):
            self._counts.unfinished += 1
            self._one(number, self._bring_to_an_end)
        self._counts.leases = self._ledger.leases.sweep(before)
        self._check(now - timedelta(days=self._options.check_after_days))
        if self._keeping is not None:
            tidying = Tidying(self._root, self._ledger, self._keeping, stopping=self._stopping)
            self._counts.tidied = tidying.run().summary()
        return self._counts

    def stop(self) -> None:
        """Let :meth:`run` end before its next request; quick, and safe to call from a signal handler."""
        self._stopping.set()
        if self._at_work is not None:
            self._at_work.stop()

    def _one(self, number: int, step: Callable[[BatchRow], None]) -> None:
        if self._stopping.is_set():
            raise UploadStoppedError
        row = self._ledger.batches.get(number)
        try:
            step(row)
        except (UploadStoppedError, LedgerUnavailableError):
            raise
        except LeaseHeldError:
            self._counts.busy += 1
        except IngestError as error:
            if error.disposition is Disposition.RETRIABLE:
                self._counts.later += 1
            else:
                self._counts.failed[error.code] += 1
            log.warning("%s is not in order: %s", row.label, error)
        finally:
            self._at_work = None

    # ---------------------------------------------------------------- left unfinished

    def _bring_to_an_end(self, row: BatchRow) -> None:
        if row.data_set_type == CONTINUOUS:
            self._go_on_with_feed(row)
        elif row.state in NOT_WANTED or (row.state is BatchState.HELD and not self._is_closing(row)):
            self._delete(row)
        elif self._is_prepared(row):
            self._upload(row)
            self._counts.finished += 1
        else:
            self._delete(self._ledger.batches.get(row.id))

    def _go_on_with_feed(self, row: BatchRow) -> None:
        """Bring a batch of a feed to its end, if it may; its data set holds others too and stays."""
        if row.state in (*NOT_WANTED, BatchState.HELD):
            return
        if self._is_prepared(row):
            self._upload(row)
            self._counts.finished += 1

    def _is_closing(self, row: BatchRow) -> bool:
        """Tell whether a batch or a part of it may be visible already: it had passed every guard by then."""
        newest = {one.batch: one for one in self._ledger.data_sets.of_batches(self._numbers(row))}
        return any(one.state in (DataSetState.CLOSING, DataSetState.CLOSED) for one in newest.values())

    def _numbers(self, row: BatchRow) -> list[int]:
        return [row.id, *(part.id for part in self._ledger.parts.of_batch(row.id))]

    def _has_work_area(self, row: BatchRow) -> bool:
        return WorkArea(self._root, row.content_key).whole_plan() is not None

    def _is_prepared(self, row: BatchRow) -> bool:
        """Tell whether there is a work area, made anew if the batch still lies in staging as it was."""
        try:
            ensure_prepared(self._root, row, ledger=self._ledger, api_host_of=self._api_host_of)
        except IngestError as error:
            if error.disposition is not Disposition.DATA:
                raise
            log.info("%s cannot be prepared again: %s", row.label, error)
            return False
        return True

    def _upload(self, row: BatchRow) -> None:
        client, settings = self._client_of(row.connection)
        upload = upload_of(
            client, self._ledger, row, self._root, settings, origin=self._origin, timing=self._timing
        )
        self._at_work = upload
        upload.run()

    def _delete(self, row: BatchRow) -> None:
        client, _settings = self._client_of(row.connection)
        # The whole batch comes last: it is left unfinished until nothing of its parts is.
        for one in (*self._ledger.parts.of_batch(row.id), row):
            leftovers = Leftovers(client, self._ledger, one, self._timing, self._stopping)
            self._counts.deleted += leftovers.delete()

    # ---------------------------------------------------------------- verified

    def _check(self, before: datetime) -> None:
        left = self._options.check_batches
        for number in self._ledger.data_sets.due_for_check(before, LOOKED_THROUGH) if left else ():
            if not left:
                break
            if self._has_work_area(self._ledger.batches.get(number)):
                left -= 1
                self._one(number, self._look_again)
            else:
                self._counts.uncheckable += 1

    def _look_again(self, row: BatchRow) -> None:
        client, settings = self._client_of(row.connection)
        looking = BatchRecheck(client, self._ledger, row, self._root, settings, timing=self._timing)
        self._at_work = looking
        self._counts.checked += 1
        try:
            found = looking.run(repair=self._options.repair)
        except PreparedOtherwiseError as error:
            self._counts.uncheckable += 1
            log.info("%s", error)
            return
        if found is None:
            return
        self._counts.superseded_rows += found.comparison.superseded
        if found.to_repair:
            self._upload(self._ledger.batches.get(row.part_of or row.id))
            self._counts.repaired += 1
