"""A task that waits for older batches gives its slot back, and does not wait for what will never run."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException

from tests.airflow.world import DAG_ID, AirflowWorld
from tests.factories import TODAY, found, meter_readings
from tidepool_airflow.turns import LONGEST_WAIT, SHORTEST_WAIT, end_turns_of_dead_runs, is_over, reschedule
from tidepool_ingest.ledger import COMMAND_LINE, Ledger
from tidepool_ingest.ledger.database import LeaseHeldError, OlderFirstError
from tidepool_ingest.upload import UploadContext
from tidepool_ingest.upload.guarded_requests import Timeouts
from tidepool_ingest.window import Window

YESTERDAY = TODAY - timedelta(days=1)


class TaskInstance:
    """What is asked of a task instance."""

    dag_id, run_id = "dag", "newer-run"

    def __init__(self, runs: dict[str, dict[str, str | None]], since: datetime | None = None) -> None:
        self._runs = runs
        self._since = since

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
        assert dag_id == "dag"
        return {run_id: self._runs[run_id] for run_id in run_ids if run_id in self._runs}

    def get_first_reschedule_date(self, context: object) -> datetime | None:
        return self._since


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    with closing(ledger):
        yield ledger


def context_of(runs: dict[str, dict[str, str | None]], since: datetime | None = None) -> Any:
    return {"ti": TaskInstance(runs, since)}


def seconds_of(context: Any, ledger: Ledger, *errors: Any) -> float:
    with pytest.raises(AirflowRescheduleException) as caught:
        reschedule(context, ledger, errors)
    return float((caught.value.reschedule_date - datetime.now(UTC)).total_seconds())


@pytest.mark.parametrize(
    ("states", "map_index", "over"),
    [
        ({}, 0, True),
        ({"plan": "success", "batch.prepare": None}, 0, False),
        ({"batch.prepare_1": "success", "batch.upload_1": "up_for_retry", "report": None}, 1, False),
        ({"batch.prepare_1": "failed", "batch.upload_1": "upstream_failed", "report": None}, 1, True),
        ({"batch.upload_11": "running", "batch.upload_1": "skipped"}, 1, True),
        ({"batch.upload_1": "success", "remaining": None}, None, False),
        ({"batch.upload_1": "failed", "report": "failed"}, None, True),
    ],
)
def test_whether_a_batch_will_still_be_worked_on(
    states: dict[str, str | None], map_index: int | None, over: bool
) -> None:
    assert is_over(states, map_index) is over


def test_the_slot_is_given_back_for_as_long_as_the_error_says(ledger: Ledger) -> None:
    context = context_of({})

    assert 40 < seconds_of(context, ledger, LeaseHeldError("batch:1", 42.0)) <= 42
    assert 28 < seconds_of(context, ledger, LeaseHeldError("a", 42.0), LeaseHeldError("b", 30.0)) <= 30
    assert SHORTEST_WAIT - 2 < seconds_of(context, ledger, LeaseHeldError("a", 0.0)) <= SHORTEST_WAIT


def test_who_has_waited_for_a_day_waits_no_more(ledger: Ledger) -> None:
    since = datetime.now(UTC) - LONGEST_WAIT - timedelta(minutes=1)

    reschedule(context_of({}, since), ledger, [LeaseHeldError("batch:1", 42.0)])


def test_the_turns_of_tasks_that_will_not_run_are_ended(ledger: Ledger) -> None:
    numbers = [
        ledger.batches.register(found(content_key=str(n), batch_id=str(n), folder=f"/{n}")).id
        for n in range(3)
    ]
    ledger.turns.plan("dag", "failed-run", {numbers[0]: 0, numbers[1]: 1})
    ledger.turns.plan("dag", "deleted-run", {numbers[2]: 0})
    states = {"batch.upload_0": "failed", "batch.upload_1": "queued"}
    context = context_of({"failed-run": states})

    waiting = OlderFirstError("batch:1", 30.0, numbers)
    assert seconds_of(context, ledger, waiting) <= SHORTEST_WAIT
    assert [turn.batch for turn in ledger.turns.of_batches(numbers)] == [numbers[1]]
    assert 28 < seconds_of(context, ledger, waiting) <= 30

    states["batch.upload_1"] = "failed"
    assert end_turns_of_dead_runs(context, ledger) == 1
    assert ledger.turns.of_batches(numbers) == []


def test_the_turns_of_a_command_are_its_own(ledger: Ledger) -> None:
    number = ledger.batches.register(found()).id
    ledger.turns.plan(COMMAND_LINE, "a-process", {number: None}, seconds=300)
    context = context_of({})  # Airflow knows no such run

    assert 28 < seconds_of(context, ledger, OlderFirstError("batch:1", 30.0, [number])) <= 30
    assert end_turns_of_dead_runs(context, ledger) == 0
    assert [turn.batch for turn in ledger.turns.of_batches([number])] == [number]


def plan_elsewhere(world: AirflowWorld, day: date) -> int:
    """Let a run that Airflow does not know have planned what is staged for a day."""
    (number,) = world.plan(Window(day, day)).batches
    world.ledger.turns.plan(DAG_ID, "a-deleted-run", {number: 0})
    return number


@pytest.mark.slow
def test_a_task_waits_without_its_slot_and_loses_no_retry(
    world: AirflowWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UploadContext, "default_timeouts", Timeouts(slot=0.0, usual_close=0.0))
    monkeypatch.setattr("tidepool_airflow.turns.SHORTEST_WAIT", 0.1)
    world.stage(meter_readings(4), day=YESTERDAY, batch="older")
    older = plan_elsewhere(world, YESTERDAY)
    world.stage(meter_readings(3), batch="newer")

    run = world.run_dag({"first_day": str(TODAY)})

    assert run.state == "success"
    assert run.tasks["batch.upload", 0] == "success"
    (upload,) = [upload for upload in world.uploads() if upload.data_set]
    assert (upload.batch != older, upload.state, upload.try_number) == (True, "verified", 1)
    assert world.ledger.turns.runs() == []
