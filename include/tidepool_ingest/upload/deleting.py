"""The way out where nothing else is safe: a data set is deleted."""

from __future__ import annotations

import logging

from tidepool_ingest.ledger import DataSetRow, DataSetState, Lease, Ledger
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
