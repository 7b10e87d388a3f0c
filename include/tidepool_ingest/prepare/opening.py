"""What has to be right before a data set is opened for a prepared batch."""

from __future__ import annotations

from collections.abc import Sequence

from tidepool_ingest.guards import check_order
from tidepool_ingest.ledger import BatchRow, DataSetRow, DataSetState, Ledger
from tidepool_ingest.model.deduplicators import Deduplicator
from tidepool_ingest.options import RunOptions

UNFINISHED = (DataSetState.OPEN, DataSetState.CLOSING, DataSetState.CLOSED)
"""States of a data set that the next upload goes on with."""


def opens_another(data_sets: Sequence[DataSetRow], options: RunOptions) -> bool:
    """Tell whether an upload would open a data set, rather than go on with one or find all done.

    :param data_sets: those that were begun for the batch, oldest first.
    :param options: the run's parameters.
    """
    if not data_sets or data_sets[-1].state is not DataSetState.VERIFIED:
        return not data_sets or data_sets[-1].state not in UNFINISHED
    return options.force


def check_opening(row: BatchRow, ledger: Ledger, options: RunOptions, deduplicator: Deduplicator) -> None:
    """Hold a batch for which no data set may be opened yet.

    :param row: the batch, prepared.
    :param ledger: knows the other batches of its device.
    :param options: what the run confirms.
    :param deduplicator: its data set's.
    :raises HeldError: saying why and what to do.
    """
    if not options.allow_older:
        check_order(ledger, row, deduplicator)
