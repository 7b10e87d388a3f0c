"""Step three, at its end, and step four: a data set is closed, and what became visible is read back.

A close in doubt is asked for again: the answer is either "closed" or "closed already", and both times only
what Tidepool then shows decides whether the batch is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import ExitStack

from tidepool_ingest.client import (
    TidepoolDataSetClosedError,
    TidepoolNotFoundError,
    TidepoolUnreachableError,
)
from tidepool_ingest.guards import OlderThanUploadedError, check_order, compares_days
from tidepool_ingest.ledger import BatchRow, DataSetRow, DataSetState, Lease, Ledger
from tidepool_ingest.ledger.database import LeaseHeldError
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.upload.context import UploadJob
from tidepool_ingest.upload.guarded_requests import POLL_SECONDS, Caution, Timing
from tidepool_ingest.upload.read_back import Comparison, read_back, read_back_later
from tidepool_ingest.upload.sending import StartOverError


def device_lease_name(batch: BatchRow) -> str:
    """Return the name of the claim under which data sets of a batch's device are closed."""
    return f"device:{short_hash(f'{batch.api_host} {batch.user_id} {batch.device_id}')}"


def take_turn(stack: ExitStack, job: UploadJob, caution: Caution, *, after_older: bool = False) -> Lease:
    """Wait for the claim on the device, and take it.

    With ``after_older``, older batches of the device that are at work go first. They need the claim
    themselves, and it is only they that are waited for, so that no two can wait for each other.

    :param stack: holds the claim.
    :param job: the batch whose turn it is.
    :param caution: keeps the claims that are held already.
    :param after_older: whether older batches that it can touch go first.
    :raises LeaseHeldError: others were at work for longer than a turn may take.
    """
    blocked = (lambda: _older_at_work(job)) if after_older else None
    return wait_for_device(stack, job.ledger, job.batch, job.timing, caution, blocked)


def wait_for_device(
    stack: ExitStack,
    ledger: Ledger,
    batch: BatchRow,
    timing: Timing,
    caution: Caution,
    blocked: Callable[[], LeaseHeldError | None] | None = None,
) -> Lease:
    """Wait for the claim on a batch's device, and take it; see :func:`take_turn`.

    :param blocked: tells what has to be over first, if anything.
    :raises LeaseHeldError: others were at work for longer than a turn may take.
    """
    give_up = time.monotonic() + timing.close_turn
    while True:
        caution.go_on()
        busy = blocked() if blocked else None
        if busy is None:
            try:
                claim = ledger.leases.held(device_lease_name(batch), seconds=timing.lease)
                device = stack.enter_context(claim)
            except LeaseHeldError as error:
                busy = error
            else:
                # One may have begun since; as long as this claim lasts, it cannot close.
                busy = blocked() if blocked else None
                if busy is None:
                    return device
                stack.close()
        if time.monotonic() >= give_up:
            raise busy
        caution.wait(POLL_SECONDS)


def _older_at_work(job: UploadJob) -> LeaseHeldError | None:
    """Return, as the error that it would end with, what the batch has to wait for."""
    sharing_days = compares_days(job.deduplicator)
    claims = job.ledger.devices.older_at_work(job.batch, sharing_days=sharing_days)
    return next((LeaseHeldError(name, left) for name, left in claims.items()), None)


BEGUN_TO_CLOSE = (DataSetState.CLOSING, DataSetState.CLOSED)
"""States of a data set that an earlier attempt left at its close."""


class Closing:
    """Closes one data set and compares what it shows with what was sent.

    :param job: the batch and what gets it into Tidepool.
    :param lease: the claim on the batch, under which the ledger is written.
    :param caution: covers the requests.
    """

    def __init__(self, job: UploadJob, lease: Lease, caution: Caution) -> None:
        self._job = job
        self._lease = lease
        self._caution = caution

    def close_and_look(self, data_set: DataSetRow, refused: AbstractSet[int]) -> Comparison:
        """Close a data set unless it is closed, and read it back.

        The deduplicator compares with what is active at that moment: of one device, one data set at a time
        is closed and read back, those of older batches first.

        :param data_set: all its chunks are stored.
        :param refused: places of the records that Tidepool refused.
        :raises StartOverError: Tidepool does not know it any more.
        :raises OlderThanUploadedError: a newer batch of the device is verified; this one was not closed.
        """
        with ExitStack() as stack:
            caution = self._caution.under(take_turn(stack, self._job, self._caution, after_older=True))
            in_doubt = False
            if data_set.state is not DataSetState.CLOSED:
                in_doubt = self._close_in_order(data_set, caution)
                self._job.ledger.data_sets.mark_closed(data_set.id, lease=self._lease)
            return self._look(data_set, refused, caution, patiently=in_doubt)

    def look_again(self, data_set: DataSetRow, refused: AbstractSet[int]) -> Comparison:
        """Read a closed data set back once more, after something else of its device was changed.

        :param data_set: it is closed.
        :param refused: places of the records that Tidepool refused.
        """
        with ExitStack() as stack:
            caution = self._caution.under(take_turn(stack, self._job, self._caution))
            return self._look(data_set, refused, caution, patiently=False)

    def _close_in_order(self, data_set: DataSetRow, caution: Caution) -> bool:
        """Close the set unless it is older than what is verified; tell whether a doubt is left."""
        if not self._job.wishes.allow_older:
            try:
                check_order(self._job.ledger, self._job.batch, self._job.deduplicator)
            except OlderThanUploadedError:
                if data_set.state is not DataSetState.CLOSING or self._is_open(data_set, caution):
                    raise
                # An earlier attempt's close was carried out, before the newer one's: look what it shows.
                return True
        return self._close(data_set, caution)

    def _is_open(self, data_set: DataSetRow, caution: Caution) -> bool:
        try:
            return caution.ask(lambda: self._job.client.is_open(str(data_set.upload_id)))
        except TidepoolNotFoundError:
            raise StartOverError("Tidepool does not know it any more") from None

    def _close(self, data_set: DataSetRow, caution: Caution) -> bool:
        """Close the set; tell whether the answer leaves a doubt about what is visible."""
        in_doubt = data_set.state is DataSetState.CLOSING
        self._job.ledger.data_sets.begin_close(data_set.id, lease=self._lease)
        for attempt in range(self._job.timing.attempts):
            self._job.counts.repairs += bool(attempt)
            try:
                caution.send(lambda: self._job.client.close_data_set(str(data_set.upload_id)))
            except TidepoolDataSetClosedError:
                return True
            except TidepoolNotFoundError:
                raise StartOverError("Tidepool does not know it any more") from None
            except TidepoolUnreachableError as error:
                if attempt + 1 == self._job.timing.attempts:
                    raise
                in_doubt = in_doubt or error.ambiguous
                caution.pause(attempt, error)
            else:
                return in_doubt
        return in_doubt

    def _look(
        self, data_set: DataSetRow, refused: AbstractSet[int], caution: Caution, *, patiently: bool
    ) -> Comparison:
        wait = self._job.timing.visible_wait if patiently else self._job.timing.visible_poll
        give_up = time.monotonic() + wait
        while True:
            comparison = caution.ask(lambda: read_back(self._job, data_set, refused, caution))
            if comparison.is_exact:
                return comparison
            if time.monotonic() >= give_up:
                break
            time.sleep(self._job.timing.visible_poll)
        # Others of the device may have been closed since: an earlier attempt's close was noted long ago, and
        # of our own the ledger knows by now.
        begun = data_set.state in BEGUN_TO_CLOSE
        noted = data_set if begun else self._job.ledger.data_sets.get(data_set.id)
        return caution.ask(lambda: read_back_later(self._job, noted, refused, caution))
