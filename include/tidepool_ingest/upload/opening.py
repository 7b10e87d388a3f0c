"""Step three, at its beginning: a data set is opened.

Tidepool chooses its id, so that a creation whose answer was lost leaves at most an empty set that no route
can find. Where the connection asks for chosen ids, ours is noted before the request and sent with it: what
became of a creation in doubt can then be looked up. Tidepool's documentation forbids an id in the body; its
servers take one.
"""

from __future__ import annotations

import logging
from hashlib import blake2b
from typing import Final

from tidepool_ingest.ledger import BatchRow, DataSetRow, DataSetState, Lease
from tidepool_ingest.tidepool import TidepoolError, TidepoolNotFoundError, TidepoolUnreachableError
from tidepool_ingest.upload.caution import Caution
from tidepool_ingest.upload.job import UploadJob

log = logging.getLogger(__name__)

ID_BYTES: Final = 16
"""32 hex digits, within the Platform's ``^[0-9a-z]{32}$`` (platform: data/id.go)."""

SERVER_FAILURE: Final = 500
"""What a set answers whose creation broke off half-way; it can still be deleted."""


def chosen_id(batch: BatchRow, ordinal: int) -> str:
    """Return the id of a data set: the same each time, and another one in another ledger.

    :param batch: the batch.
    :param ordinal: the data set's place among the batch's, from 1.
    :return: 32 hex digits.
    """
    parts = (batch.api_host, batch.content_key, batch.created_at.isoformat(), str(ordinal))
    return blake2b("\n".join(parts).encode(), digest_size=ID_BYTES).hexdigest()


class Opening:
    """Opens the data sets of one batch.

    :param job: the batch and what gets it into Tidepool.
    :param lease: the claim on the batch, under which the ledger is written.
    :param caution: covers the requests.
    """

    def __init__(self, job: UploadJob, lease: Lease, caution: Caution) -> None:
        self._job = job
        self._lease = lease
        self._caution = caution

    def open(self, expected_rows: int) -> str:
        """Open another data set, and return its upload id.

        :param expected_rows: rows that Tidepool will hold when all is there.
        """
        job = self._job
        self._caution.go_on()
        row = job.ledger.data_sets.begin_opening(
            job.batch.id,
            data_set_type="normal",
            deduplicator=job.deduplicator.name,
            expected_rows=expected_rows,
            origin=job.origin,
            lease=self._lease,
            id_of=(lambda ordinal: chosen_id(job.batch, ordinal)) if job.chosen_ids else None,
        )
        # With an id of ours, a creation carried out late would meet what was done about it meanwhile.
        send = self._caution.ask if row.upload_id is None else self._caution.send
        body = job.body if row.upload_id is None else {**job.body, "id": row.upload_id}
        try:
            opened = send(lambda: job.client.open_data_set(job.batch.user_id, body))
        except TidepoolError as error:
            if not (isinstance(error, TidepoolUnreachableError) and error.ambiguous):
                self._note(row, DataSetState.REFUSED)
            raise
        self._note(row, DataSetState.OPEN, opened.upload_id)
        return opened.upload_id

    def reconcile(self, data_set: DataSetRow) -> None:
        """Find out what became of a creation in doubt, and note it: open, given up, or to be deleted.

        :param data_set: it was about to be opened.
        """
        if data_set.upload_id is None:
            self._note(data_set, DataSetState.UNREACHABLE)
            return
        self._caution.settle()
        try:
            usable = self._caution.ask(lambda: self._job.client.is_open(str(data_set.upload_id)))
        except TidepoolNotFoundError:
            self._note(data_set, DataSetState.REFUSED)
            return
        except TidepoolUnreachableError as error:
            if error.status != SERVER_FAILURE:
                raise
            usable = False
        self._note(data_set, DataSetState.OPEN if usable else DataSetState.DELETING)

    def _note(self, data_set: DataSetRow, state: DataSetState, upload_id: str | None = None) -> None:
        values = {} if upload_id is None else {"upload_id": upload_id}
        self._job.ledger.data_sets.set_state(data_set.id, state, lease=self._lease, **values)
