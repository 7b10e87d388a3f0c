"""What has to be right about a batch before any of its records is read."""

from __future__ import annotations

from typing import Final

from upath import UPath

from tidepool_ingest.guards import replaced_by
from tidepool_ingest.ledger import BatchRow, BatchState, Ledger
from tidepool_ingest.model import judge_data_set, masked_pointer
from tidepool_ingest.model.deduplicators import CONTINUOUS, NORMAL, Deduplicator, deduplicator_named
from tidepool_ingest.model.gotime import parse_instant
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

PROBLEMS_NAMED = 5
"""How many problems of a data set body a message names."""

WHY_NOT_FOR: Final = {
    CONTINUOUS: "it does its work when a data set is closed, and a continuous one never is",
    NORMAL: "it compares with what is visible, and nothing of a normal data set is before it is closed",
}
"""Why some deduplicators do not work for a type of data set."""


def checked_batch(root: UPath, row: BatchRow, ledger: Ledger, api_host_of: ApiHostOf) -> StagedBatch:
    """Read a batch, and make sure that it is the one that was planned and that it can be uploaded.

    :param root: the staging root.
    :param row: the batch as it was planned.
    :param ledger: knows the user's other batches.
    :param api_host_of: checks the connection that the manifest names.
    :raises BatchError: naming the batch, the cause and what to do.
    """
    folder = folder_of(root, row.day, row.user_id, row.batch_id)
    try:
        batch = read_batch(folder, ledger.file_digests)
        if row.content_key == unreadable_key(folder):
            check_digests(folder, ledger.file_digests)
        host = api_host_of(batch.manifest.connection)
        if (host, batch.content_key) != (row.api_host, row.content_key):
            raise BatchError("batch-changed")
        for other in ledger.batches.namesakes(row.api_host, row.user_id, row.batch_id):
            stands = other.state not in (BatchState.FAILED, BatchState.HELD, BatchState.REPLACED)
            if other.id < row.id and other.folder != row.folder and stands:
                raise BatchError("batch-id-repeated")
        checked_data_set(batch.manifest)
    except BatchError as error:
        raise error.for_batch(named(folder)) from None
    return batch


def replaced_batch(batch: StagedBatch, row: BatchRow, ledger: Ledger) -> int | None:
    """Return the number of the batch that the manifest names as replaced by this one, if it names one.

    :raises BatchError: naming the batch, the cause and what to do.
    """
    try:
        return replaced_by(row, batch.manifest.replaces, ledger)
    except BatchError as error:
        raise error.for_batch(named(batch.folder)) from None


def checked_data_set(manifest: Manifest) -> Deduplicator:
    """Check a manifest's data set body before anything is read for it, and return its deduplicator.

    :raises BatchError: ``data-set-body``, ``deduplicator``, ``deletion-time`` or ``device-id-required``.
    """
    if problems := judge_data_set(manifest.data_set):
        named_problems = ", ".join(
            f"{code} at {masked_pointer(pointer)}" for code, pointer in problems[:PROBLEMS_NAMED]
        )
        raise BatchError("data-set-body", detail=named_problems)
    deduplicator = deduplicator_named(manifest.deduplicator_name)
    if deduplicator is None:
        raise BatchError("deduplicator", detail="Tidepool knows none of this name")
    if manifest.data_set_type not in deduplicator.works_for:
        raise BatchError("deduplicator", detail=WHY_NOT_FOR[manifest.data_set_type])
    if manifest.data_set_type == CONTINUOUS and manifest.replaces is not None:
        raise BatchError("feed-replaces")
    for deletion in manifest.deletes:
        if deletion.time is not None and parse_instant(deletion.time) is None:
            raise BatchError("deletion-time")
    if deduplicator.needs_device_id and not manifest.device_id:
        raise BatchError("device-id-required")
    return deduplicator
