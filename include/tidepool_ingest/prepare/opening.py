"""What has to be right before a data set is opened for a prepared batch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tidepool_ingest.guards import check_doubling, check_order, check_truncate
from tidepool_ingest.ledger import BatchRow, DataSetRow, DataSetState, Ledger
from tidepool_ingest.model.deduplicators import Deduplicator
from tidepool_ingest.options import RunOptions
from tidepool_ingest.prepare.record_checks import DEVICE_ID_DIFFERS
from tidepool_ingest.prepare.summary import PrepareSummary

UNFINISHED = (DataSetState.OPEN, DataSetState.CLOSING, DataSetState.CLOSED)
"""States of a data set that the next upload goes on with."""


def opens_another(
    data_sets: Sequence[DataSetRow],
    options: RunOptions,
    *,
    run_id: str | None,
    asked_at: datetime | None,
) -> bool:
    """Tell whether an upload would open a data set, rather than go on with one or find all done.

    :param data_sets: those that were begun for the batch, oldest first.
    :param options: the run's parameters.
    :param run_id: the run; what it has verified itself, it does not upload again.
    :param asked_at: when the run was started or cleared.
    """
    if not data_sets:
        return True
    latest = data_sets[-1]
    if latest.state is DataSetState.VERIFIED:
        return options.force and not latest.was_verified_by(run_id, asked_at)
    return latest.state not in UNFINISHED


def check_opening(
    row: BatchRow,
    data_sets: Sequence[DataSetRow],
    summary: PrepareSummary,
    *,
    ledger: Ledger,
    options: RunOptions,
    deduplicator: Deduplicator,
) -> None:
    """Hold a batch for which no data set may be opened yet.

    :param row: the batch, prepared.
    :param data_sets: those that were begun for it.
    :param summary: what became of its records.
    :param ledger: knows the other batches of its device.
    :param options: what the run confirms.
    :param deduplicator: its data set's.
    :raises HeldError: saying why and what to do.
    """
    if not options.allow_truncate:
        check_truncate(row, deduplicator)
    if not options.allow_doubling and any(one.state is DataSetState.VERIFIED for one in data_sets):
        differing = sum(codes.get(DEVICE_ID_DIFFERS, 0) for codes in summary.warnings.values())
        check_doubling(row, deduplicator, of_other_devices=differing)
    if not options.allow_older:
        check_order(ledger, row, deduplicator)
