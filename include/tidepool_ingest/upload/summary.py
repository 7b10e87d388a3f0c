"""What an upload came to, in numbers and ids only."""

from __future__ import annotations

from dataclasses import dataclass

from tidepool_ingest.ledger import DataSetState


@dataclass(frozen=True)
class UploadSummary:
    """What an upload came to, in numbers and ids only.

    :param data_set_id: Tidepool's id of the data set, the session id; of several parts, the last one's.
    :param state: the data set's state in the ledger.
    :param expected_rows: rows that the accepted records make.
    :param visible_rows: rows that Tidepool shows.
    :param chunks_sent: chunks that this call sent.
    :param chunks_resumed: chunks that an earlier attempt had sent.
    :param repairs: chunks taken back and sent again, closes asked for again, data sets given up.
    :param superseded: records of a feed that a later batch had replaced or deleted.
    :param deleted: records of a feed that were deleted as the batch asked.
    :param size: bytes of the accepted records.
    """

    data_set_id: str
    state: DataSetState
    expected_rows: int
    visible_rows: int
    chunks_sent: int = 0
    chunks_resumed: int = 0
    repairs: int = 0
    superseded: int = 0
    deleted: int = 0
    size: int = 0

    def counts(self) -> dict[str, int]:
        """Return the numbers that several uploads can be summed up by."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}
