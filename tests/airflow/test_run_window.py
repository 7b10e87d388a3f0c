"""Which days a run takes, with the contexts that Airflow itself builds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pendulum
import pytest
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.sdk.api.datamodels._generated import DagRun, DagRunState, DagRunType, TIRunContext
from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from tidepool_airflow.mapping import window_of
from tidepool_airflow.operators import TidepoolPlanOperator
from tidepool_airflow.params import upload_params
from tidepool_ingest.options import OptionsError
from tidepool_ingest.window import Window

NOW = pendulum.datetime(2026, 3, 20, 15, 30, tz="UTC")


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pendulum, "now", lambda zone: NOW.in_timezone(zone))


Context = dict[str, Any]


def context(
    run_type: str,
    *,
    logical_date: datetime | None = None,
    interval: tuple[datetime, datetime] | None = None,
    conf: dict[str, Any] | None = None,
) -> Context:
    """Return a task's context as Airflow's task runner makes it for a run."""
    with DAG(
        "upload",
        schedule=CronDataIntervalTimetable("0 3 * * *", timezone="UTC"),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        params=upload_params(),
    ):
        task: BaseOperator = TidepoolPlanOperator(task_id="plan")
    start, end = interval or (None, None)
    run = DagRun(
        dag_id="upload",
        run_id="run",
        logical_date=logical_date,
        data_interval_start=start,
        data_interval_end=end,
        run_after=NOW,
        start_date=NOW,
        end_date=None,
        run_type=DagRunType(run_type),
        state=DagRunState.RUNNING,
        conf=conf,
        consumed_asset_events=[],
        partition_key=None,
    )
    instance = RuntimeTaskInstance.model_construct(
        id=uuid4(), task_id="plan", dag_id="upload", run_id="run", try_number=1, map_index=-1, task=task
    )
    instance._ti_context_from_server = TIRunContext(dag_run=run, max_tries=3)
    return dict(instance.get_template_context())


def window(given: Context) -> Window:
    return window_of(given, TidepoolPlanOperator(task_id="plan").options(given))


def at_three(day: int) -> datetime:
    return datetime(2026, 3, day, 3, tzinfo=UTC)


def days(first: int, last: int) -> Window:
    return Window(date(2026, 3, first), date(2026, 3, last))


def test_a_scheduled_run_takes_its_interval_and_looks_back() -> None:
    given = context("scheduled", logical_date=at_three(19), interval=(at_three(19), at_three(20)))

    assert window(given) == days(12, 19)


def test_a_scheduled_run_looks_back_as_far_as_it_is_set() -> None:
    given = context(
        "scheduled",
        logical_date=at_three(19),
        interval=(at_three(19), at_three(20)),
        conf={"look_back_days": 0},
    )

    assert window(given) == days(19, 19)


def test_runs_of_a_backfill_share_no_day() -> None:
    windows = [
        window(context("backfill", logical_date=at_three(day), interval=(at_three(day), at_three(day + 1))))
        for day in range(1, 6)
    ]

    assert windows == [days(day, day) for day in range(1, 6)]


MANUAL: dict[str, Callable[[], Context]] = {
    "REST without a date": lambda: context("manual"),
    "the form, its date filled in": lambda: context(
        "manual", logical_date=NOW, interval=(at_three(19), at_three(20))
    ),
    "a date without an interval's length": lambda: context(
        "manual", logical_date=at_three(2), interval=(at_three(2), at_three(2))
    ),
    "a date long ago": lambda: context(
        "manual",
        logical_date=NOW - timedelta(days=300),
        interval=(NOW - timedelta(days=301), NOW - timedelta(days=300)),
    ),
}


@pytest.mark.parametrize("given", MANUAL.values(), ids=MANUAL)
def test_pressing_trigger_takes_what_is_recent_whatever_the_logical_date(
    given: Callable[[], Context],
) -> None:
    assert window(given()) == days(13, 21)


def test_pressing_trigger_looks_back_as_far_as_it_is_set() -> None:
    assert window(context("manual", conf={"look_back_days": 1})) == days(19, 21)


@pytest.mark.parametrize("run_type", sorted(set(DagRunType) - {DagRunType.SCHEDULED, DagRunType.BACKFILL}))
def test_every_other_kind_of_run_is_as_a_manual_one(run_type: DagRunType) -> None:
    given = context(run_type.value, logical_date=at_three(2), interval=(at_three(1), at_three(2)))

    assert window(given) == days(13, 21)


@pytest.mark.parametrize("run_type", sorted(DagRunType))
@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({"first_day": "2026-03-02", "last_day": "2026-03-05"}, days(2, 5)),
        ({"first_day": "2026-03-02"}, days(2, 2)),
        ({"last_day": "2026-03-05"}, days(5, 5)),
        ({"first_day": "2026-03-02", "look_back_days": 30}, days(2, 2)),
    ],
)
def test_explicit_days_are_taken_exactly(
    run_type: DagRunType, conf: dict[str, Any], expected: Window
) -> None:
    given = context(
        run_type.value, logical_date=at_three(19), interval=(at_three(19), at_three(20)), conf=conf
    )

    assert window(given) == expected


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_a_scheduled_run_without_an_interval_is_rejected(run_type: str) -> None:
    # A partitioned timetable gives none, a cron string one whose ends are the same.
    for given in (context(run_type), context(run_type, logical_date=NOW, interval=(NOW, NOW))):
        with pytest.raises(OptionsError, match="CronDataIntervalTimetable"):
            window(given)


def test_an_unknown_parameter_is_rejected_with_the_valid_ones() -> None:
    with pytest.raises(OptionsError, match="frist_day") as caught:
        window(context("manual", conf={"frist_day": "2026-03-02"}))

    assert "first_day" in caught.value.remedy


def test_days_in_the_wrong_order_are_rejected() -> None:
    with pytest.raises(OptionsError):
        window(context("manual", conf={"first_day": "2026-03-05", "last_day": "2026-03-02"}))
