"""Carry out what somebody has requested on the uploads page: verify an upload again, or undo it.

The page starts each run; triggered by hand, it finds no request and fails. Keep it unpaused, or what is
requested waits.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG

from tidepool_airflow import notices, settings
from tidepool_airflow.dag_docs import documented
from tidepool_airflow.operators import TidepoolActionOperator
from tidepool_airflow.params import action_params

with DAG(
    dag_id="tidepool_action",
    description="Carries out what somebody has requested on the uploads page, and records the result there",
    schedule=None,
    start_date=pendulum.datetime(2015, 1, 1, tz="UTC"),
    catchup=False,
    # It does nothing unless somebody requests it.
    is_paused_upon_creation=False,
    max_active_runs=4,
    params=action_params(),
    tags=settings.tags(),
    default_args=settings.default_args(),
) as dag:
    TidepoolActionOperator(
        task_id="act",
        pool=settings.deployment().pool,
        on_failure_callback=notices.told_of_failure(),
    )

documented(dag, __doc__, "airflow.md#the-uploads-page")
