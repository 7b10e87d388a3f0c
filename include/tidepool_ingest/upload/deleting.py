"""The way out where nothing else is safe: a data set is deleted."""

from __future__ import annotations

import logging

from tidepool_ingest.ledger import DataSetRow, DataSetState, Lease
from tidepool_ingest.tidepool import TidepoolNotFoundError
from tidepool_ingest.upload.caution import Caution
from tidepool_ingest.upload.job import UploadJob

log = logging.getLogger(__name__)


def delete_data_set(job: UploadJob, data_set: DataSetRow, lease: Lease, caution: Caution) -> None:
    """Delete a data set, once nothing that was asked for can be carried out in it any more.

    :param job: gives the client and the ledger.
    :param data_set: any one that was opened; deleting it again is no error.
    :param lease: the claim on its batch, under which the ledger is written.
    :param caution: covers the request.
    """
    caution.settle()
    job.ledger.data_sets.set_state(data_set.id, DataSetState.DELETING, lease=lease)
    try:
        caution.send(lambda: job.client.delete_data_set(str(data_set.upload_id)))
    except TidepoolNotFoundError:
        log.info("Data set %s is gone already.", data_set.upload_id)
    job.ledger.data_sets.set_state(data_set.id, DataSetState.DELETED, lease=lease)
