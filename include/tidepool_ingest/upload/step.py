"""Step three: get the accepted records of a batch into a normal data set, once.

The ledger is told of each step before it is taken and of its outcome after. Whoever comes after a crash or a
lost answer therefore knows which step is in doubt, and each doubt has its own way out:

* a creation in doubt left at most an empty set that no route can find: a new one is opened;
* a chunk in doubt is removed by its identifiers and sent again, or, where the deduplicator does not let
  rows of an open set be removed, the whole set is deleted and begun anew;
* a close in doubt is asked for again: the answer is either "closed" or "closed already", and both times
  only what Tidepool then shows decides whether the batch is done.

A request whose answer was lost may be carried out later, after whatever has been done since. Two rules keep
that harmless: nothing further is done about a step in doubt before it can no longer be carried out, and a
claim on a batch or a device does not end before that either, however its holder ended. Whoever holds the
claims knows that no request of an earlier holder is under way. A holder that was stalled past its claim
cannot write into the ledger any more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from upath import UPath

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import (
    GIVEN_UP,
    BatchRow,
    BatchState,
    ChunkRow,
    ChunkState,
    DataSetRow,
    DataSetState,
    Lease,
    Ledger,
    TaskOrigin,
)
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import Chunk, PreparedBatch, WorkArea
from tidepool_ingest.tidepool import (
    ClientSettings,
    TidepoolClient,
    TidepoolDataSetClosedError,
    TidepoolError,
    TidepoolNotFoundError,
    TidepoolUnreachableError,
)
from tidepool_ingest.upload.body import data_set_body, deduplicator_of
from tidepool_ingest.upload.identify import identified
from tidepool_ingest.upload.summary import UploadSummary
from tidepool_ingest.upload.verify import Comparison, VerificationError, compare

log = logging.getLogger(__name__)

REQUEST_SECONDS = 150.0
"""The longest a request may take in all. The gateway cuts off at 60 s; the rest is the way there and back."""

DOUBT_SECONDS = 120.0
"""How long a request may still be carried out after it was given up without an answer.

The Platform's own work on it ends soon after the gateway has cut it off at 60 s; this is twice that."""

LEASE_SECONDS = 2 * REQUEST_SECONDS
"""How long a claim on a batch or a device outlives a holder that died.

At least ``REQUEST_SECONDS`` of it are left when a request is sent: what the dead have asked for is carried
out by then, or never."""

CLOSE_TURN_SECONDS = 2 * LEASE_SECONDS
"""How long to wait for another batch of the same device to be closed and read back."""

ATTEMPTS_A_STEP = 3
"""How often a step in doubt is reconciled and tried again before Airflow's own retry takes over."""

PAUSE_SECONDS = 1.0
"""Pause before a step is tried again, doubled each time."""

DATA_SETS_AN_ATTEMPT = 2
"""How many data sets one attempt may begin: the first, and one more where the first had to be given up."""

VISIBLE_WAIT_SECONDS = 60.0
"""How long to wait for rows to show after a close in doubt: the Platform may still be at work on it."""

VISIBLE_POLL_SECONDS = 2.0
"""Pause between two read-backs."""


class _StartOverError(Exception):
    """The data set cannot be brought in order where it is: delete it and begin a new one."""


class BatchUpload:
    """One batch on its way into a data set.

    :param client: speaks to Tidepool.
    :param ledger: remembers each step.
    :param batch: the prepared batch.
    :param root: the staging root, in which its work area lies.
    :param settings: name the client where the manifest does not.
    :param origin: the task at work, for the ledger.
    :param on_open: told the data set's id the moment it is known.
    :param force: open another data set even if the batch is verified in one.
    """

    def __init__(
        self,
        client: TidepoolClient,
        ledger: Ledger,
        batch: BatchRow,
        root: UPath,
        settings: ClientSettings,
        *,
        origin: TaskOrigin | None = None,
        on_open: Callable[[str], None] | None = None,
        force: bool = False,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._batch = batch
        self._work = WorkArea(root, batch.content_key)
        self._prepared = _prepared(self._work)
        self._body = data_set_body(self._prepared.data_set, settings)
        self._origin = origin or TaskOrigin()
        self._on_open = on_open or (lambda data_set_id: None)
        self._force = force
        self._deduplicator = deduplicator_of(self._body)
        self._sent = 0
        self._resumed = 0

    def run(self) -> UploadSummary:
        """Bring the batch to verified, from wherever an earlier attempt left it.

        :raises LeaseHeldError: if another task is at work on it.
        :raises VerificationError: if what is visible stays unlike what was sent.
        """
        with self._ledger.leases.held(f"batch:{self._batch.id}", seconds=LEASE_SECONDS) as lease:
            if done := self._done(lease):
                return done
            self._ledger.batches.set_state(self._batch.id, BatchState.UPLOADING, lease=lease)
            try:
                return self._until_verified(lease)
            except IngestError as error:
                if error.disposition is not Disposition.RETRIABLE:
                    self._note_failure(error, lease)
                raise

    def _until_verified(self, lease: Lease) -> UploadSummary:
        comparison: Comparison | None = None
        for _ in range(DATA_SETS_AN_ATTEMPT):
            data_set = self._resume(lease) or self._open(lease)
            try:
                self._send_chunks(data_set, lease)
                comparison = self._close_and_look(data_set, lease)
            except _StartOverError as reason:
                log.warning("Data set %s is given up: %s.", data_set.upload_id, reason)
            else:
                if comparison.is_exact:
                    return self._verified(data_set, comparison, lease)
                difference = VerificationError(comparison).what
                log.warning("Data set %s is given up: %s", data_set.upload_id, difference)
            self._delete(data_set, lease)
        raise VerificationError(comparison or Comparison(self._prepared.expected_rows, 0))

    def _note_failure(self, error: IngestError, lease: Lease) -> None:
        latest = self._latest()
        begun = latest is not None and latest.state.may_hold_data
        state = BatchState.UPLOADING if begun else BatchState.FAILED
        self._ledger.batches.set_state(self._batch.id, state, reason=error.code, lease=lease)
        # Errors of the client know the data set and the user's short hash, not the batch.
        log.error("%s cannot be uploaded: %s", self._batch.label, error)

    # ---------------------------------------------------------------- where an earlier attempt left it

    def _latest(self) -> DataSetRow | None:
        begun = self._ledger.data_sets.of_batch(self._batch.id)
        return begun[-1] if begun else None

    def _done(self, lease: Lease) -> UploadSummary | None:
        latest = self._latest()
        if latest is None or latest.state is not DataSetState.VERIFIED or latest.upload_id is None:
            return None
        if self._force and latest.run_id != self._origin.run_id:
            return None
        if self._batch.state is not BatchState.VERIFIED:
            # The attempt that verified the data set ended before it could note so of the batch.
            self._ledger.batches.set_state(self._batch.id, BatchState.VERIFIED, lease=lease)
        self._on_open(latest.upload_id)
        rows = latest.visible_rows or 0
        return UploadSummary(latest.upload_id, latest.state, latest.expected_rows, rows)

    def _resume(self, lease: Lease) -> DataSetRow | None:
        """Return the data set that an earlier attempt began, if it can still be used."""
        latest = self._latest()
        if latest is None or latest.state in (DataSetState.VERIFIED, *GIVEN_UP):
            return None
        if latest.upload_id is None:
            self._ledger.data_sets.set_state(latest.id, DataSetState.UNREACHABLE, lease=lease)
            return None
        if latest.state is DataSetState.DELETING:
            self._delete(latest, lease)
            return None
        self._ledger.data_sets.taken_up_by(latest.id, self._origin, lease=lease)
        self._on_open(latest.upload_id)
        log.info("Going on with data set %s, which is %s.", latest.upload_id, latest.state)
        return latest

    # ---------------------------------------------------------------- the steps

    def _open(self, lease: Lease) -> DataSetRow:
        lease.ensure(REQUEST_SECONDS)
        row = self._ledger.data_sets.begin_opening(
            self._batch.id,
            data_set_type="normal",
            deduplicator=self._deduplicator.name,
            expected_rows=self._prepared.expected_rows,
            origin=self._origin,
            lease=lease,
        )
        try:
            opened = self._client.open_data_set(self._batch.user_id, self._body)
        except TidepoolError as error:
            if not (isinstance(error, TidepoolUnreachableError) and error.ambiguous):
                self._ledger.data_sets.set_state(row.id, DataSetState.REFUSED, lease=lease)
            raise
        self._ledger.data_sets.set_state(row.id, DataSetState.OPEN, upload_id=opened.upload_id, lease=lease)
        self._on_open(opened.upload_id)
        log.info("Opened data set %s.", opened.upload_id)
        latest = self._latest()
        assert latest is not None
        return latest

    def _send_chunks(self, data_set: DataSetRow, lease: Lease) -> None:
        if data_set.state is not DataSetState.OPEN:
            return
        known = self._ledger.data_sets.chunks_of(data_set.id)
        for chunk in self._prepared.chunks:
            before = known.get(chunk.index)
            if before is not None and before.digest != chunk.digest:
                raise _StartOverError("the batch was prepared differently since it was begun")
            if before is not None and before.state is ChunkState.STORED:
                self._resumed += 1
                continue
            self._send_until_answered(data_set, chunk, before, lease)
            self._sent += 1
        log.info(
            "Data set %s holds %d chunks, %d of them from an earlier attempt.",
            data_set.upload_id,
            len(self._prepared.chunks),
            self._resumed,
        )

    def _send_until_answered(
        self, data_set: DataSetRow, chunk: Chunk, before: ChunkRow | None, lease: Lease
    ) -> None:
        in_doubt = before is not None
        for attempt in range(ATTEMPTS_A_STEP):
            try:
                return self._send(data_set, chunk, lease, in_doubt=in_doubt)
            except TidepoolUnreachableError as error:
                if attempt + 1 == ATTEMPTS_A_STEP:
                    raise
                in_doubt = in_doubt or error.ambiguous
                _pause(attempt, error, lease)
            except TidepoolDataSetClosedError:
                raise _StartOverError("it was closed before it was complete") from None
            except TidepoolNotFoundError:
                raise _StartOverError("Tidepool does not know it any more") from None
        return None

    def _send(self, data_set: DataSetRow, chunk: Chunk, lease: Lease, *, in_doubt: bool) -> None:
        upload_id = str(data_set.upload_id)
        records = list(identified(self._work.read_chunk(chunk), chunk, upload_id))
        if in_doubt:
            if not self._deduplicator.removes_from_open_set:
                raise _StartOverError("a chunk is in doubt and its deduplicator cannot take it back")
            selectors = [{"id": one} for _line, ids in records for one in ids]
            with _covered(lease):
                self._client.delete_data(upload_id, selectors)
        lease.ensure(REQUEST_SECONDS)
        self._ledger.data_sets.begin_chunk(
            data_set.id, chunk.index, digest=chunk.digest, records=chunk.records, lease=lease
        )
        body = b"[" + b",".join(line for line, _ids in records) + b"]"
        with _covered(lease):
            self._client.upload_data(upload_id, body)
        self._ledger.data_sets.chunk_stored(data_set.id, chunk.index, lease=lease)

    def _close_and_look(self, data_set: DataSetRow, lease: Lease) -> Comparison:
        # The deduplicator compares with what is active at this moment: one device closes one set at a time.
        device = (
            f"device:{short_hash(f'{self._batch.api_host} {self._batch.user_id} {self._batch.device_id}')}"
        )
        with self._ledger.leases.held(device, seconds=LEASE_SECONDS, wait=CLOSE_TURN_SECONDS) as turn:
            in_doubt = False
            if data_set.state is not DataSetState.CLOSED:
                in_doubt = self._close(data_set, lease, turn)
                self._ledger.data_sets.set_state(data_set.id, DataSetState.CLOSED, lease=lease)
            return self._look(data_set, lease, turn, patiently=in_doubt)

    def _close(self, data_set: DataSetRow, lease: Lease, turn: Lease) -> bool:
        """Close the set; tell whether the answer leaves a doubt about what is visible."""
        upload_id = str(data_set.upload_id)
        in_doubt = data_set.state is DataSetState.CLOSING
        self._ledger.data_sets.set_state(data_set.id, DataSetState.CLOSING, lease=lease)
        for attempt in range(ATTEMPTS_A_STEP):
            try:
                with _covered(lease, turn):
                    self._client.close_data_set(upload_id)
            except TidepoolDataSetClosedError:
                return True
            except TidepoolNotFoundError:
                raise _StartOverError("Tidepool does not know it any more") from None
            except TidepoolUnreachableError as error:
                if attempt + 1 == ATTEMPTS_A_STEP:
                    raise
                in_doubt = in_doubt or error.ambiguous
                _pause(attempt, error, lease, turn)
            else:
                return in_doubt
        return in_doubt

    def _look(self, data_set: DataSetRow, *leases: Lease, patiently: bool) -> Comparison:
        upload_id = str(data_set.upload_id)
        give_up = time.monotonic() + (VISIBLE_WAIT_SECONDS if patiently else VISIBLE_POLL_SECONDS)
        while True:
            for lease in leases:
                lease.ensure(REQUEST_SECONDS)
            shown = self._client.read_data(self._batch.user_id, upload_id=upload_id)
            comparison = compare(self._work, self._prepared, upload_id, shown)
            if comparison.is_exact or time.monotonic() >= give_up:
                return comparison
            time.sleep(VISIBLE_POLL_SECONDS)

    def _verified(self, data_set: DataSetRow, comparison: Comparison, lease: Lease) -> UploadSummary:
        self._ledger.data_sets.set_state(
            data_set.id, DataSetState.VERIFIED, visible_rows=comparison.visible, lease=lease
        )
        self._ledger.batches.set_state(self._batch.id, BatchState.VERIFIED, lease=lease)
        log.info(
            "Data set %s is verified: %d rows are visible, each once.", data_set.upload_id, comparison.visible
        )
        return UploadSummary(
            str(data_set.upload_id),
            DataSetState.VERIFIED,
            comparison.expected,
            comparison.visible,
            self._sent,
            self._resumed,
        )

    def _delete(self, data_set: DataSetRow, lease: Lease) -> None:
        lease.ensure(REQUEST_SECONDS)
        self._ledger.data_sets.set_state(data_set.id, DataSetState.DELETING, lease=lease)
        try:
            with _covered(lease):
                self._client.delete_data_set(str(data_set.upload_id))
        except TidepoolNotFoundError:
            log.info("Data set %s is gone already.", data_set.upload_id)
        self._ledger.data_sets.set_state(data_set.id, DataSetState.DELETED, lease=lease)


@contextmanager
def _covered(*leases: Lease) -> Iterator[None]:
    """Cover a request that changes something: the claims outlive it, and its doubt if it leaves one."""
    for lease in leases:
        lease.ensure(REQUEST_SECONDS)
    try:
        yield
    except BaseException as error:
        # What is no answer of Tidepool's, a signal for example, leaves the request in doubt too.
        if not isinstance(error, TidepoolError) or getattr(error, "ambiguous", False):
            for lease in leases:
                lease.keep_for(DOUBT_SECONDS)
        raise


def _pause(attempt: int, error: TidepoolUnreachableError, *leases: Lease) -> None:
    """Wait before a step is tried again: if it is in doubt, until it can no longer be carried out."""
    if error.ambiguous:
        for lease in leases:
            lease.ensure(DOUBT_SECONDS + REQUEST_SECONDS)
        time.sleep(DOUBT_SECONDS)
    else:
        time.sleep(PAUSE_SECONDS * 2**attempt)


def _prepared(work: WorkArea) -> PreparedBatch:
    prepared = work.load()
    if prepared is None:
        raise BatchError("work-area-damaged", detail="it is not there")
    return prepared
