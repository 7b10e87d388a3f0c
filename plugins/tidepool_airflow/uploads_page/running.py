"""What is asked for is noted, and done by a run: the API server itself never speaks to Tidepool."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from typing import Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.models.dag import DagModel
from airflow.sdk.exceptions import AirflowException
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy.exc import SQLAlchemyError

from tidepool_airflow.dag_ids import ACTION_DAG, DAG_OF_TYPE
from tidepool_airflow.staging import root_of_batch, staging_root
from tidepool_ingest.ledger import BatchRow, Ledger, Result, What
from tidepool_ingest.privacy import short_hash

log = logging.getLogger(__name__)


class NotStartedError(Exception):
    """Airflow does not start the run; the text says why and what to do."""


def start(ledger: Ledger, batch: BatchRow, what: What, who: str) -> tuple[str, str]:
    """Start the run that does what somebody asked for, and return its DAG and id.

    :param ledger: notes who asked.
    :param batch: the batch that it is about.
    :param what: ``CHECK``, ``WITHDRAW`` or ``RETRY``.
    :param who: Airflow's name of the person.
    :raises NotStartedError: if the DAG is not there or is paused, or the run cannot be made.
    """
    dag_id = DAG_OF_TYPE[batch.data_set_type] if what is What.RETRY else ACTION_DAG
    _require_running(dag_id)
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    run_id = f"{what}__{moment}__{secrets.token_hex(4)}"
    action = ledger.actions.note(who, what, batch=batch.id, dag_id=dag_id, run_id=run_id)
    try:
        trigger_dag(
            dag_id,
            run_id=run_id,
            conf=_conf(batch, what, action),
            triggered_by=DagRunTriggeredByType.UI,
            triggering_user_name=who,
        )
    except (AirflowException, SQLAlchemyError, ValueError) as error:
        ledger.actions.ended(action, Result.FAILED, reason="not-started")
        log.exception("The run %s of %s cannot be started.", run_id, dag_id)
        raise NotStartedError(
            f"Airflow cannot start a run of {dag_id} ({type(error).__name__}); the API server's log says why."
        ) from error
    if what is What.RETRY:
        ledger.actions.ended(action, Result.DONE, detail="the run tells what became of it")
    return dag_id, run_id


def _conf(batch: BatchRow, what: What, action: int) -> dict[str, Any]:
    if what is not What.RETRY:
        return {"action": action}
    conf = {"first_day": batch.day.isoformat(), "users": [short_hash(batch.user_id)]}
    root, own = str(root_of_batch(batch.folder)), str(staging_root())
    return conf if root == own else {**conf, "staging_root": root}


def _require_running(dag_id: str) -> None:
    dag = DagModel.get_current(dag_id)
    if dag is None:
        raise NotStartedError(f"Airflow knows no DAG {dag_id}: put its file into the DAG folder.")
    if dag.is_paused:
        raise NotStartedError(f"The DAG {dag_id} is paused: switch it on, then ask again.")
