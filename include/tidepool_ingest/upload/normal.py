"""Step three: get the accepted records of a batch into a normal data set, once.

The ledger is told of each step before it is taken and of its outcome after. Whoever comes after a crash or a
lost answer therefore knows which step is in doubt, and each doubt has its own way out:

* a creation in doubt left at most an empty set that no route can find: a new one is opened;
* a chunk in doubt is taken back and sent again (:mod:`.sending`);
* a close in doubt is asked for again (:mod:`.closing`);
* where none of this is safe, the whole set is deleted and begun anew.

A holder of the batch's claim that was stalled past its end cannot write into the ledger any more.

Step three, at its beginning: a data set is opened.

Tidepool chooses its id, so that a creation whose answer was lost leaves at most an empty set that no route
can find. Where the connection asks for chosen ids, ours is noted before the request and sent with it: what
became of a creation in doubt can then be looked up. Tidepool's documentation forbids an id in the body; its
servers take one.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from upath import UPath

from tidepool_ingest.client import (
    ClientSettings,
    TidepoolClient,
    TidepoolError,
    TidepoolNotFoundError,
    TidepoolUnreachableError,
)
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import (
    HeldError,
    InItsPlaceError,
    check_not_in_its_place,
    check_not_withdrawn,
)
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
from tidepool_ingest.upload import guarded_requests as timings
from tidepool_ingest.upload.closing import Closing
from tidepool_ingest.upload.context import UploadJob, UploadSummary, UploadWishes, job_of
from tidepool_ingest.upload.deleting import delete_data_set, delete_replaced
from tidepool_ingest.upload.feeds.resolver import Feed, check_data_set_type, claim_for_normal
from tidepool_ingest.upload.guarded_requests import Caution, Pace, Timing
from tidepool_ingest.upload.read_back import Comparison, VerificationError
from tidepool_ingest.upload.rejections import RefusedRecords, TooManyRefusedByTidepoolError
from tidepool_ingest.upload.sending import Sending, StartOverError

log = logging.getLogger(__name__)


class Attempt(ABC):
    """What one holder of a claim does for a batch.

    :param job: the batch and what gets it into Tidepool.
    :param lease: the claim, under which the ledger is written.
    :param caution: covers the requests.
    :param on_open: told the data set's id the moment it is known.
    """

    def __init__(
        self,
        job: UploadJob,
        lease: Lease,
        caution: Caution,
        on_open: Callable[[str], None],
    ) -> None:
        self._job = job
        self._lease = lease
        self._caution = caution
        self._on_open = on_open
        self._refused = RefusedRecords(job, lease)

    def run(self) -> UploadSummary:
        """Bring the batch to verified, from wherever an earlier attempt left it."""
        batch = self._job.ledger.batches.get(self._job.batch.id)
        check_not_in_its_place(batch)
        check_not_withdrawn(batch, force=self._job.wishes.force)
        if done := self._done(batch.state):
            return done
        try:
            if not self._job.ledger.batches.begin_upload(batch.id, lease=self._lease):
                raise InItsPlaceError(batch.label)
            return self._until_verified()
        except InItsPlaceError:
            raise
        except IngestError as error:
            if error.disposition is not Disposition.RETRIABLE:
                self._note_failure(error)
            raise

    @abstractmethod
    def _until_verified(self) -> UploadSummary:
        """Do what is left to do."""

    def _latest(self) -> DataSetRow | None:
        begun = self._job.ledger.data_sets.of_batch(self._job.batch.id)
        return begun[-1] if begun else None

    def _done(self, state: BatchState) -> UploadSummary | None:
        latest = self._latest()
        if latest is None or latest.state is not DataSetState.VERIFIED or latest.upload_id is None:
            return None
        wishes = self._job.wishes
        if wishes.force and not latest.was_verified_by(self._job.origin.run_id, wishes.asked_at):
            return None
        if state is not BatchState.VERIFIED:
            # The attempt that verified the data set ended before it could note so of the batch.
            self._job.ledger.batches.mark_verified(self._job.batch.id, lease=self._lease)
        self._on_open(latest.upload_id)
        rows = latest.visible_rows or 0
        return UploadSummary(latest.upload_id, latest.state, latest.expected_rows, rows)

    def _summary(
        self, data_set: DataSetRow, *, expected: int, visible: int, superseded: int = 0, deleted: int = 0
    ) -> UploadSummary:
        """Return what the attempt came to, now that the data set is verified.

        :param expected: rows that the records make.
        :param visible: rows that Tidepool shows.
        :param superseded: records of a feed that a later batch had replaced or deleted.
        :param deleted: records of a feed that were deleted as the batch asked.
        """
        counts = self._job.counts
        return UploadSummary(
            str(data_set.upload_id),
            DataSetState.VERIFIED,
            expected,
            visible,
            counts.sent,
            counts.resumed,
            counts.repairs,
            superseded,
            deleted,
            self._job.prepared.size,
        )

    def _note_failure(self, error: IngestError) -> None:
        latest = self._latest()
        begun = latest is not None and latest.state.may_hold_data
        batches = self._job.ledger.batches
        stopped = batches.hold if isinstance(error, HeldError) else batches.mark_failed
        (batches.mark_unfinished if begun else stopped)(self._job.batch.id, error.code, lease=self._lease)
        # Errors of the client know the data set and the user's short hash, not the batch.
        log.error("%s cannot be uploaded: %s", self._job.batch.label, error)


ID_BYTES: Final = 16
"""32 hex digits, within the Platform's ``^[0-9a-z]{32}$`` (platform: data/id.go)."""

SERVER_FAILURE: Final = 500
"""What a set answers whose creation broke off half-way; it can still be deleted."""


def chosen_id(batch: BatchRow, ordinal: int) -> str:
    """Return the id of a data set: the same each time, and another one in another ledger.

    :param batch: the batch.
    :param ordinal: the data set's place among the batch's, from 1.
    :return: 32 hex digits.
    """
    parts = (batch.api_host, batch.content_key, batch.created_at.isoformat(), str(ordinal))
    return blake2b("\n".join(parts).encode(), digest_size=ID_BYTES).hexdigest()


class Opening:
    """Opens the data sets of one batch.

    :param job: the batch and what gets it into Tidepool.
    :param lease: the claim on the batch, under which the ledger is written.
    :param caution: covers the requests.
    """

    def __init__(self, job: UploadJob, lease: Lease, caution: Caution) -> None:
        self._job = job
        self._lease = lease
        self._caution = caution

    def open(self, expected_rows: int) -> str:
        """Open another data set, and return its upload id.

        :param expected_rows: rows that Tidepool will hold when all is there.
        """
        job = self._job
        self._caution.go_on()
        row = job.ledger.data_sets.begin_opening(
            job.batch.id,
            data_set_type="normal",
            deduplicator=job.deduplicator.name,
            expected_rows=expected_rows,
            origin=job.origin,
            lease=self._lease,
            id_of=(lambda ordinal: chosen_id(job.batch, ordinal)) if job.chosen_ids else None,
        )
        # With an id of ours, a creation carried out late would meet what was done about it meanwhile.
        send = self._caution.ask if row.upload_id is None else self._caution.send
        body = job.body if row.upload_id is None else {**job.body, "id": row.upload_id}
        try:
            opened = send(lambda: job.client.open_data_set(job.batch.user_id, body))
        except TidepoolError as error:
            if not (isinstance(error, TidepoolUnreachableError) and error.ambiguous):
                job.ledger.data_sets.mark_not_created(row.id, lease=self._lease)
            raise
        job.ledger.data_sets.mark_open(row.id, opened.upload_id, lease=self._lease)
        return opened.upload_id

    def reconcile(self, data_set: DataSetRow) -> None:
        """Find out what became of a creation in doubt, and note it: open, given up, or to be deleted.

        :param data_set: it was about to be opened.
        """
        data_sets = self._job.ledger.data_sets
        if data_set.upload_id is None:
            data_sets.mark_unreachable(data_set.id, lease=self._lease)
            return
        self._caution.settle()
        try:
            usable = self._caution.ask(lambda: self._job.client.is_open(str(data_set.upload_id)))
        except TidepoolNotFoundError:
            data_sets.mark_not_created(data_set.id, lease=self._lease)
            return
        except TidepoolUnreachableError as error:
            if error.status != SERVER_FAILURE:
                raise
            usable = False
        (data_sets.mark_open if usable else data_sets.begin_delete)(data_set.id, lease=self._lease)


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
        self._job.ledger.data_sets.mark_verified(
            data_set.id,
            expected_rows=comparison.expected,
            visible_rows=comparison.visible,
            superseded_rows=comparison.superseded,
            lease=self._lease,
        )
        self._job.ledger.batches.mark_verified(self._job.batch.id, lease=self._lease)
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
        self._job.ledger.batches.mark_nothing_accepted(self._job.batch.id, lease=self._lease)
        log.warning("%s: Tidepool refused all its records, so that nothing is left.", self._job.batch.label)
        return UploadSummary(upload_id, DataSetState.DELETED, 0, 0, repairs=self._job.counts.repairs)

    def _give_up(self, data_set: DataSetRow) -> None:
        self._job.counts.repairs += 1
        delete_data_set(self._job.client, self._job.ledger, data_set, self._lease, self._caution)
