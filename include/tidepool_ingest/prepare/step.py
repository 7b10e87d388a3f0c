"""Step two: a staged batch becomes accepted records in chunks, and a quarantine that names its reasons.

Nothing remote happens here, and nothing is dropped: every staged record ends among the accepted ones, in the
quarantine file with its reason, or counted as a repeat of an accepted one.
"""

from __future__ import annotations

import logging
from datetime import datetime

from upath import UPath

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import (
    TOO_MANY_REFUSED,
    HeldError,
    InItsPlaceError,
    WithdrawnError,
    check_not_in_its_place,
    check_not_withdrawn,
)
from tidepool_ingest.ledger import BatchRow, BatchState, Ledger, lease_of_batch
from tidepool_ingest.model.deduplicators import NORMAL
from tidepool_ingest.options import RunOptions
from tidepool_ingest.prepare.begun import Begun, note_parts, part_limit
from tidepool_ingest.prepare.checks import checked_batch, checked_data_set, replaced_batch
from tidepool_ingest.prepare.filing import file_batch
from tidepool_ingest.prepare.opening import check_opening, opens_another
from tidepool_ingest.prepare.summary import PrepareSummary, TooManyRefusedError, described, summary_of
from tidepool_ingest.staged_batch import ApiHostOf, named
from tidepool_ingest.staging.chunk_plan import PreparedBatch
from tidepool_ingest.staging.work_area import WorkArea

log = logging.getLogger(__name__)

TIDYING_SECONDS = 30.0
"""How long to wait for somebody who is tidying the batch's work area."""

COUNTS_NOTED = {"staged", "accepted", "quarantined", "identical", "expected_rows", "chunks"}
"""What the ledger keeps of a summary beside days and reasons."""


def prepare_batch(
    root: UPath,
    row: BatchRow,
    *,
    ledger: Ledger,
    options: RunOptions,
    api_host_of: ApiHostOf,
    run_id: str | None = None,
    asked_at: datetime | None = None,
) -> PrepareSummary:
    """Validate, edit and chunk a staged batch into its work area.

    A batch that an earlier attempt has prepared is not read again.

    :param root: the staging root.
    :param row: the batch in the ledger.
    :param ledger: takes the counts.
    :param options: the run's parameters.
    :param api_host_of: checks the connection that the manifest names.
    :param run_id: the run at work; what it has verified itself, it does not upload again.
    :param asked_at: when the run was started or cleared: a forced one does not repeat what it did since.
    :raises BatchError: if the batch cannot be taken.
    :raises TooManyRefusedError: if too large a share of its records is refused; where a person is asked, the
        summary says so instead, and the batch is held if no data set of it was begun.
    :raises HeldError: if another guard holds it until a person has looked at it.
    """
    try:
        return _prepare(root, row, ledger, options, api_host_of, run_id, asked_at)
    except (InItsPlaceError, WithdrawnError):
        raise
    except IngestError as error:
        if error.disposition is not Disposition.RETRIABLE:
            _note_failure(row.id, error, ledger)
        raise


def _left_of_an_earlier_attempt(work: WorkArea, row: BatchRow, ledger: Ledger) -> PreparedBatch | None:
    """Return the plan of the work area, if it is whole and stays.

    :raises LeaseHeldError: if it is being tidied away, or uploaded, at this moment.
    """
    if row.tidied is None:
        return work.whole_plan()
    # Whoever tidies it holds the claim until it is done.
    with ledger.leases.held(lease_of_batch(row.id), seconds=TIDYING_SECONDS, wait=TIDYING_SECONDS):
        return None


def _note_failure(batch: int, error: IngestError, ledger: Ledger) -> None:
    """Note why a batch stopped; one that Tidepool may hold data of stays what it is."""
    state = BatchState.HELD if isinstance(error, HeldError) else BatchState.FAILED
    if Begun.of(ledger, batch).any:
        state = ledger.batches.get(batch).state
    if state is not BatchState.VERIFIED:
        ledger.batches.set_state(batch, state, reason=error.code)


def _prepare(
    root: UPath,
    row: BatchRow,
    ledger: Ledger,
    options: RunOptions,
    api_host_of: ApiHostOf,
    run_id: str | None,
    asked_at: datetime | None,
) -> PrepareSummary:
    here = ledger.batches.get(row.id)
    check_not_in_its_place(here)
    check_not_withdrawn(here, force=options.force)
    batch = checked_batch(root, row, ledger, api_host_of)
    ledger.batches.note_replaced(row.id, replaced_batch(batch, row, ledger))
    row = ledger.batches.get(row.id)
    work = WorkArea(root, batch.content_key)
    begun = Begun.of(ledger, row.id)
    prepared = _left_of_an_earlier_attempt(work, row, ledger)
    limit = part_limit(batch.manifest, begun, options)
    is_new = prepared is None
    # A data set that was begun goes on with the chunk plan it was begun with.
    anew = prepared is None or not (begun.any or _as_asked(prepared, options.chunk_records, limit))
    if prepared is None or anew:
        prepared = file_batch(batch, work, chunk_records=options.chunk_records, part_records=limit)
    if is_new:
        begun.forget_refusals(prepared, ledger)
    if prepared.parts:
        work.leave_to_parts()
    begun = note_parts(row, work, prepared, begun, ledger)
    if anew:
        begun.refill_quarantine(work, ledger)
    summary = summary_of(batch.label, prepared).with_refusals(begun.refusals(ledger))
    log.info("%s: %s.", batch.label, described(summary))
    ledger.batches.set_counts(row.id, **summary.model_dump(include=COUNTS_NOTED))
    ledger.batch_days.note(row.id, prepared.days)
    ledger.quarantine_reasons.note(row.id, prepared.reasons)
    opening = [one for one in begun.units if opens_another(one, options, run_id=run_id, asked_at=asked_at)]
    # While a person was asked, another run may have brought the batch to its end.
    done = not opening and begun.is_verified
    too_many = not done and summary.quarantined * 100 > options.max_quarantined_percent * summary.staged
    if too_many and not options.asks:
        raise TooManyRefusedError(named(batch.folder), summary, options.max_quarantined_percent)
    if summary.accepted and opening and row.data_set_type == NORMAL:
        deduplicator = checked_data_set(batch.manifest)
        data_sets = [data_set for one in opening for data_set in one]
        check_opening(row, data_sets, summary, ledger=ledger, options=options, deduplicator=deduplicator)
    if too_many and not begun.any:
        ledger.batches.set_state(row.id, BatchState.HELD, reason=TOO_MANY_REFUSED)
    elif not begun.any:
        nothing = summary.is_empty and not options.dry_run
        ledger.batches.set_state(row.id, BatchState.NOTHING_ACCEPTED if nothing else BatchState.PREPARED)
    return summary.model_copy(update={"asks": too_many})


def _as_asked(prepared: PreparedBatch, chunk_records: int, part_records: int | None) -> bool:
    """Tell whether a plan is as a run asks for it."""
    giant = bool(prepared.parts) or (part_records is not None and prepared.travelling > part_records)
    return prepared.chunk_records == chunk_records and (not giant or prepared.part_records == part_records)
