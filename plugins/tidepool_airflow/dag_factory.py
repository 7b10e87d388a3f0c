"""The DAGs of this project, each made by a call, with the arguments in which teams differ.

The files in ``dags/`` call these functions without arguments, and a file of three lines in a team's own DAG
folder can do so with or without. Airflow finds a DAG wherever its factory is called while it loads a DAG
file: the result may be assigned to any name or to none.

Several upload DAGs may be side by side, each with a DAG id, a staging root and a connection of its own. They
share one ledger, and with it the uploads page, one action DAG, and one digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import pendulum
from airflow.sdk import (
    DAG,
    CronDataIntervalTimetable,
    CronTriggerTimetable,
    DeltaDataIntervalTimetable,
    task_group,
)

from tidepool_airflow import notices, settings
from tidepool_airflow.assets import STAGED, UPLOADS, staged_in
from tidepool_airflow.dag_docs import documented
from tidepool_airflow.links import ACTION_DAG, DAG_OF_TYPE, RECONCILE_DAG, UPLOAD_DAG
from tidepool_airflow.operators import (
    TidepoolActionOperator,
    TidepoolContinuousUploadOperator,
    TidepoolDigestOperator,
    TidepoolLeftOperator,
    TidepoolPlanOperator,
    TidepoolPrepareOperator,
    TidepoolReconcileOperator,
    TidepoolReportOperator,
    TidepoolUploadOperator,
)
from tidepool_airflow.params import action_params, reconcile_params, upload_params
from tidepool_airflow.retry import RETRY_POLICY
from tidepool_ingest.options import LOOK_BACK_DAYS
from tidepool_ingest.texts import counted

if TYPE_CHECKING:
    from airflow.sdk.bases.timetable import BaseTimetable

    Schedule = str | timedelta | BaseTimetable | None
    """A cron expression in UTC, a period, a timetable of your own, or none: runs only when triggered."""

NORMAL_SCHEDULE = "0 3 * * *"
CONTINUOUS_SCHEDULE = "*/10 * * * *"
RECONCILE_SCHEDULE = "20 * * * *"

CONTINUOUS_LOOK_BACK_DAYS = 1
"""Earlier day folders that a scheduled run for feeds looks into."""

START = pendulum.datetime(2015, 1, 1, tz="UTC")
"""The first day that can be backfilled."""


class DagArgs(TypedDict, total=False):
    """What every DAG can be given; what is left out is as the deployment's settings say."""

    staging_root: str | None
    """A folder or an fsspec URL, as ``s3://our_aws@bucket/study``; instead of ``TIDEPOOL_STAGING_ROOT``."""
    tidepool_conn_id: str | None
    """The connection to Tidepool, instead of ``tidepool_default``."""
    allowed_conn_ids: Sequence[str] | None
    """Other connections to Tidepool that batches may have; instead of ``TIDEPOOL_ALLOWED_CONNECTIONS``."""
    owner: str | None
    """Instead of ``TIDEPOOL_OWNER``."""
    tags: Sequence[str]
    """Tags besides those of every DAG."""
    dag_args: Mapping[str, Any]
    """Other arguments of :class:`airflow.sdk.DAG`, such as ``max_active_runs``."""


def _dag(dag_id: str, description: str, given: DagArgs, **usual: Any) -> DAG:
    """Return a DAG without tasks.

    :param dag_id: its id.
    :param description: what the list of DAGs says of it.
    :param given: what a team wants otherwise.
    :param usual: its other arguments, unless ``dag_args`` has them.
    """
    if unknown := sorted(given.keys() - DagArgs.__annotations__.keys()):
        raise TypeError(
            f"{', '.join(unknown)}: no argument of a DAG of this project. Is it one for dag_args?"
        )
    dag_args = dict(given.get("dag_args", {}))
    of_tasks = {
        "owner": given.get("owner"),
        "staging_root": given.get("staging_root"),
        "tidepool_conn_id": given.get("tidepool_conn_id"),
        "allowed_conn_ids": given.get("allowed_conn_ids"),
    }
    default_args = {
        **settings.default_args(),
        **usual.pop("default_args", {}),
        **{name: value for name, value in of_tasks.items() if value is not None},
        **dag_args.pop("default_args", {}),
    }
    # The uploads page knows these DAGs by their tag.
    tags = list(dict.fromkeys([*settings.tags(), *given.get("tags", ()), *dag_args.pop("tags", ())]))
    arguments = {"description": description, "start_date": START, "catchup": False, "tags": tags}
    return DAG(dag_id=dag_id, default_args=default_args, **{**arguments, **usual, **dag_args})


def tidepool_dags(prefix: str = "tidepool", **given: Unpack[DagArgs]) -> dict[str, DAG]:
    """Return all DAGs of this project, by DAG id: what ``dags/`` has, for a team that has installed it.

    :param prefix: how their ids begin.
    :param given: see :class:`DagArgs`.
    """
    normal = f"{prefix}_normal_upload"
    dags = (
        normal_upload_dag(normal, **given),
        continuous_upload_dag(f"{prefix}_continuous_upload", **given),
        on_arrival_dag(f"{prefix}_on_arrival", upload_dag_id=normal, **given),
        reconcile_dag(f"{prefix}_reconcile", **given),
        action_dag(f"{prefix}_action", **given),
        digest_dag(f"{prefix}_digest", **given),
    )
    return {dag.dag_id: dag for dag in dags}


# ---------------------------------------------------------------- uploads

NORMAL_TEXT = """
Upload staged batches of device data to Tidepool as closed, verified normal data sets.

{when}
Triggered without days, it takes everything recent that is ready and not done; *Dry run* only looks, and its
`report` says what would be sent and rejected. For history, run a backfill.
"""
NORMAL_WHEN = """
Each day at 03:00 UTC a run takes the batches that are ready in that day's folder and, for late arrivals, in
those of the 7 days before.
"""

CONTINUOUS_TEXT = """
Upload the staged batches of feeds to Tidepool, each feed to its continuous data set, which stays open.

{when}
For history, trigger a run with *First day* and *Last day*.
"""
CONTINUOUS_WHEN = """
Every ten minutes a run takes the batches of feeds that are ready in the folders of today and of the day
before, one of each feed at a time and in their order.
"""

WHEN_OTHERWISE = """
Each scheduled run takes the batches that are ready in the day folders of its interval and, for late arrivals,
of {days} before it.
"""


def normal_upload_dag(
    dag_id: str = UPLOAD_DAG,
    *,
    schedule: Schedule = NORMAL_SCHEDULE,
    look_back_days: int = LOOK_BACK_DAYS,
    **given: Unpack[DagArgs],
) -> DAG:
    """Return a DAG that uploads staged batches as closed normal data sets.

    :param dag_id: its id.
    :param schedule: when it runs. What has no data interval cannot select day folders.
    :param look_back_days: how many earlier day folders a scheduled run looks into.
    :param given: see :class:`DagArgs`.
    """
    description = "Staged device data becomes visible in Tidepool as closed normal data sets"
    dag = _upload_dag(dag_id, description, given, schedule, look_back_days, max_active_runs=2)
    _upload_tasks(dag, "normal")
    is_usual = (schedule, look_back_days) == (NORMAL_SCHEDULE, LOOK_BACK_DAYS)
    text = NORMAL_TEXT.format(when=_when(NORMAL_WHEN if is_usual else None, look_back_days))
    places = ("airflow.md#which-days-a-run-takes", "airflow.md#parameters", "airflow.md#backfill")
    return documented(dag, text, *places)


def continuous_upload_dag(
    dag_id: str = DAG_OF_TYPE["continuous"],
    *,
    schedule: Schedule = CONTINUOUS_SCHEDULE,
    look_back_days: int = CONTINUOUS_LOOK_BACK_DAYS,
    **given: Unpack[DagArgs],
) -> DAG:
    """Return a DAG that uploads the staged batches of feeds, each feed to its continuous data set.

    :param dag_id: its id.
    :param schedule: when it runs. What has no data interval cannot select day folders.
    :param look_back_days: how many earlier day folders a scheduled run looks into.
    :param given: see :class:`DagArgs`.
    """
    description = "Staged batches of feeds become visible in Tidepool, each in its one continuous data set"
    dag = _upload_dag(dag_id, description, given, schedule, look_back_days, max_active_runs=1)
    _upload_tasks(dag, "continuous")
    is_usual = (schedule, look_back_days) == (CONTINUOUS_SCHEDULE, CONTINUOUS_LOOK_BACK_DAYS)
    text = CONTINUOUS_TEXT.format(when=_when(CONTINUOUS_WHEN if is_usual else None, look_back_days))
    places = ("airflow.md#feeds", "staging.md#feeds", "airflow.md#parameters")
    return documented(dag, text, *places)


def _upload_dag(
    dag_id: str,
    description: str,
    given: DagArgs,
    schedule: Schedule,
    look_back_days: int,
    *,
    max_active_runs: int,
) -> DAG:
    """Return a DAG for upload runs, without its tasks."""
    return _dag(
        dag_id,
        description,
        given,
        schedule=_with_intervals(schedule),
        max_active_runs=max_active_runs,
        max_active_tasks=8,
        params=upload_params(look_back_days),
        deadline=notices.deadline(),
    )


def _when(usual: str | None, look_back_days: int) -> str:
    """Return which batches the scheduled runs of a DAG take, in words: the usual ones, if it has any."""
    return (usual or WHEN_OTHERWISE.format(days=counted(look_back_days, "day"))).strip()


def _upload_tasks(dag: DAG, data_set_type: str) -> None:
    """Give a DAG the tasks of an upload run."""
    is_continuous = data_set_type == "continuous"
    upload_operator = TidepoolContinuousUploadOperator if is_continuous else TidepoolUploadOperator
    with dag:

        @task_group(group_id="batch")
        def one_pack(batches: list[int]) -> None:
            """Prepare and upload the batches of a pack, or the only one."""
            prepare = TidepoolPrepareOperator(
                task_id="prepare", batches=batches, answer_within=settings.answer_within()
            )
            upload = upload_operator(task_id="upload", batches=batches, **settings.upload_args())
            prepare >> upload

        plan = TidepoolPlanOperator(task_id="plan", data_set_type=data_set_type, **settings.plan_args())
        planned: Any = plan.output
        remaining = TidepoolLeftOperator(task_id="remaining", packs=planned)
        report = TidepoolReportOperator(
            task_id="report",
            packs=planned,
            names_inactive=not is_continuous,  # the daily run names them
            outlets=[UPLOADS],
            on_failure_callback=notices.on_failure(),
        )
        packed = one_pack.expand(batches=planned)
        # Batches that failed in a pack, or need a person's decision, get tasks of their own.
        one_by_one = one_pack.override(group_id="one_by_one").expand(batches=remaining.output)
        packed >> remaining
        [packed, one_by_one] >> report


ARRIVAL_TEXT = """
Start an upload as soon as a manifest lands in staging, in addition to the schedule; paused at first.

Airflow's triggerer looks for new manifests in the day folders of the last 7 days. One run is in progress at
a time, and takes up what has arrived meanwhile. The daily schedule goes on, and finds that what this has
uploaded is done.
"""


def on_arrival_dag(
    dag_id: str = "tidepool_on_arrival", *, upload_dag_id: str = UPLOAD_DAG, **given: Unpack[DagArgs]
) -> DAG:
    """Return a DAG that starts an upload as soon as a manifest lands in staging.

    :param dag_id: its id.
    :param upload_dag_id: the DAG that it starts; give both the same ``staging_root``.
    :param given: see :class:`DagArgs`.
    """
    # Only this DAG needs the provider.
    from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

    staging_root = given.get("staging_root")
    dag = _dag(
        dag_id,
        "A manifest that lands in staging starts an upload at once",
        given,
        schedule=[STAGED if staging_root is None else staged_in(staging_root, f"{dag_id}_staged")],
        # What lands while a run is in progress goes to the next one.
        max_active_runs=1,
        is_paused_upon_creation=True,
        default_args={"retry_policy": RETRY_POLICY},
    )
    with dag:
        TriggerDagRunOperator(
            task_id="upload",
            trigger_dag_id=upload_dag_id,
            wait_for_completion=True,
            deferrable=True,
            poke_interval=10,
            # A failed upload run reports its failure itself; it is not started again for that.
            allowed_states=["success", "failed"],
            failed_states=[],
            fail_when_dag_is_paused=True,
            on_failure_callback=notices.told_of_failure(),
            doc_md=f"Starts `{upload_dag_id}` and waits for its end, whatever comes of it: that run "
            "reports its own failure. It fails if that DAG is paused: unpause it and clear this task.",
        )
    return documented(dag, ARRIVAL_TEXT, "airflow.md#start-when-data-arrive")


# ---------------------------------------------------------------- what one ledger needs besides

RECONCILE_TEXT = """
Complete unfinished uploads, verify some uploads again, and clean up after those that are done.

It runs every hour, and can run beside anything: it works under the same leases as an upload. Keep it
unpaused: what an interrupted task has left at Tidepool stays there until this DAG completes or removes it.
"""


def reconcile_dag(
    dag_id: str = RECONCILE_DAG, *, schedule: Schedule = RECONCILE_SCHEDULE, **given: Unpack[DagArgs]
) -> DAG:
    """Return the maintenance DAG. It completes whatever the ledger has, and cleans up in its staging root.

    :param dag_id: its id.
    :param schedule: when it runs.
    :param given: see :class:`DagArgs`; ``allowed_conn_ids`` names the connections of the other upload DAGs.
    """
    deployment = settings.deployment()
    text = RECONCILE_TEXT
    if schedule != RECONCILE_SCHEDULE:
        text = text.replace("It runs every hour, and can run", "It can run")
    dag = _dag(
        dag_id,
        "Resolves unfinished data sets, expired leases and interrupted verifications; cleans up",
        given,
        schedule=_without_intervals(schedule),
        max_active_runs=1,
        params=reconcile_params(),
    )
    with dag:
        TidepoolReconcileOperator(
            task_id="reconcile",
            on_failure_callback=notices.told_of_failure(),
            pool=deployment.pool,
            pool_slots=deployment.parallel_chunks,
            keep_work_days=deployment.keep_work_days,
            keep_quarantine_days=deployment.keep_quarantine_days,
        )
    return documented(dag, text, "airflow.md#maintenance", "airflow.md#cleanup-and-retention")


ACTION_TEXT = """
Carry out what somebody has requested on the uploads page: verify uploads again, or undo them.

The page starts each run; triggered by hand, it finds no request and fails. Keep it unpaused, or what is
requested waits.
"""


def action_dag(dag_id: str = ACTION_DAG, **given: Unpack[DagArgs]) -> DAG:
    """Return the DAG that carries out what people request on the uploads page; one serves all upload DAGs.

    :param dag_id: its id.
    :param given: see :class:`DagArgs`; ``allowed_conn_ids`` names the connections of the other upload DAGs.
    """
    dag = _dag(
        dag_id,
        "Carries out what somebody has requested on the uploads page, and records the result there",
        given,
        schedule=None,
        # It does nothing unless somebody requests it.
        is_paused_upon_creation=False,
        max_active_runs=4,
        params=action_params(),
    )
    with dag:
        TidepoolActionOperator(
            task_id="act",
            pool=settings.deployment().pool,
            on_failure_callback=notices.told_of_failure(),
        )
    return documented(dag, ACTION_TEXT, "airflow.md#the-uploads-page")


DIGEST_TEXT = """
Tell a team once a day what became of batches since yesterday, and what needs attention.

It goes to the connection that `TIDEPOOL_NOTIFY_CONNECTION` names: Slack, a mail server, or whatever Apprise
knows. Without one, this DAG has no schedule and sends nothing. Triggered by hand, it sends at once, which
is how to try a connection. It holds numbers, codes and a link, and nothing of anybody's data.
"""


def digest_dag(dag_id: str = "tidepool_digest", **given: Unpack[DagArgs]) -> DAG:
    """Return the DAG that sends a daily digest of the whole ledger; one serves all upload DAGs.

    :param dag_id: its id.
    :param given: see :class:`DagArgs`.
    """
    dag = _dag(
        dag_id,
        "Sends a daily digest to the connection that is named for it; without one, it does nothing",
        given,
        schedule=notices.digest_schedule(),
        # Who names a connection wants it.
        is_paused_upon_creation=False,
        max_active_runs=1,
    )
    with dag:
        TidepoolDigestOperator(task_id="send")
    return documented(dag, DIGEST_TEXT, "airflow.md#notifications")


# ---------------------------------------------------------------- schedules


def _with_intervals(schedule: Schedule) -> Any:
    """Return a schedule whose runs have data intervals, which select their days; cron by itself has none."""
    if isinstance(schedule, str):
        return CronDataIntervalTimetable(schedule, timezone="UTC")
    return DeltaDataIntervalTimetable(schedule) if isinstance(schedule, timedelta) else schedule


def _without_intervals(schedule: Schedule) -> Any:
    return CronTriggerTimetable(schedule, timezone="UTC") if isinstance(schedule, str) else schedule
