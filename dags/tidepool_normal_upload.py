"""Upload staged batches of device data to Tidepool as closed, verified normal data sets.

Each day at 03:00 UTC a run takes the batches that are ready in that day's folder and, for late arrivals, in
those of the 7 days before. Triggered without days, it takes everything recent that is ready and not done;
*Dry run* only looks, and its `report` says what would be sent and rejected. For history, run a backfill.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, CronDataIntervalTimetable, task_group

from tidepool_airflow import notices, settings
from tidepool_airflow.assets import UPLOADS_OF_A_RUN
from tidepool_airflow.dag_docs import documented
from tidepool_airflow.operators import (
    TidepoolLeftOperator,
    TidepoolPlanOperator,
    TidepoolPrepareOperator,
    TidepoolReportOperator,
    TidepoolUploadOperator,
)
from tidepool_airflow.params import upload_params

with DAG(
    dag_id="tidepool_normal_upload",
    description="Staged device data becomes visible in Tidepool as closed normal data sets",
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone="UTC"),
    start_date=pendulum.datetime(2015, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=2,
    max_active_tasks=8,
    params=upload_params(),
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
        upload = TidepoolUploadOperator(task_id="upload", batches=batches, **settings.upload_args())
        prepare >> upload

    plan = TidepoolPlanOperator(task_id="plan", **settings.plan_args())
    remaining = TidepoolLeftOperator(task_id="remaining", packs=plan.output)
    report = TidepoolReportOperator(
        task_id="report",
        packs=plan.output,
        outlets=[UPLOADS_OF_A_RUN],
        on_failure_callback=notices.on_failure(),
    )
    packed = one_pack.expand(batches=plan.output)
    # Batches that failed in a pack, or need a person's decision, get tasks of their own.
    one_by_one = one_pack.override(group_id="one_by_one").expand(batches=remaining.output)
    packed >> remaining
    [packed, one_by_one] >> report

documented(dag, __doc__, "airflow.md#which-days-a-run-takes", "airflow.md#parameters", "airflow.md#backfill")
