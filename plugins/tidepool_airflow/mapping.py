"""What a run is planned for: the days that it looks into, and the packs that its tasks are mapped over.

When a run is cleared, by hand or by a reprocessing backfill, and its plan is shorter than before, Airflow
removes the mapped tasks at the end of the list. If a later plan of the same run is longer again, Airflow does
not bring them back: their batches would be missing from a run that is green. So a plan never gets shorter
within one run: it ends with empty packs instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from tidepool_ingest.options import OptionsError, RunOptions

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.window import Window


def is_for_past_days(context: Mapping[str, Any], options: RunOptions) -> bool:
    """Return whether a run was made for certain days or uploads: it names them, or belongs to a backfill.

    :param context: the task's context.
    :param options: the run's parameters.
    """
    return bool(options.first_day or options.last_day or options.batches) or _type_of(context) == "backfill"


def _type_of(context: Mapping[str, Any]) -> str:
    return str(getattr(context["dag_run"].run_type, "value", context["dag_run"].run_type))


def other_runs(context: Mapping[str, Any]) -> int:
    """Return how many other runs of a task's DAG are queued or running, such as those of a backfill.

    :param context: the task's context.
    """
    in_progress: int = context["ti"].get_dr_count(dag_id=context["ti"].dag_id, states=["queued", "running"])
    return max(in_progress - 1, 0)


INTERVAL_RUNS = ("scheduled", "backfill")
"""Run types whose data interval counts. A manual run's does not: the trigger form fills in a logical date by
itself, and the timetable infers an interval from it that nobody asked for."""


def window_of(context: Mapping[str, Any], options: RunOptions) -> Window:
    """Return the days that a run looks into.

    * Explicit days, in any kind of run: exactly those.
    * A scheduled run: its data interval, and ``look_back_days`` before it for late arrivals.
    * A backfilled run: exactly its data interval, so that no two runs of a backfill share a day.
    * A run that names uploads takes those, whatever is returned here.
    * Any other run: everything of the last ``look_back_days``, whatever logical date it carries.

    :param context: the task's context.
    :param options: the run's parameters.
    :raises OptionsError: for a scheduled or backfilled run whose data interval has no length.
    """
    from tidepool_ingest.window import Window

    if options.first_day or options.last_day:
        return Window.of_days(options.first_day, options.last_day)
    run_type = _type_of(context)
    if run_type in INTERVAL_RUNS:
        start, end = context.get("data_interval_start"), context.get("data_interval_end")
        if start is None or end is None or end <= start:
            raise OptionsError(
                f"This {run_type} run's data interval has no length, so it selects no day folder.",
                "Give the DAG a timetable with intervals, such as CronDataIntervalTimetable, or give the run "
                "a first day.",
            )
        return Window.of_interval(start, end, options.look_back_days if run_type == "scheduled" else 0)
    return Window.recent(pendulum.now("UTC").date(), options.look_back_days)


LONGEST_KEY = "longest_plan"
"""Key in the plan task's own store, which outlives clearing."""

Packs = Sequence[Sequence[int]]
"""What the tasks of a run are mapped over: for each task, the ledger's numbers of its batches."""


def pad_plan(packs: Packs, context: Mapping[str, Any]) -> list[list[int]]:
    """Return a plan that is at least as long as the earlier ones of its run.

    :param packs: the batches of each mapped task.
    :param context: the context of the planning task.
    """
    store = context["task_state_store"]
    before = int(store.get(LONGEST_KEY) or 0)
    if len(packs) > before:
        store.set(LONGEST_KEY, len(packs), retention=NEVER_EXPIRE)
    return [*map(list, packs), *([] for _ in range(before - len(packs)))]


def skip_without_batch(batches: Sequence[int], context: Context) -> None:
    """Skip a mapped task that has no batch any more.

    :param batches: the task's pack.
    :raises AirflowSkipException: if it is empty.
    """
    if not batches:
        context["label"] = "nothing to do"  # type: ignore[typeddict-unknown-key]
        raise AirflowSkipException("The batches that an earlier plan of this run had here are done.")
