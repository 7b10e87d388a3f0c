"""Upload the staged batches of feeds to Tidepool, each feed to its continuous data set, which stays open.

Every ten minutes a run takes the batches of feeds that are ready in the folders of today and of the day
before, one of each feed at a time and in their order. For history, trigger a run with *First day* and *Last
day*.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, CronDataIntervalTimetable, task_group

from tidepool_airflow import notices, settings
from tidepool_airflow.assets import UPLOADS_OF_A_RUN
from tidepool_airflow.dag_docs import documented
from tidepool_airflow.operators import (
    TidepoolContinuousUploadOperator,
    TidepoolLeftOperator,
    TidepoolPlanOperator,
    TidepoolPrepareOperator,
    TidepoolReportOperator,
)
from tidepool_airflow.params import upload_params

with DAG(
    dag_id="tidepool_continuous_upload",
    description="Staged batches of feeds become visible in Tidepool, each in its one continuous data set",
    schedule=CronDataIntervalTimetable("*/10 * * * *", timezone="UTC"),
    start_date=pendulum.datetime(2015, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    max_active_tasks=8,
    params=upload_params(look_back_days=1),
    tags=settings.tags(),
    deadline=notices.deadline(),
    default_args=settings.default_args(),
) as dag:

    @task_group(group_id="batch")
    def one_pack(batches: list[int]) -> None:
        """Prepare and upload the batches of a pack, or the only one."""
        prepare = TidepoolPrepareOperator(
            task_id="prepare", batches=batches, answer_within=settings.answer_within()
        )
        upload = TidepoolContinuousUploadOperator(task_id="upload", batches=batches, **settings.upload_args())
        prepare >> upload

    plan = TidepoolPlanOperator(task_id="plan", data_set_type="continuous", **settings.plan_args())
    remaining = TidepoolLeftOperator(task_id="remaining", packs=plan.output)
    report = TidepoolReportOperator(
        task_id="report",
        packs=plan.output,
        names_inactive=False,  # the daily run names them
        outlets=[UPLOADS_OF_A_RUN],
        on_failure_callback=notices.on_failure(),
    )
    packed = one_pack.expand(batches=plan.output)
    # Batches that failed in a pack, or need a person's decision, get tasks of their own.
    one_by_one = one_pack.override(group_id="one_by_one").expand(batches=remaining.output)
    packed >> remaining
    [packed, one_by_one] >> report

documented(dag, __doc__, "airflow.md#feeds", "staging.md#feeds", "airflow.md#parameters")
