"""The way out where nothing else is safe: a data set is deleted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack

from tidepool_ingest.ledger import BatchState, DataSetRow, DataSetState, Lease, Ledger, lease_of_batch
from tidepool_ingest.model.deduplicators import NORMAL
from tidepool_ingest.tidepool import TidepoolClient, TidepoolNotFoundError
from tidepool_ingest.upload.caution import Caution

log = logging.getLogger(__name__)


def delete_data_set(
    client: TidepoolClient, ledger: Ledger, data_set: DataSetRow, lease: Lease, caution: Caution
) -> None:
    """Delete a data set, once nothing that was asked for can be carried out in it any more.

    :param client: speaks to Tidepool.
    :param ledger: remembers each step.
    :param data_set: any one that was opened; deleting it again is no error.
    :param lease: the claim on its batch, under which the ledger is written.
    :param caution: covers the request.
    :raises ValueError: it is a continuous one, which holds what all batches of its feed have brought.
    """
    if data_set.data_set_type != NORMAL:
        raise ValueError("a continuous data set is never deleted")
    caution.settle()
    ledger.data_sets.set_state(data_set.id, DataSetState.DELETING, lease=lease)
    try:
        caution.send(lambda: client.delete_data_set(str(data_set.upload_id)))
    except TidepoolNotFoundError:
        log.info("Data set %s is gone already.", data_set.upload_id)
    ledger.data_sets.set_state(data_set.id, DataSetState.DELETED, lease=lease)


def left_of(ledger: Ledger, batch: int) -> list[DataSetRow]:
    """Return the data sets of a batch that may hold data, or are about to be opened, oldest first."""
    begun = ledger.data_sets.of_batch(batch)
    return [one for one in begun if one.state.may_hold_data or one.state is DataSetState.OPENING]


def claims_on(stack: ExitStack, ledger: Ledger, batch: int, seconds: float) -> dict[int, Lease]:
    """Claim a batch and all its parts, and return the claims by the number of each.

    :param stack: holds them.
    :param ledger: knows the parts.
    :param batch: the batch's number.
    :param seconds: how long a claim lasts without renewal.
    :raises LeaseHeldError: if another task is at work on any of them.
    """
    whole = {batch: stack.enter_context(ledger.leases.held(lease_of_batch(batch), seconds=seconds))}
    numbers = [part.id for part in ledger.parts.of_batch(batch)]
    return whole | {
        number: stack.enter_context(ledger.leases.held(lease_of_batch(number), seconds=seconds))
        for number in numbers
    }


def take_back(
    client: TidepoolClient,
    ledger: Ledger,
    batch: int,
    state: BatchState,
    claims: Mapping[int, Lease],
    caution: Caution,
) -> int:
    """Note that a batch and its parts are not to be uploaded any more, and delete all their data sets.

    :param client: speaks to Tidepool.
    :param ledger: remembers each step.
    :param batch: the batch's number.
    :param state: what it is from now on; noted first, of all parts at once.
    :param claims: see :func:`claims_on`.
    :param caution: covers the requests, under the claims on the batch, its parts and its device.
    :return: how many data sets were deleted.
    """
    ledger.parts.set_all(batch, state, lease=claims[batch])
    return sum(delete_left(client, ledger, one, lease, caution) for one, lease in claims.items())


def delete_left(client: TidepoolClient, ledger: Ledger, batch: int, lease: Lease, caution: Caution) -> int:
    """Delete every data set of a batch that may hold data, and return how many that were.

    The oldest goes first, so that none comes back to light by the deletion of one that hid it.

    :param client: speaks to Tidepool.
    :param ledger: remembers each step.
    :param batch: the batch's number; its state tells already that it is not to be uploaded any more.
    :param lease: the claim on it, under which the ledger is written.
    :param caution: covers the requests, under the claims on the batch and its device.
    """
    deleted = 0
    for data_set in left_of(ledger, batch):
        if data_set.upload_id is None:
            ledger.data_sets.set_state(data_set.id, DataSetState.UNREACHABLE, lease=lease)
        else:
            delete_data_set(client, ledger, data_set, lease, caution)
            deleted += 1
    return deleted
