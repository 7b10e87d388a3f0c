"""The maintenance DAG, run as Airflow runs it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.airflow.world import AirflowWorld, Run
from tests.factories import meter_readings
from tidepool_simulator import Fault

pytestmark = pytest.mark.slow


def maintain(world: AirflowWorld, **conf: Any) -> Run:
    return world.run_dag({"older_than_minutes": 0, "check_after_days": 0} | conf, dag_id="tidepool_reconcile")


def test_what_a_run_left_open_is_completed(world: AirflowWorld) -> None:
    world.stage(meter_readings(1_500))
    world.simulator.faults.add(Fault.refused("close", 503, times=50))
    assert world.run_dag().state == "failed"
    assert [upload.state for upload in world.uploads()] == ["uploading"]
    world.simulator.faults.clear()

    run = maintain(world)

    assert run.state == "success"
    summary = run.xcoms["reconcile", -1, "summary"]
    assert (summary["unfinished"], summary["finished"]) == (1, 1)
    assert maintain(world).xcoms["reconcile", -1, "summary"]["checked"] == 1
    assert [(upload.state, upload.dag_id) for upload in world.uploads()] == [
        ("verified", "tidepool_reconcile")
    ]
    assert world.all_right()


def test_nothing_to_do_is_a_success(world: AirflowWorld) -> None:
    run = maintain(world)

    assert run.state == "success"
    assert run.xcoms["reconcile", -1, "return_value"]["unfinished"] == 0


def test_what_needs_a_person_fails_the_run(world: AirflowWorld) -> None:
    world.stage(meter_readings(10))
    world.run_dag()
    (upload,) = world.uploads()
    _delete(str(upload.data_set_id))

    run = maintain(world)

    assert run.state == "failed"
    assert run.xcoms["reconcile", -1, "summary"]["failed"] == {"changed-since-verified": 1}
    assert [(upload.state, upload.reason) for upload in world.uploads()] == [
        ("verified", "changed-since-verified")
    ]
    (stopped,) = (upload.stopped_in for upload in world.uploads())
    assert stopped is not None
    assert (stopped.dag_id, stopped.task_id) == ("tidepool_reconcile", "reconcile")
    assert (stopped.detail or "").startswith("Tidepool shows 0 of 10 rows: 10 missing")


def _delete(data_set_id: str) -> None:
    """Delete a data set, as somebody else may."""
    from tidepool_airflow.hook import TidepoolHook

    TidepoolHook().delete_data_set(data_set_id)


def test_an_unknown_parameter_is_rejected(world: AirflowWorld) -> None:
    assert maintain(world, first_day="2026-01-01").state == "failed"
