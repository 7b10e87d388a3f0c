"""A corrected batch: what it replaces is deleted once it shows itself.

The hash keeps a changed glucose value beside the old one, so closing the corrected batch is not enough. The
other way round, deleting first, would show what the old one had hidden in between.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack

from tidepool_ingest.ledger import BatchState, lease_of_batch
from tidepool_ingest.upload.caution import Caution
from tidepool_ingest.upload.deleting import delete_left, left_of
from tidepool_ingest.upload.job import UploadJob
from tidepool_ingest.upload.turn import take_turn

log = logging.getLogger(__name__)


def delete_replaced(job: UploadJob, caution: Caution) -> bool:
    """Delete the data sets of the batch that this one replaces; tell whether there was any left to delete.

    Its state is noted first: whatever happens in between, it is never uploaded again.

    :param job: the batch that replaces; all its records are visible.
    :param caution: covers the requests, under the claim on this batch.
    :raises LeaseHeldError: another task is at work on the other batch.
    """
    old = job.batch.replaces
    if old is None or not left_of(job.ledger, old):
        return False
    with ExitStack() as stack:
        claim = job.ledger.leases.held(lease_of_batch(old), seconds=job.timing.lease)
        lease = stack.enter_context(claim)
        with ExitStack() as turn:
            covered = caution.under(lease)
            covered = covered.under(take_turn(turn, job, covered))
            job.ledger.batches.set_state(old, BatchState.CORRECTED, lease=lease)
            deleted = delete_left(job.client, job.ledger, old, lease, covered)
            log.info("%s replaces batch %d: %d data sets are deleted.", job.batch.label, old, deleted)
    return True
