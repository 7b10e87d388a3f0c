"""One at a time: the turn of a batch to change what its device shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from tidepool_ingest.guards import compares_days
from tidepool_ingest.ledger import BatchRow, Lease, Ledger
from tidepool_ingest.ledger.errors import LeaseHeldError
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.upload.caution import POLL_SECONDS, Caution
from tidepool_ingest.upload.job import UploadJob
from tidepool_ingest.upload.timing import Timing


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
