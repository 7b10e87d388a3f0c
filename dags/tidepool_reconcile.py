"""Complete unfinished uploads, verify some uploads again, and clean up after those that are done."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, CronTriggerTimetable

from tidepool_airflow import settings
from tidepool_airflow.operators import TidepoolReconcileOperator
from tidepool_airflow.params import reconcile_params

with DAG(
    dag_id="tidepool_reconcile",
    description="Resolves unfinished data sets, expired leases and interrupted verifications; cleans up",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("20 * * * *", timezone="UTC"),
    start_date=pendulum.datetime(2015, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    params=reconcile_params(),
    tags=["tidepool"],
    default_args={
        "retries": settings.retries(),
        "retry_delay": settings.retry_delay(),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=30),
        "allowed_conn_ids": settings.allowed_connections(),
    },
) as dag:
    TidepoolReconcileOperator(
        task_id="reconcile",
        pool=settings.pool(),
        pool_slots=settings.parallel_chunks(),
        keep_work_days=settings.keep_work_days(),
        keep_quarantine_days=settings.keep_quarantine_days(),
    )
