"""What people start from the page: runs that carry out what they request, and the quarantine file."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.models.dag import DagModel
from airflow.sdk.exceptions import AirflowException
from airflow.utils.types import DagRunTriggeredByType
from fastapi import HTTPException, Path, Request, status
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.exc import SQLAlchemyError

from tidepool_airflow.known_dags import KnownDag, action_dag, dag_for
from tidepool_airflow.settings import root_of_batch, staging_root
from tidepool_airflow.uploads_page.access import User
from tidepool_airflow.uploads_page.html import Links
from tidepool_airflow.uploads_page.received import Batch, CurrentLedger, requested_upload
from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger import ActionKind, ActionStatus, BatchRow, Ledger, Purged
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.reports.help import available_actions

log = logging.getLogger(__name__)


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


def act(request: Request, user: User, ledger: CurrentLedger, batch: Batch, what: ActionKind) -> JSONResponse:
    """Start what somebody requested, and return where it can be followed."""
    upload = requested_upload(ledger, batch)
    if what not in available_actions(upload):
        raise HTTPException(
            status.HTTP_409_CONFLICT, f"The upload is {upload.state} now. Load the page again."
        )
    try:
        dag_id, run_id = trigger_action(ledger, ledger.batches.get(batch), what, user.get_name())
    except NotStartedError as error:
        raise HTTPException(status.HTTP_409_CONFLICT, str(error)) from error
    run = Links(request).run(dag_id, run_id)
    return JSONResponse({"run": run}, status_code=status.HTTP_202_ACCEPTED)


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


def trigger_action(ledger: Ledger, batch: BatchRow, kind: ActionKind, actor: str) -> tuple[str, str]:
    """Start the run that carries out what somebody requested, and return its DAG and id.

    :param ledger: records the request in the audit log.
    :param batch: the batch that it is about.
    :param kind: ``CHECK``, ``WITHDRAW`` or ``RETRY``.
    :param actor: Airflow's name for the person.
    :raises NotStartedError: if the DAG does not exist or is paused, or the run cannot be created.
    :raises SettingsError: if the staging root of this deployment is not known.
    """
    again = _dag_for(ledger, batch) if kind is ActionKind.RETRY else None
    dag_id = again.dag_id if again else action_dag()
    _require_running(dag_id)
    # Before anything is recorded: the settings may be wrong.
    conf = _conf(batch, again) if again else {}
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    run_id = f"{kind}__{moment}__{secrets.token_hex(4)}"
    action = ledger.actions.record(actor, kind, batch=batch.id, dag_id=dag_id, run_id=run_id)
    try:
        trigger_dag(
            dag_id,
            run_id=run_id,
            conf=conf or {"action": action},
            triggered_by=DagRunTriggeredByType.UI,
            triggering_user_name=actor,
        )
    except (AirflowException, SQLAlchemyError, ValueError) as error:
        ledger.actions.finish(action, ActionStatus.FAILED, reason=NotStartedError.code)
        log.exception("The run %s of %s cannot be started.", run_id, dag_id)
        raise NotStartedError(f"Airflow cannot start a run of {dag_id} ({type(error).__name__}).") from error
    if kind is ActionKind.RETRY:
        ledger.actions.finish(action, ActionStatus.DONE, detail="see the run for its result")
    return dag_id, run_id


def _dag_for(ledger: Ledger, batch: BatchRow) -> KnownDag:
    upload = ledger.uploads.get(batch.id)
    return dag_for(batch, upload.dag_id if upload else None)


def _conf(batch: BatchRow, dag: KnownDag) -> dict[str, Any]:
    """Return the parameters of a run that retries a batch."""
    conf = {"first_day": batch.day.isoformat(), "users": [short_hash(batch.user_id)]}
    root, own = str(root_of_batch(batch.folder)), str(staging_root(dag.staging_root))
    return conf if root == own else {**conf, "staging_root": root}


def _require_running(dag_id: str) -> None:
    dag = DagModel.get_current(dag_id)
    if dag is None:
        raise NotStartedError(f"Airflow has no DAG {dag_id}.", remedy="Put its file into the DAG folder.")
    if dag.is_paused:
        raise NotStartedError(f"The DAG {dag_id} is paused.", remedy="Switch it on, then request this again.")
