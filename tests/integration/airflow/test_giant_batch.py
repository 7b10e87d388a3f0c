"""A giant batch through the DAG: split into parts, uploaded one by one, and continued by a later run."""

from __future__ import annotations

import pytest

from tests.airflow.world import AirflowWorld
from tests.factories import meter_readings
from tidepool_simulator.faults import Fault

pytestmark = pytest.mark.slow

CUT = {"part_records": 300}
READINGS = 1_000


def parts_of(world: AirflowWorld) -> list[tuple[str, str | None]]:
    """Return state and data set id of each part, in their order."""
    return [(upload.state, upload.data_set_id) for upload in world.uploads() if " part " in upload.label]


def test_a_run_uploads_every_part(world: AirflowWorld) -> None:
    world.stage(meter_readings(READINGS))

    run = world.run_dag(CUT)

    assert run.state == "success"
    found = parts_of(world)
    assert [state for state, _ in found] == ["verified"] * 4
    uploaded = run.xcoms["batch.upload", 0, "return_value"]
    assert (uploaded["visible_rows"], uploaded["chunks_sent"]) == (READINGS, 4)
    assert run.xcoms["batch.upload", 0, "data_set_id"] == uploaded["data_set_id"] == found[-1][1]
    assert run.xcoms["batch.prepare", 0, "return_value"]["chunks"] == 4
    summary = run.xcoms["report", -1, "summary"]
    assert (summary["batches"], summary["visible_rows"]) == ({"verified": 1}, READINGS)


def test_a_later_run_goes_on_with_the_parts_that_are_left(world: AirflowWorld) -> None:
    world.stage(meter_readings(READINGS))
    world.simulator.faults.add(Fault.refused("create", 503, skip=2, times=50))
    assert world.run_dag(CUT).state == "failed"
    assert [state for state, _ in parts_of(world)] == ["verified", "verified", "uploading", "prepared"]
    first = [upload for _, upload in parts_of(world)[:2]]
    world.simulator.faults.clear()
    posts = world.posts()

    # Nobody need give the limit again: what was started keeps its parts.
    run = world.run_dag()

    assert run.state == "success"
    assert world.posts() == posts + 2
    assert [state for state, _ in parts_of(world)] == ["verified"] * 4
    assert [upload for _, upload in parts_of(world)[:2]] == first


def test_a_dry_run_covers_the_whole_batch(world: AirflowWorld) -> None:
    world.stage(meter_readings(READINGS))

    run = world.run_dag({**CUT, "dry_run": True})

    assert run.state == "success"
    found = run.xcoms["report", -1, "dry_run"]
    assert (found["accepted"], found["requests"]) == ({"smbg": READINGS}, 4)
    assert found["compared"]["batches"] == 1
    assert world.ledger.data_sets.of_batches(range(1, 9)) == []
