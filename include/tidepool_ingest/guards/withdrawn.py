"""The guard against uploading again what a person has taken back."""

from __future__ import annotations

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import BatchRow, BatchState


class WithdrawnError(IngestError):
    """A person has taken the batch back, and the run does not say that it is to be uploaded again.

    :param batch: the batch's label.
    """

    disposition: Disposition = Disposition.DATA

    def __init__(self, batch: str) -> None:
        super().__init__(
            f"Batch {batch} is not uploaded: somebody has undone its upload.",
            remedy="Nothing to do, unless it is to be uploaded after all: then run its day with `force`.",
            code="withdrawn",
        )


def check_not_withdrawn(batch: BatchRow, *, force: bool) -> None:
    """Make sure that nobody has taken a batch back, or that a run wants it again all the same.

    :param batch: the batch as the ledger has it now.
    :param force: whether the run wants it again.
    :raises WithdrawnError: if not.
    """
    if batch.state is BatchState.WITHDRAWN and not force:
        raise WithdrawnError(batch.label)
