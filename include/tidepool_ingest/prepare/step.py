"""Step two: a staged batch becomes accepted records in chunks, and a quarantine that names its reasons.

Nothing remote happens here, and nothing is dropped: every staged record ends up among the accepted ones, in
the quarantine file with its reason, or counted as a duplicate of an accepted one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Final

from upath import UPath

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.formats import converters_of
from tidepool_ingest.guards import (
    TOO_MANY_REJECTED,
    HeldError,
    ReplacesLosesDaysError,
    RetractedFirstError,
    SupersededBatchError,
    WithdrawnError,
    check_before,
    check_days_kept,
    check_doubling,
    check_not_superseded,
    check_not_withdrawn,
    check_order,
    check_room_for_mark,
    check_truncate,
    is_in_order,
    may_differ_from_before,
    overwritten_as_prepared,
    replaced_by,
    retracted_by,
)
from tidepool_ingest.guards.checks import of_other_devices
from tidepool_ingest.ledger import (
    BatchRow,
    BatchState,
    DataSetState,
    IllegalTransitionError,
    Ledger,
    lease_of_batch,
)
from tidepool_ingest.ledger.database import OlderFirstError
from tidepool_ingest.model import data_set_problems, masked_pointer
from tidepool_ingest.model.deduplicators import (
    CONTINUOUS,
    NORMAL,
    AtClose,
    Deduplicator,
    deduplicator_named,
)
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.options import RunOptions
from tidepool_ingest.prepare.parts import UploadHistory, opens_another, part_limit, register_parts
from tidepool_ingest.prepare.summary import (
    PrepareSummary,
    TooManyRejectedError,
    described,
    summary_of,
)
from tidepool_ingest.prepare.writer import write_batch
from tidepool_ingest.rejection_limit import RejectionLimit
from tidepool_ingest.staged_batch import (
    ApiHostOf,
    StagedBatch,
    check_digests,
    folder_of,
    named,
    read_batch,
    unreadable_key,
)
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import Manifest
from tidepool_ingest.staging.storage import entries_of_root
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea

NOT_CURRENT = (BatchState.FAILED, BatchState.HELD, BatchState.OVERWRITTEN, BatchState.GONE)
"""States of a batch whose id another one of the user may have."""

PROBLEMS_NAMED = 5
"""How many problems of a data set body a message names."""

WHY_NOT_FOR: Final = {
    CONTINUOUS: "it does its work when a data set is closed, and a continuous one never is",
    NORMAL: "it compares with what is visible, and nothing of a normal data set is before it is closed",
}
"""Why some deduplicators do not work for a type of data set."""

log = logging.getLogger(__name__)

CLEANUP_SECONDS = 30.0
"""How long to wait for a process that is cleaning up the batch's work area."""

REPLACED_POLL_SECONDS = 10.0
"""How often it is checked whether the batch that is to be replaced has been uploaded."""

ANY_NUMBER = RejectionLimit(percent=100)
"""What holds no batch, however many of its records are rejected."""

RECORDED_COUNTS = {"staged", "accepted", "quarantined", "identical", "expected_rows", "chunks"}
"""What the ledger keeps of a summary beside days and reasons."""


def checked_batch(
    root: UPath,
    row: BatchRow,
    ledger: Ledger,
    api_host_of: ApiHostOf,
    namesakes: Sequence[BatchRow] | None = None,
) -> StagedBatch:
    """Read a batch, and make sure that it is the one that was planned and that it can be uploaded.

    :param root: the staging root.
    :param row: the batch as it was planned.
    :param ledger: knows the user's other batches.
    :param api_host_of: checks the connection that the manifest names.
    :param namesakes: those of them that have its batch id, if they are known.
    :raises BatchError: naming the batch, the cause and what to do.
    """
    folder = folder_of(root, row.day, row.user_id, row.batch_id)
    try:
        batch = read_batch(folder, ledger.file_digests)
        if row.content_key == unreadable_key(folder):
            check_digests(folder, ledger.file_digests)
        host = api_host_of(batch.manifest.connection or row.connection)
        if (host, batch.content_key) != (row.api_host, row.content_key):
            raise BatchError("batch-changed")
        if namesakes is None:
            namesakes = ledger.batches.namesakes(row.api_host, row.user_id, row.batch_id)
        for other in namesakes:
            is_current = other.state not in NOT_CURRENT
            if other.id < row.id and other.folder != row.folder and is_current:
                detail = f"the other one is in the day folder {other.day}"
                raise BatchError("batch-id-repeated", detail=detail)
        checked_data_set(batch.manifest)
    except BatchError as error:
        if error.code == "manifest-missing":
            entries_of_root(root)  # where the root itself is missing, that is the cause
        raise error.for_batch(named(folder)) from None
    return batch


def replaced_batch(batch: StagedBatch, row: BatchRow, ledger: Ledger) -> int | None:
    """Return the number of the batch that the manifest names as replaced by this one, if it names one.

    :raises BatchError: naming the batch, the cause and what to do.
    :raises OlderFirstError: that batch is not verified yet, and a run has yet to work on it.
    """
    try:
        return replaced_by(row, batch.manifest.replaces, ledger)
    except BatchError as error:
        if error.code == "replaces-not-verified":
            older = [
                namesake.id
                for namesake in ledger.batches.namesakes(
                    row.api_host, row.user_id, str(batch.manifest.replaces)
                )
                if namesake.device_id == row.device_id and namesake.order_key < row.order_key
            ]
            if turns := ledger.turns.of_batches(older):
                first = turns[0].batch
                raise OlderFirstError(lease_of_batch(first), REPLACED_POLL_SECONDS, [first]) from None
        raise error.for_batch(named(batch.folder)) from None


def read_retracted(
    root: UPath, batch: StagedBatch, row: BatchRow, ledger: Ledger, *, dry_run: bool = False
) -> int | None:
    """Find the batch that another one retracts, and make sure that its records can be read.

    :param root: the staging root, with its work area, which is rebuilt from staging if it is not whole.
    :param batch: the retracting batch.
    :param row: the same in the ledger, which records which one it retracts.
    :param ledger: knows the user's other batches.
    :param dry_run: do not wait for one that is about to be uploaded.
    :return: how many records it has; ``None`` if the batch retracts none.
    :raises BatchError: naming the retracting batch, the cause and what to do.
    :raises RetractedFirstError: it is about to be uploaded.
    """
    try:
        number = retracted_by(row, batch.manifest.retracts, ledger)
    except RetractedFirstError:
        if dry_run:
            return 0
        raise
    except BatchError as error:
        raise error.for_batch(named(batch.folder)) from None
    if number is None:
        return None
    retracted = ledger.batches.get(number)
    if batch.manifest.files and retracted.order_key > row.order_key:
        raise BatchError("retracts-later", batch=named(batch.folder))
    ledger.batches.set_replaces(row.id, number)
    work = WorkArea(root, retracted.content_key)
    plan = None if retracted.purged else work.load()
    if plan is None or not work.holds(plan):
        try:
            rebuild_work_area(root, retracted, ledger, record_failure=False)
        except IngestError as error:
            if error.disposition is Disposition.RETRIABLE:
                raise
            raise BatchError(
                "retracts-not-in-staging", detail=error.code, batch=named(batch.folder)
            ) from None
        plan = work.load()
    return 0 if plan is None else sum(plan.accepted.values())


def checked_data_set(manifest: Manifest) -> Deduplicator:
    """Check a manifest's data set body before anything is read for it, and return its deduplicator.

    :raises BatchError: ``data-set-body``, ``mark-too-large``, ``deduplicator``, ``deletion-time`` or
        ``device-id-required``.
    """
    if problems := data_set_problems(manifest.data_set):
        named_problems = ", ".join(
            f"{code} at {masked_pointer(pointer)}" for code, pointer in problems[:PROBLEMS_NAMED]
        )
        raise BatchError("data-set-body", detail=named_problems)
    check_room_for_mark(manifest.data_set, converters_of(manifest))
    deduplicator = deduplicator_named(manifest.deduplicator_name)
    if deduplicator is None:
        raise BatchError("deduplicator", detail="Tidepool has none of this name")
    if manifest.data_set_type not in deduplicator.works_for:
        raise BatchError("deduplicator", detail=WHY_NOT_FOR[manifest.data_set_type])
    if manifest.data_set_type == CONTINUOUS and manifest.replaces is not None:
        raise BatchError("feed-replaces")
    for number, deletion in enumerate(manifest.deletes):
        if deletion.time is not None and parse_instant(deletion.time) is None:
            raise BatchError("deletion-time", detail=f"/deletes/{number}/time")
    if deduplicator.needs_device_id and not manifest.device_id:
        raise BatchError("device-id-required")
    return deduplicator


def prepare_batch(
    root: UPath,
    row: BatchRow,
    *,
    ledger: Ledger,
    options: RunOptions,
    api_host_of: ApiHostOf,
    run_id: str | None = None,
    asked_at: datetime | None = None,
    compare_before: bool = True,
) -> PrepareSummary:
    """Validate, edit and chunk a staged batch into its work area.

    A batch that an earlier attempt has prepared is not read again.

    :param root: the staging root.
    :param row: the batch in the ledger.
    :param ledger: takes the counts.
    :param options: the run's parameters.
    :param api_host_of: checks the connection that the manifest names.
    :param run_id: this run; what it has verified itself, it does not upload again.
    :param asked_at: when the run was started or cleared: a forced run does not repeat what it has done since.
    :param compare_before: whether another zone or ``deviceId`` than before holds it, if it is compared here.
    :raises BatchError: if the batch cannot be prepared.
    :raises TooManyRejectedError: if too large a share of its records is rejected; if a person is asked,
        the summary says so instead, and the batch is held if no data set of it was started.
    :raises HeldError: if another guard holds it until a person has reviewed it.
    """
    prepare = partial(_prepare, root, row, ledger, options, api_host_of, run_id, asked_at, compare_before)
    try:
        try:
            while (summary := prepare()) is None:
                # Written after another run went on with it, it lacks what Tidepool itself has rejected since.
                WorkArea(root, row.content_key).invalidate()
            return summary
        except (SupersededBatchError, WithdrawnError, IllegalTransitionError):
            raise
        except IngestError as error:
            if error.disposition is not Disposition.RETRIABLE:
                _record_failure(row.id, error, ledger)
            raise
    except IllegalTransitionError:
        # No lease is held here: another batch may have been staged in its place meanwhile.
        check_not_superseded(ledger.batches.get(row.id))
        raise


def _earlier_plan(
    work: WorkArea, row: BatchRow, ledger: Ledger, *, damaged: bool = False
) -> PreparedBatch | None:
    """Return the plan of the work area, if it is complete and stays.

    :param damaged: return it even if something else of the area is damaged.
    :raises LeaseHeldError: if it is being cleaned up, or uploaded, at this moment.
    """
    if row.purged is None:
        return work.load() if damaged else work.whole_plan()
    # The process that cleans it up holds the lease until it is done.
    with ledger.leases.held(lease_of_batch(row.id), seconds=CLEANUP_SECONDS, wait=CLEANUP_SECONDS):
        return None


def _record_failure(batch: int, error: IngestError, ledger: Ledger) -> None:
    """Record why a batch stopped; if Tidepool may hold its data, its state stays."""
    if not UploadHistory.load(ledger, batch).may_hold_data:
        stop = ledger.batches.hold if isinstance(error, HeldError) else ledger.batches.mark_failed
        stop(batch, error.code, error.particulars)
    elif ledger.batches.get(batch).state is not BatchState.VERIFIED:
        ledger.batches.set_reason(batch, error.code, error.particulars)


def _prepare(
    root: UPath,
    row: BatchRow,
    ledger: Ledger,
    options: RunOptions,
    api_host_of: ApiHostOf,
    run_id: str | None,
    asked_at: datetime | None,
    compare_before: bool,
) -> PrepareSummary | None:
    batch, history, retracts = _read(root, row, ledger, options, api_host_of)
    row = history.whole
    work = WorkArea(root, batch.content_key)
    prepared = _earlier_plan(work, row, ledger)
    limit = part_limit(batch.manifest, history, options)
    is_new = prepared is None
    # A data set that was started continues with the chunk plan it was started with.
    rebuild = prepared is None or not (
        history.may_hold_data
        or (
            _matches_options(prepared, options.chunk_records, limit)
            and prepared.converters == converters_of(batch.manifest)
        )
    )
    if prepared is None or rebuild:
        prepared = _written(
            batch, work, history, ledger, chunk_records=options.chunk_records, limit=limit, retracts=retracts
        )
    # Where no file has to be touched, what is counted and what follows from it is one transaction.
    is_plain = not (history.was_started or prepared.parts) and (is_new or not rebuild)
    with ledger.database.together() if is_plain else nullcontext():
        if is_new and not history.forget_rejections(prepared, ledger):
            return None
        history, summary = _recorded(batch, row, work, prepared, history, ledger, rebuilt=rebuild)
        if is_plain and _is_clear(batch, row, summary, ledger, options, compare_before=compare_before):
            ledger.batches.mark_prepared(row.id)
            return summary
    opening = [
        data_sets
        for data_sets in history.data_sets_by_part
        if opens_another(data_sets, options, run_id=run_id, asked_at=asked_at)
    ]
    # While a person was being asked, another run may have finished the batch.
    done = not opening and history.is_verified
    too_many = not done and summary.exceeds(options.rejection_limit)
    # Where nothing is left to upload, there is nothing to decide.
    if too_many and (summary.is_empty or not options.asks):
        raise TooManyRejectedError(named(batch.folder), summary, options.max_quarantined_percent)
    if summary.accepted and opening:
        data_sets = [data_set for part in opening for data_set in part]
        is_verified = any(data_set.state is DataSetState.VERIFIED for data_set in data_sets)
        if row.data_set_type == NORMAL:
            _check_opening(batch, row, summary, ledger, options, is_verified)
        was_verified = is_verified or any(data_set.verified_at for data_set in data_sets)
        if was_verified or too_many or _is_compared_here(row, options):
            _check_beside_others(root, batch, row, ledger, options, compare_before)
    if too_many and not history.may_hold_data:
        ledger.batches.hold(row.id, TOO_MANY_REJECTED, summary.rejected_share)
    elif not history.may_hold_data:
        is_empty = summary.is_empty and not options.dry_run
        (ledger.batches.mark_nothing_accepted if is_empty else ledger.batches.mark_prepared)(row.id)
    return summary.model_copy(update={"asks": too_many})


def _read(
    root: UPath, row: BatchRow, ledger: Ledger, options: RunOptions, api_host_of: ApiHostOf
) -> tuple[StagedBatch, UploadHistory, int | None]:
    """Read a batch and what the ledger knows of it, and record which other one it names.

    :return: with how many records the batch has that it retracts; ``None`` if it retracts none.
    """
    with ledger.database.together(only_reads=True):
        history = UploadHistory.load(ledger, row.id)
        namesakes = ledger.batches.namesakes(row.api_host, row.user_id, row.batch_id)
    current = history.whole
    check_not_superseded(current)
    check_not_withdrawn(current, force=options.force)
    batch = checked_batch(root, row, ledger, api_host_of, namesakes)
    names_another = batch.manifest.replaces or batch.manifest.retracts or current.replaces is not None
    if row.data_set_type == NORMAL and names_another:
        ledger.batches.set_replaces(row.id, replaced_batch(batch, row, ledger))
    retracts = read_retracted(root, batch, current, ledger, dry_run=options.dry_run)
    return batch, UploadHistory.load(ledger, row.id) if names_another else history, retracts


def _is_clear(
    batch: StagedBatch,
    row: BatchRow,
    summary: PrepareSummary,
    ledger: Ledger,
    options: RunOptions,
    *,
    compare_before: bool,
) -> bool:
    """Return whether the ledger alone tells that no guard holds a batch of which nothing was started.

    If not, the guards look closer, and say what it is.
    """
    if not summary.accepted or summary.exceeds(options.rejection_limit) or row.replaces is not None:
        return False
    deduplicator = checked_data_set(batch.manifest)
    if row.data_set_type == NORMAL:
        if deduplicator.at_close is AtClose.DELETES_ALL and not options.allow_truncate:
            return False
        if not _is_compared_here(row, options):
            return True
        if not (options.allow_older or is_in_order(ledger, row, deduplicator)):
            return False
    described = replace(row, device_key=batch.device_key, zones=batch.zones)
    return not compare_before or not may_differ_from_before(
        described, ledger, deduplicator, meant_as=batch.manifest.meant_as
    )


def _check_opening(
    batch: StagedBatch,
    row: BatchRow,
    summary: PrepareSummary,
    ledger: Ledger,
    options: RunOptions,
    verified: bool,
) -> None:
    deduplicator = checked_data_set(batch.manifest)
    if ReplacesLosesDaysError.code not in batch.manifest.meant_as:
        check_days_kept(row, ledger)
    if not options.allow_truncate:
        check_truncate(row, deduplicator)
    if verified and not options.allow_doubling:
        check_doubling(row, deduplicator, of_other_devices=of_other_devices(summary.warnings))


def _is_compared_here(row: BatchRow, options: RunOptions) -> bool:
    """Return whether a batch that was never verified is compared with others of its device here already.

    The upload of a normal one does that, once it knows that Tidepool lacks it: else nothing is closed.
    """
    return options.dry_run or row.data_set_type == CONTINUOUS


def _check_beside_others(
    root: UPath, batch: StagedBatch, row: BatchRow, ledger: Ledger, options: RunOptions, compare_before: bool
) -> None:
    deduplicator = checked_data_set(batch.manifest)
    if row.data_set_type == NORMAL and not options.allow_older:
        check_order(ledger, row, deduplicator, overwritten_as_prepared(root, ledger, row))
    if compare_before:
        remembered = ledger.batches.get(row.id)
        check_before(remembered, ledger, root, deduplicator, meant_as=batch.manifest.meant_as)


def _written(
    batch: StagedBatch,
    work: WorkArea,
    history: UploadHistory,
    ledger: Ledger,
    *,
    chunk_records: int,
    limit: int | None,
    retracts: int | None = None,
) -> PreparedBatch:
    """Write the work area; a batch that was started keeps the chunks that were sent, if its records allow."""
    write = partial(write_batch, batch, work, part_records=limit, retracts=retracts)
    try:
        prepared = write(chunk_records=chunk_records)
    except (BatchError, HeldError):
        # Nothing is counted of it: what it was to be read as helps whoever looks for the cause.
        ledger.batches.set_described(
            history.whole.id, zones=batch.zones, formats=batch.formats, device=batch.device
        )
        raise
    if not history.may_hold_data or history.is_continued_by(work, prepared, ledger):
        return prepared
    sent = history.chunk_records(ledger)
    if sent in (None, chunk_records):
        return prepared
    return write(chunk_records=sent)


def _recorded(
    batch: StagedBatch,
    row: BatchRow,
    work: WorkArea,
    prepared: PreparedBatch,
    history: UploadHistory,
    ledger: Ledger,
    *,
    rebuilt: bool,
) -> tuple[UploadHistory, PrepareSummary]:
    """Record in the ledger what became of a batch's records.

    :param rebuilt: whether its work area was written, so that its quarantine lacks what Tidepool rejected.
    :raises BatchError: ``parts-differ``.
    """
    if prepared.parts:
        work.drop_own_records()
    history = register_parts(row, work, prepared, history, ledger)
    rejections = history.rejections(ledger)
    if rebuilt:
        history.refill_quarantine(work, rejections)
    summary = summary_of(batch.label, prepared).with_rejections(chain.from_iterable(rejections))
    log.info("%s: %s.", batch.label, described(summary))
    ledger.batches.set_counts(
        row.id,
        device_key=batch.device_key,
        zones=batch.zones,
        formats=batch.formats,
        device=batch.device,
        **summary.model_dump(include=RECORDED_COUNTS),
    )
    ledger.batch_days.replace_for_batch(row.id, prepared.days, prepared.hours)
    ledger.quarantine_reasons.replace_for_batch(row.id, prepared.reasons)
    return history, summary


def _matches_options(prepared: PreparedBatch, chunk_records: int, part_records: int | None) -> bool:
    """Return whether a plan matches a run's parameters."""
    giant = bool(prepared.parts) or (part_records is not None and prepared.expected_rows > part_records)
    return prepared.chunk_records == chunk_records and (not giant or prepared.part_records == part_records)


def ensure_prepared(root: UPath, row: BatchRow, *, ledger: Ledger, api_host_of: ApiHostOf) -> None:
    """Rebuild the work area of a batch if it is missing; decisions about rejected records stay valid.

    That of a part is rebuilt with that of the batch it is cut from.

    :param root: the staging root.
    :param row: the batch in the ledger.
    :param ledger: takes the counts.
    :param api_host_of: checks the connection that the manifest names.
    :raises BatchError: if the batch is no longer in staging as it was; it says what is missing.
    """
    whole = ledger.batches.get(row.part_of or row.id)
    if whole.purged is not None or WorkArea(root, whole.content_key).whole_plan() is None:
        options = RunOptions(max_quarantined_percent=100)
        prepare_batch(root, whole, ledger=ledger, options=options, api_host_of=api_host_of)


def rebuild_work_area(
    root: UPath,
    row: BatchRow,
    ledger: Ledger,
    limit: RejectionLimit = ANY_NUMBER,
    *,
    record_failure: bool = True,
) -> None:
    """Rebuild a damaged work area from staging, and from what the ledger knows of Tidepool's rejections.

    No guard is asked again, and the batch stays in the state it is in, unless this fails.

    :param root: the staging root.
    :param row: the batch in the ledger, or one of its parts, which is rebuilt with the others.
    :param ledger: has what was started for it, and takes the counts.
    :param limit: how many records may be rejected of a batch of which nothing was sent.
    :param record_failure: whether the ledger records why it cannot be rebuilt, and the area counts as missing
        from then on.
    :raises BatchError: if the batch is no longer in staging as it was, or ``parts-differ``: Tidepool holds
        data of parts that it is no longer cut into.
    :raises TooManyRejectedError: if nothing was sent, and more of it is rejected now than the limit allows.
    """
    whole = ledger.batches.get(row.part_of or row.id)
    try:
        _rebuild(root, whole, ledger, limit)
    except IngestError as error:
        if record_failure and error.disposition is not Disposition.RETRIABLE:
            _record_failure(whole.id, error, ledger)
            if isinstance(error, BatchError):
                WorkArea(root, whole.content_key).invalidate()
        raise


def _rebuild(root: UPath, whole: BatchRow, ledger: Ledger, allowed: RejectionLimit) -> None:
    batch = checked_batch(root, whole, ledger, lambda _connection: whole.api_host)
    work = WorkArea(root, batch.content_key)
    history = UploadHistory.load(ledger, whole.id)
    earlier = _earlier_plan(work, whole, ledger, damaged=True)
    limit = history.whole.part_records if history.parts else None
    chunk_records = earlier.chunk_records if earlier else RunOptions().chunk_records
    retracts = read_retracted(root, batch, whole, ledger)
    prepared = _written(
        batch, work, history, ledger, chunk_records=chunk_records, limit=limit, retracts=retracts
    )
    history.forget_rejections(prepared, ledger)
    history, summary = _recorded(batch, whole, work, prepared, history, ledger, rebuilt=True)
    if not history.may_hold_data and summary.exceeds(allowed):
        raise TooManyRejectedError(named(batch.folder), summary, allowed.percent)
