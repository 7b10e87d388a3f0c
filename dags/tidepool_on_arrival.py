"""Start an upload as soon as a manifest lands in staging, in addition to the schedule; paused at first.

Airflow's triggerer looks for new manifests in the day folders of the last 7 days. One run is in progress at
a time, and takes up what has arrived meanwhile. The daily schedule goes on, and finds that what this has
uploaded is done.
"""

from __future__ import annotations

import pendulum
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG

from tidepool_airflow import notices, settings
from tidepool_airflow.assets import STAGED
from tidepool_airflow.dag_docs import documented
from tidepool_airflow.retry import RETRY_POLICY

with DAG(
    dag_id="tidepool_on_arrival",
    description="A manifest that lands in staging starts an upload at once",
    schedule=[STAGED],
    start_date=pendulum.datetime(2015, 1, 1, tz="UTC"),
    catchup=False,
    # What lands while a run is in progress goes to the next one.
    max_active_runs=1,
    is_paused_upon_creation=True,
    tags=settings.tags(),
    default_args={**settings.default_args(), "retry_policy": RETRY_POLICY},
) as dag:
    TriggerDagRunOperator(
        task_id="upload",
        trigger_dag_id="tidepool_normal_upload",
        wait_for_completion=True,
        deferrable=True,
        poke_interval=10,
        # A failed upload run reports its failure itself; it is not started again for that.
        allowed_states=["success", "failed"],
        failed_states=[],
        fail_when_dag_is_paused=True,
        on_failure_callback=notices.told_of_failure(),
        doc_md="Starts `tidepool_normal_upload` and waits for its end, whatever comes of it: that run "
        "reports its own failure. It fails if that DAG is paused: unpause it and clear this task.",
    )

documented(dag, __doc__, "airflow.md#start-when-data-arrive")
