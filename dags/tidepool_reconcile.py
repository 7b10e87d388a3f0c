"""Complete unfinished uploads, verify some uploads again, and clean up after those that are done.

It runs every hour, and can run beside anything: it works under the same leases as an upload. Keep it
unpaused: what an interrupted task has left at Tidepool stays there until this DAG completes or removes it.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, CronTriggerTimetable

from tidepool_airflow import notices, settings
from tidepool_airflow.dag_docs import documented
from tidepool_airflow.operators import TidepoolReconcileOperator
from tidepool_airflow.params import reconcile_params

with DAG(
    dag_id="tidepool_reconcile",
    description="Resolves unfinished data sets, expired leases and interrupted verifications; cleans up",
    schedule=CronTriggerTimetable("20 * * * *", timezone="UTC"),
    start_date=pendulum.datetime(2015, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    params=reconcile_params(),
    tags=settings.tags(),
    default_args=settings.default_args(),
) as dag:
    TidepoolReconcileOperator(
        task_id="reconcile",
        on_failure_callback=notices.told_of_failure(),
        pool=settings.deployment().pool,
        pool_slots=settings.deployment().parallel_chunks,
        keep_work_days=settings.deployment().keep_work_days,
        keep_quarantine_days=settings.deployment().keep_quarantine_days,
    )

documented(dag, __doc__, "airflow.md#maintenance", "airflow.md#cleanup-and-retention")
