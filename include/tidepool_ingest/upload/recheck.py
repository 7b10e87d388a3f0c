"""A verified batch is read back again, long after.

A later upload of the device rightly hides older rows, so that a verified data set is superseded record by
record. That is right and nothing is done about it. What nobody shows any more, and what shows twice, is not.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from dataclasses import dataclass

from upath import UPath

from tidepool_ingest.client import ClientSettings, TidepoolClient
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import (
    OlderThanUploadedError,
    PreparedOtherwiseError,
    check_order,
    is_as_sent,
)
from tidepool_ingest.ledger import (
    BatchRow,
    BatchState,
    DataSetRow,
    DataSetState,
    Lease,
    Ledger,
    lease_of_batch,
)
from tidepool_ingest.model.deduplicators import AtClose
from tidepool_ingest.upload import guarded_requests as timings
from tidepool_ingest.upload.closing import take_turn
from tidepool_ingest.upload.context import UploadWishes, job_of
from tidepool_ingest.upload.guarded_requests import Caution, Pace, Timing, UploadStoppedError
from tidepool_ingest.upload.read_back import Comparison, read_back_later

log = logging.getLogger(__name__)


class ChangedSinceError(IngestError):
    """What a verified batch shows is not what was verified, nor superseded.

    :param batch: the batch's label.
    :param comparison: what differs, by counts and positions.
    :param why: why it is not repaired, one sentence; empty when nobody asked for that.
    """

    disposition: Disposition = Disposition.DATA
    code = "changed-since-verified"
    sentence = "what Tidepool shows is not what was verified"
    remedy = (
        "Find out who changed it. To upload it again, run its day with `force`, and with the parameters that "
        "the message of that run may ask for."
    )

    def __init__(self, batch: str, comparison: Comparison, why: str) -> None:
        super().__init__(
            f"Batch {batch} was verified and has changed since: {comparison.difference()}."
            + (f" It is not repaired: {why}." if why else "")
        )
        self.comparison = comparison


@dataclass(frozen=True)
class Rechecked:
    """What a later look at a verified batch came to.

    :param data_set_id: the data set.
    :param comparison: what it shows.
    :param to_repair: it was given up: its upload, run again, deletes it and begins another one.
    """

    data_set_id: str
    comparison: Comparison
    to_repair: bool = False


class BatchRecheck:
    """Reads one verified batch back again.

    :param client: speaks to Tidepool.
    :param ledger: remembers what was found.
    :param batch: the batch.
    :param root: the staging root, in which its work area lies.
    :param settings: the connection's settings.
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
        timing: Timing | None = None,
    ) -> None:
        self._job = job_of(
            client,
            ledger,
            batch,
            root,
            settings,
            origin=None,
            timing=timing or timings.USUAL,
            wishes=UploadWishes(),
        )
        self._stopping = threading.Event()

    def run(self, *, repair: bool = False) -> Rechecked | None:
        """Compare what the batch shows with what was sent; nothing happens to one that is not verified.

        While it looks, no other data set of the device is closed.

        :param repair: give the data set up if rows are lost or double, so that the upload, run again,
            replaces it.
        :raises PreparedOtherwiseError: what it was prepared into is not what was sent.
        :raises ChangedSinceError: rows are lost or double, and are not repaired.
        :raises LeaseHeldError: if another task is at work on the batch or its device.
        """
        try:
            return self._run(repair=repair)
        finally:
            self._tell_the_whole()

    def _run(self, *, repair: bool) -> Rechecked | None:
        job = self._job
        with ExitStack() as stack:
            claim = job.ledger.leases.held(lease_of_batch(job.batch.id), seconds=job.timing.lease)
            lease = stack.enter_context(claim)
            data_set = self._verified()
            if data_set is None:
                return None
            if is_as_sent(job.prepared, data_set, job.ledger) is False:
                raise PreparedOtherwiseError(job.batch.label)
            pace = Pace(job.ledger.slow_downs, job.batch.api_host, job.timing.patience)
            caution = Caution(job.timing, pace, (lease,), (self._stopping,))
            comparison = self._compared(data_set, caution)
            if comparison.is_exact:
                self._note_right(data_set, comparison, lease)
                return Rechecked(str(data_set.upload_id), comparison)
            why = self._against_repair(comparison) if repair else ""
            if why or not repair:
                job.ledger.batches.set_state(
                    job.batch.id, BatchState.VERIFIED, reason=ChangedSinceError.code, lease=lease
                )
                raise ChangedSinceError(job.batch.label, comparison, why)
            self._give_up(data_set, comparison, lease)
            return Rechecked(str(data_set.upload_id), comparison, to_repair=True)

    def _tell_the_whole(self) -> None:
        """Let the batch that this one is a part of tell of it, unless a task is at work on that."""
        ledger, whole = self._job.ledger, self._job.batch.part_of
        if whole is not None and ledger.batches.get(whole).state is BatchState.VERIFIED:
            ledger.parts.sum_up(whole)

    def stop(self) -> None:
        """Let :meth:`run` end before its next request; quick, and safe to call from a signal handler."""
        self._stopping.set()

    def _verified(self) -> DataSetRow | None:
        begun = self._job.ledger.data_sets.of_batch(self._job.batch.id)
        batch = self._job.ledger.batches.get(self._job.batch.id)
        if batch.state is BatchState.VERIFIED and begun and begun[-1].state is DataSetState.VERIFIED:
            return begun[-1]
        return None

    def _compared(self, data_set: DataSetRow, caution: Caution) -> Comparison:
        refused = frozenset(self._job.ledger.refusals.of_batch(self._job.batch.id))
        with ExitStack() as turn:
            covered = caution.under(take_turn(turn, self._job, caution))
            return covered.ask(lambda: read_back_later(self._job, data_set, refused, covered))

    def _note_right(self, data_set: DataSetRow, comparison: Comparison, lease: Lease) -> None:
        job = self._job
        job.ledger.data_sets.note_check(data_set.id, comparison.superseded, lease=lease)
        if job.batch.reason == ChangedSinceError.code:
            job.ledger.batches.set_state(job.batch.id, BatchState.VERIFIED, lease=lease)
        log.info(
            "%s, data set %s: %d rows are visible, %d superseded by a later upload.",
            job.batch.label,
            data_set.upload_id,
            comparison.visible,
            comparison.superseded,
        )

    def _against_repair(self, comparison: Comparison) -> str:
        """Return why the batch must not be uploaded again without being asked for."""
        job = self._job
        if comparison.deleted:
            return "somebody deleted the data set, which may have been meant"
        if job.deduplicator.at_close is AtClose.DELETES_ALL:
            return "its deduplicator would delete all else of the device"
        try:
            check_order(job.ledger, job.batch, job.deduplicator)
        except OlderThanUploadedError:
            return "newer batches of the device are verified, and its older values would win"
        return ""

    def _give_up(self, data_set: DataSetRow, comparison: Comparison, lease: Lease) -> None:
        """Note that the set is to be deleted: whoever uploads the batch next begins with that."""
        job = self._job
        job.ledger.batches.set_state(
            job.batch.id, BatchState.UPLOADING, reason=ChangedSinceError.code, lease=lease
        )
        job.ledger.data_sets.set_state(data_set.id, DataSetState.DELETING, lease=lease)
        log.warning(
            "%s, data set %s is given up: %s.", job.batch.label, data_set.upload_id, comparison.difference()
        )


class PartsRecheck:
    """Reads the parts of one verified batch back again.

    :param looking: the look at each part, in their order.
    """

    def __init__(self, looking: list[BatchRecheck]) -> None:
        self._looking = looking
        self._stopping = threading.Event()

    def run(self) -> Rechecked | None:
        """Compare what each part shows with what was sent; nothing happens to one that is not verified.

        :raises ChangedSinceError: rows of a part are lost or double; the others were looked at all the same.
        :raises LeaseHeldError: if another task is at work on a part or its device.
        """
        found: list[Rechecked] = []
        changed: ChangedSinceError | None = None
        for one in self._looking:
            if self._stopping.is_set():
                raise UploadStoppedError
            try:
                right = one.run()
            except ChangedSinceError as error:
                changed = changed or error
            else:
                found += [] if right is None else [right]
        if changed is not None:
            raise changed
        if not found:
            return None
        seen = [one.comparison for one in found]
        summed = Comparison(
            sum(one.expected for one in seen),
            sum(one.visible for one in seen),
            superseded=sum(one.superseded for one in seen),
        )
        return Rechecked(found[-1].data_set_id, summed)

    def stop(self) -> None:
        """Let :meth:`run` end before its next request; quick, and safe to call from a signal handler."""
        self._stopping.set()
        for one in self._looking:
            one.stop()


def recheck_of(
    client: TidepoolClient,
    ledger: Ledger,
    batch: BatchRow,
    root: UPath,
    settings: ClientSettings,
    *,
    timing: Timing | None = None,
) -> BatchRecheck | PartsRecheck:
    """Return the later look at a verified batch, or at each of its parts; see :class:`BatchRecheck`."""
    parts = ledger.parts.of_batch(batch.id)
    looking = [BatchRecheck(client, ledger, one, root, settings, timing=timing) for one in (parts or [batch])]
    return PartsRecheck(looking) if parts else looking[0]
