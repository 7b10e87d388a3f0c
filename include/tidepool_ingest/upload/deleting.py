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
