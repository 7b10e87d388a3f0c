"""What a closed data set of a batch shows, held against what was sent."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace

from tidepool_ingest.ledger import DataSetRow, DataSetState
from tidepool_ingest.upload.caution import Caution
from tidepool_ingest.upload.job import UploadJob
from tidepool_ingest.upload.shown import Shown
from tidepool_ingest.upload.superseded import TRUNCATING, later_sets, superseded_rows
from tidepool_ingest.upload.verify import Comparison, compare
from tidepool_ingest.upload.windows import rows_of_set


def read_back(
    job: UploadJob, data_set: DataSetRow, refused: AbstractSet[int], caution: Caution
) -> Comparison:
    """Read a data set back and compare it, record by record.

    :param job: the batch.
    :param data_set: its data set.
    :param refused: places, among the accepted records, of those that Tidepool refused.
    :param caution: keeps the claims while it is read.
    """
    return _compared(job, str(data_set.upload_id), _shown(job, data_set, caution), refused)


def read_back_later(
    job: UploadJob, data_set: DataSetRow, refused: AbstractSet[int], caution: Caution
) -> Comparison:
    """Do the same when other data sets of the device may have been closed meanwhile, and have hidden rows.

    :param job: the batch.
    :param data_set: its data set.
    :param refused: places, among the accepted records, of those that Tidepool refused.
    :param caution: keeps the claims while it is read.
    """
    shown = _shown(job, data_set, caution)
    upload_id = str(data_set.upload_id)
    comparison = _compared(job, upload_id, shown, refused)
    if comparison.is_exact:
        return comparison
    later = later_sets(job, data_set)
    if not TRUNCATING.isdisjoint(later.values()):
        # A later one deleted all that the device had, this set as well.
        gone = comparison.expected - comparison.visible
        return replace(comparison, missing=(), deleted=False, superseded=max(gone, 0))
    seen_whole = data_set.state is DataSetState.VERIFIED
    hidden = superseded_rows(
        job,
        upload_id,
        shown,
        frozenset(comparison.missing),
        only_by=None if seen_whole else later,
        caution=caution,
    )
    return _compared(job, upload_id, shown, refused, hidden) if hidden else comparison


def _shown(job: UploadJob, data_set: DataSetRow, caution: Caution) -> Shown:
    rows = rows_of_set(
        job.client, job.batch.user_id, str(data_set.upload_id), job.prepared.days, job.timing.read_rows
    )
    return Shown(caution.watch(rows))


def _compared(
    job: UploadJob,
    upload_id: str,
    shown: Shown,
    refused: AbstractSet[int],
    superseded: AbstractSet[str] = frozenset(),
) -> Comparison:
    return compare(job.work, job.prepared, upload_id, shown, refused=refused, superseded=superseded)
