"""The DAG for feeds, run task by task as Airflow runs it, against the simulator over real HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.airflow.world import CONTINUOUS_DAG_ID, AirflowWorld, Run
from tests.factories import TODAY, meter_readings
from tidepool_airflow.hook import TidepoolHook
from tidepool_ingest.maintenance.retracting import stage_retraction
from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.upload import FeedError
from tidepool_simulator.sample import SAMPLE_USERS

FEED = {"dataSetType": "continuous", "deviceId": "device-1", "deviceModel": "Meter"}
USER = SAMPLE_USERS[0]


def stage_feed(world: AirflowWorld, records: list[Any], batch: str, **options: Any) -> None:
    world.stage(records, batch=batch, dataSet=FEED, **options)


def run(world: AirflowWorld, conf: dict[str, Any] | None = None, **options: Any) -> Run:
    return world.run_dag(conf, dag_id=CONTINUOUS_DAG_ID, **options)


def test_batches_of_a_feed_become_visible_in_one_data_set_that_stays_open(world: AirflowWorld) -> None:
    stage_feed(world, meter_readings(20), "b-1")
    stage_feed(world, meter_readings(30, value=99), "b-2")
    first = run(world)
    stage_feed(world, meter_readings(40, value=98), "b-3")
    second = run(world)

    assert (first.state, second.state) == ("success", "success")
    (data_set_id,) = {upload.data_set_id for upload in world.uploads()}
    assert first.xcoms["batch.upload", 0, "data_set_id"] == data_set_id
    assert second.xcoms["batch.upload", 0, "data_set_id"] == data_set_id
    assert [upload.state for upload in world.uploads()] == ["verified"] * 3
    assert second.xcoms["plan", -1, "plan"]["done"] == 2
    assert world.all_right()
    assert not any(request.operation == "close" for request in world.simulator.requests)


@pytest.mark.slow
def test_a_run_carries_out_what_retracts_a_batch(world: AirflowWorld) -> None:
    stage_feed(world, meter_readings(20), "b-1")
    stage_feed(world, meter_readings(30, value=99)[10:], "b-2")
    run(world)
    stage_retraction(world.root, BatchFolder.at(world.root, f"{TODAY}/{USER}/b-1"), datetime.now(UTC))
    ended = run(world)

    assert ended.state == "success"
    assert ended.xcoms["plan", -1, "plan"]["batches"] == 1
    assert ended.xcoms["batch.upload", 0, "return_value"]["deleted"] == 10
    assert sorted(upload.state for upload in world.uploads()) == ["verified", "verified", "withdrawn"]
    assert world.all_right()


@pytest.mark.slow
def test_each_dag_takes_its_own_type_of_batch(world: AirflowWorld) -> None:
    world.stage(meter_readings(3, device="device-2"), batch="normal", device="device-2")
    stage_feed(world, meter_readings(3), "feed")

    normal, continuous = world.run_dag(), run(world)

    assert (normal.state, continuous.state) == ("success", "success")
    assert normal.xcoms["plan", -1, "plan"]["other_type"] == 1
    assert continuous.xcoms["plan", -1, "plan"]["other_type"] == 1
    assert [upload.state for upload in world.uploads()] == ["verified"] * 2
    assert world.all_right()


@pytest.mark.slow
def test_a_scheduled_run_of_ten_minutes_takes_what_is_new(world: AirflowWorld) -> None:
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for number in range(3):
        stage_feed(world, meter_readings(10 + number), f"b-{number}")
        interval = (start + timedelta(minutes=10 * number), start + timedelta(minutes=10 * number + 10))
        ended = run(world, run_type="scheduled", interval=interval, logical_date=interval[0])
        assert ended.xcoms["plan", -1, "plan"]["batches"] == 1

    assert world.all_right()


@pytest.mark.slow
def test_months_of_history_beside_the_running_feed(world: AirflowWorld) -> None:
    stage_feed(world, meter_readings(10, value=101), "now")
    run(world)
    days = [TODAY - timedelta(days=number) for number in range(60, 0, -15)]
    for day in days:
        stage_feed(world, meter_readings(20, day=day), f"history-{day}", day=day)
    # One of them holds today's readings too, as they were before.
    stage_feed(world, meter_readings(5, value=77), "old-version", day=days[0])
    run(world, {"first_day": str(days[0]), "last_day": str(days[-1])})

    assert [upload.state for upload in world.uploads()] == ["verified"] * 6
    assert len({upload.data_set_id for upload in world.uploads()}) == 1
    assert world.all_right()


def test_too_many_rejected_records_stop_before_anything_is_live(world: AirflowWorld) -> None:
    stage_feed(world, [*meter_readings(10), *({"type": "smbg"} for _ in range(10))], "b-1")

    assert run(world).state == "failed"
    assert [(upload.state, upload.reason) for upload in world.uploads()] == [("held", "too-many-refused")]
    assert world.simulator.requests == []


@pytest.mark.slow
def test_a_batch_that_only_deletes(world: AirflowWorld) -> None:
    stage_feed(world, meter_readings(2, origin={"id": "one"})[:1], "b-1")
    run(world)
    stage_feed(world, [], "b-2", files=[], deletes=[{"id": "one"}])

    assert run(world).state == "success"
    assert [row["type"] for row in TidepoolHook().read_data(USER)] == ["upload"]
    assert world.all_right()


def test_the_hook_finds_or_opens_one_data_set_and_refuses_to_close_it(world: AirflowWorld) -> None:
    hook = TidepoolHook()
    first = hook.continuous_data_set(USER, {"deviceId": "device-1"})
    hook.upload_data(first, json.dumps(meter_readings(1)).encode())

    assert TidepoolHook().continuous_data_set(USER, {"deviceId": "device-1"}) == first
    assert len(list(hook.read_data(USER, data_set_id=first))) == 2
    with pytest.raises(FeedError, match="never closed"):
        hook.close_data_set(first)


def test_a_continuous_set_that_the_ledger_does_not_know_is_not_closed_either(world: AirflowWorld) -> None:
    hook = TidepoolHook()
    body = {"dataSetType": "continuous", "client": {"name": "org.example.other", "version": "1.0.0"}}
    owner = hook.client.who_am_i()
    opened = hook.open_data_set(owner, body)

    with pytest.raises(FeedError, match="never closed"):
        hook.close_data_set(opened.data_set_id)
