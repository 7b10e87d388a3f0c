"""Step three: get the accepted records of a batch into a normal data set, once.

The ledger is told of each step before it is taken and of its outcome after. Whoever comes after a crash or a
lost answer therefore knows which step is in doubt, and each doubt has its own way out:

* a creation in doubt left at most an empty set that no route can find: a new one is opened;
* a chunk in doubt is taken back and sent again (:mod:`.sending`);
* a close in doubt is asked for again (:mod:`.closing`);
* where none of this is safe, the whole set is deleted and begun anew.

A holder of the batch's claim that was stalled past its end cannot write into the ledger any more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from upath import UPath

from tidepool_ingest.guards import HeldError
from tidepool_ingest.ledger import (
    GIVEN_UP,
    BatchRow,
    BatchState,
    DataSetRow,
    DataSetState,
    Lease,
    Ledger,
    TaskOrigin,
    lease_of_batch,
)
from tidepool_ingest.model.deduplicators import NORMAL
from tidepool_ingest.tidepool import (
    ClientSettings,
    TidepoolClient,
)
from tidepool_ingest.upload import timing as timings
from tidepool_ingest.upload.attempt import Attempt
from tidepool_ingest.upload.caution import Caution
from tidepool_ingest.upload.closing import Closing
from tidepool_ingest.upload.deleting import delete_data_set
from tidepool_ingest.upload.feeds.keeper import Feed, check_data_set_type, claim_for_normal
from tidepool_ingest.upload.job import job_of
from tidepool_ingest.upload.opening import Opening
from tidepool_ingest.upload.pace import Pace
from tidepool_ingest.upload.refused import TooManyRefusedByTidepoolError
from tidepool_ingest.upload.replacing import delete_replaced
from tidepool_ingest.upload.sending import Sending
from tidepool_ingest.upload.summary import UploadSummary
from tidepool_ingest.upload.timing import Timing
from tidepool_ingest.upload.verify import Comparison, VerificationError
from tidepool_ingest.upload.ways import StartOverError
from tidepool_ingest.upload.wishes import UploadWishes

log = logging.getLogger(__name__)

DATA_SETS_AN_ATTEMPT = 2
"""How many data sets one attempt may begin: the first, and one more where the first had to be given up."""


class _NothingLeftError(Exception):
    """No record of a part is left: Tidepool itself has refused them all."""


class BatchUpload:
    """One batch on its way into a data set.

    :param client: speaks to Tidepool; several threads share it.
    :param ledger: remembers each step.
    :param batch: the prepared batch.
    :param root: the staging root, in which its work area lies.
    :param settings: name the client where the manifest does not.
    :param wishes: what the run wants of it.
    :param origin: the task at work, for the ledger.
    :param on_open: told the data set's id the moment it is known.
    :param timing: how long steps may take; ``timing.USUAL`` when left out.
    :param claims: claims beside its own that have to last as long: of a part, the one on the whole batch.
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
        claims: tuple[Lease, ...] = (),
    ) -> None:
        self._job = job_of(
            client,
            ledger,
            batch,
            root,
            settings,
            origin=origin,
            timing=timing or timings.USUAL,
            wishes=wishes or UploadWishes(),
        )
        self._on_open = on_open or (lambda data_set_id: None)
        self._claims = claims
        self._stopping = threading.Event()

    def run(self) -> UploadSummary:
        """Bring the batch to verified, from wherever an earlier attempt left it.

        :raises LeaseHeldError: if another task is at work on it.
        :raises HeldError: if a newer batch of the device was verified meanwhile; nothing is left open.
        :raises VerificationError: if what is visible stays unlike what was sent.
        :raises UploadStoppedError: if it was told to stop.
        """
        job = self._job
        check_data_set_type(job.body["dataSetType"], NORMAL)
        with job.ledger.leases.held(lease_of_batch(job.batch.id), seconds=job.timing.lease) as lease:
            pace = Pace(job.ledger.slow_downs, job.batch.api_host, job.timing.patience)
            caution = Caution(job.timing, pace, (lease, *self._claims), (self._stopping,))
            return _Attempt(job, lease, caution, self._on_open).run()

    def stop(self) -> None:
        """Let :meth:`run` end before its next request; quick, and safe to call from a signal handler."""
        self._stopping.set()


class _Attempt(Attempt):
    """What one holder of the batch's claim does."""

    def _until_verified(self) -> UploadSummary:
        job = self._job
        feed = Feed(job.batch.api_host, job.batch.user_id, job.body)
        claim_for_normal(job.client, job.ledger, feed, self._caution)
        comparison: Comparison | None = None
        for _ in range(DATA_SETS_AN_ATTEMPT):
            data_set = self._resume()
            if data_set is None:
                self._refused.check()
                if self._refused.is_all:
                    return self._nothing_left("")
                data_set = self._open()
            try:
                comparison = self._sent_and_closed(data_set)
            except _NothingLeftError:
                self._give_up(data_set)
                return self._nothing_left(str(data_set.upload_id))
            except HeldError:
                self._give_up(data_set)
                raise
            except StartOverError as reason:
                log.warning("Data set %s is given up: %s.", data_set.upload_id, reason)
            else:
                if comparison.is_exact and self._delete_replaced():
                    comparison = Closing(self._job, self._lease, self._caution).look_again(
                        data_set, self._refused.ordinals
                    )
                if comparison.is_exact:
                    return self._verified(data_set, comparison)
                difference = VerificationError(comparison).what
                log.warning("Data set %s is given up: %s", data_set.upload_id, difference)
            self._give_up(data_set)
        expected = job.prepared.expected_rows - self._refused.rows
        raise VerificationError(comparison or Comparison(expected, 0))

    def _sent_and_closed(self, data_set: DataSetRow) -> Comparison:
        job = self._job
        if data_set.state is DataSetState.OPEN:
            sending = Sending(job, data_set, self._lease, self._caution, self._refused)
            try:
                sending.send(job.prepared.chunks)
            except TooManyRefusedByTidepoolError:
                self._refused.finish()
                raise
            self._refused.finish()
            self._refused.check()  # what an earlier attempt noted may be too many already
            if self._refused.is_all:
                raise _NothingLeftError
        closing = Closing(job, self._lease, self._caution)
        return closing.close_and_look(data_set, self._refused.ordinals)

    # ---------------------------------------------------------------- where an earlier attempt left it

    def _resume(self) -> DataSetRow | None:
        """Return the data set that an earlier attempt began, if it can still be used."""
        latest = self._latest()
        if latest is None or latest.state in (DataSetState.VERIFIED, *GIVEN_UP):
            return None
        if latest.state is DataSetState.OPENING:
            Opening(self._job, self._lease, self._caution).reconcile(latest)
            return self._resume()
        if latest.state is DataSetState.DELETING:
            self._give_up(latest)
            return None
        self._job.ledger.data_sets.taken_up_by(latest.id, self._job.origin, lease=self._lease)
        self._on_open(str(latest.upload_id))
        log.info("Going on with data set %s, which is %s.", latest.upload_id, latest.state)
        return latest

    # ---------------------------------------------------------------- the steps

    def _open(self) -> DataSetRow:
        opening = Opening(self._job, self._lease, self._caution)
        upload_id = opening.open(self._job.prepared.expected_rows - self._refused.rows)
        self._on_open(upload_id)
        log.info("Opened data set %s.", upload_id)
        latest = self._latest()
        assert latest is not None
        return latest

    def _verified(self, data_set: DataSetRow, comparison: Comparison) -> UploadSummary:
        self._set_data_set(
            data_set,
            DataSetState.VERIFIED,
            expected_rows=comparison.expected,
            visible_rows=comparison.visible,
            superseded_rows=comparison.superseded,
        )
        self._set_batch(BatchState.VERIFIED)
        log.info(
            "Data set %s is verified: %d rows are visible, each once%s.",
            data_set.upload_id,
            comparison.visible,
            f", and {comparison.superseded} are superseded by a later upload"
            if comparison.superseded
            else "",
        )
        return self._summary(data_set, expected=comparison.expected, visible=comparison.visible)

    def _delete_replaced(self) -> bool:
        """Delete what the batch replaces; a part leaves that to the whole batch, once all of it shows."""
        job = self._job
        if job.batch.part_of is not None:
            return False
        return delete_replaced(job.client, job.ledger, job.batch, job.timing, self._caution)

    def _nothing_left(self, upload_id: str) -> UploadSummary:
        """End a part of which Tidepool itself has refused all records, within what the run allows."""
        self._set_batch(BatchState.NOTHING_ACCEPTED)
        log.warning("%s: Tidepool refused all its records, so that nothing is left.", self._job.batch.label)
        return UploadSummary(upload_id, DataSetState.DELETED, 0, 0, repairs=self._job.counts.repairs)

    def _give_up(self, data_set: DataSetRow) -> None:
        self._job.counts.repairs += 1
        delete_data_set(self._job.client, self._job.ledger, data_set, self._lease, self._caution)

    def _set_data_set(self, data_set: DataSetRow, state: DataSetState, **values: Any) -> None:
        self._job.ledger.data_sets.set_state(data_set.id, state, lease=self._lease, **values)
