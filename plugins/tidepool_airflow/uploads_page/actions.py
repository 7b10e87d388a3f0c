"""What people start from the page: runs that carry out what they request, and the quarantine file."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.models.dag import DagModel
from airflow.sdk.exceptions import AirflowException
from airflow.utils.types import DagRunTriggeredByType
from fastapi import HTTPException, Path, Query, Request, status
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.exc import SQLAlchemyError

from tidepool_airflow.known_dags import KnownDag, action_dag, dag_for
from tidepool_airflow.settings import root_of_batch, staging_root
from tidepool_airflow.uploads_page.access import User
from tidepool_airflow.uploads_page.html import Links
from tidepool_airflow.uploads_page.live import was
from tidepool_airflow.uploads_page.received import Batch, CurrentLedger, requested_upload
from tidepool_ingest.errors import IngestError
from tidepool_ingest.guards import reopen
from tidepool_ingest.ledger import ActionKind, ActionStatus, BatchRow, Dismissal, Ledger, Purged
from tidepool_ingest.reports.help import available_actions
from tidepool_ingest.texts import counted

log = logging.getLogger(__name__)

MAX_CHOSEN = 50
"""Most uploads that one request is about: a page of the list."""


def open_quarantine(user: User, ledger: CurrentLedger, batch: Batch) -> StreamingResponse:
    """Send the file with the rejected records, and record who opened it."""
    from tidepool_ingest.prepare.step import rebuild_work_area
    from tidepool_ingest.staging.encryption import decrypted
    from tidepool_ingest.staging.work_area import WorkArea

    requested_upload(ledger, batch)
    row = ledger.batches.get(batch)
    if row.part_of is not None:
        row = ledger.batches.get(row.part_of)  # one file for all parts
    if row.purged is Purged.ALL:
        raise HTTPException(
            status.HTTP_410_GONE,
            "The quarantine file has been removed, as it is some time after its batch is done. "
            "Running the batch's day with `force` writes it again.",
        )
    root = root_of_batch(row.folder)
    area = WorkArea(root, row.content_key)
    if not area.is_quarantine_intact():
        rebuild_work_area(root, row, ledger, record_failure=False)
    blocks = decrypted(area.quarantine_blocks())
    first = next(blocks, b"")  # a missing file is reported before anything is sent
    ledger.actions.record(user.get_name(), ActionKind.QUARANTINE, batch=row.id, status=ActionStatus.DONE)

    def whole() -> Iterator[bytes]:
        yield first
        yield from blocks

    name = f"quarantine-{row.day}-{row.label.split()[-1]}.ndjson"
    return StreamingResponse(
        whole(),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def act(
    request: Request,
    user: User,
    ledger: CurrentLedger,
    batch: Batch,
    what: ActionKind,
    why: Dismissal | None = None,
) -> JSONResponse:
    """Do what somebody requested of one upload, or start it, and return where it can be followed."""
    upload = requested_upload(ledger, batch)
    if what not in available_actions(upload):
        raise HTTPException(
            status.HTTP_409_CONFLICT, f"The upload is {upload.state} now. Load the page again."
        )
    return _answer(request, user, ledger, [batch], what, why)


def act_on_chosen(
    request: Request,
    user: User,
    ledger: CurrentLedger,
    what: ActionKind,
    batch: Annotated[list[int], Query(min_length=1, max_length=MAX_CHOSEN)],
    why: Dismissal | None = None,
) -> JSONResponse:
    """Do the same of several uploads, as far as each can take it now."""
    uploads = ledger.uploads.get_all(batch)
    able = [upload.batch for upload in uploads if what in available_actions(upload)]
    if not able:
        raise HTTPException(
            status.HTTP_409_CONFLICT, "None of these uploads can take this any more. Load the page again."
        )
    return _answer(request, user, ledger, able, what, why, left=len(set(batch)) - len(able))


def _answer(
    request: Request,
    user: User,
    ledger: Ledger,
    batches: list[int],
    what: ActionKind,
    why: Dismissal | None,
    *,
    left: int = 0,
) -> JSONResponse:
    """Do what was requested of uploads that can take it, and say what has become of it.

    :param left: how many others were chosen that cannot take it any more.
    """
    actor = user.get_name()
    others = f" {counted(left, 'other')} cannot take it any more." if left else ""
    if what is ActionKind.DISMISS:
        if why is None:
            raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, "Choose a reason.")
        done = ledger.attention.dismiss(batches, why, actor=actor)
        said = f"Dismissed {counted(len(done), 'upload')}. Reopen takes it back."
        return JSONResponse({"message": f"{said}{others}"})
    if what is ActionKind.REOPEN:
        done = reopen(ledger, batches, actor=actor)
        return JSONResponse({"message": f"Reopened {counted(len(done), 'upload')}.{others}"})
    try:
        started = trigger_actions(ledger, ledger.batches.get_all(batches), what, actor)
    except NotStartedError as error:
        raise HTTPException(status.HTTP_409_CONFLICT, str(error)) from error
    answer = {}
    if len(started) == 1:
        answer["run"] = Links(request).run(*started[0])
    if said := _said_of_runs(what, len(batches), len(started)) + others:
        answer["message"] = said
    return JSONResponse(answer, status_code=status.HTTP_202_ACCEPTED)


def _said_of_runs(what: ActionKind, batches: int, runs: int) -> str:
    """Return what the page says once runs have been started; nothing where that they are says all."""
    if what is ActionKind.RETRY:
        taken = "this upload" if batches == 1 else f"these {batches} uploads"
        who = "A run takes" if runs == 1 else f"{runs} runs, named in the audit log, take"
        return f"{who} {taken} alone."
    if batches == 1:
        return ""
    does = "verifies" if what is ActionKind.CHECK else "undoes"
    return f"A run {does} these {batches} uploads, one after the other."


def lift_throttle(
    user: User, ledger: CurrentLedger, api_host: Annotated[str, Path(max_length=255, pattern=r"^[!-~]+$")]
) -> JSONResponse:
    """Let tasks send requests to an API host again, and record who wanted that."""
    if not ledger.rate_limits.lift(api_host):
        raise HTTPException(
            status.HTTP_409_CONFLICT, "No throttle of this host is in force any more. Load the page again."
        )
    ledger.actions.record(user.get_name(), ActionKind.LIFT, detail=f"of {api_host}", status=ActionStatus.DONE)
    return JSONResponse({"message": "Tasks may send requests again."})


class NotStartedError(IngestError):
    """Airflow does not start the run that somebody requested."""

    code = "not-started"
    sentence = "Airflow could not start its run"
    remedy = "The API server's log says why; request it again once that is solved."


def trigger_actions(
    ledger: Ledger, batches: Sequence[BatchRow], kind: ActionKind, actor: str
) -> list[tuple[str, str]]:
    """Start the runs that carry out what somebody requested of batches, and return their DAGs and ids.

    A retry takes a run for each DAG and staging root, everything else a single one.

    :param ledger: records the requests in the audit log.
    :param batches: the batches that they are about.
    :param kind: ``CHECK``, ``WITHDRAW`` or ``RETRY``.
    :param actor: Airflow's name for the person.
    :raises NotStartedError: if a DAG does not exist or is paused, or a run cannot be created.
    :raises SettingsError: if the staging root of this deployment is not known.
    """
    # Before anything is recorded: the settings may be wrong.
    groups = _retries(ledger, batches) if kind is ActionKind.RETRY else [(action_dag(), {}, list(batches))]
    for dag_id, _conf, _rows in groups:
        _require_running(dag_id)
    return [_trigger(ledger, dag_id, conf, rows, kind, actor) for dag_id, conf, rows in groups]


def _retries(ledger: Ledger, batches: Sequence[BatchRow]) -> list[tuple[str, dict[str, Any], list[BatchRow]]]:
    """Return DAG, parameters and batches of each run that retries some."""
    groups: dict[tuple[str, str | None], list[BatchRow]] = {}
    for row in batches:
        dag, root = _dag_for(ledger, row), str(root_of_batch(row.folder))
        own = str(staging_root(dag.staging_root))
        groups.setdefault((dag.dag_id, None if root == own else root), []).append(row)
    return [
        (
            dag_id,
            {"batches": [row.id for row in rows]} | ({} if root is None else {"staging_root": root}),
            rows,
        )
        for (dag_id, root), rows in groups.items()
    ]


def _dag_for(ledger: Ledger, batch: BatchRow) -> KnownDag:
    upload = ledger.uploads.get(batch.id)
    if upload is None:
        return dag_for(batch, None)
    # One that has stopped before a data set of it was opened has still been in the hands of a DAG.
    return dag_for(batch, upload.dag_id or (upload.stopped_in.dag_id if upload.stopped_in else None))


def _trigger(
    ledger: Ledger, dag_id: str, conf: dict[str, Any], batches: list[BatchRow], kind: ActionKind, actor: str
) -> tuple[str, str]:
    """Start one run, and return its DAG and id."""
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    run_id = f"{kind}__{moment}__{secrets.token_hex(4)}"
    recorded = [
        ledger.actions.record(actor, kind, batch=row.id, dag_id=dag_id, run_id=run_id) for row in batches
    ]
    try:
        trigger_dag(
            dag_id,
            run_id=run_id,
            conf=conf or {"action": recorded[0]},
            triggered_by=DagRunTriggeredByType.UI,
            triggering_user_name=actor,
        )
    except (AirflowException, SQLAlchemyError, ValueError) as error:
        for action in recorded:
            ledger.actions.finish(action, ActionStatus.FAILED, reason=NotStartedError.code)
        log.exception("The run %s of %s cannot be started.", run_id, dag_id)
        raise NotStartedError(f"Airflow cannot start a run of {dag_id} ({type(error).__name__}).") from error
    if kind is ActionKind.RETRY:
        for action, row in zip(recorded, batches, strict=True):
            detail = f"see the run for its result; {was(row.state)}"
            ledger.actions.finish(action, ActionStatus.DONE, detail=detail)
        reopen(ledger, [row.id for row in batches], actor=actor, dag_id=dag_id, run_id=run_id)
    return dag_id, run_id


def _require_running(dag_id: str) -> None:
    dag = DagModel.get_current(dag_id)
    if dag is None:
        raise NotStartedError(f"Airflow has no DAG {dag_id}.", remedy="Put its file into the DAG folder.")
    if dag.is_paused:
        raise NotStartedError(f"The DAG {dag_id} is paused.", remedy="Switch it on, then request this again.")
