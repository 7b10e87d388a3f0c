"""Retract a batch of a feed because a person asks for it, by a batch of that feed which says so.

What is asked for lies in staging as any other batch, so that a run carries it out if whoever was asked ends
before. On the command line it is only staged; for the uploads page it is prepared and uploaded at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import JsonValue
from upath import UPath

from tidepool_ingest.formats import read_manifest
from tidepool_ingest.ledger import BatchRow
from tidepool_ingest.model.deduplicators import CONTINUOUS
from tidepool_ingest.options import RunOptions
from tidepool_ingest.plan import plan_run
from tidepool_ingest.prepare.step import prepare_batch
from tidepool_ingest.staged_batch import ApiHostOf, folder_of
from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import Manifest
from tidepool_ingest.staging.manifest_terms import MANIFEST_NAME
from tidepool_ingest.staging.storage import (
    IN_BATCH,
    SHARED_FILE,
    SHARED_FOLDER,
    exists,
    make_folder,
    write_whole,
)
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.upload import UploadContext, UploadSummary, upload_batch
from tidepool_ingest.window import Window

log = logging.getLogger(__name__)


def stage_retraction(root: UPath, folder: BatchFolder, at: datetime) -> BatchFolder:
    """Stage a batch that retracts another one, and return its folder.

    :param root: the staging root.
    :param folder: the batch that is to be retracted.
    :param at: when this is asked for.
    :raises BatchError: ``retracts-unknown`` if it is not one of a feed, ``retracts-not-uploaded`` if it has
        no records, or what reading its manifest raises.
    """
    manifest = read_manifest(folder.path, folder.user_id)
    if manifest.data_set_type != CONTINUOUS:
        raise BatchError("retracts-unknown", detail="it is for a normal data set", batch=folder.label)
    if not manifest.files:
        raise BatchError("retracts-not-uploaded", detail="it has no records", batch=folder.label)
    return _staged(root, folder, manifest.data_set, manifest.connection, at)


def retract_batch(
    context: UploadContext, row: BatchRow, *, root: UPath, api_host_of: ApiHostOf, at: datetime, key: str
) -> tuple[BatchRow, UploadSummary]:
    """Stage a batch that retracts another one, and carry it out; another try goes on with the same one.

    :param context: speaks to Tidepool, and contains the ledger.
    :param row: the batch that is to be retracted.
    :param root: the staging root.
    :param api_host_of: checks the connection that the batch names.
    :param at: when this was asked for, the same in each try.
    :param key: distinguishes this request from others, as a part of a folder's name.
    :return: the batch that retracts it, as the ledger has it, and the outcome of its upload.
    :raises IngestError: what staging, preparing and uploading raise.
    """
    ledger = context.ledger
    folder = folder_of(root, row.day, row.user_id, row.batch_id)
    plan = WorkArea(root, row.content_key).load()
    data_set = plan.data_set if plan else read_manifest(folder.path, folder.user_id).data_set
    staged = _staged(root, folder, data_set, row.connection, at, key)
    plan_run(
        root,
        Window(staged.day, staged.day),
        ledger=ledger,
        options=RunOptions(users=(row.user_id,)),
        api_host_of=api_host_of,
        data_set_type=CONTINUOUS,
    )
    known = ledger.batches.namesakes(row.api_host, row.user_id, staged.batch_id)
    if not known:
        raise BatchError("batch-changed", batch=staged.label)
    by = known[-1]
    prepare_batch(root, by, ledger=ledger, options=RunOptions(), api_host_of=api_host_of)
    summary = upload_batch(context, ledger.batches.get(by.id))
    return ledger.batches.get(by.id), summary


def _staged(
    root: UPath,
    folder: BatchFolder,
    data_set: Mapping[str, JsonValue],
    connection: str | None,
    at: datetime,
    key: str = "",
) -> BatchFolder:
    """Write the batch that retracts another one, unless a try before has done so.

    :param folder: the batch that is to be retracted.
    :param data_set: the body of its data set, by which the feed is found.
    :param connection: the connection that it names.
    :param at: when this is asked for.
    :param key: as in :func:`retract_batch`; without one, no try can have been before.
    """
    at = at.astimezone(UTC)
    name = "-".join(filter(None, (f"{at:%Y%m%dT%H%M%SZ}", "retracts", folder.label, key)))
    day = max(at.date(), folder.day)
    staged = BatchFolder.at(root, f"{day.isoformat()}/{folder.user_id}/{name}")
    if exists(staged.path / MANIFEST_NAME, IN_BATCH):
        if not key:
            raise BatchError("stage-exists", batch=staged.label)
        return staged
    manifest = Manifest.model_validate(
        {
            "user_id": folder.user_id,
            "data_set": dict(data_set),
            "files": (),
            "staged_at": at,
            "retracts": folder.batch_id,
            **({} if connection is None else {"connection": connection}),
        }
    )
    make_folder(staged.path, SHARED_FOLDER)
    write_whole(staged.path / MANIFEST_NAME, manifest.to_json(), SHARED_FILE, below_root=IN_BATCH)
    log.info("Batch %s retracts batch %s.", staged.label, folder.label)
    return staged
