"""From an upload to its cause: the question that waits in Airflow, and the batch's folder and files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi.responses import JSONResponse

from tidepool_airflow.settings import root_of_batch
from tidepool_airflow.uploads_page.access import User
from tidepool_airflow.uploads_page.received import Batch, CurrentLedger, requested_upload
from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger import ActionKind, ActionStatus, BatchRow, BatchState, StoppedIn, Upload

FILES_NAMED = 100
"""File names that are shown of one batch."""

TaskInstanceKey = tuple[str | None, str | None, str | None, int]


def questions_waiting(uploads: Iterable[Upload]) -> frozenset[int]:
    """Return the numbers of those batches about which a person is being asked, in one query.

    A batch that is held waits in Airflow only if its task does: it may have been answered, or nobody has
    answered in time, or the run has been removed.

    :param uploads: batches as the ledger has them.
    """
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select, tuple_

    stopped = {
        upload.batch: _key_of(upload.stopped_in)
        for upload in uploads
        if upload.state is BatchState.HELD and upload.stopped_in is not None and upload.stopped_in.is_task
    }
    if not stopped:
        return frozenset()
    columns = [getattr(TaskInstance, name) for name in ("dag_id", "run_id", "task_id", "map_index")]
    waiting = (
        select(*columns)
        .join(HITLDetail, HITLDetail.ti_id == TaskInstance.id)
        .where(
            TaskInstance.state == TaskInstanceState.AWAITING_INPUT,
            HITLDetail.responded_at.is_(None),
            tuple_(*columns).in_(sorted(set(stopped.values()))),
        )
    )
    with create_session() as session:
        found = {tuple(row) for row in session.execute(waiting)}
    return frozenset(batch for batch, key in stopped.items() if key in found)


def _key_of(stopped_in: StoppedIn) -> TaskInstanceKey:
    map_index = -1 if stopped_in.map_index is None else stopped_in.map_index
    return stopped_in.dag_id, stopped_in.run_id, stopped_in.task_id, map_index


def show_folder(user: User, ledger: CurrentLedger, batch: Batch) -> JSONResponse:
    """Tell where a batch lies and what its files are called, and record who was told.

    Both may name a person, so that no page holds them: they are told on request only.
    """
    requested_upload(ledger, batch)
    row = ledger.batches.get(batch)
    if row.part_of is not None:
        row = ledger.batches.get(row.part_of)  # one folder for all parts
    told = {"folder": row.folder, **_files_of(row)}
    ledger.actions.record(user.get_name(), ActionKind.FOLDER, batch=row.id, status=ActionStatus.DONE)
    return JSONResponse(told)


def _files_of(row: BatchRow) -> dict[str, Any]:
    """Return the names of a batch's files, numbered as its messages number them if its manifest says so."""
    from tidepool_ingest.staged_batch import folder_of
    from tidepool_ingest.staging.batches import file_names
    from tidepool_ingest.staging.manifest import read_manifest

    try:
        folder = folder_of(root_of_batch(row.folder), row.day, row.user_id, row.batch_id)
        names, is_numbered = file_names(folder), False
        if names:
            try:
                names = [file.name for file in read_manifest(folder.path, folder.user_id).files]
                is_numbered = True
            except IngestError:
                pass  # what lies there is all that is known
    except IngestError as error:
        return {"files": [], "numbered": False, "note": error.what}
    note = ""
    if not names:
        note = "Its folder is not in staging any more."
    elif row.state in (BatchState.OVERWRITTEN, BatchState.GONE):
        note = "What lies there now is of another batch."
    elif len(names) > FILES_NAMED:
        note = f"These are the first {FILES_NAMED} of {len(names):,}."
    return {"files": names[:FILES_NAMED], "numbered": is_numbered, "note": note}
