"""The guard against uploading what another batch shows in the place of."""

from __future__ import annotations

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import IN_ITS_PLACE, BatchRow


class InItsPlaceError(IngestError):
    """Another batch shows in the place of this one.

    :param batch: the batch's label.
    """

    disposition: Disposition = Disposition.DATA

    def __init__(self, batch: str) -> None:
        super().__init__(
            f"Batch {batch} is not uploaded: another batch has been staged in its place.",
            remedy="Nothing to do, unless its own content is to be shown after all: then stage that as a new "
            "batch.",
            code="in-its-place",
        )


def check_not_in_its_place(batch: BatchRow) -> None:
    """Make sure that no other batch shows in the place of one.

    :param batch: the batch as the ledger has it now.
    :raises InItsPlaceError: one does.
    """
    if batch.state in IN_ITS_PLACE:
        raise InItsPlaceError(batch.label)
