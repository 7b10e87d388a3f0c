"""Which days an Airflow run means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pendulum

from tidepool_ingest.options import OptionsError, RunOptions
from tidepool_ingest.window import Window

INTERVAL_RUNS = ("scheduled", "backfill")
"""Run types whose data interval is meant. A manual run's is not: the trigger form fills a logical date in
by itself, and the timetable infers an interval from it that nobody asked for."""


def window_of(context: Mapping[str, Any], options: RunOptions) -> Window:
    """Return the days that a run looks into.

    * Explicit days, in any kind of run: exactly those.
    * A scheduled run: its data interval, and ``look_back_days`` before it for late arrivals.
    * A backfilled run: exactly its data interval, so that no two runs of a backfill share a day.
    * Any other run: everything of the last ``look_back_days``, whatever logical date it carries.

    :param context: the task's context.
    :param options: the run's parameters.
    :raises OptionsError: for a scheduled or backfilled run whose data interval has no length.
    """
    if options.first_day or options.last_day:
        return Window.of_days(options.first_day, options.last_day)
    run_type = str(getattr(context["dag_run"].run_type, "value", context["dag_run"].run_type))
    if run_type in INTERVAL_RUNS:
        start, end = context.get("data_interval_start"), context.get("data_interval_end")
        if start is None or end is None or end <= start:
            raise OptionsError(
                f"This {run_type} run's data interval has no length, so it selects no day folder.",
                "Give the DAG a timetable with intervals, such as CronDataIntervalTimetable, or the run a "
                "first day.",
            )
        return Window.of_interval(start, end, options.look_back_days if run_type == "scheduled" else 0)
    return Window.recent(pendulum.now("UTC").date(), options.look_back_days)
