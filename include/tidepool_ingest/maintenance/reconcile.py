"""The maintenance job: unfinished uploads are completed, and some verified ones are verified again.

It takes the same leases as an upload, so it can run at any time. What can be completed from its work area is;
what cannot, and is not visible yet, is deleted.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from upath import UPath

from tidepool_ingest.client import TidepoolNotFoundError
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import PreparedOtherwiseError
from tidepool_ingest.ledger import (
    SUPERSEDED_STATES,
    BatchRow,
    BatchState,
    DataSetRow,
    DataSetState,
    Ledger,
    StoppedIn,
    lease_of_batch,
)
from tidepool_ingest.ledger.database import LeaseHeldError, LedgerUnavailableError
from tidepool_ingest.maintenance.cleanup import Cleanup, RetentionPolicy
from tidepool_ingest.model.deduplicators import CONTINUOUS
from tidepool_ingest.options import ReconcileOptions
from tidepool_ingest.prepare.step import ensure_prepared, rebuild_work_area
from tidepool_ingest.staged_batch import ApiHostOf, folder_of
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.storage import entries_of_root
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.texts import counted
from tidepool_ingest.upload import UploadContext, reverify_one, upload_batch
from tidepool_ingest.upload.deleting import delete_data_set
from tidepool_ingest.upload.guarded_requests import GuardedRequests, UploadStoppedError
from tidepool_ingest.upload.read_back import ReadBack, rows_of_set

log = logging.getLogger(__name__)

ContextOf = Callable[[str | None], UploadContext]
"""Returns the context for a connection that a manifest names, or for the job's own if that is ``None``.

Raises :class:`BatchError` for a connection that this deployment does not allow.
"""

NOT_WANTED = (*SUPERSEDED_STATES, BatchState.WITHDRAWN)
"""States of a batch that is no longer to be uploaded."""

LOOKED_THROUGH = 1_000
"""How many verified batches are searched for some that can be verified again."""


@dataclass
class Reconciled:
    """The results of a maintenance run.

    :param unfinished: batches that have been unfinished for too long.
    :param finished: those of them that are verified now.
    :param deleted: data sets deleted, because their records are not wanted or not available any more.
    :param busy: batches skipped because a task is processing them or their device.
    :param later: batches postponed to the next run, because Tidepool or storage did not answer.
    :param leases: expired leases removed from the ledger.
    :param checked: verified batches that were verified again.
    :param uncheckable: verified batches whose work area does not exist any more.
    :param superseded_rows: rows of those verified again that a later upload supersedes.
    :param repaired: verified batches with lost or duplicate rows, which were uploaded again.
    :param tidied: what was cleaned up, by kind.
    :param failed: batches that need attention, by the code of the cause.
    """

    unfinished: int = 0
    finished: int = 0
    deleted: int = 0
    busy: int = 0
    later: int = 0
    leases: int = 0
    checked: int = 0
    uncheckable: int = 0
    superseded_rows: int = 0
    repaired: int = 0
    tidied: dict[str, int] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)

    def sentences(self) -> list[str]:
        """Return what was done, for a log; nothing is said of what there was none of."""
        tidied = ", ".join(f"{number} {kind}" for kind, number in self.tidied.items())
        done = (
            (
                self.unfinished,
                f"{counted(self.unfinished, 'unfinished batch')}: {self.finished} completed, "
                f"{counted(self.deleted, 'data set')} deleted",
            ),
            (
                self.checked,
                f"{counted(self.checked, 'batch')} verified again, {self.repaired} of them uploaded again; "
                f"{counted(self.superseded_rows, 'row')} superseded by later uploads",
            ),
            (
                self.uncheckable,
                f"{counted(self.uncheckable, 'batch')} not compared: nothing is left to compare with",
            ),
            (self.busy, f"{counted(self.busy, 'batch')} left alone: a task is working on the device"),
            (self.later, f"{counted(self.later, 'batch')} left for the next run"),
            (self.leases, f"{counted(self.leases, 'expired lease')} removed"),
            (len(self.tidied), f"Cleaned up: {tidied}"),
        )
        said = [f"{what}." for number, what in done if number]
        return said or ["Nothing was unfinished, due to be verified again, or to be cleaned up."]

    def summary(self) -> dict[str, Any]:
        """Return the numbers for XCom."""
        return {**vars(self), "failed": dict(self.failed)}


class Reconciliation:
    """One run of the maintenance job.

    :param root: the staging root.
    :param ledger: knows what is unfinished.
    :param options: the run's parameters.
    :param context_of: see :data:`ContextOf`.
    :param api_host_of: checks the connection that a manifest names.
    :param keeping: how long records of finished batches are kept; without it, nothing is cleaned up.
    :param root_of: returns the staging root of a batch, if that may be another one than ``root``.
    :param on_stop: told of each batch that an error has stopped here, for the record.
    """

    def __init__(
        self,
        root: UPath,
        ledger: Ledger,
        *,
        options: ReconcileOptions,
        context_of: ContextOf,
        api_host_of: ApiHostOf,
        keeping: RetentionPolicy | None = None,
        root_of: Callable[[BatchRow], UPath] | None = None,
        on_stop: Callable[[BatchRow, IngestError], None] = lambda _batch, _error: None,
    ) -> None:
        self._root = root
        self._root_of = root_of or (lambda _row: root)
        self._ledger = ledger
        self._options = options
        self._context_of = context_of
        self._api_host_of = api_host_of
        self._keeping = keeping
        self._on_stop = on_stop
        self._stopping = threading.Event()
        self._counts = Reconciled()

    def run(self) -> Reconciled:
        """Complete what can be completed, one batch after the other; none blocks the others.

        :raises BatchError: ``staging-root-missing``: every batch would count as one that cannot be completed.
        :raises UploadStoppedError: if it was told to stop.
        :raises LedgerUnavailableError: if the ledger does not answer.
        """
        entries_of_root(self._root)
        now = self._ledger.database.now()
        before = now - timedelta(minutes=self._options.older_than_minutes)
        for number in self._ledger.unfinished.batches(before):
            self._counts.unfinished += 1
            self._process(number, self._complete)
        self._counts.leases = self._ledger.leases.sweep(before)
        self._check(now - timedelta(days=self._options.check_after_days))
        if self._keeping is not None:
            cleanup = Cleanup(self._root, self._ledger, self._keeping, stopping=self._stopping)
            self._counts.tidied = cleanup.run().summary()
        return self._counts

    def stop(self) -> None:
        """Let :meth:`run` end before its next request; quick, and safe to call from a signal handler."""
        self._stopping.set()

    def _process(self, number: int, step: Callable[[BatchRow], None]) -> None:
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
            self._on_stop(row, error)
            if error.disposition is Disposition.RETRIABLE:
                self._counts.later += 1
                log.info("%s is left for the next run: %s", row.label, error.what)
            elif self._ledger.batches.get(number).is_decided:
                log.info("%s, about which somebody has decided: %s", row.label, error.what)
            else:
                self._counts.failed[error.code] += 1
                log.error("%s: %s", row.label, error.what)
                log.error("What to do: %s", error.remedy)

    # ---------------------------------------------------------------- unfinished batches

    def _complete(self, row: BatchRow) -> None:
        if not self._is_in_sight(row):
            raise BatchError("staging-unreadable").for_batch(row.label)
        if row.data_set_type == CONTINUOUS:
            self._complete_feed(row)
        elif row.state in NOT_WANTED or (
            # What may be visible already is completed: otherwise nobody would know what Tidepool shows.
            (row.state is BatchState.HELD or row.is_decided) and not self._is_closing(row)
        ):
            self._delete(row)
        elif self._is_prepared(row):
            self._upload(row)
            self._counts.finished += 1
        else:
            self._delete(self._ledger.batches.get(row.id))

    def _is_in_sight(self, row: BatchRow) -> bool:
        """Return whether a batch's own staging root is here: it may be on storage that is not mounted now."""
        root, recorded = self._root_of(row), row.folder.rsplit("/", 3)[0]
        if str(root) == recorded == str(self._root):
            return True
        try:
            entries_of_root(root)
        except BatchError:
            return False
        # Where storage is mounted elsewhere than it was, the batch is there all the same.
        return str(root) == recorded or folder_of(root, row.day, row.user_id, row.batch_id).path.exists()

    def _complete_feed(self, row: BatchRow) -> None:
        """Complete a batch of a feed, if it may be; its data set holds other batches too and stays."""
        if row.state in (*NOT_WANTED, BatchState.HELD) or row.is_decided:
            return
        if self._is_prepared(row):
            self._upload(row)
            self._counts.finished += 1

    def _is_closing(self, row: BatchRow) -> bool:
        """Return whether a batch or a part of it may be visible already: then it had passed every guard."""
        newest = {found.batch: found for found in self._ledger.data_sets.of_batches(self._numbers(row))}
        return any(found.state in (DataSetState.CLOSING, DataSetState.CLOSED) for found in newest.values())

    def _numbers(self, row: BatchRow) -> list[int]:
        return [row.id, *(part.id for part in self._ledger.parts.of_batch(row.id))]

    def _can_be_compared(self, row: BatchRow) -> bool:
        """Return whether a verified batch has a work area, rebuilt if it is missing or damaged."""
        whole = self._ledger.batches.get(row.part_of or row.id)
        try:
            root = self._root_of(whole)
            if WorkArea(root, whole.content_key).whole_plan() is None:
                rebuild_work_area(root, whole, self._ledger)
        except IngestError as error:
            log.info("%s is not compared with what Tidepool shows: %s", row.label, error.what)
            return False
        return True

    def _is_prepared(self, row: BatchRow) -> bool:
        """Return whether there is a work area, prepared again if the staged batch is unchanged."""
        try:
            ensure_prepared(self._root_of(row), row, ledger=self._ledger, api_host_of=self._api_host_of)
        except IngestError as error:
            if error.disposition is not Disposition.DATA:
                raise
            log.info("%s cannot be prepared again: %s", row.label, error.what)
            return False
        return True

    def _context(self, row: BatchRow) -> UploadContext:
        context = self._context_of(row.connection)
        return replace(context, root=self._root_of(row), stopping=self._stopping)

    def _upload(self, row: BatchRow) -> None:
        upload_batch(self._context(row), row)

    def _delete(self, row: BatchRow) -> None:
        context = self._context(row)
        # The whole batch comes last: it stays unfinished until none of its parts is.
        for batch in (*self._ledger.parts.of_batch(row.id), row):
            self._counts.deleted += delete_unfinished(context, batch)

    # ---------------------------------------------------------------- verified batches

    def _check(self, before: datetime) -> None:
        remaining = self._options.check_batches
        for number in (
            self._ledger.data_sets.due_for_reverification(before, LOOKED_THROUGH) if remaining else ()
        ):
            if not remaining:
                break
            if self._can_be_compared(self._ledger.batches.get(number)):
                remaining -= 1
                self._process(number, self._verify_again)
            else:
                self._counts.uncheckable += 1

    def _verify_again(self, row: BatchRow) -> None:
        context = self._context(row)
        self._counts.checked += 1
        try:
            found = reverify_one(context, row, repair=self._options.repair)
        except PreparedOtherwiseError as error:
            self._counts.uncheckable += 1
            log.info("%s is not compared with what Tidepool shows: %s", row.label, error.what)
            return
        if found is None:
            return
        self._counts.superseded_rows += found.comparison.superseded
        if found.to_repair:
            self._upload(self._ledger.batches.get(row.part_of or row.id))
            self._counts.repaired += 1


def delete_unfinished(context: UploadContext, batch: BatchRow) -> int:
    """Delete the unfinished data sets of a batch, and return how many there were.

    A closed set that shows anything is kept: it may be all that remains of the data, and rows of it may
    rightly be hidden by newer ones.

    :raises UnverifiableError: there is such a set.
    :raises LeaseHeldError: if another task is working on the batch.
    """
    ledger, deleted = context.ledger, 0
    with context.hold(lease_of_batch(batch.id)) as lease:
        if ledger.batches.get(batch.id).state is not batch.state:
            return 0  # another task has processed it meanwhile
        requests = context.guard(lease)
        for data_set in ledger.data_sets.of_batch(batch.id):
            if data_set.state not in (DataSetState.OPENING, *DataSetState.unfinished()):
                continue
            if data_set.data_set_id is None:
                ledger.data_sets.mark_unreachable(data_set.id, lease=lease)
            else:
                if rows := _rows_shown(context, batch, data_set, requests):
                    raise UnverifiableError(batch.label, rows)
                delete_data_set(context, data_set, lease, requests)
                deleted += 1
        if batch.state is BatchState.UPLOADING:
            # Tidepool no longer has anything of it; the reason why it could not go on is recorded already.
            known = ledger.batches.get(batch.id)
            ledger.batches.mark_failed(batch.id, known.reason, known.reason_detail or "", lease=lease)
            if stopped_in := StoppedIn.of_text(known.stopped_in):
                ledger.stops.record(batch.id, stopped_in)
    return deleted


def _rows_shown(
    context: UploadContext, batch: BatchRow, data_set: DataSetRow, requests: GuardedRequests
) -> int:
    """Return how many rows a set shows that is closed and not deleted; none of another one count."""
    if data_set.state not in (DataSetState.CLOSING, DataSetState.CLOSED):
        return 0
    data_set_id = str(data_set.data_set_id)
    try:
        if requests.read(lambda: context.client.is_open(data_set_id)):
            return 0
    except TidepoolNotFoundError:
        return 0
    days = context.ledger.batch_days.of_batch(batch.id)
    shown = requests.read_until_visible(
        lambda: ReadBack(requests.stream(rows_of_set(context, batch.user_id, data_set_id, days))),
        is_settled=lambda found: len(found.rows) > 0 or found.deleted,
        amount=lambda found: len(found.rows),
    )
    return 0 if shown.deleted else len(shown.rows)


class UnverifiableError(IngestError):
    """A closed data set shows rows, and there is nothing to compare them with.

    :param batch: the batch's label.
    :param rows: how many rows it shows.
    """

    disposition: Disposition = Disposition.DATA
    code = "unverifiable"
    sentence = (
        "it is closed and shows records, but was never verified, and its work area and staged files are gone "
        "or hold something else"
    )
    remedy = "Stage the batch again where it lay, and run its day; or undo its upload."

    def __init__(self, batch: str, rows: int) -> None:
        super().__init__(f"Batch {batch} cannot be verified: {self.sentence}. It stays as it is.")
        self.particulars = f"it shows {counted(rows, 'row')}"
