"""A batch whose work area was tidied away, or lost, is prepared again."""

from __future__ import annotations

from upath import UPath

from tidepool_ingest.ledger import BatchRow, Ledger
from tidepool_ingest.options import RunOptions
from tidepool_ingest.prepare.step import prepare_batch
from tidepool_ingest.staged_batch import ApiHostOf
from tidepool_ingest.staging.work_area import WorkArea


def ensure_prepared(root: UPath, row: BatchRow, *, ledger: Ledger, api_host_of: ApiHostOf) -> None:
    """Make the work area of a batch anew if it is not there; what was said of refused records holds.

    A part's is made with that of the batch that it is cut from.

    :param root: the staging root.
    :param row: the batch in the ledger.
    :param ledger: takes the counts.
    :param api_host_of: checks the connection that the manifest names.
    :raises BatchError: if the batch does not lie in staging as it was; it says what is missing.
    """
    whole = ledger.batches.get(row.part_of or row.id)
    if whole.tidied is not None or WorkArea(root, whole.content_key).whole_plan() is None:
        options = RunOptions(max_quarantined_percent=100)
        prepare_batch(root, whole, ledger=ledger, options=options, api_host_of=api_host_of)
