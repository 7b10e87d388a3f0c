"""A corrected batch: what it replaces is deleted once it shows itself.

The hash keeps a changed glucose value beside the old one, so closing the corrected batch is not enough. The
other way round, deleting first, would show what the old one had hidden in between.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack

from tidepool_ingest.ledger import BatchRow, BatchState, Ledger
from tidepool_ingest.tidepool import TidepoolClient
from tidepool_ingest.upload.caution import Caution
from tidepool_ingest.upload.deleting import claims_on, left_of, take_back
from tidepool_ingest.upload.timing import Timing
from tidepool_ingest.upload.turn import wait_for_device

log = logging.getLogger(__name__)


def delete_replaced(
    client: TidepoolClient, ledger: Ledger, batch: BatchRow, timing: Timing, caution: Caution
) -> bool:
    """Delete the data sets of the batch that this one replaces; tell whether there was any left to delete.

    Its state is noted first: whatever happens in between, it is never uploaded again.

    :param client: speaks to Tidepool.
    :param ledger: remembers each step.
    :param batch: the batch that replaces; all its records are visible.
    :param timing: how long steps may take.
    :param caution: covers the requests, under the claim on this batch.
    :raises LeaseHeldError: another task is at work on the other batch.
    """
    old = batch.replaces
    if old is None or not _left_of_all(ledger, old):
        return False
    with ExitStack() as stack, ExitStack() as turn:
        claims = claims_on(stack, ledger, old, timing.lease)
        covered = caution.under(*claims.values())
        covered = covered.under(wait_for_device(turn, ledger, batch, timing, covered))
        deleted = take_back(client, ledger, old, BatchState.CORRECTED, claims, covered)
        log.info("%s replaces batch %d: %d data sets are deleted.", batch.label, old, deleted)
    return True


def _left_of_all(ledger: Ledger, batch: int) -> bool:
    numbers = (batch, *(part.id for part in ledger.parts.of_batch(batch)))
    return any(left_of(ledger, number) for number in numbers)
