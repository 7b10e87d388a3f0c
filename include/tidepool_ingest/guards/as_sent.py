"""A batch that was prepared again long after: its work area had been tidied away, or was lost."""

from __future__ import annotations

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import DataSetRow, Ledger
from tidepool_ingest.staging.chunk_plan import PreparedBatch


class PreparedOtherwiseError(IngestError):
    """A batch was prepared again, and by other rules than it was uploaded by.

    :param batch: the batch's label.
    """

    disposition: Disposition = Disposition.DATA

    def __init__(self, batch: str) -> None:
        super().__init__(
            f"Batch {batch} cannot be compared with what Tidepool shows: its work area had been tidied away, "
            "and it was prepared again by other rules than it was uploaded by.",
            remedy="What Tidepool shows stays as it is. To upload the batch anew, run its day with `force`.",
            code="prepared-otherwise",
        )


def is_as_sent(prepared: PreparedBatch, data_set: DataSetRow | None, ledger: Ledger) -> bool | None:
    """Tell whether a plan is the one by which a data set was sent, chunk by chunk.

    :param prepared: the plan.
    :param data_set: the newest that was begun for the batch.
    :param ledger: has the digest of each chunk that was sent.
    :return: ``None`` if nothing was sent.
    """
    if data_set is None:
        return None
    sent = {index: chunk.digest for index, chunk in ledger.data_sets.chunks_of(data_set.id).items()}
    return sent == {chunk.index: chunk.digest for chunk in prepared.chunks} if sent else None
