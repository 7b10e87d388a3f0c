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
from tidepool_ingest.prepare.summary import subject_of

FILES_NAMED = 100
"""File names that are shown of one batch."""


def questions_waiting(uploads: Iterable[Upload]) -> dict[int, StoppedIn]:
    """Return the tasks in which questions about batches wait for an answer, by the batch's number.

    What Airflow knows counts, in one query: a question may have been answered, or nobody has answered in
    time, or its run has been removed; and another run may have met the batch since, and have stopped too.

    :param uploads: batches as the ledger has them.
    """
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select

    subjects = {
        upload.batch: subject_of(upload.label, upload.quarantined)
        for upload in uploads
        if upload.state is BatchState.HELD and upload.quarantined
    }
    if not subjects:
        return {}
    columns = [getattr(TaskInstance, name) for name in ("dag_id", "run_id", "task_id", "map_index")]
    waiting = (
        select(HITLDetail.subject, *columns)
        .join(TaskInstance, HITLDetail.ti_id == TaskInstance.id)
        .where(
            TaskInstance.state == TaskInstanceState.AWAITING_INPUT,
            HITLDetail.responded_at.is_(None),
            HITLDetail.subject.in_(sorted(set(subjects.values()))),
        )
        .order_by(HITLDetail.created_at)
    )
    with create_session() as session:
        found = {
            subject: StoppedIn(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
            for subject, dag_id, run_id, task_id, map_index in session.execute(waiting)
        }
    return {batch: found[subject] for batch, subject in subjects.items() if subject in found}


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
